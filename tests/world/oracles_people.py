"""Judges of what people see: ledger (O4), permission (O6), availability (O10), recovery (O16)."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from typing import Final

from tests.world.evidence import (
    MS,
    SECOND,
    Evidence,
    Line,
    by_session,
    clock,
    events,
    injected,
    intended,
    limit,
    offsets,
)
from tests.world.oracles_dose import FULL_J, wanted_mso

_MISCOUNT: Final = (
    "phantom_pulse", "extra_pulse", "counter_jump", "counter_rollover", "spontaneous_pulse",
    "missing_pulse", "reboot",
)  # fmt: skip


def ledger(e: Evidence) -> list[str]:
    """O4: every pulse was intended on disk before it was commanded, and is counted after."""
    found = []
    rows = e["ledger"]
    on_disk = dict(zip((row["id"] for row in rows["intents"]), e["intents_at"], strict=False))
    intents = {(row["guard_pid"], row["block"]): row for row in rows["intents"]}
    outcomes = {row["intent"]: row for row in rows["outcomes"]}
    resolved = {row["intent"]: row for row in rows.get("resolutions", ())}
    commanded: dict[tuple[int, int], tuple[int, int]] = {}  # device session, lease: pid, when
    for at_us, _, name, session, _, values in e["heard"]:
        if name in ("Train", "Fire"):
            commanded.setdefault((session, values[0]), (_guard_at(e, at_us), at_us))
    left: Counter[int] = Counter()
    for pulse in intended(e):
        pid, at_us = commanded.get((pulse["session"], pulse["lease"]), (0, 0))
        intent = intents.get((pid, pulse["lease"]))
        if intent is None:
            found.append(f"pulse at {clock(pulse['at_us'])}: no intent of guard {pid} for it")
        elif on_disk.get(intent["id"], at_us + 1) > at_us:
            found.append(f"pulse at {clock(pulse['at_us'])}: commanded before its intent")
        else:
            left[intent["id"]] += 1
    sure = not injected(e, *_MISCOUNT)
    for intent in rows["intents"]:
        number, outcome = intent["id"], outcomes.get(intent["id"])
        counted = intent["pulses"]
        if outcome is not None:
            counted = outcome["delivered"] + outcome["unknown"]
        if number in resolved:
            counted = resolved[number]["delivered"]
        if counted < left[number]:
            found.append(f"intent {number}: {left[number]} pulses left, {counted} count")
        certain = outcome is not None and outcome["outcome"] != "unknown"
        if outcome is not None and not certain and number not in resolved:
            whole = intent["pulses"] - outcome["skipped"]
            if counted < whole:
                found.append(f"intent {number}: unknown, but {counted} of {whole} pulses count")
        if certain and sure and counted != left[number]:
            found.append(f"intent {number}: {left[number]} pulses left, {counted} told")
        if left[number] > intent["pulses"]:
            found.append(f"intent {number}: {left[number]} pulses, {intent['pulses']} intended")
    return found


def _guard_at(e: Evidence, at_us: int) -> int:
    """The guard whose word arrives at this instant: the newest that had begun."""
    pid = 0
    for life in e["guards"]:
        if life["from_us"] <= at_us:
            pid = life["pid"]
    return int(pid)


# What was done: how long it must last to count, and when the last pulse must have left.
_MUST_STOP: Final = {
    "guard-stall": (60 * MS, 55 * MS),
    "suspend": (60 * MS, 55 * MS),
    "guard-kill": (0, 55 * MS),
    "power-loss": (0, 55 * MS),
    "tmsd-kill": (0, 70 * MS),
    "tmsd-end": (0, 70 * MS),
    "tmsd-stall": (1_200 * MS, 1_100 * MS),
    "unplug": (80 * MS, 55 * MS),
    "cut": (150 * MS, 145 * MS),
}
_DEVICE_MUST_STOP: Final = {
    "spontaneous_pulse": 150 * MS,
    "extra_pulse": 150 * MS,
    "disarms_itself": 1 * MS,
    "charger_fault": 1 * MS,
    "coil_absent": 1 * MS,
    "disconnect": 55 * MS,
    "usb_reset": 1 * MS,
}
PRESENCE_US: Final = 60 * SECOND
CONFIRMED_US: Final = 10 * SECOND
SLACK_US: Final = 80 * MS
"""To the guard's next cycle and through the line, also when that loses a STOP."""

