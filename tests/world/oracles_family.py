"""Judges of the stimulators that laboratories own, whose lines carry no names and no numbers.

They read what left the capacitor, what the host wrote, what tmsd was told and granted, and what
was done to unit, line and host. A pulse belongs to the newest trigger before it. What the line
itself can make of a trigger, a late one or one more, is pardoned while it does so, and nothing
else is. Rate and intervals are judged by O1 and O2 of every other story.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Final, TypedDict, cast

from tests.world import oracles_dose
from tests.world.evidence import MS, SECOND, Evidence, Line, clock
from tests.world.oracles_dose import FULL_J


class FamilyEvidence(TypedDict):
    """One story. All instants are the host's, in microseconds."""

    lines: list[Line]  # ground truth, each with at_us
    triggers: list[tuple[int, int]]  # when the host wrote one, and in which life of the guard
    wants: list[Line]  # intents of tmsd: life, block, pulses, granted_us, ended_us, counted
    transitions: list[tuple[int, int, str, str]]  # at_us, life, state after, cause
    hazards: list[Line]  # what was done: kind, value, at_us, until_us
    sessions: list[Line]  # as Evidence has them
    general: dict[str, int]  # limits
    mso: int  # prescribed
    burst_us: int  # of one trigger, first pulse to last
    calm_us: int  # from here on nothing is injected
    again_us: int | None  # the first pulse after that, if any


REPEATS: Final = ("rx_duplicate", "rx_replay", "rx_revolving", "rx_reorder", "rx_garbage")
DELAYS: Final = (
    "rx_late", "rx_jitter", "rx_merge", "rx_split", "rx_reorder", "rx_replay", "rx_revolving",
    "rx_drop_byte", "clock_drift_ppm",
)  # fmt: skip
PANEL: Final = ("panel_mode", "panel_waveform", "panel_interval")
"""Somebody sets what one trigger gives. What is triggered before it is told is another pulse, whose
count tests/conformance/test_driver_panels.py judges."""

BIASES: Final = ("intensity_bias", "hidden_bias", "intensity_drift")
PULSE_US: Final = 30 * MS
"""From the first byte of the command to the pulse: 3 ms on the wire and up to 15 ms in the unit."""

KNOB_US: Final = 300 * MS
"""A knob that somebody turns is told within the age of a status, and stops the session."""


PERSON_US: Final = 500 * MS
"""The person of the stories looks twice a second, and a unit takes longer to be armed."""

FOREIGN: Final = ("external_trigger", "spontaneous_pulse", "phantom_pulse", "extra_pulse")
NEAR_US: Final = 600 * MS
"""A pulse so near to a trigger of the host may be taken for its own, and counts as that."""

SHOWN_US: Final = 100 * MS
"""A unit that tells of a pulse only by charging anew must have shown for so long that it was."""

NOTICED_US: Final = 500 * MS
"""Twice the greatest age of a status."""


def hit(e: FamilyEvidence, at_us: int, kinds: tuple[str, ...], after_us: int = 0) -> list[Line]:
    """Hazards of these kinds that were there at an instant, or until shortly before."""
    return [
        hazard
        for hazard in e["hazards"]
        if hazard["kind"] in kinds and hazard["at_us"] <= at_us <= hazard["until_us"] + after_us
    ]


def commanded(e: FamilyEvidence) -> list[tuple[Line, int]]:
    """Pulses that a command of the host let go, each with the number of its trigger; -1 for what
    the line made of one."""
    at_us = [at for at, _ in e["triggers"]]
    found = []
    for line in e["lines"]:
        if line["event"] != "pulse" or line["cause"] != "fire":
            continue
        number = bisect_right(at_us, line["at_us"]) - 1
        late = number < 0 or line["at_us"] > at_us[number] + PULSE_US + e["burst_us"]
        strange = late and hit(e, line["at_us"], REPEATS + DELAYS, SECOND)
        strange = strange or hit(e, line["at_us"], PANEL, KNOB_US)
        found.append((line, -1 if strange else number))
    return found


def strength(e: FamilyEvidence) -> list[str]:
    """No pulse above what is prescribed, by its energy; a fault's own bias aside, and a trigger
    that the line itself gave again, at whatever a person had turned the knob to since."""
    found = []
    for line, number in commanded(e):
        if number < 0 and hit(e, line["at_us"], REPEATS, SECOND):
            continue
        real, most = 100 * math.sqrt(line["energy_j"] / FULL_J), float(e["mso"])
        for hazard in hit(e, line["at_us"], ("panel_setting",), KNOB_US):
            most += max(0, hazard["value"])
        if hit(e, line["at_us"], BIASES + PANEL, KNOB_US):
            continue  # what it does to a pulse is its own
        if real > most + 1:
            found.append(f"{real:.2f} %MSO at {clock(line['at_us'])}, prescribed {e['mso']}")
    return found


def granted(e: FamilyEvidence) -> list[str]:
    """Each trigger is of a block that was granted and had neither a trigger nor an end; and each
    pulse is of a trigger, in its time, and not one too many."""
    found, owners = [], owners_of(e)
    left: dict[int, int] = {}
    for number, want in enumerate(owners):
        if want is None:
            at = e["triggers"][number][0]
            found.append(f"a trigger at {clock(at)} of no block that was granted and open")
    for line, number in commanded(e):
        if number < 0:
            continue
        at = line["at_us"]
        left[number] = left.get(number, 0) + 1
        want = owners[number]
        if at > e["triggers"][number][0] + PULSE_US + e["burst_us"]:
            found.append(f"a pulse at {clock(at)}, of no trigger")
        elif (
            want is not None
            and left[number] > want["pulses"]
            and not hit(e, at, REPEATS + DELAYS, SECOND)
        ):
            found.append(f"pulse {left[number]} of {want['pulses']} at {clock(at)}")
    return found


