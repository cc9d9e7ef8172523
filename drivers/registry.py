"""The drivers that exist: a tuple somebody reviewed, not whatever lies in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from drivers.contract import DriverInfo, Envelope, Maturity, Stimulator, Transport
from drivers.options import Options, OptionTable, parse_options
from drivers.tmslink.driver import INFO as TMSLINK
from drivers.tmslink.driver import TmslinkStimulator
from drivers.transport.serial_port import SerialPort

Wrap = Callable[[Transport], Transport]


class Place(NamedTuple):
    """Where a device is, and what this installation says of it."""

    url: str
    site: Envelope
    life: int  # number of this life of the driver, for devices that count no power-ups
    wrap: Wrap  # goes round each transport that is opened


class Row(NamedTuple):
    """One driver, and what `[device.options]` may hold for it."""

    info: DriverInfo
    make: Callable[[Place, Options], Stimulator]
    options: OptionTable


def _tmslink(place: Place, _options: Options) -> Stimulator:
    return TmslinkStimulator(lambda: place.wrap(SerialPort(place.url, 921_600)), place.site)


DRIVERS: Final[tuple[Row, ...]] = (Row(TMSLINK, _tmslink, {}),)


def find(name: str) -> Row:
    """The driver of that name. ValueError when there is no such driver that may be started."""
    for row in DRIVERS:
        if row.info.name == name:
            if row.info.maturity is Maturity.BROKEN:
                raise ValueError(f"driver {name!r} is marked broken and cannot be started")
            return row
    known = ", ".join(row.info.name for row in DRIVERS)
    raise ValueError(f"there is no driver {name!r}; known drivers are {known}")


def make(row: Row, place: Place, options: Mapping[str, object]) -> Stimulator:
    """A driver on its port. ValueError names an option that is wrong."""
    return row.make(place, parse_options(row.options, options))
