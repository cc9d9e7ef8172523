"""magicpy 0.1.6, unmodified, takes the emulated MagPro for the unit that it was written for.

Each conversation runs in a process of its own, all at the same time; what the client believes is
held against the ground truth.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = Path(__file__).with_name("magicpy_client.py")
EMULATOR = (sys.executable, "-c", "from sim_device.entry import main; main()")
DEADLINE_S = 50
FAST = "rise_us_per_pct=1000"
UNITS = {
    "x100": ("magpro-x100", FAST, "option=option", "reply_09_01=state", "pair_frames=one"),
    "r30": ("magpro-r30", FAST, "reply_09_01=state"),
    "coilless": ("magpro-x100", FAST, "coil_type=0"),
    "deaf": ("magpro-r30", "deaf_on_malformed=1"),
}
EMPTY = ["Empty", 1]


class Told(NamedTuple):
    seen: dict[str, Any]  # by the client: what it understood, and its error
    truth: list[dict[str, Any]]

    def events(self, *names: str) -> list[dict[str, Any]]:
        return [line for line in self.truth if line["event"] in names]

    @property
    def pulses(self) -> list[dict[str, Any]]:
        return self.events("pulse")

    def of(self, name: str, *keys: str) -> list[Any]:
        """What the client understood without an error."""
        info, error = self.seen[name]
        assert error == 0, (name, info)
        return [info[key] for key in keys]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Told]]:
    """Every conversation, side by side: they mostly wait."""
    place = tmp_path_factory.mktemp("magicpy")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with ExitStack() as running:
        clients: dict[str, subprocess.Popen[str]] = {}
        emulators = []
        for name, (model, *settings) in UNITS.items():
            emulator = running.enter_context(
                subprocess.Popen(
                    [*EMULATOR, model, "--pty", str(place / name), "--log",
                     str(place / f"{name}.jsonl"), "--set", *settings],
                    stdout=subprocess.PIPE, text=True, cwd=ROOT,
                )
            )  # fmt: skip
            running.callback(emulator.kill)
            emulators.append(emulator)
            assert emulator.stdout is not None
            assert emulator.stdout.readline().startswith("ready ")
            clients[name] = running.enter_context(
                subprocess.Popen(
                    [sys.executable, str(CLIENT), name, str(place / name)],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
                )
            )  # fmt: skip
            running.callback(clients[name].kill)
        seen = {}
        for name, client in clients.items():
            out, errors = client.communicate(timeout=DEADLINE_S)
            assert client.returncode == 0, f"{name}: {errors}"
            seen[name] = json.loads(out)
        for emulator in emulators:
            emulator.send_signal(signal.SIGTERM)
            emulator.wait(timeout=DEADLINE_S)
        logs = {name: (place / f"{name}.jsonl").read_text().splitlines() for name in UNITS}
        yield {name: Told(seen[name], [json.loads(x) for x in logs[name]]) for name in UNITS}


def gaps_us(pulses: list[dict[str, Any]]) -> list[int]:
    return [b["t_us"] - a["t_us"] for a, b in itertools.pairwise(pulses)]


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
