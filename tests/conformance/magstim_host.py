"""An emulated Magstim unit in virtual time, and a host that sends it single commands."""

from __future__ import annotations

import random
from typing import Any

from firmware_protocol.magstim import messages as m
from firmware_protocol.magstim.framing import Decoder, encode
from sim_device.entry import MODELS
from sim_device.faults import Rule
from sim_device.settings import parse_settings

MS, SECOND = 1_000, 1_000_000
CODE = "0123-456789ab-cd"
KINDS = {
    "magstim-200": m.Model.M200,
    "magstim-bistim": m.Model.BISTIM,
    "magstim-rapid": m.Model.RAPID,
}


class MagstimHost:
    """Time passes only in `wait` and while an answer is on its way, 5 ms."""

    def __init__(self, model: str, *sets: str, rules: tuple[Rule, ...] = ()) -> None:
        self.truth: list[dict[str, Any]] = []
        row = MODELS[model]
        settings: Any = parse_settings(sets, row.settings)
        self.unit: Any = row.make(settings, random.Random(1), self.truth.append, rules)
        self.now = settings.clock_us
        self.dialect = m.Dialect(KINDS[model], getattr(settings, "major", 0))

    def wait(self, duration_us: int) -> bytes:
        self.now += duration_us
        self.unit.run_to(self.now)
        heard: bytes = self.unit.take_output()
        return heard

    def bytes(self, wire: str, wait_us: int = 5 * MS) -> str:
        """What comes back for these bytes, in hexadecimal."""
        self.unit.receive(bytes.fromhex(wire), self.now)
        return self.wait(wait_us).hex()

    def ask(self, name: str, *values: m.Value) -> m.Reply | None:
        """One command and its reply; None for silence. Nothing else may come."""
        row = self.dialect.row(name)
        decoder = Decoder()
        decoder.expect(row)
        reply = decoder.feed(bytes.fromhex(self.bytes(encode(row, *values).hex())))
        assert decoder.garbage == 0
        return reply

    def does(self, name: str, *values: m.Value) -> m.Answer | None:
        reply = self.ask(name, *values)
        return None if reply is None else reply.answer

    def read(self, name: str) -> m.Values:
        reply = self.ask(name)
        assert reply is not None
        assert reply.answer is m.Answer.DONE
        return reply.values

    def status(self) -> m.Status:
        """By F, which needs no remote control, but keeps it."""
        return m.Status(int(self.read("get_temperature")["status"]))

    def keep(self, duration_us: int, *, step_us: int = 500 * MS) -> None:
        """Time passes, and the host is heard often enough."""
        end_us = self.now + duration_us
        while self.now < end_us:
            self.wait(min(step_us, end_us - self.now))
            self.ask("get_temperature")

    def take(self) -> None:
        """Remote control."""
        rapid = self.dialect.model is m.Model.RAPID and self.dialect.firmware >= 9
        reply = self.ask("unlock", CODE) if rapid else self.ask("enable_remote")
        assert reply is not None
        assert reply.answer is m.Answer.DONE

    def get_ready(self, power: int = 50) -> None:
        """Remote control, armed and ready at this power."""
        self.take()
        assert self.does("set_power", power) is m.Answer.DONE
        assert self.does("arm") is m.Answer.DONE
        self.until_ready()

    def until_ready(self) -> int:
        """How long it takes."""
        began_us = self.now
        for _ in range(2_000):
            if m.Status.READY in self.status():
                return self.now - began_us
            self.wait(5 * MS)
        raise AssertionError("never ready")

    def fire(self, wait_us: int = 10 * MS) -> m.Answer | None:
        answer = self.does("fire")
        self.wait(wait_us)
        return answer

    def events(self, *names: str) -> list[dict[str, Any]]:
        return [line for line in self.truth if line["event"] in names]

    @property
    def pulses(self) -> list[dict[str, Any]]:
        return self.events("pulse")

    @property
    def levels(self) -> list[int]:
        return [round(pulse["mso"]) for pulse in self.pulses]
