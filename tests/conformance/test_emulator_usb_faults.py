"""Faults of USB transfers: each does what its row says, is counted when it happens, and ends."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from usb_host import GET_DESCRIPTOR, IDENTITY, OK, STALL, STOP, TmslinkHost

from firmware_protocol.quantities import MS
from firmware_protocol.tmslink import messages as m
from sim_device.fault_kinds import KINDS, USB_KINDS
from sim_device.fault_rules import faults_help, load_rules
from sim_device.faults import Rule
from sim_device.settings import SetupError
from sim_device.tmslink_firmware import Firmware
from sim_device.usb_descriptors import LIES
from sim_device.usb_tmslink import BULK_IN, BULK_OUT, INTERRUPT_IN

GONE = -errno.ESHUTDOWN
FRAME = b"\0\1\0"


def with_fault(kind: str, value: int | None = None, **trigger: int) -> TmslinkHost:
    host = TmslinkHost(Rule(kind, value, **(trigger or {"at_us": 0})))
    host.configure()
    return host


def counted(host: TmslinkHost) -> dict[str, int]:
    return dict(host.function.faults.counts)


# -- one by one ------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", [BULK_OUT, BULK_IN, INTERRUPT_IN])
def test_a_stall_halts_the_endpoint_that_it_names_until_the_host_clears_it(endpoint: int) -> None:
    host = with_fault("usb_stall", endpoint)
    ended = {
        BULK_IN: host.read(BULK_IN).status,
        INTERRUPT_IN: host.read(INTERRUPT_IN).status,
        BULK_OUT: host.out(BULK_OUT, FRAME).status,
    }
    assert {at for at, status in ended.items() if status == STALL} == {endpoint}
    assert host.ask((0x82, 0), 0, endpoint, length=2).data == b"\1\0"
    assert counted(host) == {"usb_stall": 1}
    host.ask((0x02, 1), 0, endpoint)
    again = host.out(endpoint, FRAME) if endpoint == BULK_OUT else host.read(endpoint)
    assert again.status == (OK if endpoint == BULK_OUT else None)


def test_a_stall_of_any_endpoint_takes_the_first_and_leaves_requests_alone() -> None:
    host = with_fault("usb_stall")
    assert host.ask(IDENTITY, length=64).status == OK
    assert host.out(BULK_OUT, FRAME).status == STALL
    assert host.read(BULK_IN).status is None


def test_a_stall_of_endpoint_0_is_one_request() -> None:
    host = TmslinkHost(Rule("usb_stall", 0, at_us=1))
    host.configure()
    host.wait(1)
    assert host.ask(IDENTITY, length=64).status == STALL
    assert host.ask(IDENTITY, length=64).status == OK
    assert counted(host) == {"usb_stall": 1}


def test_a_delay_puts_off_transfers_in_their_order_and_no_request() -> None:
    host = with_fault("usb_delay", 20)
    first, second = host.out(BULK_OUT, FRAME), host.out(BULK_OUT, FRAME)
    assert host.ask(STOP).status == OK
    host.wait(20 * MS - 1)
    assert (first.status, second.status) == (None, None)
    host.wait(1)
    assert (first.status, second.status) == (OK, OK)
    host.function.faults.clear("usb_delay")
    assert host.out(BULK_OUT, FRAME).status == OK
    assert counted(host) == {"usb_delay": 2}


def test_a_read_that_is_late_takes_what_has_come_by_then() -> None:
    host = with_fault("usb_delay", 20)
    host.hello()  # its transfer is late as well
    host.wait(20 * MS - 1)
    assert host.came == []
    host.wait(1)
    host.listen()
    assert [type(event) for _, event in host.came][:1] == [m.Identity]


def test_a_dropped_transfer_never_ends_and_changes_nothing_but_can_be_taken_back() -> None:
    host = with_fault("usb_drop", BULK_OUT)
    lost = host.out(BULK_OUT, m.STOP_BYTES)
    host.wait(10_000 * MS)
    assert lost.status is None
    assert host.truth("stop") == []
    assert host.take_back()
    assert not host.take_back()
    assert host.out(BULK_OUT, m.STOP_BYTES).status == OK
    assert len(host.truth("stop")) == 1
    assert counted(host) == {"usb_drop": 1}


def test_a_dropped_transfer_ends_with_the_bus() -> None:
    host = with_fault("usb_drop", 0, at_us=1)
    host.wait(1)
    lost = host.ask(IDENTITY, length=64)
    assert lost.status is None
    host.function.bus_reset()
    assert lost.status == GONE


def test_a_short_answer_lacks_its_last_bytes() -> None:
    host = TmslinkHost(Rule("usb_short", 5, at_us=0, times=1))
    host.configure()
    reads = [host.read(INTERRUPT_IN, 64) for _ in range(2)]
    host.hello()
    host.wait(20 * MS)
    sizes = [len(read.data) for read in reads]
    assert sizes == [56, 61]
    assert counted(host) == {"usb_short": 1}


def test_an_answer_that_lacks_all_is_empty() -> None:
    host = TmslinkHost(Rule("usb_short", 64, at_us=0, times=1))
    host.configure()
    assert host.read(BULK_IN).status is None
    host.function.role.hear(b"\1" * 64, 0)
    host.wait(0)
    assert host.read(BULK_IN).data == b""  # the rest of that transfer


def test_babble_is_an_overflow_and_what_came_is_lost() -> None:
    host = with_fault("usb_babble")
    read = host.read(BULK_IN)
    host.function.role.hear(b"\1" * 10, 0)
    host.wait(0)
    assert read.status == -errno.EOVERFLOW
    host.function.role.hear(b"\2" * 10, 0)
    host.wait(0)
    assert host.read(BULK_IN).data == b"\2" * 10
    assert counted(host) == {"usb_babble": 1}


@pytest.mark.parametrize(
    ("value", "stuck"),
    [(-1, {BULK_OUT, BULK_IN}), (BULK_OUT, {BULK_OUT}), (BULK_IN, {BULK_IN}), (0, {0})],
)
def test_an_endpoint_that_naks_answers_when_that_is_over(value: int, stuck: set[int]) -> None:
    host = TmslinkHost(Rule("usb_nak", value, at_us=1_000, for_us=50_000))
    host.configure()
    host.wait(1_000)
    sent = {
        BULK_OUT: host.out(BULK_OUT, FRAME),
        BULK_IN: host.read(BULK_IN),
        0: host.ask(STOP),
    }
    host.function.role.hear(b"\1", 0)
    host.wait(49_999)
    assert {at for at, pending in sent.items() if pending.status is None} == stuck
    host.wait(1)
    assert {pending.status for pending in sent.values()} == {OK}
    assert counted(host) == {"usb_nak": 1}


def test_a_reset_takes_it_off_the_bus_and_disarms_it_and_it_comes_back() -> None:
    host = TmslinkHost().armed()
    waiting, lost = host.read(INTERRUPT_IN), host.out(BULK_OUT, b"x" * 64)
    host.function.faults.add_from_now(Rule("usb_reset", 100), host.function.now)
    struck = host.out(BULK_OUT, FRAME)
    assert (waiting.status, struck.status, lost.status) == (GONE, GONE, OK)
    assert host.state is m.State.LATCHED
    assert not host.function.plugged
    assert host.read(BULK_IN).status == host.ask(IDENTITY, length=64).status == -errno.ENODEV
    host.wait(100 * MS - 1)
    assert not host.function.plugged
    host.wait(1)
    assert host.function.plugged
    assert host.read(BULK_IN).status == -errno.ENOENT  # not configured
    assert counted(host) == {"usb_reset": 1}


def test_an_unplugged_device_ends_all_transfers_and_works_on() -> None:
    host = TmslinkHost().armed()
    waiting = host.read(INTERRUPT_IN)
    host.beat()
    host.function.faults.add_from_now(Rule("disconnect", 500), host.function.now)
    host.wait(0)
    assert waiting.status == GONE
    assert host.ask(STOP).status == -errno.ENODEV
    assert host.state is m.State.READY
    host.wait(m.DEAD_MAN_US)
    assert host.state is m.State.LATCHED
    host.wait(500 * MS)
    host.configure()


def serial_of(host: TmslinkHost) -> str:
    return host.ask(GET_DESCRIPTOR, 0x0303, length=255).data[2:].decode("utf-16-le")


def test_another_serial_number_comes_with_one_plugging_in_and_goes_with_the_next() -> None:
    host = TmslinkHost(
        Rule("usb_other_serial", at_us=0),
        Rule("disconnect", 10, at_us=100_000),
        Rule("disconnect", 10, at_us=200_000),
        serial="TR000010",
    )
    seen = [serial_of(host)]
    for _ in range(2):
        host.wait(110_000)
        seen.append(serial_of(host))
    assert seen == ["TR000010", "TR000011", "TR000010"]
    assert counted(host) == {"usb_other_serial": 1, "disconnect": 2}


def test_a_descriptor_lies_in_the_way_of_its_number() -> None:
    true = TmslinkHost()
    asked = {1: 0x0100, 2: 0x0200, 3: 0x0303}
    for number, (kind, _, _) in LIES.items():
        host = TmslinkHost(Rule("usb_lies", number, at_us=0))
        for other, value in asked.items():
            said, right = (h.ask(GET_DESCRIPTOR, value, length=255).data for h in (host, true))
            assert (said == right) == (kind != other), number
    too_long = TmslinkHost(Rule("usb_lies", 1, at_us=0)).ask(GET_DESCRIPTOR, 0x0200, length=9)
    assert too_long.data[3] == 0xFF


# -- all of them -----------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", ["at_us", "probability"])
@pytest.mark.parametrize("kind", USB_KINDS)
def test_every_usb_fault_happens_is_counted_and_the_device_works_again(
    kind: str, trigger: str
) -> None:
    when = {"at_us": 400_000} if trigger == "at_us" else {"probability": 0.2}
    unplugged = [Rule("disconnect", 20, at_us=n * 100_000) for n in range(5, 15)]
    host = TmslinkHost(Rule(kind, **when, for_us=1_000_000), *unplugged)
    for n in range(200):
        host.ask(GET_DESCRIPTOR, 0x0100, length=18)
        if host.function.plugged and not host.function.configured:
            host.ask((0x00, 9), 1)
        if n % 5 == 0:
            host.out(BULK_OUT, host.link.hello(m.Hello(1, 7, 0), 7))
        for endpoint in (BULK_IN, INTERRUPT_IN):
            host.read(endpoint)
            if host.ask((0x82, 0), 0, endpoint, length=2).ended:
                host.ask((0x02, 1), 0, endpoint)
        host.ask((0x02, 1), 0, BULK_OUT)
        host.wait(10_000)
    assert counted(host)[kind] > 0
    assert host.truth("injected")[0]["kind"] in (kind, "disconnect")
    host.function.faults.clear_all()
    host.wait(4_000_000)
    host.function.bus_reset()
    host.forget_reads()
    host.armed()


def test_a_fault_file_may_name_them_only_where_the_port_is_usb(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text('[[fault]]\nkind = "usb_stall"\nvalue = 2\nat_s = 1\n')
    assert load_rules(path, Firmware.kinds | USB_KINDS.keys()) == [
        Rule("usb_stall", 2, at_us=1_000_000)
    ]
    with pytest.raises(SetupError, match="kind is 'usb_stall'"):
        load_rules(path, Firmware.kinds)
    assert not USB_KINDS.keys() & Firmware.kinds
    assert TmslinkHost().function.kinds >= Firmware.kinds | USB_KINDS.keys()
    assert "usb_stall" in faults_help(USB_KINDS)
    assert USB_KINDS.keys() <= KINDS.keys()
