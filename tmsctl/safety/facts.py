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
    energy_at: BootUs | None  # newest of arming and last pulse
    counter: CounterRange | None
    realised_permille: int | None  # newest pulse since arming; None: none yet
    unresolved_since: BootUs | None  # when the oldest unknown outcome began; None: all are known
    refusals: int  # blocks that the device refused, one after another
    strangers: int  # pulses that no block of ours explains
    seen: PulseTimes  # delivered pulses, on the device's clock
    session_since: BootUs | None  # first arming of the loaded plan


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
