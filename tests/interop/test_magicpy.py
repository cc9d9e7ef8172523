"""magicpy 0.1.6, unmodified, takes the emulated MagPro for the unit that it was written for.

Each conversation runs in a process of its own, all at the same time; what the client believes is
held against the ground truth.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.conversation import Told, converse, gaps_us

CLIENT = Path(__file__).with_name("magicpy_client.py")
FAST = "rise_us_per_pct=1000"
UNITS = {
    "x100": ("magpro-x100", FAST, "option=option", "reply_09_01=state", "pair_frames=one"),
    "r30": ("magpro-r30", FAST, "reply_09_01=state"),
    "coilless": ("magpro-x100", FAST, "coil_type=0"),
    "deaf": ("magpro-r30", "deaf_on_malformed=1"),
}
EMPTY = ["Empty", 1]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    return converse(CLIENT, UNITS, tmp_path_factory.mktemp("magicpy"))


@pytest.mark.parametrize(
    ("name", "model", "coil"), [("x100", "X100+Option", "C-B70"), ("r30", "R30", "C-B70")]
)
def test_the_client_knows_what_it_is_connected_to(
    told: dict[str, Told], name: str, model: str, coil: str
) -> None:
    assert told[name].seen["before"] == [
        {
            "Mode": "Standard", "Waveform": "Biphasic", "Status": "Disabled", "Model": model,
            "SerialNo": 0x3039, "Temperature": 20, "coilTypeNo": coil,
            "amplitudePercentage_A": 0, "amplitudePercentage_B": 0,
        },
        0,
    ]  # fmt: skip


def test_amplitude_enable_and_disable_are_understood(told: dict[str, Told]) -> None:
    x100 = told["x100"]
    assert x100.of("amplitude", "amplitudePercentage_A", "Status") == [40, "Disabled"]
    assert x100.of("enable", "amplitudePercentage_A", "Status") == [40, "Enabled"]
    assert x100.of("disable", "Status") == ["Disabled"]
    assert x100.of("after", "Status") == ["Disabled"]
    both = ("amplitudePercentage_A", "amplitudePercentage_B")
    assert told["r30"].of("amplitudes", *both) == [30, 20]
    assert told["r30"].seen["refused_by_client"] == [-1, 101]


def test_waveform_burst_and_pair_are_understood(told: dict[str, Told]) -> None:
    x100 = told["x100"]
    burst = ("Mode", "Waveform", "BurstPulsesIndex", "IPIvalue")
    assert x100.of("burst_set", *burst) == ["Standard", "Biphasic Burst", 3, 20]
    assert x100.seen["waveform"] == ["Biphasic Burst", 0]
    assert x100.seen["ipi"] == [20, 0]
    assert x100.of("twin_set", "Mode", "IPIvalue", "BA_Ratio") == ["Twin", 10, 1.5]
    assert x100.of("standard", "Mode") == ["Standard"]
    assert x100.of("biphasic_set", "Waveform") == ["Biphasic"]
    assert x100.of("page", "Page") == ["Train"]
    assert x100.seen["train_set"] == EMPTY  # nobody knows an answer to it


def test_pulses_slopes_and_times_are_what_the_client_believes(told: dict[str, Told]) -> None:
    x100 = told["x100"]
    slope = round(146.52 * 0.40)
    for fired in (*x100.seen["fire"], x100.seen["burst"]):
        assert fired[1] == 0
        assert fired[0]["didtPercentage_A"] == slope
    both = ("didtPercentage_A", "didtPercentage_B")
    assert x100.of("twin", *both) == [slope, round(146.52 * 0.60)]
    single, burst, pair, train = (
        x100.pulses[:2], x100.pulses[2:5], x100.pulses[5:7], x100.pulses[7:]
    )  # fmt: skip
    assert gaps_us(burst) == [20_000, 20_000]
    assert gaps_us(pair) == [10_000]
    assert [p["mso"] for p in single + pair] == pytest.approx([40, 40, 40, 60], abs=0.1)
    assert gaps_us(train) == [50_000] * 4 + [1_000_000] + [50_000] * 4
    assert {p["cause"] for p in train} == {"train"}
    assert x100.of("status", "Status") == ["Enabled"]
    assert x100.of("status2", "Page", "amplitudePercentage_A") == ["Train", 40]
    story = [line["event"] for line in x100.events("arm", "train_start", "train_end", "disarm")]
    assert story == ["arm", "train_start", "train_end", "disarm"]


def test_an_r30_takes_what_it_has_and_the_client_can_see_it(told: dict[str, Told]) -> None:
    r30 = told["r30"]
    assert r30.of("burst_set", "Waveform") == ["Biphasic"]
    assert r30.of("reversed", "CurrentDirection") == ["Normal"]
    assert r30.seen["wrong_page"] == EMPTY
    assert gaps_us(r30.pulses) == [33_333] * 5  # 50 Hz was asked for
    assert r30.of("after", "Status", "amplitudePercentage_A") == ["Enabled", 30]
    assert r30.of("disable", "Status") == ["Disabled"]


def test_a_unit_that_is_disabled_fires_nothing_and_says_nothing(told: dict[str, Told]) -> None:
    assert told["x100"].seen["fire_disabled"] == EMPTY


def test_without_a_coil_it_is_not_enabled(told: dict[str, Told]) -> None:
    unit = told["coilless"]
    assert unit.of("before", "coilTypeNo") == ["MRi-B91 Air cooled"]  # the client's name of 0
    assert unit.of("enable", "Status") == ["Disabled"]
    assert unit.seen["fire"] == EMPTY
    assert unit.events("arm", "pulse") == []


def test_a_malformed_command_can_leave_it_deaf(told: dict[str, Told]) -> None:
    assert told["deaf"].seen == {"before": 0, "no_such_command": EMPTY, "after": EMPTY}
