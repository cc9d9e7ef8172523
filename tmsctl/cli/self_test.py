"""`tmsctl selftest`: the four proofs, one a line."""

from __future__ import annotations

import time
from typing import Final

from tmsctl.cli.client import Client
from tmsctl.cli.errors import EXIT_SELF_TEST
from tmsctl.cli.show import print_json

RUN_S: Final = 30.0
"""The device arms at 1 %MSO and disarms three times; a silent one is given up by the guard."""
READY_S: Final = 2.0
POLL_S: Final = 0.05

PROOFS: Final = {
    "dead_man": ("dead-man", "without the guard's beat the device disarms by itself"),
    "stop": ("STOP", "the device disarms and stays latched"),
    "bad_frame": ("damaged frame", "the device does not act on one"),
    "ledger": ("ledger write", "the result is on disk"),
}

MISSING: Final = {
    "dead_man": "this device has none: it goes on when the guard falls silent, see tmsctl doctor",
    "bad_frame": "not tried on this device: its protocol gives no safe way to do it",
}
"""Where a device has no such barrier, or none that can be proven: that is no proof."""


def run(client: Client, as_json: bool) -> int:
    """0 when all four hold, else EXIT_SELF_TEST. CliError when it cannot be run."""
    result = client.call("selftest.run", within_s=RUN_S)
    if result["passed"]:
        _until_ready(client)
    if as_json:
        print_json(result)
    else:
        for member, (name, words) in PROOFS.items():
            if result[member] is None:
                print(f"- none {name:<13}  {MISSING[member]}")
            else:
                print(f"{'✓ ok' if result[member] else '✗ NO'}  {name:<13}  {words}")
        print(result["detail"])
        print("The self-test has passed." if result["passed"] else "THE SELF-TEST HAS FAILED.")
    return 0 if result["passed"] else EXIT_SELF_TEST


def _until_ready(client: Client) -> None:
    """The device still has to be unlatched and looked at, before a session can follow at once."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        now = client.call("status.get")
        if now["device"]["state"] == "idle" and now["self_test"]["state"] == "passed":
            return
        time.sleep(POLL_S)
