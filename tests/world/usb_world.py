"""A simulated world whose stimulator has USB, and what goes wrong there beside the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from drivers.tmslink.driver import TmslinkStimulator
from firmware_protocol.quantities import MS, SECOND
from firmware_protocol.tmslink.messages import State
from sim_device.device import DeviceClock
from sim_device.faults import Rule
from sim_device.usb_tmslink import BULK_IN, BULK_OUT, INTERRUPT_IN, make_tmslink
from tests.world.chaos import DEVICE_ONCE, DEVICE_SPELLS, HOST, Chaos
from tests.world.sim import RESTART_US, START_US, Line, World
from tests.world.usb_bus import UsbBus
from tests.world.usb_line import VirtualOpener
from tmsctl.guard.entry import device_envelope
from tmsctl.safety.machine import Armed, Arming, Idle, Safe


class UsbWorld(World):
    """Its device is found by class and serial number; half of the guards are told which."""

    port: UsbBus

    def new_line(self, clock: DeviceClock) -> UsbBus:
        function = make_tmslink(self.firmware, self.settings.clock_us)
        self.named = self.settings.serial if self.rng.random() < 0.5 else ""
        return UsbBus(function, clock, START_US, self.rng)

    def new_driver(self) -> TmslinkStimulator:
        opener = self.opener = VirtualOpener(self.port, self.named, self.written, self.rng)
        return TmslinkStimulator(
            opener, device_envelope(self.site), usb_serial=lambda: opener.serial
        )

    def kill_guard(self, back_after_us: int = RESTART_US) -> None:
        lived = self.guard is not None
        super().kill_guard(back_after_us)
        if lived:
            self.opener.forget()
            self.port.forget()

    def _log(self, line: Line) -> None:
        super()._log(line)
        if self._events:
            line["usb_serial"] = self.port.function.about.texts[2]


ENDPOINTS: Final = (0, BULK_OUT, BULK_IN, INTERRUPT_IN, -1)
ONCE: Final = ("usb_stall", "usb_drop", "usb_short", "usb_babble", "usb_reset")
SPELLS: Final = ("usb_delay", "usb_nak", "usb_lies")
STATES: Final[dict[str, Callable[[World], bool]]] = {
    "safe": lambda world: isinstance(_state(world), Safe),
    "idle": lambda world: isinstance(_state(world), Idle),
    "arming": lambda world: isinstance(_state(world), Arming),
    "armed": lambda world: isinstance(_state(world), Armed) and not _fires(world),
    "firing": lambda world: isinstance(_state(world), Armed) and _fires(world),
}
AWAITED_US: Final = 20 * SECOND
AWAY_MS: Final = (20, 100, 500, 3_000)


class UsbChaos(Chaos):
    """Faults of USB, of the device behind it and of the computer; no bad frames."""

    def __init__(self, world: UsbWorld, kinds: tuple[str, ...] | None) -> None:
        self.usb = world
        if kinds is None:
            common = tuple(world.rng.sample(COMMON, world.rng.randrange(6)))
            kinds = (*common, *world.rng.sample(OF_USB, world.rng.randrange(2, 7)))
        super().__init__(world, kinds)

    def strike(self, kind: str) -> None:
        if kind in UNPLUGS:
            self._unplug_when(kind)
        elif kind == "usb_other_serial":
            self._other_serial()
        elif kind in ONCE or kind in SPELLS:
            self._transfers(kind)
        else:
            super().strike(kind)

    def _transfers(self, kind: str) -> None:
        rng = self.rng
        values = {"usb_stall": ENDPOINTS, "usb_drop": ENDPOINTS, "usb_nak": ENDPOINTS,
                  "usb_delay": (2, 10, 40, 150), "usb_short": (1, 5, 64),
                  "usb_lies": tuple(range(1, 9)), "usb_reset": AWAY_MS}  # fmt: skip
        value = rng.choice(values[kind]) if kind in values else None
        if kind in ONCE:
            self.inject(Rule(kind, value, times=rng.choice((1, 1, 2, 5))))
        else:
            self.inject(Rule(kind, value, for_us=self._spell_us()))

    def _unplug_when(self, kind: str) -> None:
        """At a random instant soon after the guard came into this state, if it does."""
        world, rng = self.world, self.rng
        if not world.run_until(lambda: STATES[UNPLUGS[kind]](world), AWAITED_US):
            return
        world.run(rng.randrange(30 * MS))
        for_us = rng.choice(AWAY_MS) * MS
        until_us = world.now + for_us
        world.hazards.append({"at_us": world.now, "what": "unplug", "until_us": until_us})
        world.faults[kind] += 1
        self.usb.port.plugged = False
        world.run(for_us)
        self.usb.port.plugged = True

    def _other_serial(self) -> None:
        """It comes back as if it were another one; some time later as itself."""
        world, rng = self.world, self.rng
        self.inject(Rule("usb_other_serial", times=1))
        self.inject(Rule("disconnect", rng.choice(AWAY_MS)))
        world.at(world.now + rng.randrange(4, 20) * SECOND, self._as_itself)

    def _as_itself(self) -> None:
        self.inject(Rule("disconnect", 100))

    def mend_line(self) -> None:
        """It has its own serial number again, and somebody restarts a guard that took another."""
        if not self.kinds:
            return
        self.usb.port.plugged = True
        self._as_itself()
        self.world.run(200 * MS)
        if self.usb.opener.serial not in ("", self.world.settings.serial):
            self.kill_guard()


UNPLUGS: Final = {f"unplug-{state}": state for state in STATES}
OF_USB: Final = (*UNPLUGS, *ONCE, *SPELLS, "usb_other_serial")
COMMON: Final = (*(name for name in HOST if name not in ("unplug", "cut")), *DEVICE_ONCE,
                 *DEVICE_SPELLS)  # fmt: skip


def _state(world: World) -> Any:
    return None if world.guard is None else world.guard.guard.state


def _fires(world: World) -> bool:
    return world.firmware.machine.state is State.FIRING
