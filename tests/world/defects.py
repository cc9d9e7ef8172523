"""Defects planted into the production code and the device, and the judges that see them.

A judge that sees none proves nothing, and a defect that no judge sees is a hole. Some defects take
away two barriers at once, because the second one alone would hide that the first is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from sim_device import tmslink_machine, tmslink_session
from sim_device.unit import Unit
from tests.world.oracles import ORACLES
from tests.world.story import Spec, tell
from tmsctl.guard import core, device_view, views
from tmsctl.guard.playback import Playback
from tmsctl.records import ledger
from tmsctl.records.journal import Journal
from tmsctl.safety import machine, rules
from tmsctl.safety.patient import PatientDose

Plant = Callable[[pytest.MonkeyPatch], None]

CALM: Final = Spec(kinds=())
KILLS: Final = Spec(kinds=("guard-kill", "tmsd-kill"))
STALLS: Final = Spec(kinds=("guard-stall", "guard-kill"))
STORMS: Final = Spec(kinds=("storm", "guard-stall"))


@dataclass(frozen=True)
class Defect:
    """`plant` breaks something; the stories of `seeds` show it."""

    plant: Plant
    spec: Spec = CALM
    seeds: tuple[int, ...] = (1, 2, 3)


def _without(table: str, *codes: str) -> Plant:
    """A table of rules that lacks some rows, in the guard and in its plan check."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        rows = tuple(row for row in getattr(rules, table) if row.code not in codes)
        patch.setattr(rules, table, rows)
        if table == "WATCH":
            patch.setattr(rules, "_RULES", tuple((row.rule, row) for row in rows))

    return plant


def _both(*plants: Plant) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        for one in plants:
            one(patch)

    return plant


def _everything_is_held(patch: pytest.MonkeyPatch) -> None:
    row = next(row for row in rules.GATE if row.code == "rate")
    held = rules.GateRow(row.code, row.hazards, row.action, lambda _r, _l: "no", "", row.reading)
    patch.setattr(rules, "GATE", (*rules.GATE, held))


def _resume_at_once(patch: pytest.MonkeyPatch) -> None:
    def lay(self: Playback, now: int) -> None:
        self.origin = now + self.lead_us + 1_000 - self.plan.at_us(self.position)  # type: ignore[assignment]

    patch.setattr(Playback, "lay_time_line", lay)


def _stronger_coil(patch: pytest.MonkeyPatch) -> None:
    discharge = Unit.discharge

    def strong(self: Unit, now_us: int, cause: str, bias_pct: int, **notes: object) -> Any:
        seen = discharge(self, now_us, cause, bias_pct + 15, **notes)
        return seen._replace(mso_pct=seen.mso_pct / 1.15, didt_a_per_us=seen.didt_a_per_us / 1.15)

    patch.setattr(Unit, "discharge", strong)


def _outcomes_lost(patch: pytest.MonkeyPatch) -> None:
    write = Journal.write_intent

    def less(self: Journal, want: Any, *rest: Any) -> None:
        write(self, want._replace(pulses=1), *rest)

    patch.setattr(Journal, "write_intent", less)


def _no_history(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "history", lambda *_: PatientDose(0, 0, None))


def _slow_dead_man(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tmslink_session, "DEAD_MAN_US", 2_000_000)
    patch.setattr(core, "PERMIT_FOR_US", 2_000_000)


def _stop_forgotten(patch: pytest.MonkeyPatch) -> None:
    cycle = core.Guard.cycle

    def forgetful(self: core.Guard, inputs: core.Inputs, now: Any) -> Any:
        inputs.stopped_by = None
        return cycle(self, inputs, now)

    patch.setattr(core.Guard, "cycle", forgetful)


def _latch_by_itself(patch: pytest.MonkeyPatch) -> None:
    step = machine.step

    def forgetful(state: machine.State, event: machine.Event) -> machine.Step:
        result = step(state, event)
        if isinstance(result.state, machine.Safe) and isinstance(state, machine.Safe):
            return machine.Step(machine.Idle(), machine.Effect.NOTHING, result.causes)
        return result

    patch.setattr(machine, "step", forgetful)


def _never_acknowledged(patch: pytest.MonkeyPatch) -> None:
    def never(state: machine.State, _verdict: Any) -> machine.Step:
        return machine.Step(
            state, machine.Effect.NOTHING, (rules.Trip("no", rules.Action.HOLD, "no"),)
        )

    patch.setattr(machine, "_acknowledge", never)


