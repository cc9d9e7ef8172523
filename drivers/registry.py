"""The drivers that exist: a tuple somebody reviewed, not whatever lies in a folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from drivers.contract import DriverInfo, Envelope, Maturity, Stimulator, Transport
from drivers.tmslink.driver import INFO, TmslinkStimulator
from drivers.transport.serial_port import SerialPort

BAUD: Final = 921_600
"""Line speed that tmslink recommends; meaningless on USB and TCP."""

Wrap = Callable[[Transport], Transport]
Make = Callable[[str, Envelope, Wrap], Stimulator]


def _tmslink(url: str, site: Envelope, wrap: Wrap) -> Stimulator:
    return TmslinkStimulator(lambda: wrap(SerialPort(url, BAUD)), site)


DRIVERS: Final[tuple[tuple[DriverInfo, Make], ...]] = ((INFO, _tmslink),)


def make(name: str, url: str, site: Envelope, wrap: Wrap) -> Stimulator:
    """The driver of that name on that port; `wrap` goes round each transport that it opens.

    ValueError when there is no such driver that may be started.
    """
    for info, factory in DRIVERS:
        if info.name == name:
            if info.maturity is Maturity.BROKEN:
                raise ValueError(f"driver {name!r} is marked broken and cannot be started")
            return factory(url, site, wrap)
    known = ", ".join(info.name for info, _ in DRIVERS)
    raise ValueError(f"there is no driver {name!r}; known drivers are {known}")