_FORBIDDEN: Final = (
    ("armed without a confirmation of its own", r"(?:^|a)[^C]*a"),
    ("armed without a self-test of this guard on this device", r"(?:^|[zg])[^T]*a"),
    ("armed after STOP without an acknowledgement", r"S[^Kb]*a"),
    ("armed on an old confirmation", r"O[^C]*a"),
    ("a pulse where nothing was armed", r"(?:^|[drzXE])[^a]*p"),
    ("a pulse without presence", r"(?:^|N)[^P]*p"),
)
HIDES_US: Final = 1_010 * MS
"""One pulse too many behind one that is missing: the sum is right until the next one is told. The
longest interval of a story is 1 s, and longer by the clock of a slow device."""

SELF_TEST_MSO: Final = 1
CYCLE_GAP_US: Final = 40 * MS


def permission(e: Evidence) -> list[str]:
    """O6: a regular language over all that happened, a letter for each event.

    From the device: a armed, q armed for a self-test, p pulse, d disarmed, r new session, z power.
    From people: C confirmed, T self-test passed, K acknowledged, S STOP, P sign of presence,
    E ended or paused; O and N when a confirmation or presence has run out. g: another guard.
    X: by now it must have stopped. b: the computer was switched off, and everything begins anew.
    """
    letters = sorted([*_from_device(e), *_from_people(e), *_from_world(e)])
    text = "".join(letter for _, letter in letters)
    found = []
    for what, pattern in _FORBIDDEN:
        hit = re.search(pattern, text)
        if hit is not None:
            at_us = letters[hit.end() - 1][0]
            found.append(f"{what} at {clock(at_us)}: ...{hit.group()[-40:]}")
    return found


def _from_device(e: Evidence) -> list[tuple[int, str]]:
    names = {"disarm": "d", "remote": "r", "boot": "z"}
    letters = [(line["at_us"], names[line["event"]]) for line in events(e, *names)]
    letters += [(pulse["at_us"], "p") for pulse in intended(e)]
    # What was asked for, not what the device made of it, tells a self-test from a session.
    asked = iter([(at, values[0]) for at, _, name, _, _, values in e["heard"] if name == "Arm"])
    wish, after = (0, 0), next(asked, None)
    for line in events(e, "arm"):
        while after is not None and after[0] <= line["at_us"]:
            wish, after = after, next(asked, None)
        letters.append((line["at_us"], "a" if wish[1] > SELF_TEST_MSO else "q"))
    return letters


def _from_people(e: Evidence) -> list[tuple[int, str]]:
    letters = []
    signs, confirmations = [], []
    for ask in e["asks"]:
        what, ok = ask["what"], ask["answer"] == "ok"
        if what in ("start", "resume") and ask["sent"]:
            confirmations.append(ask["at_us"])
            signs.append(ask["at_us"])
        elif what == "present" and ok:
            signs.append(ask["at_us"])
        elif what == "self-test" and ok:
            letters.append((ask["answered_us"], "T"))
        elif what == "self-test" and ask["sent"] and ask["answer"] != "self-test-failed":
            letters += [(at, "T") for at in _proven_at(e, ask["at_us"])]  # and nobody was told
        elif what == "acknowledge" and ok:
            letters.append((ask["at_us"], "K"))
        elif what == "stop" and ok:
            letters.append((ask["at_us"] + SLACK_US, "S"))
        elif what in ("pause", "end") and ok:
            letters.append((ask["answered_us"] + SLACK_US, "E"))
    for mine, letter, runs_out, lasts in (
        (signs, "P", "N", PRESENCE_US),
        (confirmations, "C", "O", CONFIRMED_US),
    ):
        for at, after in zip(mine, [*mine, e["until_us"] + lasts][1:], strict=True):
            letters.append((at, letter))
            if after - at > lasts + SLACK_US:
                letters.append((at + lasts + SLACK_US, runs_out))
    return letters


def _proven_at(e: Evidence, since_us: int) -> list[int]:
    """When the device, armed next, had fallen to its dead-man and then to a STOP; if ever."""
    falls = [line for line in events(e, "disarm") if line["at_us"] >= since_us][:2]
    both = [fall["cause"] for fall in falls] == ["DEAD_MAN", "HOST_STOP"]
    return [falls[1]["at_us"]] if both else []


