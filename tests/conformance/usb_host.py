"""A host of one emulated USB function, in virtual time and without a bus between them."""

from __future__ import annotations

import random
import struct
from typing import Any

from firmware_protocol.quantities import BootUs
from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.link import Link
from sim_device.faults import Rule
from sim_device.settings import Settings
from sim_device.tmslink_firmware import Firmware
from sim_device.usb_function import Completion, UsbFunction
from sim_device.usb_tmslink import BULK_IN, BULK_OUT, INTERRUPT_IN, make_tmslink

GET_DESCRIPTOR, SET_CONFIGURATION = (0x80, 6), (0x00, 9)
STOP, IDENTITY = (0x41, 1), (0xC1, 2)
OK, STALL = 0, -32


class Pending:
    """A transfer under way; what came of it."""

    def __init__(self) -> None:
        self.ended: Completion | None = None

    def __call__(self, completion: Completion) -> None:
        assert self.ended is None, "told twice"
        self.ended = completion

    @property
    def status(self) -> int | None:
        return None if self.ended is None else self.ended.status

    @property
    def data(self) -> bytes:
        assert self.ended is not None, "it is still under way"
        assert self.ended.status == OK
        return self.ended.data


class UsbHost:
    """Transfers to any function."""

    def __init__(self, function: UsbFunction, log: list[dict[str, Any]]) -> None:
        self.function, self.log = function, log
        self._keys = 0

    def wait(self, duration_us: int) -> None:
        self.function.run_to(self.function.now + duration_us)

    def ask(
        self, request: tuple[int, int], value: int = 0, index: int = 0, *, length: int = 0,
        data: bytes = b"",
    ) -> Pending:  # fmt: skip
        """A control transfer; `length` of what it wants to read."""
        pending, size = Pending(), length if request[0] & 0x80 else len(data)
        setup = struct.pack("<BBHHH", *request, value, index, size)
        self.function.control(self._key(), setup, data, pending)
        return pending

    def configure(self, value: int = 1) -> None:
        assert self.ask(SET_CONFIGURATION, value).status == OK

    def out(self, endpoint: int, data: bytes, **options: Any) -> Pending:
        pending = Pending()
        self.function.submit(self._key(), endpoint, data, pending, **options)
        return pending

    def read(self, endpoint: int, length: int = 4096) -> Pending:
        pending = Pending()
        self.function.submit(self._key(), endpoint, length, pending)
        return pending

    def take_back(self) -> bool:
        """The newest transfer."""
        return self.function.cancel(self._keys)

    def truth(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]

    def _key(self) -> int:
        self._keys += 1
        return self._keys


class TmslinkHost(UsbHost):
    """With the host's end of the protocol on it; always keeps one read pending at each endpoint."""

    def __init__(self, *rules: Rule, **settings: Any) -> None:
        self.settings = Settings(**settings)
        log: list[dict[str, Any]] = []
        self.device = Firmware(self.settings, random.Random(1), log.append, rules)
        super().__init__(make_tmslink(self.device, self.settings.clock_us), log)
        self.link = Link()
        self.came: list[tuple[int, Any]] = []  # by which endpoint, what
        self.cycle = 0
        self._reads: dict[int, Pending] = {}

    def listen(self) -> None:
        """Take what has come, and ask for more. Both endpoints in the order of their frames."""
        while True:
            for endpoint in (BULK_IN, INTERRUPT_IN):
                if endpoint not in self._reads:
                    self._reads[endpoint] = self.read(endpoint)
            ended = {at: read for at, read in self._reads.items() if read.ended is not None}
            if not ended:
                return
            for endpoint in ended:
                data = self._reads.pop(endpoint).data
                for event in self.link.receive(data, BootUs(self.function.now)):
                    self.came.append((endpoint, event))

    def forget_reads(self) -> None:
        """After a bus reset all have ended."""
        self._reads.clear()

    def say(self, data: bytes) -> Pending:
        sent = self.out(BULK_OUT, data, ends_with_zero=True)
        self.listen()
        return sent

    def hello(self) -> None:
        self.cycle = 0
        self.say(self.link.hello(m.Hello(m.PROTOCOL_VERSION, 7, self.function.now), 7))

    def beat(self) -> None:
        self.cycle += 1
        now = self.function.now
        self.say(self.link.tell(m.Beat(self.cycle, now, now, 2**60, 0)))

    def live(self, duration_us: int) -> None:
        for _ in range(duration_us // 10_000):
            self.wait(10_000)
            self.listen()
            self.beat()

    def armed(self) -> TmslinkHost:
        """Ready at 10 %MSO."""
        self.configure()
        self.hello()
        self.say(self.link.ask(m.Arm(10, 1), BootUs(2**60))[1])
        self.live(200_000)
        assert self.state is m.State.READY
        return self

    @property
    def state(self) -> m.State:
        return self.device.machine.state

    def all(self, kind: type) -> list[tuple[int, Any]]:
        return [(endpoint, event) for endpoint, event in self.came if isinstance(event, kind)]
