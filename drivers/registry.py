"""The drivers that exist: a tuple somebody reviewed, not whatever lies in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from drivers.contract import DriverInfo, Envelope, Maturity, Stimulator, Transport
from drivers.duomag.driver import INFO as DUOMAG
from drivers.duomag.driver import OPTIONS as DUOMAG_OPTIONS
from drivers.duomag.driver import DuomagStimulator
from drivers.magpro.driver import BAUD as MAGPRO_BAUD
from drivers.magpro.driver import INFO as MAGPRO
from drivers.magpro.driver import MagproStimulator
from drivers.magstim.driver import INFO as MAGSTIM
from drivers.magstim.driver import MagstimStimulator
from drivers.magstim.paired import Paired
from drivers.magstim.rapid import RAPID_OPTIONS, Rapid
from drivers.magstim.units import Unit
from drivers.options import Options, OptionTable, parse_options
from drivers.tmslink.driver import INFO as TMSLINK
from drivers.tmslink.driver import TmslinkStimulator
from drivers.transport.serial_port import SerialPort
from drivers.transport.url import TCP, is_usb, tcp_place, usb_place
from firmware_protocol.duomag import messages as duomag
from firmware_protocol.magstim import messages as magstim_wire

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
    trigger_on_rts: bool = True  # may a cable lead RTS to a trigger input of such a device?
    on_usb: bool = False  # may its url be usb: or usbip:?


def _tmslink(place: Place, _options: Options) -> Stimulator:
    if is_usb(place.url):
        # Whoever uses a serial line pays neither the memory nor the threads of USB.
        from drivers.transport.usb_port import Opener  # noqa: PLC0415

        opener = Opener(place.url)
        return TmslinkStimulator(
            lambda: place.wrap(opener()), place.site, usb_serial=lambda: opener.serial
        )
    return TmslinkStimulator(lambda: place.wrap(SerialPort(place.url, 921_600)), place.site)


def _magstim(name: str, unit: Callable[[Options], Unit]) -> Row:
    info = MAGSTIM[name]

    def make(place: Place, options: Options) -> Stimulator:
        def port() -> Transport:
            return place.wrap(SerialPort(place.url, magstim_wire.BAUD, lines_low=True))

        return MagstimStimulator(info, port, place.site, place.life, unit(options))

    return Row(info, make, RAPID_OPTIONS if name == "magstim-rapid" else {})


def _magpro(name: str) -> Row:
    info = MAGPRO[name]

    def make(place: Place, _options: Options) -> Stimulator:
        def port() -> Transport:
            return place.wrap(SerialPort(place.url, MAGPRO_BAUD, lines_low=True))

        return MagproStimulator(info, port, place.site, place.life)

    return Row(info, make, {})


def _duomag(place: Place, options: Options) -> Stimulator:
    def port() -> Transport:
        return place.wrap(SerialPort(place.url, duomag.BAUD, duomag.STOP_BITS, lines_low=True))

    return DuomagStimulator(port, place.site, place.life, options)


DRIVERS: Final[tuple[Row, ...]] = (
    Row(TMSLINK, _tmslink, {}, trigger_on_rts=False, on_usb=True),
    _magstim("magstim-200", lambda _: Paired(magstim_wire.Model.M200)),
    _magstim("magstim-bistim", lambda _: Paired(magstim_wire.Model.BISTIM)),
    _magstim("magstim-rapid", Rapid),
    _magpro("magpro-r30"),
    _magpro("magpro-x100"),
    Row(DUOMAG, _duomag, DUOMAG_OPTIONS),
)


def find(name: str) -> Row:
    """The driver of that name. ValueError when there is no such driver that may be started."""
    for row in DRIVERS:
        if row.info.name == name:
            if row.info.maturity is Maturity.BROKEN:
                raise ValueError(f"driver {name!r} is marked broken and cannot be started")
            return row
    known = ", ".join(row.info.name for row in DRIVERS)
    raise ValueError(f"there is no driver {name!r}; known drivers are {known}")


def check(row: Row, options: Mapping[str, object]) -> Options:
    """Every option, given or presumed. ValueError names one that is wrong. No port is opened."""
    values = parse_options(row.options, options)
    row.make(Place("", Envelope(0, 0, 0, 0, 0, (), 0), 0, lambda transport: transport), values)
    return values


def check_url(row: Row, url: str) -> None:
    """ValueError when the driver cannot use it, whatever is plugged in."""
    if url.startswith(TCP):
        tcp_place(url)
    if not is_usb(url):
        return
    if not row.on_usb:
        raise ValueError(
            f"device.url {url!r} is a USB device, and {row.info.name} speaks over serial lines; "
            "allowed are a device path, usb-serial:SERIALNO and socket://ADDRESS:PORT"
        )
    usb_place(url)


def usb_identity(url: str) -> str:
    """Who a USB device says it is, in words, without opening a session. PortError says why not."""
    from drivers.tmslink import usb_identity as tmslink  # noqa: PLC0415 - as in `_tmslink`

    return tmslink.usb_identity(url)


def make(row: Row, place: Place, options: Mapping[str, object]) -> Stimulator:
    """A driver on its port. ValueError names an option or a url that is wrong."""
    check_url(row, place.url)
    return row.make(place, parse_options(row.options, options))
