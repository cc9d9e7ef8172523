"""The daily proof of the barriers, on a disarmed device with nobody's plan loaded.

The device is armed at 1 %MSO and never fires: the guard's state stays IDLE, where no permit is
ever made. Each proof must see the device energised before and disarmed after, so that a device
that did nothing at all proves nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from drivers.contract import SINGLE, DeviceState, Stimulator, StopClass
from firmware_protocol.quantities import MS, SECOND, BootUs, PercentMso
from tmsctl.guard.device_view import DeviceView
from tmsctl.ipc.messages import SelfTested, SelfTestState

MSO: Final = PercentMso(1)
STEP_MAX_US: Final = 2 * SECOND
"""A device that does not show the awaited state by then has failed the step."""

DEAD_MAN_GRACE_US: Final = 100 * MS
"""Beyond the device's dead-man: what a busy computer may take to see it."""

ASKED_GRACE_US: Final = 500 * MS
"""The same for a device that has to be asked, and may have to be connected again before."""

STOP_SEEN_US: Final = 150 * MS
RELEASE_EVERY_US: Final = 400 * MS
"""A STOP may take two ways (docs/tmslink.md, section 15); one that comes late latches once more."""

QUIET_US: Final = 100 * MS
"""A damaged frame that were obeyed would show in the status long before."""

NOT_PROVEN, PROVEN, NO_SUCH = 0, 1, 2
"""Of one proof; a device that has no such barrier says so, and its driver states what that means:
`StopClass`."""

_ENERGISED = (DeviceState.ARMING, DeviceState.READY)
_IDLE = (DeviceState.IDLE,)
_LATCHED = (DeviceState.LATCHED,)
_DISARMED = _IDLE + _LATCHED

_Script = Generator[bool, BootUs, str]
"""Yields once a cycle whether the beat may be sent; returns why it failed, or nothing."""


