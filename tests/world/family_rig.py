"""A rig for the stimulators of laboratories: everything recorded, a person, a guard that dies.

`aside` tries out what would happen from here on without disturbing what goes on.
"""

from __future__ import annotations

import gc
import os
import random
import re
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from firmware_protocol.quantities import MS, SECOND, BootUs
from sim_device.faults import Rule
from sim_device.world import Wire
from tests.families import BISTIM, DUOMAG, M200, RAPID, X100, X100_OPTION, Family
from tests.world.rig import START, Rig, Service, compiled
from tmsctl.ipc import messages as ipc
from tmsctl.safety.machine import Idle, Safe
from tmsctl.stimulation.plan import Plan


class Case(NamedTuple):
    """A family at work, and what its driver hands over at once."""

    family: Family
    protocol: str
    at_risk: int  # pulses of one trigger: as many can leave when the host dies behind it
    span_us: int  # of one trigger, first pulse to last

    @property
    def name(self) -> str:
        return f"{self.family.info.name}-{self.protocol}"


CASES: Final = (
    Case(M200, "sp02-6", 1, 0),
    Case(RAPID, "hf10-s10", 10, 900 * MS),
    Case(X100_OPTION, "hf10-s10", 1, 0),
    Case(X100, "itbs90", 3, 40 * MS),
    Case(DUOMAG, "sp02-6", 1, 0),
    Case(BISTIM, "sp02-6", 1, 0),
)

TRIGGER: Final = {
    "magstim": re.compile(rb"EH."),
    "magpro": re.compile(rb"\xfe\x02\x03\x01"),
    "duomag": re.compile(rb"\x79\x79"),
}
"""Bytes of the command that lets pulses go, written down again from wire-protocols.md."""

DISARM: Final = {
    "magstim": re.compile(rb"EA."),
    "magpro": re.compile(rb"\xfe\x02\x02\x00"),
    "duomag": re.compile(rb"\x00\x00"),
}


def pattern_of(table: dict[str, re.Pattern[bytes]], family: Family) -> re.Pattern[bytes]:
    return table[family.info.name.partition("-")[0]]


class RecordingWire(Wire):
    """The way to the device, with what the host wrote."""

    def __init__(self, rng: random.Random, delay_us: int, per_byte_us: int) -> None:
        super().__init__(rng, delay_us, per_byte_us)
        self.written: list[tuple[int, bytes]] = []

    def send(self, data: bytes, now_us: int) -> None:
        self.written.append((now_us, data))
        super().send(data, now_us)


@dataclass
class Ledger(Service):
    """Plays tmsd for one life of the guard, and notes when what was said."""

    granted: list[tuple[int, ipc.Grant]] = field(default_factory=list)
    told_at: list[int] = field(default_factory=list)  # one of each message told
    silent_until: int = 0
    began_at: int = 0
    ended_at: dict[int, int] = field(default_factory=dict)  # of each block that is over

    def hear(self, messages: Iterable[ipc.ToService], now: int) -> None:
        super().hear(messages, now)
        new = self.told[len(self.told_at) :]
        self.told_at += [now] * len(new)
        for message in new:
            if isinstance(message, ipc.BlockOutcome):
                self.ended_at.setdefault(message.block_id, now)

    def commands(self, now: int) -> list[ipc.ToGuard]:
        due = super().commands(now) if now >= self.silent_until else []
        self.granted += [(now, message) for message in due if isinstance(message, ipc.Grant)]
        return due


