"""What the drivers of plain serial devices share: the port, its losses, and who may be on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from drivers.causes import with_step
from drivers.contract import DriverEvent, LinkDown, Transport
from firmware_protocol.quantities import MS, BootUs

LISTEN_US: Final = 150 * MS
"""Nothing is sent on a port just opened before it was quiet for so long. A DuoMAG, which tells its
state unasked, takes some bytes of the other protocols for an intensity: it would charge."""
CUT_SHORT: Final = "port-full: the line took only a part of a command, or nothing of it"
ECHO: Final = "echo: the line brings back what is sent"


class Ear:
    """Who may be on a port: until a device of its family has answered, a driver listens first."""

    def __init__(self) -> None:
        self.known = False  # a device of the family has answered since the port was opened
        self._opened_at = self._quiet_from = self._spoke_at = BootUs(0)

    def opened(self, now: BootUs) -> None:
        self.known = False
        self._opened_at = self._spoke_at = now
        self._quiet_from = BootUs(now + LISTEN_US)

    def spoke(self, now: BootUs) -> None:
        """Something was asked; what comes in the time after it was not unasked."""
        self._spoke_at = now

    def stranger(self, now: BootUs) -> None:
        """Bytes have come that nobody of the family sends unasked."""
        self._quiet_from = BootUs(now + LISTEN_US)

    def own(self) -> None:
        """It was a frame of the family."""
        self._quiet_from = BootUs(self._opened_at + LISTEN_US)

    def may_speak(self, now: BootUs) -> bool:
        return self.known or now >= self._quiet_from

    def complaint(self, now: BootUs) -> str:
        """Why nothing has been sent for long; empty while it is too early to say."""
        if self.may_speak(now) or now - self._spoke_at < 2 * LISTEN_US:
            return ""
        return "unasked: bytes come before anything is asked; is it a DuoMAG"


class Line:
    """One port that comes and goes, and the events for the next `poll`."""

    def __init__(self, open_port: Callable[[], Transport], retry_us: int) -> None:
        self.events: list[DriverEvent] = []
        self.port: Transport | None = None
        self.is_new = False  # the newest `receive` was the first on a port just opened
        self._open_port, self._retry_us = open_port, retry_us
        self._try_at = BootUs(0)
        self._why_down = ""
        self.ear = Ear()
        self.echoed = False  # the newest write came back; cleared by whoever begins to connect
        self._written = self._back = b""

    def fileno(self) -> int:
        return -1 if self.port is None else self.port.fileno()

    def open(self, now: BootUs) -> bool:
        """Whether the port is open; tried again every `retry_us`."""
        if self.port is None and now >= self._try_at:
            self._try_at = BootUs(now + self._retry_us)
            try:
                self.port = self._open_port()
            except OSError as error:
                self.down(str(error))
            else:
                self.ear.opened(now)
                self._written = b""
        return self.port is not None

    def receive(self, now: BootUs) -> bytes | None:
        """All that has arrived; None while there is no port."""
        was_open = self.port is not None
        data = self.read() if self.open(now) else None
        self.is_new = data is not None and not was_open
        return data

    def read(self) -> bytes | None:
        """All that has arrived; None when the port has just been lost, or is closed."""
        if self.port is None:
            return None
        try:
            data = self.port.read()
        except OSError as error:
            self._lose(error)
            return None
        if data and self._written:
            self._look_for_echo(data)
        return data

    def write(self, data: bytes) -> bool:
        """Whether every byte was taken. A port that is lost is noticed by the next `read`."""
        if self.port is None:
            return False
        self._written, self._back = data, b""
        try:
            return self.port.write(data)
        except OSError as error:
            self._lose(error)
            return False

    def up(self) -> None:
        """The device answers: a later loss is told again."""
        self._why_down = ""
        self.ear.known = True

    def down(self, why: str) -> None:
        """Tell it once, not with every attempt. `why` is CODE: sentence; the next step is added."""
        if why != self._why_down:
            self._why_down = why
            self.events.append(LinkDown(with_step(why)))

    def close(self) -> None:
        if self.port is not None:
            self.port.close()
            self.port = None

    def taken(self) -> Sequence[DriverEvent]:
        """What has happened since the last call."""
        if not self.events:
            return ()
        events, self.events = self.events, []
        return events

    def _look_for_echo(self, data: bytes) -> None:
        """Is it, in whatever pieces, what was written last?"""
        written = self._written
        self._back += data[: len(written) - len(self._back)]
        if self._back == written:
            self.echoed = True
        if len(self._back) == len(written) or not written.startswith(self._back):
            self._written = b""

    def _lose(self, error: OSError) -> None:
        self.close()
        self.down(f"port-lost: {error.strerror or error}")