class SelfTest:
    """Of one guard. `state` and `passed_at` hold for one life of the device."""

    def __init__(self, driver: Stimulator, device: DeviceView) -> None:
        self._driver, self._device = driver, device
        self._state = SelfTestState.NONE
        self._passed_at: BootUs | None = None
        self._life: tuple[str, int] | None = None
        self._script: _Script | None = None
        self._proofs = {"dead_man": NOT_PROVEN, "stop": NOT_PROVEN, "bad_frame": NOT_PROVEN}
        self._measured: list[str] = []

    @property
    def running(self) -> bool:
        return self._script is not None

    @property
    def state(self) -> SelfTestState:
        if self.running:
            return SelfTestState.RUNNING
        return self._state if self._life == self._device.life else SelfTestState.NONE

    @property
    def passed_at(self) -> BootUs | None:
        """When it passed on the device as it was last switched on; None: it has not."""
        return self._passed_at if self.state is SelfTestState.PASSED else None

    def begin(self, now: BootUs, *, idle: bool) -> tuple[str, str] | None:
        """Begin, or say with code and sentence why not. `idle`: disarmed, and no plan is loaded."""
        if not idle or self.running:
            return "wrong-state", "a self-test needs IDLE and no session"
        if not self._device.known:
            return "no-device", "the stimulator of this place does not answer"
        self._state, self._passed_at, self._life = SelfTestState.NONE, None, self._device.life
        info = self._driver.info
        self._proofs = {
            "dead_man": NOT_PROVEN if info.dead_man_us is not None else NO_SUCH,
            "stop": NOT_PROVEN,
            "bad_frame": NOT_PROVEN if info.checks_frames else NO_SUCH,
        }
        self._measured = []
        self._script = self._prove(now)
        next(self._script)
        return None

    def step(self, now: BootUs, *, undisturbed: bool) -> tuple[bool, tuple[SelfTested, ...]]:
        """One cycle of it: may the beat be sent, and how it ended if it did."""
        assert self._script is not None
        if not undisturbed:
            self._driver.stop(now)
            return True, (self._end("something else happened", now),)
        try:
            return self._script.send(now), ()
        except StopIteration as ended:
            return True, (self._end(str(ended.value), now),)

    def _end(self, failed: str, now: BootUs) -> SelfTested:
        self._script = None
        good = not failed and all(self._proofs.values()) and self._life == self._device.life
        self._state = SelfTestState.PASSED if good else SelfTestState.FAILED
        self._passed_at = now if good else None
        detail = failed or "; ".join(self._measured)
        return SelfTested(boot_us=now, **self._proofs, detail=detail)

    # -- the proofs --------------------------------------------------------------------------

    def _prove(self, now: BootUs) -> _Script:
        if not self._driver.info.checks_frames:
            self._measured.append("damaged frames are not tried on this device")
        if self._driver.info.dead_man_us is None:
            self._measured.append("it has no dead-man")
        for proof in (self._bad_frame, self._dead_man, self._stop):
            failed = yield from proof(now)
            if failed:
                return failed
            failed = yield from self._until(_IDLE, "the device does not come back")
            if failed:
                return failed
            now = yield True
        return ""

    def _bad_frame(self, now: BootUs) -> _Script:
        if not self._driver.info.checks_frames:
            return ""
        self._driver.probe_bad_frame(now)
        sent_at = now
        while now - sent_at < QUIET_US or not self._has_heard(sent_at):
            if now - sent_at > STEP_MAX_US:
                return "the device has not shown that it heard anything after the damaged frame"
            now = yield True
            if self._device.status is None:
                return "the device fell silent after the damaged frame"
            if self._shows(_ENERGISED):
                return "the device armed on a damaged frame"
        self._proofs["bad_frame"] = PROVEN
        self._measured.append("damaged frame ignored")
        return ""

    def _dead_man(self, now: BootUs) -> _Script:
        """A device that speaks only when it is asked is asked once its time is over."""
        dead_man_us = self._driver.info.dead_man_us
        if dead_man_us is None:
            return ""
        failed = yield from self._arm(now)
        if failed:
            return failed
        speaks_when_asked = self._driver.info.stop_class is not StopClass.NATIVE_LEASE
        grace_us = ASKED_GRACE_US if speaks_when_asked else DEAD_MAN_GRACE_US
        last_beat_at = yield True
        now = yield True
        while not self._shows(_DISARMED):
            silent_us = now - last_beat_at
            if silent_us > dead_man_us + grace_us:
                return f"still armed {silent_us // MS} ms after the last beat"
            now = yield speaks_when_asked and silent_us > dead_man_us
        self._proofs["dead_man"] = PROVEN
        self._measured.append(f"dead-man within {(now - last_beat_at) // MS} ms")
        self._driver.acknowledge(now)
        return ""

    def _stop(self, now: BootUs) -> _Script:
        failed = yield from self._arm(now)
        if failed:
            return failed
        stopped_at = now = yield True
        self._driver.stop(now)
        while not self._shows(_DISARMED):
            if now - stopped_at > STOP_SEEN_US:
                return f"still armed {(now - stopped_at) // MS} ms after STOP"
            now = yield True
        self._proofs["stop"] = PROVEN
        self._measured.append(f"STOP within {(now - stopped_at) // MS} ms")
        self._driver.acknowledge(now)
        return ""

    def _arm(self, now: BootUs) -> _Script:
        self._driver.arm(MSO, SINGLE, now)
        return (yield from self._until(_ENERGISED, "the device does not arm"))

    def _until(self, states: tuple[DeviceState, ...], otherwise: str) -> _Script:
        now = began_at = released_at = yield True
        while not self._shows(states):
            if now - began_at > STEP_MAX_US:
                return otherwise
            if self._shows(_LATCHED) and now - released_at >= RELEASE_EVERY_US:
                self._driver.acknowledge(now)
                released_at = now
            now = yield True
        return ""

    def _shows(self, states: tuple[DeviceState, ...]) -> bool:
        status = self._device.status
        return status is not None and status.state in states

    def _has_heard(self, since: BootUs) -> bool:
        """Did the device hear something that was sent later than this?"""
        status = self._device.status
        return status is not None and status.asked_at > since
