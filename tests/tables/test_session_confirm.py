"""A session begins only with all that it needs: each thing taken away has its own refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from tests.fakes.engine import GUARD_PID, LIBRARY, ORDER, OTHER, REASON, STATION, Rig, changed
from tests.fakes.guard import FakeGuard
from tmsctl.ipc import messages as ipc
from tmsctl.ipc.messages import SelfTestState
from tmsctl.records import ledger, reports
from tmsctl.records.ledger import Life
from tmsctl.safety.limits import site_limits
from tmsctl.safety.patient import PatientDose
from tmsctl.session.confirmations import FIELDS, GOOD_FOR_US, KEPT_MAX, Confirmations
from tmsctl.session.prepare import Order, prepare
from tmsctl.session.refused import RefusedError
from tmsctl.session.state import State

DAY_US = 86_400_000_000
NEXT = changed(ORDER, patient="P2")
"""Another patient, who has had nothing."""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def build(**options: object) -> Rig:
        guard = FakeGuard(step_by_step=True)
        rigs.append(Rig(tmp_path / "journal.sqlite", guard, **options))  # type: ignore[arg-type]
        return rigs[-1]

    yield build
    for rig in rigs:
        rig.journal.close()


@pytest.fixture
def rig(make: Callable[..., Rig]) -> Rig:
    return make()


def refusal(act: Callable[[], object]) -> tuple[str, int]:
    with pytest.raises(RefusedError) as caught:
        act()
    assert caught.value.refusal.sentence.endswith(".")
    assert caught.value.refusal.next_step.endswith(".")
    return caught.value.refusal.code, caught.value.exit_bit


def deliver(rig: Rig, order: Order = ORDER) -> int:
    """A whole session."""
    number = rig.start(order)
    rig.pump()
    while rig.engine.open:
        rig.play()
    return number


# The Therac edit

OTHER_VALUE: dict[str, object] = {
    "patient": "P9", "operator": "xx", "protocol": "itbs600", "mt": 50.1, "pct_mt": 79,
    "reduced": True, "by_emg": False,
}  # fmt: skip


def test_every_field_of_an_order_is_edited_below() -> None:
    assert set(OTHER_VALUE) == set(FIELDS) == {field.name for field in fields(Order)}


@pytest.mark.parametrize("field", sorted(OTHER_VALUE))
def test_an_edit_of_any_field_after_it_was_shown_ends_the_confirmation(
    rig: Rig, field: str
) -> None:
    prepared = rig.engine.prepare(ORDER)
    edited = changed(ORDER, **{field: OTHER_VALUE[field]})
    rig.acts.clear()
    with pytest.raises(RefusedError, match=f"{FIELDS[field]} changed") as caught:
        rig.begin(prepared, order=edited)
    assert caught.value.refusal.code == "confirmation-changed"
    # Undoing the edit does not bring it back.
    assert refusal(lambda: rig.begin(prepared)) == ("confirmation-used", 1)
    assert rig.acts == []
    assert rig.journal.unfinished() == []
    rig.begin(rig.engine.prepare(edited if field in ("patient", "operator") else ORDER))


def test_the_own_intensity_of_the_protocol_written_out_is_an_edit_too(rig: Rig) -> None:
    prepared = rig.engine.prepare(ORDER)
    assert prepared.plan.pct_mt == 80
    edited = changed(ORDER, pct_mt=80)
    assert refusal(lambda: rig.begin(prepared, order=edited)) == ("confirmation-changed", 16)


def test_an_edit_in_any_millisecond_of_eight_seconds_ends_the_confirmation() -> None:
    tokens = iter(range(1_000_000))
    confirmations = Confirmations(lambda: str(next(tokens)))
    shown = prepare(ORDER, LIBRARY, site_limits({}), lambda _: PatientDose(0, 0, None))
    edits = [changed(ORDER, **{name: value}) for name, value in OTHER_VALUE.items()]
    for ms in range(8_001):
        name = confirmations.issue(shown, 5_000)
        now_us = 5_000 + 1_000 * ms
        edited = edits[ms % len(edits)]
        code, _ = refusal(lambda n=name, e=edited, at=now_us: confirmations.check_order(n, e, at))
        assert code == "confirmation-changed"
        code, _ = refusal(lambda n=name, at=now_us: confirmations.check_order(n, ORDER, at))
        assert code == "confirmation-used"


def test_an_edit_in_the_same_instant_as_the_start_is_seen_by_the_engine(rig: Rig) -> None:
    for ms in range(0, 400, 7):
        prepared = rig.engine.prepare(ORDER)
        rig.us += 1_000 * ms
        edited = changed(ORDER, mt=50.1)
        assert refusal(lambda p=prepared, e=edited: rig.begin(p, order=e))[0] == (
            "confirmation-changed"
        )


def test_a_plan_hash_that_is_not_of_this_plan_is_refused_and_ends_the_confirmation(
    rig: Rig,
) -> None:
    prepared = rig.engine.prepare(ORDER)
    wrong = rig.engine.prepare(changed(ORDER, mt=50.1)).plan.hash
    start = rig.engine.start
    assert refusal(
        lambda: start(ORDER, wrong, prepared.confirmation, REASON, STATION)
    ) == ("plan-changed", 16)  # fmt: skip
    assert refusal(lambda: rig.begin(prepared)) == ("confirmation-used", 1)


# A confirmation is good once, for two minutes


@pytest.mark.parametrize(
    ("age_us", "code"),
    [(0, None), (GOOD_FOR_US, None), (GOOD_FOR_US + 1, "confirmation-old"),
     (-1, "confirmation-old")],
)  # fmt: skip
def test_a_confirmation_is_good_for_two_minutes(rig: Rig, age_us: int, code: str | None) -> None:
    prepared = rig.engine.prepare(ORDER)
    rig.us += age_us
    rig.hear(rig.guard.snapshot())
    if code is None:
        rig.begin(prepared)
    else:
        assert refusal(lambda: rig.begin(prepared)) == (code, 1)


def test_a_confirmation_starts_one_session_and_no_second_one(rig: Rig) -> None:
    prepared = rig.engine.prepare(NEXT)
    rig.begin(prepared)
    rig.pump()
    assert refusal(lambda: rig.begin(prepared)) == ("session-open", 1)
    rig.engine.stop()
    rig.pump()
    assert refusal(lambda: rig.begin(prepared)) == ("confirmation-used", 1)


def test_a_confirmation_that_nobody_was_shown_is_unknown(rig: Rig) -> None:
    prepared = rig.engine.prepare(ORDER)
    assert refusal(
        lambda: rig.engine.start(ORDER, prepared.plan.hash, "token-x", REASON, STATION)
    ) == ("confirmation-unknown", 1)
    rig.begin(prepared)


def test_the_newest_confirmations_are_kept(rig: Rig) -> None:
    confirmations = Confirmations(iter(str(n) for n in range(1_000)).__next__)
    shown = rig.engine.prepare(ORDER)
    names = [confirmations.issue(shown, 0) for _ in range(KEPT_MAX + 1)]
    assert refusal(lambda: confirmations.check_order(names[0], ORDER, 0))[0] == (
        "confirmation-unknown"
    )
    confirmations.check_order(names[1], ORDER, 0)
    confirmations.check_order(names[-1], ORDER, 0)


def test_a_refusal_for_another_reason_leaves_the_confirmation_good(rig: Rig) -> None:
    prepared = rig.engine.prepare(ORDER)
    assert refusal(lambda: rig.begin(prepared, reason=None))[0] == "soft-limit"
    rig.hear(*rig.guard.trip("coil-temperature"))
    assert refusal(lambda: rig.begin(prepared))[0] == "guard-safe"
    rig.engine.acknowledge()
    rig.pump()
    rig.begin(prepared)


def test_a_judgement_that_changes_between_showing_and_starting_is_shown_again(rig: Rig) -> None:
    """3000 s after the last session a soft limit is left of a hard one."""
    deliver(rig)
    rig.later(2_999)
    prepared = rig.engine.prepare(ORDER)
    refused = prepared.refusal()
    assert refused is not None
    assert refused.refusal.code == "session-gap"
    assert refused.refusal.sentence.startswith("The plan breaks a limit, session-gap: 2999 s, at")
    rig.later(1)
    with pytest.raises(RefusedError, match="the judgement of session-gap changed") as caught:
        rig.begin(prepared)
    assert caught.value.refusal.code == "confirmation-changed"
    rig.begin(rig.engine.prepare(ORDER))


# Soft limits


def test_a_soft_limit_needs_a_reason_and_the_reason_is_on_record(rig: Rig) -> None:
    prepared = rig.engine.prepare(ORDER)
    assert [check.code for check in prepared.soft] == ["not-reviewed"]
    with pytest.raises(RefusedError, match=r"goes beyond what is usual \(not-reviewed: ") as caught:
        rig.begin(prepared, reason=None)
    assert (caught.value.refusal.code, caught.value.exit_bit) == ("soft-limit", 16)
    rig.begin(prepared, reason="  because the physician says so ")
    rig.pump()
    rig.engine.flush()
    record = reports.record(rig.journal, 1, "running")
    assert record is not None
    assert (record.soft_limits, record.reason) == (
        ["not-reviewed"],
        "because the physician says so",
    )
    assert "soft-limit" in [event.code for event in record.events]
    assert all("physician" not in event.detail for event in rig.events)  # events go to the log


def test_without_a_soft_limit_no_reason_is_needed(rig: Rig) -> None:
    order = changed(ORDER, protocol="itbs600")
    prepared = rig.engine.prepare(order)
    assert prepared.soft == ()
    rig.begin(prepared, reason=None)
    rig.pump()
    [load] = [act for act in rig.acts if isinstance(act, ipc.Load)]
    assert (load.soft_accepted, load.by_emg) == (0, 1)


@pytest.mark.parametrize("reason", ["", "   ", "x" * 301, "a\nb", "a\x1b[31m"])
def test_what_is_no_reason_is_refused(rig: Rig, reason: str) -> None:
    prepared = rig.engine.prepare(ORDER)
    assert refusal(lambda: rig.begin(prepared, reason=reason)) == ("reason-wrong", 1)
    rig.begin(prepared, reason="x" * 300)


def test_a_hard_limit_is_refused_with_any_reason(rig: Rig) -> None:
    """By eye a motor threshold reads too high, and the guidelines' trains get shorter."""
    order = changed(ORDER, by_emg=False)
    prepared = rig.engine.prepare(order)
    assert refusal(lambda: rig.begin(prepared)) == ("guideline-train", 16)


