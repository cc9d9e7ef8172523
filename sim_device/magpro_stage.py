"""Power stage of an emulated MagPro: enabled or not, triggers, bursts, pairs and trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from firmware_protocol.magpro import names as n
from firmware_protocol.quantities import MS, SECOND
from sim_device.magpro_panel import Panel, Train
from sim_device.magpro_settings import AnySettings
from sim_device.physics import Capacitor
from sim_device.serial_unit import SerialUnit

COIL_COOLER_DC: Final = 30
"""Behind a hot coil it can be enabled again only when it is more than this below the limit."""


class Tell(NamedTuple):
    """What the stage says to the part that speaks to the host."""

    amplitude: Callable[[], None]
    page: Callable[[], None]
    didt: Callable[[int, int], None]


class Stage:
    """Charges, fires and lets down. Knows nothing of bytes."""

    def __init__(self, bench: SerialUnit, settings: AnySettings, tell: Tell) -> None:
        self.bench, self.settings, self.tell = bench, settings, tell
        self.panel = Panel(settings.model, page=settings.page)
        self.enabled = self._ready = False
        self.count = 0
        self.train: Train | None = None
        self._broken = False  # its charger has failed
        self._was_hot = False
        self._waits_for_train = False  # to disable it
        self._bank_b = Capacitor(bench.unit.capacitor.charger, bench.now)
        self._didt_a = 0  # of the pair under way
        self._life_no = self._charge_no = self._train_no = 0  # timers of what is over do nothing
        self._active_us = bench.now
        self._free_us: int | None = None  # first instant at which it takes another trigger

    # -- enabled or not ------------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self.bench.now

    def surface_dc(self) -> int:
        """Coil temperature as its sensor reads it."""
        if not self.settings.cooler and self.bench.unit.coil_type in n.COOLED_COILS:
            return n.NO_COOLER_C * 10
        return self.bench.unit.temperatures_dc(self.now)[1]

    def enable(self) -> None:
        """Unless something forbids it."""
        self.check()
        missing = self.bench.unit.coil_type == 0 and self.settings.coil_missing == "disable"
        if self.enabled or self._broken or self._was_hot or missing:
            return
        self.enabled, self._ready = True, False
        self._active_us = self.now
        if self.settings.count_resets == "enable":
            self.count = 0
        self.bench.log({"t_us": self.now, "event": "arm", "mso": self.panel.a_pct})
        self.charge()
        self._watch_idle(self._life_no)

    def disable(self, cause: str) -> None:
        """Let down; HOST_DISARM may have to wait for the end of a train."""
        if not self.enabled:
            return
        waits = cause == "HOST_DISARM" and not self.settings.disable_stops_train
        if waits and self.train is not None:
            self._waits_for_train = True
        else:
            self._let_down(cause)

    def _let_down(self, cause: str) -> None:
        self.enabled = self._waits_for_train = False
        self._life_no += 1
        self._charge_no += 1
        self.bench.unit.charge_to(0, self.now)
        self._bank_b = self._bank_b.charge_to(0, self.now)
        self.bench.log({"t_us": self.now, "event": "disarm", "cause": cause})
        self.end_train(cause)

    def break_charger(self) -> None:
        """It fails, until power is switched off and on."""
        self._broken = True
        self.bench.log({"t_us": self.now, "event": "fault", "cause": "CHARGER"})
        self.disable("CHARGER")

    def charge(self) -> None:
        """Both banks to what is set, when enabled."""
        if not self.enabled:
            return
        unit = self.bench.unit
        self._bank_b = self._bank_b.charge_to(self.panel.b_now_pct, self.now)
        if self._ready and unit.capacitor.target == self.panel.a_pct:
            return
        self._ready = False
        self._charge_no += 1
        number = self._charge_no
        unit.charge_to(self.panel.a_pct, self.now)
        self.bench.at(unit.charged_at_us(), lambda: self._charged(number))

    def _charged(self, number: int) -> None:
        if number != self._charge_no:
            return
        at = self.bench.unit.charged_at_us()
        if at > self.now:  # a pulse came between
            self.bench.at(at, lambda: self._charged(number))
        else:
            self._ready = True
            self.bench.log({"t_us": self.now, "event": "ready", "mso": self.panel.a_pct})

    def _watch_idle(self, life: int) -> None:
        limit_us = self.settings.disable_after_s * SECOND
        if not limit_us or life != self._life_no:
            return
        if self.now >= self._active_us + limit_us:
            self.disable("IDLE_TOO_LONG")
            self.tell.amplitude()
        else:
            self.bench.at(self._active_us + limit_us, lambda: self._watch_idle(life))

    def check(self) -> None:
        """Coil and temperature, whenever something has happened."""
        surface_dc = self.surface_dc()
        limit_dc = self.settings.coil_max_dc
        if self.settings.coil_hot == "disable":
            self._was_hot &= surface_dc > limit_dc - COIL_COOLER_DC
            self._was_hot |= surface_dc >= limit_dc
        cause = None
        if self._was_hot:
            cause = "COIL_HOT"
        elif self.bench.unit.coil_type == 0 and self.settings.coil_missing == "disable":
            cause = "COIL_ABSENT"
        if cause is not None and self.enabled:
            self.bench.log({"t_us": self.now, "event": "fault", "cause": cause})
            self.disable(cause)
            self.tell.amplitude()

    # -- pulses --------------------------------------------------------------------------------

    def trigger(self, cause: str) -> bool:
        """One pulse, pair or burst; False when it does not take it."""
        panel, unit = self.panel, self.bench.unit
        if not self.enabled or (self._free_us is not None and self.now < self._free_us):
            return False
        if self.settings.fire_uncharged == "ignore" and unit.charged_at_us() > self.now:
            return False
        pulses, ipi_us = panel.pulses_a_trigger, panel.ipi_dms * 100
        self._free_us = self.now + max(10 * SECOND // panel.rate_max_dhz, (pulses - 1) * ipi_us + 1)
        self._active_us = self.now
        if self.settings.counts == "trigger":
            self._count()
        life, pair = self._life_no, panel.mode in n.PAIRS

        def later(place: int) -> Callable[[], None]:
            return lambda: self._pulse(cause, place, life, pair=pair)

        later(0)()
        for place in range(1, pulses):
            self.bench.at(self.now + place * ipi_us, later(place))
        return True

    def _count(self) -> None:
        self.count = (self.count + 1) & 0xFFFF

    def _pulse(self, cause: str, place: int, life: int, *, pair: bool) -> None:
        """One discharge of a trigger, and what is told of it; none of an enabling that is over."""
        if life != self._life_no:
            return
        if self.settings.counts == "pulse":
            self._count()
        second = pair and place == 1
        if second:
            self._swap_banks()
        seen = self.bench.pulse(cause, place=place, count=self.count)
        self._hold_charge()
        if second:
            self._swap_banks()
        if seen is not None:
            self._tell_pulse(place, min(255, round(seen.didt_a_per_us)), pair=pair)

    def _swap_banks(self) -> None:
        """Pulse B comes from a bank of its own."""
        unit = self.bench.unit
        unit.capacitor, self._bank_b = self._bank_b, unit.capacitor

    def _hold_charge(self) -> None:
        """The bank that has just fired waits for the charge delay before it is refilled."""
        wait_us = self.panel.charge_delay_ms * MS
        if not wait_us:
            return
        unit = self.bench.unit
        left = unit.capacitor.at(self.now)
        unit.capacitor = Capacitor(unit.capacitor.charger, self.now, left, left, left)
        self._charge_no += 1
        number = self._charge_no
        self.bench.at(self.now + wait_us, lambda: self._refill(number))

    def _refill(self, number: int) -> None:
        if number == self._charge_no:
            unit = self.bench.unit
            unit.capacitor = self._filling(unit.capacitor, self.panel.a_pct)
            self._bank_b = self._filling(self._bank_b, self.panel.b_now_pct)

    def _filling(self, bank: Capacitor, pct: int) -> Capacitor:
        return Capacitor(bank.charger, self.now, bank.at(self.now), float(pct), float(pct))

    def _tell_pulse(self, place: int, didt: int, *, pair: bool) -> None:
        """Of a pair one frame with both slopes, or one more with that of A alone before it."""
        if not pair:
            if place == 0 or self.settings.burst_frames == "each":
                self.tell.didt(didt, 0)
            return
        if place == 0:
            self._didt_a = didt
            frames = self.settings.pair_frames
            if frames == "two" or (frames == "either" and self.bench.rng.random() < 0.5):
                self.tell.didt(didt, 0)
        else:
            self.tell.didt(self._didt_a, didt)

    def spontaneous(self) -> bool:
        """A pulse that nothing has triggered; False when nothing is charged."""
        unit = self.bench.unit
        if unit.capacitor.at(self.now) < 1:
            return False
        seen = unit.discharge(self.now, "spontaneous", 0, place=0, count=self.count)
        self.tell.didt(min(255, round(seen.didt_a_per_us)), 0)
        return True

    # -- trains --------------------------------------------------------------------------------

    def start(self) -> None:
        """The train of the Timing page or the protocol of the Protocol page."""
        panel, settings = self.panel, self.settings
        if not self.enabled:
            return
        if self.train is not None:
            if settings.start_running == "stop":
                self.end_train("HOST_STOP")
            return
        if panel.page == n.Page.TIMING:
            made = ("train", panel.rate_dhz, panel.pulses, panel.trains, panel.iti_ds * 100 * MS)
        elif panel.page == n.Page.PROTOCOL and settings.protocol_pulses:
            made = ("protocol", settings.protocol_rate_dhz, settings.protocol_pulses, 1, 0)
        else:
            return
        self.train = train = Train(*made, start_us=self.now)
        self._train_no += 1
        if settings.count_resets == "start":
            self.count = 0
        self.bench.log(
            {
                "t_us": self.now,
                "event": "train_start",
                "cause": train.kind,
                "start_us": self.now,
                "pulses": train.pulses * train.trains,
            }
        )
        self.tell.page()
        self._schedule(train)

    def _schedule(self, train: Train) -> None:
        number = self._train_no
        self.bench.at(train.due_us(), lambda: self._due(train, number))

    def _due(self, train: Train, number: int) -> None:
        if number != self._train_no or self.train is not train:
            return
        train.fired += self.trigger(train.kind)
        if self.train is not train:  # the coil became hot
            return
        if train.step():
            self._schedule(train)
        else:
            self.end_train("COMPLETE")

    def end_train(self, cause: str) -> None:
        train, self.train = self.train, None
        if train is None:
            return
        self.bench.log(
            {"t_us": self.now, "event": "train_end", "fired": train.fired, "cause": cause}
        )
        self.tell.page()
        if self._waits_for_train:
            self._waits_for_train = False
            self.disable("HOST_DISARM")
            self.tell.amplitude()

    def lose_power(self) -> None:
        """Nothing is left of what was set."""
        if self.enabled:
            self._let_down("POWER")
        self.panel = Panel(self.settings.model, page=self.settings.page)
        self.count = 0
        self._broken = self._was_hot = False
