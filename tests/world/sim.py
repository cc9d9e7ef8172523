"""The whole system in virtual time, in one object.

The production guard, driver and codec, session engine and journal on one side; the emulator's
firmware on the other. One random generator, and one true time in microseconds from which every
clock follows: CLOCK_BOOTTIME, the wall clock, the device's own. Nothing here sleeps or asks the
operating system for the time.

What a judge may read is collected as plain data in `lines`, `heard`, `written`, `hazards` and
`asks`; see `tests.world.evidence`.
"""

from __future__ import annotations

import heapq
import itertools
import random
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from drivers.tmslink.driver import TmslinkStimulator
from firmware_protocol.quantities import MS, SECOND, BootUs
from sim_device.device import DeviceClock
from sim_device.faults import Rule
from sim_device.settings import Settings
from sim_device.tmslink_firmware import Firmware
from sim_device.world import VirtualPort, Wire
from tests.world.processes import Disk, GuardProcess, TmsdProcess
from tmsctl.guard.entry import device_envelope
from tmsctl.records.journal import JournalError
from tmsctl.safety.limits import GENERAL, Limits
from tmsctl.stimulation.protocol import Protocol, load_library

START_US: Final = 1_000 * SECOND
NOON: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)
RESTART_US: Final = 500 * MS
"""The service manager starts a program that died again after this long."""

BOOT_US: Final = 15 * SECOND
"""From power to the first programs."""

BAUD_US: Final = 11
"""Microseconds a byte at 921600 baud."""

LIBRARY: Final = load_library()

Line = dict[str, Any]


class Port(typing.Protocol):
    """What a world needs of the way to its device, besides bytes."""

    now_us: int
    plugged: bool

    @property
    def clock(self) -> DeviceClock:
        """That of the device."""

    def advance(self, to_us: int, heard: Callable[[int], None] | None = None) -> None:
        """See `VirtualPort`."""


