"""The USB/IP backend against a small server: what passes, what is taken back, what ends it."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import usb.core
import usb.util
from hypothesis import given
from hypothesis import strategies as st
from usb.core import USBError, USBTimeoutError

from drivers.transport import usb_descriptors, usbip_link, usbip_wire
from drivers.transport.usbip_backend import UsbipBackend
from tests.fakes.usbip_server import (
    BULK_IN,
    BULK_OUT,
    INTERRUPT_IN,
    OVERFLOW,
    STALL,
    TMSLINK,
    FakeDevice,
    FakeServer,
    configuration,
)
from tests.process.system import until

LONG_MS = 10_000  # only a test that fails waits for so long


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeServer]:
    with FakeServer(tmp_path / "usb") as made:
        yield made


@pytest.fixture
def backend(server: FakeServer) -> UsbipBackend:
    return UsbipBackend(f"unix:{server.path}")


@pytest.fixture
def device(backend: UsbipBackend) -> Iterator[Any]:
    found = usb.core.find(backend=backend)
    assert found is not None
    found.set_configuration()
    yield found
    usb.util.dispose_resources(found)


def errno_of(act: Callable[[], object]) -> int:
    with pytest.raises(USBError) as caught:
        act()
    assert caught.value.errno is not None
    return int(caught.value.errno)


# -- what a device says of itself ------------------------------------------------------------


def test_a_device_is_found_with_its_descriptors_and_strings(device: Any) -> None:
    assert (device.idVendor, device.idProduct, device.bus, device.address) == (0x1209, 1, 3, 7)
    assert (device.manufacturer, device.product, device.serial_number) == (
        "tests", "fake", "TR000001",
    )  # fmt: skip
    (interface,) = device.get_active_configuration()
    assert interface.bInterfaceClass == 0xFF
    assert {endpoint.bEndpointAddress for endpoint in interface} == {
        BULK_OUT, BULK_IN, INTERRUPT_IN,
    }  # fmt: skip


def test_where_nobody_listens_no_device_is_found(tmp_path: Path) -> None:
    assert usb.core.find(backend=UsbipBackend(f"unix:{tmp_path}/nobody")) is None
    assert usb.core.find(backend=UsbipBackend("127.0.0.1:1")) is None


def test_a_device_that_another_client_has_is_busy(backend: UsbipBackend, device: Any) -> None:
    (other,) = backend.enumerate_devices()
    assert errno_of(lambda: backend.open_device(other)) == errno.EBUSY


def test_it_can_be_had_at_once_after_it_was_given_back(backend: UsbipBackend) -> None:
    (other,) = backend.enumerate_devices()
    for _ in range(50):
        backend.open_device(other).close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        struct.pack("!HHII", 0x0111, 5, 0, 2**31),
        struct.pack("!HHII", 0x0100, 5, 0, 0),
        struct.pack("!HHII", 0x0111, 5, 0, 1) + b"x" * 100,
    ],
)
def test_who_speaks_no_usbip_is_told_from_nobody(tmp_path: Path, answer: bytes) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "other"))
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        other = UsbipBackend(f"unix:{tmp_path}/other")
        assert errno_of(lambda: list(other.enumerate_devices())) == errno.EPROTO
        thread.join()


LIES = {
    "total too long": configuration()[:2] + b"\xff\x0f" + configuration()[4:],
    "cut short": configuration()[:-3],
    "no descriptor length": configuration(TMSLINK[:9] + b"\0" * 21),
    "an endpoint too few": configuration(TMSLINK[:-7]),
    "an interface too many": configuration(interfaces=2),
    "endpoint first": configuration(TMSLINK[9:16] + TMSLINK[:9]),
    "another type": b"\x09\x04" + configuration()[2:],
}


@pytest.mark.parametrize("lie", LIES)
def test_descriptors_that_contradict_themselves_are_refused(tmp_path: Path, lie: str) -> None:
    with FakeServer(tmp_path / "usb", FakeDevice(descriptors=LIES[lie])) as server:
        backend = UsbipBackend(f"unix:{server.path}")
        with pytest.raises(USBError, match="contradict") as caught:
            usb.core.find(backend=backend)
        assert caught.value.errno == errno.EPROTO


@given(data=st.binary(max_size=80))
def test_any_bytes_are_descriptors_or_a_lie_and_never_a_loop(data: bytes) -> None:
    try:
        made = usb_descriptors.parse_configuration(data)
    except usb_descriptors.LieError:
        return
    assert made.itself.wTotalLength == len(data)


# -- transfers -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 4_096, 100_000])
def test_bytes_pass_both_ways_unchanged(server: FakeServer, device: Any, size: int) -> None:
    data = os.urandom(size)
    assert device.write(BULK_OUT, data, LONG_MS) == size
    assert server.device.written == [data]
    if size:
        assert bytes(device.read(BULK_IN, size, LONG_MS)) == data


def test_a_short_answer_is_given_as_short_as_it_is(server: FakeServer, device: Any) -> None:
    server.push(BULK_IN, b"abc")
    assert bytes(device.read(BULK_IN, 64, LONG_MS)) == b"abc"
    server.push(BULK_IN, b"")
    assert bytes(device.read(BULK_IN, 64, LONG_MS)) == b""


def test_vendor_requests_pass_both_ways(server: FakeServer, device: Any) -> None:
    assert bytes(device.ctrl_transfer(0xC1, 2, 0, 0, 64, LONG_MS)) == b"I am it"
    assert device.ctrl_transfer(0x41, 1, 0, 0, None, LONG_MS) == 0
    assert [setup[:2] for setup in server.device.requests] == [b"\xc1\x02", b"\x41\x01"]


@pytest.mark.parametrize(
    ("status", "number"),
    [(STALL, errno.EPIPE), (OVERFLOW, errno.EOVERFLOW), (-108, errno.ESHUTDOWN)],
)
@pytest.mark.parametrize("endpoint", [BULK_OUT, BULK_IN, INTERRUPT_IN])
def test_the_status_of_a_transfer_becomes_its_errno(
    server: FakeServer, device: Any, endpoint: int, status: int, number: int
) -> None:
    server.device.status[endpoint] = status
    if endpoint == BULK_OUT:
        assert errno_of(lambda: device.write(endpoint, b"x", LONG_MS)) == number
    else:
        assert errno_of(lambda: device.read(endpoint, 64, LONG_MS)) == number
    device.clear_halt(endpoint)
    assert server.device.cleared == [endpoint]


def test_a_transfer_without_an_answer_is_taken_back_and_the_next_one_works(
    server: FakeServer, device: Any
) -> None:
    for _ in range(3):
        with pytest.raises(USBTimeoutError) as caught:
            device.read(BULK_IN, 64, 20)
        assert caught.value.errno == errno.ETIMEDOUT
    assert server.unlinked == [BULK_IN] * 3
    server.push(BULK_IN, b"later")
    assert bytes(device.read(BULK_IN, 64, LONG_MS)) == b"later"


def test_an_answer_that_crosses_its_unlink_counts(server: FakeServer, device: Any) -> None:
    server.crossing = b"just in time"
    assert bytes(device.read(BULK_IN, 64, 20)) == b"just in time"


def test_a_wait_without_an_end_is_refused(device: Any) -> None:
    with pytest.raises(ValueError, match="time-out"):
        device.read(BULK_IN, 64, 0)


# -- several threads -------------------------------------------------------------------------


def test_threads_on_one_handle_get_each_its_own_answer(server: FakeServer, device: Any) -> None:
    """A reader waits on each endpoint, and four threads send requests past them."""
    server.device.echo = False
    with ThreadPoolExecutor(8) as pool:
        bulk = pool.submit(device.read, BULK_IN, 64, LONG_MS)
        status = pool.submit(device.read, INTERRUPT_IN, 64, LONG_MS)

        def ask(number: int) -> bool:
            asked = [bytes(device.ctrl_transfer(0xC1, 2, 0, 0, n % 7, LONG_MS)) for n in range(50)]
            assert device.write(BULK_OUT, bytes([number]) * 9, LONG_MS) == 9
            return asked == [b"I am it"[: n % 7] for n in range(50)]

        assert all(pool.map(ask, range(4)))
        server.push(INTERRUPT_IN, b"status")
        assert bytes(status.result(10)) == b"status"
        server.push(BULK_IN, b"bulk")
        assert bytes(bulk.result(10)) == b"bulk"
    assert sorted(server.device.written) == [bytes([n]) * 9 for n in range(4)]


def test_a_leader_whose_time_is_over_leaves_the_line_to_another(
    server: FakeServer, device: Any
) -> None:
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(device.read, BULK_IN, 64, 150)
        until(lambda: server.device.waiting[BULK_IN], "the leader waits")
        follower = pool.submit(device.read, INTERRUPT_IN, 64, LONG_MS)
        with pytest.raises(USBTimeoutError):
            leader.result(10)
        server.push(INTERRUPT_IN, b"status")
        assert bytes(follower.result(10)) == b"status"


def test_who_takes_a_transfer_back_is_not_the_one_to_read_on(
    server: FakeServer, device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect once: it was woken in vain, nobody read, and the server counted as silent."""
    monkeypatch.setattr(usbip_link, "UNLINK_WITHIN_S", 20.0)
    server.unlink_answers = False
    server.device.silent.add(BULK_OUT)
    with ThreadPoolExecutor(3) as pool:
        leader = pool.submit(device.write, BULK_OUT, b"x", LONG_MS)
        until(lambda: server.device.waiting[BULK_OUT], "the leader waits")
        late = pool.submit(device.read, BULK_IN, 64, 100)
        until(lambda: server.device.waiting[BULK_IN], "the oldest that follows")
        follower = pool.submit(device.read, INTERRUPT_IN, 64, LONG_MS)
        until(lambda: server.unlinked == [BULK_IN], "its time is over")
        try:
            number = server.device.waiting[BULK_OUT].popleft()[0]
            server.raw(struct.pack("!IIIIIiiiii8x", 3, number, 0, 0, 0, 0, 1, 0, 0, 0))
            assert leader.result(5) == 1
            server.push(INTERRUPT_IN, b"status")
            assert bytes(follower.result(5)) == b"status"
        finally:
            server.unplug()
        assert errno_of(lambda: late.result(5)) == errno.ENODEV


