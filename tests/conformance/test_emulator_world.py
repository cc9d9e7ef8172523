"""Virtual time: wires, clocks and the port that a driver sees."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_protocol.quantities import BootUs
from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.link import Link
from sim_device.device import DeviceClock
from sim_device.faults import Rule
from sim_device.settings import Settings
from sim_device.tmslink_firmware import Firmware
from sim_device.world import VirtualPort, Wire

BOOT = 5_000_000_000


def make_port(delay_us: int = 0, per_byte_us: int = 0, ppm: int = 0) -> VirtualPort:
    rng = random.Random(1)
    settings = Settings(drift_ppm=ppm)
    device = Firmware(settings, rng, lambda _: None)
    clock = DeviceClock(BOOT, settings.clock_us, ppm)
    to_device, to_host = Wire(rng, delay_us, per_byte_us), Wire(rng, delay_us, per_byte_us)
    return VirtualPort(device, to_device, to_host, clock, BOOT)


def hello(port: VirtualPort) -> Link:
    link = Link()
    port.write(link.hello(m.Hello(1, 7, port.now_us), 7))
    return link


def test_a_write_arrives_after_its_bytes_and_the_delay() -> None:
    wire = Wire(random.Random(1), delay_us=500, per_byte_us=87)
    wire.send(b"x" * 10, 1_000)
    assert wire.next_event_us(1_000) == 1_000 + 870 + 500
    assert wire.arrived(2_369) == b""
    assert wire.arrived(2_370) == b"x" * 10


def test_a_second_write_waits_for_the_first() -> None:
    wire = Wire(random.Random(1), per_byte_us=100)
    wire.send(b"aa", 0)
    wire.send(b"b", 0)
    assert wire.arrived(299) == b"aa"
    assert wire.arrived(300) == b"b"


def test_a_bad_wire_loses_spoils_and_doubles() -> None:
    wire = Wire(random.Random(1))
    wire.loss = 1.0
    wire.send(b"a", 0)
    wire.loss, wire.duplicate = 0.0, 1.0
    wire.send(b"b", 0)
    wire.duplicate, wire.flip = 0.0, 1.0
    wire.send(b"c", 0)
    wire.flip, wire.cut = 0.0, True
    wire.send(b"d", 0)
    got = wire.arrived(0)
    assert got[:2] == b"bb"
    assert len(got) == 3
    assert (got[2] ^ ord("c")).bit_count() == 1


def test_an_answer_comes_when_both_wires_have_carried_it() -> None:
    port = make_port(delay_us=1_000)
    link = hello(port)
    port.advance(BOOT + 1_999)
    assert port.read() == b""
    assert port.next_event_us() == BOOT + 2_000
    port.advance(BOOT + 2_000)
    identity, *_ = link.receive(port.read(), BootUs(port.now_us))
    assert identity.device_time_us == Settings().clock_us + 1_000


def test_stepping_from_event_to_event_equals_one_long_step() -> None:
    stepped, leaped = make_port(delay_us=300, ppm=77), make_port(delay_us=300, ppm=77)
    for port in (stepped, leaped):
        hello(port)
    end = BOOT + 400_000
    while (at := stepped.next_event_us()) is not None and at <= end:
        stepped.advance(at)
    stepped.advance(end)
    leaped.advance(end)
    assert stepped.read() == leaped.read()


def test_an_unplugged_port_is_an_oserror_and_the_device_sees_silence() -> None:
    port = make_port()
    hello(port)
    port.advance(BOOT + 1)
    port.plugged = False
    with pytest.raises(OSError, match="unplugged"):
        port.read()
    with pytest.raises(OSError, match="unplugged"):
        port.write(b"x")
    port.advance(BOOT + 100_000)
    assert isinstance(port.device, Firmware)
    assert port.device.machine.cause is m.Cause.DEAD_MAN
    port.plugged = True
    port.close()
    link = hello(port.open())
    port.advance(BOOT + 100_001)
    assert link.receive(port.read(), BootUs(port.now_us))


def test_a_device_that_goes_from_the_bus_is_an_oserror_until_it_is_back_and_opened_again() -> None:
    port = make_port()
    hello(port)
    assert isinstance(port.device, Firmware)
    port.device.faults.add(Rule("disconnect", 200, at_us=50_000))
    port.advance(BOOT + 49_999)
    assert port.read()
    port.advance(BOOT + 50_000)
    for use in (port.read, lambda: port.write(b"x"), port.open):
        with pytest.raises(OSError, match="unplugged"):
            use()
    port.advance(BOOT + 249_999)
    with pytest.raises(OSError, match="unplugged"):
        port.open()
    port.advance(BOOT + 250_000)
    with pytest.raises(OSError, match="closed"):
        port.read()
    link = hello(port.open())
    port.advance(BOOT + 250_001)
    assert link.receive(port.read(), BootUs(port.now_us))


@given(
    st.integers(-10_000, 10_000), st.integers(0, 10**12), st.integers(0, 10**9), st.integers(0, 99)
)
def test_host_time_is_the_first_instant_that_shows_the_device_time(
    ppm: int, host_us: int, passed: int, other_ppm: int
) -> None:
    clock = DeviceClock(host_us, 1_000_000, ppm)
    for device_us in (1_000_000 + passed, clock.device(host_us + passed)):
        at = clock.host(device_us)
        assert clock.device(at) >= device_us
        assert clock.device(at - 1) < device_us
    before = clock.device(host_us + passed)
    clock.set_ppm(other_ppm, host_us + passed)
    assert clock.device(host_us + passed) == before
