"""A recording is played through the driver as it is, and any other byte is found."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.contract import LinkDown, LinkUp, PulseBlock, PulseSeen, Stimulator
from drivers.transport.replay import VERBS, Replayed, replay
from firmware_protocol import recording, traces
from firmware_protocol.quantities import MS, SECOND
from firmware_protocol.recording import Record
from sim_device.faults import Rule
from tests.conformance.conftest import SITE, Bench
from tests.conformance.driver_rows import DRIVERS, MSO

TRAIN = PulseBlock(1, MSO, 3, 200 * MS, 3, 20 * MS)
SINGLE = PulseBlock(2, MSO, 1, 0, 1, 0)


class Recorded(Bench):
    """A bench of tmslink; its first driver's recording is `records`."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(DRIVERS[0], seed)
        self.records = self.lives[0]

    def played(self) -> Replayed:
        return self.replayed()[0]


def trains(bench: Recorded) -> None:
    bench.armed()
    bench.driver.fire(bench.permit(TRAIN), bench.now)
    bench.wait(SECOND)
    bench.driver.fire(bench.permit(SINGLE), bench.now)
    bench.wait(SECOND // 2)
    bench.driver.disarm(bench.now)
    bench.wait(SECOND // 10)


def stopped(bench: Recorded) -> None:
    bench.armed()
    bench.driver.fire(bench.permit(TRAIN), bench.now)
    bench.wait(SECOND // 3)
    bench.driver.stop(bench.now)
    bench.wait(SECOND // 10)
    bench.driver.probe_bad_frame(bench.now)
    bench.driver.acknowledge(bench.now)
    bench.connected()
    bench.driver.close()


def silent(bench: Recorded) -> None:
    """The host goes away, and the device disarms by itself."""
    bench.armed().silence(SECOND // 2)
    bench.wait(SECOND // 10)


def unplugged(bench: Recorded) -> None:
    bench.armed()
    bench.device.faults.add_from_now(Rule("disconnect", 500), bench.device.machine.now)
    bench.wait(2 * SECOND)
    assert len(bench.all(LinkUp)) == 2


def noisy(bench: Recorded) -> None:
    for wire in (bench.to_host, bench.to_device):
        wire.loss, wire.flip, wire.duplicate = 0.02, 0.05, 0.02
    bench.connected()
    bench.arm()
    bench.wait(2 * SECOND)


SCENES = [trains, stopped, silent, unplugged, noisy]


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_driver_writes_the_same_bytes_and_says_the_same_again(
    scene: Callable[[Recorded], None], seed: int
) -> None:
    bench = Recorded(seed)
    scene(bench)
    again = bench.played()
    assert again.differs == ""
    written = [r for r in bench.records if r.mark in (">", "x")]
    assert again.written == sum(len(record.data) for record in written) > 500
    # What the driver says of a port that cannot be opened is its port's own sentence.
    told = [(at, e) for at, e in bench.heard if not isinstance(e, LinkDown)]
    assert [(at, e) for at, e in again.events if not isinstance(e, LinkDown)] == told
    assert any(isinstance(event, LinkUp) for _, event in again.events)


def test_pulses_are_seen_again() -> None:
    bench = Recorded()
    trains(bench)
    again = bench.played()
    seen = [event for _, event in again.events if isinstance(event, PulseSeen)]
    assert len(seen) == len(bench.pulses_at()) == 10


def test_every_poll_leaves_its_line_for_a_driver_may_act_on_time_alone() -> None:
    bench = Recorded()
    bench.connected()
    before = len(bench.records)
    bench.driver.poll(bench.now)
    assert bench.records[before:] == [Record(bench.now, recording.CALL, b"poll")]


@pytest.mark.parametrize("change", ["bit", "gone", "more", "call"])
def test_any_byte_that_differs_is_found_and_told(change: str) -> None:
    bench = Recorded()
    trains(bench)
    records = bench.records
    rng = random.Random(change)
    writes = [n for n, record in enumerate(records) if record.mark == ">"]
    at = rng.choice(writes)
    record = records[at]
    if change == "bit":
        data = bytearray(record.data)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        records[at] = record._replace(data=bytes(data))
    elif change == "gone":
        del records[at]
    elif change == "more":
        records.insert(at, record)
    else:
        records.insert(at + 1, Record(record.at_us, recording.CALL, b"disarm"))
    assert bench.played().differs


def test_what_has_a_gap_is_not_played_over_it() -> None:
    bench = Recorded()
    bench.connected()
    half = len(bench.records) // 2
    bench.records.insert(half, Record(bench.records[half].at_us, recording.LOST, b"3"))
    with pytest.raises(ValueError, match="gap"):
        bench.played()


@pytest.mark.parametrize(
    "call", ["arm", "arm 40", "arm 40 1 0 0", "arm x 1 0", "dance", "beat -1 2"]
)
def test_a_call_that_is_not_known_is_refused(call: str) -> None:
    bench = Recorded()
    bench.records.append(Record(bench.now, recording.CALL, call.encode()))
    with pytest.raises(ValueError, match="no call that is known"):
        bench.played()
    bench.lives.clear()


def test_every_call_is_on_the_page_and_every_verb_of_a_driver_is_a_call() -> None:
    page = (Path(__file__).parents[2] / "docs" / "recording.md").read_text(encoding="utf-8")
    verbs = {name for name in vars(Stimulator) if not name.startswith("_")}
    assert set(VERBS) == verbs - {"fileno", "wake_at", "refuses"}  # these do nothing on the line
    assert [name for name in VERBS if f"`{name}`" not in page] == []


def test_a_file_of_the_flight_recorder_has_no_calls_and_says_so() -> None:
    bench = Recorded()
    bench.connected()
    with pytest.raises(ValueError, match="not played"):
        replay(
            [record for record in bench.records if record.mark != recording.CALL],
            lambda port: bench.row.family.driver(port, SITE),
            lambda *_: pytest.fail("there is no call"),
        )


def test_a_recording_is_told_in_words_without_a_damaged_frame() -> None:
    bench = Recorded()
    trains(bench)
    lines = list(traces.trace("tmslink", {}, bench.records))
    assert [line for line in lines if line.damage] == []
    named = {line.text.split()[0] for line in lines if line.mark in "<>"}
    assert named >= {"Hello", "Identity", "Limits", "Arm", "Ack", "Beat", "Train", "Fire", "Pulse",
                     "LeaseEnd", "Status", "Disarm"}  # fmt: skip
