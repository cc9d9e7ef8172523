"""A-02, A-03 and A-04 on the stimulators that laboratories own, at 1,500 instants.

One session a case is lived through, from the first byte to the second train. At each instant it
is tried out aside what comes of a fault that strikes there. Judged by what left the coil, by what
was on the wire, and by when the unit was armed; never by what the guard says.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Final

import pytest

from drivers.contract import StopClass
from firmware_protocol.magstim.messages import Answer
from firmware_protocol.quantities import MS, SECOND
from sim_device.faults import Rule
from sim_device.magstim_core import Core
from tests.world.family_rig import CASES, DISARM, TRIGGER, Case, FamilyRig, aside, pattern_of
from tests.world.odometer import TOTAL
from tests.world.rig import START

DEAD_MAN_US: Final = SECOND
"""A-02: a unit of class K is disarmed so long after the host's last word."""

ARRIVES_US: Final = 30 * MS
"""What the kernel had been given is on the wire for so long: 24 bytes at 9600 baud."""

PULSE_US: Final = 30 * MS
"""From the command to the first pulse: 3 ms on the wire and up to 15 ms in a unit."""

STOP_US: Final = 100 * MS
QUIET_US: Final = 20 * MS
ALIVE_US: Final = 600 * MS
FOUND_US: Final = 3_500 * MS
"""A unit that is left to its own dead-man, and then looked for."""

ASKED_US: Final = 800 * MS
"""Listening, and all that is asked of a unit that shows no standby or nothing at all."""

SPAN_US: Final = 14 * SECOND  # connecting, self-test, arming, two trains and the rest between them

KEEP_ALIVE: Final = [case for case in CASES if case.family.info.stop_class is StopClass.KEEP_ALIVE]
CARRIES_ON: Final = [case for case in CASES if case.family.info.stop_class is StopClass.NONE]
KILLS: Final = {StopClass.KEEP_ALIVE: 150, StopClass.NONE: 340}
"""Of each case. A-03 asks for 1,000 of class V, which has three."""

STOPS: Final = 24
TROUBLES: Final = 8  # of each kind
OTHERS: Final = 10

Strike = Callable[[FamilyRig, random.Random], str]


@cache
def rehearsed(case: Case) -> list[int]:
    """When the triggers are written if nothing goes wrong."""
    rehearsal = FamilyRig(case)
    rehearsal.run(SPAN_US)
    return rehearsal.writes(TRIGGER)


