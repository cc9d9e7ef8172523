"""One conversation with magicpy, unmodified, against the terminal that is given.

Prints what the client believes as one JSON object. Usage: magicpy_client.py CONVERSATION TERMINAL

Before most commands magicpy discards what has not yet been sent, and on a terminal what has not yet
been read. So each command here waits for its answer, even where none will come.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import magicpy

Belief = dict[str, Any]
ANSWERED = {"get_response": True}
WAIT_S = 0.12
"""Longer than an answer takes. For bytes that are missing the client waits longer by itself."""


def connected(path: str) -> magicpy.MagVenture:
    unit = magicpy.MagVenture(path, wait_s=WAIT_S, wait_l=WAIT_S)
    unit.connect()
    unit.port.timeout = 1  # the three seconds of the client are only a longer silence
    return unit


def on_x100(path: str) -> Belief:
    unit = connected(path)
    seen: Belief = {"before": unit.get_status()}
    seen["fire_disabled"] = unit.fire(**ANSWERED)
    seen["amplitude"] = unit.set_amplitude(40, **ANSWERED)
    seen["enable"] = unit.arm(**ANSWERED)
    time.sleep(0.3)
    seen["fire"] = [unit.fire(**ANSWERED) for _ in range(2)]
    seen["burst_set"] = unit.set_waveform("BiphasicBurst", "Normal", 3, 20, 1, **ANSWERED)
    seen["burst"] = unit.fire(**ANSWERED)
    time.sleep(0.1)
    seen["waveform"] = unit.get_waveform()
    seen["ipi"] = unit.get_ipi()
    seen["biphasic_set"] = unit.set_waveform("Biphasic", "Normal", 2, 10, 1, **ANSWERED)
    seen["twin_set"] = unit.set_mode("Twin", "Normal", 2, 10, 1.5, **ANSWERED)
    time.sleep(0.3)
    seen["twin"] = unit.fire(**ANSWERED)
    seen["standard"] = unit.set_mode("Standard", "Normal", 2, 10, 1, **ANSWERED)
    seen["page"] = unit.set_page("Train", **ANSWERED)
    seen["train_set"] = unit.set_train(20, 5, 2, 1, **ANSWERED)
    unit.send_train()
    time.sleep(2.5)
    seen["status"] = unit.get_status()
    seen["status2"] = unit.get_status2()
    seen["disable"] = unit.disarm(**ANSWERED)
    seen["after"] = unit.get_status()
    unit.disconnect()
    return seen


def on_r30(path: str) -> Belief:
    unit = connected(path)
    seen: Belief = {"before": unit.get_status()}
    seen["amplitudes"] = unit.set_amplitude(30, 20, **ANSWERED)
    seen["burst_set"] = unit.set_waveform("BiphasicBurst", "Normal", 3, 20, 1, **ANSWERED)
    seen["reversed"] = unit.set_current_dir("Reversed", 2, 20, 1, **ANSWERED)
    seen["enable"] = unit.arm(**ANSWERED)
    seen["refused_by_client"] = []
    for amplitude in (-1, 101):
        try:
            unit.set_amplitude(amplitude)
        except AssertionError:
            seen["refused_by_client"].append(amplitude)
    time.sleep(0.3)
    seen["wrong_page"] = unit.send_train(**ANSWERED)
    seen["page"] = unit.set_page("Train", **ANSWERED)
    seen["train_set"] = unit.set_train(50, 6, 1, 1, **ANSWERED)
    unit.send_train()
    time.sleep(1.2)
    seen["after"] = unit.get_status()
    seen["disable"] = unit.disarm(**ANSWERED)
    unit.disconnect()
    return seen


def without_coil(path: str) -> Belief:
    unit = connected(path)
    seen: Belief = {"before": unit.get_status(), "enable": unit.arm(**ANSWERED)}
    seen["fire"] = unit.fire(**ANSWERED)
    unit.disconnect()
    return seen


def on_deaf(path: str) -> Belief:
    unit = connected(path)
    seen: Belief = {"before": unit.get_status()[1]}
    seen["no_such_command"] = unit.process_command("02", ["0D", "00"], **ANSWERED)
    seen["after"] = unit.get_status()
    unit.disconnect()
    return seen


CONVERSATIONS: dict[str, Callable[[str], Belief]] = {
    "x100": on_x100,
    "r30": on_r30,
    "coilless": without_coil,
    "deaf": on_deaf,
}

if __name__ == "__main__":
    with redirect_stdout(sys.stderr):  # the client talks to people as well
        belief = CONVERSATIONS[sys.argv[1]](sys.argv[2])
    print(json.dumps(belief))
