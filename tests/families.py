"""Every family of stimulators for the tests: its emulated device, its line and its driver."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, NamedTuple

from drivers.contract import DriverInfo, Envelope, Stimulator, Transport
from drivers.duomag.driver import INFO as DUOMAG_INFO
from drivers.duomag.driver import DuomagStimulator
from drivers.magpro.driver import INFO as MAGPRO
from drivers.magpro.driver import MagproStimulator
from drivers.magstim.driver import INFO as MAGSTIM
from drivers.magstim.driver import MagstimStimulator
from drivers.magstim.paired import Paired
from drivers.magstim.rapid import RAPID_OPTIONS, Rapid
from drivers.options import parse_options
from drivers.tmslink.driver import INFO as TMSLINK
from drivers.tmslink.driver import TmslinkStimulator
from firmware_protocol.magstim.messages import Model
from sim_device import magpro_firmware
from sim_device.device import Device, Log
from sim_device.duomag_firmware import duomag_xt
from sim_device.duomag_settings import DuomagSettings
from sim_device.faults import Rule
from sim_device.magpro_settings import R30Settings, X100Settings
from sim_device.magstim_models import make_200, make_bistim, make_rapid
from sim_device.magstim_settings import BistimSettings, Magstim200Settings, RapidSettings
from sim_device.settings import Physics, Settings
from sim_device.tmslink_firmware import Firmware

Open = Callable[[], Transport]
LIFE: Final = 1_000
ADC_AT_0C, ADC_PER_100C = 20, 200  # of the emulated DuoMAG
UNLOCK: Final = "0123-456789ab-cd"  # made up


class Family(NamedTuple):
    """One driver, and the emulated device that it is tried on."""

    info: DriverInfo
    driver: Callable[[Open, Envelope], Stimulator]
    device: Callable[[Any, random.Random, Log, Iterable[Rule]], Device]
    settings: Callable[..., Physics]
    per_byte_us: int


def _magstim(name: str, unit: Callable[[], Any], device: Any, settings: Any) -> Family:
    info = MAGSTIM[name]
    return Family(
        info,
        lambda port, site: MagstimStimulator(info, port, site, LIFE, unit()),
        device,
        settings,
        1_042,  # 9600 baud
    )


def rapid(unlock: str | None = UNLOCK, supply: int = 240, **options: int) -> Rapid:
    given: dict[str, object] = {"supply": supply, **options}
    if unlock is not None:
        given["unlock"] = unlock
    return Rapid(parse_options(RAPID_OPTIONS, given))


TMSLINK_FAMILY: Final = Family(TMSLINK, TmslinkStimulator, Firmware, Settings, 11)
M200: Final = _magstim("magstim-200", lambda: Paired(Model.M200), make_200, Magstim200Settings)
BISTIM: Final = _magstim(
    "magstim-bistim", lambda: Paired(Model.BISTIM), make_bistim, BistimSettings
)
RAPID: Final = _magstim("magstim-rapid", rapid, make_rapid, RapidSettings)
RAPID_7: Final = _magstim("magstim-rapid", lambda: rapid(None), make_rapid, RapidSettings)
"""The driver as it is told of a unit with firmware before 9, which has no code."""


def _magpro(name: str, settings: Any) -> Family:
    info = MAGPRO[name]
    return Family(
        info,
        lambda port, site: MagproStimulator(info, port, site, LIFE),
        magpro_firmware.make,
        settings,
        260,  # 38400 baud
    )


R30: Final = _magpro("magpro-r30", R30Settings)
X100: Final = _magpro("magpro-x100", X100Settings)
X100_OPTION: Final = _magpro("magpro-x100", partial(X100Settings, option="option"))
"""The one that has pairs of pulses as well."""


DUOMAG: Final = Family(
    DUOMAG_INFO,
    lambda port, site: DuomagStimulator(
        port, site, LIFE, {"adc_at_0c": ADC_AT_0C, "adc_per_100c": ADC_PER_100C}
    ),
    duomag_xt,
    DuomagSettings,
    11,  # 1000000 baud
)

FAMILIES: Final = (TMSLINK_FAMILY, M200, BISTIM, RAPID, R30, X100, DUOMAG)
