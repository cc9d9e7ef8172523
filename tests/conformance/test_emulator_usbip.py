"""The USB/IP server of the emulator, with a raw client; both in this process, time is virtual."""

from __future__ import annotations

import errno
import select
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from usb_host import IDENTITY, STALL, STOP, TmslinkHost

from firmware_protocol.tmslink import messages as m
from sim_device.faults import Rule
from sim_device.settings import SetupError
from sim_device.usb_tmslink import BULK_IN, BULK_OUT, CLASS, INTERRUPT_IN
from sim_device.usbip_attach import attach, usb_lines
from sim_device.usbip_port import CLIENTS_MAX, PENDING_MAX, UsbipPort
from sim_device.usbip_wire import DATA_MAX
from tests.fakes.usbip import DEVICE_ID, GET_CONFIGURATION, UsbipClient

DEVICE = (b"1-1", 0x1209, 0x0001, CLASS)
BUSY, NO_DEVICE = 2, 4


class Server:
    """One emulated device at a socket, and its clients."""

    def __init__(self, folder: Path, *rules: Rule) -> None:
        self.host = TmslinkHost(*rules)  # only for what it knows of the device
        self.function = self.host.function
        self.port = UsbipPort("--usb", f"unix:{folder}/usb", self.function)
        self.clients: list[UsbipClient] = []

    def serve(self) -> None:
        """As the loop of the program, until nothing is left to do."""
        while select.select(self.port.filenos(), [], [], 0)[0]:
            assert self.port.read() == b""
            if self.function.plugged != self.port.plugged:
                self.port.plug(plugged=self.function.plugged)

    def wait(self, duration_us: int) -> None:
        self.host.wait(duration_us)
        if self.function.plugged != self.port.plugged:
            self.port.plug(plugged=self.function.plugged)

    def client(self) -> UsbipClient:
        made = UsbipClient(self.port.name, self.serve)
        self.clients.append(made)
        self.serve()
        return made

    def user(self) -> UsbipClient:
        made = self.client()
        made.begin()
        return made

    def close(self) -> None:
        for client in self.clients:
            client.line.close()
        self.port.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short name: the path of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="tms") as made:
        yield Path(made)


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    made = Server(folder)
    yield made
    made.close()


def hung_up(client: UsbipClient) -> bool:
    try:
        client.exactly(1)
    except EOFError:
        return True
    return False


# -- operations ----------------------------------------------------------------------------------


def test_the_device_is_listed_and_can_be_imported_by_one_client_at_a_time(server: Server) -> None:
    first, second = server.client(), server.client()
    assert first.devices() == second.devices() == [DEVICE]
    assert second.import_(b"2-1") == NO_DEVICE
    assert first.import_() == 0
    assert second.import_() == BUSY
    assert second.devices() == [DEVICE]
    first.close()
    assert second.import_() == 0


def test_a_request_in_pieces_is_understood(server: Server) -> None:
    client = server.client()
    for byte in struct.pack("!HHI32s", 0x111, 0x8003, 0, b"1-1")[:-1]:
        client.send(bytes((byte,)))
    client.send(b"\0")
    assert struct.unpack("!HHI", client.exactly(8))[2] == 0


def test_it_refuses_to_listen_where_others_could_reach_it(folder: Path, server: Server) -> None:
    for bad in ("tcp:0.0.0.0:0", "tcp:192.0.2.1:0", "127.0.0.1:0", "unix:", "tcp:", "tcp:[::]:0"):
        with pytest.raises(SetupError, match=r"^--ftdi "):
            UsbipPort("--ftdi", bad, server.function)
    with pytest.raises(SetupError, match="another emulator listens there"):
        UsbipPort("--usb", server.port.name, server.function)
    path = folder / "usb"
    assert path.stat().st_mode & 0o777 == 0o600
    server.close()
    assert not path.exists()


def test_a_socket_that_a_killed_emulator_left_is_replaced(folder: Path, server: Server) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(folder / "other"))
    left.close()
    again = UsbipPort("--usb", f"unix:{folder}/other", server.function)
    again.close()


def test_more_clients_than_allowed_are_hung_up_on(server: Server) -> None:
    clients = [server.client() for _ in range(CLIENTS_MAX + 1)]
    assert [each.devices() for each in clients[:-1]] == [[DEVICE]] * CLIENTS_MAX
    assert hung_up(clients[-1])


# -- transfers -----------------------------------------------------------------------------------


