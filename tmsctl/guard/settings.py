"""The guard's part of the configuration file, read once at start. Unknown keys refuse."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tmsctl.safety.limits import Limits, site_limits


class SettingsError(ValueError):
    """One sentence: file, key, value, what is allowed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the guard needs to know before it opens anything."""

    runtime: Path
    driver: str
    url: str
    serial: str | None
    options: Mapping[str, object]  # of the driver, unread
    limits: Limits
    protocol_folders: tuple[Path, ...]
    cpu: int | None
    record: Path | None  # folder of recordings


_KEYS: Final[dict[str, dict[str, type]]] = {
    "paths": {"runtime": str, "state": str},
    "device": {"driver": str, "url": str, "serial": str, "options": dict},
    "protocols": {"folders": list},
    "guard": {"supervise": bool, "cpu": int, "record": str},
}
_NEEDED = (("device", "driver"), ("device", "url"))


def read(path: Path) -> Settings:
    """SettingsError when the file cannot be used as a whole; nothing is taken from a bad file."""
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    tables: dict[str, dict[str, object]] = {name: {} for name in (*_KEYS, "limits")}
    for name, table in document.items():
        if name not in tables or not isinstance(table, dict):
            raise SettingsError(f"{path}: {name!r} is unknown; allowed are {', '.join(tables)}")
        tables[name] = table
    for name, kinds in _KEYS.items():
        for key, value in tables[name].items():
            kind = kinds.get(key)
            if kind is None:
                allowed = ", ".join(kinds)
                raise SettingsError(f"{path}: {name}.{key} is unknown; allowed are {allowed}")
            if type(value) is not kind:
                raise SettingsError(
                    f"{path}: {name}.{key} is {value!r}; a {kind.__name__} is needed"
                )
    for name, key in _NEEDED:
        if not tables[name].get(key):
            raise SettingsError(f"{path}: {name}.{key} is missing")
    try:
        limits = site_limits(tables["limits"])
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from error
    folders = tables["protocols"].get("folders", [])
    assert isinstance(folders, list)
    options = tables["device"].get("options", {})
    assert isinstance(options, dict)
    cpu = tables["guard"].get("cpu")
    record = tables["guard"].get("record")
    serial = tables["device"].get("serial")
    return Settings(
        runtime=Path(str(tables["paths"].get("runtime", "/run/tmsctl"))),
        driver=str(tables["device"]["driver"]),
        url=str(tables["device"]["url"]),
        serial=None if serial is None else str(serial),
        options=options,
        limits=limits,
        protocol_folders=tuple(Path(str(folder)) for folder in folders),
        cpu=cpu if isinstance(cpu, int) else None,
        record=None if record is None else Path(str(record)),
    )