def owners_of(e: FamilyEvidence) -> list[Line | None]:
    """The block of each trigger: the newest that was granted before it, and open."""
    spent: set[int] = set()
    owners: list[Line | None] = []
    for at, life in e["triggers"]:
        open_ones = [
            number
            for number, want in enumerate(e["wants"])
            if want["life"] == life
            and number not in spent
            and want["granted_us"] is not None
            and want["granted_us"] <= at
            and (want["ended_us"] is None or want["ended_us"] >= at)
        ]
        spent |= set(open_ones[:1])
        owners.append(e["wants"][open_ones[0]] if open_ones else None)
    return owners


def counted(e: FamilyEvidence) -> list[str]:
    """Every pulse that left counts: of each block at least as many as left."""
    found, owners = [], owners_of(e)
    left: dict[int, int] = {}
    for line, number in commanded(e):
        if number >= 0 and not hit(e, line["at_us"], REPEATS, SECOND):
            left[number] = left.get(number, 0) + 1
    for number, pulses in left.items():
        want, at = owners[number], e["triggers"][number][0]
        if want is not None and pulses > want["counted"]:
            found.append(f"{pulses} pulses of the trigger at {clock(at)}, {want['counted']} count")
    return found


def permitted(e: FamilyEvidence) -> list[str]:
    """A trigger is written only while the guard is ARMED, and never after a STOP."""
    found = []
    for stop in e["hazards"]:
        for at, _ in e["triggers"] if stop["kind"] == "stop" else []:
            if stop["at_us"] < at <= stop["at_us"] + PERSON_US:
                found.append(f"a trigger at {clock(at)}, after STOP at {clock(stop['at_us'])}")
    at_us = [at for at, _, _, _ in e["transitions"]]
    for at, life in e["triggers"]:
        # At the instant of a transition both states hold: what of the two came first is not known.
        first, last = bisect_left(at_us, at) - 1, bisect_right(at_us, at) - 1
        states = e["transitions"][max(0, first) : last + 1]
        if not any(state[1:3] == (life, "ARMED") for state in states):
            said = " and ".join(f"{state[2]} since {clock(state[0])}" for state in states)
            found.append(f"a trigger at {clock(at)}, in {said or 'no state'}")
    return found


def noticed(e: FamilyEvidence) -> list[str]:
    """A pulse that nobody here asked for ends the session, where unit, line and host let see it."""
    found = []
    at_us = [at for at, _, _, _ in e["transitions"]]
    asked = [at for at, _ in e["triggers"]]
    for line in e["lines"]:
        at = line["at_us"]
        if line["event"] != "pulse" or line["cause"] == "fire":
            continue
        ready = [it["at_us"] for it in e["lines"] if it["event"] == "ready" and it["at_us"] <= at]
        if ready and at - ready[-1] < SHOWN_US:
            continue
        near = bisect_right(asked, at + NEAR_US) - bisect_right(asked, at - NEAR_US)
        hurt = [h for h in e["hazards"] if h["at_us"] <= at + SECOND <= h["until_us"] + 2 * SECOND
                and h["kind"] not in FOREIGN]  # fmt: skip
        number = bisect_right(at_us, at + NOTICED_US) - 1
        if number < 0 or near or hurt or e["transitions"][number][2] != "ARMED":
            continue
        found.append(f"a pulse of {line['cause']} at {clock(at)}, and it is still ARMED")
    return found


def pace(e: FamilyEvidence) -> list[str]:
    """O1 and O2, for the pulses whose command the line did not hold up."""
    lines = [
        {**line, "lease": number}
        for line, number in commanded(e)
        if number >= 0 and not hit(e, line["at_us"], REPEATS + DELAYS, SECOND)
    ]
    other = cast(
        Evidence,
        {"lines": lines, "sessions": e["sessions"], "general": e["general"], "soft": {},
         "site": {}},
    )  # fmt: skip
    return oracles_dose.rate(other) + oracles_dose.intervals(other)


def spared(e: FamilyEvidence) -> list[str]:
    """No train of the host is more than the supply of a Rapid² bears, which damages it."""
    return [
        f"overdriven at {clock(line['at_us'])}"
        for line in e["lines"]
        if line.get("cause") == "overdriven" and line["by"] == "fire"
    ]


def usable(e: FamilyEvidence) -> list[str]:
    """After the last fault a session can be started again."""
    return [] if e["again_us"] is not None else [f"no pulse after {clock(e['calm_us'])}"]


FAMILY_ORACLES: Final[dict[str, Callable[[FamilyEvidence], list[str]]]] = {
    "strength": strength,
    "granted": granted,
    "counted": counted,
    "permitted": permitted,
    "noticed": noticed,
    "pace": pace,
    "spared": spared,
    "usable": usable,
}


def judge_family(e: FamilyEvidence) -> dict[str, list[str]]:
    """What each judge found wrong; judges that found nothing are left out."""
    found: dict[str, list[str]] = {name: oracle(e) for name, oracle in FAMILY_ORACLES.items()}
    return {name: wrong for name, wrong in found.items() if wrong}
