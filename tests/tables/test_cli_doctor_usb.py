"""What `tmsctl doctor` says of a device on USB: from sysfs, and from the device when it is free."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drivers import registry
from drivers.transport.port_error import PortError
from firmware_protocol import table
from firmware_protocol.tmslink import messages as wire
from tests.fakes.usbip_server import FakeDevice, FakeServer
from tmsctl.cli import doctor
from tmsctl.cli.doctor import Finding, PortFacts, User
from tmsctl.cli.doctor_usb import findings, usb_node

NODE = "/dev/bus/usb/003/007"
FREE = PortFacts(NODE, True, True, True, "tmsctl", ())
GUARD = User(42, "tms-guard")


def plug(bus: Path, name: str = "1-4", serial: str = "TR000001", kind: str = "ff 54 01") -> None:
    interface = bus / name / f"{name}:1.0"
    interface.mkdir(parents=True)
    for file, text in zip(("Class", "SubClass", "Protocol"), kind.split(), strict=True):
        (interface / f"bInterface{file}").write_text(f"{text}\n")
    for file, text in (("serial", serial), ("busnum", "3"), ("devnum", "7")):
        (bus / name / file).write_text(f"{text}\n")


def found(
    bus: Path, facts: PortFacts = FREE, guard_pid: int | None = None, why_not: str = "",
    udevd: Path = Path("/"),
) -> list[Finding]:  # fmt: skip
    def ask(_url: str) -> str:
        if why_not:
            raise PortError(*why_not.split(": "))
        return "reference TR000001"

    return list(findings("usb:TR000001", guard_pid, ask, bus, lambda _path: facts, udevd))


def test_a_device_is_found_by_its_class_and_serial_number(tmp_path: Path) -> None:
    plug(tmp_path, "1-1", "TR000001", "03 01 01")
    plug(tmp_path, "1-2", "TR000002")
    assert usb_node("TR000001", tmp_path) is None
    plug(tmp_path)
    assert usb_node("TR000001", tmp_path) == NODE
    assert usb_node("", tmp_path) is None  # two, and none is named


def test_one_that_is_free_is_asked_who_it_is(tmp_path: Path) -> None:
    plug(tmp_path)
    says = [(one.level, one.says) for one in found(tmp_path)]
    assert says == [
        ("ok", f"{NODE} is there, may be opened, and is free as far as seen"),
        ("ok", "usb:TR000001 says that it is reference TR000001"),
    ]


def test_one_that_is_missing_is_told(tmp_path: Path) -> None:
    (only,) = found(tmp_path)
    assert (only.level, only.exit_status) == ("wrong", 2)
    assert only.says == "no tmslink USB device TR000001 is plugged in"


def test_no_permission_names_the_rule_that_cures_it(tmp_path: Path) -> None:
    plug(tmp_path)
    (only,) = found(tmp_path, FREE._replace(may_open=False))
    assert (only.level, only.exit_status) == ("wrong", 2)
    assert only.next_step.startswith("Install systemd/70-tmsctl.rules")
    (only,) = found(tmp_path, FREE._replace(may_open=False), udevd=tmp_path / "not-there")
    assert only.next_step.startswith("udevd does not run here")
    assert "systemd/70-tmsctl.rules" in only.next_step


@pytest.mark.parametrize(("user", "level"), [(GUARD, "ok"), (User(7, "python3"), "wrong")])
def test_one_that_somebody_uses_is_not_asked(tmp_path: Path, user: User, level: str) -> None:
    plug(tmp_path)
    (only,) = found(tmp_path, FREE._replace(users=(user,)), 42, why_not="port-busy: asked")
    assert only.level == level


@pytest.mark.parametrize(
    ("why_not", "level", "bits"),
    [("port-busy: in use", "note", 0), ("libusb-missing: not there", "wrong", 2)],
)
def test_why_it_cannot_be_asked_is_told(
    tmp_path: Path, why_not: str, level: str, bits: int
) -> None:
    plug(tmp_path)
    last = found(tmp_path, why_not=why_not)[-1]
    assert (last.level, last.exit_status) == (level, bits)
    assert why_not in last.says


def test_behind_usbip_the_guard_alone_opens_it() -> None:
    def ask(_url: str) -> str:
        raise AssertionError("it was asked")

    (only,) = findings("usbip:unix:/x", 42, ask)
    assert only.level == "note"


IDENTITY = wire.Identity(1, 0, 5_000, "TR000001", "reference", 0x01020300, 1, 70)


class Answering(FakeDevice):
    said = table.pack(IDENTITY)

    def vendor(self, kind: int, request: int, value: int) -> bytes:
        return self.said if (kind, request) == (0xC1, 2) else b""


def test_a_real_request_says_who_it_is_and_leaves_it_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer(tmp_path / "usb", Answering()) as server:
        config = tmp_path / "tmsctl.toml"
        config.write_text(f'[device]\ndriver = "tmslink"\nurl = "{server.url}#TR000001"\n')
        assert doctor.run(tmp_path, config, as_json=True) == 0
        last = json.loads(capsys.readouterr().out)["findings"][-2]
        assert last["says"].endswith(
            "says that it is reference TR000001, firmware 1.2.3.0, tmslink 1"
        )
        assert server.device.written == []
        assert server.device.configured == 0


@pytest.mark.parametrize("said", [b"", b"\xff" * 44, b"short"])
def test_an_identity_that_is_none_is_refused(tmp_path: Path, said: bytes) -> None:
    device = Answering()
    device.said = said
    with FakeServer(tmp_path / "usb", device) as server, pytest.raises(PortError, match="garbage"):
        registry.usb_identity(server.url)


@pytest.mark.parametrize(
    ("driver", "url", "words"),
    [
        ("magstim-200", "usb:X", "magstim-200 speaks over serial lines"),
        ("tmslink", "usbip:nowhere", "allowed are usb:SERIAL"),
    ],
)
def test_a_url_that_no_driver_can_use_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], driver: str, url: str, words: str
) -> None:
    config = tmp_path / "tmsctl.toml"
    config.write_text(f'[device]\ndriver = "{driver}"\nurl = "{url}"\n')
    assert doctor.run(tmp_path, config, as_json=False) == 1
    assert words in capsys.readouterr().out