# Each condition taken away


def break_clock(rig: Rig) -> None:
    rig.wall_off += timedelta(seconds=3)


def break_counter(rig: Rig) -> None:
    deliver(rig, NEXT)
    rig.guard.fired[0] += 1  # a pulse by hand
    rig.hear(rig.guard.snapshot())


def break_self_test(rig: Rig) -> None:
    rig.guard.self_test = SelfTestState.NONE
    rig.hear(rig.guard.snapshot())


def break_device(rig: Rig) -> None:
    rig.guard.connected = False
    rig.hear(rig.guard.snapshot())


CONDITIONS: dict[str, tuple[Callable[[Rig], object], int]] = {
    "clock-unconfirmed": (break_clock, 16),
    "counter-disagrees": (break_counter, 16),
    "self-test-missing": (break_self_test, 16),
    "device-unreachable": (break_device, 2),
    "guard-absent": (lambda rig: setattr(rig, "us", rig.us + 500_001), 2),
    "guard-safe": (lambda rig: rig.hear(*rig.guard.trip("coil-temperature")), 8),
    "confirmation-old": (lambda rig: rig.later(121), 1),
}


@pytest.mark.parametrize("code", sorted(CONDITIONS))
def test_each_condition_that_is_missing_has_its_own_refusal(rig: Rig, code: str) -> None:
    undo, bit = CONDITIONS[code]
    prepared = rig.engine.prepare(ORDER)
    undo(rig)
    rig.acts.clear()
    assert refusal(lambda: rig.begin(prepared)) == (code, bit)
    assert rig.acts == []


