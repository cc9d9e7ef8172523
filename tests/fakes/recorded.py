"""A driver on a line that is recorded, and the recording played through a new one."""

from __future__ import annotations

from collections.abc import Callable

from drivers._seal import SEAL
from drivers.contract import Envelope, Permit, PulseBlock, Stimulator, Transport
from drivers.recorded import CallNotes, RecordedStimulator
from drivers.transport.recorder import RecordingTransport
from drivers.transport.replay import Replayed, replay
from firmware_protocol import recording
from firmware_protocol.quantities import BootUs
from firmware_protocol.recording import Record

Open = Callable[[], Transport]
Driver = Callable[[Open, Envelope], Stimulator]


def recorded(
    driver: Driver, records: list[Record], now: Callable[[], BootUs], port: Open, site: Envelope
) -> tuple[RecordedStimulator, Stimulator]:
    """As the guard records it: the driver to use, and the one inside."""
    notes = CallNotes(records.append)
    inner = driver(lambda: RecordingTransport(port(), now, notes.passed), site)
    return RecordedStimulator(inner, notes), inner


def permit(block: PulseBlock, start_at: BootUs, expires_at: BootUs, use_before: BootUs) -> Permit:
    """A second time for what the guard has once allowed."""
    return Permit(
        SEAL, block=block, start_at=start_at, expires_at=expires_at, use_before=use_before
    )


def replayed(records: list[Record], driver: Driver, site: Envelope) -> Replayed:
    """Through its file, as it would be on another day."""
    lines = [recording.header_of({}), *map(recording.line_of, records)]
    _, again = recording.read("".join(lines).splitlines(keepends=True))
    return replay(again, lambda port: driver(port, site), permit)
