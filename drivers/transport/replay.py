"""Plays a recording through a driver: the same calls, the same bytes from the line, and a check
that the driver writes what it wrote. No device, no clock: time is what the recording says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from drivers.contract import DriverEvent, Permit, PulseBlock, Shape, Stimulator, Transport
from firmware_protocol import recording
from firmware_protocol.quantities import BootUs, PercentMso
from firmware_protocol.recording import Record

MakeDriver = Callable[[Callable[[], Transport]], Stimulator]
MakePermit = Callable[[PulseBlock, BootUs, BootUs, BootUs], Permit]
"""Block, first pulse, expiry, and the instant before which it has to be used."""


@dataclass(slots=True)
class Replayed:
    """What came of it. `differs` is empty when the driver did all as before."""

    calls: int = 0
    written: int = 0  # bytes, each of them as recorded
    differs: str = ""  # the first difference; what follows it would mean nothing
    events: list[tuple[BootUs, DriverEvent]] = field(default_factory=list)


class Differs(Exception):  # noqa: N818 - a finding, not an error of the program
    """The driver does something else than in the recording."""


class ReplayPort:
    """The line of one call after the other, as `drivers.contract.Transport`."""

    def __init__(self) -> None:
        self._script: deque[Record] = deque()
        self.written = 0

    def load(self, script: Iterable[Record]) -> None:
        """What passed during the call that comes next."""
        self._script.extend(script)

    def finish(self) -> None:
        """The call is over: nothing of it may be left."""
        if self._script:
            left = self._script[0]
            raise Differs(f"did not do {recording.line_of(left).strip()!r}")

    def open(self) -> Transport:
        """BlockingIOError where the recording has no opened port: then the driver asks again with
        each call, and meets the opening in whichever call it was."""
        if self._next(recording.OPENED) is None:
            raise BlockingIOError("the recording has no open port here")
        return self

    def read(self) -> bytes:
        self._fail()
        record = self._next(recording.FROM_DEVICE)
        return b"" if record is None else record.data

    def write(self, data: bytes) -> bool:
        self._fail()
        record = self._next(recording.TO_DEVICE) or self._next(recording.NOT_TAKEN)
        if record is None or record.data != data:
            wanted = "nothing" if record is None else record.text
            raise Differs(f"wrote {data.hex()}, recorded is {wanted}")
        self.written += len(data)
        return record.mark == recording.TO_DEVICE

    def stop(self) -> bool:
        return self._next(recording.STOPPED) is not None

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        if self._next(recording.CLOSED) is None:
            raise Differs("closed the port, which is not recorded")

    def _next(self, mark: str) -> Record | None:
        if self._script and self._script[0].mark == mark:
            return self._script.popleft()
        return None

    def _fail(self) -> None:
        """Fail where it failed."""
        record = self._next(recording.FAILED)
        if record is not None:
            number, _, why = record.data.decode().partition(" ")
            raise OSError(int(number), why)


def replay(records: Iterable[Record], make_driver: MakeDriver, make_permit: MakePermit) -> Replayed:
    """ValueError when records were lost or spoilt, or there is no call in it."""
    port = ReplayPort()
    driver = make_driver(port.open)
    done = Replayed()
    for call, script in _calls(records):
        done.calls += 1
        port.load(script)
        try:
            done.events += [
                (BootUs(call.at_us), event) for event in _call(driver, call, make_permit)
            ]
            port.finish()
        except Differs as error:
            done.differs = f"at {call.at_us}, {call.text!r}: {error}"
            break
    done.written = port.written
    if not done.calls:
        raise ValueError("no calls of the driver in it: it can be read, but not played")
    return done


def _calls(records: Iterable[Record]) -> Iterator[tuple[Record, list[Record]]]:
    """Each call with what passed on the line because of it."""
    call: Record | None = None
    script: list[Record] = []
    for record in records:
        if record.mark in (recording.LOST, recording.SPOILT):
            raise ValueError(f"at {record.at_us} the recording has a gap; it plays up to there")
        if record.mark == recording.CYCLE:
            continue
        if record.mark != recording.CALL:
            script.append(record)
            continue
        if call is not None:
            yield call, script
        call, script = record, []
    if call is not None:
        yield call, script


def _call(driver: Stimulator, call: Record, make_permit: MakePermit) -> Iterable[DriverEvent]:
    word, *numbers = call.text.split()
    now = BootUs(call.at_us)
    size, verb = VERBS.get(word, (-1, None))
    if len(numbers) != size or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"at {call.at_us}: {call.text!r} is no call that is known")
    if verb is None:
        return driver.poll(now)
    verb(driver, now, [int(number) for number in numbers], make_permit)
    return ()


def _fire(driver: Stimulator, now: BootUs, given: list[int], make_permit: MakePermit) -> None:
    block_id, mso_pct, bursts, burst_period_us, pulses, interval_us, *times = given
    mso = PercentMso(mso_pct)
    block = PulseBlock(block_id, mso, bursts, burst_period_us, pulses, interval_us)
    start_at, expires_at, use_before = (BootUs(at) for at in times)
    driver.fire(make_permit(block, start_at, expires_at, use_before), now)


Verb = Callable[[Stimulator, BootUs, list[int], MakePermit], object]
VERBS: Final[dict[str, tuple[int, Verb | None]]] = {
    "poll": (0, None),  # the only one that tells something
    "beat": (2, lambda d, now, given, _: d.beat(given[0], now, BootUs(given[1]))),
    "arm": (
        3,
        lambda d, now, given, _: d.arm(PercentMso(given[0]), Shape(given[1], given[2]), now),
    ),
    "disarm": (0, lambda d, now, _, __: d.disarm(now)),
    "fire": (9, _fire),
    "stop": (0, lambda d, now, _, __: d.stop(now)),
    "acknowledge": (0, lambda d, now, _, __: d.acknowledge(now)),
    "probe_bad_frame": (0, lambda d, now, _, __: d.probe_bad_frame(now)),
    "close": (0, lambda d, _, __, ___: d.close()),
}
"""Each call: how many numbers it has, and what it does."""
