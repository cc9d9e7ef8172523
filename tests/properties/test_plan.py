"""The pulse plan: every pulse at its time, once, however it is cut."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_protocol.quantities import PercentMso
from tmsctl.stimulation.plan import Plan, Slice, trains_of
from tmsctl.stimulation.prescription import Prescription, compile_plan
from tmsctl.stimulation.protocol import Protocol, load_library

LIBRARY = load_library()


def a_plan(protocol: Protocol) -> Plan:
    return Plan(protocol, PercentMso(50), 500, 100, reduced=False, trains=trains_of(protocol))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any pattern that the loader would accept, small."""
    per_burst = draw(st.integers(1, 5))
    interval_us = draw(st.integers(1, 50_000)) if per_burst > 1 else 0
    burst_period_us = draw(st.integers(1, 300_000)) + (per_burst - 1) * interval_us
    bursts, trains = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    train_period_us = bursts * burst_period_us + draw(st.integers(0, 5_000_000))
    protocol = replace(
        LIBRARY["itbs600"],
        pulses_per_burst=per_burst,
        interval_us=interval_us,
        burst_period_us=burst_period_us,
        bursts_per_train=bursts,
        train_period_us=train_period_us,
        trains=trains,
        pulses=per_burst * bursts * trains,
        exceeds=MappingProxyType({}),
    )
    return a_plan(protocol)


def pulse_times(plan: Plan) -> list[int]:
    """Written without the plan's own arithmetic: burst by burst, pulse by pulse."""
    p = plan.protocol
    return [
        t * p.train_period_us + b * p.burst_period_us + i * p.interval_us
        for t in range(p.trains)
        for b in range(p.bursts_per_train)
        for i in range(p.pulses_per_burst)
    ]


def slice_times(part: Slice) -> list[int]:
    return [
        part.onset_us + b * part.burst_period_us + i * part.interval_us
        for b in range(part.bursts)
        for i in range(part.pulses_per_burst)
    ]


@given(plans())
def test_every_pulse_has_the_time_of_the_pattern(plan: Plan) -> None:
    times = pulse_times(plan)
    assert [plan.at_us(pulse) for pulse in range(plan.pulses)] == times
    assert (len(times), times[-1]) == (plan.pulses, plan.span_us)
    assert times == sorted(set(times))


@given(plans(), st.data())
def test_slices_from_any_pulse_give_the_rest_of_the_plan_exactly_once(
    plan: Plan, data: st.DataObject
) -> None:
    start = pulse = data.draw(st.integers(0, plan.pulses - 1))
    lease_max_us = data.draw(st.integers(0, 2_000_000))
    pulses_max = data.draw(st.integers(0, 40))
    delivered: list[int] = []
    while pulse < plan.pulses:
        part = plan.slice_at(pulse, lease_max_us, pulses_max)
        train, times = plan.train_of(pulse), slice_times(part)
        assert part.first_pulse == pulse
        assert part.pulses == len(times) == part.bursts * part.pulses_per_burst
        assert plan.trains[part.train] is train
        assert part.starts_train == (pulse == train.first_pulse)
        assert pulse + part.pulses <= train.first_pulse + train.pulses
        assert (part.interval_us == 0) == (part.pulses_per_burst == 1)
        if part.bursts > 1:
            assert part.pulses <= pulses_max
            assert times[-1] - times[0] <= lease_max_us
        delivered += times
        pulse += part.pulses
    assert delivered == pulse_times(plan)[start:]


@given(plans(), st.data())
def test_a_slice_is_never_shorter_than_it_may_be(plan: Plan, data: st.DataObject) -> None:
    pulse = data.draw(st.integers(0, plan.pulses - 1))
    lease_max_us = data.draw(st.integers(0, 2_000_000))
    pulses_max = data.draw(st.integers(0, 40))
    part, train = plan.slice_at(pulse, lease_max_us, pulses_max), plan.train_of(pulse)
    after = pulse + part.pulses
    assert (after - train.first_pulse) % train.pulses_per_burst == 0  # ends with a whole burst
    if part.pulses_per_burst < train.pulses_per_burst or after == train.first_pulse + train.pulses:
        return
    one_burst_more = part.pulses + train.pulses_per_burst
    longer_us = plan.at_us(pulse + one_burst_more - 1) - part.onset_us
    assert one_burst_more > pulses_max or longer_us > lease_max_us


