"""Weeks of sessions with restarts and wrong clocks: no true window ever holds more than the cap.

The truth is the test's own clock; the program sees CLOCK_BOOTTIME, which begins anew with every
start of the computer, and a wall clock that somebody sets to any time within a year of the right
one. A person confirms the wall clock only when it is right.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.engine import ORDER, Rig, changed
from tests.fakes.guard import FakeGuard
from tmsctl.ipc.messages import SelfTestState
from tmsctl.safety.limits import ROWS, site_limits
from tmsctl.session.refused import RefusedError

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
WEEK = 7 * DAY
YEAR = 365 * DAY
STARTS_IN_US = 30 * SECOND
"""From power-on to the start of tmsd."""

PULSES = 600  # of itbs600; two blocks
CAPS = ((600, 1_200), (1_200, 1_200), (1_800, 5_400), (6_000, 30_000))
"""Pulses of a day and of a week; at the smallest ones every session is at a border."""

HARD_GAP_S = ROWS["session_gap_min_s"].general
SOFT_GAP_S = ROWS["session_gap_min_s"].soft
assert SOFT_GAP_S is not None

DOSE_CODES = {"day-pulses", "week-pulses", "session-gap", "soft-limit"}


@dataclass(frozen=True)
class Given:
    """Pulses that truly left the coil."""

    patient: str
    at_us: int  # true time
    pulses: int
    session: int


@dataclass
class Clinic:
    """One computer and one device. `error_us` is how wrong the wall clock is."""

    folder: Path
    day_max: int
    week_max: int
    true_us: int = YEAR
    error_us: int = 0
    booted_us: int = YEAR - HOUR
    boots: int = 1
    given: list[Given] = field(default_factory=list)
    begun: list[tuple[str, int, bool]] = field(default_factory=list)  # patient, true time, reason
    refused: Counter[str] = field(default_factory=Counter)
    false: list[str] = field(default_factory=list)  # refusals that the truth does not bear out

    def __post_init__(self) -> None:
        self.rig: Rig | None = None
        self._fired: Counter[int] = Counter()
        self._power_on()

    def close(self) -> None:
        assert self.rig is not None
        self.rig.journal.close()

    # What happens to the computer

    def _power_on(self) -> None:
        """A new guard, on a device that was not switched off."""
        self.guard = FakeGuard(block_pulses=PULSES // 2, step_by_step=True)
        self.guard.fired = self._fired
        self.guard.self_test = SelfTestState.NONE
        self.restart()

    def restart(self) -> None:
        """A new tmsd; the guard lives on and makes itself safe."""
        if self.rig is not None:
            self.rig.journal.close()
            self.guard.trip("service-lost")
        self.rig = Rig(
            self.folder / "journal.sqlite", self.guard, us=self.true_us - self.booted_us,
            boot_id=f"boot-{self.boots}", ready=False,
            limits=site_limits({"pulses_day_max": self.day_max, "pulses_week_max": self.week_max}),
        )  # fmt: skip
        raw = self.rig.journal._connection.connection.dbapi_connection
        assert raw is not None
        raw.execute("PRAGMA synchronous = OFF")  # type: ignore[attr-defined] # no power fails here
        self._tell_time()
        self.rig.hear(*self.guard.repeat())
        self.rig.engine.acknowledge()
        self.rig.pump()

    def reboot(self, off_us: int, error_us: int) -> None:
        """Off for so long, with this error of the wall clock afterwards."""
        self.booted_us, self.error_us = self.true_us + off_us, error_us
        self.true_us = self.booted_us + STARTS_IN_US
        self.boots += 1
        self._power_on()

    def wait(self, us: int) -> None:
        self.true_us += us
        self._tell_time()

    def wait_until(self, patient: str, border_us: int, back: int) -> None:
        """So long after the last pulse of a session, counted back from the newest one."""
        ends = sorted({self.last(patient, g.session + 1) or 0 for g in self.given})
        if len(ends) > back:
            self.wait(max(0, ends[-1 - back] + border_us - self.true_us))

    def set_clock(self, error_us: int) -> None:
        self.error_us = error_us
        self._tell_time()

    def _tell_time(self) -> None:
        rig = self.rig
        assert rig is not None
        rig.us = self.true_us - self.booted_us
        rig.wall_off = timedelta(microseconds=self.booted_us + self.error_us)
        rig.hear(self.guard.snapshot())
        rig.engine.flush()

    # What people do

    def confirm_clock(self) -> None:
        """A person compares it with a watch, and sets it first if it is wrong."""
        assert self.rig is not None
        if self.error_us:
            self.set_clock(0)
        self.rig.engine.confirm_clock("op", self.rig.engine.desk.clock().time)

    def make_ready(self) -> None:
        """The morning's routine."""
        assert self.rig is not None
        if self.rig.engine.desk.doubt():
            self.confirm_clock()
        if self.guard.self_test != SelfTestState.PASSED:
            self.rig.engine.self_test()
            self.rig.pump()

    def resolve(self) -> None:
        """A person knows what was delivered, because the counter says so."""
        assert self.rig is not None
        for block in self.rig.engine.desk.unresolved():
            if block.suggests is not None:
                self.rig.engine.resolve(block.session, block.block, block.suggests, "dr", "counter")

    def session(
        self, patient: str, *, reason: bool, blocks: int = 2, error_us: int | None = None
    ) -> None:
        """Begin, and play so many blocks of two, with the clock set to this error after the first.

        One that is not complete has delivered seven pulses more.
        """
        rig = self.rig
        assert rig is not None
        order = changed(ORDER, patient=patient, protocol="itbs600")
        try:
            rig.begin(rig.engine.prepare(order), reason="needed" if reason else None)
        except RefusedError as error:
            self.refused[error.refusal.code] += 1
            if error.refusal.code in DOSE_CODES:
                self._judge(patient, reason, error.refusal.code)
            return
        self.begun.append((patient, self.true_us, reason))
        rig.pump()
        for _ in range(blocks):
            self._play(patient, None)
            if error_us is not None:
                self.set_clock(error_us)
        if blocks < 2:
            self._play(patient, 7)

    def end_session(self) -> None:
        assert self.rig is not None
        if self.rig.engine.open is not None:
            self.rig.engine.stop()
            self.rig.pump()

    def _play(self, patient: str, pulses: int | None) -> None:
        rig = self.rig
        assert rig is not None
        self.wait(90 * SECOND)
        before = self._fired.total()
        rig.play(pulses)
        fired = self._fired.total() - before
        if fired:
            self.given.append(Given(patient, self.true_us, fired, len(self.begun)))

    # What is true

    def within(self, patient: str, window_us: int, end_us: int) -> int:
        """Pulses in the window that ends here; its beginning is not in it."""
        return sum(
            g.pulses
            for g in self.given
            if g.patient == patient and end_us - window_us < g.at_us <= end_us
        )

    def last(self, patient: str, session: int) -> int | None:
        """True time of the last pulse before this session."""
        return max(
            (g.at_us for g in self.given if g.patient == patient and g.session < session),
            default=None,
        )

    def _judge(self, patient: str, reason: bool, code: str) -> None:
        """Was this refusal right?"""
        day = self.within(patient, DAY, self.true_us) + PULSES > self.day_max
        week = self.within(patient, WEEK, self.true_us) + PULSES > self.week_max
        last = self.last(patient, len(self.begun) + 1)
        gap_us = YEAR if last is None else self.true_us - last
        soft = not reason and gap_us < SOFT_GAP_S * SECOND
        right = {
            "day-pulses": day,
            "week-pulses": week,
            "session-gap": gap_us < HARD_GAP_S * SECOND,
            "soft-limit": soft,
        }
        if not right[code]:
            self.false.append(f"{code} for {patient}, {gap_us} us after the last pulse")

    def check(self) -> None:
        """Every window that ends with a pulse, and every gap before a session."""
        for g in self.given:
            assert self.within(g.patient, DAY, g.at_us) <= self.day_max
            assert self.within(g.patient, WEEK, g.at_us) <= self.week_max
        for number, (patient, began_us, reason) in enumerate(self.begun, 1):
            last = self.last(patient, number)
            if last is not None:
                gap_s = HARD_GAP_S if reason else SOFT_GAP_S
                assert began_us - last >= gap_s * SECOND


