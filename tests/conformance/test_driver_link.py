"""What every driver tells of a bad line, and the damaged frame of the daily self-test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from drivers.contract import CommandEnded, DeviceState, DeviceStatus, LinkError, LinkUp
from firmware_protocol.quantities import MS, SECOND, BootUs
from sim_device.faults import Rule

if TYPE_CHECKING:
    from tests.conformance.conftest import Bench, MakeBench

demand = pytest.mark.demand
seeds = pytest.mark.seeds


def inject(b: Bench, kind: str) -> None:
    """The device spoils its next frame."""
    b.device.faults.add(Rule(kind, at_us=0, times=1))


def noticed_us(b: Bench) -> int:
    """A question without an answer is noticed by then."""
    return 70 * MS if b.row.round_us < 10 * MS else 450 * MS


@pytest.mark.parametrize("drift_ppm", [-100, 0, 100])
def test_on_a_good_line_no_error_is_ever_told(bench: MakeBench, drift_ppm: int) -> None:
    b = bench(drift_ppm=drift_ppm).armed()
    b.wait(SECOND)
    b.recovered().wait(SECOND)
    for instant in range(10):
        b.arm()
        b.wait(137 * instant * MS // 10)
        b.driver.stop(b.now)
        b.wait(200 * MS, b.driver.stop)
        b.recovered()
    assert b.all(LinkError) == []


def told_once(b: Bench, kind: str, times: int) -> None:
    for _ in range(times):
        inject(b, kind)
        b.wait(noticed_us(b))
    assert b.device.faults.counts[kind] == times
    assert len(b.all(LinkError)) == times
    assert all(": " in error.why for error in b.all(LinkError))
    assert b.state is DeviceState.IDLE
    assert len(b.all(LinkUp)) == 1


@demand("lost")
@pytest.mark.parametrize("kind", ["bit_flip", "drop_frame"])
@pytest.mark.parametrize("times", [1, 2])
@seeds(25)
def test_each_damaged_or_lost_frame_is_told_once(
    bench: MakeBench, kind: str, times: int, seed: int
) -> None:
    b = bench(seed).connected()
    told_once(b, kind, times)


def test_noise_between_the_frames_is_told(bench: MakeBench) -> None:
    b = bench().connected()
    b.to_host.send(b"\xff" * 20 + b"\0", b.now)
    b.wait(noticed_us(b))
    assert len(b.all(LinkError)) == 1


@demand("repeated")
def test_a_frame_that_comes_twice_is_told(bench: MakeBench) -> None:
    b = bench().connected()
    b.to_host.duplicate = 1.0
    b.wait(20 * MS)
    b.to_host.duplicate = 0.0
    before = len(b.all(DeviceStatus))
    assert len(b.all(LinkError)) == 1
    b.wait(100 * MS)
    assert len(b.all(LinkError)) == 1
    assert len(b.all(DeviceStatus)) == before + 5


def test_noise_before_a_device_answers_is_nobodys_error(bench: MakeBench) -> None:
    b = bench()
    b.to_device.cut = True
    for _ in range(20):
        b.noise(b.to_host, 30)
        b.wait(MS)
    b.to_device.cut = False
    b.connected().wait(100 * MS)
    assert b.all(LinkError) == []


def checks_frames(b: Bench) -> None:
    if not b.row.info.checks_frames:
        pytest.skip(f"{b.row.name}: info.checks_frames is False, and nobody calls it")


def test_the_bad_frame_of_the_self_test_does_nothing_and_hurts_nothing(bench: MakeBench) -> None:
    b = bench().connected()
    checks_frames(b)
    before = {status.mso_pct for status in b.all(DeviceStatus)}
    for _ in range(3):
        b.driver.probe_bad_frame(b.now)
        b.wait(100 * MS)
    assert b.happened("arm", "fault", "disarm", "stop", "pulse") == []
    assert b.state is DeviceState.IDLE
    assert {status.mso_pct for status in b.all(DeviceStatus)} == before
    assert (b.all(CommandEnded), b.all(LinkError), len(b.all(LinkUp))) == ([], [], 1)
    assert max(at for at, _ in b.heard) > b.now - b.row.info.status_age_us  # it lives on
    b.arm()
    b.wait(SECOND)
    assert b.state is DeviceState.READY


def damaged(b: Bench) -> Any:
    """Frames that the device has found damaged, and what else was wrong."""
    if not hasattr(b.device, "model"):
        counters = b.device.line.counters
        return lambda: (counters.bad_crc, counters.garbage, counters.unknown)
    parser, heard = b.device.model._parser, []
    feed = parser.feed

    def listen(data: bytes) -> Any:
        found = feed(data)
        heard.extend(found)
        return found

    parser.feed = listen
    return lambda: (
        sum(one.row is not None and not one.sound for one in heard),
        sum(one.row is None for one in heard),
        parser.begun,
    )


@seeds(20)
def test_the_bad_frame_reaches_the_device_as_one_damaged_frame(bench: MakeBench, seed: int) -> None:
    """Else the self-test could not fail."""
    b = bench(seed).connected()
    checks_frames(b)
    found = damaged(b)
    b.wait(b.rng.randrange(100 * MS))
    b.driver.probe_bad_frame(b.now)
    b.wait(100 * MS)
    assert found() == (1, 0, 0)


def test_without_a_device_the_bad_frame_is_not_sent(bench: MakeBench) -> None:
    b = bench()
    checks_frames(b)
    found = damaged(b)
    b.driver.probe_bad_frame(BootUs(b.now))
    b.wait(100 * MS)
    assert found() == (0, 0, 0)
    assert b.happened("arm") == []
