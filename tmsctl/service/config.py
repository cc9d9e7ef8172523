"""The one configuration file: read strictly, and every mistake told in one sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tmsctl.safety.limits import Limits, site_limits
from tmsctl.service.words import sentences

SOCKET_PATH_MAX: Final = 107
"""Bytes of a Unix socket's path that Linux takes."""

FILE_SIZE_MAX: Final = 65_536


class ConfigError(Exception):
    """`sentences`: one for each mistake, each naming the file."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__(" ".join(sentences))
        self.sentences = sentences


def _absolute(value: str) -> str:
    if not Path(value).is_absolute():
        raise ValueError("allowed is a path from the root, beginning with /")
    return value


def _fits_a_socket(value: str) -> str:
    if len(f"{value}/guard.sock".encode()) > SOCKET_PATH_MAX:
        raise ValueError(f"allowed are {SOCKET_PATH_MAX - len('/guard.sock')} bytes or less")
    return value


AbsolutePath = Annotated[str, AfterValidator(_absolute)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Paths(_Strict):
    runtime: Annotated[AbsolutePath, AfterValidator(_fits_a_socket)] = "/run/tmsctl"
    state: AbsolutePath = "/var/lib/tmsctl"


class Device(_Strict):
    """Read by the guard; here only its form is judged."""

    driver: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    url: Annotated[str, Field(min_length=1, max_length=256)]
    serial: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,8}$")] | None = None
    options: dict[str, int | str] = {}


class Protocols(_Strict):
    folders: list[AbsolutePath] = []


class Guard(_Strict):
    supervise: bool = True
    cpu: Annotated[int, Field(ge=0, le=1023)] | None = None
    record: AbsolutePath | None = None


class Config(_Strict):
    """The file as it is written; `limits_in_force` is what its [limits] mean."""

    paths: Paths = Paths()
    device: Device
    limits: dict[str, Any] = {}
    protocols: Protocols = Protocols()
    guard: Guard = Guard()

    @property
    def limits_in_force(self) -> Limits:
        return site_limits(self.limits)

    @property
    def runtime(self) -> Path:
        return Path(self.paths.runtime)

    @property
    def state(self) -> Path:
        return Path(self.paths.state)


def load_config(path: Path) -> Config:
    """The configuration, or ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_SIZE_MAX + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror})."]) from error
    if len(content) > FILE_SIZE_MAX:
        raise ConfigError([f"{path}: longer than the {FILE_SIZE_MAX} bytes that are allowed."])
    try:
        table = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or absurdly nested
        raise ConfigError([f"{path}: not a TOML file ({error})."]) from error
    try:
        config = Config.model_validate(table)
    except ValidationError as error:
        raise ConfigError([f"{path}: {sentence}" for sentence in sentences(error)]) from error
    try:
        site_limits(config.limits)
    except ValueError as error:
        raise ConfigError([f"{path}: limits: {error}."]) from error
    return config