@contextmanager
def clinic(caps: tuple[int, int] = (1_800, 5_400)) -> Iterator[Clinic]:
    with tempfile.TemporaryDirectory() as folder:
        place = Clinic(Path(folder), *caps)
        yield place
        place.close()


# What may happen, drawn from times around every border

BORDERS = st.sampled_from([HARD_GAP_S * SECOND, SOFT_GAP_S * SECOND, DAY, WEEK])
UNTIL = st.builds(
    lambda border, off, back: ("until", border + off, back),
    BORDERS, st.sampled_from([-90 * SECOND, -1, 0, 1]), st.integers(0, 3),
)  # fmt: skip
OFF = st.one_of(st.integers(0, HOUR), st.integers(0, 3 * DAY))
ERRORS = st.one_of(
    st.just(0), st.sampled_from([-YEAR, YEAR, -DAY, DAY, -2 * SECOND, 2 * SECOND]),
    st.integers(-YEAR, YEAR),
)  # fmt: skip
PATIENTS = st.sampled_from(["P1", "P1", "P1", "P2"])

SESSION = st.tuples(st.just("session"), PATIENTS, st.booleans())
HONEST = st.one_of(
    SESSION, SESSION, UNTIL, UNTIL,
    st.tuples(st.just("wait"), OFF),
    st.tuples(st.just("restart")),
    st.tuples(st.just("reboot"), OFF, st.just(0)),
)  # fmt: skip
ANYTHING = st.one_of(
    SESSION, SESSION, UNTIL, UNTIL,
    st.tuples(st.just("half"), PATIENTS, st.sampled_from(["stop", "restart", "reboot"]), ERRORS),
    st.tuples(st.just("wait"), OFF),
    st.tuples(st.just("clock"), ERRORS),
    st.tuples(st.just("restart")),
    st.tuples(st.just("reboot"), OFF, ERRORS),
    st.tuples(st.just("resolve")),
)  # fmt: skip