def test_a_session_opens_over_transfers(server: Server) -> None:
    user = server.user()
    status, rest = user.submit(INTERRUPT_IN, 64), user.submit(BULK_IN, 4096)
    hello = server.host.link.hello(m.Hello(1, 7, 0), 7)
    sent = user.submit(BULK_OUT, hello)
    answers = {answer.number: answer for answer in (user.ret() for _ in range(3))}
    assert answers[sent][:3] == (3, sent, 0)
    assert [len(answers[number].data) for number in (status, rest)] == [61, 60 + 31]
    assert user.control(IDENTITY, length=44).data[34:38] == b"\0\0\0\1"


def test_stop_is_a_request_that_passes_a_full_and_a_halted_endpoint(server: Server) -> None:
    server.function.faults.add(Rule("usb_nak", BULK_OUT, at_us=0, for_us=50_000))
    user = server.user()
    server.wait(0)
    for _ in range(50):
        user.submit(BULK_OUT, b"\0" * 64)
    assert user.control(STOP).status == 0
    assert server.host.state is m.State.LATCHED
    server.wait(100_000)
    assert {user.ret().status for _ in range(50)} == {0}
    assert user.control((0x02, 3), 0, BULK_OUT).status == 0
    user.submit(BULK_OUT, b"\0")
    assert user.ret().status == STALL
    assert user.control(STOP).status == 0
    assert len(server.host.truth("stop")) == 2


def test_a_transfer_that_waits_is_unlinked_and_one_that_has_ended_is_not(server: Server) -> None:
    user = server.user()
    waiting = user.submit(BULK_IN, 64)
    number = user.unlink(waiting)
    assert user.ret() == (4, number, -errno.ECONNRESET, b"")
    done = user.submit(BULK_OUT, b"\0")
    assert user.ret().number == done
    for gone in (done, waiting, 999):
        number = user.unlink(gone)
        assert user.ret() == (4, number, 0, b"")


def test_the_flag_for_an_empty_packet_ends_a_transfer_of_whole_packets(server: Server) -> None:
    user = server.user()
    stop = b"\0" + m.STOP_BYTES * 2 + b"\0" * 63
    user.submit(BULK_OUT, stop)
    assert user.ret().status == 0
    assert server.host.truth("stop") == []  # it waits for the end
    user.submit(BULK_OUT, b"")
    assert len(server.host.truth("stop")) == 1
    user.submit(BULK_OUT, stop, flags=0x40)
    assert [user.ret().status for _ in range(2)] == [0, 0]
    assert len(server.host.truth("stop")) == 2


def test_a_new_import_is_a_bus_reset(server: Server) -> None:
    first = server.user()
    first.submit(BULK_OUT, server.host.link.hello(m.Hello(1, 7, 0), 7))
    first.submit(BULK_IN, 4096)
    first.close()
    assert server.function.configured == 0
    assert server.host.device.sender.session
    second = server.client()
    assert second.import_() == 0
    assert not server.host.device.sender.session
    assert second.control(GET_CONFIGURATION, length=1).data == b"\0"
    second.submit(BULK_IN, 64)
    assert second.ret().status == -errno.ENOENT


@pytest.mark.parametrize("kind", ["disconnect", "usb_reset"])
def test_unplugged_it_hangs_up_on_its_user_and_hides_until_it_is_back(
    kind: str, server: Server
) -> None:
    user, other = server.user(), server.client()
    user.submit(BULK_IN, 64)
    server.function.faults.add(Rule(kind, 100, at_us=0))
    server.wait(0)
    if kind == "usb_reset":
        user.submit(BULK_OUT, b"\0")
        assert user.ret().status == -errno.ESHUTDOWN
    assert user.ret().status == -errno.ESHUTDOWN
    server.wait(0)
    assert hung_up(user)
    assert other.devices() == []
    assert other.import_() == NO_DEVICE
    server.wait(100_000)
    assert other.devices() == [DEVICE]
    assert other.import_() == 0


# -- nonsense ------------------------------------------------------------------------------------


def urb(
    command: int = 1, device: int = DEVICE_ID, direction: int = 0, endpoint: int = 2,
    length: int = 0, packets: int = 0,
) -> bytes:  # fmt: skip
    return struct.pack(
        "!10I8x", command, 1, device, direction, endpoint, 0, length, 0, packets, 0
    )  # fmt: skip


WRONG_OPERATIONS = {
    "version": struct.pack("!HHI", 0x110, 0x8005, 0),
    "code": struct.pack("!HHI", 0x111, 0x8004, 0),
    "an answer": struct.pack("!HHI", 0x111, 0x0005, 0),
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "a transfer before the import": urb(),
}
WRONG_TRANSFERS = {
    "command": urb(command=5),
    "an answer": urb(command=3),
    "device": urb(device=1),
    "direction": urb(direction=2),
    "endpoint": urb(endpoint=16),
    "length": urb(length=DATA_MAX + 1),
    "length of a read": urb(direction=1, length=2**32 - 1),
    "isochronous": urb(packets=4),
    "a number twice": urb(direction=1, endpoint=3, length=64) * 2,
    "an import": struct.pack("!HHI40x", 0x111, 0x8003, 0),
}


