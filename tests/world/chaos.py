"""What can go wrong in a simulated world, by kind; each seed draws some of it, with its own rates.

Frames, device and coil fail as `sim_device.faults` lets them; processes, clocks, disk, cable and
computer fail here. Calm stretches lie between the storms, so that sessions get somewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from firmware_protocol.quantities import MS, SECOND
from sim_device.faults import KINDS, Rule

if TYPE_CHECKING:
    from tests.world.sim import World

HOT_C: Final = 30.0
"""Of the surface. A hotter coil is changed when the faults end: cooling takes many minutes."""

YEAR_US: Final = 365 * 24 * 3_600 * SECOND

FRAME_KINDS: Final = {  # kind: the highest probability for each frame
    "drop_frame": 0.3,
    "drop_byte": 0.1,
    "bit_flip": 0.3,
    "bad_crc": 0.2,
    "duplicate": 0.5,
    "replay": 0.5,
    "reorder": 0.2,
    "foreign_session": 0.3,
    "foreign_device": 0.3,
    "split": 0.3,
    "merge": 0.2,
    "jitter": 0.5,
}
LINE_KINDS: Final = ("garbage", "rx_garbage")
SPELLS: Final = (
    "silent", "rx_silent", "late", "rx_late", "revolving", "rx_revolving", "wrong_baud",
    "rx_wrong_baud", "echo",
)  # fmt: skip
DEVICE_ONCE: Final = (
    "refuse", "false_refusal", "false_ack", "no_reply", "wrong_reply", "reply_late",
    "missing_pulse", "phantom_pulse", "extra_pulse", "spontaneous_pulse", "disarms_itself",
    "falls_idle", "charger_fault", "panel_setting", "snap", "counter_jump", "clock_jump",
    "disconnect", "reboot", "coil_hot",
)  # fmt: skip
DEVICE_SPELLS: Final = (
    "refuse_arm", "busy", "no_fire", "intensity_bias", "hidden_bias", "intensity_drift",
    "coil_unplugged", "coil_swapped", "sensor_wrong", "sensor_stuck", "coil_heats",
    "charger_slow", "bleeds_slow", "ready_early", "door_open", "clock_drift_ppm",
)  # fmt: skip


class Chaos:
    """Draws its share of the kinds, and injects until told to end."""

    def __init__(self, world: World, kinds: tuple[str, ...] | None) -> None:
        """`kinds`: those of this world; None draws a random part of all."""
        self.world, self.rng = world, world.rng
        if kinds is None:
            known = [name for name in ALL if name in HOST or name in KINDS or name == "storm"]
            kinds = tuple(self.rng.sample(known, self.rng.randrange(1, 12)))
            kinds = (*dict.fromkeys((*kinds, "storm")),)
        self.kinds = kinds
        self.frames = {
            way + kind: highest * self.rng.random()
            for kind, highest in FRAME_KINDS.items()
            for way in ("", "rx_")
            if way + kind in KINDS and self.rng.random() < 0.5
        }
        self.calm_us = self.rng.choice((4, 12, 40)) * SECOND  # mean length of a calm stretch

    def rage(self, duration_us: int) -> None:
        """Calm stretches, each followed by one or a few faults."""
        world, rng = self.world, self.rng
        end = world.now + duration_us
        while world.now < end:
            world.run(min(int(rng.expovariate(1 / self.calm_us)), end - world.now))
            for _ in range(rng.choice((1, 1, 1, 2, 3))):
                self.strike(rng.choice(self.kinds))
                world.run(rng.randrange(200 * MS))

    def strike(self, kind: str) -> None:
        """One fault of this kind now."""
        if kind in HOST:
            HOST[kind](self)
        elif kind == "storm":
            self._storm()
        elif kind in DEVICE_ONCE or kind in LINE_KINDS:
            self.inject(Rule(kind, times=1, value=_value(kind, self)))
        else:
            self.inject(Rule(kind, for_us=self._spell_us(), value=_value(kind, self)))

    def inject(self, rule: Rule) -> None:
        """What is wrong already does not go wrong again."""
        if rule.kind in self.world.firmware.faults.in_force():
            return
        self.world.firmware.faults.add_from_now(rule, self.world.device_us())

    def _spell_us(self) -> int:
        return self.rng.choice((20, 100, 500, 2_000)) * MS

    def _storm(self) -> None:
        """Many bad frames in both directions for a while."""
        until = self.world.now + self.rng.randrange(300, 6_000) * MS
        self.world.hazard("storm", until)
        for kind, probability in self.frames.items():
            self.inject(Rule(kind, probability=probability, for_us=None))
        self.world.run(until - self.world.now)
        for kind in self.frames:
            self.world.firmware.faults.clear(kind)

    def end(self) -> None:
        """From here on nothing goes wrong any more, and what broke is mended."""
        world = self.world
        world.firmware.faults.clear_all()
        self.mend_line()
        world.disk_us = 0
        hot = world.firmware.machine.unit.heat.at(world.device_us()).surface_c > HOT_C
        if hot and self.kinds:
            world.cool_coil()
        world.run(1 * SECOND)  # whatever still lies there comes back

    def mend_line(self) -> None:
        self.world.to_device.cut = self.world.to_host.cut = False
        self.world.port.plugged = True

    # -- the computer ------------------------------------------------------------------------

    def kill_guard(self) -> None:
        back_us = self.rng.randrange(500, 3_000) * MS
        self.world.hazard("guard-kill", self.world.now + back_us)
        self.world.kill_guard(back_us)

    def stall_guard(self) -> None:
        for_us = self.rng.choice((5, 15, 25, 35, 45, 60, 100, 400, 2_000)) * MS
        self.world.hazard("guard-stall", self.world.now + for_us)
        self.world.stall_guard(for_us)

    def kill_tmsd(self) -> None:
        self.world.hazard("tmsd-kill")
        self.world.end_tmsd(in_order=False, back_after_us=self.rng.randrange(500, 3_000) * MS)

    def end_tmsd(self) -> None:
        self.world.hazard("tmsd-end")
        self.world.end_tmsd(in_order=True, back_after_us=self.rng.randrange(500, 3_000) * MS)

    def stall_tmsd(self) -> None:
        for_us = self.rng.choice((30, 100, 500, 900, 1_500, 4_000)) * MS
        self.world.hazard("tmsd-stall", self.world.now + for_us)
        self.world.stall_tmsd(for_us)

    def suspend(self) -> None:
        for_us = self.rng.randrange(100, 8_000) * MS
        self.world.hazard("suspend", self.world.now + for_us)
        self.world.suspend(for_us)

    def lose_power(self) -> None:
        dark_us = self.rng.randrange(2_000, 8_000) * MS
        self.world.hazard("power-loss", self.world.now + dark_us + 20 * SECOND)
        self.world.reboot(dark_us)

    def night(self) -> None:
        """Everything is switched off for hours, and the wall clock may be wrong afterwards."""
        self.world.hazard("power-loss", self.world.now + 1 * SECOND)
        dark = self.world.hazards[-1]
        self.world.faults["night"] += 1
        self.world.sleep(self.rng.choice((1, 4, 10, 30, 170)) * 3_600 * SECOND)
        dark["until_us"] = self.world.now
        if self.rng.random() < 0.5:
            self.step_clock()

    def step_clock(self) -> None:
        by_us = self.rng.choice((SECOND, 60 * SECOND, 3_600 * SECOND, 24 * 3_600 * SECOND, YEAR_US))
        by_us = int(by_us * self.rng.uniform(0.3, 1.0)) * self.rng.choice((-1, 1))
        self.world.hazard("clock-step", by_us=by_us)
        self.world.step_wall_clock(by_us)

    def win_days(self) -> None:
        """The wall clock is set forward by days, as if the dose of yesterday were long ago."""
        by_us = self.rng.randrange(1, 10) * 24 * 3_600 * SECOND
        self.world.hazard("clock-forward", by_us=by_us)
        self.world.step_wall_clock(by_us)

    def slow_disk(self) -> None:
        for_us = self.rng.randrange(100, 10_000) * MS
        self.world.hazard("disk-slow", self.world.now + for_us)
        self.world.disk_us = self.rng.choice((5, 20, 100, 400)) * MS
        self.world.at(self.world.now + for_us, self._disk_is_fast)

    def _disk_is_fast(self) -> None:
        self.world.disk_us = 0

    def fail_disk(self) -> None:
        self.world.hazard("disk-failure")
        self.world.disk.fault = self.rng.choice(tuple(self.world.disk.FAULTS))

    def unplug(self) -> None:
        for_us = self.rng.choice((20, 100, 500, 3_000)) * MS
        self.world.hazard("unplug", self.world.now + for_us)
        self.world.port.plugged = False
        self.world.run(for_us)
        self.world.port.plugged = True

    def cut(self) -> None:
        for_us = self.rng.choice((5, 30, 60, 200, 1_000)) * MS
        self.world.hazard("cut", self.world.now + for_us)
        wire = self.rng.choice((self.world.to_device, self.world.to_host))
        wire.cut = True
        self.world.run(for_us)
        wire.cut = False


HOST: Final[dict[str, Callable[[Chaos], None]]] = {
    "guard-kill": Chaos.kill_guard,
    "guard-stall": Chaos.stall_guard,
    "tmsd-kill": Chaos.kill_tmsd,
    "tmsd-end": Chaos.end_tmsd,
    "tmsd-stall": Chaos.stall_tmsd,
    "suspend": Chaos.suspend,
    "power-loss": Chaos.lose_power,
    "night": Chaos.night,
    "clock-step": Chaos.step_clock,
    "clock-forward": Chaos.win_days,
    "disk-slow": Chaos.slow_disk,
    "disk-failure": Chaos.fail_disk,
    "unplug": Chaos.unplug,
    "cut": Chaos.cut,
}

ALL: Final = (*HOST, "storm", *LINE_KINDS, *SPELLS, *DEVICE_ONCE, *DEVICE_SPELLS)


def _value(kind: str, chaos: Chaos) -> int | None:
    """Wide enough to matter where the default would be within what is allowed."""
    if kind in ("intensity_bias", "hidden_bias", "panel_setting", "snap"):
        return chaos.rng.choice((-20, 12, 15, 30) if kind != "snap" else (12, 15, 30))
    return None
