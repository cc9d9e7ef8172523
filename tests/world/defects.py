"""Defects planted into the production code and the device, and the judges that see them.

A judge that sees none proves nothing, and a defect that no judge sees is a hole. Some defects take
away two barriers at once, because the second one alone would hide that the first is gone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

import pytest

from drivers.tmslink.driver import TmslinkStimulator
from drivers.transport.url import UsbPlace
from firmware_protocol.quantities import MS, SECOND, PercentMso
from sim_device import tmslink_machine, tmslink_session, tmslink_wire, usb_tmslink
from sim_device.settings import Settings
from tests.world import usb_line
from tests.world.operator import Habits
from tests.world.oracles import ORACLES
from tests.world.sim import World
from tests.world.story import USB, Result, Spec, tell
from tmsctl.guard import core, device_view, plans, report
from tmsctl.guard.playback import Playback
from tmsctl.records import clock, journal
from tmsctl.safety import machine, plan_check, rules
from tmsctl.safety.dose import PulseTimes
from tmsctl.session import confirmations, ledger_desk, prepare
from tmsctl.stimulation import prescription

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]


class Defect(NamedTuple):
    """`plant` breaks something; stories like `spec` show it, each of `seeds` to some judge."""

    plant: Plant
    spec: Spec
    seeds: tuple[int, ...] = (1,)


# -- what a story is like -------------------------------------------------------------------------


def people(*protocols: str, **habits: Any) -> Habits:
    """Somebody who does nothing but what is asked here."""
    usual: dict[str, Any] = {"mistakes": 0.0, "meddles": 0.0, "forgets": 0.0}
    return Habits(protocols, **{"thresholds": (50.0,), **usual, **habits})


def calm(*protocols: str, length_s: int = 50, **habits: Any) -> Spec:
    return storm((), *protocols, length_s=length_s, **habits)


def storm(kinds: tuple[str, ...], *protocols: str, length_s: int = 50, **habits: Any) -> Spec:
    who = people(*protocols or ("itbs90",), **habits)
    return Spec(kinds, length_s * SECOND, who, Settings(cooled=1), recovers=False)


BUSY: Final = {"meddles": 0.5, "think_us": (200 * MS, 900 * MS)}

# -- how to break things --------------------------------------------------------------------------


def all_of(*plants: Plant) -> Plant:
    def plant(patch: Patch) -> None:
        for one in plants:
            one(patch)

    return plant


def without(table: str, *codes: str) -> Plant:
    """The guard's table of rules lacks some rows."""

    def plant(patch: Patch) -> None:
        rows = tuple(row for row in getattr(rules, table) if row.code not in codes)
        patch.setattr(rules, table, rows)
        if table == "WATCH":
            patch.setattr(rules, "_RULES", tuple(row.rule for row in rows))
            patch.setattr(rules, "_SILENT", [None] * len(rows))

    return plant


def put(owner: Any, name: str, value: Any) -> Plant:
    return lambda patch: patch.setattr(owner, name, value)


def wrap(owner: Any, name: str, make: Callable[[Any], Any]) -> Plant:
    """Replace a function by what `make` makes of it."""
    return lambda patch: patch.setattr(owner, name, make(getattr(owner, name)))


def unchecked(*codes: str) -> Plant:
    """No plan and no patient fails these checks."""

    def passing(check_plan: Any) -> Any:
        def checked(*given: Any) -> Any:
            return tuple(
                one._replace(ok=True) if one.code in codes else one for one in check_plan(*given)
            )

        return checked

    return all_of(
        wrap(prepare, "check_plan", passing),
        wrap(plans, "check_plan", passing),
        wrap(prepare, "patient_checks", passing),
    )


# -- the guard ------------------------------------------------------------------------------------