class FamilyRig(Rig):
    """One unit, and a person who wants sessions on it until told otherwise."""

    def __init__(self, case: Case, seed: int = 0, rules: Iterable[Rule] = ()) -> None:
        super().__init__(seed, family=case.family, rules=rules)
        self.case = case
        self.plan: Plan = compiled(case.protocol)
        self.wire = RecordingWire(self.rng, self.to_device.delay_us, case.family.per_byte_us)
        self.port.to_device = self.to_device = self.wire
        self.ledgers: list[Ledger] = []
        self._new_ledger()
        self.acknowledges = False  # whatever the person sees; and begins again and again
        self.sessions: list[int] = []  # when each was begun
        self.dead = False
        self._asked_at = 0

    def _new_ledger(self) -> None:
        self.ledger = Ledger(_alive_at=self.now - SECOND, began_at=self.now)
        self.service = self.ledger
        self.ledgers.append(self.ledger)

    # -- the person --------------------------------------------------------------------------

    def cycle_now(self) -> None:
        if self.now - self._asked_at >= 500 * MS or not self._asked_at:
            self._look()
        super().cycle_now()

    def _look(self) -> None:
        """Twice a second: what the screen says, and what has to be pressed."""
        guard = self.guard
        if guard.device.status is None:
            return
        if guard.self_test.running:
            self._asked_at = self.now
            return
        if isinstance(guard.state, Safe):
            if self.acknowledges and self.service.snapshot is not None:
                self._asked_at = self.now
                self.acknowledge()
        elif isinstance(guard.state, Idle):
            if guard.self_test.passed_at is None:
                self._asked_at = self.now
                self.service.say(ipc.Unload())  # a new life of the unit: the session before is over
                self.service.say(ipc.SelfTest())
            elif not self.sessions or self.acknowledges:
                self._asked_at = self.now
                self.sessions.append(self.now)
                number = len(self.sessions)
                self.load(self.plan, session_no=number)
                self.service.say(ipc.Run(number, self.plan.hash, self.now))

    # -- the guard's process -----------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL: from now on nobody writes. The kernel still sends what it was given."""
        self.dead = True
        self.port.close()

    def alone(self, duration_us: int) -> None:
        """No guard for so long."""
        self.now = BootUs(self.now + duration_us)
        self.port.advance(self.now)

    def revive(self) -> None:
        """The service manager starts another guard, which begins latched."""
        self._new_ledger()
        self.dead = False
        self.guard = self._new_guard("the guard before this one did not end in order")
        self.guard.all_sent_since = self.now  # as tmsctl.guard.entry: it saw no pulse before
        self.next_cycle = BootUs(self.now + 10 * MS)

    def _log(self, line: dict[str, object]) -> None:
        line["at_us"] = self.port.now_us if hasattr(self, "port") else START
        super()._log(line)

    # -- what is known -----------------------------------------------------------------------

    def writes(self, table: dict[str, re.Pattern[bytes]]) -> list[int]:
        """When the host wrote such a command."""
        pattern = pattern_of(table, self.family)
        return [at for at, data in self.wire.written if pattern.search(data)]

    def pulses_at(self) -> list[int]:
        """On the host's clock."""
        return [int(str(pulse["at_us"])) for pulse in self.pulses]

    def armed(self) -> bool:
        """By the truth: is it armed now, for more than the self-test?"""
        return bool(self.armed_spells()) and self.armed_spells()[-1][1] is None

    def armed_spells(self) -> list[tuple[int, int | None]]:
        """From when to when it was armed at the prescribed intensity; None: it still is."""
        spells: list[tuple[int, int | None]] = []
        since: int | None = None
        for line in self.truth:
            at = int(str(line["at_us"]))
            if line["event"] == "arm" and line["mso"] != 1 and since is None:
                since = at
            elif line["event"] in ("disarm", "power_lost") and since is not None:
                spells.append((since, at))
                since = None
        return spells if since is None else [*spells, (since, None)]


def aside(act: Callable[[], str]) -> str:
    """What `act` finds out, in a copy of this process; here nothing has happened."""
    reader, writer = os.pipe()
    gc.disable()  # looking through all objects would copy every page
    pid = os.fork()
    if not pid:
        try:
            text = act()
        except Exception:  # noqa: BLE001 - whatever it is, the test has to hear of it
            text = traceback.format_exc()
        with os.fdopen(writer, "w") as out:
            out.write(text)
        os._exit(0)
    gc.enable()
    os.close(writer)
    with os.fdopen(reader) as told:
        text = told.read()
    os.waitpid(pid, 0)
    return text
