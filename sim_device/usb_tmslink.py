"""tmslink over USB: the device class of docs/tmslink.md, section USB, seen from the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from firmware_protocol.table import spec_of
from firmware_protocol.tmslink.messages import DELIMITER, STOP_BYTES, Fault, Status
from sim_device.tmslink_firmware import Firmware
from sim_device.usb_descriptors import PACKET_MAX, Description, Endpoint, Transfer
from sim_device.usb_function import Setup, UsbFunction
from sim_device.wire_faults import PIECE

VENDOR, PRODUCT = 0x1209, 0x0001
"""The id of pid.codes for tests. Nothing that is sold may have it."""

CLASS: Final = (0xFF, 0x54, 0x01)

# Not in the order of the descriptors, so that who guesses numbers is found out.
BULK_OUT, BULK_IN, INTERRUPT_IN = 0x02, 0x83, 0x81

TO_INTERFACE, FROM_INTERFACE = 0x41, 0xC1  # bmRequestType of vendor requests
STOP, IDENTITY = 0x01, 0x02  # bRequest

TRANSFER_MAX: Final = 4096
"""Bytes of one transfer OUT; the endpoint halts for a longer one."""

QUEUE_MAX: Final = {BULK_IN: 64, INTERRUPT_IN: 8}
"""Packets that wait for the host. A transfer over bulk that finds no room is lost as a whole; of
the others the oldest gives way, since the newest STATUS is the one that counts."""

_INTERRUPTS: Final = frozenset({spec_of(Status).code, spec_of(Fault).code})
_CODE_AT: Final = 2  # in a frame: behind its delimiter and the first count; a code is never zero


class TmslinkRole:
    """`end_session` and `identity` are those of the firmware, `hand_over` takes a host's bytes."""

    def __init__(
        self,
        hand_over: Callable[[bytes, int], None],
        end_session: Callable[[], None],
        identity: Callable[[], bytes | None],
        model: str,
        serial: str,
    ) -> None:
        self.about = Description(
            vendor=VENDOR,
            product=PRODUCT,
            release=0x0100,
            class_=CLASS,
            endpoints=(
                Endpoint(BULK_OUT, Transfer.BULK),
                Endpoint(BULK_IN, Transfer.BULK),
                Endpoint(INTERRUPT_IN, Transfer.INTERRUPT, interval_ms=1),
            ),
            self_powered=True,
            max_ma=0,
            texts=("tmsctl", model, serial),
        )
        self._hand_over, self._end_session, self._identity = hand_over, end_session, identity
        self._coming = bytearray()  # of a transfer OUT that has not ended
        self._packets: dict[int, deque[bytes]] = {address: deque() for address in QUEUE_MAX}

    def reset(self, _now_us: int) -> None:
        """Ends the session: the device is disarmed at once."""
        self._end_session()
        self.lost()

    def lost(self) -> None:
        """What was under way is. The session ends by its dead-man, as on any line."""
        self._coming.clear()
        for packets in self._packets.values():
            packets.clear()

    def vendor(self, setup: Setup, _data: bytes, now_us: int) -> bytes | None:
        """STOP and IDENTITY; all else stalls."""
        if setup.value or setup.index:
            return None
        asked = (setup.request_type, setup.request)
        if asked == (TO_INTERFACE, STOP) and not setup.length:
            # Its run ends here: the next request is a STOP again, whatever comes in between.
            self._hand_over(STOP_BYTES + DELIMITER, now_us)
            return b""
        return self._identity() if asked == (FROM_INTERFACE, IDENTITY) else None

    def take(self, packet: bytes, now_us: int) -> bool:
        """A transfer is handed over whole, when its short packet has come."""
        self._coming += packet
        if len(self._coming) > TRANSFER_MAX:
            self._coming.clear()
            return False
        if len(packet) < PACKET_MAX:
            transfer, self._coming = bytes(self._coming), bytearray()
            if transfer:
                self._hand_over(transfer, now_us)
        return True

    def give(self, address: int, _now_us: int) -> bytes | None:
        packets = self._packets[address]
        return packets.popleft() if packets else None

    def next_us(self, _address: int) -> int | None:
        """Nothing here waits for a clock."""
        return None

    def hear(self, output: bytes, _now_us: int) -> None:
        """Frames by their kind to their endpoint; what is no frame goes with the bulk."""
        bulk, interrupts = bytearray(), self._packets[INTERRUPT_IN]
        for piece in PIECE.findall(output):
            if piece[0] == 0 and piece[_CODE_AT : _CODE_AT + 1] and piece[_CODE_AT] in _INTERRUPTS:
                self._interrupt(piece, interrupts)
            else:
                bulk += piece
        packets = self._packets[BULK_IN]
        new = cut(bytes(bulk)) if bulk else []
        if len(packets) + len(new) <= QUEUE_MAX[BULK_IN]:
            packets.extend(new)

    @staticmethod
    def _interrupt(frame: bytes, packets: deque[bytes]) -> None:
        """One frame, one transfer. Its end is a short packet, as no such frame fills a packet."""
        if len(frame) >= PACKET_MAX:
            return  # a fault of the line has made it longer
        packets.append(frame)
        if len(packets) > QUEUE_MAX[INTERRUPT_IN]:
            packets.popleft()


def cut(transfer: bytes) -> list[bytes]:
    """The packets of a transfer; the last one is short, and may be empty."""
    return [transfer[at : at + PACKET_MAX] for at in range(0, len(transfer) + 1, PACKET_MAX)]


def make_tmslink(device: Firmware, now_us: int) -> UsbFunction:
    """The emulated tmslink device behind a USB connector of its own."""
    settings = device.settings
    role = TmslinkRole(
        device.receive, device.end_session, device.identity, settings.model, settings.serial
    )
    return UsbFunction(device, role, now_us)
