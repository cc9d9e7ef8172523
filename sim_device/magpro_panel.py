"""What is set at an emulated MagPro, and the trains that it makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from firmware_protocol.magpro import names as n
from firmware_protocol.quantities import SECOND

_V = TypeVar("_V")


@dataclass(slots=True)
class Panel:
    """All that host and people set. What it does not have becomes the nearest that it has."""

    model: n.Model
    a_pct: int = 0
    b_pct: int = 0
    mode: n.Mode = n.Mode.STANDARD
    waveform: n.Waveform = n.Waveform.BIPHASIC
    direction: n.CurrentDirection = n.CurrentDirection.NORMAL
    burst_index: int = 3
    ipi_dms: int = 100
    ba_pct: int = 100
    page: int = n.Page.MAIN
    control: int = n.TimingControl.SEQUENCE
    rate_dhz: int = 10
    pulses: int = 5
    trains: int = 1
    iti_ds: int = 10
    warning: int = 0
    delay_in_dms: int = 0
    delay_out_dms: int = 0
    charge_delay_ms: int = 0

    @property
    def pulses_a_trigger(self) -> int:
        if self.mode in n.PAIRS:
            return 2
        if self.waveform is n.Waveform.BIPHASIC_BURST:
            return n.PULSES_OF_INDEX[self.burst_index]
        return 1

    @property
    def rate_max_dhz(self) -> int:
        return n.rate_max_dhz(self.model, self.mode, self.waveform)

    @property
    def _intervals_dms(self) -> tuple[int, ...]:
        """Intervals inside a trigger, in the order in which they are read back."""
        return n.IPI_OF_INDEX_PAIR_DMS if self.mode in n.PAIRS else n.IPI_OF_INDEX_BURST_DMS

    @property
    def ipi_index(self) -> int:
        return self._intervals_dms.index(nearest(self.ipi_dms, self._intervals_dms))

    @property
    def ba_index(self) -> int:
        """Of the ratio; in Dual of the amplitude of B."""
        if self.mode is n.Mode.DUAL:
            return n.B_OF_INDEX_DUAL_PCT.index(self.b_pct)
        return n.BA_OF_INDEX_TWIN_PCT.index(self.ba_pct)

    @property
    def b_now_pct(self) -> int:
        """Amplitude of B that the mode makes of the settings."""
        if self.mode is n.Mode.TWIN:
            return min(100, round(self.a_pct * self.ba_pct / 100))
        return self.b_pct

    def take_amplitudes(self, a_pct: int, b_pct: int | None) -> None:
        self.a_pct = min(max(a_pct, 0), 100)
        if b_pct is not None:
            self.b_pct = min(max(b_pct, 0), 100)

    def take_train(self, values: Mapping[str, int]) -> None:
        rates = [rate for rate in n.RATES_DHZ if rate <= self.rate_max_dhz]
        self.rate_dhz = nearest(values["rate_dhz"], rates)
        self.pulses = nearest(values["pulses"], n.PULSES_IN_TRAIN)
        self.trains = min(max(values["trains"], 1), n.TRAINS_MAX)
        self.iti_ds = min(max(values["iti_ds"], 1), n.ITI_MAX_DS)

    def take_timing(self, values: Mapping[str, int]) -> None:
        """The bit of the extended rate is not taken."""
        self.take_train(values)
        self.control = nearest(values["control"] & 0x0F, list(map(int, n.TimingControl)))
        self.warning = min(values["warning"], 1)

    def take_delays(self, values: Mapping[str, int]) -> None:
        self.delay_in_dms = nearest(values["delay_in_dms"], n.DELAY_IN_DMS)
        self.delay_out_dms = nearest(values["delay_out_dms"], n.DELAY_OUT_DMS)
        self.charge_delay_ms = nearest(values["charge_delay_ms"], n.CHARGE_DELAY_MS)

    def waveform_values(self) -> dict[str, int]:
        """What `take_waveform` would take to change nothing."""
        return {
            "mode": self.mode,
            "direction": self.direction,
            "waveform": self.waveform,
            "burst_index": self.burst_index,
            "ipi_dms": self.ipi_dms,
            "ba_pct": self.ba_pct,
        }

    def take_waveform(self, values: Mapping[str, int]) -> None:
        """A mode, waveform or direction that the model does not have stays as it was."""
        ability = n.ABILITIES[self.model]
        self.mode = _having(values["mode"], ability.modes, self.mode)
        self.waveform = _having(values["waveform"], ability.waveforms, self.waveform)
        self.direction = _having(values["direction"], ability.directions, self.direction)
        self.burst_index = min(values["burst_index"], len(n.PULSES_OF_INDEX) - 1)
        least_dms = 0
        if self.mode in n.PAIRS and self.waveform is n.Waveform.MONOPHASIC:
            least_dms = n.IPI_MIN_MONOPHASIC_DMS
        several = [ipi_dms for ipi_dms in self._intervals_dms if ipi_dms >= least_dms]
        self.ipi_dms = nearest(values["ipi_dms"], several)
        self.ba_pct = nearest(values["ba_pct"], n.BA_OF_INDEX_TWIN_PCT)
        self.rate_dhz = min(self.rate_dhz, self.rate_max_dhz)


def nearest(value: int, allowed: Sequence[int]) -> int:
    """The lower one of two that are equally near."""
    return min(allowed, key=lambda each: (abs(each - value), each))


def _having(value: int, having: tuple[_V, ...], else_: _V) -> _V:
    """The one of this number, when there is one."""
    return next((each for each in having if each == value), else_)


@dataclass(slots=True)
class Train:
    """Triggers that the unit times by itself, and how far it has come."""

    kind: str  # cause of its pulses in the ground truth
    rate_dhz: int
    pulses: int
    trains: int
    iti_us: int
    start_us: int
    train: int = 0
    place: int = 0
    fired: int = 0

    def due_us(self) -> int:
        """Instant of the next trigger."""
        period_us = 10 * SECOND // self.rate_dhz
        begins_us = self.train * ((self.pulses - 1) * period_us + self.iti_us)
        return self.start_us + begins_us + self.place * period_us

    def step(self) -> bool:
        """On to the next trigger; False when there is none."""
        self.place += 1
        if self.place == self.pulses:
            self.train, self.place = self.train + 1, 0
        return self.train < self.trains
