"""A-12: what arming needs. Each condition removed singly is refused under its own code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drivers.contract import SINGLE, LinkDown
from firmware_protocol.quantities import MS, SECOND
from sim_device.faults import Rule
from tests.world.rig import Rig, compiled
from tmsctl.ipc import messages as ipc
from tmsctl.safety.limits import GENERAL

HOUR_US = 3_600 * SECOND


def ready(seed: int = 0) -> Rig:
    """All that arming needs, but for the confirmation."""
    rig = Rig(seed)
    rig.self_test()
    rig.load(compiled("ctbs600"))
    rig.run(50 * MS)
    return rig


def refusals(rig: Rig) -> list[str]:
    return [message.code for message in rig.service.told if isinstance(message, ipc.Refused)]


def ask(rig: Rig, plan_hash: str | None = None, ago_us: int = 0) -> None:
    rig.service.say(ipc.Run(1, plan_hash or rig.plan.hash, rig.now - ago_us))
    rig.run(100 * MS)


def test_with_every_condition_met_the_device_is_armed() -> None:
    rig = ready()
    ask(rig, ago_us=GENERAL.confirm_age_max_us - 20 * MS)
    assert refusals(rig) == []
    assert rig.guard.energised


def test_a_confirmation_of_another_plan_is_refused() -> None:
    rig = ready()
    ask(rig, plan_hash="0" * 64)
    assert refusals(rig) == ["not-confirmed"]
    assert not rig.guard.energised


@pytest.mark.parametrize("ago_us", [GENERAL.confirm_age_max_us + 1, -SECOND])
def test_a_confirmation_that_is_old_or_from_the_future_is_refused(ago_us: int) -> None:
    rig = ready()
    ask(rig, ago_us=ago_us)
    assert refusals(rig) == ["confirmation-old"]


def test_without_a_self_test_nothing_is_armed() -> None:
    rig = Rig()
    rig.run_until(lambda: rig.guard.device.status is not None, 2 * SECOND)
    rig.load(compiled("ctbs600"))
    ask(rig)
    assert refusals(rig) == ["self-test"]


def test_another_life_of_the_device_needs_another_self_test() -> None:
    rig = ready()
    rig.firmware.faults.add(Rule("reboot"))
    rig.run(2 * SECOND)
    ask(rig)
    assert refusals(rig) == ["self-test"]
    assert rig.guard.self_test.state is ipc.SelfTestState.NONE


def test_the_self_test_of_yesterday_does_not_count() -> None:
    rig = ready()
    passed_at = rig.guard.self_test.passed_at
    assert passed_at is not None
    rig.guard.self_test._passed_at = rig.now - GENERAL.self_test_age_max_us - 1  # type: ignore[assignment]
    ask(rig)
    assert refusals(rig) == ["self-test"]


def test_without_a_sign_of_an_operator_nothing_is_armed() -> None:
    rig = Rig()
    rig.service.present = False
    rig.self_test()
    rig.load(compiled("ctbs600"))
    ask(rig)
    assert refusals(rig) == ["presence-lost"]


def test_a_sign_from_the_future_is_none() -> None:
    rig = Rig()
    rig.service.present = False
    rig.self_test()
    rig.load(compiled("ctbs600"))
    rig.service.say(ipc.Present(rig.now + 10 * SECOND))
    ask(rig)
    assert refusals(rig) == ["presence-lost"]


def test_a_stale_status_is_refused() -> None:
    rig = ready()
    rig.to_host.cut = True
    rig.run(100 * MS)
    ask(rig)
    assert refusals(rig)[0] == "status-age"


def test_a_latched_guard_is_not_armed() -> None:
    rig = ready()
    rig.stop()
    ask(rig)
    assert refusals(rig) == ["latched"]


@pytest.mark.parametrize(("low", "high"), [(1, 5), (10_001, 10_002)])
def test_a_counter_that_the_ledger_does_not_explain_is_refused(low: int, high: int) -> None:
    rig = Rig(settings=Rig().settings.__class__(pulse_count=10_000))
    rig.self_test()
    rig.load(compiled("ctbs600"))
    at, load = rig.service._queue.pop()
    assert isinstance(load, ipc.Load)
    rig.service.say(load._replace(count_low=low, count_high=high), at)
    rig.run(50 * MS)
    ask(rig)
    assert refusals(rig) == ["ledger-counter"]


def test_a_counter_within_what_unknown_outcomes_explain_is_allowed() -> None:
    rig = Rig(settings=Rig().settings.__class__(pulse_count=10_000))
    rig.self_test()
    rig.load(compiled("ctbs600"))
    at, load = rig.service._queue.pop()
    assert isinstance(load, ipc.Load)
    rig.service.say(load._replace(count_low=9_400, count_high=10_000), at)
    rig.run(50 * MS)
    ask(rig)
    assert refusals(rig) == []


def test_a_soft_limit_that_nobody_accepted_refuses_the_plan() -> None:
    rig = Rig()
    rig.self_test()
    rig.load(compiled("ctbs600"))
    at, load = rig.service._queue.pop()
    assert isinstance(load, ipc.Load)
    rig.service.say(load._replace(soft_accepted=0), at)
    rig.run(50 * MS)
    assert refusals(rig) == ["not-reviewed"]
    assert rig.guard.play is None


@pytest.mark.parametrize(
    ("field", "code"), [("day_pulses", "day-pulses"), ("week_pulses", "week-pulses")]
)
def test_the_guard_itself_keeps_the_caps_of_day_and_week(field: str, code: str) -> None:
    rig = Rig()
    rig.self_test()
    rig.load(compiled("ctbs600"))
    at, load = rig.service._queue.pop()
    assert isinstance(load, ipc.Load)
    rig.service.say(load._replace(**{field: 100_000}), at)
    ask(rig)
    rig.run(2 * SECOND)
    assert rig.is_safe
    assert rig.service.codes()[-1] == code
    assert not rig.pulses


# -- while pulses leave ------------------------------------------------------------------------


def running(protocol: str = "itbs600") -> Rig:
    rig = Rig()
    rig.start(compiled(protocol))
    return rig


def test_when_the_operator_is_gone_the_session_pauses_within_the_minute_and_goes_on_with_him() -> (
    None
):
    rig = running()
    rig.service.present = False
    left_at = rig.guard.presence_at
    assert left_at is not None
    rig.run_until(lambda: not rig.guard.energised, 61 * SECOND)
    assert rig.now - left_at <= GENERAL.presence_age_max_us + 20 * MS
    assert "presence-lost" in rig.service.codes()
    assert not rig.is_safe
    before = len(rig.pulses)
    rig.service.present = True
    rig.run(1 * SECOND)
    rig.ask_to_run()
    rig.run_until(lambda: len(rig.pulses) > before, 20 * SECOND)


def test_a_ledger_that_fails_is_safe_within_a_cycle() -> None:
    rig = running("ctbs600")
    rig.service.say(ipc.Fail("journal-failed", "disk full"))
    failed_at = rig.now
    rig.cycle()
    assert rig.is_safe
    assert rig.service.codes()[-1] == "journal-failed"
    rig.run(1 * SECOND)
    assert rig.last_pulse_at() <= failed_at + 20 * MS
    rig.acknowledge()  # the disk is as it was
    rig.run(100 * MS)
    assert rig.is_safe
    rig.service.connected = False  # tmsd is started anew
    rig.run(100 * MS)
    rig.service.connected = True
    rig.acknowledge()
    rig.run(100 * MS)
    assert not rig.is_safe


def damage_a_frame(rig: Rig) -> None:
    """The next frame of the device arrives with one wrong bit."""
    send = rig.to_host.send

    def spoilt(data: bytes, now_us: int) -> None:
        rig.to_host.send = send  # type: ignore[method-assign]
        send(data[:5] + bytes((data[5] ^ 0x40,)) + data[6:], now_us)

    rig.to_host.send = spoilt  # type: ignore[method-assign]
    rig.run_until(lambda: rig.guard.device.link_watch.doubt, 1 * SECOND)


@pytest.mark.parametrize(
    ("later_us", "safe"), [(HOUR_US - SECOND, True), (HOUR_US + SECOND, False)]
)
def test_one_damaged_frame_within_an_hour_is_tolerated_and_the_second_stops(
    later_us: int, safe: bool
) -> None:
    rig = running("ctbs600")
    damage_a_frame(rig)
    rig.run(200 * MS)
    assert rig.guard.energised
    assert not rig.guard.device.link_watch.doubt
    errors = rig.guard.device.link_watch._errors
    errors[-1] = errors[-1] - later_us  # type: ignore[assignment]  # as if so long ago
    damage_a_frame(rig)
    rig.run(50 * MS)
    assert rig.is_safe is safe


def test_a_coil_that_is_swapped_stops_the_session() -> None:
    rig = running("ctbs600")
    rig.firmware.machine.unit.coil_type = 2
    rig.run(50 * MS)
    assert rig.is_safe
    assert "coil-changed" in rig.service.codes()


def test_a_sensor_that_jumps_stops_the_session() -> None:
    rig = running("ctbs600")
    rig.firmware.faults.add(Rule("coil_hot", value=350, at_us=0))
    rig.run(100 * MS)
    assert rig.is_safe
    assert "coil-sensor" in rig.service.codes()


# -- the self-test -----------------------------------------------------------------------------


def outcome_of(rig: Rig) -> ipc.SelfTested:
    rig.run_until(lambda: any(isinstance(m, ipc.SelfTested) for m in rig.service.told), 5 * SECOND)
    return next(m for m in rig.service.told if isinstance(m, ipc.SelfTested))


def test_the_self_test_proves_three_barriers_without_a_pulse() -> None:
    rig = Rig()
    rig.self_test()
    result = outcome_of(rig)
    assert (result.dead_man, result.stop, result.bad_frame) == (1, 1, 1)
    assert not rig.pulses
    arms = [line for line in rig.truth if line["event"] == "arm"]
    assert [line["mso"] for line in arms] == [1, 1]
    assert [line["event"] for line in rig.truth].count("dead_man") == 1


def no_dead_man(rig: Rig) -> None:
    session = rig.firmware.session
    watch = session.watch

    def fed_by_itself() -> None:
        session._fed_at = session.machine.now
        watch()

    session.watch = fed_by_itself  # type: ignore[method-assign]


def deaf_to_stop(rig: Rig) -> None:
    rig.firmware.machine.stop = lambda: None  # type: ignore[method-assign]


def never_arms(rig: Rig) -> None:
    rig.firmware.faults.add(Rule("refuse_arm", at_us=0))


def without_checksum(rig: Rig) -> None:
    def arms(now: int) -> None:
        rig.driver.arm(compiled("ctbs600").mso, SINGLE, rig.now)

    rig.driver.probe_bad_frame = arms  # type: ignore[method-assign,assignment]


def falls_silent(rig: Rig) -> None:
    """With the damaged frame: that it then shows nothing wrong proves nothing."""

    def silenced(now: int) -> None:
        rig.driver.poll = lambda now: []  # type: ignore[method-assign]

    rig.driver.probe_bad_frame = silenced  # type: ignore[method-assign,assignment]


def is_lost(rig: Rig) -> None:
    """The same, and the driver has noticed; it is back at once."""

    def lost(now: int) -> None:
        rig.guard.device.note(LinkDown("port-missing: unplugged"), None, rig.now)

    rig.driver.probe_bad_frame = lost  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize(
    ("defect", "barrier"),
    [
        (no_dead_man, "dead_man"),
        (never_arms, "dead_man"),
        (deaf_to_stop, "stop"),
        (without_checksum, "bad_frame"),
        (falls_silent, "bad_frame"),
        (is_lost, "bad_frame"),
    ],
)
def test_a_barrier_that_is_missing_fails_the_self_test(
    defect: Callable[[Rig], None], barrier: str
) -> None:
    rig = Rig()
    rig.run_until(lambda: rig.guard.device.status is not None, 2 * SECOND)
    defect(rig)
    rig.service.say(ipc.SelfTest())
    result = outcome_of(rig)
    assert getattr(result, barrier) == 0, result
    assert rig.guard.self_test.passed_at is None
    assert rig.guard.self_test.state is ipc.SelfTestState.FAILED


@pytest.mark.parametrize("at_ms", range(20, 280, 30))
def test_stop_ends_a_self_test_at_any_instant(at_ms: int) -> None:
    rig = Rig()
    rig.run_until(lambda: rig.guard.device.status is not None, 2 * SECOND)
    rig.service.say(ipc.SelfTest())
    rig.run(at_ms * MS)
    if not rig.guard.self_test.running:
        pytest.fail("the self-test is over before the STOP: choose an earlier instant")
    rig.stop()
    rig.run(200 * MS)
    assert rig.is_safe
    assert not rig.guard.energised
    assert rig.guard.self_test.passed_at is None


def test_no_self_test_beside_a_session_and_no_session_beside_a_self_test() -> None:
    rig = ready()
    rig.service.say(ipc.SelfTest())
    rig.run(20 * MS)
    assert refusals(rig) == ["wrong-state"]
    other = Rig()
    other.run_until(lambda: other.guard.device.status is not None, 2 * SECOND)
    other.service.say(ipc.SelfTest())
    other.run(50 * MS)
    other.load(compiled("ctbs600"))
    other.run(20 * MS)
    assert refusals(other) == ["wrong-state"]


def test_every_interlock_can_be_read_with_its_value_and_limit() -> None:
    rig = running("ctbs600")
    rig.service.say(ipc.ReadInterlocks())
    rig.run(50 * MS)
    read = {m.code: m for m in rig.service.told if isinstance(m, ipc.Interlock)}
    assert read["coil-hot"].limit == GENERAL.coil_max_dc
    assert 200 <= read["coil-hot"].value < 410
    assert read["coil-hot"].says == ""
    assert {m.table for m in read.values()} >= {"watch", "arm"}


def test_a_guard_that_follows_another_waits_out_the_minute_that_it_cannot_know() -> None:
    rig = Rig()
    rig.guard.all_sent_since = rig.now
    began_at = rig.now
    rig.self_test()
    rig.load(compiled("ctbs600"))
    rig.ask_to_run()
    rig.run(30 * SECOND)
    play = rig.guard.play
    assert play is not None
    assert play.waiting.startswith("minute-unknown:")
    rig.service.say(ipc.Pause(1))  # armed for a minute without a pulse it would disarm
    rig.run(1 * SECOND)
    rig.ask_to_run()
    rig.run_until(lambda: bool(rig.pulses), 40 * SECOND)
    assert began_at + 60 * SECOND <= rig.last_pulse_at() < began_at + 61 * SECOND
