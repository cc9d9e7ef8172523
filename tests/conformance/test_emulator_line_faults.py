"""What each fault does to the frames of either way, and that the other side survives it."""

from __future__ import annotations

import pytest
from emulator_host import Host

from firmware_protocol.tmslink import messages as m
from sim_device.fault_kinds import FRAME_KINDS, RX, Value
from sim_device.faults import Rule
from sim_device.wire_faults import Tmslink

cut = Tmslink(0).cut

SECOND = 1_000_000
AT, FOR = 100_000, 200_000  # of a fault, in device time since the start


def ran(*rules: Rule) -> Host:
    """Half a second of a disarmed session, beats every 10 ms."""
    host = Host(*rules)
    host.hello()
    host.live(500_000)
    return host


def counted(host: Host, kind: str) -> int:
    return host.device.faults.counts[kind]


def status_at(host: Host) -> list[int]:
    """When each STATUS was made, in the order in which they were taken."""
    return [status.device_time_us - SECOND for status in host.all(m.Status)]


# -- to the host -----------------------------------------------------------------------------


def test_a_silent_line_gives_nothing_and_comes_back() -> None:
    host = ran(Rule("silent", at_us=AT, for_us=FOR))
    assert [at for at in status_at(host) if AT <= at < AT + FOR] == []
    assert host.link.counters.lost == counted(host, "silent") >= 10
    assert status_at(host)[-1] > 470_000


def test_a_dropped_frame_is_missing_once() -> None:
    host = ran(Rule("drop_frame", at_us=AT))
    assert host.link.counters.lost == counted(host, "drop_frame") == 1


@pytest.mark.parametrize("kind", ["drop_byte", "bit_flip", "bad_crc"])
def test_a_spoilt_frame_is_noticed_and_not_taken(kind: str) -> None:
    host = ran(Rule(kind, at_us=AT, times=5))
    counters = host.link.counters
    assert counted(host, kind) == 5
    assert counters.lost == 5
    assert 1 <= counters.bad_crc + counters.garbage <= 10
    if kind == "bad_crc":
        assert (counters.bad_crc, counters.garbage) == (5, 0)


def test_at_a_wrong_baud_rate_nothing_is_understood() -> None:
    host = ran(Rule("wrong_baud", at_us=AT, for_us=FOR))
    assert [at for at in status_at(host) if AT <= at < AT + FOR] == []
    assert host.link.counters.garbage + host.link.counters.bad_crc > 0
    assert status_at(host)[-1] > 470_000


@pytest.mark.parametrize("kind", ["late", "jitter"])
def test_late_frames_keep_their_order_and_all_come(kind: str) -> None:
    host = Host(Rule(kind, 30, at_us=AT, for_us=FOR))
    host.hello()
    delays = set()
    while host.now < SECOND + AT + FOR:
        seen = len(host.all(m.Status))
        host.live(1_000)
        delays |= {host.now - s.device_time_us for s in host.all(m.Status)[seen:]}
    assert max(delays) in (30_000, 31_000) or kind == "jitter"
    assert max(delays) <= 31_000
    between = [delay for delay in delays if 1_000 < delay < 30_000]
    assert bool(between) == (kind == "jitter")
    host.live(200_000)
    assert status_at(host) == sorted(status_at(host))
    assert (host.link.counters.lost, host.link.counters.stale) == (0, 0)


def test_a_split_frame_comes_in_two_parts_and_is_taken() -> None:
    host = Host(Rule("split", 4, at_us=AT))
    host.hello()
    host.live(AT - 1)
    host.taken.clear()
    for _ in range(10):
        host.live(1_000)
    (first, head), (second, tail), *_ = host.taken
    assert second - first == 4_000
    assert len(cut(head + tail)) == 1
    assert len(cut(head)) == len(cut(tail)) == 1
    assert host.link.counters.lost == host.link.counters.garbage == 0
    assert counted(host, "split") == 1


def test_splitting_every_frame_delays_none_by_more_than_its_value() -> None:
    host = ran(Rule("split", 50, at_us=AT, for_us=FOR))
    assert counted(host, "split") >= 10
    assert status_at(host)[-1] > 470_000
    assert host.link.counters.lost == host.link.counters.garbage == 0


