"""A host in virtual time, for tests of the emulated MagPro alone."""

from __future__ import annotations

import itertools
import random
from typing import Any

from firmware_protocol.magpro import messages as m
from firmware_protocol.magpro import names as n
from firmware_protocol.magpro.framing import Decoder, frame, frame_of
from sim_device.faults import Rule
from sim_device.magpro_firmware import make
from sim_device.magpro_settings import R30Settings, X100Settings

MS = 1_000
SECOND = 1_000_000
REPLY_US = 80 * MS
TIMING = m.SetPage(n.Page.TIMING)


class Host:
    """Speaks to one unit without wires; both clocks are the unit's."""

    def __init__(self, *rules: Rule, seed: int = 1, r30: bool = False, **settings: Any) -> None:
        self.log: list[dict[str, Any]] = []
        self.heard: list[Any] = []
        kind: Any = R30Settings if r30 else X100Settings
        self.settings = kind(**{"rise_us_per_pct": 1_000, **settings})
        self.device = make(self.settings, random.Random(seed), self.log.append, rules)
        self.decoder = Decoder()
        self.now = self.device.now

    def wait(self, duration_us: int) -> bytes:
        """Time passes; the bytes that came."""
        self.now += duration_us
        self.device.run_to(self.now)
        data = self.device.take_output()
        self.heard += self.decoder.feed(data)
        return data

    def give(self, data: bytes, wait_us: int = REPLY_US) -> bytes:
        self.device.receive(data, self.now)
        return self.wait(wait_us)

    def ask(self, message: Any, wait_us: int = REPLY_US) -> list[Any]:
        """What came within the time that answers take."""
        before = len(self.heard)
        self.give(frame_of(message), wait_us)
        return self.heard[before:]

    def ask_raw(self, payload: bytes) -> list[Any]:
        """The same for a payload that our encoder would refuse."""
        before = len(self.heard)
        self.give(frame(payload))
        return self.heard[before:]

    def one(self, message: Any) -> Any:
        """The only answer."""
        (answer,) = self.ask(message)
        return answer

    def armed(self, a_pct: int = 50) -> Host:
        self.ask(m.SetAmplitude(a_pct))
        self.ask(m.Enable(), SECOND)
        assert self.status().enabled
        return self

    def status(self) -> n.Status:
        return n.status_of(self.one(m.GetShortStatus()).st)

    def truth(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]

    def pulses_at(self) -> list[int]:
        return [line["t_us"] for line in self.truth("pulse")]

    def gaps_us(self) -> list[int]:
        at = self.pulses_at()
        return [b - a for a, b in itertools.pairwise(at)]

    def causes(self) -> list[str]:
        return [line["cause"] for line in self.truth("disarm")]
