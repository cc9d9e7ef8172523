"""One seed, one story on a stimulator of laboratories: faults, then calm, then the judges."""

from __future__ import annotations

import hashlib
import random
import re
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firmware_protocol.quantities import MS, SECOND
from sim_device.fault_kinds import KINDS, Occasion
from sim_device.faults import FRAMES, Rule
from tests.world.evidence import Line
from tests.world.family_rig import CASES, TRIGGER, Case, FamilyRig, pattern_of
from tests.world.oracles_family import FamilyEvidence, judge_family
from tmsctl.ipc import messages as ipc
from tmsctl.safety.limits import TABLE

RAGE_US: Final = 40 * SECOND
USABLE_WITHIN_US: Final = 90 * SECOND
AFTER_US: Final = 7 * SECOND
HOT_C: Final = 30

LETTERS: Final = {"magstim": b"@EJQFxB", "magpro": bytes(range(1, 12)), "duomag": b"\0\x28\x79"}
"""Commands that firmware may lack."""

PANEL: Final = {
    "panel_mode": (1, 3, 3), "panel_waveform": (0, 2, 3, 3), "panel_interval": (50, 100, 300),
}  # fmt: skip


@dataclass
class Told:
    """What came of a story."""

    seed: int
    case: Case
    wrong: dict[str, list[str]]
    evidence: FamilyEvidence
    faults: Counter[str]
    simulated_us: int

    @property
    def trace(self) -> str:
        """Hash over everything that happened."""
        return hashlib.sha256(repr(self.evidence).encode()).hexdigest()

    def story(self) -> str:
        lines = [f"{name}: {what}" for name, several in self.wrong.items() for what in several[:5]]
        replay = f".venv/bin/python -m tests.world.family_story {self.seed}"
        return "\n".join([f"seed {self.seed} on {self.case.name}; replay: {replay}", *lines])


class Storm:
    """Draws its share of what can happen to this unit, its line and its host, and does it."""

    def __init__(self, rig: FamilyRig, seed: int) -> None:
        self.rig, self.rng = rig, random.Random(seed)
        self.hazards: list[Line] = []
        self.faults: Counter[str] = Counter()
        device = sorted(kind for kind in rig.firmware.kinds if kind not in NEVER)
        self.kinds = self.rng.sample([*device, *HOST, *HOST], 12)
        self.calm_us = self.rng.choice((2, 4, 8)) * SECOND

    def rage(self, duration_us: int) -> None:
        rig, rng = self.rig, self.rng
        end = rig.now + duration_us
        while rig.now < end:
            rig.run(min(int(rng.expovariate(1 / self.calm_us)) + 1, end - rig.now + 1))
            for _ in range(rng.choice((1, 1, 2, 3))):
                self.strike(rng.choice(self.kinds))

    def strike(self, kind: str) -> None:
        if kind in HOST:
            HOST[kind](self)
            return
        row, faults = KINDS[kind], self.rig.firmware.faults
        value = self._value(kind)
        if kind in faults.in_force() or any(a.rule.kind == kind for a in faults.set_rules()):
            return
        for_us, probability = self.rng.choice((20, 100, 500, 2_000)) * MS, None
        if row.occasion is Occasion.MOMENT:
            rule, for_us = Rule(kind, value, times=1), 0
        elif row.lasts or row.occasion is Occasion.STATE:
            rule = Rule(kind, value, for_us=for_us)
        elif row.occasion in FRAMES:
            probability = self.rng.choice((0.02, 0.1, 0.3))
            rule = Rule(kind, value, probability=probability)
        else:
            rule = Rule(kind, value, times=1)
            for_us = 20 * SECOND  # whenever its occasion comes
        self.note(kind, for_us, value)
        faults.add_from_now(rule, self.rig.clock.device(self.rig.now))
        self.rig.run(self.rng.randrange(300 * MS))
        if probability is not None:
            faults.clear(kind)
            self.hazards[-1]["until_us"] = self.rig.now

    def note(self, kind: str, for_us: int = 0, value: int | None = None) -> None:
        self.faults[kind] += 1
        default = KINDS[kind].value if kind in KINDS else None
        shown = default.default if value is None and default is not None else value or 0
        now = self.rig.now
        self.hazards.append({"kind": kind, "value": shown, "at_us": now, "until_us": now + for_us})

    def _value(self, kind: str) -> int | None:
        if kind in ("intensity_bias", "hidden_bias", "panel_setting"):
            return self.rng.choice((-20, 12, 15, 30))
        if kind in PANEL:
            return self.rng.choice(PANEL[kind])
        if kind == "lacks_command":
            return self.rng.choice(LETTERS[self.rig.family.info.name.partition("-")[0]])
        return None

    def end(self) -> None:
        """What broke is mended: by another coil, and by switching off and on."""
        rig = self.rig
        rig.firmware.faults.clear_all()
        rig.to_device.cut = rig.to_host.cut = False
        rig.port.plugged = rig.ledger.connected = True
        now_us = rig.clock.device(rig.now)
        if (
            max(rig.firmware.unit.heat.at(now_us)) > HOT_C
        ):  # what its sensor says may be wrong still
            rig.firmware.unit.jump_to(200, now_us)
        if self.faults.keys() & {"charger_fault", "lacks_command", "panel_gap"}:
            rig.firmware.faults.add_from_now(Rule("reboot", 500), now_us)
        rig.run(2 * SECOND)

    # -- the host ------------------------------------------------------------------------------

    def stall(self) -> None:
        for_us = self.rng.randrange(self.rng.choice((25, 250, 1_500)) * MS)  # of any length
        self.note("guard-stall", for_us)
        self.rig.stall(for_us)

    def kill(self) -> None:
        for_us = self.rng.randrange(50, 2_000) * MS
        self.note("guard-kill", for_us)
        self.rig.kill()
        self.rig.alone(for_us)
        self.rig.revive()

    def stop(self) -> None:
        self.note("stop")
        self.rig.stop()

    def lose_tmsd(self) -> None:
        for_us = self.rng.choice((20, 300, 2_000)) * MS
        self.note("tmsd-loss", for_us)
        self.rig.ledger.connected = False
        self.rig.run(for_us)
        self.rig.ledger.connected = True

    def silence_tmsd(self) -> None:
        self.note("tmsd-stall", for_us := self.rng.choice((100, 700, 2_000)) * MS)
        self.rig.ledger.silent_until = self.rig.now + for_us

    def unplug(self) -> None:
        self.note("unplug", for_us := self.rng.choice((20, 200, 2_000)) * MS)
        self.rig.port.plugged = False
        self.rig.run(for_us)
        self.rig.port.plugged = True

    def cut(self) -> None:
        self.note("cut", for_us := self.rng.choice((5, 50, 200, 1_500)) * MS)
        wire = self.rng.choice((self.rig.to_device, self.rig.to_host))
        wire.cut = True
        self.rig.run(for_us)
        wire.cut = False


