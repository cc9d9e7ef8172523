"""A driver whose calls are noted beside its bytes, so that both can be played again."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.contract import DriverEvent, Permit, PulseBlock, Shape, Stimulator, Ticket
from drivers.transport.recorder import Sink
from firmware_protocol import recording
from firmware_protocol.quantities import BootUs, PercentMso
from firmware_protocol.recording import Record


class CallNotes:
    """Puts each call before what it did on the line."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting: Record | None = None

    def passed(self, record: Record) -> None:
        """For the transport of the same driver."""
        self.keep()
        self._sink(record)

    def called(self, now: BootUs, what: str) -> None:
        self._waiting = None
        self._sink(Record(now, recording.CALL, what.encode()))

    def begins(self, now: BootUs, what: str) -> None:
        """A call that is noted with the first byte that passes, or with `keep`."""
        self._waiting = Record(now, recording.CALL, what.encode())

    def keep(self) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._sink(waiting)


class RecordedStimulator:
    """The driver, as before; `drivers/transport/replay.py` reads what is noted."""

    def __init__(self, inner: Stimulator, notes: CallNotes) -> None:
        self.info = inner.info
        self._inner, self._notes = inner, notes
        self._newest = BootUs(0)

    @property
    def wake_at(self) -> BootUs | None:
        return self._inner.wake_at

    def fileno(self) -> int:
        return self._inner.fileno()

    def poll(self, now: BootUs) -> Sequence[DriverEvent]:
        self._notes.called(now, "poll")  # each of them: a driver may act on time alone
        self._newest = now
        return self._inner.poll(now)

    def beat(self, cycle: int, now: BootUs, permit_until: BootUs) -> None:
        self._notes.called(now, f"beat {cycle} {permit_until}")
        self._inner.beat(cycle, now, permit_until)

    def arm(self, mso: PercentMso, shape: Shape, now: BootUs) -> Ticket:
        self._notes.called(now, f"arm {mso.value} {shape.pulses} {shape.interval_us}")
        return self._inner.arm(mso, shape, now)

    def disarm(self, now: BootUs) -> None:
        self._notes.called(now, "disarm")
        self._inner.disarm(now)

    def fire(self, permit: Permit, now: BootUs) -> Ticket:
        block = permit.block
        # What is refused as a defect of ours, before anything is sent, leaves no record.
        self._notes.begins(
            now,
            f"fire {block.block_id} {block.mso.value} {block.bursts} {block.burst_period_us} "
            f"{block.pulses_per_burst} {block.interval_us} "
            f"{permit.start_at} {permit.expires_at} {permit.use_before}",
        )
        ticket = self._inner.fire(permit, now)
        self._notes.keep()
        return ticket

    def refuses(self, block: PulseBlock) -> str:
        return self._inner.refuses(block)

    def stop(self, now: BootUs) -> None:
        self._notes.called(now, "stop")
        self._inner.stop(now)

    def acknowledge(self, now: BootUs) -> None:
        self._notes.called(now, "acknowledge")
        self._inner.acknowledge(now)

    def probe_bad_frame(self, now: BootUs) -> None:
        self._notes.called(now, "probe_bad_frame")
        self._inner.probe_bad_frame(now)

    def close(self) -> None:
        self._notes.called(self._newest, "close")  # the one call that is not told the time
        self._inner.close()
