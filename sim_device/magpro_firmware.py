"""An emulated MagPro: what it makes of commands and of people at its panel, and what it says."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from firmware_protocol.magpro import messages as m
from firmware_protocol.magpro import names as n
from firmware_protocol.quantities import MS
from sim_device.device import Log
from sim_device.faults import Rule
from sim_device.magpro_settings import AnySettings
from sim_device.magpro_stage import Stage, Tell
from sim_device.magpro_wire import Command, Line, Malformed, encode
from sim_device.serial_unit import KINDS as COMMON
from sim_device.serial_unit import Effect, SerialUnit
from sim_device.wire_faults import Writes

KINDS: Final = COMMON | {
    "spontaneous_pulse", "disarms_itself", "falls_idle", "charger_fault", "panel_setting",
    "panel_mode", "panel_waveform", "panel_interval", "external_trigger",
}  # fmt: skip

WATCH_US: Final = 250 * MS
"""So often it looks at the coil by itself."""

NO_RAMP: Final = (100, 1)
"""Level of the first train, and trains of the ramp. No host has found out how to set them."""


class Magpro:
    """The firmware. Everything it does, it does through its bench."""

    kinds = KINDS
    effects: Mapping[str, Effect]

    def __init__(self, bench: SerialUnit, settings: AnySettings) -> None:
        self.bench, self.settings = bench, settings
        self.effects = {
            "spontaneous_pulse": lambda _: self.stage.spontaneous(),
            "disarms_itself": lambda _: self._button(),
            "falls_idle": lambda _: self._falls_idle(),
            "charger_fault": lambda _: self._charger_fault(),
            "panel_setting": self._knob,
            "panel_mode": lambda mode: self._turn(mode=mode),
            "panel_waveform": lambda waveform: self._turn(waveform=waveform),
            "panel_interval": lambda ipi_dms: self._turn(ipi_dms=ipi_dms),
            "external_trigger": lambda _: self._trigger_in(),
        }
        self._obey: dict[Callable[..., object], Callable[[Mapping[str, int]], None]] = {
            m.GetShortStatus: lambda _: self._answer(self._short_status()),
            m.SetAmplitude: self._set_amplitude,
            m.Disable: self._disable,
            m.Enable: self._enable,
            m.Fire: self._fire,
            m.Start: self._start,
            m.GetLongStatus: lambda _: self._answer(self._long_status()),
            m.SetTrain: self._set_train,
            m.SetPage: self._set_page,
            m.SetTrigger: self._set_trigger,
            m.GetWaveform: lambda _: self._answer(self._waveform()),
            m.SetWaveform: self._set_waveform,
            m.GetDelays: lambda _: self._answer(self._delays()),
            m.SetDelays: self._set_delays,
            m.GetTiming: lambda _: self._answer(self._timing()),
            m.SetTiming: self._set_timing,
            m.GetCounters: lambda _: self._answer(self._counters()),
        }
        tell = Tell(
            lambda: self._say(self._amplitude()),
            lambda: self._say(self._page_status()),
            lambda a, b: self._say(m.Didt(a, b, self._st())),
        )
        self.stage = Stage(bench, settings, tell)
        self._begin()

    @property
    def armed(self) -> bool:
        return self.stage.enabled

    # -- power ---------------------------------------------------------------------------------

    def power_down(self) -> None:
        self.stage.lose_power()

    def power_up(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._line = Line(check=self.settings.bad_crc == "ignore")
        self._deaf = False
        self._coil_told = self._coil_c(), self.bench.unit.coil_type
        self._watch()

    def _watch(self) -> None:
        self.bench.at(self.bench.now + WATCH_US, self._watch)

    def check(self) -> None:
        """A coil that is another, warmer or gone is told; a hot or missing one disables."""
        coil = self._coil_c(), self.bench.unit.coil_type
        if coil != self._coil_told:
            self._coil_told = coil
            self._say(self._coil())
        self.stage.check()

    # -- the line ------------------------------------------------------------------------------

    def hear(self, data: bytes) -> None:
        for item in self._line.feed(data):
            if self._deaf:
                return
            if isinstance(item, Malformed):
                self._deaf = bool(self.settings.deaf_on_malformed)
            elif not self.bench.lacks(item.row.code):
                self._carry_out(item)

    def _carry_out(self, command: Command) -> None:
        ignores = self.settings.out_of_range == "ignore"
        if ignores and not all(
            field.wire.allows(command.values[field.name])
            for field in command.row.fields
            if field.name in command.values
        ):
            return
        self._obey[command.row.make](command.values)

    def _after_us(self) -> int:
        low, high = self.settings.reply_min_ms, self.settings.reply_max_ms
        return self.bench.rng.randrange(low * MS, max(low, high) * MS + 1)

    def _answer(self, *messages: m.ToHost) -> None:
        """The frames of one answer leave together."""
        self.bench.answer(b"".join(map(encode, messages)), self._after_us())

    def _say(self, message: m.ToHost) -> None:
        """Unasked."""
        self.bench.say(encode(message), self._after_us())

    def _answer_if(self, setting: str, state: Callable[[], m.ToHost]) -> None:
        if setting == "state":
            self._answer(state())

    # -- what it says --------------------------------------------------------------------------

    def _st(self) -> int:
        panel = self.stage.panel
        return n.Status(panel.mode, panel.waveform, self.stage.enabled, panel.model).byte()

    def _coil_c(self) -> int:
        return min(max((self.stage.surface_dc() + 5) // 10, 0), 255)

    def _amplitude(self) -> m.Amplitude:
        return m.Amplitude(self.stage.panel.a_pct, self.stage.panel.b_now_pct, self._st())

    def _coil(self) -> m.Coil:
        return m.Coil(self._coil_c(), self.bench.unit.coil_type, self._st())

    def _page_status(self) -> m.PageStatus:
        return m.PageStatus(self.stage.panel.page, self._running(), self._st())

    def _running(self) -> int:
        return int(self.stage.train is not None)

    def _short_status(self) -> m.ShortStatus:
        panel = self.stage.panel
        return m.ShortStatus(
            self._st(),
            self.settings.serial,
            self._coil_c(),
            self.bench.unit.coil_type,
            panel.a_pct,
            panel.b_now_pct,
        )

    def _long_status(self) -> m.LongStatus:
        panel = self.stage.panel
        return m.LongStatus(
            *self._short_status(), panel.a_pct, panel.b_now_pct, 100, 100, panel.page,
            self._running(),
        )  # fmt: skip

    def _waveform(self) -> m.WaveformStatus:
        p = self.stage.panel
        return m.WaveformStatus(
            p.model, p.mode, p.direction, p.waveform, p.burst_index, p.ipi_index, p.ba_index
        )

    def _delays(self) -> m.Delays:
        panel = self.stage.panel
        return m.Delays(panel.delay_in_dms, panel.delay_out_dms, panel.charge_delay_ms)

    def _timing(self) -> m.Timing:
        p = self.stage.panel
        return m.Timing(
            p.control, p.rate_dhz, p.pulses, p.trains, p.iti_ds, p.warning, *NO_RAMP
        )  # fmt: skip

    def _counters(self) -> m.Counters:
        p = self.stage.panel
        return m.Counters(p.trains, p.trains * p.pulses, self.stage.count, p.page)

    # -- what it is told -----------------------------------------------------------------------

    def _set_amplitude(self, values: Mapping[str, int]) -> None:
        self._set_amplitudes(values["a_pct"], values.get("b_pct"))
        self._answer(self._amplitude())

    def _set_amplitudes(self, a_pct: int, b_pct: int | None) -> None:
        self.stage.panel.take_amplitudes(a_pct, b_pct)
        self.stage.charge()

    def _frames(self, ids: str) -> list[m.ToHost]:
        return [self._coil() if frame == "3" else self._amplitude() for frame in ids.split("-")]

    def _enable(self, _: Mapping[str, int]) -> None:
        self.stage.enable()
        self._answer(*self._frames(self.settings.enable_frames))

    def _disable(self, _: Mapping[str, int]) -> None:
        self.stage.disable("HOST_DISARM")
        self._answer(*self._frames(self.settings.disable_frames))

    def _fire(self, _: Mapping[str, int]) -> None:
        if not self.stage.enabled:
            self._refuse_disabled()
        elif self.stage.train is None:
            self.stage.trigger("fire")

    def _start(self, _: Mapping[str, int]) -> None:
        if not self.stage.enabled:
            self._refuse_disabled()
            return
        if self.settings.reply_04 == "mep":
            self._answer(m.Mep(0, 0, 0))
        # Its page frame is the answer; a start that changes nothing has none.
        self.stage.start()

    def _refuse_disabled(self) -> None:
        if self.settings.fire_disabled == "answer":
            self._answer(self._amplitude())

    def _set_page(self, values: Mapping[str, int]) -> None:
        page = values["page"]
        if page in n.SETTABLE_PAGES:
            self.stage.panel.page = page
        self._answer(self._page_status())

    def _set_train(self, values: Mapping[str, int]) -> None:
        if self.stage.panel.page == n.Page.TIMING:
            self.stage.panel.take_train(values)
        self._answer_if(self.settings.reply_06, self._timing)

    def _set_timing(self, values: Mapping[str, int]) -> None:
        self.stage.panel.take_timing(values)
        self._answer_if(self.settings.reply_0b_01, self._timing)

    def _set_trigger(self, values: Mapping[str, int]) -> None:
        self.stage.panel.take_delays(values)
        self._answer_if(self.settings.reply_08, self._delays)

    def _set_delays(self, values: Mapping[str, int]) -> None:
        self.stage.panel.take_delays(values)
        self._answer_if(self.settings.reply_0a_01, self._delays)

    def _set_waveform(self, values: Mapping[str, int]) -> None:
        other = values["model"] != self.settings.model
        if not (other and self.settings.wrong_model == "ignore"):
            self.stage.panel.take_waveform(values)
            self.stage.charge()
        self._answer_if(self.settings.reply_09_01, self._waveform)

    # -- people and sockets --------------------------------------------------------------------

    def _button(self) -> bool:
        """Somebody presses the enable button of a unit that is enabled."""
        if not self.stage.enabled:
            return False
        self.stage.disable("PANEL")
        self._say(self._amplitude())
        return True

    def _falls_idle(self) -> bool:
        enabled = self.stage.enabled
        self.stage.disable("NONE")
        return enabled

    def _charger_fault(self) -> bool:
        enabled = self.stage.enabled
        self.stage.break_charger()
        if enabled:
            self._say(self._amplitude())
        return True

    def _knob(self, by_pct: int) -> bool:
        """Its knob works at any time."""
        before = self.stage.panel.a_pct
        self._set_amplitudes(before + by_pct, None)
        changed = self.stage.panel.a_pct != before
        if changed:
            self._say(self._amplitude())
        return changed

    def _turn(self, **to: int) -> bool:
        """Mode, waveform or interval; False when the unit does not have it."""
        panel = self.stage.panel
        panel.take_waveform(panel.waveform_values() | to)
        shown = {"mode": panel.mode, "waveform": panel.waveform}
        if any(shown[name] != to[name] for name in shown.keys() & to.keys()):
            return False
        if "mode" in to and panel.mode is n.Mode.DUAL:
            panel.take_amplitudes(panel.a_pct, 100)
        self.stage.charge()
        if self.settings.panel_frames == "state":
            self._say(self._waveform())
            self._say(self._amplitude())
        return True

    def _trigger_in(self) -> bool:
        """An edge at the trigger input; False when it does nothing."""
        panel = self.stage.panel
        if not self.stage.enabled:
            return False
        starts = panel.page == n.Page.TIMING and panel.control in (
            n.TimingControl.EXTERNAL_SEQUENCE_START,
            n.TimingControl.EXTERNAL_SEQUENCE_CONTINUE,
        )
        at = self.bench.now + panel.delay_in_dms * 100
        self.bench.at(at, lambda: self._triggered(starts=starts))
        return True

    def _triggered(self, *, starts: bool) -> None:
        if starts:
            self.stage.start()
        elif self.stage.train is None:
            self.stage.trigger("trigger")


class _Frames(Writes):
    """One write may be several frames; each says its length."""

    def cut(self, data: bytes) -> list[bytes]:
        frames = []
        while data:
            size = data[1] + 4 if len(data) > 1 else 1
            frames.append(data[:size])
            data = data[size:]
        return frames


def make(settings: AnySettings, rng: random.Random, log: Log, rules: Iterable[Rule]) -> SerialUnit:
    """A whole unit, switched on."""
    return SerialUnit(
        settings, rng, log, rules, lambda bench: Magpro(bench, settings), _Frames(behind=1)
    )