HOST: Final[dict[str, Callable[[Storm], None]]] = {
    "guard-stall": Storm.stall,
    "guard-kill": Storm.kill,
    "stop": Storm.stop,
    "tmsd-loss": Storm.lose_tmsd,
    "tmsd-stall": Storm.silence_tmsd,
    "unplug": Storm.unplug,
    "cut": Storm.cut,
}

NEVER: Final = ("coil_swapped", "cooling_failure")
"""A coil of another kind is another story; these coils are not cooled."""


def tell_family(seed: int, *, storm: bool = True) -> Told:
    """One story from its beginning to the verdict. Which unit: by the seed."""
    case = CASES[seed % len(CASES)]
    rig = FamilyRig(case, seed)
    rig.acknowledges = True
    weather = Storm(rig, seed)
    if storm:
        weather.rage(RAGE_US)
    else:
        rig.run(RAGE_US)
    weather.end()
    calm_us, before = rig.now, len(rig.pulses)
    while len(rig.pulses) <= before and rig.now < calm_us + USABLE_WITHIN_US:
        rig.run(SECOND)
    rig.run(AFTER_US)
    evidence = evidence_of(rig, weather, calm_us)
    return Told(seed, case, judge_family(evidence), evidence, weather.faults, rig.now)


def evidence_of(rig: FamilyRig, weather: Storm, calm_us: int) -> FamilyEvidence:
    lives = [ledger.began_at for ledger in rig.ledgers]
    wants: list[Line] = []
    transitions = []
    for life, ledger in enumerate(rig.ledgers):
        granted = {grant.block_id: at for at, grant in ledger.granted}
        for at, message in zip(ledger.told_at, ledger.told, strict=True):
            if isinstance(message, ipc.Transition):
                transitions.append((at, life, message.after.name, message.code))
            elif isinstance(message, ipc.Want):
                outcome = ledger.outcomes.get(message.block_id)
                sure = outcome is not None and outcome.outcome != 2
                wants.append(
                    {
                        "life": life,
                        "block": message.block_id,
                        "pulses": message.pulses,
                        "granted_us": granted.get(message.block_id),
                        "ended_us": ledger.ended_at.get(message.block_id),
                        "counted": outcome.delivered if outcome and sure else message.pulses,
                    }
                )
    pattern = pattern_of(TRIGGER, rig.family)
    protocol = rig.plan.protocol
    names = ("pulses_per_burst", "interval_us", "burst_period_us", "bursts_per_train",
             "train_period_us", "trains")  # fmt: skip
    shape = {name: getattr(protocol, name) for name in names}
    after = [line["at_us"] for line in rig.pulses if int(str(line["at_us"])) > calm_us]
    return FamilyEvidence(
        lines=rig.truth,
        triggers=[
            (at, bisect_right(lives, at) - 1)
            for at, data in rig.wire.written
            if re.search(pattern, data)
        ],
        wants=wants,
        transitions=transitions,
        hazards=weather.hazards,
        sessions=[
            {"number": n, "at_us": at, "pattern": shape, "exceeds": {}, "reason": True}
            for n, at in enumerate(rig.sessions, 1)
        ],
        general={row.name: row.general for row in TABLE},
        mso=rig.plan.mso.value,
        burst_us=rig.case.span_us,
        calm_us=calm_us,
        again_us=int(str(after[0])) if after else None,
    )


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        told = tell_family(int(argument))
        print(told.trace, told.story() if told.wrong else "")
