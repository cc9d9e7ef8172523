"""The units as systemd itself judges them: no warning, little exposure, and what safety needs."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tmsctl.guard import settings
from tmsctl.service.config import load_config

FOLDER = Path(__file__).parents[2] / "systemd"
PROGRAMS = Path(sys.executable).parent
UNITS = ("tms-guard.service", "tmsd.service")


class Unit(configparser.RawConfigParser):
    """A unit file; of a setting that is repeated, the last value."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, delimiters="=")
        self.optionxform = str  # type: ignore[method-assign, assignment]
        self.read(FOLDER / name)


@pytest.fixture(scope="session")
def analyze() -> str:
    """Path of systemd-analyze. Without it the test fails in CI and is skipped elsewhere."""
    found = shutil.which("systemd-analyze")
    if found is None:
        why = "systemd-analyze is not installed (Debian: apt install systemd)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return found


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def copy_units(folder: Path, old: str = "", new: str = "") -> list[Path]:
    """The units with the programs of this environment in place of the installed ones."""
    for name in UNITS:
        text = (FOLDER / name).read_text().replace("/usr/bin/", f"{PROGRAMS}/")
        (folder / name).write_text(text.replace(old, new) if old else text)
    return [folder / name for name in UNITS]


def test_systemd_finds_nothing_to_complain_about(analyze: str, tmp_path: Path) -> None:
    result = run(analyze, "verify", "--man=no", *copy_units(tmp_path))
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("old", "new"),
    [("WatchdogSec=", "WatchdogSek="), ("Type=notify", "Type=notfy"), ("bin/tmsd", "bin/tmsdd")],
)
def test_systemd_would_have_found_a_mistake(
    analyze: str, tmp_path: Path, old: str, new: str
) -> None:
    result = run(analyze, "verify", "--man=no", *copy_units(tmp_path, old, new))
    assert result.stderr


@pytest.mark.parametrize(("name", "most"), [("tms-guard.service", 1.0), ("tmsd.service", 1.5)])
def test_the_exposure_stays_within_its_bound(analyze: str, name: str, most: float) -> None:
    result = run(analyze, "security", "--offline=yes", "--no-pager", FOLDER / name)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", result.stdout)
    assert found, result.stderr
    assert float(found[1]) <= most


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("WatchdogSec", "2s"),
        ("Restart", "on-failure"),
        ("CPUSchedulingPolicy", "fifo"),
        ("CPUSchedulingPriority", "40"),
        ("LimitMEMLOCK", "infinity"),
        ("LimitRTTIME", "1500ms"),
        ("ExecStart", "/usr/bin/tms-guard --config /etc/tmsctl/tmsctl.toml"),
        ("ExecStopPost", "-/usr/bin/tms-guard --safe-off --config /etc/tmsctl/tmsctl.toml"),
        ("DevicePolicy", "closed"),
        ("PrivateNetwork", "yes"),
        ("RestrictAddressFamilies", "AF_UNIX AF_NETLINK"),
        ("CapabilityBoundingSet", ""),
        ("MemoryDenyWriteExecute", "yes"),
        ("Group", "tmsctl"),
    ],
)
def test_what_the_guard_needs_for_safety_is_pinned(setting: str, value: str) -> None:
    assert Unit("tms-guard.service")["Service"][setting] == value


def test_the_guard_may_open_serial_ports_and_usb_and_nothing_else() -> None:
    text = (FOLDER / "tms-guard.service").read_text()
    allowed = set(re.findall(r"^DeviceAllow=(.+)$", text, re.MULTILINE))
    assert allowed == {"char-ttyACM rw", "char-ttyUSB rw", "char-usb_device rw"}
    assert Unit("tms-guard.service")["Service"]["SupplementaryGroups"] == "dialout"
    rules = (FOLDER / "70-tmsctl.rules").read_text()
    assert set(re.findall(r'GROUP="(\w+)"', rules)) == {"dialout"}


def test_the_service_takes_no_real_time_from_the_guard_and_no_device() -> None:
    service = Unit("tmsd.service")["Service"]
    assert "CPUSchedulingPolicy" not in service
    assert (service["RestrictRealtime"], service["PrivateDevices"]) == ("yes", "yes")
    assert "DeviceAllow" not in service


def test_neither_unit_dies_with_the_other() -> None:
    for name in UNITS:
        unit = Unit(name)["Unit"]
        assert not {"Requires", "BindsTo", "PartOf"} & set(unit)
    assert Unit("tmsd.service")["Unit"]["Wants"] == "tms-guard.service"


def test_users_and_folders_of_the_units_exist() -> None:
    users = (FOLDER / "tmsctl.sysusers").read_text()
    folders = (FOLDER / "tmsctl.tmpfiles").read_text()
    with (FOLDER / "tmsctl.toml").open("rb") as file:
        paths = tomllib.load(file)["paths"]
    for name in UNITS:
        service = Unit(name)["Service"]
        assert re.search(rf"^u +{service['User']} ", users, re.MULTILINE)
        assert re.search(rf"^m +{service['User']} +{service['Group']}$", users, re.MULTILINE)
        assert service["ReadWritePaths"] == paths["runtime"]
    assert re.search(rf"^d +{paths['runtime']} +2770 root +tmsctl -$", folders, re.MULTILINE)
    assert paths["state"] == f"/var/lib/{Unit('tmsd.service')['Service']['StateDirectory']}"


def test_systemd_starts_the_guard_and_not_tmsd() -> None:
    with (FOLDER / "tmsctl.toml").open("rb") as file:
        assert tomllib.load(file)["guard"] == {"supervise": False}


def test_both_programs_accept_the_example_configuration_with_every_option(tmp_path: Path) -> None:
    text = (FOLDER / "tmsctl.toml").read_text()
    every = tmp_path / "every.toml"
    every.write_text(re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE))
    for path in (FOLDER / "tmsctl.toml", every):
        assert settings.read(path).runtime == load_config(path).runtime == Path("/run/tmsctl")
    assert (settings.read(every).serial, settings.read(every).cpu) == ("TR000001", 1)
    assert load_config(every).limits == {"mso_max_pct": 80}
