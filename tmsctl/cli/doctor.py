"""`tmsctl doctor`: what stands between this place and a session, without touching the device."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from drivers.contract import DriverInfo, Maturity, StopClass
from tmsctl.cli.client import Client
from tmsctl.cli.errors import EXIT_FAULT, EXIT_UNREACHABLE, EXIT_USAGE, CliError

if TYPE_CHECKING:
    from drivers.registry import Row

Json = dict[str, Any]

CONFIG: Final = Path("/etc/tmsctl/tmsctl.toml")
MARKS: Final = {"ok": "✓ ok  ", "note": "- note", "warn": "! WARN", "wrong": "✗ NO  "}


class Finding(NamedTuple):
    """One thing that was looked at. Only what is wrong has an exit status."""

    about: str
    level: str  # a key of MARKS
    says: str
    next_step: str = ""
    exit_status: int = 0


class User(NamedTuple):
    """A program that has the port open."""

    pid: int
    name: str


class PortFacts(NamedTuple):
    """What the file system says of a port, without opening it."""

    path: str
    exists: bool
    is_device: bool
    may_open: bool
    group: str  # that owns it; empty: unknown
    users: tuple[User, ...]  # as far as /proc tells this person


# -- pure ------------------------------------------------------------------------------------------


def stop_class(info: DriverInfo) -> Finding:
    """What happens when the software fails, in plain words."""
    match info.stop_class:
        case StopClass.NATIVE_LEASE:
            return Finding(
                "stopping",
                "ok",
                "when the software fails, this device disarms by itself within "
                f"{(info.dead_man_us or 0) // 1000} ms",
            )
        case StopClass.KEEP_ALIVE:
            return Finding(
                "stopping",
                "warn",
                "when the software fails, this device disarms by itself only after about "
                f"{(info.dead_man_us or 0) / 1e6:g} s{_train_that_goes_on(info.lease_max_us)}",
                "Have the device's own stop button within reach.",
            )
        case StopClass.NONE:
            return Finding(
                "stopping",
                "warn",
                "this device cannot be stopped when the software fails: it stays armed, and "
                "carries on with what it was told last",
                "Have its own stop button, or a switch for its power, within reach.",
            )


def _train_that_goes_on(lease_max_us: int) -> str:
    if not lease_max_us:
        return ""
    return (
        f", and a train that has begun, of at most {lease_max_us / 1e6:g} s, may go on to its end"
    )


def maturity(info: DriverInfo) -> Finding:
    """How far the driver is proven, and on what."""
    if info.maturity is Maturity.VERIFIED:
        return Finding("driver", "ok", f"{info.name} is verified on {info.verified_on}")
    if info.maturity is Maturity.BENCH:
        says = f"{info.name} was tried on {info.verified_on}, on a bench only"
    else:
        says = f"{info.name} is EXPERIMENTAL: verified on no hardware, only on the emulator"
    return Finding("driver", "warn", says, "Not for use with a coil near a person.")


def options(driver: Row, given: Mapping[str, object]) -> list[Finding]:
    """What is wrong, missing or presumed in [device.options]. No value of a secret is told."""
    from drivers.registry import check

    table = driver.options
    try:
        values = check(driver, given)
    except ValueError as error:
        return [Finding("options", "wrong", str(error), "Mend [device.options].", EXIT_USAGE)]
    found = []
    for name, row in table.items():
        says = f"device.options.{name} is not given: {row.doc}"
        value = f"{name} = {'...' if row.pattern else row.allowed}"
        if values[name] is None and row.required:
            step = f"Without it the device is not connected; set {value}."
            found.append(Finding("options", "wrong", says, step, EXIT_USAGE))
        elif values[name] is None:
            found.append(Finding("options", "warn", says, f"If this device has it: {value}."))
    presumed = [
        f"{name} = {values[name]} ({row.doc})"
        for name, row in table.items()
        if name not in given and values[name] is not None
    ]
    if presumed:
        found.append(Finding("options", "note", f"presumed: {', '.join(presumed)}"))
    return found or [Finding("options", "ok", "all that the driver asks for is given")]


def port(facts: PortFacts, guard_pid: int | None) -> Finding:
    """Whether the guard can have the port, or has it."""
    if not facts.exists:
        return Finding(
            "port",
            "wrong",
            f"{facts.path} does not exist",
            "Is the device plugged in and on? Mend [device] url.",
            EXIT_UNREACHABLE,
        )
    if not facts.is_device:
        return Finding(
            "port",
            "wrong",
            f"{facts.path} is not a serial port",
            "Mend [device] url.",
            EXIT_UNREACHABLE,
        )
    strangers = [user for user in facts.users if not _is_guard(user, guard_pid)]
    if strangers:
        names = ", ".join(f"{user.name} (process {user.pid})" for user in strangers)
        return Finding(
            "port",
            "wrong",
            f"{facts.path} is in use by {names}",
            "End that program; only tms-guard may have the port.",
            EXIT_UNREACHABLE,
        )
    if facts.users:
        return Finding("port", "ok", f"{facts.path} is in use by tms-guard, as it should be")
    if not facts.may_open:
        group = f"; it belongs to the group {facts.group}" if facts.group else ""
        return Finding(
            "port",
            "wrong",
            f"you may not open {facts.path}{group}",
            "If tms-guard runs as you: join that group, log in again.",
            EXIT_UNREACHABLE,
        )
    return Finding(
        "port", "ok", f"{facts.path} is there, may be opened, and is free as far as seen"
    )


def _is_guard(user: User, guard_pid: int | None) -> bool:
    return user.pid == guard_pid or (guard_pid is None and user.name.startswith("tms-guard"))


RTS: Final = Finding(
    "trigger",
    "warn",
    "opening the port may raise RTS for a moment, whatever tmsctl does: with a quick-fire cable, "
    "which leads RTS to the trigger input, an armed device would fire",
    "Unplug such a cable.",
)


def link(status: Json) -> list[Finding]:
    """What the guard says, as tmsd tells it."""
    guard, device = status["guard"], status["device"]
    if guard["state"] == "absent":
        return [
            Finding(
                "guard",
                "wrong",
                "tmsd runs, but no guard answers it",
                "See the log of tms-guard.",
                EXIT_UNREACHABLE,
            )
        ]
    found = [Finding("guard", "ok", f"answers; it is {guard['state'].upper()}")]
    if guard["state"] == "safe":
        causes = "; ".join(f"{cause['code']}: {cause['detail']}" for cause in guard["causes"])
        found = [
            Finding(
                "guard",
                "wrong",
                f"is in SAFE ({causes})",
                "Remove the cause, then tmsctl acknowledge.",
                EXIT_FAULT,
            )
        ]
    if not device["connected"]:
        found.append(
            Finding(
                "device",
                "wrong",
                f"does not answer: {device['link'] or 'no cause'}",
                "Mend what it says; the guard tries again by itself.",
                EXIT_UNREACHABLE,
            )
        )
    else:
        name = f"{device['model']} {device['serial']}".strip()
        found.append(Finding("device", "ok", f"{name} answers; it is {device['state']}"))
    return found


def exit_status(findings: Sequence[Finding]) -> int:
    """The bits of all that is wrong."""
    status = 0
    for finding in findings:
        status |= finding.exit_status
    return status


# -- looking ---------------------------------------------------------------------------------------


def run(runtime: Path, config: Path | None, as_json: bool) -> int:
    """Look at everything that needs no device; ask a tmsd that runs. Opens no port, but a USB
    device that nobody uses, to ask who it is."""
    findings = list(_findings(runtime, config))
    status = exit_status(findings)
    if as_json:
        from tmsctl.cli.show import print_json

        print_json({"findings": [finding._asdict() for finding in findings], "exit": status})
        return status
    for finding in findings:
        print(f"{MARKS[finding.level]}  {finding.about:<9} {finding.says}.")
        if finding.next_step:
            print(f"{'':19}{finding.next_step}")
    return status


def _findings(runtime: Path, config: Path | None) -> Iterator[Finding]:
    told, silent = _asked(runtime)
    path = config or (Path(told["info"]["config"]) if told else CONFIG)
    yield from _place(path, told["info"]["guard_pid"] if told else None)
    if told:
        yield from link(told["status"])
    else:
        yield Finding("tmsd", "note", f"was not asked: {silent}", "Start it to see the rest.")


def _asked(runtime: Path) -> tuple[Json, str]:
    """What a tmsd that runs says; empty, and why, when none does."""
    try:
        with Client(runtime) as client:
            return {"info": client.call("system.info"), "status": client.call("status.get")}, ""
    except CliError as error:
        return {}, error.sentence.rstrip(".")


def _place(path: Path, guard_pid: int | None) -> Iterator[Finding]:
    from drivers import registry
    from tmsctl.service.config import ConfigError, load_config

    try:
        device = load_config(path).device
    except ConfigError as error:
        for sentence in error.sentences:
            step = "Mend it." if path.exists() else "Name the configuration with --config FILE."
            yield Finding("config", "wrong", sentence.rstrip("."), step, EXIT_USAGE)
        return
    yield Finding("config", "ok", f"{path} can be used")
    row = _row(device.driver)
    if isinstance(row, Finding):
        yield row
        return
    yield maturity(row.info)
    yield stop_class(row.info)
    yield from options(row, device.options)
    try:
        registry.check_url(row, device.url)
    except ValueError as error:
        yield Finding("port", "wrong", str(error), "Mend [device] url.", EXIT_USAGE)
        return
    if row.on_usb and device.url.startswith(("usb:", "usbip:")):
        from tmsctl.cli.doctor_usb import findings

        yield from findings(device.url, guard_pid, registry.usb_identity)
        return
    if device.url.startswith("socket://"):
        yield Finding("port", "note", f"{device.url} is not tried: the guard alone opens it")
        return
    yield port(look_at(port_path(device.url)), guard_pid)
    if row.trigger_on_rts:
        yield RTS


def _row(driver: str) -> Row | Finding:
    from drivers import registry

    try:
        return registry.find(driver)
    except ValueError as error:
        return Finding("driver", "wrong", str(error), "Mend [device] driver.", EXIT_USAGE)


def port_path(url: str, by_id: Path = Path("/dev/serial/by-id")) -> str:
    """The path of a port; of a USB adapter as udev has named it by its serial number."""
    if not url.startswith("usb-serial:"):
        return url
    wanted = url.removeprefix("usb-serial:")
    return next((str(link) for link in sorted(by_id.glob(f"*_{wanted}-*"))), url)


def look_at(path: str, proc: Path = Path("/proc")) -> PortFacts:
    """Stat and /proc only: the port is not opened."""
    real = Path(path).resolve()
    group = ""
    with suppress(OSError, KeyError):
        group = real.group()
    return PortFacts(
        path=path,
        exists=real.exists(),
        is_device=real.is_char_device(),
        may_open=os.access(real, os.R_OK | os.W_OK),
        group=group,
        users=tuple(_users(real, proc)),
    )


def _users(real: Path, proc: Path) -> Iterator[User]:
    for process in sorted(proc.glob("[0-9]*")):
        with suppress(OSError):
            if any(_points_to(fd, real) for fd in (process / "fd").iterdir()):
                name = _name_of(process)
                if name != "tmssim":  # the other end of a pseudo-terminal holds it open too
                    yield User(int(process.name), name)


def _points_to(fd: Path, real: Path) -> bool:
    try:
        return str(fd.readlink()) == str(real)
    except OSError:
        return False  # it was closed meanwhile


def _name_of(process: Path) -> str:
    """The program: of a Python script, the script's own name."""
    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    names = [Path(word).name for word in words[:3] if word and not word.startswith("-")]
    script = [name for name in names[1:] if names[0].startswith("python")]
    return (script or names or ["unknown"])[0]
