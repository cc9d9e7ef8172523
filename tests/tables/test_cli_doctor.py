"""What `tmsctl doctor` says of each finding, and what it counts as wrong."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers import registry
from drivers.contract import Maturity
from drivers.options import Option
from tmsctl.cli import doctor
from tmsctl.cli.doctor import Finding, PortFacts, User

TMSLINK = registry.find("tmslink").info


def driver(name: str) -> Any:
    return registry.find(name).info


@pytest.mark.parametrize(
    ("name", "level", "words"),
    [
        ("tmslink", "ok", "disarms by itself within 50 ms"),
        ("magstim-200", "warn", "disarms by itself only after about 1 s"),
        ("magstim-rapid", "warn", "may go on to its end"),
        ("magpro-x100", "warn", "cannot be stopped when the software fails"),
        ("duomag-xt", "warn", "cannot be stopped when the software fails"),
    ],
)
def test_the_stopping_class_is_told_in_plain_words(name: str, level: str, words: str) -> None:
    found = doctor.stop_class(driver(name))
    assert (found.level, found.exit_status) == (level, 0)
    assert words in found.says
    assert (found.next_step == "") is (level == "ok")
    assert ("a train" in found.says) is (name == "magstim-rapid")


@pytest.mark.parametrize(
    ("state", "level", "words"),
    [
        (Maturity.EXPERIMENTAL, "warn", "EXPERIMENTAL: verified on no hardware"),
        (Maturity.BENCH, "warn", "was tried on 9.0, 2026-01-01, on a bench only"),
        (Maturity.VERIFIED, "ok", "is verified on 9.0, 2026-01-01"),
    ],
)
def test_maturity_says_what_it_was_verified_on(state: Maturity, level: str, words: str) -> None:
    found = doctor.maturity(replace(TMSLINK, maturity=state, verified_on="9.0, 2026-01-01"))
    assert found.level == level
    assert words in found.says


def test_every_driver_of_today_is_told_to_be_experimental() -> None:
    assert all("EXPERIMENTAL" in doctor.maturity(row.info).says for row in registry.DRIVERS)


TABLE = {
    "unlock": Option("the unit's code", pattern="[a-z]{4}", form="xxxx", secret=True),
    "supply": Option("mains, V", 115, choices=(115, 240)),
}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"unlock": "abcd", "supply": 240}, [("ok", 0, "all that the driver asks for")]),
        ({"unlock": "abcd"}, [("note", 0, "presumed: supply = 115 (mains, V)")]),
        ({"supply": 240}, [("warn", 0, "device.options.unlock is not given: the unit's code")]),
        (
            {"unlock": "ABCD"},
            [("wrong", 1, "device.options.unlock is not a text of the form xxxx")],
        ),
        ({"volt": 1}, [("wrong", 1, "device.options.volt is unknown")]),
        ({"supply": 200}, [("wrong", 1, "device.options.supply is not 115 or 240")]),
    ],
)
def test_options_that_are_missing_presumed_or_wrong(
    given: Mapping[str, object], found: list[tuple[str, int, str]]
) -> None:
    row = registry.find("tmslink")._replace(options=TABLE)
    said = doctor.options(row, given)
    assert [(one.level, one.exit_status) for one in said] == [one[:2] for one in found]
    assert all(words in one.says for one, (_, _, words) in zip(said, found, strict=True))
    assert "abcd" not in str(said).lower()  # a secret is not told, right or wrong


@pytest.mark.parametrize(
    ("driver", "given", "words"),
    [
        ("magstim-rapid", {"plus": 1}, ["device.options.plus is only there with super = 1"]),
        ("duomag-xt", {"adc_at_0c": 1, "adc_per_100c": 0}, ["adc_per_100c is 0"]),
        ("duomag-xt", {}, ["adc_at_0c is not given", "adc_per_100c is not given"]),
    ],
)
def test_options_with_which_the_driver_would_not_connect_are_wrong(
    driver: str, given: Mapping[str, object], words: list[str]
) -> None:
    said = doctor.options(registry.find(driver), given)
    assert [(one.level, one.exit_status) for one in said] == [("wrong", 1)] * len(words)
    assert all(some in one.says for one, some in zip(said, words, strict=True))


THERE = PortFacts("/dev/ttyUSB0", True, True, True, "dialout", ())
OTHER, GUARD = User(7, "picocom"), User(42, "tms-guard")


@pytest.mark.parametrize(
    ("facts", "guard_pid", "level", "words"),
    [
        (THERE, None, "ok", "is there, may be opened, and is free"),
        (THERE._replace(exists=False), None, "wrong", "does not exist"),
        (THERE._replace(is_device=False), None, "wrong", "is not a serial port"),
        (THERE._replace(may_open=False), None, "wrong", "belongs to the group dialout"),
        (THERE._replace(may_open=False, group=""), None, "wrong", "you may not open"),
        (THERE._replace(users=(OTHER,)), 42, "wrong", "in use by picocom (process 7)"),
        (THERE._replace(users=(GUARD,)), 42, "ok", "in use by tms-guard, as it should be"),
        (THERE._replace(users=(GUARD,)), None, "ok", "in use by tms-guard, as it should be"),
        (THERE._replace(users=(GUARD,)), 43, "wrong", "in use by tms-guard (process 42)"),
        (THERE._replace(users=(GUARD, OTHER)), 42, "wrong", "in use by picocom (process 7)"),
        (THERE._replace(users=(GUARD,), may_open=False), 42, "ok", "as it should be"),
    ],
)
def test_the_port_and_who_has_it(
    facts: PortFacts, guard_pid: int | None, level: str, words: str
) -> None:
    found = doctor.port(facts, guard_pid)
    assert (found.level, found.exit_status) == (level, 0 if level == "ok" else 2)
    assert words in found.says


def status(state: str, link: str = "", **device: object) -> Any:
    causes = [{"code": "stop", "detail": "STOP by AB"}] if state == "safe" else []
    shown = {"connected": not link, "link": link, "model": "Rapid", "serial": "", "state": "idle"}
    return {"guard": {"state": state, "causes": causes}, "device": shown | device}


@pytest.mark.parametrize(
    ("told", "bits", "words"),
    [
        (status("idle"), 0, "Rapid answers; it is idle"),
        (status("absent", "GUARD-ABSENT: no"), 2, "no guard answers"),
        (status("idle", "mute: nothing answers"), 2, "does not answer: mute: nothing answers"),
        (status("safe"), 8, "is in SAFE (stop: STOP by AB)"),
        (status("safe", "port-missing: gone"), 10, "does not answer: port-missing: gone"),
    ],
)
def test_what_the_guard_says_and_the_bits_add_up(told: Any, bits: int, words: str) -> None:
    found = doctor.link(told)
    assert doctor.exit_status(found) == bits
    assert any(words in one.says for one in found)


def test_a_port_is_looked_at_without_being_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = pty.openpty()
    try:
        link = tmp_path / "stim"
        link.symlink_to(os.ttyname(slave))
        monkeypatch.setattr(os, "open", None)
        seen = doctor.look_at(str(link))
        assert (seen.exists, seen.is_device, seen.may_open) == (True, True, True)
        assert os.getpid() in [user.pid for user in seen.users]
        assert not doctor.look_at(str(tmp_path / "none")).exists
        assert not doctor.look_at(str(tmp_path)).is_device
    finally:
        os.close(master)
        os.close(slave)


def test_an_adapter_is_found_by_its_serial_number(tmp_path: Path) -> None:
    link = tmp_path / "usb-FTDI_FT232R_USB_UART_A9007UX1-if00-port0"
    link.touch()
    assert doctor.port_path("usb-serial:A9007UX1", tmp_path) == str(link)
    assert doctor.port_path("usb-serial:A9007", tmp_path) == "usb-serial:A9007"
    assert doctor.port_path("/dev/ttyS0", tmp_path) == "/dev/ttyS0"


def config(folder: Path, driver: str, more: str = "") -> Path:
    path = folder / "tmsctl.toml"
    path.write_text(f'[device]\ndriver = "{driver}"\nurl = "{folder}/none"\n{more}')
    return path


@pytest.mark.parametrize(
    ("driver", "more", "bits", "levels"),
    [
        ("tmslink", "", 2, ["ok", "warn", "ok", "ok", "wrong", "note"]),
        ("magstim-200", "", 2, ["ok", "warn", "warn", "ok", "wrong", "warn", "note"]),
        ("magstim-9", "", 1, ["ok", "wrong", "note"]),
        ("tmslink", "[limit]\n", 1, ["wrong", "note"]),
        ("tmslink", "[device.options]\nsupply = 1\n", 3,
         ["ok", "warn", "ok", "wrong", "wrong", "note"]),
    ],
)  # fmt: skip
def test_without_tmsd_it_says_what_the_configuration_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
    driver: str, more: str, bits: int, levels: list[str],
) -> None:  # fmt: skip
    path = config(tmp_path, driver, more)
    assert doctor.run(tmp_path, path, as_json=True) == bits
    said = json.loads(capsys.readouterr().out)
    assert said["exit"] == bits
    assert [one["level"] for one in said["findings"]] == levels
    assert set(said["findings"][0]) == set(Finding._fields)
    assert doctor.run(tmp_path, path, as_json=False) == bits
    lines = capsys.readouterr().out.splitlines()
    marked = [line for line in lines if line.startswith(tuple(doctor.MARKS.values()))]
    assert len(marked) == len(levels)
    assert ("opening the port may raise RTS" in "".join(lines)) is (driver == "magstim-200")
