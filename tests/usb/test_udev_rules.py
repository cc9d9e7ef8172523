"""systemd/70-tmsctl.rules as udev itself evaluates it, for devices that umockdev plays.

`udevadm test` really makes links and files of a database: so it runs with a /dev and a /run of its
own, which only root can have.
"""

from __future__ import annotations

import grp
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.usb import umock
from tests.usb.umock import Host
from tests.usb.umock_host_names import ADAPTER_TTY, DEVICE

RULES: Final = umock.ROOT / "systemd" / "70-tmsctl.rules"
SERIAL: Final = "TR000007"
SCRIPT: Final = """\
mount -t tmpfs tmpfs /run && mkdir -p /run/udev/rules.d /run/dev && cp "$1" /run/udev/rules.d/
mount --rbind /dev /run/dev && mount -t tmpfs tmpfs /dev
cp -a /run/dev/null /run/dev/zero /run/dev/urandom /run/dev/random /dev/
exec udevadm test --action="$2" "$3" 2>&1
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    tools = {"udevadm": "udev", "unshare": "util-linux"}
    packages = [package for tool, package in tools.items() if shutil.which(tool) is None]
    umock.require(*umock.missing_packages(), *packages)
    if os.geteuid() != 0:
        pytest.skip("only root can give udevadm a /dev of its own")
    with tempfile.TemporaryDirectory(prefix="tms") as folder, umock.host(Path(folder)) as made:
        made.tell("plug", SERIAL)
        made.tell("adapter", "FT000001")
        yield made


def evaluated(running: Host, device: str, action: str = "add", rules: Path = RULES) -> str:
    """All that udevadm says."""
    done = running.run("unshare", "--mount", "/bin/sh", "-c", SCRIPT, "sh", rules, action, device)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dialout() -> str:
    return f"GROUP {grp.getgrnam('dialout').gr_gid}"


def properties(said: str) -> dict[str, str]:
    """The properties that the device has in the end."""
    return dict(line.split("=", 1) for line in said.splitlines() if re.match(r"[A-Z_0-9]+=", line))


def remarks(said: str) -> list[str]:
    """What udev says of lines of our file, when it reads them and when it carries them out."""
    return re.findall(rf"^(?:[^/\s]+: )?/\S*{RULES.name}:\d+:? (.+)$", said, re.MULTILINE)


def outcome(said: str) -> set[str]:
    """What our lines have done."""
    return {line for line in remarks(said) if line.startswith(("GROUP ", "MODE ", "LINK "))}


def complaints(said: str) -> list[str]:
    return [line for line in remarks(said) if line not in outcome(said)]


def test_udev_has_no_complaint_about_the_file(running: Host) -> None:
    for device in (DEVICE, ADAPTER_TTY):
        assert complaints(evaluated(running, device)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("ATTR{idVendor}", "ATRR{idVendor}"), ('GROUP="dialout"', 'GROUP="nosuchgroup"'),
     ('LABEL="tmsctl_end"', 'LABEL="tmsctl_and"')],
)  # fmt: skip
def test_udev_would_have_complained_of_a_mistake(
    running: Host, tmp_path: Path, old: str, new: str
) -> None:
    wrong = tmp_path / RULES.name
    text = RULES.read_text()
    assert old in text
    wrong.write_text(text.replace(old, new))
    assert complaints(evaluated(running, DEVICE, rules=wrong))


def test_the_guard_may_open_a_tmslink_device_and_finds_it_by_its_serial_number(
    running: Host,
) -> None:
    said = evaluated(running, DEVICE)
    assert outcome(said) == {dialout(), "MODE 0660", f"LINK 'tmsctl/usb-{SERIAL}'"}
    found = properties(said)
    assert f"/dev/tmsctl/usb-{SERIAL}" in found["DEVLINKS"].split()
    assert "systemd" in found["TAGS"].split(":")


def test_no_cable_starts_the_guard_and_no_seat_may_open_the_device(running: Host) -> None:
    found = properties(evaluated(running, DEVICE))
    assert "SYSTEMD_WANTS" not in found
    assert "uaccess" not in found["TAGS"].split(":")


def test_a_serial_adapter_has_a_link_and_is_left_alone_by_modem_manager(running: Host) -> None:
    said = evaluated(running, ADAPTER_TTY)
    assert outcome(said) == {dialout(), "MODE 0660", "LINK 'tmsctl/serial-FT000001'"}
    found = properties(said)
    assert (found["ID_MM_DEVICE_IGNORE"], found["ID_MM_PORT_IGNORE"]) == ("1", "1")
    assert "systemd" in found["TAGS"].split(":")


def test_a_device_of_another_class_with_the_id_for_tests_is_not_ours(running: Host) -> None:
    """Whoever tries something has the same id."""
    running.tell("unplug")
    running.tell("plug", SERIAL, "ff0000")
    assert outcome(evaluated(running, DEVICE)) == set()


def test_an_unplugged_device_changes_nothing(running: Host) -> None:
    assert outcome(evaluated(running, ADAPTER_TTY, "remove")) == set()