def test_a_lease_of_exactly_the_train_takes_the_whole_train() -> None:
    plan = a_plan(LIBRARY["itbs600"])
    assert plan.slice_at(30, 1_840_000, 30).bursts == 10
    assert plan.slice_at(30, 1_839_999, 30).bursts == 9
    assert plan.slice_at(30, 1_840_000, 29).bursts == 9


def test_a_broken_burst_is_finished_alone() -> None:
    plan = a_plan(LIBRARY["itbs600"])
    part = plan.slice_at(31, 10_000_000, 600)
    assert (part.pulses, part.bursts, part.interval_us, part.onset_us) == (2, 1, 20_000, 10_020_000)
    assert not part.starts_train
    assert plan.slice_at(32, 10_000_000, 600).interval_us == 0
    assert plan.slice_at(33, 10_000_000, 600).pulses == 27


@pytest.mark.parametrize("pulse", [-1, 600])
def test_a_pulse_outside_the_plan_is_an_error(pulse: int) -> None:
    plan = a_plan(LIBRARY["itbs600"])
    for ask in (plan.at_us, plan.train_of, lambda n: plan.slice_at(n, 1_000_000, 30)):
        with pytest.raises(ValueError, match=r"outside 0\.\.599"):
            ask(pulse)


@pytest.mark.parametrize("protocol", LIBRARY.values(), ids=LIBRARY)
def test_the_plan_of_a_library_protocol_has_the_declared_totals(protocol: Protocol) -> None:
    plan = compile_plan(Prescription(protocol, 500, protocol.pct_mt, reduced=False), 100)
    assert isinstance(plan, Plan)
    assert plan.pulses == protocol.pulses == sum(train.pulses for train in plan.trains)
    assert plan.span_us == protocol.span_us
    assert len(plan.trains) == protocol.trains
    assert all(train.span_us == protocol.train_span_us for train in plan.trains)


def test_the_hash_covers_this_text_and_no_other() -> None:
    protocol = replace(LIBRARY["itbs600"], trains=2, hash="ab")
    assert a_plan(protocol).canonical_text() == (
        "tmsctl-plan-1\n"
        "mso=50\n"
        "mt_permille=500\n"
        "pct_mt=100\n"
        "protocol=ab\n"
        "reduced=0\n"
        "train.000000=0,0,10,200000,3,20000\n"
        "train.000001=10000000,30,10,200000,3,20000\n"
    )


def test_whatever_reaches_the_coil_changes_the_hash() -> None:
    plan = a_plan(LIBRARY["itbs600"])
    first, *rest = plan.trains
    others = [
        replace(plan, mso=PercentMso(51)),
        replace(plan, mt_permille=501),
        replace(plan, pct_mt=101),
        replace(plan, reduced=True),
        replace(plan, protocol=replace(plan.protocol, hash="0" * 64)),
        replace(plan, trains=plan.trains[:-1]),
        *(
            replace(plan, trains=(replace(first, **{name: getattr(first, name) + 1}), *rest))
            for name in first.__slots__
        ),
    ]
    assert len({plan.hash, *(other.hash for other in others)}) == 1 + len(others) == 13
    assert replace(plan).hash == plan.hash


def test_the_hash_is_the_same_in_every_process() -> None:
    program = (
        "from tmsctl.stimulation.prescription import Prescription, compile_plan\n"
        "from tmsctl.stimulation.protocol import load_library\n"
        "p = load_library()['ctbs600']\n"
        "print(compile_plan(Prescription(p, 500, 80, False), 100).hash)\n"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1", "4242")
    }
    here = compile_plan(Prescription(LIBRARY["ctbs600"], 500, 80, reduced=False), 100)
    assert isinstance(here, Plan)
    assert hashes == {here.hash}
