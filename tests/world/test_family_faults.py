"""Storms of faults on the stimulators that laboratories own, judged by the truth alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from drivers.account import Account, Shot
from drivers.contract import Permit, Ticket
from drivers.duomag.driver import DuomagStimulator
from drivers.magpro.driver import MagproStimulator
from drivers.magpro.unit import FIRE
from drivers.magstim.driver import MagstimStimulator
from firmware_protocol.magpro.framing import frame_of
from firmware_protocol.quantities import MS, SECOND
from sim_device.faults import Rule
from sim_device.physics import stored_energy_j
from tests.world.family_rig import CASES, TRIGGER, Case, FamilyRig
from tests.world.family_story import Storm, evidence_of, tell_family
from tests.world.odometer import TOTAL
from tests.world.oracles_family import FAMILY_ORACLES, judge_family
from tests.world.rig import START

M200_CASE, RAPID_CASE, X100_CASE, BURST_CASE, DUOMAG_CASE, BISTIM_CASE = CASES


@pytest.mark.parametrize("seed", range(42))
def test_no_story_of_a_family_breaks_a_rule_and_every_story_ends_well(seed: int) -> None:
    told = tell_family(seed)
    assert not told.wrong, told.story()
    TOTAL.faults += told.faults


def test_the_same_seed_gives_the_same_story() -> None:
    assert tell_family(4).trace == tell_family(4).trace


# -- what storms have found ------------------------------------------------------------------


def began(case: Case) -> FamilyRig:
    """A session of which a few pulses have left."""
    rig = FamilyRig(case)
    rig.run_until(lambda: bool(rig.pulses), 10 * SECOND)
    return rig


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_after_stop_and_acknowledgement_the_next_session_runs(case: Case) -> None:
    """A defect once: a unit that showed its latch was asked no more, and so showed it for ever."""
    rig = began(case)
    rig.stop()
    rig.run(2 * SECOND)
    assert rig.is_safe
    before = len(rig.pulses)
    rig.acknowledges = True
    rig.run_until(lambda: len(rig.pulses) > before, 10 * SECOND)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_unit_that_was_found_without_a_coil_can_be_used_once_it_has_one(case: Case) -> None:
    """A defect once: the coil of the connection was compared with for ever."""
    rig = FamilyRig(case, rules=[Rule("coil_unplugged", for_us=3 * SECOND)])
    rig.acknowledges = True
    rig.run(2 * SECOND)
    assert rig.guard.device.identity is not None
    assert rig.guard.device.identity.coil_type == 0
    rig.run_until(lambda: bool(rig.pulses), 15 * SECOND)


@pytest.mark.parametrize("cut_ms", [5, 30, 400, 2_000])
def test_a_train_that_goes_on_behind_a_disarm_counts_in_full(cut_ms: int) -> None:
    """A defect once: the unit showed STANDBY, its train went on, and none of it counted."""
    rig = began(RAPID_CASE)
    rig.to_host.cut = cut_ms != 5
    rig.run(cut_ms * MS)
    rig.stop()
    rig.to_host.cut = False
    rig.run(3 * SECOND)
    assert len(rig.pulses) == 10
    assert rig.service.counted == 10
    rig.acknowledges = True
    rig.run_until(lambda: len(rig.pulses) > 10, 12 * SECOND)


def test_a_bistim_turned_to_both_at_once_in_mid_session_stops_it() -> None:
    """A defect once: pulses of 113 instead of 90 % left, and nothing was said of them."""
    rig = began(BISTIM_CASE)
    rig.firmware.faults.add_from_now(Rule("panel_gap", 0), rig.clock.device(rig.now))
    rig.run(20 * SECOND)
    assert rig.is_safe
    assert rig.service.codes()[-1] == "device-fault"
    assert len(rig.pulses) == 1


def test_a_duomag_that_lost_its_settings_fires_nothing_that_nobody_could_see() -> None:
    """A defect once: switched off for half a second, it forgot the delay that shows each pulse."""
    rig = began(DUOMAG_CASE)
    rig.firmware.faults.add_from_now(Rule("reboot", 400), rig.clock.device(rig.now))
    rig.acknowledges = True
    rig.run(20 * SECOND)
    assert len(rig.pulses) > 2
    assert rig.service.counted >= len(rig.pulses)


@pytest.mark.parametrize(
    ("case", "kind", "value"),
    [(X100_CASE, "panel_mode", 3), (X100_CASE, "panel_waveform", 3),
     (BURST_CASE, "panel_interval", 100), (BURST_CASE, "panel_waveform", 1)],
    ids=lambda it: it.name if isinstance(it, Case) else it,
)  # fmt: skip
def test_what_is_set_at_the_panel_in_mid_session_ends_it_and_counts(
    case: Case, kind: str, value: int
) -> None:
    """A defect once: 30 pulses left at up to 100 %MSO, 21 were counted, and the session went on."""
    for wait_ms in (0, 37, 90):
        rig = began(case)
        rig.run(wait_ms * MS)
        at = rig.now
        rig.firmware.faults.add_from_now(Rule(kind, value, times=1), rig.clock.device(at))
        rig.run(SECOND)
        assert rig.is_safe
        assert "device-fault" in rig.service.codes()
        assert not rig.armed()
        assert max(rig.writes(TRIGGER)) < at + 250 * MS
        status = rig.guard.device.status
        assert status is not None
        assert status.pulse_count >= len(rig.pulses)
        before = len(rig.pulses)
        rig.acknowledges = True
        rig.run_until(lambda: len(rig.pulses) > before, 12 * SECOND)  # noqa: B023


def test_what_a_knob_has_charged_bleeds_away_before_the_next_pulse() -> None:
    """A defect once: armed again, a unit that still held 61 % gave that instead of 40."""
    told = tell_family(407840798)
    assert told.case is X100_CASE
    assert not told.wrong, told.story()


# -- the judges themselves -------------------------------------------------------------------


def strong(monkeypatch: pytest.MonkeyPatch) -> FamilyRig:
    """A unit that gives more than is set."""
    monkeypatch.setattr("sim_device.unit.stored_energy_j", lambda mso: 1.1 * stored_energy_j(mso))
    return began(M200_CASE)


def twice(monkeypatch: pytest.MonkeyPatch) -> FamilyRig:
    """A driver that sends its trigger twice."""
    right = MagproStimulator._trigger

    def trigger(self: MagproStimulator, *args: Any) -> None:
        right(self, *args)
        self._line.write(frame_of(FIRE))

    monkeypatch.setattr(MagproStimulator, "_trigger", trigger)
    rig = began(X100_CASE)
    rig.run(SECOND)
    return rig


def uncounted(monkeypatch: pytest.MonkeyPatch) -> FamilyRig:
    """A driver that takes back what it fired."""

    def settle(self: MagstimStimulator, shot: Shot, *_: Any) -> None:
        self._account.ended(shot, 0, "no pulse was seen", 0, cut=True)

    monkeypatch.setattr(MagstimStimulator, "_settle", settle)
    rig = began(RAPID_CASE)
    rig.run(SECOND)
    return rig


def stop_ignored(monkeypatch: pytest.MonkeyPatch) -> FamilyRig:
    """A driver that keeps what waits for its instant, and asks for no permit."""
    rig = began(DUOMAG_CASE)
    monkeypatch.setattr(DuomagStimulator, "stop", lambda *_: None)
    monkeypatch.setattr(DuomagStimulator, "disarm", lambda *_: None)
    monkeypatch.setattr("drivers.account.Shot.hindrance", lambda *_: "")

    def is_soon() -> bool:
        wake_at = rig.driver.wake_at
        return wake_at is not None and wake_at - rig.now < 30 * MS

    rig.run_until(is_soon, 10 * SECOND)
    rig.stop()
    rig.run(SECOND)
    return rig


def deaf_to_stop(monkeypatch: pytest.MonkeyPatch) -> FamilyRig:
    """A guard that does not hear the STOP button."""
    rig = began(X100_CASE)
    monkeypatch.setattr(FamilyRig, "stop", lambda rig: rig.cycle_now())
    return rig


def blind(monkeypatch: pytest.MonkeyPatch) -> FamilyRig:
    """A driver that does not tell of pulses that are not its own."""
    monkeypatch.setattr(Account, "stranger", lambda *_: None)
    rig = began(M200_CASE)
    rig.run(2_500 * MS)
    rig.firmware.faults.add_from_now(Rule("external_trigger"), rig.clock.device(rig.now))
    rig.run(SECOND)
    return rig


def hasty(monkeypatch: pytest.MonkeyPatch) -> FamilyRig:
    """A driver whose every second trigger comes 15 ms too soon."""
    right = Account.take

    def take(self: Account, permit: Permit, latency_us: int) -> Ticket:
        return right(self, permit, latency_us + 15 * MS * (permit.block.block_id % 2))

    monkeypatch.setattr(Account, "take", take)
    rig = began(BURST_CASE)
    rig.run(SECOND)
    return rig


def overdriven(monkeypatch: pytest.MonkeyPatch) -> FamilyRig:
    """A supply that bears much less than the host presumes."""
    monkeypatch.setattr("sim_device.magstim_rapid.Rapid._overdriven", lambda _: True)
    return began(RAPID_CASE)


def latched_for_ever(monkeypatch: pytest.MonkeyPatch) -> FamilyRig:
    """A driver that does not tell that its latch is gone."""
    monkeypatch.setattr(MagproStimulator, "_tell_status", lambda *_: None)
    rig = FamilyRig(X100_CASE)
    rig.run(3 * SECOND)
    return rig


DEFECTS: Final[dict[str, Callable[[pytest.MonkeyPatch], FamilyRig]]] = {
    "strength": strong,
    "granted": twice,
    "counted": uncounted,
    "permitted": stop_ignored,
    "noticed": blind,
    "pace": hasty,
    "spared": overdriven,
    "usable": latched_for_ever,
}


def test_a_guard_that_is_deaf_to_stop_is_seen_in_a_story(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = deaf_to_stop(monkeypatch)
    storm = Storm(rig, 0)
    storm.stop()
    rig.run(SECOND)
    assert "permitted" in judge_family(evidence_of(rig, storm, START))


@pytest.mark.parametrize("judge", FAMILY_ORACLES)
def test_every_judge_of_families_sees_a_planted_defect(
    judge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = DEFECTS[judge](monkeypatch)
    assert judge in judge_family(evidence_of(rig, Storm(rig, 0), START))


def test_no_judge_of_families_sees_anything_where_nothing_is_wrong() -> None:
    for case in CASES:
        rig = began(case)
        rig.run(SECOND)
        assert judge_family(evidence_of(rig, Storm(rig, 0), START)) == {}, case.name
