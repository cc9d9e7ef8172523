"""A driver, a line and an emulated device in virtual time, without a guard between.

Every demand of test_driver_conformance.py and test_driver_link.py is made to each row of
`DRIVERS`. Each driver is recorded, and when a test has passed the recording is played through a new
one: it must write every byte again. What the driver told is then held against the ground truth.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from drivers.contract import (
    BlockEnded,
    CommandEnded,
    DeviceState,
    DeviceStatus,
    Disarmed,
    Envelope,
    LinkDown,
    LinkUp,
    Outcome,
    Permit,
    PulseBlock,
    PulseSeen,
    Shape,
    Stimulator,
    Ticket,
)
from drivers.transport.replay import Replayed
from firmware_protocol.quantities import MS, SECOND, BootUs, PercentMso
from firmware_protocol.recording import Record
from sim_device.device import DeviceClock
from sim_device.world import VirtualPort, Wire
from tests.conformance.driver_rows import BLOCKS, DRIVERS, MSO, PERMIT_US, SINGLE, Row
from tests.fakes.recorded import recorded, replayed
from tests.world.odometer import TOTAL
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.facts import Request
from tmsctl.safety.machine import Armed
from tmsctl.safety.permit import mint
from tmsctl.safety.rules import PERMIT

START = BootUs(1_000 * SECOND)
REPLAYED_MAX = 3
"""Benches of one test that are played again; a test with more of them makes all alike."""
CYCLE_US = 10 * MS
SITE = Envelope(60, 10_000, 1_000, 60_000_000, 410, (), 0)
OFF = (DeviceState.IDLE, DeviceState.LATCHED)


class Port(VirtualPort):
    """A port that can be full: then it takes no byte."""

    full = False
    refused = 0  # writes

    def write(self, data: bytes) -> bool:
        self.refused += self.full
        return not self.full and super().write(data)


class Bench:
    """One host program that beats every 10 ms and notes all that its driver says."""

    def __init__(self, row: Row, seed: int = 0, device: Any = None, **settings: Any) -> None:
        """`device`: of another family than the driver's, for what it must refuse."""
        self.row, self.rng, self.now = row, random.Random(seed), START
        self.truth: list[dict[str, Any]] = []
        family = device or row.family
        quick = {} if device else row.quick
        self.settings = family.settings(**{**quick, **settings})
        self.device: Any = family.device(self.settings, self.rng, self.truth.append, ())
        self.per_byte_us = row.family.per_byte_us
        self.to_device = Wire(self.rng, 300, self.per_byte_us)
        self.to_host = Wire(self.rng, 300, self.per_byte_us)
        self.clock = DeviceClock(START, self.settings.clock_us, self.settings.drift_ppm)
        self.port = Port(self.device, self.to_device, self.to_host, self.clock, START)
        self.heard: list[tuple[BootUs, Any]] = []  # when, event
        self.permit_for_us = PERMIT_US  # from each beat
        self.with_strangers = False  # people let pulses go: those of nobody here count as well
        self.next_beat = START
        self.beaten_at = START
        self.asked: list[tuple[int, Ticket, Permit | None]] = []  # life, ticket; None: arming
        self.lives: list[list[Record]] = []  # the recording of each driver
        self.begins: list[int] = []  # place in `heard` where each driver begins
        self.restart()

    def restart(self) -> None:
        """A new host program on the same port."""
        records: list[Record] = []
        self.lives.append(records)
        self.begins.append(len(self.heard))
        self.driver: Stimulator
        self.driver, self.bare = recorded(
            self.row.family.driver, records, lambda: self.now, self.port.open, SITE
        )
        self.cycle = 0

    def replayed(self) -> list[Replayed]:
        """Every life of the host again, from its recording alone."""
        used = [records for records in self.lives if records]
        return [replayed(records, self.row.family.driver, SITE) for records in used]

    # -- time --------------------------------------------------------------------------------

    def silence(self, duration_us: int) -> None:
        """The host listens, but does not beat."""
        end = self.now + duration_us
        TOTAL.bench_us += duration_us
        while (at := self.driver.wake_at) is not None and at <= end:
            self.port.advance(max(at, self.port.now_us), self._listen)
            self._listen(max(at, self.now))
        self.port.advance(end, self._listen)
        self._listen(end)

    def _listen(self, at: int) -> None:
        self.now = BootUs(at)
        self.heard += [(self.now, event) for event in self.driver.poll(self.now)]

    def beat(self) -> None:
        self.cycle += 1
        self.beaten_at = self.now
        self.driver.beat(self.cycle, self.now, BootUs(self.now + self.permit_for_us))

    def wait(self, duration_us: int, repeat: Callable[[BootUs], None] | None = None) -> None:
        """Time passes with a beat every 10 ms, and before it `repeat`, as the guard repeats STOP
        until the status shows it."""
        end = self.now + duration_us
        self.next_beat = max(self.next_beat, self.now)
        while self.next_beat <= end:
            self.silence(self.next_beat - self.now)
            if repeat is not None and self.state not in OFF:
                repeat(self.now)
            self.beat()
            self.next_beat = BootUs(self.next_beat + CYCLE_US)
        self.silence(end - self.now)

    def until(self, condition: Callable[[], bool], within_us: int = 0) -> None:
        end = self.now + (within_us or self.row.connect_us)
        while not condition():
            assert self.now < end, f"not within {end} us: {self.heard[-5:]}"
            self.wait(CYCLE_US)

    # -- what a host does --------------------------------------------------------------------

    def connected(self) -> Bench:
        before = len(self.all(LinkUp))
        self.until(lambda: len(self.all(LinkUp)) > before and self.state is not None)
        return self

    def recovered(self) -> Bench:
        """A person acknowledges, and the device is there, disarmed."""
        self.driver.acknowledge(self.now)
        self.wait(CYCLE_US)
        if self.state is not DeviceState.IDLE:
            self.driver.disarm(self.now)
        self.until(lambda: self.is_up and self.state is DeviceState.IDLE, 2 * self.row.connect_us)
        return self

    def arm(self, mso: PercentMso = MSO, block: PulseBlock = SINGLE) -> Ticket:
        shape = Shape(block.pulses_per_burst, block.interval_us)
        ticket = self.driver.arm(mso, shape, self.now)
        self.asked.append((len(self.lives), ticket, None))
        return ticket

    def armed(self, block: PulseBlock = SINGLE) -> Bench:
        self.connected().arm(block.mso, block)
        self.until(lambda: self.state is DeviceState.READY)
        return self

    def fire(self, permit: Permit) -> Ticket:
        ticket = self.driver.fire(permit, self.now)
        self.asked.append((len(self.lives), ticket, permit))
        return ticket

    def permit(self, block: PulseBlock, start_at: int | None = None) -> Permit:
        """For now, and for the earliest moment that the driver can keep."""
        start = BootUs(self.now + self.row.info.lead_us if start_at is None else start_at)
        request = Request(
            block,
            start,
            block.mso,
            mt_permille=500,
            plan_pulses_left=0,
            session_pulses=0,
            sent=PulseTimes(1),
            granted_pulses=0,
            day_pulses=0,
            week_pulses=0,
            all_sent_since=BootUs(0),
            settled_at=BootUs(0),
            recharge_us=0,
            rest_us=0,
        )
        permit = mint(Armed(block.mso, self.now), PERMIT, request, self.now)
        assert isinstance(permit, Permit)
        return permit

    def work(self, block: PulseBlock, duration_us: int) -> None:
        """Connect, arm and fire, each as soon as it can be done; ends in the middle of it."""
        asked = fired = False
        end = self.now + duration_us
        while self.now < end:
            self.wait(min(CYCLE_US, end - self.now))
            if self.state is DeviceState.IDLE and not asked:
                asked = bool(self.arm(block.mso, block))
            if self.state is DeviceState.READY and not fired:
                fired = bool(self.fire(self.permit(block)))

    def noise(self, wire: Wire, size_max: int = 200) -> None:
        """Some bytes; on a slow line as many as it carries in 20 ms."""
        size_max = max(4, min(size_max, 20 * MS // self.per_byte_us))
        wire.send(self.rng.randbytes(self.rng.randrange(1, size_max)), self.now)

    # -- what there is to see ----------------------------------------------------------------

    def all(self, kind: type) -> list[Any]:
        return [event for _, event in self.heard if isinstance(event, kind)]

    def outcomes(self, ticket: Ticket) -> list[Outcome]:
        return [end.outcome for end in self.all(CommandEnded) if end.ticket == ticket]

    @property
    def state(self) -> DeviceState | None:
        """As the newest status says; None: there was none since the device was found."""
        for _, event in reversed(self.heard[self.begins[-1] :]):
            if isinstance(event, DeviceStatus):
                return event.state
            if isinstance(event, LinkUp):
                return None
        return None

    @property
    def is_up(self) -> bool:
        """As the newest word of the link says."""
        for _, event in reversed(self.heard):
            if isinstance(event, LinkUp | LinkDown):
                return isinstance(event, LinkUp)
        return False

    @property
    def is_under_way(self) -> bool:
        """Was a block handed over that is not over yet?"""
        fired = {ticket for _, ticket, permit in self.asked if permit is not None}
        refused = {e.ticket for e in self.all(CommandEnded) if e.outcome is Outcome.REFUSED} & fired
        return len(fired) > len(refused) + len(self.all(BlockEnded))

    def happened(self, *events: str) -> list[dict[str, Any]]:
        """The ground truth."""
        return [line for line in self.truth if line["event"] in events]

    def pulses_at(self) -> list[int]:
        """On the device's clock."""
        return [line["t_us"] for line in self.happened("pulse")]

    def disarmed_at(self) -> int | None:
        """On the device's clock; None while it is armed, 0 when it never was."""
        lines = self.happened("arm", "disarm")
        if lines and lines[-1]["event"] == "arm":
            return None
        return int(lines[-1]["t_us"]) if lines else 0

    def last_word_at(self) -> int:
        """Arrival of the newest byte that was written, on the device's clock."""
        return self.on_device(self.to_device._free_us + self.to_device.delay_us)

    def silent_by(self) -> tuple[int, int | None]:
        """After the host fell silent, on the device's clock: of the last pulse, and disarmed."""
        info = self.row.info
        if info.dead_man_us is not None:
            at = self.last_word_at() + info.dead_man_us + 1
            return at, at
        # What was triggered already goes on: one burst, at most.
        last = self.beaten_at + self.permit_for_us + self.several.span_us + CYCLE_US
        return self.on_device(last), None

    def on_device(self, at: int) -> int:
        return self.clock.device(at)

    def begun_before(self, at_most: int, block: PulseBlock) -> None:
        """No pulse left later, but for the rest of a train that could not be ended."""
        if "cut" in self.row.cannot:
            begun = [at for at in self.pulses_at() if at <= at_most]
            at_most = begun[0] + block.span_us + MS if begun else at_most
        assert all(at <= at_most for at in self.pulses_at())

    def somewhere(self, rng: random.Random, block: PulseBlock) -> None:
        """In the middle of its work; every third time, of its block."""
        if rng.randrange(3):
            self.work(block, rng.randrange(self.work_us))
        else:
            self.armed(block)
            self.fire(self.permit(block))
            self.wait(rng.randrange(self.row.info.lead_us + block.span_us + 20 * MS))

    @property
    def work_us(self) -> int:
        return work_us(self.row)

    @property
    def connect_us(self) -> int:
        return connect_us(self.row)

    @property
    def several(self) -> PulseBlock:
        """A block of as many pulses as this driver takes in one short block."""
        return BLOCKS[taken(self.row)[0]]

    # -- what must be so whatever happened ---------------------------------------------------

    def judge(self) -> None:
        """What the driver told, against the ground truth."""
        counted = 0
        for number, begin in enumerate(self.begins, 1):
            end = self.begins[number] if number < len(self.begins) else len(self.heard)
            events = [event for _, event in self.heard[begin:end]]
            asked = [(ticket, permit) for life, ticket, permit in self.asked if life == number]
            _in_order(events)
            counted += _counted(events, asked)
            if self.with_strangers:
                counted += sum(isinstance(it, PulseSeen) and not it.block_id for it in events)
        left = len(self.pulses_at())
        assert left <= counted, f"{left} pulses left, {counted} count as delivered"


def _counted(events: list[Any], asked: list[tuple[Ticket, Permit | None]]) -> int:
    """Pulses that count as delivered, as the guard does it: by the first word of a block's end."""
    tickets = [event.ticket for event in events if isinstance(event, CommandEnded)]
    assert len(set(tickets)) == len(tickets), "a ticket ended twice"
    refused = {
        event.ticket
        for event in events
        if isinstance(event, CommandEnded) and event.outcome is Outcome.REFUSED
    }
    ended = [event.block_id for event in events if isinstance(event, BlockEnded)]
    assert len(set(ended)) == len(ended), "a block ended twice"
    counted = 0
    for ticket, permit in asked:
        if permit is None:
            continue
        block = permit.block
        if ticket in refused:
            assert block.block_id not in ended, "a block that was refused has no end"
        else:
            counted += next(
                (n for n in map(_settles(block), events) if n is not None), block.pulses
            )
    return counted


def _settles(block: PulseBlock) -> Callable[[Any], int | None]:
    """What an event tells of the block at its end: its report, or the status of a device that is
    off."""

    def delivered(event: Any) -> int | None:
        if isinstance(event, BlockEnded) and event.block_id == block.block_id:
            assert event.delivered + event.skipped + event.unsure <= block.pulses
            return event.delivered + event.unsure
        if isinstance(event, DeviceStatus) and event.block_id == block.block_id:
            return event.block_fired if event.state in OFF else None
        return None

    return delivered


def _in_order(events: list[Any]) -> None:
    """Disarmed before LinkUp, status only while up, and pulses that count upwards."""
    up = disarmed = False
    count = None
    for event in events:
        match event:
            case Disarmed():
                disarmed = True
            case LinkUp():
                assert disarmed, "up without having been disarmed"
                up, count = True, None
            case LinkDown():
                up = disarmed = False
            case DeviceStatus():
                assert up, "a status of a device that is not there"
            case PulseSeen():
                assert count is None or event.pulse_count > count, "a pulse was told twice"
                count = event.pulse_count


# -- parameters ------------------------------------------------------------------------------


@functools.cache
def taken(row: Row) -> tuple[str, ...]:
    """Names of the blocks that this driver and its envelope take."""
    b = Bench(row).connected()
    envelope: Envelope = b.all(LinkUp)[0].envelope
    return tuple(name for name, block in BLOCKS.items() if _takes(b.driver, envelope, block))


def _takes(driver: Stimulator, envelope: Envelope, block: PulseBlock) -> bool:
    fits = block.pulses <= envelope.block_pulses_max and (
        block.bursts == 1 or block.span_us <= min(envelope.block_max_us, driver.info.lease_max_us)
    )
    return fits and not driver.refuses(block)


@functools.cache
def connect_us(row: Row) -> int:
    """On a good line."""
    return Bench(row).connected().now - START


@functools.cache
def work_us(row: Row) -> int:
    """Connecting, arming, one block, and some time after."""
    b = Bench(row)
    b.armed(b.several)
    b.fire(b.permit(b.several))
    b.until(lambda: bool(b.all(BlockEnded)))
    return b.now - START + 100 * MS


class MakeBench:
    """Makes benches of one driver."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.made: list[Bench] = []

    def tries(self, number: int) -> int:
        """In one test: half as many where lines are slow."""
        return number if self.row.seeds_pct == 100 else number // 2

    def __call__(self, seed: int = 0, **more: Any) -> Bench:
        """`more`: settings of the device, or another `device`."""
        self.made.append(Bench(self.row, seed, **more))
        return self.made[-1]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of drivers runs on each row, or `only` on those that it names; with `block` on each
    block that the row takes; with `seed` on as many seeds as its marker says, on fewer where lines
    are slow."""
    if "bench" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("seeds")
    only = metafunc.definition.get_closest_marker("only")
    names = ["bench"]
    names += [name for name in ("block", "seed") if name in metafunc.fixturenames]
    cases: list[Any] = []
    for row in DRIVERS:
        if only is not None and row.name not in only.args:
            continue
        blocks: Iterable[str | None] = taken(row) if "block" in names else (None,)
        most = 1 if marker is None else max(1, marker.args[0] * row.seeds_pct // 100)
        for block in blocks:
            for seed in range(most):
                values: list[Any] = [row]
                values += [] if block is None else [BLOCKS[block]]
                values += [seed] if "seed" in names else []
                shown = [row.name, block, str(seed) if "seed" in names else None]
                cases.append(pytest.param(*values, id="-".join(filter(None, shown))))
    metafunc.parametrize(names, cases, indirect=["bench"])


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[MakeBench]:
    """`bench(seed, **settings)` makes one; the device is quick, so that tests are short."""
    row: Row = request.param
    demand = request.node.get_closest_marker("demand")
    if demand is not None and demand.args[0] in row.cannot:
        pytest.skip(f"{row.name}: {row.cannot[demand.args[0]]}")
    make = MakeBench(row)
    yield make
    for one in make.made:
        one.judge()
    differs = [again.differs for one in make.made[:REPLAYED_MAX] for again in one.replayed()]
    assert [how for how in differs if how] == []
