"""To connect always ends, within the time that the driver states, and with the cause.

Whoever else is on the port is never armed, charged or fired by the bytes with which a driver looks
for its own device.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from drivers.causes import CAUSES, with_step
from drivers.contract import SINGLE, LinkDown, LinkUp, Stimulator
from drivers.duomag.driver import DuomagStimulator
from drivers.line import LISTEN_US
from drivers.magstim.driver import MagstimStimulator
from firmware_protocol.quantities import MS, SECOND, BootUs, PercentMso
from sim_device.duomag_settings import DuomagSettings
from sim_device.faults import Rule
from sim_device.magstim_settings import RapidSettings
from tests.conformance.connecting import SITE, START, Connecting, Loop, end_of
from tests.families import (
    ADC_AT_0C,
    BISTIM,
    DUOMAG,
    FAMILIES,
    LIFE,
    M200,
    R30,
    RAPID,
    TMSLINK_FAMILY,
    UNLOCK,
    X100,
    Family,
    rapid,
)
from tests.world.rig import Rig, compiled
from tmsctl.ipc import messages as ipc

LINK_SIZE = 200
"""Bytes of `link` in a snapshot."""

STEPS = {cause.code: cause.step for cause in CAUSES}
FOREIGN_OK = {"power_lost", "boot", "remote", "dead_man", "disarm", "stop", "fault"}


def is_good_end(family: Family, end: tuple[int, str, str]) -> str:
    """The code, when it came in time and says what to do."""
    after_us, code, sentence = end
    assert after_us <= family.info.connect_within_us
    assert code == "up" or sentence.endswith("; " + STEPS[code])
    assert len(sentence.encode()) <= LINK_SIZE
    return code


def on(*kinds: str) -> tuple[Rule, ...]:
    return tuple(Rule(kind, at_us=0, for_us=100 * SECOND) for kind in kinds)


# -- somebody else's device ----------------------------------------------------------------------

_NAMES = {
    TMSLINK_FAMILY: "tmslink", M200: "200", BISTIM: "bistim", RAPID: "rapid", R30: "r30",
    X100: "x100", DUOMAG: "duomag",
}  # fmt: skip
_MATRIX = """\
driver   tmslink 200         bistim      rapid       r30         x100        duomag
tmslink  up      garbage     garbage     mute        mute        mute        unasked
200      mute    up          wrong-model wrong-model mute        mute        unasked
bistim   mute    wrong-model up          wrong-model mute        mute        unasked
rapid    mute    wrong-model wrong-model up          mute        mute        unasked
r30      mute    garbage     garbage     mute        up          wrong-model unasked
x100     mute    garbage     garbage     mute        wrong-model up          unasked
duomag   mute    garbage     garbage     mute        mute        mute        up
"""
_LINES = [line.split() for line in _MATRIX.splitlines()]
PAIRS = {
    (line[0], there): code
    for line in _LINES[1:]
    for there, code in zip(_LINES[0][1:], line[1:], strict=True)
}


@pytest.mark.parametrize("family", FAMILIES, ids=_NAMES.get)
@pytest.mark.parametrize("there", FAMILIES, ids=_NAMES.get)
def test_each_driver_tells_its_own_device_from_every_other(there: Family, family: Family) -> None:
    c = Connecting(family.driver, there)
    c.run(family.info.connect_within_us)
    assert is_good_end(family, c.ended) == PAIRS[_NAMES[family], _NAMES[there]]


def is_left_alone(c: Connecting) -> bool:
    return {line["event"] for line in c.truth} <= FOREIGN_OK


def everything(every: int) -> Any:
    """Somebody who asks for all that can be asked, again and again."""

    def act(driver: Stimulator, now: BootUs) -> None:
        turn = (now - START) // (10 * MS)
        if turn % every == 0:
            driver.stop(now)
        if turn % every == 1:
            driver.disarm(now)
        if turn % 50 == 2:
            driver.acknowledge(now)

    return act


@pytest.mark.parametrize(
    ("family", "there"),
    [(a, b) for a in FAMILIES for b in FAMILIES if a is not b],
    ids=_NAMES.get,
)
@pytest.mark.parametrize("every", [2, 7, 23])
def test_no_foreign_device_is_charged_armed_or_fired(
    family: Family, there: Family, every: int
) -> None:
    c = Connecting(family.driver, there, seed=every)
    c.run(family.info.connect_within_us + SECOND, everything(every))
    assert is_left_alone(c)
    assert not [event for _, event in c.heard if isinstance(event, LinkUp)]


@pytest.mark.parametrize("code", ["ddyy-ddyyddyy-dd", "yyyy-yyyyyyyy-yy", "1122-33445566-77"])
@pytest.mark.parametrize("uncharged", [0, 1])
def test_an_unlock_code_that_a_duomag_would_obey_is_not_sent_to_it(
    code: str, uncharged: int
) -> None:
    """Each byte that comes twice is a command to it: `dd` 100 %MSO, `yy` a pulse."""
    settings = DuomagSettings(start_pct=30, fires_uncharged=uncharged)
    c = Connecting(
        lambda port, site: MagstimStimulator(RAPID.info, port, site, LIFE, rapid(unlock=code)),
        DUOMAG,
        settings,
    )
    c.run(5 * SECOND, everything(11))
    assert [line["mso"] for line in c.events("arm")] == [30]
    assert c.events("pulse", "disarm") == []


@pytest.mark.parametrize("family", [f for f in FAMILIES if f is not DUOMAG], ids=_NAMES.get)
def test_to_a_device_that_speaks_unasked_not_one_byte_is_sent(family: Family) -> None:
    c = Connecting(family.driver, DUOMAG)
    written: list[bytes] = []
    c.to_device.send = lambda data, now_us: written.append(data)  # type: ignore[method-assign]
    c.run(5 * SECOND, everything(11))
    assert written == []
    assert c.ended[1] == "unasked"


@pytest.mark.parametrize("family", [M200, BISTIM, RAPID, R30, X100], ids=_NAMES.get)
def test_a_duomag_that_cannot_be_heard_is_not_charged_either(family: Family) -> None:
    """Not so tmslink, whose first frame holds a byte twice: docs/devices.md says it."""
    c = Connecting(family.driver, DUOMAG)
    c.to_host.cut = True
    c.run(5 * SECOND, everything(11))
    assert c.ended[1] == "mute"
    assert is_left_alone(c)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("family", FAMILIES, ids=_NAMES.get)
def test_a_new_host_finds_a_device_that_still_talks_to_the_old_one(
    family: Family, split: bool
) -> None:
    """What tmslink tells the session before is no stranger's, in whatever pieces it comes."""
    c = Connecting(family.driver, family, rules=on("split") if split else ())
    c.run(family.info.connect_within_us)
    c.heard.clear()
    c.driver = family.driver(c.port.open, SITE)
    c.run(family.info.connect_within_us)
    assert [event for _, event in c.heard if isinstance(event, LinkUp)]