def act(place: Clinic, what: tuple[object, ...]) -> None:
    """People do what a start needs before they ask for one; between, anything may happen."""
    match what:
        case ("session", str(patient), bool(reason)):
            place.make_ready()
            place.session(patient, reason=reason)
            place.end_session()
        case ("half", str(patient), str(end), int(error_us)):
            place.make_ready()
            place.session(patient, reason=True, blocks=1, error_us=error_us)
            if end == "restart":
                place.restart()
            elif end == "reboot":
                place.reboot(HOUR, error_us)
            place.end_session()
        case ("until", int(border_us), int(back)):
            place.wait_until("P1", border_us, back)
        case ("wait", int(us)):
            place.wait(us)
        case ("clock", int(error_us)):
            place.set_clock(error_us)
            place.session("P1", reason=True)  # refused, when the clock is wrong
            place.end_session()
        case ("restart",):
            place.restart()
        case ("reboot", int(off_us), int(error_us)):
            place.reboot(off_us, error_us)
            place.session("P1", reason=True)  # refused: nobody has looked at the clock
            place.end_session()
        case ("resolve",):
            place.resolve()
        case _:
            raise AssertionError(what)


EVERYTHING = list(HealthCheck)


@pytest.mark.parametrize("wrong_us", [-YEAR, 0, YEAR])
@pytest.mark.parametrize("off_us", [-90 * SECOND, -1, 0])
@pytest.mark.parametrize(
    ("caps", "window_us"), [((600, 6_000), DAY), ((600, 600), WEEK), ((6_000, 30_000), 0)]
)
def test_at_every_border_a_session_begins_neither_too_early_nor_too_late(
    caps: tuple[int, int], window_us: int, off_us: int, wrong_us: int
) -> None:
    """The clock goes wrong in the middle of the session before, and is put right later."""
    with clinic(caps) as place:
        place.make_ready()
        place.session("P1", reason=True, error_us=wrong_us)
        place.wait_until("P1", (window_us or HARD_GAP_S * SECOND) + off_us, 0)
        place.make_ready()
        place.session("P1", reason=True)
        assert len(place.begun) == (2 if off_us == 0 else 1), place.refused
        assert place.false == []
        place.check()


