"""What the guard remembers of the link and of the coil, at the edges of its windows."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.contract import DeviceState, DeviceStatus
from firmware_protocol.quantities import MS, SECOND, BootUs
from tmsctl.guard import entry
from tmsctl.guard.coil_watch import CoilWatch
from tmsctl.guard.link_watch import LinkWatch

NOW = BootUs(10_000 * SECOND)
WINDOW_US = 3_600 * SECOND
RUN_GAP_US = 1_500 * MS
YOUNG_US = 10 * SECOND


def reading(at: int, coil_dc: int = 250, surface_dc: int = 240) -> DeviceStatus:
    return DeviceStatus(
        BootUs(at), DeviceState.READY, "", "", 50, 500, coil_dc, surface_dc, 0, 0, 0, 1
    )


def test_an_error_is_forgotten_after_exactly_an_hour() -> None:
    link = LinkWatch()
    link.error(NOW)
    assert link.errors(BootUs(NOW + WINDOW_US - 1)) == 1
    assert link.errors(BootUs(NOW + WINDOW_US)) == 0


def test_doubt_ends_with_the_second_good_round_trip_and_not_before() -> None:
    link = LinkWatch()
    assert not link.doubt
    link.error(NOW)
    link.round_trip()
    assert link.doubt
    link.error(NOW)  # and it begins anew
    link.round_trip()
    assert link.doubt
    link.round_trip()
    assert not link.doubt
    link.round_trip()
    assert not link.doubt


def test_an_acknowledgement_forgets_the_errors_but_not_the_doubt() -> None:
    link = LinkWatch()
    link.error(NOW)
    link.error(NOW)
    assert link.errors(NOW) == 2
    link.acknowledge()
    assert link.errors(NOW) == 0
    assert link.doubt


def test_a_flood_of_errors_is_kept_within_bounds_and_stays_more_than_one() -> None:
    link = LinkWatch()
    for at in range(100_000):
        link.error(BootUs(NOW + at))
    assert link.errors(BootUs(NOW + 100_000)) == 16


def test_the_rate_is_the_change_within_the_last_second() -> None:
    coil = CoilWatch(1)
    coil.reading(reading(NOW, surface_dc=240))
    assert coil.rate_dc == 0
    coil.reading(reading(NOW + 20 * MS, surface_dc=265))
    assert coil.rate_dc == 25  # a jump shows at once
    coil.reading(reading(NOW + SECOND, surface_dc=250))
    assert coil.rate_dc == 10
    coil.reading(reading(NOW + SECOND + 20 * MS, surface_dc=253))
    assert coil.rate_dc == 3  # since a second ago, not since the beginning


def test_before_the_second_reading_nothing_is_known_against_the_coil() -> None:
    coil = CoilWatch(1)
    assert coil.rate_dc == 0
    assert coil.stuck_j == 0
    coil.reading(reading(1, surface_dc=240))  # however young the clock
    assert coil.rate_dc == 0
    coil.reading(reading(2, surface_dc=241))
    assert coil.rate_dc == 1


@pytest.mark.parametrize(("gap_us", "rate_dc"), [(3 * SECOND, 160), (3 * SECOND + 1, 0)])
def test_readings_three_seconds_apart_still_have_a_rate(gap_us: int, rate_dc: int) -> None:
    coil = CoilWatch(1)
    coil.reading(reading(NOW, surface_dc=240))
    coil.reading(reading(NOW + gap_us, surface_dc=400))
    assert coil.rate_dc == rate_dc


def test_after_a_gap_in_the_readings_no_rate_is_made_up() -> None:
    coil = CoilWatch(1)
    coil.reading(reading(NOW, surface_dc=240))
    coil.reading(reading(NOW + 3 * SECOND + 1, surface_dc=400))
    assert coil.rate_dc == 0
    coil.reading(reading(NOW + 3 * SECOND + 2, surface_dc=380))
    assert coil.rate_dc == 20  # falling is as implausible as rising


def test_energy_counts_until_either_temperature_moves() -> None:
    coil = CoilWatch(1)
    coil.reading(reading(NOW))
    for index in range(10):
        coil.pulse(BootUs(NOW + index * 100 * MS), 1_000)
    assert coil.stuck_j == 2_520  # 252 J at full output
    coil.reading(reading(NOW + SECOND))
    assert coil.stuck_j == 2_520
    coil.reading(reading(NOW + SECOND + 20 * MS, coil_dc=251))
    assert coil.stuck_j == 0
    coil.pulse(BootUs(NOW + SECOND), 500)
    assert coil.stuck_j == 63
    coil.reading(reading(NOW + SECOND + 40 * MS, coil_dc=251, surface_dc=241))
    assert coil.stuck_j == 0


def test_energy_is_told_in_whole_joules_that_are_full() -> None:
    coil = CoilWatch(1)
    coil.reading(reading(NOW))
    for permille in (125, 14, 6, 4):
        coil.pulse(NOW, permille)
    assert coil.stuck_j == 3  # 3.999996 J
    assert type(coil.stuck_j) is int
    coil.pulse(NOW, 1)
    assert coil.stuck_j == 4


def test_a_run_may_begin_as_soon_as_the_clock_does() -> None:
    coil = CoilWatch(1)
    coil.reading(reading(0))
    for second in range(12):
        coil.pulse(BootUs(1 + second * SECOND), 1_000)
    assert coil.stuck_j == 2_520  # of the first 10 s


def test_a_long_run_proves_nothing_and_a_new_one_does() -> None:
    coil = CoilWatch(1)
    coil.reading(reading(NOW))
    coil.pulse(NOW, 1_000)
    at = NOW
    while at - NOW < YOUNG_US + 5 * SECOND:
        at = BootUs(at + SECOND)
        coil.pulse(at, 1_000)
    young = YOUNG_US // SECOND * 252
    assert coil.stuck_j == young
    coil.pulse(BootUs(at + RUN_GAP_US), 1_000)  # still the same run
    assert coil.stuck_j == young
    coil.pulse(BootUs(at + 2 * RUN_GAP_US + 1), 1_000)
    assert coil.stuck_j == young + 252


@pytest.mark.parametrize(
    ("died", "text", "known_since"),
    [
        (False, None, 0),  # the first guard since the computer was started
        (False, "123000000", 123 * SECOND),
        (False, str(NOW + 1), NOW),  # a file from before a restart of the computer
        (False, "nonsense", NOW),
        (True, None, NOW),
        (True, "123000000", NOW),
    ],
)
def test_since_when_the_pulses_are_known(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    died: bool,
    text: str | None,
    known_since: int,
) -> None:
    monkeypatch.setattr("tmsctl.guard.realtime.now", lambda: NOW)
    if died:
        (tmp_path / "guard.unclean").touch()
    if text is not None:
        (tmp_path / "guard.ended").write_text(text)
    known = entry._known_since(tmp_path / "guard.unclean", tmp_path / "guard.ended")
    assert known == known_since