@pytest.mark.parametrize("family", FAMILIES, ids=_NAMES.get)
@pytest.mark.parametrize("at_ms", [0, 10, 150, 160, 170, 180, 200, 230, 300, 350])
def test_stop_pressed_at_any_time_does_not_keep_it_from_being_found(
    family: Family, at_ms: int
) -> None:
    """A question of a conversation that STOP replaced was never answered: it waited for ever."""
    c = Connecting(family.driver, family)

    def stop(driver: Stimulator, now: BootUs) -> None:
        if now == START + at_ms * MS:
            driver.stop(now)

    c.run(family.info.connect_within_us, stop)
    assert [event for _, event in c.heard if isinstance(event, LinkUp)]
    assert c.events("arm", "pulse") == []


@pytest.mark.parametrize("family", FAMILIES, ids=_NAMES.get)
def test_an_armed_device_whose_answers_are_lost_is_disarmed(family: Family) -> None:
    """Looking for it must not be what keeps it alive."""
    c = Connecting(family.driver, family)
    c.run(SECOND)
    c.driver.arm(PercentMso(5), SINGLE, c.now)
    c.run(2 * SECOND)
    assert c.events("arm", "disarm")[-1]["event"] == "arm"
    c.to_host.cut = True
    c.heard.clear()

    def guard(driver: Stimulator, now: BootUs) -> None:
        if c.heard and isinstance(c.heard[-1][1], LinkDown):
            driver.stop(now)  # what the guard does in each cycle while it may be armed

    c.run(4 * SECOND, guard)
    assert c.events("arm", "disarm")[-1]["event"] == "disarm"