# -- the end ---------------------------------------------------------------------------------


def ends_all(device: Any, server: FakeServer, end: Callable[[], object]) -> None:
    """Three threads wait; whatever ends the connection, each of them gets ENODEV."""
    with ThreadPoolExecutor(3) as pool:
        waiting = [
            pool.submit(device.read, endpoint, 64, LONG_MS) for endpoint in (BULK_IN, INTERRUPT_IN)
        ]
        server.device.silent.add(BULK_OUT)
        waiting.append(pool.submit(device.write, BULK_OUT, b"x", LONG_MS))
        until(lambda: len([w for w in server.device.waiting.values() if w]) == 3, "all wait")
        end()
        assert [errno_of(lambda w=one: w.result(5)) for one in waiting] == [errno.ENODEV] * 3  # type: ignore[misc]
    assert errno_of(lambda: device.write(BULK_OUT, b"x", LONG_MS)) == errno.ENODEV


def test_a_server_that_hangs_up_ends_every_wait(server: FakeServer, device: Any) -> None:
    ends_all(device, server, server.unplug)


@pytest.mark.parametrize(
    "reply",
    [
        struct.pack("!IIIIIiiiii8x", 3, 999, 0, 0, 0, 0, 0, 0, 0, 0),  # nobody asked
        struct.pack("!IIIIIiiiii8x", 9, 3, 0, 0, 0, 0, 0, 0, 0, 0),  # no such reply
        b"\xff" * 48,
    ],
)
def test_a_server_that_says_nonsense_is_gone(server: FakeServer, device: Any, reply: bytes) -> None:
    ends_all(device, server, lambda: server.raw(reply))


