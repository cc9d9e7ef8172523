"""One seed, one story: a world, an operator, a part of all faults; then calm, then the judges."""

from __future__ import annotations

import gc
import hashlib
import random
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from firmware_protocol.quantities import SECOND
from sim_device.settings import Settings
from tests.world.chaos import Chaos
from tests.world.evidence import Evidence
from tests.world.operator import Habits, Operator
from tests.world.oracles import judge
from tests.world.sim import START_US, World
from tests.world.usb_world import UsbChaos, UsbWorld
from tmsctl.safety.limits import TABLE, Limits, site_limits
from tmsctl.stimulation.protocol import load_library

PROTOCOLS: Final = Path(__file__).parent / "protocols"
LIBRARY: Final = load_library([PROTOCOLS])
SHORT: Final = ("ctbs600", "itbs600", "itbs90", "ctbs150", "hf10-60", "lf1-30")
SHM: Final = Path("/dev/shm")
USABLE_WITHIN_US: Final = 240 * SECOND
AFTER_US: Final = 20 * SECOND


class Line(NamedTuple):
    """How the device is connected, and what goes wrong then."""

    world: Callable[..., World]
    chaos: Callable[[Any, tuple[str, ...] | None], Chaos]
    test: str  # what replays a seed


SERIAL: Final = Line(World, Chaos, "tests/world/test_seeds.py")
USB: Final = Line(UsbWorld, UsbChaos, "tests/world/test_usb_seeds.py")


@dataclass(frozen=True)
class Spec:
    """What a story is about; the seed decides the rest."""

    kinds: tuple[str, ...] | None = None  # of faults; None: a random part of all; (): none
    length_us: int = 150 * SECOND
    habits: Habits | None = None
    settings: Settings | None = None
    site: tuple[tuple[str, int], ...] = ()
    recovers: bool = True
    line: Line = SERIAL


OVER_USB: Final = Spec(length_us=60 * SECOND, line=USB)


@dataclass
class Result:
    """What came of a story."""

    seed: int
    wrong: dict[str, list[str]]  # by oracle
    simulated_us: int
    pulses: int
    faults: Counter[str]
    sessions: int  # completed
    refusals: Counter[str]
    evidence: Evidence
    test: str  # what replays it

    @property
    def trace(self) -> str:
        """Hash over everything that happened."""
        return trace_of(self.evidence)

    def story(self) -> str:
        lines = [f"{name}: {what}" for name, several in self.wrong.items() for what in several[:5]]
        replay = f".venv/bin/python -m pytest {self.test} --seed {self.seed}"
        return "\n".join([f"seed {self.seed} went wrong; replay it with", replay, *lines])


def tell(seed: int, spec: Spec | None = None) -> Result:
    """One story from its beginning to the verdict. The garbage collector rests meanwhile."""
    folder = Path(tempfile.mkdtemp(dir=SHM if SHM.is_dir() else None, prefix="tmsctl-world-"))
    _set_modules_aside()
    gc.collect()  # what is left of the story before
    gc.disable()
    try:
        return _Story(seed, spec or Spec(), folder).run()
    finally:
        gc.enable()
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _set_modules_aside() -> None:
    """The collector need not look through them for every story."""
    gc.collect()
    gc.freeze()


