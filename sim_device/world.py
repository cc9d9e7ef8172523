"""Two wires and a device in virtual time. A test moves the clock from event to event."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from sim_device.device import Device, DeviceClock


class Wire:
    """One direction of a serial line: in order, with a delay, and as bad as a test wants it."""

    def __init__(self, rng: random.Random, delay_us: int = 0, per_byte_us: int = 0) -> None:
        self.delay_us, self.per_byte_us = delay_us, per_byte_us
        self.loss = self.flip = self.duplicate = 0.0  # probability for each write
        self.cut = False
        self._rng = rng
        self._free_us = 0  # when the line has sent all that was written
        self.under_way: deque[tuple[int, bytes]] = deque()  # when each write arrives

    def send(self, data: bytes, now_us: int) -> None:
        """A write arrives whole when its last byte does, or, on a bad line, not at all."""
        rng = self._rng
        if self.cut or (self.loss and rng.random() < self.loss):
            return
        if self.flip and rng.random() < self.flip:
            at = rng.randrange(len(data))
            data = data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]
        if self.duplicate and rng.random() < self.duplicate:
            data += data
        begin_us = max(now_us, self._free_us)
        self._free_us = begin_us + len(data) * self.per_byte_us
        arrives_us = self._free_us + self.delay_us
        if self.under_way and self.under_way[-1][0] > arrives_us:
            arrives_us = self.under_way[-1][0]
        self.under_way.append((arrives_us, data))

    def arrived(self, now_us: int) -> bytes:
        """What has come out since the last call."""
        under_way, data = self.under_way, b""
        while under_way and under_way[0][0] <= now_us:
            data += under_way.popleft()[1]
        return data

    def next_event_us(self, now_us: int) -> int | None:
        """When the next write arrives that has not arrived by now."""
        for at, _ in self.under_way:
            if at > now_us:
                return at
        return None

    def clear(self) -> None:
        """Forget what is under way."""
        self.under_way.clear()


class VirtualPort:
    """The host's end of the line to a device. All times here are the host's."""

    def __init__(
        self, device: Device, to_device: Wire, to_host: Wire, clock: DeviceClock, now_us: int
    ) -> None:
        self.device, self.to_device, self.to_host, self.clock = device, to_device, to_host, clock
        self.now_us = now_us
        self.plugged = True
        self._open = True

    def open(self) -> VirtualPort:
        """Open again after `close`; OSError while unplugged."""
        self._open = self.plugged and self.device.plugged
        self._check()
        return self

    def read(self) -> bytes:
        """All that has arrived by now."""
        self._check()
        return self.to_host.arrived(self.now_us)

    def write(self, data: bytes) -> bool:
        self._check()
        if data:
            self.to_device.send(data, self.now_us)
        return True

    def stop(self) -> bool:
        return False  # a line has no way but its bytes

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        """What was under way to the host is lost."""
        self._open = False
        self.to_host.clear()

    def next_event_us(self) -> int | None:
        """Next instant at which the device acts or a write arrives at either end."""
        own_us = self.device.next_event_us()
        instants = (
            None if own_us is None else max(self.now_us, self.clock.host(own_us)),
            self.to_device.next_event_us(self.now_us - 1),
            self.to_host.next_event_us(self.now_us),
        )
        return min((at for at in instants if at is not None), default=None)

    def advance(self, to_us: int, heard: Callable[[int], None] | None = None) -> None:
        """Let everything up to `to_us` happen, each at its own instant.

        `heard` is called with the instant at which bytes have arrived for the host.
        """
        device, clock = self.device, self.clock
        written, told = self.to_device.under_way, self.to_host.under_way
        limit_us = clock.device(to_us)
        while True:
            at, acts = to_us, False
            own_us = device.next_event_us()
            if own_us is not None and own_us <= limit_us:
                at, acts = clock.host(own_us), True
            if written and written[0][0] <= at:
                at, acts = written[0][0], True
            if told and heard is not None:
                arrival_us = told[0][0]
                if arrival_us <= self.now_us:  # it has not been read
                    arrival_us = self.to_host.next_event_us(self.now_us) or to_us
                if arrival_us < at:
                    at, acts = arrival_us, False
            at = self.now_us = max(at, self.now_us)
            if acts:
                self._act(at)
                if device.clock_ppm != clock.ppm:
                    clock.set_ppm(device.clock_ppm, at)
                    limit_us = clock.device(to_us)
            if told and heard is not None and told[0][0] <= at:
                heard(at)
            if at >= to_us:
                return

    def _act(self, at_us: int) -> None:
        """The device takes what has been written, or does what is due by itself."""
        device, device_us = self.device, self.clock.device(at_us)
        written = self.to_device.arrived(at_us)
        if written:
            device.receive(written, device_us)  # it does first what is due
        else:
            device.run_to(device_us)
        out = device.take_output()
        if not device.plugged:
            self._open = False
            self.to_host.clear()
        elif out and self.plugged and self._open:
            self.to_host.send(out, at_us)

    def _check(self) -> None:
        if not (self._open and self.plugged and self.device.plugged):
            raise OSError("the virtual port is closed or unplugged")
