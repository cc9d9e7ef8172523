"""`[device.options]`: each driver's own table, read strictly."""

from __future__ import annotations

import pytest

from drivers.options import Option, parse_options
from tmsctl.guard.settings import SettingsError, read

TABLE = {
    "supply": Option("V", 240, 100, 240),
    "unlock": Option(
        "code", None, pattern="[0-9]{4}-[0-9a-f]{8}-[0-9a-f]{2}", form="0000-xxxxxxxx-xx"
    ),
}


def test_what_is_not_given_is_the_default_or_unknown() -> None:
    assert parse_options(TABLE, {}) == {"supply": 240, "unlock": None}


def test_what_is_given_is_taken_within_its_range() -> None:
    for volts in (100, 240):
        assert parse_options(TABLE, {"supply": volts})["supply"] == volts
    code = "0123-456789ab-cd"
    assert parse_options(TABLE, {"unlock": code})["unlock"] == code


@pytest.mark.parametrize(
    ("name", "value"),
    [("supply", 99), ("supply", 241), ("supply", "240"), ("supply", True), ("supply", 240.0),
     ("unlock", 7), ("unlock", "0123"), ("unlock", ""), ("colour", 1)],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_name_and_never_repeated(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"device.options.{name}") as refused:
        parse_options(TABLE, {name: value})
    assert "0123" not in str(refused.value)


def test_the_guard_reads_them_from_its_file(tmp_path: object) -> None:
    from pathlib import Path

    file = Path(str(tmp_path)) / "tmsctl.toml"
    device = '[device]\ndriver = "x"\nurl = "y"\n'
    file.write_text(device + "[device.options]\nsupply = 115\n")
    assert read(file).options == {"supply": 115}
    file.write_text(device + 'options = "none"\n')
    with pytest.raises(SettingsError, match="options"):
        read(file)
