"""What faults do to the device itself. Tables: kind of fault to what happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from firmware_protocol.quantities import MS
from firmware_protocol.table import Effect as Class
from firmware_protocol.tmslink.messages import Arm, Cause, Fire, Result, State, Train
from sim_device.wire_faults import BANNER

if TYPE_CHECKING:
    from sim_device.leases import Lease
    from sim_device.tmslink_firmware import Firmware
    from sim_device.tmslink_machine import Machine
    from sim_device.tmslink_session import Session
    from sim_device.tmslink_wire import Inbound

Effect = Callable[["Firmware", int], bool]
"""Takes the device and the fault's value; False when there was nothing to act on."""


# -- once -----------------------------------------------------------------------------------------


def _garbage(device: Firmware, size: int) -> bool:
    return device.noise(device.faults.rng.randbytes(size))


def _rx_garbage(device: Firmware, size: int) -> bool:
    return device.hear_noise(device.faults.rng.randbytes(size))


def _spontaneous_pulse(device: Firmware, _: int) -> bool:
    machine = device.machine
    charged = machine.unit.capacitor.at(machine.now) >= 1  # an empty one gives no pulse
    if charged:
        machine.discharge("spontaneous", 0, 0)
    return charged


def _coil_hot(device: Firmware, temperature_dc: int) -> bool:
    device.machine.unit.jump_to(temperature_dc, device.machine.now)
    device.machine.check_coil()
    return True


def _trips(cause: Cause) -> Effect:
    def trip(device: Firmware, _: int) -> bool:
        device.machine.trip(cause)
        return True

    return trip


def _falls_idle(device: Firmware, _: int) -> bool:
    armed = device.machine.armed
    if armed:
        device.machine.disarm(Cause.NONE, State.IDLE)
    return armed


def _panel_setting(device: Firmware, by_pct: int) -> bool:
    machine = device.machine
    return machine.armed and machine.set_mso(machine.mso + by_pct)


def _clock_jump(device: Firmware, by_ms: int) -> bool:
    device.machine.jump_clock(by_ms * MS)
    return True


def _counter_jump(device: Firmware, by: int) -> bool:
    device.machine.pulse_count = (device.machine.pulse_count + by) & 0xFFFF_FFFF
    return True


def _counter_rollover(device: Firmware, _: int) -> bool:
    device.machine.pulse_count = 0
    return True


MOMENTS: Final[dict[str, Effect]] = {
    "garbage": _garbage,
    "rx_garbage": _rx_garbage,
    "banner": lambda device, _: device.noise(BANNER),
    "disconnect": lambda device, for_ms: device.unplug(for_ms * MS),
    "spontaneous_pulse": _spontaneous_pulse,
    "coil_hot": _coil_hot,
    "disarms_itself": _trips(Cause.PANEL),
    "charger_fault": _trips(Cause.CHARGER),
    "falls_idle": _falls_idle,
    "panel_setting": _panel_setting,
    "clock_jump": _clock_jump,
    "counter_jump": _counter_jump,
    "counter_rollover": _counter_rollover,
    "reboot": lambda device, for_ms: device.reboot(for_ms * MS),
}


# -- for a time -----------------------------------------------------------------------------------


def begin(device: Firmware, kind: str) -> None:
    """What happens once when a state begins, beside what `settle` makes of it."""
    if kind == "coil_absent":
        device.machine.trip(Cause.COIL_ABSENT)
    elif kind == "door_open":
        device.machine.trip(Cause.PANEL)


def settle(device: Firmware) -> None:
    """Make the device what its settings and the states that are in force make of it."""
    machine, on = device.machine, device.faults.states()
    machine.unit.settle(on, machine.now)
    machine.clock_ppm = on.get("clock_drift_ppm", device.settings.drift_ppm)
    machine.door_open = "door_open" in on
    machine.ready_early = "ready_early" in on


# -- pulses ---------------------------------------------------------------------------------------


def fire_wrongly(machine: Machine, lease: Lease) -> None:
    """One pulse of a lease, as far as the faults let it."""
    strikes, now = machine.faults.strikes, machine.now
    if strikes("missing_pulse", now) is not None or strikes("no_fire", now) is not None:
        return
    machine.count_fired(lease)
    if strikes("phantom_pulse", now) is not None:
        machine.count_pulse()
        machine.tell_pulse(lease.lease_id, lease.place, 0, 0)
        return
    bias_pct = strikes("intensity_bias", now) or 0
    more = strikes("intensity_drift", now)
    machine.drift_permille = 0 if more is None else machine.drift_permille + more
    bias_pct += machine.drift_permille // 10
    hidden_pct = strikes("hidden_bias", now)
    machine.discharge(lease.kind, lease.lease_id, lease.place, bias_pct, hidden_pct)
    later_ms = strikes("extra_pulse", now)
    if later_ms is not None:
        lease_id, place = lease.lease_id, lease.place

        def again() -> None:
            machine.discharge("extra", lease_id, place, told=False)

        machine.agenda.add(now + later_ms * MS, again)


# -- commands -------------------------------------------------------------------------------------


def lacks(device: Firmware, code: int) -> bool:
    """Does this firmware not know the message?"""
    return device.faults.strikes("lacks_command", device.machine.now, code) is not None


def obey_wrongly(session: Session, item: Inbound) -> None:
    """Carry out one command and answer it, as far as the faults let it."""
    machine, sender = session.machine, session.sender
    strikes, now = machine.faults.strikes, machine.now
    result = None if item.spec.effect is Class.MAKE_SAFE else _instead(machine, item)
    if result is None:
        result = session.obey(item)
        done = result is Result.APPLIED and item.spec.effect is not Class.MAKE_SAFE
        if done and strikes("false_refusal", now) is not None:
            result = Result.FAULT_PRESENT
    if strikes("no_reply", now) is not None:
        return
    shift = 0 if strikes("wrong_reply", now) is None else 1
    of_sequence = max(0, item.sequence - shift)
    late_ms = strikes("reply_late", now)
    if late_ms is None:
        session.answer(item, result, of_sequence)
        return
    number, answer = sender.session, result

    def answer_late() -> None:
        if sender.session == number:
            session.answer(item, answer, of_sequence)

    machine.agenda.add(now + late_ms * MS, answer_late)


def _instead(machine: Machine, item: Inbound) -> Result | None:
    """What is answered instead of carrying it out."""
    strikes, now, kind = machine.faults.strikes, machine.now, item.spec.make
    if kind is Arm and strikes("refuse_arm", now) is not None:
        return Result.FAULT_PRESENT
    if kind in (Train, Fire) and strikes("busy", now) is not None:
        return Result.NOT_CHARGED
    code = strikes("refuse", now)
    if code is not None:
        return Result(code)
    return Result.APPLIED if strikes("false_ack", now) is not None else None