# -- a bad line ----------------------------------------------------------------------------------


_OTHER_CHECK = {DUOMAG: {"up"}}  # it has no checksum


class Line(NamedTuple):
    """One bad line, and the codes that are right on it, by family where they differ."""

    name: str
    rules: tuple[Rule, ...]
    codes: set[str]
    differ: Mapping[Family, set[str]] = MappingProxyType({})
    cut: bool = False


LINES = (
    Line("wrong baud", on("wrong_baud", "rx_wrong_baud"), {"mute", "garbage"}),
    Line("wrong baud to host", on("wrong_baud"), {"garbage"}),
    Line("silence", (), {"mute"}, cut=True),
    Line("no answers", on("silent"), {"mute"}, {DUOMAG: {"garbage"}}),  # half a record is heard
    Line(
        "echo", on("echo"), {"echo"},
        {TMSLINK_FAMILY: {"up"}, DUOMAG: {"up"}},  # nothing of theirs is like an answer
    ),
    Line("bad checksums", on("bad_crc"), {"garbage", "checksum"}, _OTHER_CHECK),
    Line("bad checksums to device", on("rx_bad_crc"), {"mute", "checksum"}, _OTHER_CHECK),
)  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES, ids=_NAMES.get)
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_each_bad_line_is_told(line: Line, family: Family) -> None:
    rules = [rule for rule in line.rules if "bad_crc" not in rule.kind or family is not DUOMAG]
    c = Connecting(family.driver, family, rules=rules, cut=line.cut)
    c.run(family.info.connect_within_us)
    assert is_good_end(family, c.ended) in line.differ.get(family, line.codes)
    assert c.events("arm", "pulse") == []


@pytest.mark.parametrize("family", FAMILIES, ids=_NAMES.get)
def test_a_cable_that_is_a_loop_is_told(family: Family) -> None:
    loop, heard, now = Loop(), [], START
    driver = family.driver(lambda: loop, SITE)
    while now < START + family.info.connect_within_us:
        heard += [(now, event) for event in driver.poll(now)]
        driver.beat(1, now, BootUs(0))
        now = BootUs(now + 10 * MS)
    assert is_good_end(family, end_of(heard)) == "echo"


@pytest.mark.parametrize("family", FAMILIES, ids=_NAMES.get)
@pytest.mark.parametrize("seed", range(2))
def test_noise_is_told_and_when_it_ends_the_device_is_found(family: Family, seed: int) -> None:
    c = Connecting(family.driver, family, cut=True, seed=seed)
    c.to_host.cut = False
    rng = random.Random(seed)

    def noise(_driver: Stimulator, now: BootUs) -> None:
        c.to_host.send(rng.randbytes(rng.randrange(1, 20)), now)

    c.run(family.info.connect_within_us, noise)
    assert is_good_end(family, c.ended) in {"unasked", "garbage", "still-armed"}
    c.to_device.cut = False
    c.to_host.clear()
    c.heard.clear()
    c.run(family.info.connect_within_us + family.info.hello_after_us)
    assert [event for _, event in c.heard if isinstance(event, LinkUp)]


# -- the right family, and it cannot be used -------------------------------------------------------


def _rapid(unlock: str | None) -> Any:
    return lambda port, site: MagstimStimulator(RAPID.info, port, site, LIFE, rapid(unlock=unlock))


OPTIONS: tuple[tuple[str, Any, str | None, str], ...] = (
    ("the code", RapidSettings(), UNLOCK, "up"),
    ("no code", RapidSettings(), None, "unlock-missing"),
    ("another code", RapidSettings(), "9123-456789ab-cd", "unlock-wrong"),
    ("a code too many", RapidSettings(firmware="8.0"), UNLOCK, "unlock-needless"),
    ("no code needed", RapidSettings(firmware="8.0"), None, "up"),
    ("oldest", RapidSettings(firmware="5.0"), None, "up"),
    ("newest known", RapidSettings(firmware="11.0"), UNLOCK, "up"),
    ("newer than known", RapidSettings(firmware="12.0"), UNLOCK, "firmware-unknown"),
)


