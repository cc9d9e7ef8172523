"""A USB port: threads, bounded hand-over, STOP past everything, and each way in which it ends."""

from __future__ import annotations

import errno
import gc
import os
import select
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.transport import usb_port
from drivers.transport.port_error import PortError
from drivers.transport.usb_port import Opener, UsbPort
from drivers.transport.usb_transfers import (
    AT_ONCE_MAX,
    HANDED_OVER_MAX,
    READ_SIZE,
    TRANSFER_MAX,
    sentence_of,
)
from tests.fakes.usb_device import BULK_IN, BULK_OUT, INTERRUPT_IN, STOP, FakeUsb
from tests.fakes.usbip_server import FakeDevice, FakeServer
from tests.process.system import until

UNPLUGGED = "the USB device was unplugged, or its USB has failed"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports end within their time-out."""
    monkeypatch.setattr(usb_port, "POLL_MS", 20)


@pytest.fixture
def fake() -> FakeUsb:
    return FakeUsb()


@pytest.fixture
def port(fake: FakeUsb) -> Iterator[UsbPort]:
    made = UsbPort(fake.found())
    yield made
    made.close()
    assert made.ended(5)
    assert fake.disposed == 1


def heard(port: UsbPort, size: int) -> bytes:
    """Read when the port says that there is something, as the guard does."""
    data = b""
    while len(data) < size:
        assert select.select([port], [], [], 5)[0], "nothing came"
        data += port.read()
    return data


def lost(port: UsbPort) -> OSError:
    """How reading fails, once everything that came before has been read."""
    assert select.select([port], [], [], 5)[0], "the loss was not told"
    until(lambda: port._gone is not None, "it is gone")
    for _ in range(2):  # first what came before
        try:
            port.read()
        except OSError as error:
            return error
    raise AssertionError("it is not told")


# -- bytes -----------------------------------------------------------------------------------


def test_what_comes_on_both_pipes_is_read_and_nothing_is_left_to_wake_for(
    fake: FakeUsb, port: UsbPort
) -> None:
    assert port.read() == b""
    fake.next(BULK_IN, b"one", b"two")
    assert heard(port, 6) == b"onetwo"
    fake.next(INTERRUPT_IN, b"status")
    assert heard(port, 6) == b"status"
    assert port.read() == b""
    assert select.select([port], [], [], 0)[0] == []


def test_what_is_written_goes_out_in_its_order(fake: FakeUsb, port: UsbPort) -> None:
    sent = [bytes([n]) * 5 for n in range(40)]
    assert all(port.write(data) for data in sent)
    until(lambda: b"".join(fake.written) == b"".join(sent), "all is written")


@pytest.mark.parametrize(("size", "empty"), [(63, 0), (64, 1), (65, 0), (128, 1)])
def test_a_transfer_of_whole_packets_has_an_empty_one_behind_it(
    fake: FakeUsb, port: UsbPort, size: int, empty: int
) -> None:
    port.write(bytes(size))
    until(lambda: fake.written == [bytes(size)] + [b""] * empty, "it is written")


def test_a_transfer_longer_than_the_buffer_stays_in_one_piece(fake: FakeUsb, port: UsbPort) -> None:
    """A frame of the other pipe in its middle would spoil both."""
    fake.next(BULK_IN, b"a" * READ_SIZE)
    until(lambda: fake.reads == [BULK_IN], "the first part is read")
    fake.next(INTERRUPT_IN, b"status")
    assert heard(port, 6) == b"status"
    fake.next(BULK_IN, b"end")
    assert heard(port, READ_SIZE + 3) == b"a" * READ_SIZE + b"end"


def test_a_transfer_without_an_end_is_handed_over_in_bounded_pieces(
    fake: FakeUsb, port: UsbPort
) -> None:
    fake.next(BULK_IN, *[bytes(READ_SIZE)] * 20)
    assert len(heard(port, TRANSFER_MAX)) == TRANSFER_MAX


# -- bounds ----------------------------------------------------------------------------------


def test_while_the_guard_is_away_a_bounded_number_is_taken_and_none_is_lost(
    fake: FakeUsb, port: UsbPort
) -> None:
    total = HANDED_OVER_MAX + 100
    fake.next(INTERRUPT_IN, *[n.to_bytes(2, "big") for n in range(total)])
    until(lambda: len(fake.reads) == HANDED_OVER_MAX, "it is full")
    assert len(port._came) == HANDED_OVER_MAX
    fake.next(BULK_IN, b"")  # the other pipe is still read
    until(lambda: fake.reads[-1] == BULK_IN, "bulk is read")
    data = heard(port, 2 * total)
    assert data == b"".join(n.to_bytes(2, "big") for n in range(total))


@pytest.mark.parametrize("size", [4, READ_SIZE - 1, READ_SIZE])
def test_a_pipe_that_overflows_is_bounded_in_bytes_and_none_is_lost(
    fake: FakeUsb, port: UsbPort, size: int
) -> None:
    """A defect once: a babbling device filled 32 MB, and the guard took them with one call."""
    total = HANDED_OVER_MAX + 100
    came = [n.to_bytes(4, "big") * (size // 4) for n in range(total)]
    fake.next(BULK_IN, *came, b"")
    until(lambda: len(fake.reads) == HANDED_OVER_MAX, "it is full")
    assert sum(len(data) for _, data in port._came) <= HANDED_OVER_MAX * READ_SIZE
    data = b""
    while len(data) < len(b"".join(came)):
        assert select.select([port], [], [], 5)[0], "it wakes for what is left"
        piece = port.read()
        assert len(piece) <= AT_ONCE_MAX
        data += piece
    assert data == b"".join(came)
    until(lambda: len(fake.reads) == total + 1, "all is read")
    fake.next(BULK_IN, *came)  # and there is as much room as before
    until(lambda: len(fake.reads) == total + 1 + HANDED_OVER_MAX, "it is full again")
    assert fake.script[BULK_IN]


def test_the_longest_transfer_is_given_by_a_call_of_its_own(fake: FakeUsb, port: UsbPort) -> None:
    fake.next(BULK_IN, b"short", *[bytes(READ_SIZE)] * (TRANSFER_MAX // READ_SIZE), b"end")
    until(lambda: len(port._came) == 3, "all is there")
    assert [len(port.read()) for _ in range(4)] == [5, TRANSFER_MAX, 3, 0]
    assert select.select([port], [], [], 0)[0] == []


def test_a_device_that_takes_nothing_fills_the_queue_and_write_says_so(
    fake: FakeUsb, port: UsbPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usb_port, "WRITE_WITHIN_MS", 5_000)
    fake.nak.add(BULK_OUT)
    port.write(b"under way")
    until(port._to_send.empty, "the first is under way")
    assert [port.write(b"x") for _ in range(usb_port.QUEUED_MAX)] == [True] * usb_port.QUEUED_MAX
    assert port.write(b"one too many") is False
    fake.next(BULK_OUT, b"")  # it takes the first after all
    fake.nak.clear()
    until(lambda: fake.written == [b"under way", b"x" * usb_port.QUEUED_MAX, b""], "all is written")


def test_endless_nak_hangs_nothing_and_what_was_due_is_not_sent_late(
    fake: FakeUsb, port: UsbPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usb_port, "WRITE_WITHIN_MS", 10)
    fake.nak |= {BULK_OUT, STOP}
    port.write(b"too late")
    port.stop()
    until(lambda: port._to_send.empty() and port._to_stop.empty(), "both are under way")
    select.select([], [], [], 0.05)
    fake.nak.clear()
    port.write(b"in time")
    until(lambda: fake.written == [b"in time"], "it is written")
    assert port._gone is None


# -- STOP ------------------------------------------------------------------------------------


def test_stop_passes_a_bulk_pipe_that_takes_nothing(
    fake: FakeUsb, port: UsbPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usb_port, "WRITE_WITHIN_MS", 2_000)
    fake.nak.add(BULK_OUT)
    for _ in range(10):
        port.write(b"x")
    assert port.stop() is True
    until(lambda: fake.stops == [(0x41, 0x01, 0, 0)], "STOP is sent")
    assert fake.written == []
    fake.next(BULK_OUT, b"", b"")


def test_a_thousand_stops_wait_as_one(fake: FakeUsb, port: UsbPort) -> None:
    fake.nak.add(STOP)
    for _ in range(1_000):
        assert port.stop()
    assert port._to_stop.qsize() <= 1
    fake.next(STOP, b"", b"")
    until(lambda: fake.stops, "STOP is sent")


def test_a_device_that_knows_no_stop_request_keeps_its_port(fake: FakeUsb, port: UsbPort) -> None:
    fake.next(STOP, errno.EPIPE)
    port.stop()
    until(lambda: not fake.script[STOP], "it was refused")
    port.stop()
    until(lambda: len(fake.stops) == 1, "it is asked again")
    assert port.read() == b""


# -- losses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENODEV, UNPLUGGED),
        (errno.EIO, UNPLUGGED),
        (errno.ESHUTDOWN, UNPLUGGED),
        (errno.ENOENT, UNPLUGGED),
        (errno.EOVERFLOW, "the USB device sent more than was asked for"),
        (errno.EPROTO, "the USB device does not answer as USB demands; see its cable"),
        (errno.EBUSY, "the USB transfer failed: as the test wants it"),
    ],
)
@pytest.mark.parametrize("where", [BULK_IN, INTERRUPT_IN, BULK_OUT, STOP])
def test_each_error_on_each_pipe_is_a_loss_with_its_cause(
    fake: FakeUsb, port: UsbPort, where: int | str, number: int, sentence: str
) -> None:
    fake.next(where, number)
    if where == BULK_OUT:
        port.write(b"x")
    elif where == STOP:
        port.stop()
    error = lost(port)
    assert (error.errno, error.strerror) == (number, sentence)
    with pytest.raises(OSError, match=sentence.partition(";")[0]):
        port.write(b"x")


def test_what_came_before_the_loss_is_read_first(fake: FakeUsb, port: UsbPort) -> None:
    fake.next(BULK_IN, b"last words", errno.ENODEV)
    until(lambda: port._gone is not None, "it is gone")
    assert port.read() == b"last words"
    assert lost(port).errno == errno.ENODEV


@pytest.mark.parametrize("where", [BULK_IN, INTERRUPT_IN])
def test_a_halted_endpoint_is_freed_once(fake: FakeUsb, port: UsbPort, where: int) -> None:
    fake.next(where, errno.EPIPE, b"again")
    assert heard(port, 5) == b"again"
    assert fake.cleared == [where]
    fake.next(where, errno.EPIPE, b"later")  # it worked in between
    assert heard(port, 5) == b"later"
    fake.next(where, errno.EPIPE, errno.EPIPE)
    error = lost(port)
    assert error.strerror == "the USB device halts an endpoint again and again"
    assert fake.cleared == [where] * 3


def test_what_a_halted_endpoint_held_is_never_sent_again(fake: FakeUsb, port: UsbPort) -> None:
    fake.next(BULK_OUT, errno.EPIPE)
    port.write(b"fire")
    until(lambda: fake.cleared == [BULK_OUT], "it is freed")
    port.write(b"beat")
    until(lambda: fake.written == [b"beat"], "the next is written")


def test_an_endpoint_that_cannot_be_freed_is_a_loss(fake: FakeUsb, port: UsbPort) -> None:
    fake.next(BULK_IN, errno.EPIPE)
    fake.next(-BULK_IN, errno.ENODEV)
    assert lost(port).errno == errno.ENODEV


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("raised", [NotImplementedError("no"), ValueError("no"), OSError(5, "no")])
@pytest.mark.parametrize("where", [BULK_IN, INTERRUPT_IN, BULK_OUT, STOP])
def test_whatever_ends_a_thread_is_a_loss_and_all_is_given_back(
    fake: FakeUsb, port: UsbPort, where: int | str, raised: Exception
) -> None:
    """A defect once: a thread ended without a word, and the port stayed."""
    fake.next(where, raised)
    if where == BULK_OUT:
        port.write(b"x")
    elif where == STOP:
        port.stop()
    error = lost(port)
    assert (error.errno, error.strerror) == (errno.EIO, f"the USB transfer failed: {raised!r}")
    assert not port.ended(0.05)  # its file is still the guard's


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_device_that_cannot_be_given_back_keeps_no_file_open(
    fake: FakeUsb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dispose(_device: FakeUsb) -> None:
        raise NotImplementedError

    monkeypatch.setattr("usb.util.dispose_resources", dispose)
    port = UsbPort(fake.found())
    port.close()
    assert port.ended(5)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(port.fileno())


def test_every_number_of_the_system_has_a_sentence() -> None:
    from usb.core import USBError

    for number in errno.errorcode:
        assert sentence_of(USBError("why", None, number))


# -- the end ---------------------------------------------------------------------------------


def test_what_was_accepted_before_close_still_goes_out(fake: FakeUsb) -> None:
    port = UsbPort(fake.found())
    port.write(b"disarm")
    port.stop()
    port.close()
    assert port.ended(5)
    assert fake.written == [b"disarm"]
    assert len(fake.stops) == 1
    assert fake.disposed == 1


def test_closing_twice_and_stopping_afterwards_does_no_harm(fake: FakeUsb) -> None:
    port = UsbPort(fake.found())
    port.close()
    port.close()
    assert port.stop() is True
    assert port.ended(5)
    assert fake.stops == []
    assert port._gone is None  # its threads ended in good order


def test_close_ends_a_port_whose_device_takes_nothing_and_whose_guard_reads_nothing(
    fake: FakeUsb,
) -> None:
    port = UsbPort(fake.found())
    fake.next(BULK_IN, *[b"x"] * (2 * HANDED_OVER_MAX))
    fake.nak |= {BULK_OUT, STOP}
    for _ in range(10):
        port.write(b"x")
    port.stop()
    until(lambda: len(fake.reads) == HANDED_OVER_MAX, "it is full")
    port.close()
    assert port.ended(5)


def test_two_hundred_ports_leave_no_thread_and_no_file_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(usb_port, "POLL_MS", 1)
    files, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(200):
        port = UsbPort(FakeUsb().found())
        port.close()
        assert port.ended(5)
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) == files


def test_a_port_leaves_nothing_to_the_garbage_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard runs with it switched off, and a device may come and go for weeks."""
    monkeypatch.setattr(usb_port, "POLL_MS", 1)
    ports = [UsbPort(FakeUsb().found()) for _ in range(3)]
    for port in ports:
        port.close()
        assert port.ended(5)
    gc.collect()
    gc.disable()
    try:
        port = UsbPort(FakeUsb().found())
        port.close()
        assert port.ended(5)
        del port
        assert gc.collect() <= 50
    finally:
        gc.enable()


