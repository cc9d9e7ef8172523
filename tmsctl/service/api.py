"""Every method's parameters and result, and what is pushed to subscribers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from tmsctl.records.views import Record, State, Summary, Unresolved
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
    mt_method: Literal["emg", "visual"] = "visual"  # what is not said is the stricter reading

    @property
    def order(self) -> Order:
        by_emg = self.mt_method == "emg"
        return Order(
            self.patient, self.operator, self.protocol, self.mt, self.pct_mt, self.reduced, by_emg
        )


class StartParams(PrepareParams):
    plan_hash: str
    confirmation: str
    reason: str | None = None


U32 = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
Number = Annotated[int, Field(ge=1, le=0xFFFF_FFFF)]


class ShowParams(Params):
    session: Number | None = None


class ListParams(Params):
    limit: Annotated[int, Field(ge=1, le=1000)] = 20


class LedgerParams(Params):
    patient: str | None = None


class ResolveParams(Params):
    session: Number
    block: U32
    delivered: U32
    operator: str
    reason: str


class AcceptCounterParams(Params):
    serial: str
    operator: str
    reason: str


class ConfirmClockParams(Params):
    operator: str
    time: str  # that the person was shown, ISO 8601


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
    soft: bool  # a person may go on with a reason
    verified: bool  # the figure was re-read at its source
    source: str
    detail: str
    next: str


class PrepareResult(Result):
    plan_hash: str
    confirmation: str
    confirmation_s: float  # it is good for so long
    sentence: str
    mso: int
    pulses: int
    trains: int
    duration_s: float
    warnings: tuple[str, ...]
    checks: tuple[CheckResult, ...]
    needs_reason: tuple[str, ...]  # codes of soft checks that fail


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


class SelfTestResult(Result):
    passed: bool  # all four proofs, as far as the device has such a barrier
    dead_man: bool | None  # None: it has none
    stop: bool
    bad_frame: bool | None
    ledger: bool  # the result is on disk
    detail: str


class Interlock(Result):
    code: str
    table: str  # watch, gate or arm
    value: int | None
    limit: int | None
    limit_name: str  # empty: it compares with no row of the table of limits
    unit: str
    verified: bool | None
    source: str
    says: str  # why it acts now; empty when it permits


class Interlocks(Result):
    interlocks: tuple[Interlock, ...]


class Clock(Result):
    time: str
    confirmed: bool
    why: str
    confirmed_by: str | None
    confirmed_at: str | None


class Counter(Result):
    serial: str
    boot_count: int
    shown: int
    low: int
    high: int
    agrees: bool


class Dose(Result):
    patient: str
    day_pulses: int
    week_pulses: int
    since_last_s: float | None


class Ledger(Result):
    clock: Clock
    unresolved: list[Unresolved]
    counter: Counter | None
    dose: Dose | None


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
    presence_s: float | None  # since the operator's last sign


class SelfTestStatus(Result):
    state: str = "unknown"  # or none, passed, running, failed
    age_s: float | None = None


class Status(Result):
    time: str
    guard: GuardStatus
    device: DeviceStatus
    coil: CoilStatus
    intensity: Intensity
    session: SessionStatus | None
    self_test: SelfTestStatus
    clock_confirmed: bool
    journal_error: str  # empty: the journal can be written