@pytest.mark.parametrize("length", [65, -1, 2**31 - 1])
def test_more_than_was_asked_for_is_not_taken(server: FakeServer, device: Any, length: int) -> None:
    def lie() -> None:
        number = server.device.waiting[BULK_IN][0][0]
        server.raw(struct.pack("!IIIIIiiiii8x", 3, number, 0, 0, 0, 0, length, 0, 0, 0))

    ends_all(device, server, lie)


def test_what_answers_a_transfer_as_if_it_were_taken_back_brings_nothing(
    server: FakeServer, device: Any
) -> None:
    """A defect once: the length that it tells counted, and the reader ended with a ValueError."""
    with ThreadPoolExecutor(1) as pool:
        wait = pool.submit(device.read, BULK_IN, 64, LONG_MS)
        until(lambda: server.device.waiting[BULK_IN], "it waits")
        number = server.device.waiting[BULK_IN].popleft()[0]
        server.raw(struct.pack("!IIIIIiiiii8x", 4, number, 0, 0, 0, 0, 7, 0, 0, 0))
        assert bytes(wait.result(5)) == b""


def test_a_server_that_answers_no_unlink_is_gone(
    server: FakeServer, device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usbip_link, "UNLINK_WITHIN_S", 0.05)
    server.unlink_answers = False
    assert errno_of(lambda: device.read(BULK_IN, 64, 20)) == errno.ENODEV


