"""All that the rules may look at. None means unknown, and unknown is never safe."""

from __future__ import annotations

from typing import NamedTuple

from drivers.contract import DeviceStatus, PulseBlock
from firmware_protocol.quantities import BootUs, PercentMso
from tmsctl.safety.dose import PulseTimes


class CounterRange(NamedTuple):
    """Readings of the device's pulse counter that agree with what was sent."""

    low: int
    high: int


class Facts(NamedTuple):
    """One view of the world, made once a cycle."""

    stopped_by: str | None  # who pressed STOP since the last acknowledgement; None: nobody
    service_seen_at: BootUs | None  # newest sign of life of tmsd; None: not connected
    cycle_gap_us: int  # since the cycle before
    device_known: bool | None  # is it the device that was configured; None: none connected
    status: DeviceStatus | None
    armed_since: BootUs | None  # when the device was told to arm; None: it was not
    armed_mso: PercentMso | None  # what it was told
    ready_seen: bool  # has it shown READY since
    arm_taken: bool  # was the newest status asked after the device had answered that it arms
    energy_at: BootUs | None  # newest of arming and last pulse
    counter: CounterRange | None
    realised_permille: int | None  # newest pulse since arming; None: none yet
    unresolved_since: BootUs | None  # when the oldest unknown outcome began; None: all are known
    refusals: int  # blocks that the device refused, one after another
    missed: int  # most pulses of the plan in a row, since arming, that did not leave
    strangers: int  # pulses that no block of ours explains
    seen: PulseTimes  # delivered pulses, on the device's clock
    session_since: BootUs | None  # first arming of the loaded plan
    presence_at: BootUs | None  # newest sign that an operator is there; None: never
    service_fault: str | None  # why tmsd can no longer keep the ledger
    link_errors: int  # damaged or lost frames while armed, in the last LINK_WINDOW_US
    link_doubt: bool  # one was seen, and not yet two good round trips since
    coil_at_link: int | None  # coil type when the device connected; None: none connected
    coil_rate_dc: int  # fastest change of the surface, 0.1 degree C in a second
    coil_stuck_j: int  # energy delivered while neither temperature moved
    didt_a_per_us: int | None  # newest pulse since arming; None: none yet


class Request(NamedTuple):
    """One block that asks for a permit."""

    block: PulseBlock
    start_at: BootUs
    plan_mso: PercentMso  # intensity of the confirmed plan
    mt_permille: int  # motor threshold, permille of MSO
    plan_pulses_left: int
    session_pulses: int  # sent in this session so far, unknown ones included
    sent: PulseTimes  # pulses sent, on the host's clock
    granted_pulses: int  # covered by a durable intent
    day_pulses: int  # of this patient in the 24 h before the session, by the ledger
    week_pulses: int  # of this patient in the 7 days before the session
    all_sent_since: BootUs  # from then on `sent` knows every pulse; before, another guard may have
    settled_at: BootUs  # when the capacitor has certainly reached the intensity
    recharge_us: int  # of the connected device, from pulse to pulse at this intensity
    rest_us: int  # of the connected device, from block to block


class ArmRequest(NamedTuple):
    """One wish to arm: what a person confirmed, and what must be so before a coil is charged."""

    plan_hash: str  # of the loaded plan
    confirmed_hash: str  # of the plan that the person confirmed
    confirmed_at: BootUs
    self_test_at: BootUs | None  # newest that passed, on this life of the device; None: none
    ledger_count: CounterRange  # readings of the device's counter that fit the ledger
    pulse_count: int | None  # what it shows
