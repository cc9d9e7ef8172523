"""Every method's parameters and result, and what is pushed to subscribers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, RootModel

from tmsctl.records.views import Record, State, Summary
from tmsctl.session.prepare import Order


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Nothing(Params):
    """A method without parameters."""


class PrepareParams(Params):
    patient: str
    operator: str
    protocol: str
    mt: float | None = None  # %MSO
    pct_mt: int | None = None
    reduced: bool = False

    @property
    def order(self) -> Order:
        return Order(self.patient, self.operator, self.protocol, self.mt, self.pct_mt, self.reduced)


class StartParams(PrepareParams):
    plan_hash: str


class ShowParams(Params):
    session: Annotated[int, Field(ge=1, le=0xFFFF_FFFF)] | None = None


class ListParams(Params):
    limit: Annotated[int, Field(ge=1, le=1000)] = 20


class Result(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Done(Result):
    """There is nothing more to say."""


class Info(Result):
    version: str
    pid: int
    config: str
    guard_pid: int | None
    timing: str
    journal: str


class CheckResult(Result):
    code: str
    ok: bool
    detail: str


class PrepareResult(Result):
    plan_hash: str
    sentence: str
    mso: int
    pulses: int
    trains: int
    duration_s: float
    warnings: tuple[str, ...]
    checks: tuple[CheckResult, ...]


class StartResult(Result):
    session: int


class SessionState(Result):
    session: int
    state: State


class Resumed(SessionState):
    adopted: bool  # this connection is now the session's station


class Shown(RootModel[Record]):
    """One session whole."""


class Listing(Result):
    sessions: list[Summary]


class GuardWord(Result):
    state: str


class Cause(Result):
    code: str
    detail: str


class GuardStatus(Result):
    state: str  # absent, safe, idle, arming, armed
    cycle: int = 0
    overruns: int = 0
    late_max_us: int = 0
    timing: str = ""
    causes: tuple[Cause, ...] = ()


class DeviceStatus(Result):
    connected: bool = False
    link: str = ""
    model: str = ""
    serial: str = ""
    state: str = "unknown"  # or idle, arming, ready, firing, latched
    status_age_ms: int | None = None
    pulse_count: int = 0
    charge_pct: float = 0.0


class CoilStatus(Result):
    temperature_c: float | None = None  # surface
    winding_c: float | None = None


class Intensity(Result):
    planned_mso: int = 0
    realised_mso: float = 0.0


class SessionStatus(Result):
    id: int
    patient: str
    operator: str
    protocol: str
    state: State
    planned: int
    delivered: int
    skipped: int
    unknown: int
    train: int
    trains: int
    waiting: str
    next_train_s: float | None
    left_s: float | None
    elapsed_s: float


class Status(Result):
    time: str
    guard: GuardStatus
    device: DeviceStatus
    coil: CoilStatus
    intensity: Intensity
    session: SessionStatus | None
    journal_error: str  # empty: the journal can be written
