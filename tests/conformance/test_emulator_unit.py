"""The part of an emulated unit that is no firmware, on a firmware that only repeats."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from sim_device.faults import Rule
from sim_device.serial_unit import KINDS, Effect, SerialUnit
from sim_device.settings import Physics
from sim_device.wire_faults import Writes

MS = 1_000
SETTLED_US = 2_000_000


class Parrot:
    """Says each byte again after 5 ms, and lets a pulse go for a `!` once it is charged."""

    kinds = KINDS | {"panel_setting"}
    effects: Mapping[str, Effect]

    def __init__(self, bench: SerialUnit) -> None:
        self.bench = bench
        self.effects = {"panel_setting": self._turn}
        self.checks = 0
        self.power_up()

    def power_up(self) -> None:
        self.bench.unit.charge_to(50, self.bench.now)

    def power_down(self) -> None:
        pass

    def check(self) -> None:
        self.checks += 1

    def hear(self, data: bytes) -> None:
        for byte in data:
            if self.bench.lacks(byte):
                continue
            self.bench.answer(bytes((byte,)), 5 * MS)
            if byte == ord("!"):
                self.bench.pulse("fire")

    def _turn(self, by_pct: int) -> bool:
        self.bench.unit.charge_to(50 + by_pct, self.bench.now)
        return True


class Bench:
    def __init__(self, *rules: Rule) -> None:
        self.log: list[dict[str, Any]] = []
        self.settings = Physics(rise_us_per_pct=1)
        self.unit = SerialUnit(
            self.settings, random.Random(1), self.log.append, rules, Parrot, Writes()
        )
        self.now = self.settings.clock_us

    def wait(self, duration_us: int) -> bytes:
        self.now += duration_us
        self.unit.run_to(self.now)
        return self.unit.take_output()

    def say(self, data: bytes, wait_us: int = 100 * MS) -> bytes:
        self.unit.receive(data, self.now)
        return self.wait(wait_us)

    def pulses(self) -> list[float]:
        return [line["mso"] for line in self.log if line["event"] == "pulse"]


def test_answers_leave_in_their_order_and_at_their_time() -> None:
    bench = Bench()
    assert bench.say(b"abc", 5 * MS - 1) == b""
    assert bench.wait(1) == b"abc"


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        ("", None, [50]),
        ("no_fire", None, []),
        ("missing_pulse", None, []),
        ("phantom_pulse", None, []),
        ("intensity_bias", 20, [60]),
        ("hidden_bias", -20, [40]),
        ("extra_pulse", 5, [50, 47]),  # half refilled
    ],
)
def test_each_fault_of_a_pulse_acts_on_it(kind: str, value: int | None, wanted: list[int]) -> None:
    bench = Bench(*[Rule(kind, value, at_pulse=1)] if kind else [])
    bench.wait(SETTLED_US)
    bench.say(b"!")
    assert [round(mso) for mso in bench.pulses()] == wanted
    assert bench.unit.faults.counts == ({kind: 1} if kind else {})


def test_faults_of_the_line_act_on_both_ways() -> None:
    assert Bench(Rule("silent", at_us=0)).say(b"a") == b""
    assert Bench(Rule("rx_silent", at_us=0)).say(b"a") == b""
    assert Bench(Rule("echo", at_us=0)).say(b"a", 1) == b"a"
    assert Bench(Rule("no_reply", at_command=1)).say(b"ab") == b"b"
    assert Bench(Rule("lacks_command", ord("a"), at_us=0)).say(b"ab") == b"b"
    late = Bench(Rule("reply_late", 60, at_command=1))
    assert late.say(b"a", 64 * MS) == b""
    assert late.wait(1 * MS) == b"a"


def test_a_loss_of_power_forgets_what_was_under_way() -> None:
    bench = Bench(Rule("reboot", 20, at_us=2 * MS))
    assert bench.say(b"a", 10 * MS) == b""
    assert bench.say(b"b", 12 * MS) == b""  # it is dark
    assert bench.say(b"c") == b"c"
    assert [line["event"] for line in bench.log if "kind" not in line] == ["power_lost", "boot"]


def test_a_fault_of_the_firmware_happens_through_it() -> None:
    bench = Bench(Rule("panel_setting", -10, at_us=10 * MS))
    bench.wait(SETTLED_US)
    bench.say(b"!")
    assert bench.pulses() == [40.0]
