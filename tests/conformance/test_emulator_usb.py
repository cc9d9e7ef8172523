"""The emulated USB function in virtual time: descriptors, endpoint 0, packets, tmslink on it."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from usb_host import (
    GET_DESCRIPTOR,
    IDENTITY,
    OK,
    SET_CONFIGURATION,
    STALL,
    STOP,
    TmslinkHost,
    UsbHost,
)

from firmware_protocol.quantities import BootUs
from firmware_protocol.table import pack, spec_of
from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.framing import frame
from sim_device.faults import Rule
from sim_device.usb_descriptors import PACKET_MAX
from sim_device.usb_function import Completion, UsbFunction
from sim_device.usb_tmslink import (
    BULK_IN,
    BULK_OUT,
    CLASS,
    INTERRUPT_IN,
    PRODUCT,
    QUEUE_MAX,
    TRANSFER_MAX,
    VENDOR,
    TmslinkRole,
    cut,
)
from sim_device.wire_faults import BANNER

GONE = -errno.ESHUTDOWN


def of_type(kind: int, data: bytes) -> list[bytes]:
    """The descriptors of one type among those of a configuration."""
    found, at = [], 0
    while at < len(data):
        assert data[at] >= 2, "a descriptor without a length"
        if data[at + 1] == kind:
            found.append(data[at : at + data[at]])
        at += data[at]
    assert at == len(data)
    return found


# -- descriptors ---------------------------------------------------------------------------------


def test_the_device_says_what_it_is_without_being_configured() -> None:
    host = TmslinkHost(serial="TR000007", model="reference")
    device = host.ask(GET_DESCRIPTOR, 0x0100, length=64).data
    assert struct.unpack("<BBHBBBBHHHBBBB", device) == (
        18, 1, 0x0200, 0, 0, 0, 64, 0x1209, 0x0001, 0x0100, 1, 2, 3, 1
    )  # fmt: skip
    texts = [host.ask(GET_DESCRIPTOR, 0x0300 | at, length=255).data for at in range(4)]
    assert texts[0] == b"\x04\x03\x09\x04"
    assert all((text[0], text[1]) == (len(text), 3) for text in texts)
    assert [text[2:].decode("utf-16-le") for text in texts[2:]] == ["reference", "TR000007"]
    assert host.ask(GET_DESCRIPTOR, 0x0304, length=255).status == STALL


def test_the_configuration_has_the_class_and_its_three_endpoints() -> None:
    data = TmslinkHost().ask(GET_DESCRIPTOR, 0x0200, length=255).data
    (head,) = of_type(2, data)
    total, interfaces, value = struct.unpack_from("<HBB", head, 2)
    assert (total, interfaces, value) == (len(data), 1, 1)
    (interface,) = of_type(4, data)
    assert (interface[4], tuple(interface[5:8])) == (3, CLASS)
    found = {(e[2] >> 7, e[3]): struct.unpack_from("<HB", e, 4) for e in of_type(5, data)}
    assert found == {(0, 2): (64, 0), (1, 2): (64, 0), (1, 3): (64, 1)}


@pytest.mark.parametrize("length", [0, 1, 8, 9, 17, 18, 19])
def test_a_descriptor_is_cut_at_what_was_asked_for(length: int) -> None:
    assert len(TmslinkHost().ask(GET_DESCRIPTOR, 0x0100, length=length).data) == min(length, 18)


@pytest.mark.parametrize("value", [0x0101, 0x0201, 0x0600, 0x0700, 0x0F00, 0x0000, 0xFF00])
def test_a_descriptor_that_a_full_speed_device_has_not_stalls(value: int) -> None:
    assert TmslinkHost().ask(GET_DESCRIPTOR, value, length=64).status == STALL


# -- standard requests ---------------------------------------------------------------------------


def test_it_takes_its_one_configuration_and_tells_which_it_has() -> None:
    host = TmslinkHost()
    assert host.ask((0x80, 8), length=1).data == b"\0"
    host.configure()
    assert host.ask((0x80, 8), length=1).data == b"\1"
    assert host.ask(SET_CONFIGURATION, 2).status == STALL
    assert host.ask((0x80, 8), length=1).data == b"\1"
    host.configure(0)
    assert host.read(BULK_IN).status == -errno.ENOENT


def test_interface_and_status_requests_are_answered_when_it_is_configured() -> None:
    host = TmslinkHost()
    asked: list[Any] = [((0x81, 10), 1), ((0x81, 0), 2)]
    assert [host.ask(request, length=length).status for request, length in asked] == [STALL] * 2
    assert host.ask((0x01, 11)).status == STALL
    host.configure()
    assert [host.ask(request, length=length).data for request, length in asked] == [b"\0", b"\0\0"]
    assert host.ask((0x01, 11)).status == OK
    assert host.ask((0x01, 11), 1).status == STALL  # it has no other setting
    assert host.ask((0x01, 11), 0, 1).status == STALL  # nor interface
    assert host.ask((0x80, 0), length=2).data == b"\1\0"  # self-powered
    assert host.ask((0x00, 5), 127).status == OK
    assert host.ask((0x00, 5), 128).status == STALL


@pytest.mark.parametrize("endpoint", [BULK_OUT, BULK_IN, INTERRUPT_IN])
def test_an_endpoint_halts_and_goes_on_when_the_host_says_so(endpoint: int) -> None:
    host = TmslinkHost()
    host.configure()
    reads = endpoint & 0x80
    waiting = host.read(endpoint) if reads else None
    assert host.ask((0x02, 3), 0, endpoint).status == OK
    assert waiting is None or waiting.status == STALL
    assert host.ask((0x82, 0), 0, endpoint, length=2).data == b"\1\0"
    again = host.read(endpoint) if reads else host.out(endpoint, b"\0")
    assert again.status == STALL
    assert host.ask((0x02, 1), 0, endpoint).status == OK
    assert host.ask((0x82, 0), 0, endpoint, length=2).data == b"\0\0"
    again = host.read(endpoint) if reads else host.out(endpoint, b"\0")
    assert again.status == (None if reads else OK)


def test_features_and_endpoints_that_there_are_not_stall() -> None:
    host = TmslinkHost()
    host.configure()
    for request in ((0x02, 1), (0x02, 3)):
        assert host.ask(request, 1, BULK_IN).status == STALL
        assert host.ask(request, 0, 0x8F).status == STALL
        assert host.ask(request, 0, 0).status == OK  # endpoint 0 cannot halt
    assert host.ask((0x82, 0), 0, 0x0F, length=2).status == STALL
    assert host.out(0x0F, b"").status == host.read(0x8F).status == -errno.ENOENT
    assert host.read(BULK_OUT).status == host.out(BULK_IN, b"").status == -errno.ENOENT


KNOWN = {
    (0x80, 0), (0x81, 0), (0x82, 0), (0x02, 1), (0x02, 3), (0x00, 5), (0x80, 6), (0x80, 8),
    (0x00, 9), (0x81, 10), (0x01, 11), STOP, IDENTITY,
}  # fmt: skip


def test_every_request_that_is_not_known_stalls_and_changes_nothing() -> None:
    host = TmslinkHost()
    host.configure()
    for kind in range(256):
        for request in range(256):
            if (kind, request) not in KNOWN:
                assert host.ask((kind, request), length=8).status == STALL
    assert host.truth("stop") == []
    assert host.function.configured == 1


def test_a_request_out_with_other_data_than_announced_stalls() -> None:
    host = TmslinkHost()
    assert host.ask(SET_CONFIGURATION, 1, data=b"").status == OK
    ended: list[Any] = []
    setup = struct.pack("<BBHHH", *STOP, 0, 0, 4)
    host.function.control("key", setup, b"abc", ended.append)
    assert ended[0].status == STALL
    assert host.truth("stop") == []


# -- STOP and IDENTITY ---------------------------------------------------------------------------


def test_stop_stops_an_armed_device() -> None:
    host = TmslinkHost().armed()
    assert host.ask(STOP).status == OK
    assert host.state is m.State.LATCHED
    host.listen()
    assert host.all(m.Status)[-1][1].cause == m.Cause.HOST_STOP


def test_every_stop_request_is_a_stop_and_the_next_frame_is_read() -> None:
    host = TmslinkHost()
    host.configure()
    assert [host.ask(STOP).status for _ in range(3)] == [OK] * 3
    assert len(host.truth("stop")) == 3
    host.hello()
    assert host.state is m.State.IDLE
    assert host.link.session


@pytest.mark.parametrize(
    ("value", "index", "data"), [(1, 0, b""), (0, 1, b""), (0, 0, b"x"), (0x0100, 0, b"")]
)
def test_a_stop_of_another_form_stalls(value: int, index: int, data: bytes) -> None:
    host = TmslinkHost().armed()
    assert host.ask(STOP, value, index, data=data).status == STALL
    assert host.state is m.State.READY


@pytest.mark.parametrize("trouble", ["halted", "full", "half"])
def test_stop_gets_through_whatever_the_bulk_endpoint_does(trouble: str) -> None:
    host = TmslinkHost().armed()
    if trouble == "halted":
        host.ask((0x02, 3), 0, BULK_OUT)
        assert host.out(BULK_OUT, m.STOP_BYTES).status == STALL
    elif trouble == "full":
        host.function.faults.add(Rule("usb_nak", BULK_OUT, at_us=0))
        host.wait(20_000)
        stuck = [host.out(BULK_OUT, m.STOP_BYTES) for _ in range(100)]
        assert {each.status for each in stuck} == {None}
    else:
        assert host.out(BULK_OUT, b"\1" * PACKET_MAX).status == OK  # its end does not come
    assert host.state is m.State.READY
    assert host.ask(STOP).status == OK
    assert host.state is m.State.LATCHED


def test_identity_is_told_without_a_session_and_opens_none() -> None:
    host = TmslinkHost(serial="TR000007", boot_count=5)
    host.configure()
    host.wait(500)
    said = m.TABLE.unpack(0x41, host.ask(IDENTITY, length=255).data)
    assert (said.serial, said.boot_count, said.nonce) == ("TR000007", 5, 0)
    assert said.device_time_us == host.function.now
    assert host.device.sender.session == 0
    assert len(pack(said)) == 44
    assert len(host.ask(IDENTITY, length=10).data) == 10


def test_without_power_it_has_no_identity() -> None:
    host = TmslinkHost()
    host.configure()
    host.function.faults.add(Rule("reboot", 20, at_us=1_000))
    host.wait(1_000)
    assert host.ask(IDENTITY, length=255).status == STALL
    host.wait(20_000)
    assert host.ask(IDENTITY, length=255).status == OK


# -- what ends a session -------------------------------------------------------------------------

BEGINNINGS: dict[str, Any] = {
    "bus reset": lambda host: host.function.bus_reset(),
    "SET_CONFIGURATION": lambda host: host.configure(),
    "SET_INTERFACE": lambda host: host.ask((0x01, 11)),
}


@pytest.mark.parametrize("how", BEGINNINGS)
def test_a_host_that_begins_anew_disarms_the_device_at_once(how: str) -> None:
    host = TmslinkHost().armed()
    waiting = host.read(INTERRUPT_IN)
    BEGINNINGS[how](host)
    assert host.state is m.State.LATCHED
    assert host.device.machine.cause == m.Cause.DEAD_MAN
    assert host.device.sender.session == 0
    assert waiting.status == GONE
    host.configure()
    host.forget_reads()
    host.hello()
    assert host.state is m.State.IDLE


def test_a_host_that_is_gone_disarms_it_by_the_dead_man_and_not_before() -> None:
    host = TmslinkHost().armed()
    host.beat()
    host.function.lose_host()
    host.wait(m.DEAD_MAN_US - 1)
    assert host.state is m.State.READY
    host.wait(1)
    assert host.state is m.State.LATCHED


# -- tmslink over its endpoints ------------------------------------------------------------------


def test_status_and_fault_come_by_interrupt_and_all_else_by_bulk() -> None:
    host = TmslinkHost().armed()
    host.say(host.link.tell(m.Stop()))
    for _ in range(10):  # the dead-man would have come, but it is latched
        host.wait(10_000)
        host.listen()
    by_interrupt = {type(event) for endpoint, event in host.came if endpoint == INTERRUPT_IN}
    by_bulk = {type(event).__name__ for endpoint, event in host.came if endpoint == BULK_IN}
    assert by_interrupt == {m.Status}
    assert {"Identity", "Limits", "Answered"} <= by_bulk
    assert "Status" not in by_bulk

    silent = TmslinkHost().armed()
    silent.wait(60_000)
    silent.listen()
    assert [endpoint for endpoint, _ in silent.all(m.Fault)] == [INTERRUPT_IN]


@pytest.mark.parametrize("kind", [m.Status, m.Fault])
def test_every_frame_for_the_interrupt_endpoint_is_shorter_than_a_packet(kind: type) -> None:
    size = m.HEADER_SIZE + spec_of(kind).layout.size + m.CRC_SIZE + len(frame(b"x" * 13)) - 13
    assert size < PACKET_MAX


class Ear:
    """A role of tmslink whose firmware only listens."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.role = TmslinkRole(
            lambda data, _: self.heard.append(data), lambda: None, lambda: None, "ear", "E1"
        )
        self.function = UsbFunction(TmslinkHost().device, self.role, 0)
        self.host = UsbHost(self.function, [])
        self.host.configure()


