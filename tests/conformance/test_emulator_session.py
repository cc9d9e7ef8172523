"""Session, beats and the many ways in which the emulated device ends by itself."""

from __future__ import annotations

import itertools
import struct

import pytest
from emulator_host import FAR, NONCE, Host

from firmware_protocol.crc import crc32
from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.framing import frame
from firmware_protocol.tmslink.link import Answered, Link


def test_a_device_is_silent_before_any_hello() -> None:
    host = Host()
    host.give(m.STOP_BYTES)
    host.give(Link().tell(m.Disarm()))
    host.device.run_to(host.now + 10_000_000)
    assert host.device.take_output() == b""


def test_hello_is_answered_by_identity_limits_and_status_in_a_new_session() -> None:
    host = Host(serial="TR000009", boot_count=4)
    host.hello()
    identity, limits, status = host.events
    assert (identity.nonce, identity.serial, identity.boot_count) == (NONCE, "TR000009", 4)
    assert limits == m.Limits(100, 10_000, 1_000, 120_000_000, 410, 200)
    assert (status.state, status.cause, status.echo_host_us) == (
        m.State.IDLE,
        m.Cause.NONE,
        host.now,
    )
    first = host.link.session
    host.hello()
    assert host.link.session not in (0, first)


def test_a_host_of_another_version_still_learns_the_version_of_the_device() -> None:
    host = Host(protocol=9)
    host.hello()
    assert host.all(m.Identity)[0].protocol == 9


def test_hello_disarms_and_ends_the_lease_in_the_old_session() -> None:
    host = Host().armed()
    host.ask(host.train())
    host.live(130_000)
    fired = len(host.pulses_at())
    old = host.link
    host.link = Link()
    data = host.link.hello(m.Hello(m.PROTOCOL_VERSION, NONCE, host.now), NONCE)
    host.device.receive(data, host.now)
    out = host.device.take_output()
    (ended,) = [e for e in old.receive(out, host.now) if isinstance(e, m.LeaseEnd)]
    assert (ended.fired, ended.cause) == (fired, m.Cause.NEW_SESSION)
    host.events += host.link.receive(out, host.now)
    assert (host.state, host.cause) == (m.State.IDLE, m.Cause.NEW_SESSION)


def test_status_comes_every_20_ms() -> None:
    host = Host()
    host.hello()
    host.live(200_000)
    times = [status.device_time_us for status in host.all(m.Status)]
    assert {b - a for a, b in itertools.pairwise(times)} == {20_000}


def test_49_999_us_without_a_beat_are_survived() -> None:
    host = Host().armed()
    host.wait(49_999)
    assert host.device.machine.state is m.State.READY
    host.beat()
    host.wait(49_999)
    assert host.device.machine.state is m.State.READY


def test_50_000_us_without_a_beat_disarm_and_latch() -> None:
    host = Host().armed()
    host.wait(50_000)
    assert (host.state, host.cause) == (m.State.LATCHED, m.Cause.DEAD_MAN)
    assert host.all(m.Fault)[-1].cause == m.Cause.DEAD_MAN
    assert host.truth("dead_man")[-1]["t_us"] == host.now


def test_a_beat_that_arrives_with_the_dead_man_is_too_late() -> None:
    host = Host().armed()
    host.now += 50_000
    host.beat()
    assert host.state is m.State.LATCHED


def test_the_dead_man_runs_from_hello_on_though_nothing_is_armed() -> None:
    host = Host()
    host.hello()
    host.wait(49_999)
    assert host.device.machine.state is m.State.IDLE
    host.wait(1)
    assert host.device.machine.state is m.State.LATCHED


def test_commands_do_not_feed_the_dead_man() -> None:
    host = Host().armed()
    host.wait(40_000)
    host.ask(m.Tighten(100, 10_000, 1_000, 120_000_000, 410))
    host.wait(10_000)
    assert host.cause is m.Cause.DEAD_MAN


