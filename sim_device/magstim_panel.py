"""What people and faults do to an emulated Magstim unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from sim_device.magstim_part import Phase
from sim_device.serial_unit import KINDS, Effect

if TYPE_CHECKING:
    from sim_device.magstim_core import Core

MAGSTIM_KINDS: Final = KINDS | {
    "panel_setting",
    "disarms_itself",
    "falls_idle",
    "charger_fault",
    "spontaneous_pulse",
    "external_trigger",
}
"""Faults that can happen to a unit of this family."""


def effects_on(core: Core) -> Mapping[str, Effect]:
    """What each fault that is the family's own does."""
    return {
        "panel_setting": lambda by_pct: _knob(core, by_pct),
        "disarms_itself": lambda _: _stop_button(core),
        "falls_idle": lambda _: _falls_idle(core),
        "charger_fault": lambda _: _charger_fault(core),
        "spontaneous_pulse": lambda _: _spontaneous(core),
        "external_trigger": lambda _: _edge(core),
    }


def _knob(core: Core, by_pct: int) -> bool:
    if core.part.changeable():
        core.change_power(min(max(core.power + by_pct, 0), core.part.power_max()))
    return True


def _stop_button(core: Core) -> bool:
    core.disarm("panel", at_once=True)
    return True


def _falls_idle(core: Core) -> bool:
    armed = core.armed
    core.disarm("none")
    return armed


def _charger_fault(core: Core) -> bool:
    core.error = True
    core.note("fault", cause="charger")
    core.disarm("charger", at_once=True)
    return True


def _spontaneous(core: Core) -> bool:
    charged = core.bench.unit.capacitor.at(core.bench.now) >= 1  # an empty one gives no pulse
    if charged:
        core.pulse("spontaneous", power=core.power)
    return charged


def _edge(core: Core) -> bool:
    """At the trigger input: what is not ready then is not fired later."""
    if core.phase is Phase.READY and core.part.may_fire():
        core.trigger("trigger", 0)
    return True
