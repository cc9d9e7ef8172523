"""P9: whole numbers stay whole: no time up to 2**63 us overflows, wraps or goes negative."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from drivers.contract import PulseBlock
from firmware_protocol.errors import LocalProtocolError, RemoteProtocolError
from firmware_protocol.quantities import BootUs
from firmware_protocol.table import I16, I64, U8, U16, U32, U64, Spec, Table, Wire, pack
from firmware_protocol.tmslink.messages import TABLE as TMSLINK
from tests.proofs.views import FACTS, MSO, NOW, REQUEST, STATUS, with_facts, with_request
from tmsctl.ipc.messages import TABLE as IPC
from tmsctl.safety.dose import PulseTimes, peak
from tmsctl.safety.facts import Facts, Request
from tmsctl.safety.limits import GENERAL, SETTING_MAX
from tmsctl.safety.rules import PERMIT, Verdict, gate, watch

LATEST = 2**63 - 1
SHIFTS = (0, 1, 2**31, 2**32, 2**53 + 1, LATEST - 2 * NOW)
"""To where 32 bits, a double's integers and 63 bits end."""

TIMES = ("service_seen_at", "armed_since", "energy_at", "unresolved_since", "session_since",
         "presence_at")  # fmt: skip


def moved(times: PulseTimes, by: int) -> PulseTimes:
    later = PulseTimes(GENERAL.train_gap_min_us)
    later.extend(at + by for at in times._times)
    return later


def later(facts: Facts, by: int) -> Facts:
    """The same world, `by` microseconds later."""
    changes: dict[str, Any] = {
        name: value + by for name in TIMES if (value := getattr(facts, name)) is not None
    }
    if facts.status is not None:
        changes["status"] = facts.status._replace(asked_at=BootUs(facts.status.asked_at + by))
    return facts._replace(**changes, seen=moved(facts.seen, by))


def later_request(asked: Request, by: int) -> Request:
    return asked._replace(
        start_at=BootUs(asked.start_at + by),
        settled_at=BootUs(asked.settled_at + by),
        sent=moved(asked.sent, by),
    )


def worlds() -> Iterator[Facts]:
    lim = GENERAL
    yield FACTS
    for name, age_us in (
        ("service_seen_at", lim.service_age_max_us),
        ("energy_at", lim.armed_idle_max_us),
        ("unresolved_since", lim.unresolved_max_us),
        ("session_since", lim.session_us_max),
        ("presence_at", 60_000_000),
    ):
        for age in (age_us - 1, age_us, age_us + 1, 0, -1):
            yield with_facts(**{name: BootUs(NOW - age)})
    for age in (lim.status_age_max_us, lim.status_age_max_us + 1, -1):
        yield with_facts(status=STATUS._replace(asked_at=BootUs(NOW - age)))
    for gap in (49_999, 50_000):
        seen = PulseTimes(lim.train_gap_min_us)
        seen.extend(NOW - 2_000_000 + gap * i for i in range(25))
        yield with_facts(seen=seen)