def test_merged_frames_come_together_at_even_times() -> None:
    host = Host(Rule("merge", 64, at_us=AT, for_us=FOR))
    host.hello()
    for _ in range(500):
        host.live(1_000)
    merged = [(at, data) for at, data in host.taken if at > SECOND + AT + 1 and len(cut(data)) > 1]
    assert len(merged) >= 3
    assert {at % 64_000 for at, _ in merged} == {0}
    assert host.link.counters.lost == host.link.counters.stale == 0


def test_a_frame_that_others_overtook_is_stale() -> None:
    host = ran(Rule("reorder", 30, at_us=AT))
    assert (host.link.counters.stale, host.link.counters.lost) == (1, 1)
    assert counted(host, "reorder") == 1


@pytest.mark.parametrize("kind", ["duplicate", "replay"])
def test_a_frame_that_comes_again_is_stale(kind: str) -> None:
    host = ran(Rule(kind, 2 if kind == "replay" else None, at_us=AT, times=3))
    assert host.link.counters.stale == counted(host, kind) == 3
    assert host.link.counters.lost == 0


def test_a_revolving_memory_gives_only_old_frames() -> None:
    host = ran(Rule("revolving", 5, at_us=AT))
    assert max(status_at(host)) < AT + 20_000
    assert host.link.counters.stale == counted(host, "revolving") >= 15


def test_frames_of_another_session_or_device_are_not_taken() -> None:
    host = ran(Rule("foreign_session", at_us=AT, times=3), Rule("foreign_device", at_us=AT))
    assert host.link.counters.foreign == counted(host, "foreign_session") == 3
    assert host.link.counters.bad_crc == counted(host, "foreign_device") == 1
    assert host.link.counters.lost == 0


def test_an_echo_brings_the_host_its_own_frames_and_none_is_believed() -> None:
    host = ran(Rule("echo", at_us=AT, for_us=FOR))
    assert host.link.counters.foreign == counted(host, "echo") > 15
    assert host.link.counters.lost == 0
    assert host.state is m.State.IDLE


@pytest.mark.parametrize("rule", [Rule("garbage", 500, at_us=AT), Rule("banner", at_us=AT)])
def test_what_is_no_frame_at_all_is_survived(rule: Rule) -> None:
    host = ran(rule)
    assert counted(host, rule.kind) == 1
    assert host.link.counters.garbage + host.link.counters.bad_crc > 0
    assert status_at(host)[-1] > 470_000


def test_a_banner_is_text_that_a_person_can_read() -> None:
    host = ran(Rule("banner", at_us=AT))
    assert any(b"U-Boot" in data for _, data in host.taken)


# -- to the device ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rx_silent", "rx_wrong_baud", "rx_revolving"])
def test_a_device_that_hears_nothing_new_disarms_by_its_dead_man(kind: str) -> None:
    host = Host(Rule(kind, at_us=SECOND)).armed()
    host.live(SECOND)
    assert (host.state, host.cause) == (m.State.LATCHED, m.Cause.DEAD_MAN)
    assert host.truth("dead_man")[0]["t_us"] <= 2 * SECOND + m.DEAD_MAN_US
    assert counted(host, kind) > 5


def asked_under(rule: Rule) -> tuple[Host, m.Result | None]:
    """An ARM while a fault is set for the first frame that comes from now on."""
    host = Host()
    host.hello()
    host.wait(1_000)
    host.device.faults.add_from_now(rule, host.now)
    return host, host.ask(m.Arm(60, 1))


@pytest.mark.parametrize("kind", ["rx_drop_frame", "rx_bit_flip", "rx_bad_crc"])
def test_a_command_lost_on_its_way_is_not_answered_and_not_carried_out(kind: str) -> None:
    host, result = asked_under(Rule(kind))
    assert result is None
    assert counted(host, kind) == 1
    line = host.device.line.counters
    assert line.bad_crc == 1 or kind != "rx_bad_crc"
    host.live(100_000)
    assert host.truth("arm") == []


@pytest.mark.parametrize("kind", ["rx_late", "rx_split", "rx_merge", "rx_reorder", "rx_jitter"])
def test_a_delayed_command_is_carried_out_later(kind: str) -> None:
    host, result = asked_under(Rule(kind, 8, times=1))
    assert result is None
    host.wait(8_000)
    assert host.state is m.State.ARMING
    assert counted(host, kind) == 1
    assert SECOND + 1_000 < host.truth("arm")[0]["t_us"] <= SECOND + 9_000