class World:
    """One computer with its two programs, one line, one device, for one seed."""

    def __init__(
        self,
        rng: random.Random,
        folder: Path,
        settings: Settings | None = None,
        site: Limits = GENERAL,
        library: Mapping[str, Protocol] = LIBRARY,
        rules: Iterable[Rule] = (),
    ) -> None:
        """`folder`: where the journal is kept; empty at first."""
        self.rng, self.folder, self.site, self.library = rng, folder, site, dict(library)
        self.now = START_US
        self.idle_us = 0  # of it, passed in one leap with everything switched off
        self.faults: Counter[str] = Counter()  # of host, clock and disk, by kind
        self.lines: list[Line] = []  # ground truth of the device
        self.heard: list[tuple[Any, ...]] = []  # what the device acted upon
        self.written: list[tuple[int, bytes]] = []  # what the host put on the wire
        self.hazards: list[Line] = []  # what was done to the world, and when
        self.asks: list[Line] = []  # what people asked for, and what they were answered
        self.guards: list[Line] = []  # the lives of guard processes
        self.intents_at: list[int] = []  # when each intent was on disk

        self.booted_at = 0  # true time at which CLOCK_BOOTTIME was 0
        self.up_at = 0  # true time at which its programs are back
        self.boot_no = 1
        self.wall_off_us = 0  # what the wall clock shows too much
        self.unclean = False  # files in /run: a guard began, and the last one ended in order
        self.guard_ended: BootUs | None = None
        self.serial: str | None = None
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._pids = itertools.count(100)

        self.settings = settings or Settings()
        self.firmware = Firmware(self.settings, self.rng, self._log, rules, self._hear)
        self.port = self.new_line(
            DeviceClock(START_US, self.settings.clock_us, self.settings.drift_ppm)
        )
        self.disk = Disk(self._on_disk)
        self.disk_us = 0  # how long each write takes
        self.guard: GuardProcess | None = None
        self.tmsd: TmsdProcess | None = None
        self.start_guard()
        self.start_tmsd()

    # -- the line ----------------------------------------------------------------------------

    def new_line(self, clock: DeviceClock) -> Port:
        """The way between guard and device."""
        self.to_device = RecordingWire(self.rng, self.rng.randrange(50, 1_500), BAUD_US)
        self.to_host = Wire(self.rng, self.rng.randrange(50, 1_500), BAUD_US)
        self.to_device.written = self.written
        line = VirtualPort(self.firmware, self.to_device, self.to_host, clock, START_US)
        self._open = line.open
        return line

    def new_driver(self) -> TmslinkStimulator:
        """Each guard process makes its own."""
        return TmslinkStimulator(self._open, device_envelope(self.site))

    # -- time --------------------------------------------------------------------------------

    def boot_us(self) -> BootUs:
        """CLOCK_BOOTTIME of the computer."""
        return BootUs(self.now - self.booted_at)

    def utc(self) -> datetime:
        """Its wall clock, which may be wrong."""
        return NOON + timedelta(microseconds=self.now + self.wall_off_us)

    @property
    def boot_id(self) -> str:
        return f"boot-{self.boot_no}"

    @property
    def simulated_us(self) -> int:
        """True time that was lived through, cycle by cycle."""
        return self.now - START_US - self.idle_us

    def at(self, when: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), act))

    def run(self, duration_us: int) -> None:
        """Everything that happens in so long, in its order."""
        end, events = self.now + duration_us, self._events
        while events and events[0][0] <= end:
            at, _, act = heapq.heappop(events)
            if at > self.now:
                self._advance(at)
            act()
        if end > self.now:
            self._advance(end)

    def run_until(self, condition: Callable[[], bool], within_us: int, step_us: int = 0) -> bool:
        """Whether it came true in time; looked at after every 10 ms, or `step_us`."""
        end = self.now + within_us
        while not condition():
            if self.now >= end:
                return False
            self.run(step_us or 10 * MS)
        return True

    def _advance(self, to: int) -> None:
        guard = self.guard
        if guard is None or self.now < guard.awake_at or not guard.guard.listens:
            self.port.advance(to, None)
        else:
            driver = guard.guard.driver
            while (at := driver.wake_at) is not None and at + self.booted_at <= to:
                at = BootUs(max(at + self.booted_at, self.port.now_us))
                self.port.advance(at, self._listen)
                self._listen(at)
            self.port.advance(to, self._listen)
        self.now = to

    def _listen(self, at: int) -> None:
        guard = self.guard
        assert guard is not None
        self.now = at
        guard.guard.listen(self.boot_us())

    # -- the record --------------------------------------------------------------------------

    def _log(self, line: Line) -> None:
        line["at_us"] = self.port.now_us if self._events else START_US
        self.lines.append(line)

    def _hear(self, *what: Any) -> None:
        self.heard.append((self.port.now_us, *what))

    def _on_disk(self, statements: list[str]) -> None:
        """A transaction is being committed; tmsd waits for the disk as long as that is slow."""
        done_at = self.now
        if self.tmsd is not None:
            if self.disk_us:
                self.tmsd.busy_until = max(self.now, self.tmsd.busy_until) + self.disk_us
            done_at = max(self.now, self.tmsd.busy_until)
        intents = sum(statement.startswith("INSERT INTO intents") for statement in statements)
        self.intents_at += [done_at] * intents

    def hazard(self, what: str, until_us: int = 0, **notes: Any) -> None:
        """Something was done to the computer, its clock or its disk; counted by kind."""
        self.faults[what] += 1
        self.hazards.append({"at_us": self.now, "what": what, "until_us": until_us, **notes})

    def new_pid(self) -> int:
        return next(self._pids)

    def ipc_delay_us(self) -> int:
        """Of one message between tmsd and the guard."""
        return 50 + int(self.rng.random() ** 4 * 4_000)

    # -- processes ---------------------------------------------------------------------------

    @property
    def tmsd_here(self) -> bool:
        return self.tmsd is not None and not self.tmsd.dead

    def left_by_guard(self) -> tuple[str | None, BootUs]:
        """As `tmsctl.guard.entry`: is a new guard latched, and since when are all pulses known."""
        was_unclean, self.unclean = self.unclean, True
        if was_unclean:
            return "the guard before this one did not end in order", self.boot_us()
        return None, BootUs(0) if self.guard_ended is None else self.guard_ended

    def start_guard(self) -> None:
        if self.guard is None and self.now >= self.up_at:
            self.guard = GuardProcess(self)
            self.guards.append({"pid": self.guard.pid, "from_us": self.now, "until_us": None})

    def start_tmsd(self) -> None:
        """A tmsd that cannot open its journal ends at once, and is started again later."""
        if self.tmsd is None and self.now >= self.up_at:
            try:
                self.tmsd = TmsdProcess(self)
            except JournalError:
                self.at(self.now + 4 * RESTART_US, self.start_tmsd)

    def connect(self) -> None:
        """tmsd finds the guard's socket."""
        guard, tmsd = self.guard, self.tmsd
        if guard is not None and tmsd is not None and guard.awake and not guard.connected:
            guard.connected = True
            tmsd.engine.guard_up(guard.pid)

    def disconnect(self, why: str) -> None:
        """The socket between them is closed; whoever lives notices at once."""
        guard, tmsd = self.guard, self.tmsd
        if guard is None or not guard.connected:
            return
        guard.connected = False
        guard.inbox.clear()
        if tmsd is not None and not tmsd.dead:
            tmsd.forget()
            tmsd.guard_down(why)
        if guard.awake:
            guard.cycle()

    def kill_guard(self, back_after_us: int = RESTART_US) -> None:
        """SIGKILL; it is started again after a while."""
        guard, self.guard = self.guard, None
        if guard is None:
            return
        self.guards[-1]["until_us"] = self.now
        guard.die()
        if guard.connected and self.tmsd is not None:
            self.tmsd.forget()
            self.tmsd.guard_down("The guard closed the connection.")
        self.at(self.now + back_after_us, self.start_guard)

    def stall_guard(self, duration_us: int) -> None:
        """SIGSTOP, swapping, a busy processor: no cycle for so long; bytes wait."""
        if self.guard is not None:
            self.guard.awake_at = max(self.guard.awake_at, self.now + duration_us)

    def end_tmsd(self, *, in_order: bool, back_after_us: int = RESTART_US) -> None:
        """SIGTERM or SIGKILL; it is started again after a while."""
        tmsd = self.tmsd
        if tmsd is None:
            return
        if in_order:
            tmsd.end()
        else:
            tmsd.die()
        self.tmsd = None
        for waiter in tmsd.waiters:
            waiter.ended("tmsd-absent")
        if self.guard is not None and self.guard.connected:
            self.disconnect("")
        self.at(self.now + back_after_us, self.start_tmsd)

    def stall_tmsd(self, duration_us: int) -> None:
        """It does nothing for so long, and works off what has come in meanwhile."""
        if self.tmsd is not None:
            self.tmsd.busy_until = max(self.tmsd.busy_until, self.now + duration_us)

    # -- the computer ------------------------------------------------------------------------

    def suspend(self, duration_us: int) -> None:
        """Nothing runs, and CLOCK_BOOTTIME goes on."""
        self.stall_guard(duration_us)
        self.stall_tmsd(duration_us)

    def reboot(self, dark_us: int) -> None:
        """Power is lost and comes back: other processes, another boot clock."""
        if self.now < self.up_at:
            return  # it is dark, or only just coming back
        back_us = dark_us + BOOT_US
        self.up_at = self.now + back_us
        self.kill_guard(back_us)
        self.end_tmsd(in_order=False, back_after_us=back_us)
        self.at(self.up_at, self.start_guard)  # whatever was dead already comes back as well
        self.at(self.up_at, self.start_tmsd)
        self.unclean, self.guard_ended = False, None  # /run is empty after a boot
        self.at(self.now + dark_us, self._boot)

    def _boot(self) -> None:
        self.boot_no += 1
        self.booted_at = self.now

    def sleep(self, duration_us: int) -> None:
        """Computer and device are switched off for hours; nothing happens meanwhile."""
        self.run(max(0, self.up_at - self.now))
        self.reboot(1 * SECOND)
        self.firmware.faults.add_from_now(Rule("reboot", value=1_000), self.device_us())
        self.run(500 * MS)
        self._leap(duration_us)
        self.run(BOOT_US + 2 * SECOND)

    def _leap(self, duration_us: int) -> None:
        assert self.guard is None, "nothing may run while time leaps"
        self._events = [(at + duration_us, order, act) for at, order, act in self._events]
        self.up_at += duration_us
        self.idle_us += duration_us
        self._advance(self.now + duration_us)

    def step_wall_clock(self, by_us: int) -> None:
        """Somebody, or a time server, sets the wall clock."""
        self.wall_off_us += by_us

    def cool_coil(self) -> None:
        """Somebody takes another coil of the same type."""
        self.hazards.append({"at_us": self.now, "what": "cool-coil", "until_us": 0})
        self.firmware.machine.unit.jump_to(self.settings.room_dc, self.device_us())

    def stop(self, by: str = "test") -> bool:
        """STOP reaches the guard's socket; its cycle runs at once, if it can run at all."""
        guard = self.guard
        if guard is None:
            return False
        guard.stopped_by = by
        if guard.awake:
            guard.cycle()
        return guard.awake

    def device_us(self) -> int:
        """The device's clock now."""
        return self.port.clock.device(self.now)


class RecordingWire(Wire):
    """The way to the device, with a record of what the host wrote."""

    written: list[tuple[int, bytes]]

    def send(self, data: bytes, now_us: int) -> None:
        self.written.append((now_us, data))
        super().send(data, now_us)
