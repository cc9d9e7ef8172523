"""What faults do to the transfers of an emulated USB function. Which there are: fault_kinds.py."""

from __future__ import annotations

from typing import Final

from firmware_protocol.quantities import MS
from sim_device.faults import Faults
from sim_device.usb_descriptors import Description

ANY: Final = -1
"""Value of a fault that is meant for whichever data endpoint comes first."""


class TransferFaults:
    """Asks the rules at each occasion. Addresses are those of endpoints, 0 is endpoint 0."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def stalls(self, address: int, now_us: int) -> bool:
        return self._strikes_at("usb_stall", address, now_us)

    def drops(self, address: int, now_us: int) -> bool:
        return self._strikes_at("usb_drop", address, now_us)

    def naks(self, address: int) -> bool:
        """Does it answer nothing, whatever there is?"""
        if not self._faults.any_set:
            return False
        value = self._faults.states().get("usb_nak")
        return value is not None and (value == address or (value == ANY and address != 0))

    def delay_us(self, now_us: int) -> int:
        """So much later a data transfer begins."""
        return MS * (self._struck("usb_delay", now_us) or 0)

    def away_us(self, now_us: int) -> int | None:
        """The device leaves the bus for so long."""
        away_ms = self._struck("usb_reset", now_us)
        return None if away_ms is None else away_ms * MS

    def spoilt(self, packet: bytes, now_us: int) -> bytes | None:
        """What comes of a packet for the host; None: more than it asked for."""
        if not packet or not self._faults.any_set:
            return packet
        lacks = self._struck("usb_short", now_us)
        if lacks is not None:
            return packet[: max(0, len(packet) - lacks)]
        return packet if self._struck("usb_babble", now_us) is None else None

    def plugged_in(self, about: Description, now_us: int) -> Description:
        """What it says about itself from this plugging in on."""
        if self._struck("usb_other_serial", now_us) is None:
            return about
        manufacturer, product, serial = about.texts
        other = serial[:-1] + ("1" if serial.endswith("0") else "0")
        return about._replace(texts=(manufacturer, product, other))

    def _struck(self, kind: str, now_us: int) -> int | None:
        return self._faults.strikes(kind, now_us) if self._faults.any_set else None

    def _strikes_at(self, kind: str, address: int, now_us: int) -> bool:
        if not self._faults.any_set:
            return False
        values = (address, ANY) if address else (address,)
        return any(self._faults.strikes(kind, now_us, value) is not None for value in values)