def test_a_command_that_a_beat_overtook_is_stale_and_changes_nothing() -> None:
    host, _ = asked_under(Rule("rx_reorder", 8))
    host.beat()
    host.wait(20_000)
    assert host.device.counters.stale == 1
    assert host.truth("arm") == []


@pytest.mark.parametrize("rule", [Rule("rx_duplicate"), Rule("rx_replay", 1, at_frame=2)])
def test_a_command_that_comes_again_is_not_carried_out_again(rule: Rule) -> None:
    host = Host().armed()
    host.device.faults.add_from_now(rule, host.now)
    host.ask(host.fire())
    host.live(300_000)
    assert len(host.pulses_at()) == 1
    assert host.device.counters.stale == counted(host, rule.kind) == 1


def test_a_frame_that_lacks_a_byte_is_not_taken_unless_the_byte_was_a_delimiter() -> None:
    host = Host(Rule("rx_drop_byte", probability=1.0))
    host.hello()
    host.live(SECOND)
    line, took = host.device.line.counters, host.device.counters
    assert line.garbage + line.bad_crc > 50
    assert took.accepted < 20


def test_frames_for_another_session_or_device_change_nothing() -> None:
    host, result = asked_under(Rule("rx_foreign_session"))
    assert result is m.Result.APPLIED
    assert host.device.counters.foreign == counted(host, "rx_foreign_session") == 1
    host, result = asked_under(Rule("rx_foreign_device"))
    assert result is m.Result.APPLIED
    assert host.device.line.counters.bad_crc == counted(host, "rx_foreign_device") == 1


def test_garbage_to_the_device_is_survived() -> None:
    host = ran(Rule("rx_garbage", 500, at_us=AT))
    assert counted(host, "rx_garbage") == 1
    assert host.device.line.counters.garbage + host.device.line.counters.bad_crc > 0
    assert host.state is m.State.IDLE


def test_a_stop_without_framing_can_be_lost_too() -> None:
    host = Host(Rule("rx_drop_frame", at_us=10 * SECOND)).armed()
    host.device.faults.add_from_now(Rule("rx_drop_frame"), host.now)
    host.give(m.STOP_BYTES)
    assert host.state is m.State.READY
    host.give(m.STOP_BYTES)
    assert host.state is m.State.LATCHED


# -- triggers --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", RX])
def test_the_nth_frame_is_counted_on_its_own_way(prefix: str) -> None:
    host = Host(Rule(f"{prefix}drop_frame", at_frame=4))
    host.hello()  # IDENTITY, LIMITS and a STATUS to the host, one frame to the device
    for number in range(2, 5):
        assert counted(host, f"{prefix}drop_frame") == (number > 4 and bool(prefix))
        host.beat()
        host.wait(1_000)
    assert counted(host, f"{prefix}drop_frame") == bool(prefix)
    host.live(20_000)
    assert counted(host, f"{prefix}drop_frame") == 1


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_probability_of_0_never_strikes_and_of_1_always(probability: float) -> None:
    host = ran(Rule("duplicate", probability=probability))
    assert counted(host, "duplicate") == (probability == 1.0) * host.device.sender._sent


def test_a_fault_that_is_over_costs_nothing_any_more() -> None:
    host = ran(Rule("late", 5, at_us=AT, for_us=50_000))
    way = host.device.sender.way
    assert not way.touched
    assert way.held == []


@pytest.mark.parametrize("prefix", ["", RX])
@pytest.mark.parametrize("name", FRAME_KINDS)
def test_the_least_and_the_greatest_value_of_each_kind_are_survived(name: str, prefix: str) -> None:
    value = FRAME_KINDS[name].value
    for bound in (value.low, value.high) if isinstance(value, Value) else (None,):
        host = Host(Rule(prefix + name, bound, probability=0.3))
        host.work(1)
        assert counted(host, prefix + name) > 0


def test_a_line_is_cut_into_frames_and_what_is_none() -> None:
    assert cut(b"\0ab\0\0c\0") == [b"\0ab\0", b"\0c\0"]
    assert cut(b"tail\0\0he") == [b"tail\0", b"\0he"]
    assert cut(m.STOP_BYTES) == [m.STOP_BYTES]
    assert cut(b"") == []