FRAMES = st.lists(st.binary(min_size=1, max_size=150), min_size=1, max_size=20)


@given(FRAMES, st.data())
def test_any_split_into_transfers_gives_the_firmware_the_same_bytes(
    frames: list[bytes], data: st.DataObject
) -> None:
    ear, stream, at = Ear(), b"".join(frames), 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        sent = ear.host.out(BULK_OUT, stream[at : at + size], ends_with_zero=True)
        assert (sent.status, sent.ended and sent.ended.actual) == (OK, size)
        at += size
    assert b"".join(ear.heard) == stream


@given(FRAMES, st.data())
def test_any_split_of_a_transfer_into_whole_packets_is_one_transfer(
    frames: list[bytes], data: st.DataObject
) -> None:
    ear, stream = Ear(), b"".join(frames)
    whole = len(stream) // PACKET_MAX
    while whole:
        packets = data.draw(st.integers(1, whole))
        ear.host.out(BULK_OUT, stream[: packets * PACKET_MAX])
        stream, whole = stream[packets * PACKET_MAX :], whole - packets
        assert ear.heard == []
    ear.host.out(BULK_OUT, stream)
    assert ear.heard == [b"".join(frames)]


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 127, 128, 129])
def test_a_transfer_ends_with_a_short_packet_or_an_empty_one(size: int) -> None:
    ear, data = Ear(), bytes(range(1, 256))[:size]
    ear.host.out(BULK_OUT, data)
    assert ear.heard == ([data] if size % PACKET_MAX else [])
    ear.host.out(BULK_OUT, b"")
    assert ear.heard == ([data] if data else [])