def test_with_every_condition_a_session_begins(rig: Rig) -> None:
    rig.start()
    rig.pump()
    assert rig.state is State.RUNNING


# The clock


def test_a_new_journal_and_every_start_of_the_computer_need_a_person(
    make: Callable[..., Rig],
) -> None:
    rig = make(ready=False)
    prepared = rig.engine.prepare(ORDER)
    assert refusal(lambda: rig.begin(prepared)) == ("clock-unconfirmed", 16)
    rig.engine.confirm_clock("op", rig.engine.desk.clock().time)
    assert refusal(lambda: rig.begin(prepared)) == ("self-test-missing", 16)  # that is next
    again = make(ready=False)  # tmsd, not the computer
    assert again.engine.desk.doubt() == ""
    assert again.engine.desk.clock().confirmed_by == "op"
    other = make(ready=False, boot_id="boot-2")
    assert "since the computer was started" in other.engine.desk.doubt()
    rig.engine.flush()
    assert rig.codes.count("clock-unconfirmed") == 0
    other.engine.flush()
    other.engine.flush()
    assert other.codes.count("clock-unconfirmed") == 1  # told once


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ("2026-01-31T12:00:02.000000Z", None),
        ("2026-01-31T13:00:02+01:00", None),
        ("2026-01-31T11:58:02Z", None),
        ("2026-01-31T11:58:01.999999Z", "time-wrong"),  # shown more than 120 s ago
        ("2026-01-31T12:00:02.000001Z", "time-wrong"),  # of the future
        ("2026-01-31T12:00:02", "time-wrong"),  # no zone
        ("noon", "time-wrong"),
        ("", "time-wrong"),
    ],
)
def test_a_person_confirms_the_time_that_was_shown(
    make: Callable[..., Rig], shown: str, code: str | None
) -> None:
    rig = make(ready=False)
    rig.us = 2_000_000
    if code is None:
        assert rig.engine.confirm_clock("op", shown).why == ""
    else:
        assert refusal(lambda: rig.engine.confirm_clock("op", shown)) == (code, 1)
        assert rig.engine.desk.doubt() != ""
    assert refusal(lambda: rig.engine.confirm_clock("o p", shown))[0] == "operator-id"