def _tumbling_peak(self: PulseTimes, block: Any, window_us: int) -> int:
    counts: dict[int, int] = {}
    for at in [*self._times, *block]:
        counts[at // window_us] = counts.get(at // window_us, 0) + 1
    return max(counts.values(), default=0)


def _always_permits(beat: Any) -> Any:
    return lambda self, cycle, now, _until: beat(self, cycle, now, now + 50 * MS)


def _grants_itself(want_next: Any) -> Any:
    def wants(self: Any, play: Playback) -> None:
        want_next(self, play)
        if play.intent is not None:
            play.intent.granted = True

    return wants


def _at_once(self: Playback, now: Any) -> None:
    self.origin = now + self.lead_us + 10 * MS - self.plan.at_us(self.position)
    self.keeps_rhythm = False


def _again(lay: Any) -> Any:
    def repeats(self: Playback, now: Any) -> None:
        burst = self.plan.protocol.pulses_per_burst
        self.position = max(0, self.position - 5 * burst)
        lay(self, now)

    return repeats


def _one_more(compile_plan: Any) -> Any:
    def stronger(*given: Any) -> Any:
        plan = compile_plan(*given)
        if hasattr(plan, "mso"):
            plan = replace(plan, mso=PercentMso(plan.mso.value + 1))
        return plan

    return stronger


def _refused_after_all(self: Any, play: Any, why: str, _now: Any) -> None:
    self._end(play, 0, 0, why, refused=True)


def _leaves_safe(tick: Any) -> Any:
    def forgives(state: Any, event: Any) -> Any:
        if isinstance(state, machine.Safe):
            return machine.Step(machine.Idle(), machine.Effect.NOTHING, machine._ACKNOWLEDGED)
        return tick(state, event)

    return forgives


def _from_onset(trains_of: Any) -> Any:
    def sooner(protocol: Any) -> Any:
        back_us = protocol.train_on_us
        return tuple(
            replace(train, onset_us=train.onset_us - number * back_us)
            for number, train in enumerate(trains_of(protocol))
        )

    return sooner


def _one_less_told(ended: Any) -> Any:
    def tells(self: Any, session_no: int, intent: Any, delivered: int, *rest: Any) -> None:
        ended(self, session_no, intent, max(0, delivered - 1), *rest)

    return tells


def _holds_everything(patch: Patch) -> None:
    row = next(row for row in rules.GATE if row.code == "rate")
    patch.setattr(rules, "GATE", (*rules.GATE, replace(row, rule=lambda _r, _l: "no")))


def _deaf(cycle: Any) -> Any:
    return lambda self, inputs, now: cycle(self, replace(inputs, stopped_by=None), now)


def _by_lot(lay: Any) -> Any:
    def somewhen(self: Playback, now: Any) -> None:
        lay(self, now)
        assert self.origin is not None
        self.origin += secrets.randbelow(1_000)  # type: ignore[assignment]

    return somewhen


def _beats_in_a_thread(stall: Any) -> Any:
    def stalls(self: World, duration_us: int) -> None:
        stall(self, duration_us)
        guard, until = self.guard, self.now + duration_us

        def beat() -> None:
            if guard is not None and not guard.dead and self.now < until:
                guard.guard.cycles += 1
                now = self.boot_us()
                guard.guard.driver.poll(now)
                guard.guard.driver.beat(guard.guard.cycles, now, now + 50 * MS)  # type: ignore[arg-type]
                self.at(self.now + 10 * MS, beat)

        self.at(self.now + 10 * MS, beat)

    return stalls


def _one_too_many(judge: Any) -> Any:
    def lenient(code: str, name: str, value: Any, *rest: Any) -> Any:
        return judge(code, name, value - 1 if code == "session-pulses" else value, *rest)

    return lenient


def _trusts_the_bus(make: Any) -> Any:
    return lambda self, *given, **_: make(self, *given, usb_serial=lambda: Settings().serial)


# -- the service ----------------------------------------------------------------------------------


def _trusts_the_wall_clock(patch: Patch) -> None:
    patch.setattr(clock, "ledger_us", lambda _mark, now: now.utc_us)
    patch.setattr(clock, "doubt", lambda _mark, _now: "")


# -- the device -----------------------------------------------------------------------------------


class _Any(int):
    """A checksum that equals every other."""

    def __eq__(self, _: object) -> bool:
        return True

    def __ne__(self, _: object) -> bool:
        return False

    __hash__ = int.__hash__


def _credulous(accept: Any) -> Any:
    def accepts(self: Any, item: Any) -> None:
        self._received = 0
        accept(self, item)

    return accepts


def _fires_twice(fire: Any) -> Any:
    def twice(self: Any, lease: Any) -> None:
        fire(self, lease)
        if lease.place % 10 == 3:
            self.discharge(lease.kind, lease.lease_id, lease.place)

    return twice


def _forgetful_heat(patch: Patch) -> None:
    patch.setattr(tmslink_machine.Machine, "check_coil", lambda self: None)


_HOT: Final = replace(
    calm("ctbs150", thresholds=(80.0,), too_hot_dc=900),
    settings=Settings(coil_start_dc=412, room_dc=400),
)
_STRONG: Final = replace(
    calm("ctbs600", thresholds=(88.0,), length_s=60), settings=Settings(cooled=1, coil_start_dc=190)
)
_SAME: Final = {"patients": 1, "think_us": (200 * MS, 900 * MS)}

DEFECTS: Final[dict[str, Defect]] = {
    "a window that tumbles instead of sliding": Defect(
        all_of(put(PulseTimes, "peak_with", _tumbling_peak), without("WATCH", "rate-seen")),
        calm("ctbs150"), (1, 2)),
    "one pulse more than a session may have": Defect(
        all_of(wrap(plan_check, "judge", _one_too_many), without("GATE", "session-pulses")),
        replace(calm("hf10-60"), site=(("session_pulses_max", 59),))),
    "every beat permits pulses": Defect(
        wrap(TmslinkStimulator, "beat", _always_permits), calm(length_s=15)),
    "STOP is not heard": Defect(
        wrap(core.Guard, "cycle", _deaf), calm("ctbs600", **BUSY), (1, 2)),
    "a block is fired before its intent is on disk": Defect(
        wrap(core.Guard, "_want_next", _grants_itself), storm(("disk-slow",), "itbs90"), (17,)),
    "after a pause the rest comes at once": Defect(
        all_of(put(Playback, "lay_time_line", _at_once),
               without("GATE", "train-gap", "train-rest")),
        calm("itbs600", **BUSY), (1, 2)),
    "one percent more than prescribed": Defect(
        all_of(wrap(prepare, "compile_plan", _one_more), wrap(plans, "compile_plan", _one_more)),
        calm("lf1-30", length_s=20)),
    "unknown pulses count as never sent": Defect(
        put(device_view.DeviceView, "_end_unknown", _refused_after_all),
        storm(("reboot",), "ctbs600"), (1, 2, 3)),
    "the ledger counts no unknown pulse": Defect(
        put(journal, "_UNKNOWN", 99), storm(("reboot",), "ctbs600"), (1, 2, 3)),
    "resuming gives the last bursts again": Defect(
        all_of(wrap(Playback, "lay_time_line", _again),
               without("GATE", "session-pulses", "not-the-plan")),
        calm("itbs90", length_s=60, meddles=0.3), (1, 2, 3)),
    "nobody needs to be there": Defect(
        without("WATCH", "presence-lost"), calm("itbs600", length_s=100, forgets=1.0), (1, 2)),
    "the guard does not notice that it stood still": Defect(
        without("WATCH", "cycle-gap"), storm(("guard-stall",), "ctbs600"), (9, 11)),
    "a dead-man of half a second": Defect(
        put(tmslink_session, "DEAD_MAN_US", 500 * MS), storm(("guard-kill",), "ctbs600"), (1, 2)),
    "no dead-man, and permits of a second": Defect(
        all_of(put(tmslink_session, "DEAD_MAN_US", 5 * SECOND),
               put(core, "PERMIT_FOR_US", 1 * SECOND)),
        storm(("guard-kill",), "ctbs600"), (1, 2)),
    "a thread beats while the guard stands still": Defect(
        all_of(wrap(World, "stall_guard", _beats_in_a_thread), without("WATCH", "cycle-gap")),
        storm(("guard-stall",), "ctbs600"), (1, 2, 3, 4)),
    "the device takes frames that it has had": Defect(
        wrap(tmslink_session.Session, "accept", _credulous), storm(("storm",)), (3, 12)),
    "the device checks no checksum": Defect(
        wrap(tmslink_wire, "checksum", lambda old: lambda *given: _Any(old(*given))),
        storm(("storm",)), (1, 2, 3)),
    "the device fires some places twice": Defect(
        all_of(wrap(tmslink_machine.Machine, "_fire", _fires_twice),
               without("WATCH", "counter", "stranger-pulse")),
        calm("ctbs150", length_s=20)),
    "a rule that holds everything": Defect(_holds_everything, calm(length_s=20)),
    "the wall clock gives new dose": Defect(
        _trusts_the_wall_clock, storm(("clock-forward",), "hf10-60", length_s=90, **_SAME)),
    "the patient's past is forgotten": Defect(
        unchecked("day-pulses", "week-pulses", "session-gap"),
        calm("hf10-60", length_s=60, **_SAME)),
    "the interval of trains counts from their onset": Defect(
        all_of(wrap(prescription, "trains_of", _from_onset),
               unchecked("guideline-iti", "theta-burst", "train-rest")),
        calm("itbs90")),
    "one pulse of a block is not told": Defect(
        wrap(report.Reporter, "ended", _one_less_told), calm("ctbs150")),
    "SAFE is left by itself": Defect(wrap(machine, "_tick", _leaves_safe), calm(**BUSY), (1, 2, 3)),
    "SAFE is never left": Defect(
        put(core.Guard, "_acknowledge", lambda *_: None),
        replace(calm(**BUSY), recovers=True)),
    "no self-test is needed": Defect(
        all_of(without("ARM", "self-test"),
               put(ledger_desk.LedgerDesk, "_self_test", lambda *_: 1)),
        storm(("guard-kill",), "hf10-60", mistakes=0.5), (1, 2, 3)),
    "an edited order starts": Defect(
        all_of(put(confirmations.Confirmations, "check_order", lambda *_: None),
               put(confirmations.Confirmations, "check_plan", lambda *_: None)),
        calm(length_s=60, mistakes=1.0), (1, 2, 3)),
    "the energy of a minute is not limited": Defect(
        all_of(unchecked("energy", "train-rest"), without("GATE", "energy", "train-rest")),
        _STRONG),
    "nobody feels a hot coil": Defect(
        all_of(without("WATCH", "coil-hot", "device-fault"), _forgetful_heat), _HOT),
    "strange pulses are nobody's business": Defect(
        without("WATCH", "stranger-pulse", "counter"),
        storm(("spontaneous_pulse", "extra_pulse"), "ctbs600"), (1, 2, 3)),
    "a new guard forgets the last minute": Defect(
        without("GATE", "minute-unknown"),
        storm(("guard-kill",), "ctbs150", length_s=100), (1, 2, 3, 4)),
    "pulses before the voltage is there": Defect(
        without("GATE", "settle"), storm(("ready_early",), "ctbs150", **BUSY), (1, 2, 3, 4)),
    "times are drawn by lot": Defect(wrap(Playback, "lay_time_line", _by_lot), calm(length_s=10)),
    "any device on the bus is taken": Defect(
        all_of(put(usb_line, "UsbPlace", lambda _server, _serial: UsbPlace("", "")),
               wrap(TmslinkStimulator, "__init__", _trusts_the_bus)),
        replace(storm(("usb_other_serial",), "ctbs600"), line=USB), (1, 2, 3)),
    "a device goes on when its bus is reset": Defect(
        put(usb_tmslink.TmslinkRole, "reset", lambda _role, _now: None),
        replace(storm(("usb_reset",), "ctbs600"), line=USB), (2, 3)),
}  # fmt: skip


def planted(defect: Defect, seed: int) -> Result:
    """A story in which it is there."""
    with pytest.MonkeyPatch.context() as patch:
        defect.plant(patch)
        return tell(seed, defect.spec)


def sees(judge: str, defect: Defect) -> bool:
    """Does this judge see it in one of its stories?"""
    for seed in defect.seeds:
        result = planted(defect, seed)
        if judge in result.wrong:
            return True
        if judge == "O14" and planted(defect, seed).trace != result.trace:
            return True
    return False


def killers(defect: Defect) -> set[str]:
    """The judges that see it. A program that breaks altogether is seen by `crash`."""
    seen = set[str]()
    for seed in defect.seeds:
        try:
            first = planted(defect, seed)
            seen |= set(first.wrong)
            if not seen and planted(defect, seed).trace != first.trace:
                seen.add("O14")
        except Exception as error:  # noqa: BLE001  what a defect breaks is not known before
            seen.add(f"crash ({type(error).__name__})")
    return seen


JUDGES: Final = (*ORACLES, "O14")

PROOFS: Final[dict[str, str]] = {
    "O1": "a window that tumbles instead of sliding",
    "O2": "after a pause the rest comes at once",
    "O3": "one percent more than prescribed",
    "O4": "one pulse of a block is not told",
    "O5": "every beat permits pulses",
    "O6": "strange pulses are nobody's business",
    "O7": "the energy of a minute is not limited",
    "O8": "the patient's past is forgotten",
    "O9": "STOP is not heard",
    "O10": "a rule that holds everything",
    "O12": "the device checks no checksum",
    "O13": "the device fires some places twice",
    "O14": "times are drawn by lot",
    "O16": "SAFE is never left",
}
"""For each judge a defect that it must see; `make soak` tries all of them."""


def matrix() -> dict[str, set[str]]:
    """Every defect with its judges."""
    return {name: killers(defect) for name, defect in DEFECTS.items()}


def matrix_text(rows: dict[str, set[str]]) -> str:
    """For people: one line a defect, one column a judge."""
    width = max(map(len, rows)) + 2
    lines = [" " * width + " ".join(f"{name:>3}" for name in JUDGES)]
    for name, seen in rows.items():
        marks = " ".join(f"{'x' if judge in seen else '.':>3}" for judge in JUDGES)
        lines.append(f"{name:<{width}}{marks} {' '.join(sorted(seen - {*JUDGES}))}".rstrip())
    lines.append(f"{sum(map(bool, rows.values()))} of {len(rows)} defects were seen; "
                 f"judges that saw none: {', '.join(blind(rows)) or 'none'}")  # fmt: skip
    return "\n".join(lines)


def blind(rows: dict[str, set[str]]) -> list[str]:
    """Judges that saw no defect."""
    return [name for name in JUDGES if not any(name in seen for seen in rows.values())]
