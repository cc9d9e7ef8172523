"""What every driver tells of a bad line, and the damaged frame of the daily self-test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drivers.contract import CommandEnded, DeviceState, DeviceStatus, LinkError, LinkUp
from firmware_protocol.quantities import MS, SECOND, BootUs
from sim_device.faults import Rule

if TYPE_CHECKING:
    from tests.conformance.conftest import Bench, MakeBench


def inject(b: Bench, kind: str) -> None:
    """The device spoils its next frame."""
    b.device.faults.add(Rule(kind, at_us=0, times=1))  # type: ignore[attr-defined]


@pytest.mark.parametrize("drift_ppm", [-100, 0, 100])
def test_on_a_good_line_no_error_is_ever_told(bench: MakeBench, drift_ppm: int) -> None:
    b = bench(drift_ppm=drift_ppm).armed()
    b.wait(SECOND)
    b.driver.acknowledge(b.now)
    b.connected().wait(SECOND)
    b.driver.stop(b.now)
    b.wait(SECOND)
    assert len(b.all(DeviceStatus)) > 100
    assert b.all(LinkError) == []


@pytest.mark.parametrize("kind", ["bit_flip", "drop_frame"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("seed", range(25))
def test_each_damaged_or_lost_frame_is_told_once(
    bench: MakeBench, kind: str, times: int, seed: int
) -> None:
    b = bench(seed).connected()
    for _ in range(times):
        inject(b, kind)
        b.wait(70 * MS)
    assert b.device.faults.counts[kind] == times  # type: ignore[attr-defined]
    assert len(b.all(LinkError)) == times
    assert all(": " in error.why for error in b.all(LinkError))
    assert b.state is DeviceState.IDLE
    assert len(b.all(LinkUp)) == 1


def test_noise_between_the_frames_is_told(bench: MakeBench) -> None:
    b = bench().connected()
    b.to_host.send(b"\xff" * 20 + b"\0", b.now)
    b.wait(70 * MS)
    assert len(b.all(LinkError)) == 1


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
        b.to_host.send(b.rng.randbytes(30), b.now)
        b.wait(MS)
    b.to_device.cut = False
    b.connected().wait(100 * MS)
    assert b.all(LinkError) == []


def test_the_bad_frame_of_the_self_test_does_nothing_and_hurts_nothing(bench: MakeBench) -> None:
    b = bench().connected()
    for _ in range(3):
        b.driver.probe_bad_frame(b.now)
        b.wait(100 * MS)
    assert b.happened("arm", "fault", "disarm", "stop", "pulse") == []
    assert b.state is DeviceState.IDLE
    assert {status.mso_pct for status in b.all(DeviceStatus)} == {0}
    assert (b.all(CommandEnded), b.all(LinkError), len(b.all(LinkUp))) == ([], [], 1)
    assert max(at for at, _ in b.heard) > b.now - 30 * MS  # and the session lives on
    b.arm()
    b.wait(SECOND)
    assert b.state is DeviceState.READY


def test_the_bad_frame_reaches_the_device_as_one_damaged_frame(bench: MakeBench) -> None:
    """Else the self-test could not fail."""
    b = bench().connected()
    counters = b.device.line.counters  # type: ignore[attr-defined]
    b.driver.probe_bad_frame(b.now)
    b.wait(100 * MS)
    assert (counters.bad_crc, counters.garbage, counters.unknown) == (1, 0, 0)


def test_without_a_device_the_bad_frame_is_not_sent(bench: MakeBench) -> None:
    b = bench()
    b.driver.probe_bad_frame(BootUs(b.now))
    b.wait(100 * MS)
    assert b.happened("arm") == []