class _Story:
    def __init__(self, seed: int, spec: Spec, folder: Path) -> None:
        self.seed, self.spec = seed, spec
        site: Limits = site_limits(dict(spec.site))
        rng = random.Random(seed)
        settings = spec.settings or Settings(
            drift_ppm=rng.randrange(-500, 501),
            cooled=rng.randrange(2),
            room_dc=rng.randrange(190, 270),
            coil_start_dc=rng.randrange(190, 330),
            pulse_count=rng.choice((0, 5_000, 2_000_000)),
        )
        self.world = spec.line.world(rng, folder, settings, site, LIBRARY)
        habits = spec.habits or Habits(
            protocols=tuple(rng.sample(SHORT, 3)),
            thresholds=tuple(rng.randrange(300, 830) / 10 for _ in range(3)),
            mistakes=rng.choice((0.0, 0.1, 0.3)),
            meddles=rng.choice((0.0, 0.02, 0.1)),
            forgets=rng.choice((0.0, 0.0, 0.1)),
        )
        self.operator = Operator(self.world, habits)
        self.chaos = spec.line.chaos(self.world, spec.kinds)

    def run(self) -> Result:
        world = self.world
        if self.chaos.kinds:
            self.chaos.rage(self.spec.length_us)
        else:
            world.run(self.spec.length_us)
        self.chaos.end()
        calm_us = world.now
        self.operator.careful = True
        if self.spec.recovers:
            world.run_until(lambda: self._armed_since(calm_us), USABLE_WITHIN_US, SECOND // 5)
            world.run(AFTER_US)
        evidence = self._evidence(calm_us)
        self._close()
        return self._result(evidence)

    def _armed_since(self, calm_us: int) -> bool:
        for line in reversed(self.world.lines):
            if line["at_us"] < calm_us:
                return False
            if line["event"] == "arm" and line["mso"] > 1:
                return True
        return False

    def _evidence(self, calm_us: int) -> Evidence:
        world, settings = self.world, self.world.settings
        if world.tmsd is not None:
            world.tmsd.engine.flush()
        rows = dump(world.folder / "journal.sqlite")
        ended = {row["session"]: row["code"] for row in rows["session_ends"]}
        sessions = self.operator.desk.sessions
        for session, after in zip(sessions, [*sessions, None][1:], strict=True):
            until = world.now if after is None else after["at_us"]
            code = ended.get(session["number"], "open")
            session["ended_by"] = "person" if code in ("operator", "stop") else code
            session["touched"] = any(
                ask["what"] in ("pause", "resume", "end", "stop", "leave")
                and session["at_us"] < ask["at_us"] < until
                for ask in world.asks
            )
        return Evidence(
            seed=self.seed,
            quiet=not self.chaos.kinds,
            from_us=START_US,
            until_us=world.now,
            calm_from_us=calm_us,
            needs_recovery=self.spec.recovers,
            serial=settings.serial,
            lines=world.lines,
            heard=world.heard,
            written=world.written,
            hazards=world.hazards,
            asks=world.asks,
            guards=world.guards,
            sessions=sessions,
            coil={
                "cooled": settings.cooled,
                "room_c": settings.room_dc / 10,
                "start_c": settings.coil_start_dc / 10,
                "heat_share": settings.coil_heat_permille / 1000,
            },
            general={row.name: row.general for row in TABLE},
            soft={row.name: row.soft for row in TABLE if row.soft is not None},
            site=dict(self.spec.site),
            ledger=rows,
            intents_at=world.intents_at,
        )

    def _close(self) -> None:
        if self.world.tmsd is not None:
            self.world.tmsd.die()

    def _result(self, evidence: Evidence) -> Result:
        world = self.world
        answers = Counter(a["answer"] for a in world.asks if a["answer"] not in ("ok", ""))
        return Result(
            seed=self.seed,
            wrong=judge(evidence),
            simulated_us=world.simulated_us,
            pulses=sum(line["event"] == "pulse" for line in world.lines),
            faults=world.faults + world.firmware.faults.counts + world.disk.counts,
            sessions=sum(s["ended_by"] == "complete" for s in evidence["sessions"]),
            refusals=answers,
            evidence=evidence,
            test=self.spec.line.test,
        )


def dump(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Every row of a journal, by table."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    names = [
        row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
    ]
    rows = {
        name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in names
    }
    connection.close()
    return rows


def trace_of(evidence: Evidence) -> str:
    """SHA-256 over all that happened, on the device, on the wire and at the desk."""
    digest = hashlib.sha256()
    for name in ("lines", "heard", "written", "hazards", "asks", "guards", "ledger"):
        digest.update(repr(evidence[name]).encode())  # type: ignore[literal-required]
    return digest.hexdigest()


if __name__ == "__main__":
    for argument in sys.argv[1:]:  # short stories, for comparing traces; over USB: usb:7
        line = USB if argument.startswith("usb:") else SERIAL
        seed = int(argument.removeprefix("usb:"))
        print(tell(seed, Spec(length_us=30 * SECOND, recovers=False, line=line)).trace)