@pytest.mark.parametrize("what", WRONG_OPERATIONS)
def test_a_wrong_operation_hangs_up_on_that_client_and_on_no_other(
    what: str, server: Server
) -> None:
    user, bad = server.user(), server.client()
    bad.send(WRONG_OPERATIONS[what])
    assert hung_up(bad)
    assert user.control(GET_CONFIGURATION, length=1).data == b"\1"


@pytest.mark.parametrize("what", WRONG_TRANSFERS)
def test_a_wrong_transfer_hangs_up_and_the_next_client_is_served(what: str, server: Server) -> None:
    other, bad = server.client(), server.user()
    bad.send(WRONG_TRANSFERS[what])
    assert hung_up(bad)
    assert other.import_() == 0


def test_transfers_up_to_the_bounds_are_served(server: Server) -> None:
    user = server.user()
    for _ in range(PENDING_MAX - 1):
        user.submit(BULK_IN, DATA_MAX)
    assert user.control(GET_CONFIGURATION, length=1).data == b"\1"
    user.submit(BULK_IN, 64)
    assert len(server.port.filenos()) == 2
    user.submit(BULK_IN, 64)
    assert hung_up(user)


def test_who_does_not_read_is_hung_up_on(server: Server) -> None:
    user = server.user()

    def flood() -> None:
        for _ in range(100_000):
            user.submit(BULK_OUT, b"")

    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        flood()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(
    st.binary(min_size=1, max_size=100),
    st.builds(
        urb, st.integers(0, 4), st.sampled_from([DEVICE_ID, 0]), st.integers(0, 2),
        st.integers(0, 17), st.sampled_from([0, 1, 64, 2**20, 2**31, 2**32 - 1]),
        st.sampled_from([0, 1, 2**32 - 1]),
    ),
), min_size=1, max_size=12))  # fmt: skip
def test_whatever_a_client_sends_the_next_one_is_served(server: Server, sent: list[bytes]) -> None:
    bad = server.client()
    assert bad.import_() == 0
    try:
        for data in sent:
            bad.send(data)
    except OSError:
        pass  # it was hung up on
    bad.close()
    good = server.user()
    assert good.control(GET_CONFIGURATION, length=1).data == b"\1"
    good.close()
    assert len(server.port.filenos()) == 1


# -- attach --------------------------------------------------------------------------------------

FREE = "hub port sta spd dev      sockfd local_busid\n"


def vhci(folder: Path, status: str) -> Path:
    made = folder / "vhci_hcd.0"
    made.mkdir()
    (made / "status").write_text(FREE + status)
    (made / "attach").touch()
    return made


def test_attach_says_what_to_do_where_the_module_is_missing(folder: Path) -> None:
    with pytest.raises(SetupError, match="modprobe vhci_hcd") as refused:
        attach(["unix:/nonexistent"], folder / "nothing")
    assert "\n" not in str(refused.value)
    with pytest.raises(SetupError, match="usage: tmssim attach"):
        attach([])


def test_a_port_tells_how_it_can_be_attached() -> None:
    assert usb_lines("unix:/tmp/x") == [
        "ready unix:/tmp/x", "as root, with vhci_hcd: tmssim attach unix:/tmp/x"
    ]  # fmt: skip
    assert usb_lines("tcp:127.0.0.1:3240")[2].endswith(
        "usbip --tcp-port 3240 attach -r 127.0.0.1 -b 1-1"
    )


def test_attach_without_an_emulator_says_so(folder: Path) -> None:
    made = vhci(folder, "hs  0000 004 000 00000000 000000 0-0\n")
    for address in (f"unix:{folder}/none", "tcp:127.0.0.1:1", "tcp:x", "unix:", "none"):
        with pytest.raises(SetupError, match=rf"^attach {address}: "):
            attach([address], made)
    with socket.create_server(("127.0.0.1", 0)) as deaf:

        def hang_up() -> None:
            deaf.accept()[0].close()

        hangs_up = threading.Thread(target=hang_up)
        hangs_up.start()
        with pytest.raises(SetupError, match="does not speak USB/IP"):
            attach([f"tcp:127.0.0.1:{deaf.getsockname()[1]}"], made)
        hangs_up.join()