@pytest.mark.parametrize(
    ("age_us", "lives"), [(0, True), (40_000, True), (40_001, False), (-1, False)]
)
def test_a_beat_feeds_only_with_an_echo_of_at_most_40_ms_and_not_from_the_future(
    age_us: int, lives: bool
) -> None:
    host = Host().armed()
    host.wait(45_000)
    host.beat(age_us=age_us)
    host.wait(5_000)
    assert (host.device.machine.state is m.State.READY) == lives


def test_a_beat_whose_cycle_does_not_rise_does_not_feed() -> None:
    host = Host().armed()
    host.wait(45_000)
    host.cycle -= 1
    host.beat()
    host.wait(5_000)
    assert host.state is m.State.LATCHED
    assert host.device.counters.beats_refused == 1


def test_a_replayed_frame_changes_nothing() -> None:
    host = Host()
    host.hello()
    _, arm = host.link.ask(m.Arm(60, 1), FAR)
    host.give(arm)
    host.beat()
    assert host.ask(m.Disarm()) is m.Result.APPLIED
    answers = len(host.events)
    host.give(arm)
    assert host.state is m.State.IDLE
    assert len(host.events) == answers
    assert host.device.counters.stale == 1


def test_a_frame_of_an_older_session_changes_nothing() -> None:
    host = Host()
    host.hello()
    for _ in range(3):
        host.beat()
    _, arm = host.link.ask(m.Arm(60, 1), FAR)
    host.hello()
    host.give(arm)
    assert host.state is m.State.IDLE
    assert host.device.counters.foreign == 1


def test_a_frame_for_a_device_of_another_serial_number_changes_nothing() -> None:
    host, other = Host(serial="A"), Host(serial="B")
    host.hello()
    other.hello()
    other.link.session = host.link.session
    _, arm = other.link.ask(m.Arm(60, 1), FAR)
    host.give(arm)
    assert host.state is m.State.IDLE
    assert host.device.line.counters.bad_crc == 1


