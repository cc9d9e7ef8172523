"""The emulated Magstim units as devices."""

from __future__ import annotations

import random
from collections.abc import Iterable

from sim_device.device import Log
from sim_device.faults import Rule
from sim_device.magstim_200 import magstim_200
from sim_device.magstim_bistim import magstim_bistim
from sim_device.magstim_rapid import magstim_rapid
from sim_device.magstim_settings import BistimSettings, Magstim200Settings, RapidSettings
from sim_device.serial_unit import SerialUnit
from sim_device.wire_faults import Writes


def make_200(
    settings: Magstim200Settings, rng: random.Random, log: Log, rules: Iterable[Rule]
) -> SerialUnit:
    return SerialUnit(
        settings, rng, log, rules, lambda bench: magstim_200(bench, settings), Writes()
    )


def make_bistim(
    settings: BistimSettings, rng: random.Random, log: Log, rules: Iterable[Rule]
) -> SerialUnit:
    return SerialUnit(
        settings, rng, log, rules, lambda bench: magstim_bistim(bench, settings), Writes()
    )


def make_rapid(
    settings: RapidSettings, rng: random.Random, log: Log, rules: Iterable[Rule]
) -> SerialUnit:
    return SerialUnit(
        settings, rng, log, rules, lambda bench: magstim_rapid(bench, settings), Writes()
    )
