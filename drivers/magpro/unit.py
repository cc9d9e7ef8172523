"""What a MagPro is told to connect, to arm and to be asked; and what it can deliver.

Conversations are generators, as in drivers/magstim/units.py: each yields a question and is sent the
answer, or None when none came. A conversation returns why it failed; empty when it did not.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final, NamedTuple

from drivers.contract import Envelope, PulseBlock, Shape
from firmware_protocol.magpro import messages as m
from firmware_protocol.magpro import names as n
from firmware_protocol.magpro.framing import frame_of
from firmware_protocol.quantities import MS, SECOND, PercentMso


class Ask(NamedTuple):
    """A command, and the kind of frame that answers it; None: nobody knows of an answer."""

    message: m.ToDevice | bytes
    answer: type[NamedTuple] | None

    @property
    def data(self) -> bytes:
        """As it is written."""
        return self.message if isinstance(self.message, bytes) else frame_of(self.message)


Answer = m.AnyMessage | None
Talk = Generator[Ask, Answer, str]

STATUS: Final = Ask(m.GetLongStatus(), m.LongStatus)
DISABLE: Final = Ask(m.Disable(), m.Amplitude)
WAVEFORM: Final = Ask(m.GetWaveform(), m.WaveformStatus)
FIRE: Final = m.Fire(1)

_DISABLE: Final = frame_of(m.Disable())
UNHEARD: Final = (
    Ask(frame_of(m.SetAmplitude(0)) + _DISABLE[:2], None),
    Ask(_DISABLE[2:], None),
)
"""How a unit that cannot be heard is disabled. `disable` holds 02 twice, which sets a DuoMAG to
2 %; with a pause between the two it does not. Should a real MagPro not bear the pause, which nobody
knows, it has come to 0 % before."""
COUNTERS: Final = Ask(m.GetCounters(), m.Counters)

MUTE: Final = (
    "mute: nothing answers; is the unit on, and the cable, a null modem, in its socket COM2"
)
MODELS: Final = {
    "magpro-r30": (n.Model.R30, n.Model.R30_OPTION, n.Model.R30_OPTION_MONO),
    "magpro-x100": (n.Model.X100, n.Model.X100_OPTION),
}
SHOWS_ST: Final = (
    m.ShortStatus, m.Amplitude, m.Didt, m.Coil, m.LongStatus, m.OriginalAmplitude,
    m.AmplitudeFactor, m.PageStatus,
)  # fmt: skip
"""Frames with the status byte, which shows mode and waveform."""

_BURST_INDEX: Final = {pulses: index for index, pulses in enumerate(n.PULSES_OF_INDEX)}
R30_RECHARGE_US_PER_PCT: Final = 500
"""No figure is public: at full output as slow as 20 Hz, below that as fast as the unit allows."""


class Unit:
    """One MagPro, as far as it has told."""

    def __init__(self, name: str) -> None:
        """`name`: of the driver, a key of MODELS."""
        self._driver = name
        self.model = n.Model.R30
        self.serial = 0
        self.status: m.LongStatus | None = None
        self.shape: Shape | None = None  # of a trigger, as the unit showed it; None: not armed
        self.armed: m.WaveformStatus | None = None  # what it showed then
        self.stimuli = 0  # its counter, as last read

    # -- what people set at its panel --------------------------------------------------------

    def forget(self) -> None:
        """It is no longer armed by us: nothing that it shows is compared with anything."""
        self.shape = self.armed = None

    def changed(self, shown: m.AnyMessage) -> str:
        """What a frame shows otherwise than arming read it back; empty when nothing.

        Armed is always Standard, where B does nothing: a B that counts is another mode.
        """
        armed = self.armed
        if armed is None:
            return ""
        if isinstance(shown, m.WaveformStatus):
            return "" if shown == armed else f"its panel: {shown} was set, {armed} was armed"
        if not isinstance(shown, SHOWS_ST):
            return ""
        st = n.status_of(shown.st)
        if (st.mode, st.waveform) == (armed.mode, armed.waveform):
            return ""
        return (
            f"its panel: mode {n.Mode(st.mode).name} and waveform {n.Waveform(st.waveform).name} "
            f"were set, {n.Mode(armed.mode).name} and {n.Waveform(armed.waveform).name} were armed"
        )

    def pulses_by(self, shown: m.AnyMessage) -> int:
        """Pulses of one trigger by what a frame shows, at most."""
        armed = self.armed
        index = armed.burst_index if armed is not None else None
        if isinstance(shown, m.WaveformStatus):
            mode, waveform, index = shown.mode, shown.waveform, shown.burst_index
        elif isinstance(shown, SHOWS_ST):
            mode, waveform, _, _ = n.status_of(shown.st)
            if armed is not None and armed.waveform != waveform:
                index = None  # of another waveform it may be another one
        else:
            return 1
        if mode in n.PAIRS:
            return 2
        if waveform != n.Waveform.BIPHASIC_BURST:
            return 2 if isinstance(shown, m.Didt) and shown.b_per_us else 1
        known = index is not None and index < len(n.PULSES_OF_INDEX)
        return n.PULSES_OF_INDEX[index] if known and index is not None else max(n.PULSES_OF_INDEX)

    def hindrance(self, block: PulseBlock) -> str:
        """Why what it shows forbids this trigger; empty when it does not."""
        status = self.status
        if (
            status is not None
            and status.a_pct == block.mso.value
            and self.shape == Shape(block.pulses_per_burst, block.interval_us)
            and not self.changed(status)
        ):
            return ""
        return "changed: what the unit shows is not what was set"

    # -- conversations -----------------------------------------------------------------------

    def connect(self, is_silent: Callable[[], bool]) -> Talk:
        """See what it is, and disable it. `is_silent`: no byte has come since the port was opened.

        In this order: `disable` holds the same byte twice, which sets a DuoMAG to 2 %. That one
        streams: where nothing comes at all may be a MagPro that cannot be heard, and carries on.
        """
        if (yield STATUS) is None and (yield STATUS) is None:
            if is_silent():
                yield from UNHEARD
            return MUTE
        yield DISABLE  # answered in ways that nobody has published: the status tells
        status = yield STATUS
        if not isinstance(status, m.LongStatus):
            return "no-answer: nothing came back to the question for its status"
        shown = n.status_of(status.st)
        allowed = MODELS[self._driver]
        if shown.model not in allowed:
            what = n.Model(shown.model).name if shown.model in tuple(n.Model) else shown.model
            return f"wrong-model: this is a MagPro {what}"
        if shown.enabled:
            return "still-armed: it does not disable"
        self.model, self.serial = n.Model(shown.model), status.serial
        return ""

    def arm(self, mso: PercentMso, shape: Shape) -> Talk:
        """Waveform, amplitude, both read back; then enable."""
        self.forget()
        failed = yield from self._set_shape(shape)
        if failed:
            return failed
        answer = yield Ask(m.SetAmplitude(mso.value, mso.value), m.Amplitude)
        if not isinstance(answer, m.Amplitude):
            return "no-answer: nothing came back to the amplitude"
        if answer.a_pct != mso.value:
            return f"refused: {mso} were set, and it shows {answer.a_pct}"
        answer = yield Ask(m.Enable(), m.Amplitude)
        if not isinstance(answer, m.Amplitude):
            return "no-answer: nothing came back to enable"
        if not n.status_of(answer.st).enabled:
            return "refused: it does not enable"
        counters = yield COUNTERS
        if not isinstance(counters, m.Counters):
            return "no-answer: nothing came back to the question for its counter"
        self.stimuli = counters.stimuli
        return ""

    def _set_shape(self, shape: Shape) -> Talk:
        shown = yield WAVEFORM
        if not isinstance(shown, m.WaveformStatus):
            return "no-answer: nothing came back to the question for the waveform"
        burst = shape.pulses > 1
        wave = n.Waveform.BIPHASIC_BURST if burst else n.Waveform.BIPHASIC
        index = _BURST_INDEX[shape.pulses] if burst else shown.burst_index
        yield Ask(
            m.SetWaveform(
                model=self.model,
                mode=n.Mode.STANDARD,
                direction=shown.direction,  # what the person set at the panel stays
                waveform=wave,
                burst_index=index,
                ipi_dms=shape.interval_us // 100 if burst else 100,
                ba_pct=100,
            ),
            None,
        )
        shown = yield WAVEFORM
        if not isinstance(shown, m.WaveformStatus):
            return "no-answer: nothing came back to the question for the waveform"
        good = shown.mode == n.Mode.STANDARD and shown.waveform == wave
        if burst:
            ipi_dms = n.IPI_OF_INDEX_BURST_DMS
            in_table = shown.ipi_index < len(ipi_dms)
            good = (
                good
                and shown.burst_index == index
                and in_table
                and 100 * ipi_dms[shown.ipi_index] == shape.interval_us
            )
        if not good:
            return "refused: the unit does not show the waveform that was set"
        self.shape, self.armed = shape, shown
        return ""

    # -- what it can -------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return f"MagPro {'R30' if self._driver == 'magpro-r30' else 'X100'}"

    @property
    def envelope(self) -> Envelope:
        """One trigger at a time, by the host. Ceilings of the rate: MagventurePyTMS."""
        fastest_dhz = n.rate_max_dhz(self.model, n.Mode.STANDARD, n.Waveform.BIPHASIC)
        slow = self._driver == "magpro-r30"
        per_pct = R30_RECHARGE_US_PER_PCT if slow else 0
        least_us = -(-10 * SECOND // fastest_dhz)
        return Envelope(
            mso_max_pct=100,
            interval_min_us=10 * MS,
            block_pulses_max=max(n.PULSES_OF_INDEX),
            block_max_us=0,
            coil_max_dc=1_000,
            recharge_us=tuple(max(least_us, per_pct * pct) for pct in range(101)),
            block_rest_us=0,
        )

    def refuses(self, block: PulseBlock) -> str:
        """Why it never gives such a trigger."""
        pulses = block.pulses_per_burst
        if pulses == 1:
            return ""
        if n.Waveform.BIPHASIC_BURST not in n.ABILITIES[self.model].waveforms:
            return f"a MagPro {self.model.name} has no bursts"
        if pulses not in _BURST_INDEX:
            return f"a MagPro gives bursts of 2 to 5 pulses, not of {pulses}"
        if block.interval_us % 100 or block.interval_us // 100 not in n.IPI_OF_INDEX_BURST_DMS:
            return f"a MagPro has no interval of {block.interval_us} us in a burst"
        return ""
