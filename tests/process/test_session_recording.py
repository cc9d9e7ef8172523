"""A whole session is recorded; what a killed guard left can be told in words and played again."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from drivers._seal import SEAL
from drivers.contract import Permit, PulseSeen
from drivers.tmslink.driver import TmslinkStimulator
from drivers.transport.replay import replay
from firmware_protocol import recording
from tests.process.system import System, until
from tmsctl.guard.entry import device_envelope
from tmsctl.guard.settings import read


@pytest.fixture
def system() -> Iterator[System]:
    made = System()
    made.write_config(str(made.port))
    text = made.config.read_text().replace("[guard]\n", f'[guard]\nrecord = "{made.folder}/rec"\n')
    made.config.write_text(text)
    yield made
    made.remove()


def permit(block: Any, start_at: Any, expires_at: Any, use_before: Any) -> Permit:
    return Permit(
        SEAL, block=block, start_at=start_at, expires_at=expires_at, use_before=use_before
    )


def recordings(system: System) -> list[Path]:
    return sorted((system.folder / "rec").glob("recording-*.txt"), key=lambda p: p.stat().st_mtime)


def in_words(system: System, path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and lines, by the program itself."""
    status, out, err = system.tmsctl("trace", str(path), "--json")
    assert (status, err) == (0, "")
    head, *lines = map(json.loads, out.splitlines())
    return head["recording"], lines


def words(lines: list[dict[str, Any]]) -> list[str]:
    """The first word of each whole frame."""
    frames = [line for line in lines if line["mark"] in "<>" and "damage" not in line]
    return [line["text"].split()[0] for line in frames]


def test_a_session_is_kept_through_the_death_of_the_guard(system: System) -> None:
    system.start()
    system.delivering()
    pid = system.guard_pid
    (path,) = recordings(system)
    os.kill(pid, signal.SIGKILL)
    system.until_new_guard(pid)
    system.until_disarmed("safe")
    pulses = len(system.truth.pulses())
    until(lambda: len(recordings(system)) == 2, "the next guard keeps its own")
    assert system.tmsctl("stop")[0] == 0
    until(
        lambda: list((system.runtime / "flight").glob("*.txt")), "the flight recorder has written"
    )
    system.end()

    # It is told in words: only what the self-test spoils is damaged, and all pulses are there.
    facts, lines = in_words(system, path)
    assert facts["driver"] == "tmslink"
    damaged = {(line["mark"], line["damage"]) for line in lines if "damage" in line}
    assert damaged == {(">", "checksum: a frame whose checksum is wrong")}
    told = words(lines)
    assert {"Hello", "Identity", "Arm", "Train", "Pulse", "Beat", "Status"} <= set(told)
    assert pulses - 3 <= told.count("Pulse") <= pulses  # the last may have found no reader

    # It is played again: the driver writes every byte as it did.
    records = list(recording.read(path.read_text().splitlines(keepends=True))[1])
    site = device_envelope(read(system.config).limits)
    again = replay(records, lambda port: TmslinkStimulator(port, site), permit)
    assert again.differs == ""
    assert again.written == sum(len(r.data) for r in records if r.mark == recording.TO_DEVICE)
    seen = [event for _, event in again.events if isinstance(event, PulseSeen)]
    assert len(seen) == told.count("Pulse")

    # The flight recorder's files are told by the same command.
    for flight in (system.runtime / "flight").glob("*.txt"):
        facts, lines = in_words(system, flight)
        assert (facts["driver"], facts["serial"]) == ("tmslink", "SIM00001")
        assert "Status" in words(lines)


def test_a_folder_that_cannot_be_written_stops_no_session(system: System) -> None:
    (system.folder / "rec").write_text("a file, and no folder")
    system.start()
    system.delivering()
    assert "the recording in" in (system.folder / "tmsd.log").read_text()
    system.end()


def test_the_guard_goes_slower_while_nothing_is_armed(system: System) -> None:
    """By its own record of when each cycle was due; a busy machine skips some, it adds none."""
    system.start()
    assert system.tmsctl("selftest")[0] == 0
    assert system.tmsctl("stop")[0] == 0
    until(lambda: list((system.runtime / "flight").glob("*.txt")), "the trip is written down")
    (flight,) = (system.runtime / "flight").glob("*.txt")
    cycles = re.findall(r"^(\d+) = cycle \d+ late (\d+)$", flight.read_text(), re.MULTILINE)
    due = [int(at) - int(late) for at, late in cycles]
    gaps_ms = [5 * round((after - before) / 5_000) for before, after in pairwise(due)]
    assert gaps_ms.count(20) > 10, gaps_ms  # connecting, and waiting for a person
    assert gaps_ms.count(10) > 10, gaps_ms  # the self-test
