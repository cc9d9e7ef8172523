"""The virtual FT232 in virtual time: what ftdi_sio asks of it, and what the line makes of it."""

from __future__ import annotations

import random
import struct
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from usb_host import GET_DESCRIPTOR, OK, STALL, UsbHost

from sim_device.device import Device
from sim_device.magstim_models import make_200
from sim_device.magstim_settings import Magstim200Settings
from sim_device.serial_unit import KINDS, SerialUnit
from sim_device.settings import Physics
from sim_device.usb_ftdi import (
    BUFFER_MAX,
    BULK_IN,
    BULK_OUT,
    EIGHTHS,
    LATENCY_MS,
    Format,
    baud_of,
    make_ftdi,
)
from sim_device.wire_faults import Writes

MS = 1_000
STATUS = b"\x31\x60"
RESET, MODEM, FLOW, BAUD, DATA, LATENCY = ((0x40, number) for number in (0, 1, 2, 3, 4, 9))
POLL, GET_LATENCY = (0xC0, 5), (0xC0, 10)
BAUD_9600 = 0x4138
RTS_ON, RTS_OFF, DTR_ON = 0x0202, 0x0200, 0x0101


class Recorder:
    """A unit that keeps all that it hears and says what it is told to."""

    kinds = KINDS
    effects: ClassVar[dict[str, Any]] = {}

    def __init__(self, bench: SerialUnit) -> None:
        self.bench = bench
        self.heard = b""

    def hear(self, data: bytes) -> None:
        self.heard += data

    def check(self) -> None:
        """Nothing can happen to it."""

    power_down = power_up = check


class Adapter(UsbHost):
    def __init__(self, device: Device | None = None) -> None:
        log: list[dict[str, Any]] = []
        unit = SerialUnit(Physics(), random.Random(1), log.append, (), Recorder, Writes())
        self.model: Any = unit.model
        self.edges: list[int] = []
        super().__init__(
            make_ftdi(device or unit, self.edges.append, Format(9600), "FT000001", 1_000_000), log
        )
        self.configure()
        self.ask(BAUD, BAUD_9600)

    def arrive(self, data: bytes) -> None:
        """The unit says something."""
        self.function.role.hear(data, self.function.now)
        self.wait(0)


# -- the chip ------------------------------------------------------------------------------------


def test_it_is_the_chip_to_which_the_driver_binds() -> None:
    adapter = Adapter()
    device = adapter.ask(GET_DESCRIPTOR, 0x0100, length=18).data
    assert struct.unpack_from("<HHH", device, 8) == (0x0403, 0x6001, 0x0400)
    configuration = adapter.ask(GET_DESCRIPTOR, 0x0200, length=255).data
    assert [configuration[at + 2] for at in (18, 25)] == [0x81, 0x02]
    assert adapter.ask(GET_DESCRIPTOR, 0x0303, length=255).data[2::2] == b"FT000001"


@pytest.mark.parametrize(
    ("value", "index", "baud"),
    [
        (BAUD_9600, 0, 9600), (0, 0, 3_000_000), (1, 0, 2_000_000), (3, 0, 1_000_000),
        (0x8003, 0, 923_077), (0x001A, 0, 115_385), (0xC04E, 0, 38_400),
        (0x4000 | 2, 0, 1_200_000), (2, 1, 1_263_158),
    ],
)  # fmt: skip
def test_a_divisor_is_read_as_the_chip_does(value: int, index: int, baud: int) -> None:
    assert baud_of(value, index) == baud


def test_three_percent_of_another_baud_rate_are_understood_and_no_more() -> None:
    line = Format(10_000)
    near = [line.understands(Format(baud)) for baud in (9_699, 9_700, 10_300, 10_301)]
    assert near == [False, True, True, False]


def test_each_code_of_the_fraction_has_its_own_eighth() -> None:
    assert sorted(EIGHTHS) == list(range(8))


def test_it_answers_what_the_driver_asks_and_stalls_the_rest() -> None:
    adapter = Adapter()
    assert adapter.ask(POLL, length=2).data == STATUS
    assert adapter.ask(GET_LATENCY, length=1).data == bytes((LATENCY_MS,))
    for value in (0, 1, 2):
        assert adapter.ask(RESET, value).status == OK
    assert adapter.ask(LATENCY, 1).status == OK
    assert adapter.ask(GET_LATENCY, length=1).data == b"\1"
    for request in (FLOW, (0x40, 6), (0x40, 7)):
        assert adapter.ask(request, 0xFFFF).status == OK
    wrong: list[tuple[tuple[int, int], int]] = [
        (RESET, 3), (LATENCY, 0), (LATENCY, 256), (DATA, 9), (DATA, 6), (DATA, 8 | 5 << 8),
        ((0x40, 8), 0), ((0x40, 0x91), 0), ((0x41, 1), 0), ((0x21, 0x22), 0),
    ]  # fmt: skip
    assert [adapter.ask(request, value).status for request, value in wrong] == [STALL] * len(wrong)
    assert adapter.ask((0xC0, 0x90), length=2).status == STALL
    assert adapter.ask(MODEM, RTS_ON, data=b"x").status == STALL
    assert adapter.edges == []


# -- bytes ---------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_what_is_written_reaches_the_unit_however_it_is_split(writes: list[bytes]) -> None:
    adapter = Adapter()
    assert {adapter.out(BULK_OUT, data).status for data in writes} <= {OK}
    assert adapter.model.heard == b"".join(writes)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.sampled_from([64, 512, 4096]))
