"""One world in which every rule permits, to change one thing at a time."""

from __future__ import annotations

from typing import Any

from drivers.contract import DeviceState, DeviceStatus, PulseBlock
from firmware_protocol.quantities import BootUs, PercentMso
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.facts import CounterRange, Facts, Request
from tmsctl.safety.limits import GENERAL
from tmsctl.safety.rules import GATE, WATCH

NOW = BootUs(10_000_000_000)
MSO = PercentMso(50)


def rule_of(code: str) -> Any:
    """The function of one row of WATCH or GATE."""
    return {row.code: row.rule for row in (*WATCH, *GATE)}[code]


STATUS = DeviceStatus(
    asked_at=BootUs(NOW - 20_000),
    state=DeviceState.READY,
    cause="",
    fault="",
    mso_pct=50,
    charge_permille=500,
    coil_dc=300,
    surface_dc=250,
    pulse_count=1_000,
    block_id=3,
    block_fired=10,
    coil_type=1,
)
FACTS = Facts(
    stopped_by=None,
    service_seen_at=BootUs(NOW - 200_000),
    cycle_gap_us=10_000,
    device_known=True,
    status=STATUS,
    armed_since=BootUs(NOW - 2_000_000),
    armed_mso=MSO,
    ready_seen=True,
    energy_at=BootUs(NOW - 1_000_000),
    counter=CounterRange(1_000, 1_010),
    realised_permille=500,
    unresolved_since=None,
    refusals=0,
    strangers=0,
    seen=PulseTimes(GENERAL.train_gap_min_us),
    session_since=BootUs(NOW - 60_000_000),
    presence_at=BootUs(NOW - 1_000_000),
    service_fault=None,
    link_errors=0,
    link_doubt=False,
    coil_at_link=1,
    coil_rate_dc=0,
    coil_stuck_j=0,
    didt_a_per_us=None,
)
REQUEST = Request(
    block=PulseBlock(4, MSO, 1, 0, 1, 0),
    start_at=BootUs(NOW + 100_000),
    plan_mso=MSO,
    mt_permille=500,
    plan_pulses_left=3_000,
    session_pulses=0,
    sent=PulseTimes(GENERAL.train_gap_min_us),
    granted_pulses=3_000,
    day_pulses=0,
    week_pulses=0,
    settled_at=BootUs(NOW),
    recharge_us_per_pct=0,
)


def with_request(**changes: Any) -> Request:
    return REQUEST._replace(**changes)


def with_facts(**changes: Any) -> Facts:
    return FACTS._replace(**changes)