def test_every_single_spoilt_bit_of_a_command_is_noticed() -> None:
    host = Host()
    host.hello()
    _, arm = host.link.ask(m.Arm(60, 1), FAR)
    for bit in range(len(arm) * 8):
        spoilt = bytearray(arm)
        spoilt[bit // 8] ^= 1 << bit % 8
        host.device.receive(bytes(spoilt) + m.DELIMITER, host.now)
        only_a_delimiter = bit < 8 or bit >= (len(arm) - 1) * 8
        assert host.device.machine.state is m.State.IDLE or only_a_delimiter


def test_the_next_good_frame_is_read_after_any_garbage() -> None:
    host = Host()
    host.hello()
    noise = host.device.faults.rng.randbytes(500).replace(b"\x18", b"\x19")
    host.give(noise + host.link.ask(m.Arm(60, 1), FAR)[1])
    assert host.state is m.State.ARMING


def test_a_run_of_7_stop_bytes_does_nothing_and_of_8_stops() -> None:
    host = Host().armed()
    host.give(b"\x18" * 7)
    host.give(b"\x55" + b"\x18" * 7)
    assert host.state is m.State.READY
    host.give(b"\x18")
    assert (host.state, host.cause) == (m.State.LATCHED, m.Cause.HOST_STOP)
    assert host.truth("stop")[0]["t_us"] == host.now
    assert host.all(m.Fault) == []


@pytest.mark.parametrize("before", [b"", b"\0", b"\x05garbage", b"\0\x40half a frame"])
def test_stop_bytes_stop_wherever_they_stand(before: bytes) -> None:
    host = Host().armed()
    host.give(before + b"\x18" * 8 + b"more")
    assert host.cause is m.Cause.HOST_STOP


def test_stop_before_any_hello_latches_until_the_hello() -> None:
    host = Host()
    host.give(m.STOP_BYTES)
    assert host.device.machine.state is m.State.LATCHED
    host.hello()
    assert host.state is m.State.IDLE


def test_a_stop_behind_a_hello_in_the_same_bytes_still_stops() -> None:
    host = Host()
    hello = host.link.hello(m.Hello(m.PROTOCOL_VERSION, NONCE, 1), NONCE)
    host.give(hello + m.STOP_BYTES)
    assert host.state is m.State.LATCHED


def test_a_framed_stop_is_obeyed_in_any_session_and_with_any_sequence() -> None:
    host = Host().armed()
    host.give(Link().tell(m.Stop()))
    assert (host.state, host.cause) == (m.State.LATCHED, m.Cause.HOST_STOP)


def test_a_latched_device_refuses_all_but_hello_and_goes_on_telling_its_status() -> None:
    host = Host().armed()
    host.give(m.STOP_BYTES)
    for command in (
        m.Arm(60, 1), m.Disarm(), host.train(mso_pct=60), host.fire(mso_pct=60),
        m.Tighten(90, 10_000, 1_000, 120_000_000, 410),
    ):  # fmt: skip
        assert host.ask(command) is m.Result.WRONG_STATE
    seen = len(host.all(m.Status))
    host.live(1_000_000)
    assert len(host.all(m.Status)) == seen + 50
    assert host.state is m.State.LATCHED
    host.hello()
    assert host.state is m.State.IDLE
    assert host.ask(m.Arm(60, 1)) is m.Result.APPLIED


def test_the_first_cause_of_a_latch_is_kept() -> None:
    host = Host().armed()
    host.wait(50_000)
    host.give(m.STOP_BYTES)
    host.wait(20_000)
    assert host.cause is m.Cause.DEAD_MAN


def test_limits_can_be_narrowed_and_never_widened() -> None:
    host = Host()
    host.hello()
    assert host.ask(m.Tighten(80, 20_000, 500, 5_000_000, 400)) is m.Result.APPLIED
    narrow = m.Limits(80, 20_000, 500, 5_000_000, 400, 200)
    assert host.all(m.Limits)[-1] == narrow
    for looser in (
        (81, 20_000, 500, 5_000_000, 400),
        (80, 19_999, 500, 5_000_000, 400),
        (80, 20_000, 501, 5_000_000, 400),
        (80, 20_000, 500, 5_000_001, 400),
        (80, 20_000, 500, 5_000_000, 401),
        (70, 20_000, 500, 5_000_000, 401),
    ):
        assert host.ask(m.Tighten(*looser)) is m.Result.LOOSENS_LIMIT
    host.hello()
    assert host.all(m.Limits)[-1] == narrow
    assert host.ask(m.Arm(81, 1)) is m.Result.ABOVE_LIMIT
    assert host.ask(m.Arm(80, 1)) is m.Result.APPLIED


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_how_the_bytes_are_cut_makes_no_difference(chunk: int) -> None:
    host = Host()
    data = host.link.hello(m.Hello(m.PROTOCOL_VERSION, NONCE, 1), NONCE)
    for at in range(0, len(data), chunk):
        host.give(data[at : at + chunk])
    _, arm = host.link.ask(m.Arm(60, 1), FAR)
    for at in range(0, len(arm), chunk):
        host.give(arm[at : at + chunk])
    assert host.state is m.State.ARMING


def test_a_value_out_of_its_range_is_answered_bad_value() -> None:
    host = Host()
    host.hello()
    sequence, _ = host.link.ask(m.Arm(100, 1), FAR)
    content = struct.pack("<BIIBH", 0x03, host.link.session, sequence, 101, 1)
    seed = crc32(host.settings.serial.encode().ljust(8, b"\0"))
    host.give(frame(content + struct.pack("<I", crc32(content, seed))))
    assert host.events[-1] == Answered(sequence, m.Result.BAD_VALUE)
    assert host.state is m.State.IDLE


@pytest.mark.parametrize("spoken", [m.PROTOCOL_VERSION, m.PROTOCOL_VERSION + 1])
def test_a_host_of_another_version_can_disarm_and_stop_but_nothing_else(spoken: int) -> None:
    host = Host(protocol=spoken)
    host.hello()
    host.beat()
    mine = spoken == m.PROTOCOL_VERSION
    wanted = m.Result.APPLIED if mine else m.Result.WRONG_VERSION
    assert host.ask(m.Tighten(80, 10_000, 1_000, 120_000_000, 410)) is wanted
    assert host.ask(m.Arm(40, 1)) is wanted
    assert host.ask(m.Disarm()) is m.Result.APPLIED
    assert host.ask(m.Stop()) is m.Result.APPLIED
    assert host.state is m.State.LATCHED