@pytest.mark.parametrize("end", ["restart", "reboot"])
@pytest.mark.parametrize("known", [False, True])
def test_a_session_that_was_cut_off_counts_until_somebody_knows(end: str, known: bool) -> None:
    """300 pulses are sure, 7 of the next block left, and 300 count until a person looks."""
    with clinic((1_200, 6_000)) as place:
        place.make_ready()
        act(place, ("half", "P1", end, YEAR))
        place.make_ready()
        if known:
            place.resolve()
        rig = place.rig
        assert rig is not None
        sure = end == "restart"  # the guard lived on to tell
        assert rig.engine.desk.history("P1").day_pulses == (307 if known or sure else 600)
        assert place.within("P1", DAY, place.true_us) == 307
        place.check()


@pytest.mark.parametrize("error_us", [-YEAR, -DAY, DAY, YEAR])
def test_a_clock_that_was_set_wrong_while_the_computer_was_off_frees_no_dose(
    error_us: int,
) -> None:
    with clinic() as place:
        place.make_ready()
        for _ in range(3):
            place.session("P1", reason=True)
            place.wait(HOUR)
        place.reboot(HOUR, error_us)
        place.session("P1", reason=True)
        assert place.refused == {"clock-unconfirmed": 1}
        place.make_ready()
        place.session("P1", reason=True)
        assert place.refused == {"clock-unconfirmed": 1, "day-pulses": 1}
        place.wait(22 * HOUR)
        place.session("P1", reason=True)
        assert len(place.begun) == 4
        place.check()


def test_twice_a_day_for_three_weeks_is_admitted_on_the_minute() -> None:
    """1,200 a day are 6,000 in five days: the week's cap of 5,400 takes effect, and then frees."""
    with clinic() as place:
        place.make_ready()
        for _ in range(21):
            for _ in range(2):
                place.make_ready()
                place.session("P1", reason=False)
                place.wait(6 * HOUR - 180 * SECOND)
            place.reboot(12 * HOUR, 0)
        place.check()
        assert place.false == []
        assert set(place.refused) == {"week-pulses"}
        assert len(place.begun) == 27  # nine sessions in any seven days


@settings(max_examples=8, deadline=None, suppress_health_check=EVERYTHING)
@given(caps=st.sampled_from(CAPS), acts=st.lists(ANYTHING, min_size=10, max_size=25))
def test_whatever_is_done_to_clocks_no_window_holds_more_and_no_gap_is_shorter(
    caps: tuple[int, int], acts: list[tuple[object, ...]]
) -> None:
    with clinic(caps) as place:
        place.make_ready()
        for what in acts:
            act(place, what)
        place.check()


@settings(max_examples=6, deadline=None, suppress_health_check=EVERYTHING)
@given(caps=st.sampled_from(CAPS), acts=st.lists(HONEST, min_size=10, max_size=25))
def test_with_clocks_that_are_right_nothing_is_refused_that_the_truth_allows(
    caps: tuple[int, int], acts: list[tuple[object, ...]]
) -> None:
    with clinic(caps) as place:
        for what in acts:
            act(place, what)
        place.check()
        assert place.false == []
        assert not place.refused.keys() - DOSE_CODES - {"clock-unconfirmed"}