def requests() -> Iterator[Request]:
    for before in ((), (5_000_000,), (4_999_999, 20_000), (19_999,), (10_000_001, 6_000_000)):
        sent = PulseTimes(GENERAL.train_gap_min_us)
        sent.extend(REQUEST.start_at - us for us in before)
        for bursts in (1, 3, 25):
            block = PulseBlock(4, MSO, bursts, 4_000_000 // bursts, 1, 0)
            yield with_request(block=block, sent=sent)


def said(verdict: Verdict) -> list[tuple[str, str]]:
    return [(trip.code, trip.detail) for trip in verdict.trips]


@pytest.mark.parametrize("by", SHIFTS)
def test_every_rule_says_the_same_at_any_time_of_63_bits(by: int) -> None:
    for facts in worlds():
        expected = said(watch(facts, GENERAL, NOW))
        assert said(watch(later(facts, by), GENERAL, BootUs(NOW + by))) == expected
    for asked in requests():
        assert said(gate(PERMIT, later_request(asked, by), GENERAL)) == said(
            gate(PERMIT, asked, GENERAL)
        )


@pytest.mark.parametrize("by", SHIFTS)
def test_windows_count_the_same_at_any_time_of_63_bits(by: int) -> None:
    times = [0, 1, 999_999, 1_000_000, 1_000_001, 60_000_000, 60_999_999]
    noted = PulseTimes(GENERAL.train_gap_min_us)
    noted.extend(at + by for at in times)
    assert peak([at + by for at in times], 1_000_000) == peak(times, 1_000_000) == 3
    assert noted.peak_with([61_000_000 + by], 1_000_000) == 3
    assert noted.run_started_at == 60_000_000 + by
    assert noted.within(60_000_000, 60_999_999 + by) == 4


def test_an_instant_of_the_future_is_never_a_negative_age_that_passes() -> None:
    for name in TIMES:
        for ahead in (1, 2**31, 2**32, LATEST - NOW):
            given = with_facts(**{name: BootUs(NOW + ahead)}, ready_seen=name != "armed_since")
            assert watch(given, GENERAL, NOW) != PERMIT, (name, ahead)
    ahead = with_facts(status=STATUS._replace(asked_at=BootUs(NOW + 1)))
    assert watch(ahead, GENERAL, NOW) != PERMIT


def test_no_limit_of_time_reaches_what_a_wire_field_cannot_hold() -> None:
    assert U32.high >= SETTING_MAX
    assert max(value for value in GENERAL.__getstate__() if isinstance(value, int)) < 2**53
    assert U64.high >= LATEST


# -- at the borders: a number that does not fit is refused, and never wraps -------------------

WHOLE = {wire.code: wire for wire in (U8, U16, U32, U64, I16, I64)}
SPECS = [(table, spec) for table in (TMSLINK, IPC) for spec in table.specs]


def cells(spec: Spec, place: int, value: int) -> list[Any]:
    found: list[Any] = ["" if f.wire.is_text else f.wire.low for f in spec.fields]
    found[place] = value
    return found


def beyond(wire: Wire) -> tuple[int, ...]:
    return (wire.low - 1, wire.high + 1, wire.high + 2**32, wire.low - 2**64)


@pytest.mark.parametrize(("table", "spec"), SPECS, ids=lambda x: getattr(x, "name", ""))
def test_every_field_carries_its_whole_range_and_refuses_one_beyond(
    table: Table, spec: Spec
) -> None:
    for place, field in enumerate(spec.fields):
        if field.wire.is_text:
            continue
        for value in (field.wire.low, field.wire.high):
            sent = spec.make(*cells(spec, place, value))
            assert table.unpack(spec.code, pack(sent)) == sent
        for value in beyond(field.wire):
            with pytest.raises(LocalProtocolError):
                pack(spec.make(*cells(spec, place, value)))


@pytest.mark.parametrize(("table", "spec"), SPECS, ids=lambda x: getattr(x, "name", ""))
def test_a_narrower_range_than_the_width_is_kept_when_it_is_read(table: Table, spec: Spec) -> None:
    for place, field in enumerate(spec.fields):
        whole = WHOLE.get(field.wire.code)
        if whole is None or field.wire == whole:
            continue
        for value in {field.wire.low - 1, field.wire.high + 1}:
            if whole.low <= value <= whole.high:
                payload = spec.layout.pack(
                    *(c.encode() if isinstance(c, str) else c for c in cells(spec, place, value))
                )
                with pytest.raises(RemoteProtocolError):
                    table.unpack(spec.code, payload)


def test_a_count_that_is_a_float_or_not_a_number_is_no_field() -> None:
    spec = next(spec for spec in IPC.specs if spec.name == "Grant")
    for value in (1.0, math.nan, math.inf, None, "1"):
        with pytest.raises((LocalProtocolError, TypeError)):
            pack(spec.make(*cells(spec, 0, value)))  # type: ignore[arg-type]
