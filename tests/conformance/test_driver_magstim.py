"""What the driver of a Magstim unit must do beside what every driver must: judged on what left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from drivers.causes import code_of
from drivers.contract import (
    BlockEnded,
    DeviceState,
    DeviceStatus,
    LinkDown,
    LinkError,
    LinkUp,
    Outcome,
    PulseBlock,
    PulseSeen,
    Ticket,
)
from drivers.magstim.driver import MagstimStimulator
from firmware_protocol.magstim.energy import on_time_max_us
from firmware_protocol.magstim.messages import Answer
from firmware_protocol.quantities import MS, SECOND, PercentMso
from sim_device.faults import Rule
from tests.conformance.conftest import Bench, MakeBench
from tests.conformance.driver_rows import DRIVERS, LONG, MSO, SINGLE, TEN
from tests.families import LIFE, RAPID, rapid

ROWS: Final = {row.name: row for row in DRIVERS}


@pytest.fixture
def make() -> Iterator[MakeOne]:
    maker = MakeOne()
    yield maker
    for one in maker.made:
        one.judge()


class MakeOne:
    """Makes benches; each is judged at its end by what left and what counted."""

    def __init__(self) -> None:
        self.made: list[Bench] = []

    def __call__(self, name: str, **settings: Any) -> Bench:
        self.made.append(MakeBench(ROWS[name])(**settings))
        return self.made[-1]


def strikes(b: Bench, kind: str, value: int | None = None, **more: Any) -> None:
    rule = Rule(kind, value, **(more or {"times": 1}))
    b.device.faults.add_from_now(rule, b.on_device(b.now))


def told(b: Bench) -> DeviceStatus:
    newest: DeviceStatus = b.all(DeviceStatus)[-1]
    return newest


# -- a BiStim²: one pulse, of unit A alone ----------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "3"])
def test_a_bistim_that_gives_other_pulses_than_of_unit_a_is_not_taken(
    make: MakeOne, mode: str
) -> None:
    """A defect once: with both at once 113 % left where 90 % leave of one, and were told as it."""
    b = make("magstim-bistim")
    part = b.device.model.part
    if mode == "1":
        strikes(b, "panel_gap", 0)
    else:
        part.reads = {**part.reads, "mode": lambda: mode}
        b.device.model._reads["mode"] = lambda: mode
    b.wait(3 * SECOND)
    assert b.all(LinkUp) == []
    assert {code_of(down.why) for down in b.all(LinkDown)} == {"wrong-mode"}
    if mode == "1":
        strikes(b, "panel_gap", 20)
        b.connected()


def test_a_bistim_turned_to_both_at_once_while_ready_fires_nothing_and_says_so(
    make: MakeOne,
) -> None:
    b = make("magstim-bistim").armed()
    assert told(b).fault == ""
    strikes(b, "panel_gap", 0)
    b.wait(3 * SECOND)
    assert "both" in told(b).fault
    ticket = b.fire(b.permit(SINGLE))
    b.wait(SECOND)
    assert b.outcomes(ticket) == [Outcome.REFUSED]
    assert b.pulses_at() == []
    b.driver.disarm(b.now)
    b.wait(200 * MS)
    again = b.arm()
    b.wait(SECOND)
    assert b.outcomes(again) == [Outcome.REFUSED]


def test_a_bistim_whose_mode_is_turned_while_ready_fires_nothing_and_says_so(
    make: MakeOne,
) -> None:
    b = make("magstim-bistim").armed()
    b.device.model._reads["mode"] = lambda: "3"
    b.wait(300 * MS)
    assert "external trigger" in told(b).fault
    ticket = b.fire(b.permit(SINGLE))
    b.wait(SECOND)
    assert b.outcomes(ticket) == [Outcome.REFUSED]
    assert b.pulses_at() == []


def test_a_bistim_that_was_switched_off_and_on_is_armed_without_unit_b(make: MakeOne) -> None:
    """A defect once: unit B was at what it begins with, and every arming was refused for ever."""
    b = make("magstim-bistim").connected()
    strikes(b, "reboot", 50)
    b.wait(SECOND)
    assert b.device.model.part.power_b == 30
    assert told(b).fault == ""
    b.arm()
    b.wait(2 * SECOND)
    b.fire(b.permit(SINGLE))
    b.wait(SECOND)
    assert [pulse["mso"] for pulse in b.happened("pulse")] == [0.9 * MSO.value]


def test_a_bistim_whose_unit_b_is_turned_up_while_ready_fires_nothing_and_says_so(
    make: MakeOne,
) -> None:
    b = make("magstim-bistim").armed()
    b.device.model.part.power_b = 40
    b.wait(300 * MS)
    assert "unit B" in told(b).fault
    ticket = b.fire(b.permit(SINGLE))
    b.wait(SECOND)
    assert b.outcomes(ticket) == [Outcome.REFUSED]
    assert b.pulses_at() == []


# -- what is told of power, coil and mode is as young as it says ------------------------------

FAMILY: Final = ("magstim-200", "magstim-bistim", "magstim-rapid", "magstim-rapid-7")
POWER: Final = dict.fromkeys(FAMILY[:2], "get_parameters") | dict.fromkeys(
    FAMILY[2:], "get_rapid_parameters"
)
FACT_US: Final = 300 * MS
"""A status may tell the answer to a question of 250 ms ago, and another may be on its way."""


def refuses(b: Bench, command: str) -> None:
    """From now on the unit answers `S` to a question that it has answered until now."""
    b.device.model._commands[command] = lambda _: Answer.CONFLICT


def stale_by(b: Bench, kind: str) -> None:
    """From now on no status is told as if it were young, and the line shows why."""
    by = b.now + FACT_US
    b.wait(FACT_US + SECOND)
    after = [at - s.asked_at for at, s in b.heard if isinstance(s, DeviceStatus) and at > by]
    assert min(after) > b.row.info.status_age_us
    assert {error.why.partition(":")[0] for error in b.all(LinkError)} == {kind}
    assert len(b.all(LinkUp)) == 1


@pytest.mark.parametrize("name", FAMILY)
def test_a_coil_that_is_told_no_more_is_not_told_as_cool(make: MakeOne, name: str) -> None:
    """A defect once: 20.0 degrees were told of a coil at 39, and 40 ms young."""
    b = make(name).armed()
    refuses(b, "get_temperature")
    b.device.unit.jump_to(390, b.on_device(b.now))
    stale_by(b, "content")


@pytest.mark.parametrize("name", FAMILY)
def test_no_pulse_leaves_at_a_power_that_is_told_no_more(make: MakeOne, name: str) -> None:
    """A defect once: the knob was turned from 5 to 25 %, and the pulse left."""
    b = make(name).armed()
    refuses(b, POWER[name])
    b.device.model.change_power(25)
    stale_by(b, "content")
    b.until(lambda: b.device.model.phase.name == "READY", 5 * SECOND)
    ticket = b.fire(b.permit(SINGLE))
    b.wait(SECOND)
    assert b.outcomes(ticket) == [Outcome.REFUSED]
    assert b.pulses_at() == []


def test_a_mode_that_is_told_no_more_is_not_trusted(make: MakeOne) -> None:
    b = make("magstim-bistim").armed()
    refuses(b, "get_mode")
    stale_by(b, "content")
    ticket = b.fire(b.permit(SINGLE))
    b.wait(SECOND)
    assert b.outcomes(ticket) == [Outcome.REFUSED]
    assert b.pulses_at() == []


# -- the energy of a Rapid², which its host has to keep to ------------------------------------

_SUPER: Final = RAPID._replace(
    driver=lambda port, site: MagstimStimulator(RAPID.info, port, site, LIFE, rapid(super=1))
)
STRONG: Final = PulseBlock(
    1, PercentMso(60), bursts=36, burst_period_us=25 * MS, pulses_per_burst=1, interval_us=0
)
"""36 pulses at 40 Hz and 60 %: 2,209,715 us of rest by wire-protocols.md 1.8."""


def super_rapid() -> Bench:
    return Bench(replace(ROWS["magstim-rapid"], family=_SUPER), super=1).armed(STRONG)


def trains(b: Bench, rest_us: int, number: int = 4) -> list[list[Outcome]]:
    """How trains ended that follow each other with so much rest."""
    at, tickets = b.now + 400 * MS, []
    for block_id in range(1, number + 1):
        b.wait(at - 400 * MS - b.now)
        tickets.append(b.fire(b.permit(replace(STRONG, block_id=block_id), at)))
        at += STRONG.span_us + rest_us
    b.wait(2 * SECOND)
    return [b.outcomes(ticket) for ticket in tickets]


def test_a_rapid_gets_no_train_before_the_rest_of_the_one_before() -> None:
    """A defect once: a second of rest was taken for enough, whatever left."""
    b = super_rapid()
    ended = trains(b, SECOND)
    assert [line["cause"] for line in b.happened("fault")] == []
    assert ended[:2] == [[Outcome.APPLIED], [Outcome.REFUSED]]
    b.judge()


def test_a_rapid_gets_a_train_after_the_rest_of_the_one_before() -> None:
    b = super_rapid()
    ended = trains(b, 2_220 * MS, 3)
    assert ended == [[Outcome.APPLIED]] * 3
    assert [line["cause"] for line in b.happened("fault")] == []
    assert len(b.pulses_at()) == 3 * STRONG.pulses
    b.judge()


def test_a_train_longer_than_a_minute_bears_is_never_taken() -> None:
    long = replace(STRONG, bursts=700, burst_period_us=25 * MS)
    unit = rapid(super=1)
    assert on_time_max_us(60, 400) == 17_364_939
    assert unit.refuses(replace(long, bursts=692)) == ""
    assert "17364939 us" in unit.refuses(long)


# -- pulses of nobody here --------------------------------------------------------------------


@pytest.mark.parametrize("after_pulse_us", [0, 10 * MS, 100 * MS])
@pytest.mark.parametrize("name", FAMILY)
def test_a_foreign_pulse_counts_however_short_the_unit_shows_it(
    name: str, after_pulse_us: int
) -> None:
    """A defect once: seen only from READY to neither, which nobody knows how long a unit shows."""
    b = Bench(ROWS[name], after_pulse_us=after_pulse_us).armed()
    for count in range(1, 5):
        b.until(lambda: b.state is DeviceState.READY, 6 * SECOND)
        b.wait(count * 17 * MS)
        strikes(b, "external_trigger")
        b.wait(400 * MS)
        assert len(b.pulses_at()) == told(b).pulse_count == len(b.all(PulseSeen)) == count


def test_a_pulse_of_a_unit_that_was_not_ready_yet_counts() -> None:
    b = Bench(ROWS["magstim-200"]).armed()
    strikes(b, "external_trigger")
    b.wait(500 * MS)
    assert b.state is DeviceState.ARMING
    strikes(b, "spontaneous_pulse")
    b.wait(500 * MS)
    assert len(b.pulses_at()) == told(b).pulse_count == 2


@pytest.mark.parametrize("name", FAMILY[2:])
def test_a_foreign_train_counts_once_with_all_the_pulses_that_are_set(name: str) -> None:
    """A defect once: one was counted a poll, 5 of 10."""
    b = Bench(ROWS[name]).armed(TEN)
    b.fire(b.permit(TEN))
    b.wait(2 * SECOND)
    assert len(b.pulses_at()) == told(b).pulse_count == 10
    for count in (20, 30):
        b.until(lambda: b.state is DeviceState.READY, 2 * SECOND)
        strikes(b, "external_trigger")
        b.wait(60 * MS)
        assert told(b).pulse_count == count  # as soon as it begins
        b.wait(2 * SECOND)
        assert len(b.pulses_at()) == told(b).pulse_count == count


def test_after_a_foreign_train_the_supply_rests_as_well() -> None:
    b = super_rapid()
    assert trains(b, SECOND, 1) == [[Outcome.APPLIED]]
    b.until(lambda: b.state is DeviceState.READY, 3 * SECOND)
    b.wait(2 * SECOND)
    strikes(b, "external_trigger")
    b.wait(SECOND)
    b.until(lambda: b.state is DeviceState.READY, 3 * SECOND)
    ticket = b.fire(b.permit(replace(STRONG, block_id=2)))
    b.wait(2 * SECOND)
    assert b.outcomes(ticket) == [Outcome.REFUSED]
    assert b.happened("fault") == []


# -- what was triggered and did not leave ----------------------------------------------------


def ended_of(b: Bench, ticket: Ticket) -> BlockEnded:
    b.wait(SECOND)
    assert b.outcomes(ticket) == [Outcome.UNKNOWN]
    (ended,) = b.all(BlockEnded)
    assert isinstance(ended, BlockEnded)
    return ended


@pytest.mark.parametrize("name", FAMILY)
def test_a_trigger_that_the_unit_refuses_is_unknown(make: MakeOne, name: str) -> None:
    """No reply carries a number, so the refusal may be an old one. A defect once: behind such a
    line a pulse that had left counted as refused."""
    b = make(name).armed()
    refuses(b, "fire")
    ended = ended_of(b, b.fire(b.permit(SINGLE)))
    assert (ended.delivered, ended.skipped, ended.unsure) == (0, 0, 1)
    assert ended.complete
    assert ended.why.endswith(f"; {Answer.CONFLICT.value}")
    assert b.pulses_at() == []
    assert b.state is DeviceState.READY


@pytest.mark.parametrize("name", FAMILY)
def test_a_pulse_that_leaves_though_the_unit_refused_it_counts(make: MakeOne, name: str) -> None:
    b = make(name).armed()
    model = b.device.model

    def contradicts(_: Any) -> Answer:
        model.trigger("fire", model.settings.fire_us)
        return Answer.CONFLICT

    model._commands["fire"] = contradicts
    ended = ended_of(b, b.fire(b.permit(SINGLE)))
    assert (ended.delivered, ended.skipped, ended.unsure) == (1, 0, 0)
    assert len(b.pulses_at()) == 1
    assert not [pulse for pulse in b.all(PulseSeen) if not pulse.block_id]


@pytest.mark.parametrize("by_us", [True, False])
def test_what_is_left_of_a_train_that_ends_early_is_sure_only_where_we_stopped_it(
    make: MakeOne, by_us: bool
) -> None:
    """The reply that shows it ended may be an old one, and the train may go on."""
    b = make("magstim-rapid").armed(LONG)
    b.fire(b.permit(LONG))
    b.until(lambda: len(b.pulses_at()) == 3, 2 * SECOND)
    b.wait(50 * MS)
    if by_us:
        b.driver.disarm(b.now)
    b.device.model.part.stop("a fault of its own")
    b.wait(2 * SECOND)
    (ended,) = b.all(BlockEnded)
    assert len(b.pulses_at()) == 3 <= ended.delivered < LONG.pulses
    rest = LONG.pulses - ended.delivered
    assert (ended.skipped, ended.unsure) == ((rest, 0) if by_us else (0, rest))
    assert ended.complete is not by_us