@pytest.mark.parametrize("freed", [errno.ENODEV, ValueError])
@pytest.mark.parametrize("where", [BULK_IN, BULK_OUT])
def test_a_lost_port_is_freed_without_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch, where: int, freed: int | type[ValueError]
) -> None:
    """A defect once: a halted endpoint that could not be freed kept its port and its device."""
    fake = FakeUsb()
    fake.next(where, errno.EPIPE)
    fake.next(-where, freed if isinstance(freed, int) else freed())
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # pytest's keeps the exception
    gc.disable()
    try:
        port = UsbPort(fake.found())
        if where == BULK_OUT:
            port.write(b"x")
        lost(port)
        closed(port)
        kept = weakref.ref(port)
        del port
        until(lambda: kept() is None, "it is freed")
    finally:
        gc.enable()


def test_a_program_that_forgets_to_close_ends_all_the_same() -> None:
    program = (
        "from tests.fakes.usb_device import FakeUsb\n"
        "from drivers.transport.usb_port import UsbPort\n"
        "port = UsbPort(FakeUsb().found())\n"
        "raise SystemExit(7)\n"
    )
    words = [sys.executable, "-c", program]
    assert (
        subprocess.run(words, cwd=Path(__file__).parents[2], timeout=30, check=False).returncode
        == 7
    )


