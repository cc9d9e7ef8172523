"""One conversation with MagPy_TMS, unmodified, against the terminal that is given.

Prints what the client believes as one JSON object. Usage: magpy_client.py CONVERSATION TERMINAL
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import serial.serialposix
from magpy import magstim

Belief = dict[str, Any]
CODE = "0123-456789ab-cd"


def tolerate_terminals_without_modem_lines() -> None:
    """A pseudo-terminal rejects RTS and DTR; pyserial forgives that at open only."""

    def forgiving(update: Callable[[Any], None]) -> Callable[[Any], None]:
        def attempt(port: Any) -> None:
            try:
                update(port)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTTY):
                    raise

        return attempt

    kind = serial.serialposix.Serial
    for name in ("_update_rts_state", "_update_dtr_state"):
        setattr(kind, name, forgiving(getattr(kind, name)))


def wait_until_ready(unit: Any, within_s: float = 8) -> float:
    """Seconds until the client sees that it may fire."""
    began = time.monotonic()
    while not unit.isReadyToFire():
        if time.monotonic() - began > within_s:
            raise TimeoutError("never ready")
        time.sleep(0.05)
    return time.monotonic() - began


def code_of(answer: Any) -> int:
    """The client's number of an error, 0 for none."""
    return int(answer[0])


def on_200(path: str) -> Belief:
    unit = magstim.Magstim(path)
    unit.connect()
    seen: Belief = {"before": unit.getParameters()[1]}
    seen["power"] = code_of(unit.setPower(60, receipt=True, delay=True))
    seen["after"] = unit.getParameters()[1]["magstimParam"]["power"]
    seen["temperature"] = unit.getTemperature()[1]["magstimTemp"]
    seen["fire_disarmed"] = code_of(unit.fire(receipt=True))
    seen["bad_data"] = code_of(unit._processCommand(b"@150", "instr", 3))
    seen["unknown"] = code_of(unit._processCommand(b"!", "instr", 3))
    time.sleep(0.05)  # the answer to its checksum, which is no command either, is flushed
    seen["bistim_only"] = code_of(unit._processCommand(b"C010", "instr", 3))
    seen["arm"] = code_of(unit.arm(receipt=True, delay=True))
    seen["ready_s"] = [wait_until_ready(unit)]
    seen["arm_again"] = code_of(unit.arm(receipt=True))
    seen["fired"] = 0
    for _ in range(2):
        seen["ready_s"].append(wait_until_ready(unit))
        seen["fired"] += code_of(unit.fire(receipt=True)) == 0
    time.sleep(0.03)
    seen["spent"] = unit.remoteControl(True, receipt=True)[1]["instr"]
    seen["fire_too_soon"] = code_of(unit.fire(receipt=True))
    seen["disarm"] = code_of(unit.disarm(receipt=True))
    seen["armed_in_the_end"] = unit.remoteControl(True, receipt=True)[1]["instr"]["standby"] == 0
    unit.disconnect()
    return seen


def on_bistim(path: str) -> Belief:
    unit = magstim.BiStim(path)
    unit.connect()
    time.sleep(0.15)
    seen: Belief = {"before": unit.getParameters()[1]["bistimParam"]}
    seen["set"] = [
        code_of(unit.highResolutionMode(True, receipt=True)),
        code_of(unit.setPowerA(50, receipt=True)),
        code_of(unit.setPowerB(40, receipt=True)),
        code_of(unit.setPulseInterval(2.5, receipt=True)),
    ]
    seen["after"] = unit.getParameters()[1]["bistimParam"]
    seen["arm"] = code_of(unit.arm(receipt=True, delay=True))
    seen["resolution_armed"] = code_of(unit.highResolutionMode(False, receipt=True))
    wait_until_ready(unit)
    seen["pair"] = code_of(unit.fire(receipt=True))
    time.sleep(0.05)  # what is set while a pair leaves may change its second pulse
    seen["both"] = [code_of(unit.setPulseInterval(0, receipt=True))]
    seen["rest_s"] = wait_until_ready(unit)
    seen["both"].append(code_of(unit.fire(receipt=True)))
    unit.disconnect()
    return seen