def _from_world(e: Evidence) -> list[tuple[int, str]]:
    letters = [(life["from_us"], "g") for life in e["guards"]]
    arms = [line["at_us"] for line in events(e, "arm")]
    for hazard in e["hazards"]:
        if hazard["what"] in ("power-loss", "night"):
            letters.append((hazard["at_us"] + SLACK_US, "b"))
        least, after = _MUST_STOP.get(hazard["what"], (0, 0))
        lasted = max(0, hazard["until_us"] - hazard["at_us"])
        if after and lasted >= least:
            letters.append((hazard["at_us"] + after, "X"))
        elif hazard["what"] == "guard-stall" and lasted > CYCLE_GAP_US:  # the guard sees it itself
            # What is armed after it was not armed while it stood still.
            ended = hazard["until_us"]
            again = (at for at in arms if ended < at < ended + SLACK_US)
            letters.append((next(again, ended + SLACK_US), "X"))
    missing = [line["at_us"] for line in injected(e, "missing_pulse", "no_fire")]
    for line in injected(e, *_DEVICE_MUST_STOP):
        at, by = line["at_us"], line["at_us"] + _DEVICE_MUST_STOP[line["kind"]]
        if any(at - HIDES_US <= other <= at for other in missing):
            by += HIDES_US
            for other in missing:  # those behind it are not told either
                by += HIDES_US if at < other <= by else 0
        letters.append((by, "X"))
    return letters


BEGINS_WITHIN_US: Final = 8 * SECOND
"""Charging to full output takes 1 s, settling another; the rest is the way through the programs."""

ON_TIME_US: Final = 300
EXPLAINS_FOR_US: Final = 30 * SECOND
COOLS_WITHIN_US: Final = 600 * SECOND
"""An uncooled coil that has reached the device's own limit is too hot for so long at most."""


def availability(e: Evidence) -> list[str]:
    """O10: what is legal happens, on time; every refusal has a reason."""
    found = []
    for ask in e["asks"]:
        answer, wanted = ask["answer"], ask["wanted"]
        right = answer in wanted if wanted else answer == "ok"
        if not right and (answer == "ok" or not _explained(e, ask)):
            found.append(
                f"{ask['what']} at {clock(ask['at_us'])}: {answer or 'no answer'}, "
                f"awaited {' or '.join(wanted) or 'ok'}"
            )
    if not e["quiet"]:
        return found
    earlier: list[int] = []
    for session, pulses in by_session(e):
        times = [pulse["at_us"] for pulse in pulses]
        plan = offsets(session["pattern"])
        if session["ended_by"] == "complete" and len(times) != len(plan):
            found.append(f"session {session['number']}: {len(times)} of {len(plan)} pulses")
        elif session["ended_by"] not in ("complete", "person", "open"):
            found.append(f"session {session['number']} ended by itself: {session['ended_by']}")
        elif not session["touched"]:
            found += _on_time(e, session, times, plan, earlier)
        earlier += times
    return found


def _explained(e: Evidence, ask: Line) -> bool:
    """Was something done to the world shortly before, or was a proof really missing?"""
    if ask["answer"] == "self-test-missing":
        lives = [life["from_us"] for life in e["guards"] if life["from_us"] <= ask["at_us"]]
        lives += [line["at_us"] for line in events(e, "boot") if line["at_us"] <= ask["at_us"]]
        proven = (a["at_us"] for a in e["asks"] if (a["what"], a["answer"]) == ("self-test", "ok"))
        return not any(max(lives) <= at <= ask["at_us"] for at in proven)
    if ask["what"] == "prepare" and _too_much(e, ask):
        return True
    if ask["answer"] == "journal-failed":  # until somebody mends the disk, however long that takes
        broken = (h["at_us"] for h in e["hazards"] if h["what"] == "disk-failure")
        return any(at <= (ask["answered_us"] or e["until_us"]) for at in broken)
    since, until = ask["at_us"] - EXPLAINS_FOR_US, ask["answered_us"] or e["until_us"]
    if ask["answer"] in ("counter-disagrees", "ledger-counter"):  # once apart, they stay apart
        since = min(since, _agreed_at(e, ask["at_us"]))
    done = [(h["at_us"], h["until_us"]) for h in e["hazards"]]
    done += [(line["at_us"], 0) for line in events(e, "injected", "boot")]
    done += [(a["at_us"], 0) for a in e["asks"] if a["what"] == "stop"]
    hot = (line["at_us"] for line in events(e, "fault") if line["cause"] == "COIL_HOT")
    if ask["answer"] == "coil-hot" and any(at <= until <= at + COOLS_WITHIN_US for at in hot):
        return True
    heated = any(line["at_us"] <= until for line in injected(e, "coil_hot", "coil_heats"))
    return heated or any(since <= at <= until or at <= since <= end for at, end in done)


