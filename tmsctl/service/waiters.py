"""Those who have asked the guard for something and wait until it is done."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from tmsctl.ipc import messages as ipc
from tmsctl.session.guard_view import GuardView, absent
from tmsctl.session.refused import Exit, RefusedError
from tmsctl.session.state import Ask

CONFIRM_S: Final = 3.0
"""The guard answers a command within a cycle; without an answer for this long it has hung."""


@dataclass(frozen=True, slots=True)
class _Waiter:
    ask: Ask
    settled: asyncio.Future[None]


class Waiters:
    """Told of everything that the guard says, after the engine was."""

    def __init__(self, guard: GuardView) -> None:
        self._guard = guard
        self._waiting: list[_Waiter] = []

    def hear(self, item: ipc.ToService) -> None:
        for waiter in self._waiting:
            if waiter.settled.done():
                continue
            if isinstance(item, ipc.Refused) and item.of_code in waiter.ask.codes:
                waiter.settled.set_exception(self._guard.refusal(item))
            elif waiter.ask.done():
                waiter.settled.set_result(None)

    def guard_down(self) -> None:
        for waiter in self._waiting:
            if not waiter.settled.done():
                waiter.settled.set_exception(absent())

    async def confirm(self, ask: Ask, within_s: float = CONFIRM_S) -> None:
        """Wait until the guard has done it.

        RefusedError when it refuses, is lost, is silent, or something else was done instead.
        """
        if not ask.done():
            await self._wait(ask, within_s)
        ask.ensure()

    async def _wait(self, ask: Ask, within_s: float) -> None:
        waiter = _Waiter(ask, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(within_s):
                await waiter.settled
        except TimeoutError:
            raise RefusedError(
                Exit.DEVICE,
                "guard-silent",
                f"The guard has not done it within {within_s:g} s.",
                "Look at the status; if in doubt, use the hardware stop.",
            ) from None
        finally:
            self._waiting.remove(waiter)