def test_a_step_of_the_clock_during_a_session_lets_it_go_on_and_refuses_the_next(rig: Rig) -> None:
    rig.start()
    rig.pump()
    rig.wall_off += timedelta(days=-365)
    rig.engine.flush()
    assert "clock-unconfirmed" in rig.codes
    assert rig.status().clock_confirmed is False
    rig.engine.pause()
    rig.pump()
    rig.engine.resume(STATION)
    rig.pump()
    assert rig.state is State.RUNNING
    rig.engine.stop()
    rig.pump()
    assert refusal(lambda: rig.begin(rig.engine.prepare(NEXT))) == ("clock-unconfirmed", 16)
    rig.wall_off = timedelta()
    rig.begin(rig.engine.prepare(NEXT))


# The self-test


@pytest.mark.parametrize(
    ("state", "age_us", "ok"),
    [
        (SelfTestState.PASSED, 0, True),
        (SelfTestState.PASSED, DAY_US, True),
        (SelfTestState.PASSED, DAY_US + 1, False),
        (SelfTestState.PASSED, -1, False),
        (SelfTestState.RUNNING, 0, False),
        (SelfTestState.FAILED, 0, False),
        (SelfTestState.NONE, 0, False),
    ],
)
def test_a_start_needs_a_self_test_of_the_last_24_hours(
    rig: Rig, state: SelfTestState, age_us: int, ok: bool
) -> None:
    prepared = rig.engine.prepare(ORDER)
    rig.hear(rig.guard.snapshot()._replace(self_test=state, self_test_age_us=age_us))
    if ok:
        rig.begin(prepared)
    else:
        assert refusal(lambda: rig.begin(prepared)) == ("self-test-missing", 16)


def test_a_self_test_that_is_not_on_disk_is_none(make: Callable[..., Rig]) -> None:
    """The guard says that it passed; the fourth proof is missing."""
    rig = make(ready=False)
    rig.engine.confirm_clock("op", rig.engine.desk.clock().time)
    assert rig.guard.snapshot().self_test == SelfTestState.PASSED
    assert refusal(lambda: rig.begin(rig.engine.prepare(ORDER))) == ("self-test-missing", 16)


def test_a_self_test_of_another_guard_is_none(rig: Rig) -> None:
    rig.engine.guard_down("gone")
    rig.engine.guard_up(GUARD_PID + 1)
    rig.pump()
    assert refusal(lambda: rig.begin(rig.engine.prepare(ORDER))) == ("self-test-missing", 16)
    rig.engine.self_test()
    rig.pump()
    rig.begin(rig.engine.prepare(ORDER))


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_self_test_with_a_proof_missing_has_failed(rig: Rig, missing: int) -> None:
    proofs = [1, 1, 1]
    proofs[missing] = 0
    rig.guard.proofs = tuple(proofs)  # type: ignore[assignment]
    ask = rig.engine.self_test()
    rig.pump()
    assert ask.done()
    assert not rig.engine.self_tests.passed
    assert rig.codes[-1] == "self-test-failed"
    passed = ledger.passed_self_test(rig.journal, GUARD_PID, Life("F0000001", 1), "boot-1")
    assert passed is None