@pytest.mark.parametrize("row", OPTIONS, ids=lambda row: row[0])
def test_each_rapid_ends_with_its_cause(row: tuple[str, Any, str | None, str]) -> None:
    _, settings, unlock, code = row
    c = Connecting(_rapid(unlock), RAPID, settings)
    c.run(RAPID.info.connect_within_us)
    assert is_good_end(RAPID, c.ended) == code
    assert UNLOCK not in c.ended[2]
    assert c.events("arm", "pulse") == []


@pytest.mark.parametrize("family", [M200, BISTIM], ids=_NAMES.get)
def test_a_rapid_that_needs_no_code_is_told_as_well(family: Family) -> None:
    c = Connecting(family.driver, RAPID, RapidSettings(firmware="8.0"))
    c.run(family.info.connect_within_us)
    assert is_good_end(family, c.ended) == "wrong-model"


def test_a_duomag_without_the_scale_of_its_thermometer_is_told_and_stays_told() -> None:
    def driver(port: Any, site: Any) -> Stimulator:
        return DuomagStimulator(port, site, LIFE, {"adc_at_0c": ADC_AT_0C, "adc_per_100c": None})

    c = Connecting(driver, DUOMAG)
    c.run(3 * DUOMAG.info.connect_within_us)
    assert is_good_end(DUOMAG, c.ended) == "adc-missing"
    assert len(c.heard) == 1


def test_another_version_of_tmslink_is_told() -> None:
    c = Connecting(TMSLINK_FAMILY.driver, TMSLINK_FAMILY, TMSLINK_FAMILY.settings(protocol=9))
    c.run(SECOND)
    assert is_good_end(TMSLINK_FAMILY, c.ended) == "wrong-version"


COIL = {"no coil": {"coil_type": 0}, "too hot": {"coil_start_dc": 600, "room_dc": 400}}


@pytest.mark.parametrize("family", FAMILIES, ids=_NAMES.get)
@pytest.mark.parametrize("coil", COIL)
def test_without_a_coil_or_with_a_hot_one_it_connects_and_is_never_armed(
    family: Family, coil: str
) -> None:
    rig = Rig(family=family, settings=family.settings(**COIL[coil]))
    rig.run(family.info.connect_within_us)
    assert (rig.guard.device.link, rig.guard.device.identity is None) == ("", False)
    rig.load(compiled("sp02-6"))
    rig.ask_to_run()
    rig.run(3 * SECOND)
    told = [message for message in rig.service.told if isinstance(message, ipc.Refused)]
    causes = rig.service.codes() + [f"{message.code}: {message.detail}" for message in told]
    details = [m.detail for m in rig.service.told if isinstance(m, ipc.Transition)]
    assert any("coil" in text for text in [*causes, *details])
    assert [line for line in rig.truth if line["event"] in ("arm", "pulse")] == []


# -- the table -----------------------------------------------------------------------------------


def test_every_driver_states_a_time_that_a_person_waits_for() -> None:
    for family in FAMILIES:
        assert 2 * LISTEN_US < family.info.connect_within_us <= 3 * SECOND


def test_every_cause_has_one_code_and_a_next_step() -> None:
    assert len(STEPS) == len(CAUSES)
    assert all(cause.means and cause.step and ": " not in cause.code for cause in CAUSES)
    assert with_step("mute: x") == f"mute: x; {STEPS['mute']}"
    assert with_step("a sentence without a code") == "a sentence without a code"


DRIVERS = Path(__file__).parents[2] / "drivers"
_TOLD = re.compile(r"(?:down|_lose|_drop_session)\(\s*f?\"([a-z-]+): |PortError\(\s*\"([a-z-]+)\"")


def test_every_code_that_a_driver_tells_is_in_the_table_and_every_row_is_told() -> None:
    source = "".join(path.read_text() for path in DRIVERS.rglob("*.py") if path.name != "causes.py")
    told = {one or other for one, other in _TOLD.findall(source)}
    assert {"port-missing", "port-lost", "device-silent"} <= told
    assert told <= set(STEPS)
    assert [code for code in STEPS if f'"{code}: ' not in source and code not in told] == []


def test_a_longer_deadline_is_seen() -> None:
    slow = TMSLINK_FAMILY._replace(info=replace(TMSLINK_FAMILY.info, connect_within_us=100))
    with pytest.raises(AssertionError):
        is_good_end(slow, (101, "up", ""))
    assert is_good_end(slow, (100, "up", "")) == "up"