# -- no thread -------------------------------------------------------------------------------


def after(good: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many threads of USB can still be started, and then no other."""
    start, names = threading.Thread.start, iter(range(good))

    def limited(thread: threading.Thread) -> None:
        if thread.name.startswith("usb") and next(names, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)


@pytest.mark.parametrize("good", range(4))
def test_without_a_thread_for_each_task_the_device_is_given_back(
    fake: FakeUsb, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    """A defect once: those that had begun read on for ever."""
    files, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    with monkeypatch.context() as patch:
        after(good, patch)
        with pytest.raises(RuntimeError):
            UsbPort(fake.found())
    until(lambda: threading.active_count() == threads, "those that had begun have ended")
    assert fake.disposed == 1
    assert len(list(Path("/proc/self/fd").iterdir())) == files


@pytest.mark.parametrize("good", range(5))
def test_without_threads_opening_is_refused_and_works_again_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    with FakeServer(folder / "usb") as server:
        opener = Opener(server.url)
        with monkeypatch.context() as patch:
            after(good, patch)  # the look is the first
            error = refusal(opener)
        assert str(error) == "port-failed: no thread can be had for USB: can't start new thread"
        until(lambda: not server.imported, "the server has it back")
        closed(opened(opener))


# -- finding and opening ---------------------------------------------------------------------


def opened(opener: Opener) -> UsbPort:
    made: list[UsbPort] = []

    def ready() -> bool:
        try:
            made.append(opener())
        except BlockingIOError:
            return False
        return True

    until(ready, "it is open")
    return made[0]


def refusal(opener: Opener) -> PortError:
    with pytest.raises(PortError) as caught:
        opened(opener).close()
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def closed(port: UsbPort) -> None:
    port.close()
    assert port.ended(5)


@pytest.mark.parametrize("serial", ["", "#TR000001"])
def test_a_device_is_opened_by_its_serial_number_or_as_the_only_one(
    folder: Path, serial: str
) -> None:
    with FakeServer(folder / "usb") as server:
        port = opened(Opener(server.url + serial))
        assert port.serial == "TR000001"
        assert server.device.configured == 1
        port.write(b"hello")
        assert heard(port, 5) == b"hello"
        closed(port)
        until(lambda: server.imported == {}, "the server has it back")


def test_the_caller_never_waits_for_the_opening(folder: Path) -> None:
    with FakeServer(folder / "usb") as server:
        opener = Opener(server.url)
        with server.lock, pytest.raises(BlockingIOError):  # the server answers nothing meanwhile
            opener()
        closed(opened(opener))


def test_another_serial_number_in_its_place_is_not_taken(folder: Path) -> None:
    """The URL names none: the first one that was found counts."""
    opener = Opener(f"usbip:unix:{folder}/usb")
    with FakeServer(folder / "usb"):
        closed(opened(opener))
    error = refusal(opener)
    assert str(error) == (
        "port-missing: no tmslink USB device with serial number TR000001 is plugged in"
    )
    with FakeServer(folder / "usb", FakeDevice("TR000002")):
        assert refusal(opener).code == "port-missing"
    with FakeServer(folder / "usb"):
        closed(opened(opener))


def test_two_devices_need_a_serial_number(folder: Path) -> None:
    with FakeServer(folder / "usb", FakeDevice(), FakeDevice("TR000002")) as server:
        error = refusal(Opener(server.url))
        assert error.code == "port-ambiguous"
        assert "TR000001 (bus 3 device 7) and TR000002 (bus 3 device 8)" in str(error)
        port = opened(Opener(f"{server.url}#TR000002"))
        assert port.serial == "TR000002"
        closed(port)


def test_two_devices_of_one_serial_number_are_refused(folder: Path) -> None:
    with FakeServer(folder / "usb", FakeDevice(), FakeDevice()) as server:
        assert refusal(Opener(f"{server.url}#TR000001")).code == "port-ambiguous"


def test_a_device_that_another_program_has_is_busy(folder: Path) -> None:
    with FakeServer(folder / "usb") as server:
        first = opened(Opener(server.url))
        assert refusal(Opener(server.url)).code == "port-busy"
        closed(first)


def test_who_is_unplugged_is_a_loss_and_found_again_after_plugging_in(folder: Path) -> None:
    opener = Opener(f"usbip:unix:{folder}/usb#TR000001")
    for _ in range(3):
        with FakeServer(folder / "usb"):
            port = opened(opener)
        assert lost(port).errno == errno.ENODEV
        port.close()
        assert refusal(opener).code == "port-missing"  # the newest one has ended before


@pytest.mark.parametrize("wrong", ["text", "missing"])
def test_where_no_usbip_is_the_cause_is_told(folder: Path, wrong: str) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        if wrong == "text":
            listener.bind(str(folder / "usb"))
            listener.listen()

            def serve() -> None:
                client, _ = listener.accept()
                with client:
                    client.recv(100)
                    client.sendall(b"220 smtp.example ESMTP\r\n")

            thread = threading.Thread(target=serve)
            thread.start()
        code = {"text": "port-wrong", "missing": "port-missing"}[wrong]
        assert refusal(Opener(f"usbip:unix:{folder}/usb")).code == code
        if wrong == "text":
            thread.join()


@pytest.mark.parametrize(
    "url",
    [
        "usbip:",
        "usbip:unix:",
        "usbip:nowhere",
        "usbip:host:port",
        "usbip:host:65536",
        f"usbip:host:{'1' * 5_000}",
        f"usbip:{'a' * 64}.example:3240",
        "usbip:a..example:3240",
        "usbip:a\0b:3240",
        "usbip:#X",
        "/dev/ttyACM0",
        "usb:a#b",
    ],
)
def test_a_url_that_is_none_of_usb_is_refused_with_the_forms_that_are(url: str) -> None:
    with pytest.raises(ValueError, match="allowed are usb:SERIAL, usbip:unix:PATH#SERIAL"):
        Opener(url)


def test_eventfds_are_not_inherited_by_other_programs(fake: FakeUsb, port: UsbPort) -> None:
    assert not os.get_inheritable(port.fileno())
