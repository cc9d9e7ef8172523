"""MagPy_TMS 1.4, unmodified, takes the emulated units for those that it was written for.

Each conversation runs in a process of its own, all at the same time; what the client believes is
held against the ground truth.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.interop.conversation import Told, converse

CLIENT = Path(__file__).with_name("magpy_client.py")
CONFLICT, BAD_DATA, UNKNOWN = 5, 4, 3  # MagPy's own numbers
UNITS = {
    "200": ("magstim-200",),
    "bistim": ("magstim-bistim",),
    "rapid": ("magstim-rapid", "firmware=10.0", "super=1"),
    "old_rapid": ("magstim-rapid", "firmware=7.2.0", "coil_switch=1"),
    "locked_rapid": ("magstim-rapid", "firmware=9.0"),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    return converse(CLIENT, UNITS, tmp_path_factory.mktemp("magpy"))


def test_a_200_is_connected_set_armed_fired_and_disarmed(told: dict[str, Told]) -> None:
    seen, _ = told["200"]
    assert seen["before"]["magstimParam"] == {"power": 30}
    assert seen["before"]["instr"]["remoteStatus"] == seen["before"]["instr"]["standby"] == 1
    assert (seen["power"], seen["after"]) == (0, 60)
    assert seen["temperature"] == {"coil1Temp": 20.0, "coil2Temp": 20.0}
    assert (seen["arm"], seen["disarm"], seen["armed_in_the_end"]) == (0, 0, False)
    assert seen["spent"]["standby"] == seen["spent"]["armed"] == seen["spent"]["ready"] == 0
    assert (seen["spent"]["coilPresent"], seen["spent"]["remoteStatus"]) == (1, 1)


def test_a_200_answers_what_it_refuses_in_the_three_ways(told: dict[str, Told]) -> None:
    seen, _ = told["200"]
    conflicts = ("fire_disarmed", "arm_again", "fire_too_soon")
    assert [seen[name] for name in conflicts] == [CONFLICT] * 3
    assert (seen["bad_data"], seen["bistim_only"], seen["unknown"]) == (BAD_DATA, BAD_DATA, UNKNOWN)


def test_the_truth_of_a_200_is_what_the_client_believes(told: dict[str, Told]) -> None:
    unit = told["200"]
    assert len(unit.pulses) == unit.seen["fired"] == 2
    assert [pulse["mso"] for pulse in unit.pulses] == pytest.approx([60, 60], abs=0.5)
    first, second = (pulse["t_us"] for pulse in unit.pulses)
    assert second - first >= 3_000_000  # recharge at 50 to 79 %
    story = [line["event"] for line in unit.events("remote", "arm", "ready", "pulse", "disarm")]
    assert story == ["remote", "arm", "ready", "pulse", "ready", "pulse", "disarm", "remote"]


def test_a_bistim_fires_pairs_and_both_at_once(told: dict[str, Told]) -> None:
    unit = told["bistim"]
    seen = unit.seen
    assert seen["before"] == {"powerA": 30, "powerB": 30, "ppOffset": 10}
    assert seen["set"] == [0, 0, 0, 0]
    assert seen["after"] == {"powerA": 50, "powerB": 40, "ppOffset": 2.5}
    assert (seen["arm"], seen["pair"], seen["both"]) == (0, 0, [0, 0])
    assert seen["resolution_armed"] == CONFLICT
    first, second, both = unit.pulses
    assert second["t_us"] - first["t_us"] == 2_500
    assert both["t_us"] - second["t_us"] >= 4_000_000
    assert [p["power"] for p in unit.pulses] == [50, 40, 50]
    assert [p["mso"] for p in unit.pulses] == pytest.approx([45, 36, 56.5], abs=0.5)


def test_a_rapid_with_firmware_10_takes_its_code_and_every_setting(told: dict[str, Told]) -> None:
    seen, _ = told["rapid"]
    assert seen["version"] == [10, 0]
    fine = ("power", "trains", "frequency", "pulses", "duration", "arm", "train", "disarm",
            "single", "enhanced", "arm_2", "pulse")  # fmt: skip
    assert [name for name in fine if seen[name] != 0] == []
    assert seen["delay"] == [0, 7]
    assert seen["status"]["rapid"] == {
        "enhancedPowerMode": 0, "train": 0, "wait": 0, "singlePulseMode": 1, "hvpsuConnected": 1,
        "coilReady": 1, "thetaPSUDetected": 0, "modifiedCoilAlgorithm": 0,
    }  # fmt: skip
    assert seen["error"] == "00"  # MagPy drops the last character
    assert (seen["too_fast"], seen["enhanced_in_trains"]) == (BAD_DATA, CONFLICT)
    error, validated = seen["validated"]
    assert error == 0
    wanted = {"power": 40, "frequency": 10.0, "nPulses": 15, "duration": 1.5}
    assert {name: validated[name] for name in wanted} == wanted
    assert seen["is_enhanced"]


def test_a_train_of_a_rapid_is_what_the_client_ordered(told: dict[str, Told]) -> None:
    unit = told["rapid"]
    assert (unit.seen["running"], unit.seen["fire_running"]) == (1, CONFLICT)
    *train, single = unit.pulses
    gaps = {b["t_us"] - a["t_us"] for a, b in itertools.pairwise(train)}
    assert (len(train), gaps) == (15, {100_000})
    assert [p["mso"] for p in unit.pulses] == pytest.approx([40] * 16, abs=0.5)
    (begun,), (ended,) = unit.events("train_start"), unit.events("train_end")
    assert (begun["pulses"], ended["fired"], ended["cause"]) == (15, 15, "complete")
    assert single["t_us"] > ended["t_us"] + 500_000
    assert unit.events("fault") == []


def test_a_rapid_with_firmware_7_needs_no_code_and_minds_the_switch_of_its_coil(
    told: dict[str, Told],
) -> None:
    unit = told["old_rapid"]
    seen = unit.seen
    assert seen["version"] == [7, 2, 0]
    assert seen["parameters"]["power"] == 50
    assert seen["coil_switch"] == [CONFLICT, 0]
    assert (seen["power"], seen["arm"], seen["pulse"]) == (0, 0, 0)
    assert [p["mso"] for p in unit.pulses] == pytest.approx([50], abs=0.5)


def test_a_wrong_code_is_met_with_silence(told: dict[str, Told]) -> None:
    unit = told["locked_rapid"]
    assert unit.seen == {"waits": True, "connected": False}
    assert unit.events("remote") == []


@pytest.mark.parametrize("name", ["200", "bistim", "rapid", "old_rapid"])
def test_no_conversation_lost_its_remote_control(told: dict[str, Told], name: str) -> None:
    assert told[name].events("dead_man") == []
    assert [line["on"] for line in told[name].events("remote")] == [True, False]