def on_rapid(path: str) -> Belief:
    unit = magstim.Rapid(path, superRapid=1, unlockCode=CODE)
    unit.connect()
    seen: Belief = {"version": unit._version}
    seen["power"] = code_of(unit.setPower(40, receipt=True))
    seen["delay"] = [code_of(unit.setChargeDelay(7, receipt=True))]
    seen["delay"].append(unit.getChargeDelay()[1]["chargeDelay"])
    seen["status"] = unit.getSystemStatus()[1]
    seen["error"] = unit.getErrorCode()[1]["currentErrorCode"]
    seen["trains"] = code_of(unit.rTMSMode(True, receipt=True))
    seen["frequency"] = code_of(unit.setFrequency(10, receipt=True))
    seen["too_fast"] = code_of(unit._processCommand(b"B0760", "instrRapid", 4))
    seen["pulses"] = code_of(unit.setNPulses(30, receipt=True))
    seen["duration"] = code_of(unit.setDuration(1.5, receipt=True))
    seen["enhanced_in_trains"] = code_of(unit.enhancedPowerMode(True, receipt=True))
    error, validated = unit.validateSequence()
    seen["validated"] = [error, validated["rapidParam"]]
    seen["arm"] = code_of(unit.arm(receipt=True, delay=True))
    wait_until_ready(unit)
    seen["train"] = code_of(unit.fire(receipt=True))
    time.sleep(0.3)
    seen["running"] = unit.getSystemStatus()[1]["rapid"]["train"]
    seen["fire_running"] = code_of(unit.fire(receipt=True))
    seen["rest_s"] = wait_until_ready(unit)
    seen["disarm"] = code_of(unit.disarm(receipt=True))
    seen["single"] = code_of(unit.rTMSMode(False, receipt=True))
    seen["enhanced"] = code_of(unit.enhancedPowerMode(True, receipt=True))
    seen["is_enhanced"] = unit.isEnhanced()
    seen["arm_2"] = code_of(unit.arm(receipt=True, delay=True))
    wait_until_ready(unit)
    seen["pulse"] = code_of(unit.fire(receipt=True))
    time.sleep(0.1)
    unit.disconnect()
    return seen


def on_old_rapid(path: str) -> Belief:
    """Firmware 7; its power is set by hand, since MagPy's own asks for a status it lacks."""
    unit = magstim.Rapid(path)
    unit.connect()
    seen: Belief = {"version": unit._version}
    seen["power"] = code_of(unit._processCommand(b"@050", "instr", 3))
    seen["parameters"] = unit.getParameters()[1]["rapidParam"]
    seen["coil_switch"] = [code_of(unit.arm(receipt=True))]
    seen["coil_switch"].append(code_of(unit.ignoreCoilSafetySwitch(receipt=True)))
    seen["arm"] = code_of(unit.arm(receipt=True, delay=True))
    wait_until_ready(unit)
    seen["pulse"] = code_of(unit.fire(receipt=True))
    time.sleep(0.1)
    unit.disconnect()
    return seen


def on_locked_rapid(path: str) -> Belief:
    """A wrong code is met with silence, in which MagPy waits for ever."""
    unit = magstim.Rapid(path, unlockCode="9999-456789ab-cd")
    waiting = threading.Thread(target=unit.connect, daemon=True)
    waiting.start()
    waiting.join(timeout=1)
    return {"waits": waiting.is_alive(), "connected": unit._connected}


CONVERSATIONS: dict[str, Callable[[str], Belief]] = {
    "200": on_200,
    "bistim": on_bistim,
    "rapid": on_rapid,
    "old_rapid": on_old_rapid,
    "locked_rapid": on_locked_rapid,
}


def main() -> None:
    multiprocessing.set_start_method("fork")  # its port process has to know what is tolerated
    tolerate_terminals_without_modem_lines()
    seen = CONVERSATIONS[sys.argv[1]](sys.argv[2])
    print(json.dumps(seen), flush=True)
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(0)  # a thread that waits for ever would keep it


if __name__ == "__main__":
    main()