def _old_frames_taken(patch: pytest.MonkeyPatch) -> None:
    accept = tmslink_session.Session.accept

    def credulous(self: tmslink_session.Session, item: Any) -> None:
        self._received = 0
        self._cycle = 0
        accept(self, item)

    patch.setattr(tmslink_session.Session, "accept", credulous)


def _fires_twice(patch: pytest.MonkeyPatch) -> None:
    discharge = tmslink_machine.Machine._discharge

    def twice(self: Any, *given: Any) -> None:
        discharge(self, *given)
        if self.pulse_count % 50 == 0:
            discharge(self, *given)

    patch.setattr(tmslink_machine.Machine, "_discharge", twice)


def _nobody_needed(patch: pytest.MonkeyPatch) -> None:
    facts_of = views.facts_of

    def crowded(guard: core.Guard, gap_us: int, now: Any) -> Any:
        return facts_of(guard, gap_us, now)._replace(presence_at=now)

    patch.setattr(core, "facts_of", crowded)


def _repeats_the_block(patch: pytest.MonkeyPatch) -> None:
    end = device_view.DeviceView._end

    def again(
        self: Any, play: Playback, delivered: int, skipped: int, why: str, **more: Any
    ) -> None:
        end(self, play, delivered, skipped, why, **more)
        if delivered and why != "complete":
            play.position = max(0, play.position - delivered)

    patch.setattr(device_view.DeviceView, "_end", again)


DEFECTS: Final[dict[str, Defect]] = {
    "rate is not limited": Defect(
        _both(_without("GATE", "rate", "energy", "train-gap"), _without("WATCH", "rate-seen"))
    ),
    "a new guard forgets the last minute": Defect(_without("GATE", "minute-unknown"), KILLS),
    "no gap between trains": Defect(_without("GATE", "train-gap")),
    "resume shortens the interval": Defect(_both(_resume_at_once, _without("GATE", "train-gap"))),
    "15 % more than is told": Defect(_stronger_coil),
    "intents cover one pulse": Defect(_both(_outcomes_lost, _without("GATE", "not-granted"))),
    "the patient's past is forgotten": Defect(_no_history),
    "a dead-man of 2 s": Defect(_slow_dead_man, STALLS),
    "STOP is not heard": Defect(_stop_forgotten),
    "SAFE is left without a person": Defect(_latch_by_itself, KILLS),
    "SAFE cannot be left": Defect(_never_acknowledged, KILLS),
    "everything is held back": Defect(_everything_is_held),
    "old frames are taken": Defect(_old_frames_taken, STORMS),
    "every fiftieth pulse twice": Defect(
        _both(_fires_twice, _without("WATCH", "counter", "stranger-pulse"))
    ),
    "nobody needs to be there": Defect(_nobody_needed),
    "a cut block is given again": Defect(_repeats_the_block, KILLS),
    "an old confirmation serves": Defect(_without("ARM", "confirmation-old", "not-confirmed")),
    "a hot coil is not noticed": Defect(
        _without("WATCH", "coil-hot", "device-fault", "coil-sensor"),
        Spec(kinds=("coil_heats", "coil_hot")),
    ),
}


def killers(name: str) -> set[str]:
    """The judges that see this defect. A program that breaks altogether is seen by `crash`."""
    defect, seen = DEFECTS[name], set[str]()
    for seed in defect.seeds:
        with pytest.MonkeyPatch.context() as patch:
            defect.plant(patch)
            try:
                seen |= set(tell(seed, defect.spec).wrong)
            except Exception as error:  # noqa: BLE001  what a defect breaks is not known before
                seen.add(f"crash ({type(error).__name__})")
    return seen


def matrix() -> dict[str, set[str]]:
    """Every defect with its judges."""
    return {name: killers(name) for name in DEFECTS}


def matrix_text(rows: dict[str, set[str]]) -> str:
    """For people: one line a defect, one column a judge."""
    width = max(map(len, rows)) + 2
    lines = [" " * width + " ".join(f"{name:>3}" for name in ORACLES)]
    for name, seen in rows.items():
        marks = " ".join(f"{'x' if oracle in seen else '.':>3}" for oracle in ORACLES)
        others = sorted(seen - ORACLES.keys())
        lines.append(f"{name:<{width}}{marks} {' '.join(others)}".rstrip())
    blind = [name for name in ORACLES if not any(name in seen for seen in rows.values())]
    lines.append(f"judges that saw none: {', '.join(blind) or 'none'}")
    return "\n".join(lines)