def test_a_self_test_is_not_run_in_a_session_nor_twice_at_once(rig: Rig) -> None:
    ask = rig.engine.self_test()
    assert refusal(rig.engine.self_test) == ("self-test-running", 1)
    assert not ask.done()
    rig.pump()
    assert ask.done()
    rig.start()
    assert refusal(rig.engine.self_test) == ("session-open", 1)


@pytest.mark.parametrize("end", ["refused", "lost", "silent"])
def test_after_a_self_test_that_came_to_nothing_another_can_be_asked_for(
    rig: Rig, end: str
) -> None:
    rig.engine.self_test()
    if end == "refused":
        rig.guard.refuse[ipc.SelfTest] = ("no-device", "no stimulator has answered yet")
        rig.pump()
        del rig.guard.refuse[ipc.SelfTest]
    elif end == "lost":
        rig.engine.guard_down("gone")
        rig.engine.guard_up(GUARD_PID)
        rig.hear(rig.guard.snapshot())
    else:
        rig.later(14.999_999)
        assert refusal(rig.engine.self_test)[0] == "self-test-running"
        rig.later(0.000_001)
    rig.engine.self_test()


# Presence, and what the guard is told


def test_the_guard_is_told_of_the_person_the_order_and_the_ledger(rig: Rig) -> None:
    first = deliver(rig)
    rig.later(20_000)
    rig.acts.clear()
    number = rig.start(changed(ORDER, operator="xy"))
    now_us = rig.us
    plan = rig.engine.session.plan  # type: ignore[union-attr]
    assert number == first + 1
    assert rig.acts == [
        ipc.Present(now_us),
        ipc.Load(
            session_no=number, protocol="ctbs600", mt_permille=500, pct_mt=80, reduced=0,
            plan_hash=plan.hash, first_pulse=0, by_emg=1, soft_accepted=1, day_pulses=600,
            week_pulses=600, count_low=600, count_high=600,
        ),
        ipc.Run(number, plan.hash, now_us),
    ]  # fmt: skip


def test_an_unknown_block_widens_what_the_counter_may_show(rig: Rig) -> None:
    rig.start()
    rig.pump()
    rig.play(5)
    rig.engine.guard_down("broken")
    rig.guard._halt("gone")
    rig.guard._unrecorded.clear()  # nobody will ever tell
    rig.engine.guard_up(GUARD_PID)
    rig.pump()
    rig.acts.clear()
    rig.start(NEXT)
    [load] = [act for act in rig.acts if isinstance(act, ipc.Load)]
    assert (load.count_low, load.count_high) == (0, 30)
    assert (load.day_pulses, load.week_pulses) == (0, 0)  # another patient


def test_a_resume_is_a_confirmation_of_its_own_and_a_sign_of_presence(rig: Rig) -> None:
    number = rig.start()
    rig.pump()
    rig.engine.pause()
    rig.pump()
    rig.later(1_000)
    rig.acts.clear()
    rig.engine.resume(STATION)
    plan_hash = rig.engine.session.plan.hash  # type: ignore[union-attr]
    assert rig.acts == [ipc.Present(rig.us), ipc.Run(number, plan_hash, rig.us)]


def test_only_the_station_of_an_open_session_can_show_to_be_there(rig: Rig) -> None:
    assert refusal(lambda: rig.engine.present(STATION)) == ("no-session", 1)
    rig.start()
    rig.pump()
    rig.later(5)
    assert refusal(lambda: rig.engine.present(OTHER)) == ("not-station", 1)
    rig.acts.clear()
    rig.engine.present(STATION)
    assert rig.acts == [ipc.Present(rig.us)]
    rig.pump()
    status = rig.status().session
    assert status is not None
    assert status.presence_s == 0.0
    rig.engine.station_gone(STATION)
    rig.pump()
    assert refusal(lambda: rig.engine.present(STATION)) == ("not-station", 1)
    rig.engine.resume(OTHER)
    rig.engine.present(OTHER)
    rig.engine.stop()
    with pytest.raises(RefusedError, match="session 1 is stopped") as caught:
        rig.engine.present(OTHER)
    assert caught.value.refusal.code == "no-session"


# The ledger's desk


