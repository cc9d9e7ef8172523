"""The program tmssim."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from io import RawIOBase
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from sim_device import magpro_firmware
from sim_device.control import USAGE, Control, ctl
from sim_device.device import Device, DeviceClock, Log
from sim_device.duomag_firmware import Duomag, duomag_xt
from sim_device.duomag_settings import DuomagSettings
from sim_device.fault_kinds import USB_KINDS
from sim_device.fault_rules import faults_help, load_rules
from sim_device.faults import Rule
from sim_device.magpro_settings import R30Settings, X100Settings
from sim_device.magstim_models import make_200, make_bistim, make_rapid
from sim_device.magstim_panel import MAGSTIM_KINDS
from sim_device.magstim_settings import BistimSettings, Magstim200Settings, RapidSettings
from sim_device.ports import Port, PtyPort, TcpPort
from sim_device.realtime import Ending, boot_us, make_log, run
from sim_device.rfc2217_port import Rfc2217Port
from sim_device.settings import Physics, Settings, SetupError, parse_settings, settings_help
from sim_device.tmslink_firmware import Firmware
from sim_device.usb_ftdi import Format, make_ftdi
from sim_device.usb_function import UsbFunction
from sim_device.usb_tmslink import make_tmslink
from sim_device.usbip_attach import USAGE as ATTACH_USAGE
from sim_device.usbip_attach import attach, usb_lines
from sim_device.usbip_port import UsbipPort

Maker = Callable[[Any, random.Random, Log, Iterable[Rule]], Device]


class Model(NamedTuple):
    """One emulated unit."""

    make: Maker
    settings: type[Physics]  # what the first argument of `make` is
    kinds: frozenset[str]  # faults that can happen to it
    doc: str
    line: Format = Format(9600)  # what it speaks behind a serial adapter


MODELS: Final[dict[str, Model]] = {
    "tmslink": Model(
        Firmware,
        Settings,
        Firmware.kinds,
        "speaks tmslink, the project's own open protocol",
        Format(921_600),
    ),
    "magstim-200": Model(
        make_200, Magstim200Settings, MAGSTIM_KINDS, "is a Magstim 200²: single pulses"
    ),
    "magstim-bistim": Model(
        make_bistim,
        BistimSettings,
        MAGSTIM_KINDS | {"panel_gap"},
        "is a Magstim BiStim²: pairs of pulses",
    ),
    "magstim-rapid": Model(
        make_rapid, RapidSettings, MAGSTIM_KINDS, "is a Magstim Rapid² or Super Rapid²: trains"
    ),
    "magpro-r30": Model(
        magpro_firmware.make,
        R30Settings,
        magpro_firmware.KINDS,
        "is a MagVenture MagPro R30: 30 Hz",
        Format(38_400),
    ),
    "magpro-x100": Model(
        magpro_firmware.make,
        X100Settings,
        magpro_firmware.KINDS,
        "is a MagVenture MagPro X100: 100 Hz, bursts",
        Format(38_400),
    ),
    "duomag-xt": Model(
        duomag_xt, DuomagSettings, Duomag.kinds, "is a Deymed DuoMAG XT", Format(1_000_000)
    ),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SetupError(f"{message}; see tmssim --help.")


def _about(name: str | None) -> str:
    """The end of --help: the models, or one of them."""
    if name is None:
        models = "\n".join(f"  {name:<20} {model.doc}" for name, model in MODELS.items())
        return (
            f"models (tmssim MODEL --help for settings and faults):\n{models}\n\n"
            f"at run time, with --control:\n  {USAGE}\n\n"
            f"to make --usb or --ftdi a device of this computer:\n  {ATTACH_USAGE}"
        )
    model = MODELS[name]
    return (
        f"{name} {model.doc}.\n\n"
        f"settings (name, default, unit, range):\n{settings_help(model.settings)}\n\n"
        "faults (kinds for --faults; triggers at_s, at_pulse, at_command, at_frame, "
        f"probability):\n{faults_help(model.kinds)}\n\n"
        f"and with --usb or --ftdi:\n{faults_help(USB_KINDS)}"
    )


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tmssim",
        description="A software stimulator: the bytes, the timing and the physics, without a coil.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_about(next((word for word in words if word in MODELS), None)),
    )
    parser.add_argument("model", metavar="MODEL", help="see models below")
    line = parser.add_mutually_exclusive_group()
    line.add_argument("--pty", metavar="PATH", type=Path, help="link PATH to a new pseudo-terminal")
    line.add_argument("--tcp", metavar="HOST:PORT", help="listen on the loopback; port 0: any")
    line.add_argument(
        "--rfc2217",
        metavar="HOST:PORT",
        help="the same with modem lines, for rfc2217://HOST:PORT; RTS leads to the trigger input",
    )
    line.add_argument(
        "--usb", metavar="ADDRESS", help="tmslink as a USB device: unix:PATH or tcp:HOST:PORT"
    )
    line.add_argument(
        "--ftdi",
        metavar="ADDRESS",
        help="a virtual USB serial adapter with modem lines; ADDRESS as for --usb",
    )
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="extend",
        nargs="+",
        default=[],
        help="settings of the model; several words, or several times",
    )
    parser.add_argument("--faults", metavar="FILE", type=Path, help="TOML file of faults")
    parser.add_argument(
        "--control", metavar="PATH", type=Path, help="socket for faults at run time, see below"
    )
    parser.add_argument("--seed", metavar="N", default="0", help="of every random choice")
    parser.add_argument("--log", metavar="FILE", type=Path, help="append the ground truth to FILE")
    return parser


def _open_log(path: Path | None) -> RawIOBase | None:
    if path is None:
        return None
    try:
        return path.open("ab", buffering=0)
    except OSError as error:
        raise SetupError(f"--log {path}: cannot be written: {error.strerror}.") from None


def _function(
    options: argparse.Namespace, device: Device, settings: Physics, edge: Callable[[int], None]
) -> UsbFunction | None:
    """The device behind a USB connector, if it is to have one."""
    if options.ftdi is not None:
        serial = str(getattr(settings, "serial", "SIM00001"))
        line = MODELS[options.model].line
        return make_ftdi(device, edge, line, serial, settings.clock_us)
    if options.usb is None:
        return None
    if not isinstance(device, Firmware):
        raise SetupError(f"--usb: {options.model} has no USB of its own; use --ftdi.")
    return make_tmslink(device, settings.clock_us)


def _port(options: argparse.Namespace, function: UsbFunction | None) -> Port:
    if function is not None:
        option = "--usb" if options.ftdi is None else "--ftdi"
        return UsbipPort(option, options.usb or options.ftdi, function)
    if options.rfc2217 is not None:
        return Rfc2217Port(options.rfc2217)
    return TcpPort(options.tcp) if options.tcp is not None else PtyPort(options.pty)


def _trigger_input(device: Device, log: Log) -> Callable[[int], None]:
    """What a rise of RTS does: what a quick-fire cable would."""
    reaches = "external_trigger" in device.kinds

    def edge(now_us: int) -> None:
        log({"t_us": now_us, "event": "edge", "line": "RTS", "reaches": reaches})
        if reaches:
            device.faults.add_from_now(Rule("external_trigger"), now_us)

    return edge


def _start(arguments: Sequence[str]) -> None:
    options = _parser(arguments).parse_args(arguments)
    if options.model not in MODELS:
        raise SetupError(f"no model {options.model!r}; there are {', '.join(MODELS)}.")
    model = MODELS[options.model]
    settings = parse_settings(options.set, model.settings)
    usb = options.usb is not None or options.ftdi is not None
    kinds = model.kinds | USB_KINDS.keys() if usb else model.kinds
    rules = load_rules(options.faults, kinds) if options.faults is not None else []
    try:
        rng = random.Random(int(options.seed))  # noqa: S311 - a simulation, no secret
    except ValueError:
        raise SetupError(f"--seed {options.seed}: is not a whole number.") from None
    ending = Ending()
    file = _open_log(options.log)
    log = make_log(file)
    plain = model.make(settings, rng, log, rules)
    edge = _trigger_input(plain, log)
    function = _function(options, plain, settings, edge)
    port = _port(options, function)
    try:
        control = Control(options.control) if options.control is not None else None
    except SetupError:
        port.close()
        raise
    started_us = boot_us()
    log({"t_us": settings.clock_us, "event": "clock", "boot_us": started_us})
    device = plain if function is None else function
    clock = DeviceClock(started_us, settings.clock_us, settings.drift_ppm)
    try:
        said = [f"ready {port.name}"] if function is None else usb_lines(port.name)
        if options.usb is not None:
            said.append(f'for tmsctl: url = "usbip:{port.name.removeprefix("tcp:")}"')
        print("\n".join(said), flush=True)
        ended_us = run(device, port, clock, ending, control, edge)
        log({"t_us": ended_us, "event": "faults", "counts": dict(device.faults.counts)})
    finally:
        port.close()
        if control is not None:
            control.close()
        if file is not None:
            file.close()


def main() -> None:
    """Console script: exit status 0 after SIGTERM or SIGINT, 1 with one sentence on stderr."""
    try:
        if sys.argv[1:2] == ["ctl"]:
            print("".join(f"{line}\n" for line in ctl(sys.argv[2:])), end="")
        elif sys.argv[1:2] == ["attach"]:
            print("\n".join(attach(sys.argv[2:])))
        else:
            _start(sys.argv[1:])
    except SetupError as error:
        sys.exit(f"tmssim: {error}")
