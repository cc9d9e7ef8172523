"""The part of `tmsctl doctor` that looks at USB: is the device there, may it be used, who is it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from drivers.causes import code_of, with_step
from tmsctl.cli.doctor import Finding, PortFacts, look_at, port
from tmsctl.cli.errors import EXIT_UNREACHABLE

BUS: Final = Path("/sys/bus/usb/devices")
CLASS: Final = "ff5401"  # of the interface, docs/tmslink.md
RULES: Final = "systemd/70-tmsctl.rules"
UDEVD: Final = Path("/run/udev/control")  # its socket: there while it runs


def findings(
    url: str,
    guard_pid: int | None,
    ask: Callable[[str], str],
    bus: Path = BUS,
    look: Callable[[str], PortFacts] = look_at,
    udevd: Path = UDEVD,
) -> Iterator[Finding]:
    """`ask` opens the device for one request that only reads; never while anybody uses it."""
    if url.startswith("usbip:"):
        if guard_pid is not None:
            yield Finding("port", "note", f"{url} is not tried: the guard alone opens it")
            return
    else:
        seen = usb_node(url.removeprefix("usb:"), bus)
        if seen is None:
            yield Finding(
                "port",
                "wrong",
                f"no tmslink USB device {url.removeprefix('usb:')}".rstrip() + " is plugged in",
                "Is it plugged in and on? Mend [device] url.",
                EXIT_UNREACHABLE,
            )
            return
        facts = look(seen)
        found = port(facts, guard_pid)
        if not facts.may_open and not facts.users:
            cure = f"Install {RULES} in /etc/udev/rules.d, plug it in again."
            if not udevd.exists():
                cure = f"udevd does not run here, so no rule is applied: start it. {cure}"
            found = found._replace(next_step=cure)
        yield found
        if found.level != "ok" or facts.users:
            return
    yield _who(url, ask)


def _who(url: str, ask: Callable[[str], str]) -> Finding:
    try:
        return Finding("device", "ok", f"{url} says that it is {ask(url)}")
    except OSError as error:
        level = "note" if code_of(str(error)) == "port-busy" else "wrong"
        status = EXIT_UNREACHABLE if level == "wrong" else 0
        return Finding("device", level, with_step(str(error)), exit_status=status)


def usb_node(serial: str, bus: Path = BUS) -> str | None:
    """The file of a device by its serial number, or of the only one there is; from sysfs alone."""
    found = []
    for device in sorted(bus.glob("*")):
        kinds = {_class_of(interface) for interface in device.glob(f"{device.name}:*")}
        if CLASS in kinds and serial in ("", _text(device / "serial")):
            number = [int(_text(device / name) or 0) for name in ("busnum", "devnum")]
            found.append("/dev/bus/usb/{:03}/{:03}".format(*number))
    return found[0] if len(found) == 1 else None


def _class_of(interface: Path) -> str:
    names = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
    return "".join(_text(interface / name) for name in names)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