def test_a_person_resolves_a_block_of_a_session_that_has_ended(rig: Rig) -> None:
    number = rig.start()
    rig.pump()
    rig.play(5)
    [block] = rig.engine.desk.unresolved()
    resolve = rig.engine.resolve
    assert refusal(lambda: resolve(number, block.block, 5, "dr", "seen")) == ("block-running", 1)
    rig.guard.outcome = 2
    rig.engine.stop()
    rig.pump()
    assert rig.journal.totals(number).unknown == 30
    [block] = rig.engine.desk.unresolved()
    assert (block.session, block.pulses, block.confirmed, block.suggests) == (number, 30, 0, 5)
    assert block.why == "unloaded"
    for wrong, code in [
        ((number + 1, block.block, 5, "dr", "seen"), "block-unknown"),
        ((number, block.block + 1, 5, "dr", "seen"), "block-unknown"),
        ((number, block.block, 31, "dr", "seen"), "delivered-range"),
        ((number, block.block, 5, "d r", "seen"), "operator-id"),
        ((number, block.block, 5, "dr", " "), "reason-wrong"),
    ]:
        assert refusal(lambda w=wrong: resolve(*w)) == (code, 1)
    resolve(number, block.block, 5, "dr", "the counter")
    assert refusal(lambda: resolve(number, block.block, 5, "dr", "x")) == ("block-resolved", 1)
    assert rig.engine.desk.unresolved() == []
    assert rig.engine.desk.history("P1").day_pulses == 5
    session = rig.status().session
    assert session is not None
    assert (session.delivered, session.unknown) == (0, 0)
    assert rig.codes[-1] == "resolved"


def test_a_sure_outcome_is_not_resolved(rig: Rig) -> None:
    number = deliver(rig)
    assert refusal(lambda: rig.engine.resolve(number, 1, 5, "dr", "x")) == ("block-sure", 1)


def test_a_counter_that_disagrees_is_accepted_by_a_person(rig: Rig) -> None:
    deliver(rig)
    rig.guard.fired[0] += 3
    rig.hear(rig.guard.snapshot())
    counter = rig.engine.desk.counter()
    assert counter is not None
    assert (counter.shown, counter.expected, counter.agrees) == (603, (600, 600), False)
    accept = rig.engine.accept_counter
    assert refusal(lambda: accept("F0000002", "dr", "by hand")) == ("serial-wrong", 1)
    assert refusal(lambda: accept("F0000001", "dr", "")) == ("reason-wrong", 1)
    assert refusal(lambda: accept("F0000001", "", "by hand")) == ("operator-id", 1)
    assert accept("F0000001", "dr", "by hand").agrees
    rig.start(NEXT)
    rig.pump()
    assert refusal(lambda: accept("F0000001", "dr", "by hand")) == ("session-open", 1)
    rig.engine.stop()
    rig.pump()
    rig.guard.connected = False
    rig.hear(rig.guard.snapshot())
    assert refusal(lambda: accept("F0000001", "dr", "by hand")) == ("device-unreachable", 2)
    assert rig.engine.desk.counter() is None


@pytest.mark.parametrize(("off", "pauses"), [(-1, True), (0, False), (30, False), (31, True)])
def test_after_every_block_the_counter_is_compared_with_the_ledger(
    rig: Rig, off: int, pauses: bool
) -> None:
    """30 pulses of the next block may be under way."""
    number = rig.start()
    rig.pump()
    [want] = [act for act in rig.acts if isinstance(act, ipc.Grant)]
    rig.hear(ipc.Want(number, want.block_id + 1, 30, 30, 0))
    rig.acts.clear()
    rig.hear(ipc.BlockOutcome(number, want.block_id, 0, 30, 30, 0, 0, 30 + off, "done"))
    assert (ipc.Pause(number) in rig.acts) == pauses
    assert ("counter-disagrees" in rig.codes) == pauses


# A look at the rules


def test_every_rule_that_the_guard_tells_is_collected_until_the_next_snapshot(rig: Rig) -> None:
    ask, first = rig.engine.inspect()
    _, second = rig.engine.inspect()  # two look at once
    rig.hear(rig.guard.snapshot())
    assert not ask.done()  # a snapshot from before
    rig.pump()
    assert ask.done()
    assert set(first.found) == set(second.found) == {
        ("watch", "coil-hot"), ("watch", "presence-lost"),
    }  # fmt: skip
    rig.engine.forget(first)
    rig.engine.forget(second)
