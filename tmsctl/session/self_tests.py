"""The self-test that a person asked for: one at a time, and its result goes to disk."""

from __future__ import annotations

from typing import Final

from firmware_protocol.quantities import SECOND
from firmware_protocol.table import spec_of
from tmsctl.ipc.messages import SelfTest, SelfTested, SelfTestState
from tmsctl.session.guard_view import GuardView
from tmsctl.session.ledger_desk import LedgerDesk
from tmsctl.session.refused import Exit, RefusedError
from tmsctl.session.state import Ask, Ports, ask

ENDS_WITHIN_US: Final = 15 * SECOND
"""A guard that has not told the end by then never will; every step of it takes at most 1 s."""

SELF_TEST: Final = spec_of(SelfTest).code

NO_SUCH: Final = 2
"""Of one proof: the device has no such barrier."""


def proof(told: int) -> bool | None:
    """One proof as the guard told it; None when the device has no such barrier."""
    return None if told == NO_SUCH else bool(told)


class SelfTests:
    """The newest one of this life of the service."""

    def __init__(self, desk: LedgerDesk, guard: GuardView, ports: Ports) -> None:
        self.last: SelfTested | None = None
        self.on_disk = False  # the ledger took its result: the fourth proof
        self._desk, self._guard, self._ports = desk, guard, ports
        self._begun_us: int | None = None  # CLOCK_BOOTTIME; None: none is under way

    @property
    def passed(self) -> bool:
        """All four proofs."""
        last = self.last
        proofs = last is not None and bool(last.dead_man and last.stop and last.bad_frame)
        return proofs and self.on_disk

    def begin(self) -> Ask:
        """RefusedError while another is under way, or the device cannot be tested."""
        now_us = self._ports.boot_us()
        snapshot = self._guard.ready(now_us)
        asked = self._begun_us is not None and 0 <= now_us - self._begun_us < ENDS_WITHIN_US
        if asked or snapshot.self_test == SelfTestState.RUNNING:
            sentence = "A self-test is under way."
            raise RefusedError(Exit.USAGE, "self-test-running", sentence, "Wait for its end.")
        self.last, self.on_disk, self._begun_us = None, False, now_us
        self._ports.send(SelfTest())
        return ask(lambda: self.last is not None, SelfTest)

    def ended(self, result: SelfTested) -> None:
        """The guard tells the result. JournalError when it cannot be written: not proven then."""
        self.last, self.on_disk, self._begun_us = result, False, None
        device = self._guard.last
        if device is not None:
            self._desk.write_self_test(result, device)
            self.on_disk = True

    def lost(self) -> None:
        """It was refused, or the guard is gone."""
        self._begun_us = None
