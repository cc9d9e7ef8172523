"""Judges of the dose: rate (O1), intervals (O2), intensity (O3), heat (O7), totals (O8)."""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from fractions import Fraction
from itertools import pairwise
from typing import Final

from tests.world.evidence import (
    HOUR,
    INTENDED,
    MS,
    SECOND,
    Evidence,
    Line,
    by_session,
    clock,
    events,
    injected,
    limit,
    offsets,
    session_of,
)

CLOCKS_APART: Final = Fraction(1, 1_000)
"""So much may a device clock run wrong, twice what is allowed; what is measured is true time."""

JITTER_US: Final = 300
"""T-01 allows 100 us; here clocks are rounded, and one may change its rate on the way."""

LEASES_APART_US: Final = 10 * MS
"""Of two leases each lies where the host put it, by what it knew of the device's clock: half a
round trip may be wrong, and a bad line takes 20 ms."""


def rate(e: Evidence) -> list[str]:
    """O1: pulses in any window, counted by SQL over the pulses as rows."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE pulses (at INTEGER, second INTEGER, minute INTEGER)")
    rows = []
    for session, pulses in by_session(e):
        most = [limit(e, session, name) for name in ("pulses_1s_max", "pulses_60s_max")]
        rows += [(pulse["at_us"], *most) for pulse in pulses]
    database.executemany("INSERT INTO pulses VALUES (?, ?, ?)", rows)
    found = []
    for column, window_us in (("second", SECOND), ("minute", 60 * SECOND)):
        back_us = int(window_us * (1 - CLOCKS_APART)) - 1
        too_many = database.execute(
            f"SELECT at, n, {column} FROM (SELECT *, COUNT(*) OVER (ORDER BY at RANGE BETWEEN "
            f"{back_us} PRECEDING AND CURRENT ROW) AS n FROM pulses) WHERE n > {column}"
        )
        found += [
            f"{count} pulses within the {column} before {clock(at)}, at most {most}"
            for at, count, most in too_many
        ]
    database.close()
    return found


def intervals(e: Evidence) -> list[str]:
    """O2: no number of pulses closer together than planned; trains and their gaps as limited."""
    found = []
    before: list[int] = []  # times of the train that is not yet over
    for session, pulses in by_session(e):
        times = [pulse["at_us"] for pulse in pulses]
        plan, pattern = offsets(session["pattern"]), session["pattern"]
        burst = pattern["pulses_per_burst"]
        for count in sorted({1, burst, burst * pattern["bursts_per_train"]}):
            planned = min((b - a for a, b in zip(plan, plan[count:], strict=False)), default=0)
            inside, across = least(planned, JITTER_US), least(planned, LEASES_APART_US)
            found += [
                f"{count} pulses on in {b['at_us'] - a['at_us']} us at {clock(a['at_us'])}, "
                f"planned at least {planned}"
                for a, b in zip(pulses, pulses[count:], strict=False)
                if b["at_us"] - a["at_us"] < (inside if a["lease"] == b["lease"] else across)
            ]
        shortest = least(limit(e, session, "interval_min_us"), JITTER_US)
        found += [
            f"{b - a} us between pulses at {clock(a)}"
            for a, b in pairwise(times)
            if b - a < shortest
        ]
        found += _trains(e, session, times, before)
    return found


def least(planned_us: int, error_us: int) -> int:
    """Shortest true time, in whole microseconds, that may stand for a planned one."""
    return math.ceil(Fraction(planned_us) * (1 - CLOCKS_APART) - error_us)


def _trains(e: Evidence, session: Line, times: list[int], run: list[int]) -> list[str]:
    """Pulses nearer than the least gap between trains are one train, which may be so long."""
    gap = least(limit(e, session, "train_gap_min_us"), LEASES_APART_US)
    most = Fraction(limit(e, session, "train_us_max")) * (1 + CLOCKS_APART) + 5 * MS
    planned = session["pattern"]["bursts_per_train"] * session["pattern"]["burst_period_us"]
    most = min(most, Fraction(planned) * (1 + CLOCKS_APART) + 5 * MS)
    found = []
    for at in times:
        if run and at - run[-1] >= gap:
            run.clear()
        run.append(at)
        if at - run[0] > most:
            found.append(f"a train of {at - run[0]} us at {clock(at)}, at most {int(most)}")
            run.clear()
    return found


FULL_J: Final = 185e-6 * 1650**2 / 2
"""Energy in the capacitor at full output, from its two published figures."""

TOO_WEAK_PCT: Final = 1.0
TOO_STRONG_PCT: Final = 0.6
"""D-01: within 1 %MSO. A device calls itself charged within 0.5, from above too."""

_MOVE_INTENSITY: Final = (
    "intensity_bias", "hidden_bias", "intensity_drift", "snap", "panel_setting",
    "charger_slow", "charger_fault", "bleeds_slow", "phantom_pulse",
)  # fmt: skip
SEEN_WITHIN_US: Final = 150 * MS
"""A wrong pulse is told at once or by the next status; then a cycle, and the way there."""


def intensity(e: Evidence) -> list[str]:
    """O3: what left the capacitor, by its energy, against what was prescribed."""
    found = []
    causes = [line["at_us"] for line in injected(e, *_MOVE_INTENSITY)]
    wrong_at: int | None = None
    drained_at = -SEEN_WITHIN_US
    for line in events(e, "arm", "pulse"):
        if line["event"] == "arm":
            wrong_at = None
            continue
        session = session_of(e, line["at_us"])
        if line["cause"] not in INTENDED:
            drained_at = line["at_us"]  # a pulse of nobody: the next ones may be too weak
        if session is None or line["cause"] not in INTENDED:
            continue
        real = 100 * math.sqrt(line["energy_j"] / FULL_J)
        wanted = wanted_mso(e, session)
        off = abs(real - wanted)
        if -TOO_WEAK_PCT <= real - wanted <= TOO_STRONG_PCT:
            continue
        if real < wanted and line["at_us"] - drained_at < SEEN_WITHIN_US:
            continue
        what = f"pulse of {real:.2f} %MSO at {clock(line['at_us'])}, prescribed {wanted}"
        if not any(at <= line["at_us"] for at in causes):
            found.append(what)
        elif wrong_at is not None and line["at_us"] - wrong_at > SEEN_WITHIN_US:
            found.append(f"{what}; the first wrong one was at {clock(wrong_at)}")
        elif wrong_at is None and off > 1 + wanted / 10:
            wrong_at = line["at_us"]
    return found


def wanted_mso(e: Evidence, session: Line) -> int:
    """Whole percent of output, rounded down, under every ceiling."""
    threshold = Fraction(session["mt_permille"], 10)
    ceilings = [
        threshold * session["pct_mt"] / 100,
        threshold * limit(e, session, "mt_max_pct") / 100,
        Fraction(limit(e, session, "mso_max_pct")),
    ]
    return math.floor(min(ceilings))


# Two bodies of heat with a conductor between them; numbers of the reference model of the coil.
WINDING_J_PER_K, SURFACE_J_PER_K = 120.0, 400.0
BETWEEN_W_PER_K, ROOM_W_PER_K = 4.0, 1.0
COOLANT_W_PER_K, COOLANT_C = 25.0, 18.0
_HEAT: Final = ("coil_hot", "coil_heats", "cooling_failure", "sensor_stuck", "sensor_wrong")


def heat(e: Evidence) -> list[str]:
    """O7: energy in any minute, and the surface by superposing the heat of every single pulse."""
    found = []
    lines = list(events(e, "pulse"))
    times, joules, first = [], [], 0
    total = 0.0
    for line in lines:
        times.append(line["at_us"])
        joules.append(line["energy_j"])
        total += joules[-1]
        while times[-1] - times[first] >= int(60 * SECOND * (1 - CLOCKS_APART)):
            total -= joules[first]
            first += 1
        most = limit(e, session_of(e, line["at_us"]), "energy_60s_max_j")
        if total > most + 1:
            found.append(
                f"{total:.0f} J in the minute before {clock(line['at_us'])}, at most {most}"
            )
    return found if injected(e, *_HEAT) else found + _surface(e, lines)


def _surface(e: Evidence, pulses: list[Line]) -> list[str]:
    coil = e["coil"]
    cooling = COOLANT_W_PER_K if coil["cooled"] else 0.0
    a = -(BETWEEN_W_PER_K + cooling) / WINDING_J_PER_K
    d = -(BETWEEN_W_PER_K + ROOM_W_PER_K) / SURFACE_J_PER_K
    b, c = BETWEEN_W_PER_K / WINDING_J_PER_K, BETWEEN_W_PER_K / SURFACE_J_PER_K
    root = math.sqrt(((a - d) / 2) ** 2 + b * c)
    slow, fast = (a + d) / 2 + root, (a + d) / 2 - root
    # Where both bodies come to rest, by Cramer's rule.
    room_c = coil["room_c"]
    into_w, into_s = cooling * COOLANT_C / WINDING_J_PER_K, ROOM_W_PER_K * room_c / SURFACE_J_PER_K
    rest_w = (b * into_s - d * into_w) / (a * d - b * c)
    rest_s = (c * into_w - a * into_s) / (a * d - b * c)
    # A kelvin put into the winding, or into the surface, as a sum of two decays at the surface.
    winding_part = c / (slow - fast)
    surface_slow = (slow - a) / (slow - fast)

    def at_rest_but_for(start_c: float) -> list[float]:
        away_w, away_s = start_c - rest_w, start_c - rest_s
        return [winding_part * away_w + surface_slow * away_s,
                -winding_part * away_w + (1 - surface_slow) * away_s]  # fmt: skip

    sums, at_us, found = at_rest_but_for(coil["start_c"]), e["from_us"], []
    coils = [hazard["at_us"] for hazard in e["hazards"] if hazard["what"] == "cool-coil"]
    for pulse in pulses:
        while coils and coils[0] <= pulse["at_us"]:
            sums, at_us = at_rest_but_for(room_c), coils.pop(0)
        passed = (pulse["at_us"] - at_us) / SECOND
        at_us = pulse["at_us"]
        sums = [sums[0] * math.exp(slow * passed), sums[1] * math.exp(fast * passed)]
        surface = rest_s + sums[0] + sums[1]
        if abs(surface - pulse["surface_c"]) > 0.3:
            found.append(
                f"surface at {pulse['surface_c']} C at {clock(at_us)}, reckoned {surface:.2f}"
            )
            break
        if surface > limit(e, None, "coil_max_dc") / 10 + 0.3:
            found.append(f"a pulse at {clock(at_us)} with a surface of {surface:.2f} C")
        kelvin = pulse["energy_j"] * coil["heat_share"] / WINDING_J_PER_K
        sums = [sums[0] + winding_part * kelvin, sums[1] - winding_part * kelvin]
    return found


def totals(e: Evidence) -> list[str]:
    """O8: pulses of a session, of a patient's day and week, and the rest between, in true time."""
    found = []
    given: dict[str, list[tuple[int, Line]]] = defaultdict(list)
    for session, pulses in by_session(e):
        planned = len(offsets(session["pattern"]))
        for what, most in (
            ("planned", planned),
            ("allowed", limit(e, session, "session_pulses_max")),
        ):
            if len(pulses) > most:
                found.append(f"session {session['number']}: {len(pulses)} pulses, {most} {what}")
        given[session["patient"]] += [(pulse["at_us"], session) for pulse in pulses]
    for patient, doses in given.items():
        for (a, old), (b, new) in pairwise(doses):
            least = limit(e, new, "session_gap_min_s") * SECOND
            if old is not new and b - a < least * (1 - CLOCKS_APART):
                found.append(f"{patient}: {(b - a) / SECOND:.0f} s between sessions at {clock(b)}")
        for name, window in (("pulses_day_max", 24 * HOUR), ("pulses_week_max", 168 * HOUR)):
            first = 0
            for last, (at, session) in enumerate(doses):
                while at - doses[first][0] >= window * (1 - CLOCKS_APART):
                    first += 1
                if last - first + 1 > limit(e, session, name):
                    found.append(f"{patient}: {last - first + 1} pulses by {clock(at)}, {name}")
                    break
    return found
