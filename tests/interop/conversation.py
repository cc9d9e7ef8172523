"""Conversations of a client with emulated units: each in a process of its own, all side by side."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
EMULATOR = (sys.executable, "-c", "from sim_device.entry import main; main()")
DEADLINE_S = 50


class Told(NamedTuple):
    """What came of one: the client's belief, and the ground truth."""

    seen: dict[str, Any]
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


def converse(client: Path, units: Mapping[str, Sequence[str]], place: Path) -> dict[str, Told]:
    """`units`: for each conversation the model and its settings. They mostly wait."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with ExitStack() as running:
        clients: dict[str, subprocess.Popen[str]] = {}
        emulators = []
        for name, (model, *settings) in units.items():
            emulator = running.enter_context(
                subprocess.Popen(
                    [*EMULATOR, model, "--pty", str(place / name), "--log",
                     str(place / f"{name}.jsonl"), *(f"--set={each}" for each in settings)],
                    stdout=subprocess.PIPE, text=True, cwd=ROOT,
                )
            )  # fmt: skip
            running.callback(emulator.kill)
            emulators.append(emulator)
            assert emulator.stdout is not None
            assert emulator.stdout.readline().startswith("ready ")
            clients[name] = running.enter_context(
                subprocess.Popen(
                    [sys.executable, str(client), name, str(place / name)],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
                )
            )  # fmt: skip
            running.callback(clients[name].kill)
        seen = {}
        for name, talking in clients.items():
            out, errors = talking.communicate(timeout=DEADLINE_S)
            assert talking.returncode == 0, f"{name}: {errors}"
            seen[name] = json.loads(out)
        for emulator in emulators:
            emulator.send_signal(signal.SIGTERM)
            emulator.wait(timeout=DEADLINE_S)
    logs = {name: (place / f"{name}.jsonl").read_text().splitlines() for name in units}
    return {name: Told(seen[name], [json.loads(x) for x in logs[name]]) for name in units}


def gaps_us(pulses: list[dict[str, Any]]) -> list[int]:
    return [b["t_us"] - a["t_us"] for a, b in itertools.pairwise(pulses)]