def test_a_transfer_that_does_not_end_halts_the_endpoint() -> None:
    ear = Ear()
    assert ear.host.out(BULK_OUT, b"x" * TRANSFER_MAX).status == OK
    assert ear.host.out(BULK_OUT, b"x").status == STALL
    assert ear.host.ask((0x82, 0), 0, BULK_OUT, length=2).data == b"\1\0"
    ear.host.ask((0x02, 1), 0, BULK_OUT)
    assert ear.host.out(BULK_OUT, b"again").status == OK
    assert ear.heard == [b"again"]
    assert ear.host.out(BULK_OUT, b"x" * (TRANSFER_MAX - 1), ends_with_zero=True).status == OK
    assert len(ear.heard[-1]) == TRANSFER_MAX - 1


def test_what_has_begun_of_a_transfer_is_forgotten_with_its_session() -> None:
    ear = Ear()
    ear.host.out(BULK_OUT, b"x" * PACKET_MAX)
    ear.host.configure()
    ear.host.out(BULK_OUT, b"new")
    assert ear.heard == [b"new"]


@pytest.mark.parametrize("size", [1, 63, 64, 65, 128])
def test_a_transfer_in_is_cut_and_ended_in_the_same_way(size: int) -> None:
    packets = cut(b"x" * size)
    assert b"".join(packets) == b"x" * size
    assert {len(packet) for packet in packets[:-1]} <= {PACKET_MAX}
    assert len(packets[-1]) < PACKET_MAX
    ear = Ear()
    reads = [ear.host.read(BULK_IN, 4096) for _ in range(2)]
    ear.role.hear(b"\1" * size, 0)
    ear.host.wait(1)
    assert reads[0].data == b"\1" * size
    assert reads[1].status is None  # it is answered NAK
    assert ear.host.take_back()
    assert not ear.host.take_back()
    ear.role.hear(b"\2", 0)
    ear.host.wait(1)
    assert ear.host.read(BULK_IN).data == b"\2"


