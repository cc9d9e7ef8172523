"""STOP by a transport's own way, and a port that opens in the background."""

from __future__ import annotations

import pytest

from drivers.contract import Envelope, LinkDown, LinkUp, Stimulator, Transport
from drivers.tmslink.driver import TmslinkStimulator
from drivers.transport.recorder import RecordingTransport
from firmware_protocol import recording
from firmware_protocol.quantities import MS, BootUs
from firmware_protocol.recording import Record
from firmware_protocol.tmslink import messages as wire
from tests.conformance.connecting import CYCLE_US, SITE, START, Connecting
from tests.fakes.recorded import Open, recorded, replayed
from tests.families import TMSLINK_FAMILY


class Port:
    """Notes what is asked of it, in its order."""

    def __init__(self, *, has_way: bool = True) -> None:
        self.done: list[str | bytes] = []
        self._has_way = has_way

    def read(self) -> bytes:
        return b""

    def write(self, data: bytes) -> bool:
        self.done.append(data)
        return True

    def stop(self) -> bool:
        self.done.append("stop")
        return self._has_way

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.done.append("close")


def test_the_driver_stops_by_the_transports_way_before_it_writes() -> None:
    port = Port()
    driver = TmslinkStimulator(lambda: port, SITE)
    driver.stop(START)
    assert port.done == []  # no port, no STOP
    driver.poll(START)
    driver.stop(START)
    assert port.done == ["stop"]  # who is there is not known yet
    later = BootUs(START + 500 * MS)
    driver.stop(later)
    assert port.done[1] == "stop"
    assert isinstance(port.done[2], bytes)
    assert port.done[2].startswith(wire.STOP_BYTES)


@pytest.mark.parametrize("has_way", [True, False])
def test_only_a_stop_that_was_sent_is_noted(has_way: bool) -> None:
    notes: list[Record] = []
    port = RecordingTransport(Port(has_way=has_way), lambda: BootUs(5), notes.append)
    assert port.stop() is has_way
    assert notes[1:] == ([Record(5, recording.STOPPED, b"")] if has_way else [])


def test_a_port_that_is_being_opened_is_asked_again_with_each_call_and_is_no_loss() -> None:
    asked = 0

    def open_port() -> Transport:
        nonlocal asked
        asked += 1
        if asked < 5:
            raise BlockingIOError
        return Port()

    driver = TmslinkStimulator(open_port, SITE)
    for cycle in range(10):
        assert driver.poll(BootUs(START + cycle * CYCLE_US)) == ()
    assert asked == 5


def usb_driver(port: Open, site: Envelope) -> TmslinkStimulator:
    return TmslinkStimulator(port, site, usb_serial=lambda: "SIM00001")


class Way:
    """An emulated line with a STOP of its own, which goes nowhere."""

    def __init__(self, line: Transport) -> None:
        self.read, self.write = line.read, line.write
        self.fileno, self.close = line.fileno, line.close

    def stop(self) -> bool:
        return True


def usb_session() -> list[Record]:
    """A device behind a port that is open at the eighth time of asking; recorded."""
    records: list[Record] = []
    clock = [START]
    asked = 0

    def driver(port: Open, site: Envelope) -> Stimulator:
        def slow() -> Transport:
            nonlocal asked
            asked += 1
            if asked < 8:
                raise BlockingIOError
            return Way(port())

        return recorded(usb_driver, records, lambda: clock[0], slow, site)[0]

    def act(made: Stimulator, now: BootUs) -> None:
        clock[0] = now
        if now >= START + 600 * MS:
            made.stop(now)

    rig = Connecting(driver, TMSLINK_FAMILY)
    rig.run(650 * MS, act)
    assert any(isinstance(event, LinkUp) for _, event in rig.heard)
    assert not any(isinstance(event, LinkDown) for _, event in rig.heard)
    return records


def test_a_recording_of_usb_is_played_again() -> None:
    records = usb_session()
    assert sum(record.mark == recording.STOPPED for record in records) == 5
    assert replayed(records, usb_driver, SITE).differs == ""


def test_a_driver_that_no_longer_stops_by_the_transports_way_is_found() -> None:
    class Forgetful(TmslinkStimulator):
        def stop(self, now: BootUs) -> None:
            self._write(wire.STOP_BYTES + self._link.tell(wire.Stop()))

    differs = replayed(usb_session(), Forgetful, SITE).differs
    assert "'stop'" in differs


def test_a_recording_from_before_there_was_such_a_way_is_played_as_ever() -> None:
    records = [record for record in usb_session() if record.mark != recording.STOPPED]
    assert replayed(records, usb_driver, SITE).differs == ""