def instants(case: Case, number: int) -> list[int]:
    """Anywhere in the session, most of them about a trigger or while its pulses leave."""
    rng = random.Random(f"{case.name} {number}")
    triggers = rehearsed(case)[:3] + rehearsed(case)[-3:]
    about = [
        trigger + rng.choice((rng.randrange(-30 * MS, 40 * MS), rng.randrange(case.span_us + 1)))
        for trigger in rng.choices(triggers, k=4 * number // 5)
    ]
    anywhere = [START + rng.randrange(SPAN_US) for _ in range(number - len(about))]
    return sorted(about + anywhere)


def sweep(case: Case, number: int, strike: Strike, what: str) -> list[str]:
    """What each of so many strikes did; a sentence that begins with `!` is a violation."""
    rig, told = FamilyRig(case), []
    for at in instants(case, number):
        rig.run(max(0, at - rig.now))
        told.append(aside(lambda: strike(rig, random.Random(rig.now))))
    TOTAL.faults[what] += number
    wrong = [sentence for sentence in told if not sentence.startswith("ok")]
    assert not wrong, f"{case.name}, {what}: {len(wrong)} of {number}\n" + "\n".join(wrong[:5])
    return told


def at_risk(rig: FamilyRig, since: int) -> tuple[int, str]:
    """Pulses later than `since`, and what is wrong with them: all have to be of one trigger, which
    was written by then, and in their time."""
    late = [at for at in rig.pulses_at() if at > since]
    triggers = rig.writes(TRIGGER)
    if any(at > since for at in triggers):
        return len(late), f"a trigger {triggers[-1] - since} us after"
    of_last = triggers[-1] + PULSE_US + rig.case.span_us if triggers else 0
    if any(at > of_last for at in late):
        return len(late), f"a pulse {late[-1] - since} us after, of no trigger"
    return len(late), ""


def verdict(rig: FamilyRig, struck_at: int, pulses: int, wrong: str) -> str:
    at_s = (struck_at - START) / SECOND
    return f"at {at_s:.6f} s: {wrong}\n{rig.story()}" if wrong else f"ok {pulses}"


# -- the guard dies --------------------------------------------------------------------------


def bereft(rig: FamilyRig) -> str:
    """SIGKILL now: the pulses that are still to come, or what is wrong."""
    at = rig.now
    rig.kill()
    keeps_alive = rig.family.info.stop_class is StopClass.KEEP_ALIVE
    rig.alone(DEAD_MAN_US + ARRIVES_US if keeps_alive else 150 * MS)
    pulses, wrong = at_risk(rig, at)
    if keeps_alive and rig.armed():
        wrong = "armed for more than a second after the host's last word"
    late = [str(pulse) for pulse in rig.pulses_at()[-pulses:] if pulses]
    return verdict(rig, at, 0, wrong) if wrong else " ".join(["ok", *late])


def kills(case: Case, number: int) -> list[int]:
    """Pulses after each of so many kills. Between two words of the host it is all one to the unit
    when it dies, so that is tried once."""
    rig, words, told, counts = FamilyRig(case), -1, "", []
    for at in instants(case, number):
        rig.run(max(0, at - rig.now))
        if words != len(rig.wire.written):
            words = len(rig.wire.written)
            told = aside(lambda: bereft(rig))
            assert told.startswith("ok"), f"{case.name}: {told}"
        counts.append(sum(int(pulse) > rig.now for pulse in told.split()[1:]))
    TOTAL.faults["guard-kill"] += number
    return counts


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_after_the_guards_death_no_more_pulses_leave_than_declared(case: Case) -> None:
    counts = kills(case, KILLS[case.family.info.stop_class])
    assert max(counts) == case.at_risk  # and it was struck at the worst instant
    assert counts.count(0) > len(counts) // 4


def revived(rig: FamilyRig, rng: random.Random) -> str:
    """A-08: the service manager starts another guard, which disarms the unit."""
    at = rig.now
    rig.kill()
    rig.alone(rng.randrange(20 * MS, 1_500 * MS))
    back_at = rig.now
    rig.revive()
    rig.run(2_500 * MS)
    pulses, wrong = at_risk(rig, at)
    if rig.armed():
        wrong = "armed by nobody"
    armed_us = [(until or rig.now) - back_at for since, until in rig.armed_spells()]
    if not wrong and max(armed_us, default=0) > 900 * MS:
        wrong = f"armed {max(armed_us)} us after the new guard began"
    return verdict(rig, at, pulses, wrong or ("" if rig.is_safe else "it is not latched"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_looking_for_a_unit_that_cannot_answer_does_not_keep_it_armed(case: Case) -> None:
    """Defects once: a Rapid² was asked for remote control before it was told to disarm, and a
    MagPro, which carries on, was never told at all."""

    def deaf(rig: FamilyRig, rng: random.Random) -> str:
        at = rig.now
        rig.kill()
        rig.to_host.cut = True
        rig.alone(rng.randrange(100 * MS, 900 * MS))
        rig.revive()
        rig.run(1_000 * MS)
        return verdict(rig, at, 0, "still armed" if rig.armed() else "")

    sweep(case, OTHERS, deaf, "guard-kill")


@pytest.mark.parametrize("case", KEEP_ALIVE, ids=lambda case: case.name)
def test_looking_for_a_unit_that_does_not_disarm_leaves_it_to_its_own_dead_man(case: Case) -> None:
    """A defect once: it was looked for again within its keep-alive, and so kept armed for ever."""

    def obstinate(rig: FamilyRig, rng: random.Random) -> str:
        at = rig.now
        rig.kill()
        core: Core = rig.firmware.model
        core._commands["disarm"] = lambda _: Answer.DONE  # it answers, and does nothing
        rig.to_host.cut = rng.random() < 0.3  # then it cannot be heard either
        rig.alone(rng.randrange(100 * MS, 900 * MS))
        rig.revive()
        rig.run(ASKED_US + DEAD_MAN_US + QUIET_US)
        if rig.armed():
            return verdict(rig, at, 0, "still armed")
        rig.to_host.cut = False
        rig.run(FOUND_US)
        return verdict(rig, at, 0, "" if rig.guard.device.status else "it is not found again")

    sweep(case, OTHERS, obstinate, "guard-kill")


# -- STOP ------------------------------------------------------------------------------------


def stopped(rig: FamilyRig, _: random.Random) -> str:
    """A-04. What a Rapid² has begun of a train goes on, since nobody knows whether it ends one."""
    at = rig.now
    rig.stop()
    rig.run(300 * MS)
    pulses, wrong = at_risk(rig, at)
    in_train = rig.case.span_us > STOP_US
    if not in_train and any(pulse > at + STOP_US for pulse in rig.pulses_at()):
        wrong = f"a pulse {rig.pulses_at()[-1] - at} us after STOP"
    elif rig.armed():
        wrong = "still armed 300 ms after STOP"
    elif any(since > at for since, _ in rig.armed_spells()):
        wrong = "armed after STOP"
    elif not rig.is_safe:
        wrong = "not latched"
    return verdict(rig, at, pulses, wrong)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_after_stop_nothing_is_triggered_and_the_unit_is_disarmed(case: Case) -> None:
    told = sweep(case, STOPS, stopped, "stop")
    in_flight = [sentence for sentence in told if sentence != "ok 0"]
    assert in_flight  # some struck while a pulse was on its way


# -- the guard lives, and something is wrong -------------------------------------------------


def stalled(rig: FamilyRig, rng: random.Random) -> str:
    """The guard gets no processor; then it notices that it was not watching."""
    at, was_armed = rig.now, rig.armed()
    stall_us = rng.randrange(*rng.choice(((5, 26), (60, 300), (60, 300), (300, 950)))) * MS
    rig.stall(stall_us)
    rig.run(400 * MS)
    short = stall_us < 30 * MS
    pulses, wrong = 0, ""
    if was_armed and not short:
        pulses, wrong = at_risk(rig, at)
    if short and rig.is_safe:
        wrong = f"stopped by a stall of {stall_us} us"
    elif was_armed and not short and (rig.armed() or not rig.is_safe):
        wrong = "armed, or not latched, 400 ms after a long stall"
    elif rig.ledger.counted < len(rig.pulses):
        wrong = f"{len(rig.pulses)} pulses left, {rig.ledger.counted} count, {stall_us} us"
    return verdict(rig, at, pulses, wrong)


def line_cut(rig: FamilyRig, rng: random.Random) -> str:
    """Nothing arrives any more, or nothing comes back, or the port is gone."""
    at, age_us = rig.now, rig.family.info.status_age_us
    how = rng.choice(("to_device", "to_host", "both", "unplugged"))
    rig.to_device.cut = how in ("to_device", "both")
    rig.to_host.cut = how in ("to_host", "both")
    rig.port.plugged = how != "unplugged"
    rig.run(1_100 * MS)
    noticed = at + age_us + 20 * MS
    arrives = how == "to_host"
    written = [trigger for trigger in rig.writes(TRIGGER) if arrives and trigger > noticed]
    pulses, wrong = 0, f"{how}: a trigger {written[0] - at} us after" if written else ""
    keeps_alive = rig.family.info.stop_class is StopClass.KEEP_ALIVE
    if rig.armed() and (keeps_alive or arrives):
        wrong = f"{how}: still armed after 1.1 s"
    last = max((pulse for pulse in rig.pulses_at()), default=0)
    if not arrives and last > at + PULSE_US + rig.case.span_us:
        wrong = f"{how}: a pulse {last - at} us after"
    rig.to_device.cut = rig.to_host.cut = False
    rig.port.plugged, rig.acknowledges = True, True
    deadline = rig.now + FOUND_US
    while not wrong and rig.guard.device.status is None:
        rig.run(200 * MS)
        if rig.now > deadline:
            wrong = f"{how}: it does not find the unit again"
    return verdict(rig, at, pulses, wrong)


def tmsd_lost(rig: FamilyRig, rng: random.Random) -> str:
    """tmsd dies, or says nothing for more than a second."""
    at = rig.now
    if rng.random() < 0.5:
        rig.ledger.connected = False
        noticed = at + 20 * MS
    else:
        rig.ledger.silent_until = at + 1_000 * SECOND
        noticed = at + 1_020 * MS
    was_armed = rig.armed()
    rig.run(noticed - at + 300 * MS)
    written = [trigger for trigger in rig.writes(TRIGGER) if trigger > noticed]
    wrong = f"a trigger {written[0] - at} us after" if written else ""
    if was_armed and rig.armed():
        wrong = "still armed"
    return verdict(rig, at, 0, wrong)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_in_any_trouble_nothing_is_triggered_and_nothing_stays_armed(case: Case) -> None:
    for trouble in (stalled, line_cut, tmsd_lost, revived):
        sweep(case, TROUBLES, trouble, "trouble")


# -- the keep-alive --------------------------------------------------------------------------


@pytest.mark.parametrize("case", KEEP_ALIVE, ids=lambda case: case.name)
def test_a_unit_that_ignores_being_disarmed_gets_no_other_word_and_disarms_by_itself(
    case: Case,
) -> None:
    def ignores(rig: FamilyRig, _: random.Random) -> str:
        at, was_armed = rig.now, rig.armed()
        rig.firmware.faults.add_from_now(
            Rule("lacks_command", ord("E"), for_us=3 * SECOND), rig.clock.device(at)
        )
        rig.stop()
        rig.run(DEAD_MAN_US + QUIET_US + ARRIVES_US)
        disarm = pattern_of(DISARM, case.family)
        others = [x for x, data in rig.wire.written if x > at and not disarm.search(data)]
        wrong = ""
        if was_armed and others and others[0] - at < DEAD_MAN_US:
            wrong = f"a command {others[0] - at} us after STOP"
        if rig.armed():
            wrong = "armed for more than 1 s after STOP"
        return verdict(rig, at, 0, wrong)

    sweep(case, OTHERS, ignores, "lacks_command")


def words_apart(rig: FamilyRig) -> int:
    """Longest time between commands while the unit was armed for a session."""
    longest, written = 0, [at for at, _ in rig.wire.written]
    for since, until in rig.armed_spells():
        ends = rig.now if until is None else until
        inside = [at for at in written if since - 100 * MS <= at <= ends]
        longest = max([longest, *(b - a for a, b in pairwise([*inside, ends]))])
    return longest


def troubled(case: Case, seed: int) -> FamilyRig:
    """A session whose host is short of everything, but never dead."""
    rig = FamilyRig(case, seed)
    rig.acknowledges = True
    rng = random.Random(seed)
    while rig.now < START + 25 * SECOND:
        rig.run(rng.randrange(60 * MS, 500 * MS))
        match rng.randrange(6):
            case 0 | 1:
                rig.stall(rng.choice((5, 12, 20, 28)) * MS)
            case 2:
                rig.stall(rng.choice((45, 100, 250, 450)) * MS)
            case 3:
                rig.ledger.grant_us = rng.choice((1, 5, 50, 400)) * MS
            case 4:
                rig.ledger.silent_until = rig.now + rng.randrange(1_500 * MS)
            case _:
                rig.ledger.connected = not rig.ledger.connected or rng.random() < 0.8
    return rig


@pytest.mark.parametrize("case", KEEP_ALIVE, ids=lambda case: case.name)
def test_while_armed_the_unit_hears_a_command_at_least_every_600_ms(case: Case) -> None:
    armed = 0
    for seed in range(3):
        rig = troubled(case, seed)
        armed += len(rig.armed_spells())
        assert words_apart(rig) <= ALIVE_US, f"seed {seed}"
        dead_man = [line["at_us"] for line in rig.truth if line["event"] == "dead_man"]
        for since, until in rig.armed_spells():
            assert not [at for at in dead_man if since <= int(str(at)) <= (until or rig.now)]
    assert armed > 2


# -- the judges themselves -------------------------------------------------------------------


def _nothing(*_: object) -> None:
    pass


def _no_hindrance(*_: object) -> str:
    return ""


def _killed(rig: FamilyRig, _: random.Random) -> str:
    return bereft(rig)


DEFECTS: Final[dict[str, tuple[Case, str, object, Strike]]] = {
    "the unit's dead-man is too slow": (
        CASES[0], "sim_device.magstim_core.Core._silence_us", lambda _: 2 * SECOND, _killed
    ),
    "STOP sends nothing": (
        CASES[1], "drivers.magstim.driver.MagstimStimulator._make_safe", _nothing, stopped
    ),
    "a trigger is sent however late it is": (
        CASES[2], "drivers.account.Shot.hindrance", _no_hindrance, stalled
    ),
    "a unit that was lost is never looked for": (
        CASES[3], "drivers.line.Line.open", lambda line, _: line.port is not None, line_cut
    ),
    "a new guard does not disarm what it finds": (
        CASES[4], "drivers.duomag.driver.DuomagStimulator._set", _nothing, revived
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, where, instead, strike = DEFECTS[name]
    rehearsed(case)  # as it should be

    def defective(rig: FamilyRig, rng: random.Random) -> str:
        monkeypatch.setattr(where, instead)
        return strike(rig, rng)

    with pytest.raises(AssertionError, match=strike.__name__):
        sweep(case, 24, defective, strike.__name__)


def test_a_guard_that_says_nothing_for_700_ms_is_seen() -> None:
    rig = FamilyRig(CASES[0])
    rig.run(4 * SECOND)
    rig.stall(700 * MS)
    rig.run(100 * MS)
    assert words_apart(rig) > ALIVE_US