def test_closing_the_handle_ends_every_wait(server: FakeServer, backend: UsbipBackend) -> None:
    (found,) = backend.enumerate_devices()
    handle = backend.open_device(found)
    with ThreadPoolExecutor(1) as pool:
        wait = pool.submit(handle.transfer, usbip_wire.IN, BULK_IN & 15, 64, LONG_MS)
        until(lambda: server.device.waiting[BULK_IN], "it waits")
        backend.close_device(handle)
        assert errno_of(lambda: wait.result(5)) == errno.ENODEV


def test_a_server_that_takes_nothing_does_not_hang_the_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setattr(usbip_wire, "SEND_WITHIN_S", 0.05)
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 50_000))
        link = usbip_link.UsbipLink(ours, 1)
        out = bytes(4_000_000)
        sent = lambda: link.transfer(usbip_wire.OUT, 1, len(out), LONG_MS, out=out)  # noqa: E731
        assert errno_of(sent) == errno.ENODEV
        link.close()


@pytest.fixture
def dripping(tmp_path: Path) -> Iterator[Path]:
    """A server that says the first byte of an answer again and again, and never all of it."""
    import socket

    path = tmp_path / "dripping"
    over = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as client:
            client.sendall(struct.pack("!HHII", 0x0111, 5, 0, 255))
            while not over.wait(0.02):
                client.sendall(b"\0")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        over.set()
        listener.shutdown(socket.SHUT_RDWR)  # whether anybody came or not
        thread.join()


def test_an_answer_that_drips_has_one_deadline_for_all_of_it(
    dripping: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect once: each piece had one of its own, and a look took minutes."""
    monkeypatch.setattr(usbip_wire, "ANSWER_WITHIN_S", 0.2)
    begun = time.monotonic()
    assert errno_of(lambda: list(UsbipBackend(f"unix:{dripping}").enumerate_devices())) == (
        errno.EPROTO
    )
    assert 0.2 <= time.monotonic() - begun < 5  # the list would take half an hour


def test_closing_waits_so_long_and_no_longer_for_a_server_that_goes_on_speaking(
    dripping: Path,
) -> None:
    """A defect once: each byte began the time anew."""
    link = usbip_link.UsbipLink(usbip_wire.connect(f"unix:{dripping}"), 1)
    closing = threading.Thread(target=link.close)
    closing.start()
    closing.join(5)
    assert not closing.is_alive()


def test_three_hundred_openings_leave_nothing_open(backend: UsbipBackend) -> None:
    (found,) = backend.enumerate_devices()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(300):
        handle = backend.open_device(found)
        handle.transfer(usbip_wire.IN, 0, 1, LONG_MS, b"\x80\x08\0\0\0\0\x01\0")
        handle.close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2  # the server's newest two


def test_the_buffer_behind_a_short_answer_is_left_as_it_was(
    server: FakeServer, device: Any
) -> None:
    buffer = array("B", b"\xee" * 8)
    server.push(BULK_IN, b"abc")
    assert device.read(BULK_IN, buffer, LONG_MS) == 3
    assert buffer.tobytes() == b"abc" + b"\xee" * 5
