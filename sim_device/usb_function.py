"""An emulated USB function: endpoints, transfers, configuration. No I/O, no clock, no thread.

It is a `sim_device.device.Device` around another one, whose bytes travel in packets here instead of
on a line. What the bytes and the vendor requests mean is the matter of its role; the standard
requests are in usb_control.py. An adapter hands in transfers and is told of each end exactly once.
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sim_device import usb_control
from sim_device.device import Device
from sim_device.fault_kinds import USB_KINDS
from sim_device.usb_descriptors import IN, PACKET_MAX, Description
from sim_device.usb_faults import TransferFaults


@dataclass(frozen=True, slots=True)
class Setup:
    """The 8 bytes with which a control transfer begins."""

    request_type: int
    request: int
    value: int
    index: int
    length: int


class Completion(NamedTuple):
    """How a transfer ended."""

    status: int  # 0, or a negative errno as Linux has it
    actual: int = 0  # bytes that were transferred
    data: bytes = b""  # of a transfer IN


Done = Callable[[Completion], None]


class Role(Protocol):
    """What makes a function more than a USB device: its descriptors, vendor requests and bytes."""

    about: Description

    def reset(self, now_us: int, /) -> None:
        """The host begins anew: bus reset, or a configuration or an interface was set."""

    def lost(self) -> None:
        """The bus is gone."""

    def vendor(self, setup: Setup, data: bytes, now_us: int, /) -> bytes | None:
        """Carry out a request that is no standard one; the answer, or None: stall."""

    def take(self, packet: bytes, now_us: int) -> bool:
        """One packet OUT. False: the endpoint halts."""

    def give(self, address: int, now_us: int, /) -> bytes | None:
        """The next packet of an endpoint IN; None: NAK."""

    def next_us(self, address: int, /) -> int | None:
        """When `give` will have a packet by the mere passing of time."""

    def hear(self, output: bytes, now_us: int, /) -> None:
        """Bytes of the device for its host."""


@dataclass(slots=True)
class _Transfer:
    key: Hashable
    done: Done
    ready_us: int  # not before
    setup: Setup | None = None
    data: bytes = b""  # OUT
    ends_with_zero: bool = False  # OUT: an empty packet follows when the last one is full
    length: int = 0  # IN: most that is wanted
    got: bytearray = field(default_factory=bytearray)


class _Pipe:
    """One endpoint: its transfers in their order."""

    def __init__(self, address: int) -> None:
        self.address = address
        self.halted = False
        self.waiting: deque[_Transfer] = deque()


class UsbFunction:
    """A device behind a USB connector. All instants are the device's, in microseconds."""

    def __init__(self, device: Device, role: Role, now_us: int) -> None:
        self.device, self.role, self.now = device, role, now_us
        self.faults = device.faults
        self._wrongs = TransferFaults(device.faults)
        self.kinds = device.kinds | USB_KINDS.keys()
        self.about = role.about
        self.configured: int = 0
        self._pipes = {each.address: _Pipe(each.address) for each in role.about.endpoints}
        self._control = _Pipe(0)
        self._all = (self._control, *self._pipes.values())
        self._lost: dict[Hashable, Done] = {}  # will never complete while it is on the bus
        self._busy = self._again = False
        self._away_until_us: int | None = None  # by usb_reset
        self._was_plugged = self.plugged

    # -- as a device ---------------------------------------------------------------------------

    @property
    def clock_ppm(self) -> int:
        return self.device.clock_ppm

    @property
    def plugged(self) -> bool:
        """Is it on the bus?"""
        return self.device.plugged and self._away_until_us is None

    def receive(self, data: bytes, now_us: int) -> None:
        """Bytes that reach the device by another way than USB."""
        self.run_to(now_us)
        self.device.receive(data, now_us)
        self._settle()

    def advance(self, now_us: int) -> None:
        self.device.advance(now_us)
        self.run_to(now_us)

    def run_to(self, now_us: int) -> None:
        """All that is due up to now happens at its own instant."""
        while (at := self.next_event_us()) is not None and at <= now_us:
            self._move(at)
        self._move(now_us)

    def next_event_us(self) -> int | None:
        earliest = self.device.next_event_us()
        waiting = [self._due_us(pipe) for pipe in self._all if pipe.waiting]
        for at in (self._away_until_us, *waiting):
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        return earliest

    def take_output(self) -> bytes:
        """Nothing: what the device says leaves in packets."""
        return b""

    # -- transfers -----------------------------------------------------------------------------

    def control(self, key: Hashable, setup: bytes, data: bytes, done: Done) -> None:
        """A control transfer: 8 bytes of setup, and the data of a request OUT."""
        parsed = Setup(*struct.unpack("<BBHHH", setup))
        if not self.plugged:
            done(Completion(-errno.ENODEV))
            return
        self._queue(self._control, _Transfer(key, done, self.now, setup=parsed, data=data))

    def submit(
        self,
        key: Hashable,
        endpoint: int,
        data_or_length: bytes | int,
        done: Done,
        *,
        ends_with_zero: bool = False,
    ) -> None:
        """A data transfer: bytes for an endpoint OUT, the most that is wanted of one IN.

        `key` names it for `cancel`. An endpoint that is not there, or not configured, is ENOENT;
        a device that is not there ENODEV.
        """
        if not self.plugged:
            done(Completion(-errno.ENODEV))
            return
        pipe = self._pipes.get(endpoint) if self.configured else None
        if pipe is None or isinstance(data_or_length, int) != bool(endpoint & IN):
            done(Completion(-errno.ENOENT))
            return
        ready_us = self.now + self._wrongs.delay_us(self.now)
        transfer = _Transfer(key, done, ready_us, ends_with_zero=ends_with_zero)
        if isinstance(data_or_length, int):
            transfer.length = data_or_length
        else:
            transfer.data = data_or_length
        away_us = self._wrongs.away_us(self.now)
        if away_us is None:
            self._queue(pipe, transfer)
        else:
            pipe.waiting.append(transfer)
            self._away_until_us = self.now + away_us
            self.role.reset(self.now)
            self._settle()

    def cancel(self, key: Hashable) -> bool:
        """Take a transfer back; False when it has ended already. It is not told of its end."""
        if self._lost.pop(key, None) is not None:
            return True
        for pipe in self._all:
            for transfer in pipe.waiting:
                if transfer.key == key:
                    pipe.waiting.remove(transfer)
                    self._settle()  # it may have held up the next one
                    return True
        return False

    def bus_reset(self) -> None:
        """As a host does before it enumerates."""
        self._end_all(-errno.ESHUTDOWN)
        self.begin_anew(0)
        self._settle()

    def lose_host(self) -> None:
        """The host is gone, and with it whoever could be told of anything."""
        for pipe in self._all:
            pipe.waiting.clear()
        self._lost.clear()
        self._leave()

    # -- for usb_control -----------------------------------------------------------------------

    def begin_anew(self, configuration: int) -> None:
        """Nothing is halted, and the role begins anew."""
        self.configured = configuration
        for pipe in self._pipes.values():
            pipe.halted = False
            self._end(pipe, -errno.ESHUTDOWN)
        self.role.reset(self.now)

    def halted(self, address: int) -> bool | None:
        """None when there is no such endpoint; endpoint 0 is never halted."""
        if address & ~IN == 0:
            return False
        pipe = self._pipes.get(address)
        return None if pipe is None else pipe.halted

    def halt(self, address: int) -> None:
        if address in self._pipes:
            self._pipes[address].halted = True
            self._end(self._pipes[address], -errno.EPIPE)

    def resume(self, address: int) -> None:
        if address in self._pipes:
            self._pipes[address].halted = False

    # -- inside --------------------------------------------------------------------------------

    def _move(self, to_us: int) -> None:
        self.device.run_to(to_us)
        self.now = max(self.now, to_us)
        self._settle()

    def _settle(self) -> None:
        """What follows from all that has happened by now. Who is told of an end may submit more:
        that is done here as well, and not inside of it."""
        self._again = True
        if self._busy:
            return
        self._busy = True
        try:
            while self._again:
                self._again = False
                self._step()
        finally:
            self._busy = False

    def _step(self) -> None:
        if self._away_until_us is not None and self._away_until_us <= self.now:
            self._away_until_us = None
        if self.plugged != self._was_plugged:
            self._was_plugged = self.plugged
            if self.plugged:
                self.about = self._wrongs.plugged_in(self.role.about, self.now)
            else:
                self._end_all(-errno.ESHUTDOWN)
                self._leave()
        for pipe in self._all:
            if pipe.waiting and not pipe.address & IN:
                self._serve(pipe)
        output = self.device.take_output()
        if output:
            self.role.hear(output, self.now)
        for pipe in self._all:
            if pipe.waiting and pipe.address & IN:
                self._serve(pipe)

    def _leave(self) -> None:
        self.configured = 0
        for pipe in self._pipes.values():
            pipe.halted = False
        self.role.lost()

    def _queue(self, pipe: _Pipe, transfer: _Transfer) -> None:
        if not pipe.halted and self._wrongs.stalls(pipe.address, self.now):
            if pipe is self._control:
                transfer.done(Completion(-errno.EPIPE))
                return
            self.halt(pipe.address)
        if pipe.halted:
            transfer.done(Completion(-errno.EPIPE))
        elif self._wrongs.drops(pipe.address, self.now):
            self._lost[transfer.key] = transfer.done
        else:
            pipe.waiting.append(transfer)
            self._settle()

    def _due_us(self, pipe: _Pipe) -> int | None:
        """When something happens at an endpoint by the mere passing of time."""
        if self._wrongs.naks(pipe.address):
            return None
        ready_us = pipe.waiting[0].ready_us
        if ready_us > self.now:
            return ready_us
        return self.role.next_us(pipe.address) if pipe.address & IN else None

    def _serve(self, pipe: _Pipe) -> None:
        """Carry on with the transfers of an endpoint as far as it goes now."""
        while pipe.waiting and not self._wrongs.naks(pipe.address):
            if pipe.waiting[0].ready_us > self.now:
                return
            transfer = pipe.waiting.popleft()  # first: whoever is told of something may clear all
            ended = self._fill(pipe, transfer) if pipe.address & IN else self._out(transfer)
            if ended is None:
                pipe.waiting.appendleft(transfer)
                return
            transfer.done(ended)
            if ended.status == -errno.EPIPE:
                self.halt(pipe.address)  # endpoint 0 only stalled one request

    def _out(self, transfer: _Transfer) -> Completion:
        return self._empty(transfer) if transfer.setup is None else self._answer(transfer)

    def _answer(self, transfer: _Transfer) -> Completion:
        setup, data = transfer.setup, transfer.data
        assert setup is not None
        reads = bool(setup.request_type & IN)
        if not reads and len(data) != setup.length:
            return Completion(-errno.EPIPE)
        said = usb_control.answer(self, setup, data)
        if said is None:
            return Completion(-errno.EPIPE)
        said = said[: setup.length]
        return Completion(0, len(said), said) if reads else Completion(0, len(data))

    def _empty(self, transfer: _Transfer) -> Completion:
        """Packets OUT. An empty one belongs to an empty transfer, or was asked for."""
        data = transfer.data
        packets = [data[at : at + PACKET_MAX] for at in range(0, len(data), PACKET_MAX)]
        if not packets or (transfer.ends_with_zero and len(packets[-1]) == PACKET_MAX):
            packets.append(b"")
        for packet in packets:
            if not self.role.take(packet, self.now):
                return Completion(-errno.EPIPE)
        return Completion(0, len(data))

    def _fill(self, pipe: _Pipe, transfer: _Transfer) -> Completion | None:
        """Packets IN until a short one, or all that was wanted; None: the rest has not come."""
        got = transfer.got
        while (packet := self.role.give(pipe.address, self.now)) is not None:
            spoilt = self._wrongs.spoilt(packet, self.now)
            if spoilt is None or len(got) + len(spoilt) > transfer.length:
                return Completion(-errno.EOVERFLOW)
            got += spoilt
            if len(spoilt) < PACKET_MAX or len(got) == transfer.length:
                return Completion(0, len(got), bytes(got))
        return None

    def _end_all(self, status: int) -> None:
        for pipe in self._all:
            self._end(pipe, status)
        lost, self._lost = self._lost, {}
        for done in lost.values():
            done(Completion(status))

    def _end(self, pipe: _Pipe, status: int) -> None:
        while pipe.waiting:
            pipe.waiting.popleft().done(Completion(status))