def _agreed_at(e: Evidence, before_us: int) -> int:
    """When the device's counter and the ledger were last found to agree."""
    found = (
        a["at_us"]
        for a in e["asks"]
        if a["answer"] == "ok" and a["what"] in ("start", "accept-counter")
    )
    return max((at for at in found if at < before_us), default=e["from_us"])


def _too_much(e: Evidence, ask: Line) -> bool:
    """Is what was asked for really beyond the limit that the refusal names?"""
    order = ask["order"] | {"reason": True}
    plan, pattern = offsets(order["pattern"]), order["pattern"]
    joules = FULL_J * (wanted_mso(e, order) / 100) ** 2
    match ask["answer"]:
        case "energy":
            minute = max(bisect_left(plan, at + 60 * SECOND) - i for i, at in enumerate(plan))
            return minute * joules > limit(e, order, "energy_60s_max_j")
        case "train-rest":
            pulses = pattern["pulses_per_burst"] * pattern["bursts_per_train"]
            watt = pulses * joules / (pattern["train_period_us"] / SECOND)
            return watt > limit(e, order, "power_max_w")
        case "session-pulses":
            return len(plan) > limit(e, order, "session_pulses_max")
        case "session-gap" | "day-pulses" | "week-pulses":
            before = (s for s in e["sessions"] if s["at_us"] <= ask["at_us"])
            return any(session["patient"] == order["patient"] for session in before)
    return False


def _on_time(
    e: Evidence, session: Line, times: list[int], plan: list[int], earlier: list[int]
) -> list[str]:
    soonest = session["at_us"]
    forgotten = soonest + 90 * SECOND  # every window; those before it are another judge's affair
    recent = [at for at in earlier if soonest - at < 90 * SECOND]
    while recent and soonest < forgotten and not _feasible(e, session, recent, soonest, plan):
        soonest += SECOND // 2
    begun = times[0] if times else e["until_us"]
    if begun > soonest + BEGINS_WITHIN_US:
        return [f"session {session['number']} began {(begun - soonest) / SECOND:.1f} s late"]
    due_by_now = bisect_left(plan, e["until_us"] - begun - SECOND)
    if len(times) < due_by_now:
        return [f"session {session['number']}: {len(times)} pulses, {due_by_now} were due"]
    late = [
        at - times[0] - due
        for at, due in zip(times, plan, strict=False)
        if abs(at - times[0] - due) > ON_TIME_US + due // 1_000
    ]
    if late:
        return [f"session {session['number']}: {len(late)} pulses off by up to {max(late)} us"]
    return []


def _feasible(e: Evidence, session: Line, recent: list[int], begin: int, plan: list[int]) -> bool:
    """Brute force: do the plan's pulses from here on keep to every window and gap?"""
    if begin - recent[-1] < limit(e, session, "train_gap_min_us"):
        return False
    times = recent + [begin + due for due in plan]
    windows = ((SECOND, "pulses_1s_max"), (60 * SECOND, "pulses_60s_max"))
    for window, name in windows:
        most = limit(e, session, name)
        if any(b - a < window for a, b in zip(times, times[most:], strict=False)):
            return False
    return True


ARMED_WITHIN_US: Final = 5 * SECOND
USABLE_WITHIN_US: Final = 240 * SECOND


def liveness(e: Evidence) -> list[str]:
    """O16: after the faults stop, whoever asks is armed within 5 s, and soon asks with success."""
    calm = e["calm_from_us"]
    arms = [line["at_us"] for line in events(e, "arm") if line["mso"] > 1]
    granted = [
        ask["at_us"]
        for ask in e["asks"]
        if ask["what"] in ("start", "resume") and ask["answer"] == "ok" and ask["at_us"] >= calm
    ]
    # As hot as it may be, it can be too hot again before it is armed.
    hot = [line["at_us"] for line in events(e, "fault") if line["cause"] == "COIL_HOT"]
    found = [
        f"granted at {clock(at)}, but not armed within 5 s"
        for at in granted
        if not any(at <= armed <= at + ARMED_WITHIN_US for armed in arms)
        and not any(since <= at <= since + COOLS_WITHIN_US for since in hot)
    ]
    if e["until_us"] - calm >= USABLE_WITHIN_US or granted:
        used = granted + [line["at_us"] for line in intended(e) if line["at_us"] >= calm]
        if not any(at - calm <= USABLE_WITHIN_US for at in used):
            found.append(f"not usable within {USABLE_WITHIN_US // SECOND} s after the last fault")
    elif e["needs_recovery"] and not any(at >= calm for at in arms):
        found.append("the story ended before anybody could start again")
    return found
