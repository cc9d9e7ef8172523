"""Fault files and settings as a person writes them, and what is said about wrong ones."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from sim_device.entry import MODELS
from sim_device.fault_kinds import KINDS
from sim_device.fault_rules import load_rules
from sim_device.faults import Rule
from sim_device.settings import Settings, SetupError, parse_settings


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_fault_file_becomes_rules(tmp_path: Path) -> None:
    path = write(
        tmp_path / "faults.toml",
        '[[fault]]\nkind = "late"\nvalue = 50\nat_s = 2.5\nfor_s = 1\n'
        '[[fault]]\nkind = "drop_frame"\nprobability = 0.01\n'
        '[[fault]]\nkind = "coil_hot"\nat_pulse = 10\ntimes = 2\n',
    )
    assert load_rules(path) == [
        Rule("late", 50, at_us=2_500_000, for_us=1_000_000),
        Rule("drop_frame", probability=0.01),
        Rule("coil_hot", 450, at_pulse=10, times=2),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_can_be_asked_for_in_a_file(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "faults.toml", f'[[fault]]\nkind = "{kind}"\nat_s = 0.7\n')
    value = KINDS[kind].value
    assert load_rules(path) == [Rule(kind, value and value.default, at_us=700_000)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "is not TOML"),
        ("[other]", "unknown key 'other'"),
        ("fault = 3", "must be a list"),
        ('[[fault]]\nkind = "loud"\nat_s = 1', "allowed are silent"),
        ("[[fault]]\nat_s = 1", "kind is None"),
        ('[[fault]]\nkind = "silent"', "exactly one of at_s"),
        ('[[fault]]\nkind = "silent"\nat_s = 1\nat_pulse = 1', "exactly one of"),
        ('[[fault]]\nkind = "silent"\nat_s = 1\nvalue = 3', "unknown key 'value'"),
        ('[[fault]]\nkind = "silent"\nat_s = 1\nwhen = 3', "unknown key 'when'"),
        ('[[fault]]\nkind = "silent"\nat_s = "x"', "at_s is 'x'"),
        ('[[fault]]\nkind = "silent"\nat_s = true', "at_s is True"),
        ('[[fault]]\nkind = "silent"\nat_pulse = 1.5', "whole number"),
        ('[[fault]]\nkind = "silent"\nprobability = 1.1', "0 to 1"),
        ('[[fault]]\nkind = "late"\nat_s = 1\nvalue = 0', "1 to 10000"),
        ('[[fault]]\nkind = "late"\nat_s = nan', "at_s is nan"),
        ('[[fault]]\nkind = "coil_hot"\nat_frame = 1', "unknown key 'at_frame'"),
    ],
)
def test_a_wrong_fault_file_is_refused_in_one_sentence(
    text: str, said: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "faults.toml", text)
    with pytest.raises(SetupError) as refused:
        load_rules(path)
    sentence = str(refused.value)
    assert said in sentence
    assert str(path) in sentence
    assert "\n" not in sentence


def test_settings_are_taken_within_their_range_and_refused_outside() -> None:
    assert parse_settings(["cooled=1", "serial=TR000001"], Settings) == Settings(
        cooled=1, serial="TR000001"
    )
    for wrong in ("cooled=2", "cooled=-1", "cooled=x", "cooled", "colour=1", "serial=TR0000012"):
        with pytest.raises(SetupError):
            parse_settings([wrong], Settings)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "loud"}, "no fault of kind 'loud'"),
        ({"kind": "late", "value": 0}, "value 0"),
        ({"kind": "silent", "value": 1}, "value 1"),
        ({"kind": "coil_hot", "at_frame": 1}, "at_frame"),
        ({"kind": "late", "at_us": 1, "at_pulse": 1}, "more than one trigger"),
    ],
)
def test_a_wrong_rule_cannot_be_made(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Rule(**wrong)


@pytest.mark.parametrize("model", MODELS)
def test_what_can_be_asked_for_is_what_can_happen_to_the_model(model: str) -> None:
    row = MODELS[model]
    made = row.make(parse_settings([], row.settings), random.Random(0), lambda _line: None, [])
    assert made.kinds == row.kinds
