"""A line with modem lines: RFC 2217 on a loopback port, as pyserial's `rfc2217://` speaks it.

Of the modem lines only RTS does anything: a quick-fire cable leads it to the trigger input. DTR
and a BREAK, which some programs send, lead nowhere.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from serial.rfc2217 import PortManager

from sim_device.ports import TcpPort

OPTION_MAX: Final = 64
"""Bytes of a telnet option that has begun and does not end; who sends more is hung up on."""

_MALFORMED: Final = (ValueError, LookupError, TypeError, struct.error)
"""What the parser makes of an option that is cut short or holds an unknown value."""


class ModemLines:
    """What the client has set. PortManager takes it for a serial port."""

    cts = dsr = True
    ri = cd = False
    dtr = break_condition = False

    def __init__(self) -> None:
        self.baudrate, self.bytesize, self.parity, self.stopbits = 9600, 8, "N", 1
        self.xonxoff = self.rtscts = False
        self.rises = 0  # of RTS, so far
        self._rts = False

    @property
    def rts(self) -> bool:
        return self._rts

    @rts.setter
    def rts(self, level: bool) -> None:
        self.rises += level and not self._rts
        self._rts = level

    def reset_input_buffer(self) -> None:
        """Nothing is kept here."""

    def reset_output_buffer(self) -> None:
        """Nothing is kept here."""


class _Telnet:
    """One client: its bytes without the telnet between them, and its modem lines."""

    def __init__(self, port: Rfc2217Port) -> None:
        self._port = port
        self.lines = ModemLines()
        lines: Any = self.lines  # PortManager asks for no more of a port than these have
        line: Any = self
        self.manager = PortManager(lines, line)

    def write(self, data: bytes) -> None:
        """An answer of the telnet side."""
        self._port.send(data)


class Rfc2217Port(TcpPort):
    """As TcpPort, with modem lines. RTS is low until a client raises it, and when it has gone."""

    option = "--rfc2217"

    def __init__(self, address: str) -> None:
        self._telnet: _Telnet | None = None
        super().__init__(address)

    def read(self) -> bytes:
        self.edges = ()
        raw = super().read()
        if self._telnet is None:
            return b""
        return self._plain(raw, self._telnet)

    def write(self, data: bytes) -> None:
        if self._telnet is not None:
            self.send(b"".join(self._telnet.manager.escape(data)))

    def _plain(self, raw: bytes, telnet: _Telnet) -> bytes:
        """The bytes for the device, and in `edges` where among them RTS rose."""
        data, edges, lines = bytearray(), [], telnet.lines
        try:
            for at in range(len(raw)):
                before = lines.rises
                data += b"".join(telnet.manager.filter(raw[at : at + 1]))
                if lines.rises > before:
                    edges.append(len(data))
            too_long = len(telnet.manager.suboption or b"") > OPTION_MAX
        except _MALFORMED:
            too_long = True
        if too_long:
            self._hang_up()
        self.edges = tuple(edges)
        return bytes(data)

    def _greet(self) -> None:
        self._telnet = _Telnet(self)

    def _hang_up(self) -> None:
        super()._hang_up()
        self._telnet = None