def test_what_the_unit_says_is_read_behind_two_bytes_of_status_a_packet(
    said: list[bytes], length: int
) -> None:
    adapter, got = Adapter(), b""
    for data in said:
        adapter.arrive(data)
    for _ in range(3 * sum(map(len, said)) // 62 + 3):
        read = adapter.read(BULK_IN, length)
        adapter.wait(LATENCY_MS * MS)
        packets = [read.data[at : at + 64] for at in range(0, len(read.data), 64)]
        assert {packet[:2] for packet in packets} == {STATUS}
        got += b"".join(packet[2:] for packet in packets)
    assert got == b"".join(said)


@pytest.mark.parametrize("latency_ms", [1, 16, 255])
def test_a_packet_that_is_not_full_waits_for_the_latency_timer(latency_ms: int) -> None:
    adapter = Adapter()
    adapter.ask(LATENCY, latency_ms)
    first = adapter.read(BULK_IN)
    adapter.wait(latency_ms * MS)
    began = adapter.function.now
    assert first.data == STATUS
    late = adapter.read(BULK_IN)
    adapter.arrive(b"abc")
    adapter.function.run_to(began + latency_ms * MS - 1)
    assert late.status is None
    adapter.function.run_to(began + latency_ms * MS)
    assert late.data == STATUS + b"abc"


def test_a_full_packet_does_not_wait() -> None:
    adapter = Adapter()
    adapter.arrive(b"x" * 62)
    assert adapter.read(BULK_IN, 64).data == STATUS + b"x" * 62
    adapter.arrive(b"x" * 61)
    assert adapter.read(BULK_IN, 64).status is None


def test_what_nobody_takes_is_lost_and_the_line_status_says_so() -> None:
    adapter = Adapter()
    adapter.arrive(b"a" * BUFFER_MAX)
    assert adapter.read(BULK_IN, 64).data[:3] == STATUS + b"a"  # all found room
    adapter.arrive(b"b" * 63)
    assert adapter.read(BULK_IN, 64).data[:3] == b"\x31\x62a"
    assert adapter.read(BULK_IN, 64).data[:3] == STATUS + b"a"
    adapter.arrive(b"c" * BUFFER_MAX)
    assert adapter.ask(RESET, 1).status == OK  # purge
    adapter.wait(LATENCY_MS * MS)
    assert adapter.read(BULK_IN, 64).data == STATUS


@pytest.mark.parametrize(
    ("request_", "value", "passes"),
    [
        (BAUD, BAUD_9600, True), (BAUD, 304, True), (BAUD, 322, True), (BAUD, 303, False),
        (BAUD, 323, False), (BAUD, 26, False), (DATA, 8, True), (DATA, 8 | 2 << 11, True),
        (DATA, 7, False), (DATA, 8 | 1 << 8, False), (DATA, 8 | 2 << 8, False),
    ],
)  # fmt: skip
def test_only_the_right_line_settings_are_understood(
    request_: tuple[int, int], value: int, passes: bool
) -> None:
    adapter, text = Adapter(), b"0123456789" * 3
    assert adapter.ask(request_, value).status == OK
    adapter.out(BULK_OUT, text)
    adapter.arrive(text)
    adapter.wait(LATENCY_MS * MS)
    read = adapter.read(BULK_IN).data[2:]
    assert (adapter.model.heard == text) == (read == text) == passes
    assert len(adapter.model.heard) == len(read) == len(text)


def test_nothing_is_heard_of_what_is_sent_in_a_break() -> None:
    adapter = Adapter()
    adapter.ask(DATA, 8 | 1 << 14)
    adapter.out(BULK_OUT, b"lost")
    adapter.ask(DATA, 8)
    adapter.out(BULK_OUT, b"heard")
    assert adapter.model.heard == b"heard"
    assert adapter.edges == []


# -- modem lines ---------------------------------------------------------------------------------


def test_only_a_rise_of_rts_is_an_edge() -> None:
    adapter = Adapter()
    for value, edges in (
        (DTR_ON, 0), (RTS_OFF, 0), (RTS_ON & 0xFF, 0), (RTS_ON, 1), (RTS_ON, 1), (0x0100, 1),
        (RTS_OFF, 1), (0x0303, 2),
    ):  # fmt: skip
        adapter.wait(1)
        assert adapter.ask(MODEM, value).status == OK
        assert len(adapter.edges) == edges, hex(value)
    assert adapter.edges[-1] == adapter.function.now


@pytest.mark.parametrize("how", ["bus_reset", "lose_host"])
def test_without_a_host_rts_is_low(how: str) -> None:
    adapter = Adapter()
    adapter.ask(MODEM, RTS_ON)
    getattr(adapter.function, how)()
    adapter.configure()
    adapter.ask(MODEM, RTS_ON)
    assert len(adapter.edges) == 2


def test_a_magstim_answers_through_it_and_an_edge_finds_its_place_among_the_bytes() -> None:
    unit = make_200(Magstim200Settings(), random.Random(1), [].append, ())
    adapter = Adapter(unit)
    adapter.out(BULK_OUT, b"Q@n")
    read = adapter.read(BULK_IN)
    adapter.wait(LATENCY_MS * MS)
    again = adapter.read(BULK_IN)
    adapter.wait(LATENCY_MS * MS)
    assert (read.data[2:] + again.data[2:])[:1] == b"Q"