def test_a_read_ends_when_it_is_full_and_the_next_has_the_rest() -> None:
    ear = Ear()
    ear.role.hear(b"\1" * 100, 0)
    assert ear.host.read(BULK_IN, 64).data == b"\1" * 64
    assert ear.host.read(BULK_IN, 64).data == b"\1" * 36
    ear.role.hear(b"\1" * 64, 0)
    assert ear.host.read(BULK_IN, 64).data == b"\1" * 64
    assert ear.host.read(BULK_IN, 64).data == b""  # the empty packet that ends it


def test_a_read_for_less_than_comes_is_an_overflow() -> None:
    ear = Ear()
    ear.role.hear(b"\1" * 64, 0)
    assert ear.host.read(BULK_IN, 63).status == -errno.EOVERFLOW


def test_what_nobody_reads_is_lost_whole_in_bulk_and_the_oldest_of_interrupts() -> None:
    ear, status = Ear(), b"\0\2\x44" + b"x" * 20 + b"\0"
    room = QUEUE_MAX[BULK_IN]
    for _ in range(room // 2):
        ear.role.hear(b"\1" * 100, 0)
    ear.role.hear(b"\2", 0)
    got = [ear.host.read(BULK_IN) for _ in range(room // 2 + 1)]
    assert [read.data for read in got[:-1]] == [b"\1" * 100] * (room // 2)
    assert got[-1].status is None
    for number in range(QUEUE_MAX[INTERRUPT_IN] + 3):
        ear.role.hear(status.replace(b"x", bytes((65 + number,))), 0)
    got = [ear.host.read(INTERRUPT_IN, 64) for _ in range(QUEUE_MAX[INTERRUPT_IN] + 1)]
    assert [bytes(read.data)[5:6] for read in got[:-1]] == [bytes((at,)) for at in b"DEFGHIJK"]
    assert got[-1].status is None


def test_noise_that_is_no_frame_goes_by_bulk() -> None:
    ear = Ear()
    for noise in (b"U-Boot", b"\0", b"\0\1", b"\0\2\x44" + b"x" * 70 + b"\0"):
        ear.role.hear(noise, 0)
    ear.host.wait(1)
    assert ear.host.read(INTERRUPT_IN, 64).status is None
    assert ear.host.read(BULK_IN).data == b"U-Boot"


@pytest.mark.parametrize("size", [0, 1, 64, 65, 128])
@pytest.mark.parametrize("zero", [False, True])
def test_an_empty_packet_follows_only_where_it_must(
    size: int, zero: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ear, packets = Ear(), []
    monkeypatch.setattr(ear.role, "take", lambda packet, _: packets.append(packet) is None)
    ear.host.out(BULK_OUT, b"x" * size, ends_with_zero=zero)
    wanted = [min(64, size - at) for at in range(0, size, 64)]
    if size == 0 or (zero and size % 64 == 0):
        wanted.append(0)
    assert [len(packet) for packet in packets] == wanted


def test_what_the_device_says_to_nobody_is_not_kept() -> None:
    host = TmslinkHost(Rule("banner", at_us=1_000), Rule("banner", at_us=3_000))
    host.wait(2_000)
    host.configure()
    read = host.read(BULK_IN)
    assert read.status is None
    host.wait(2_000)
    assert read.data == BANNER


@pytest.mark.parametrize("how", ["configure", "lose_host", "unplug"])
def test_a_halt_ends_with_whoever_made_it(how: str) -> None:
    host = TmslinkHost()
    host.configure()
    host.ask((0x02, 3), 0, BULK_OUT)
    if how == "configure":
        host.configure()
    elif how == "lose_host":
        host.function.lose_host()
    else:
        host.function.faults.add(Rule("disconnect", 1, at_us=0))
        host.wait(1_000)
        host.wait(1_000)
    assert host.ask((0x82, 0), 0, BULK_OUT, length=2).data == b"\0\0"


def test_who_submits_the_next_transfer_from_the_end_of_one_is_served_at_once_and_for_ever() -> None:
    ear, ended = Ear(), []

    def again(completion: Completion) -> None:
        ended.append(completion)
        if len(ended) < 5_000:
            ear.function.submit(len(ended), BULK_OUT, b"x", again)

    ear.function.submit("first", BULK_OUT, b"x", again)
    assert len(ended) == len(ear.heard) == 5_000

    read: list[Completion] = []

    def answer(completion: Completion) -> None:
        read.append(completion)
        ear.function.submit("answer", BULK_OUT, b"heard", again)

    ear.role.hear(b"\1", 0)
    ear.function.submit("read", BULK_IN, 64, answer)
    assert (read[0].data, ear.heard[-1]) == (b"\1", b"heard")


def test_a_transfer_can_be_taken_back_while_it_waits_and_not_afterwards() -> None:
    host = TmslinkHost()
    host.configure()
    host.read(BULK_IN)
    assert host.take_back()
    assert not host.take_back()
    host.out(BULK_OUT, b"\0")
    assert not host.take_back()


def test_a_session_with_a_train_runs_over_usb() -> None:
    host = TmslinkHost().armed()
    start = host.function.now + 40_000
    train = m.Train(1, start, 2**60, 5, 20_000, 1, 0, 10)
    host.say(host.link.ask(train, BootUs(2**60))[1])
    host.live(300_000)
    assert [line["t_us"] for line in host.truth("pulse")] == [start + n * 20_000 for n in range(5)]
    assert [endpoint for endpoint, _ in host.all(m.Pulse)] == [BULK_IN] * 5
    assert [end.fired for _, end in host.all(m.LeaseEnd)] == [5]
    assert host.link.counters.bad_crc == host.link.counters.garbage == 0


def test_bytes_for_another_way_to_the_device_reach_it_and_nothing_is_output_twice() -> None:
    host = TmslinkHost().armed()
    host.function.receive(m.STOP_BYTES, host.function.now)
    assert host.state is m.State.LATCHED
    assert host.function.take_output() == b""


def test_the_page_says_what_the_device_has() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tmslink.md").read_text(encoding="utf-8")
    section = page.partition("\n## 15. USB\n")[2]
    rows = (
        f"| {', '.join(f'0x{number:02X}' for number in CLASS)} |",
        f"0x{VENDOR:04X}, 0x{PRODUCT:04X}",
        f"at most {TRANSFER_MAX} bytes",
        f"| STOP | 0x{STOP[0]:02X} | 0x{STOP[1]:02X} | none |",
        f"| IDENTITY | 0x{IDENTITY[0]:02X} | 0x{IDENTITY[1]:02X} | 44 bytes to the host |",
    )
    assert [row for row in rows if row not in section] == []
