"""Emulated Magstim units under hosts that ask for anything at any time: what they never do."""

from __future__ import annotations

import itertools
import random
from functools import cache
from typing import Any

import pytest

from firmware_protocol.magstim import messages as m
from firmware_protocol.magstim.framing import Decoder, encode
from sim_device.entry import MODELS
from sim_device.faults import Rule
from sim_device.settings import parse_settings

MS, SECOND = 1_000, 1_000_000
CODE = "0123-456789ab-cd"
STORIES_EACH = 25
STEPS = 120
UNITS = {
    "magstim-200": (m.Model.M200, ()),
    "magstim-bistim": (m.Model.BISTIM, ("cooled=1",)),
    "magstim-rapid": (m.Model.RAPID, ("firmware=10.0", "super=1", "cooled=1")),
}
FAULTS = ("panel_setting", "external_trigger", "disarms_itself", "falls_idle", "coil_hot",
          "coil_unplugged", "reboot", "rx_drop_byte", "rx_bit_flip", "drop_byte")  # fmt: skip
LIKELY = ("get_temperature",) * 8 + (
    "arm", "fire", "fire", "fire", "fire", "unlock", "enable_remote", "set_duration",
    "set_frequency", "set_pulses", "set_power",
)  # fmt: skip

PAUSES_US = (2 * MS, 20 * MS, *[400 * MS] * 12, *[990 * MS] * 12, 1_200 * MS)

Step = tuple[int, bytes]  # so much later, these bytes
Truth = list[dict[str, Any]]


def drawn(dialect: m.Dialect, rng: random.Random) -> bytes:
    """One command, mostly one that leads to pulses, mostly with values that are small."""
    names = [name for name in LIKELY if name in dialect.by_name]
    row = rng.choice(dialect.rows) if rng.random() < 0.1 else dialect.row(rng.choice(names))
    values: list[m.Value] = []
    for field in row.data:
        if field.form is m.Form.DIGITS:
            values.append(min(field.high, max(field.low, rng.choice((0, 5, 20, 60, 200)))))
        elif field.form is m.Form.CODE:
            values.append(CODE)
    return encode(row, *values)


def story(model: str, seed: int) -> tuple[list[Step], list[Rule]]:
    rng = random.Random(seed)
    dialect = dialect_of(model)
    steps = [(0, encode(dialect.row("unlock"), CODE) if model == "magstim-rapid" else b"Q@n")]
    for _ in range(STEPS):
        pause = rng.choice(PAUSES_US)
        steps.append((pause, drawn(dialect, rng)))
    rules = [
        Rule(kind, at_us=rng.randrange(50 * SECOND), for_us=SECOND)
        if kind == "coil_unplugged"
        else Rule(kind, at_us=rng.randrange(50 * SECOND))
        for kind in rng.choices(FAULTS, k=rng.randrange(4))
    ]
    return steps, rules


def dialect_of(model: str) -> m.Dialect:
    kind, _ = UNITS[model]
    return m.Dialect(kind, 10 if kind is m.Model.RAPID else 0)


@cache
def told(model: str, seed: int, look_us: int) -> tuple[Truth, bytes]:
    """Truth and answers of a story, with the unit looked at so often."""
    truth: Truth = []
    row = MODELS[model]
    steps, rules = story(model, seed)
    settings: Any = parse_settings(UNITS[model][1], row.settings)
    unit = row.make(settings, random.Random(seed), truth.append, rules)
    now, answers = settings.clock_us, b""
    for pause_us, data in [*steps, (20 * SECOND, b"")]:
        end_us = now + pause_us
        while now < end_us:
            now = min(end_us, now + look_us)
            unit.run_to(now)
            answers += unit.take_output()
        unit.receive(data, now)
    return truth, answers


def spans(truth: Truth, opens: set[str], closes: set[str]) -> list[tuple[int, int]]:
    """From each opening event to the next closing one."""
    found, since = [], None
    for line in truth:
        if line["event"] in opens and since is None:
            since = line["t_us"]
        if line["event"] in closes and since is not None:
            found.append((since, line["t_us"]))
            since = None
    return found if since is None else [*found, (since, 10**12)]


@pytest.mark.parametrize("model", UNITS)
def test_no_pulse_leaves_a_unit_that_was_not_armed_for_a_second(model: str) -> None:
    pulses = 0
    late_us = {"magstim-200": 6_000, "magstim-bistim": 1_006_000, "magstim-rapid": 6_000}[model]
    for seed in range(STORIES_EACH):
        truth, _ = told(model, seed, SECOND)
        armed = spans(truth, {"arm"}, {"disarm"})
        trains = spans(truth, {"train_start"}, {"train_end"})
        for line in truth:
            if line["event"] not in ("pulse", "train_start"):
                continue
            at = line["t_us"]
            pulses += line["event"] == "pulse"
            in_train = any(a <= at <= b for a, b in trains)
            # What was triggered may leave when it has been disarmed meanwhile.
            ready = any(a + SECOND <= at <= b + late_us for a, b in armed)
            assert ready or (in_train and line["event"] == "pulse"), (seed, line)
    assert pulses > STORIES_EACH


@pytest.mark.parametrize("model", UNITS)
def test_pulses_that_are_no_train_keep_their_distance(model: str) -> None:
    least_us = {"magstim-200": 2, "magstim-bistim": 4, "magstim-rapid": 1}[model] * SECOND
    for seed in range(STORIES_EACH):
        truth, _ = told(model, seed, SECOND)
        pulses = [line for line in truth if line["event"] == "pulse"]
        singles = [p["t_us"] for p in pulses if "place" not in p and "second" not in p]
        pairs = itertools.pairwise(singles)
        rebooted = any(line["event"] == "boot" for line in truth)
        assert rebooted or all(b - a >= least_us for a, b in pairs), seed


@pytest.mark.parametrize("model", UNITS)
def test_a_silence_of_a_second_always_ends_being_armed(model: str) -> None:
    for seed in range(STORIES_EACH):
        truth, _ = told(model, seed, SECOND)
        assert all(end < 10**12 for _, end in spans(truth, {"arm"}, {"disarm"})), seed
        for line in truth:
            if line["event"] == "dead_man":
                following = [each["event"] for each in truth if each["t_us"] == line["t_us"]]
                assert "remote" in following


@pytest.mark.parametrize("model", UNITS)
def test_how_often_somebody_looks_changes_nothing(model: str) -> None:
    for seed in range(5):
        seldom, _ = told(model, seed, SECOND)
        often, _ = told(model, seed, 7 * MS)
        assert seldom == often, seed


@pytest.mark.parametrize("model", UNITS)
def test_every_byte_of_a_unit_on_a_clean_line_is_part_of_an_answer(model: str) -> None:
    rng = random.Random(1)
    dialect = dialect_of(model)
    row = MODELS[model]
    settings: Any = parse_settings(UNITS[model][1], row.settings)
    unit = row.make(settings, random.Random(1), lambda _: None, [])
    now, answered = settings.clock_us, 0
    by_wire = {row.letter: row for row in dialect.rows if row.letter != "E"}
    unit.receive(story(model, 0)[0][0][1], now)
    decoder = Decoder()
    for _ in range(2_000):
        now += rng.choice((10, 300, 1_100)) * MS
        unit.run_to(now)
        unit.take_output()
        data = drawn(dialect, rng)
        letter = chr(data[0])
        decoder.expect(by_wire.get(letter, dialect.row("arm")))
        unit.receive(data, now)
        now += 5 * MS
        unit.run_to(now)
        answered += decoder.feed(unit.take_output()) is not None
        assert decoder.garbage == 0
    assert answered > 1_000
