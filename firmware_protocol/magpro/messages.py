"""The MagPro messages, declared once. Encoder, decoder, trace text and docs/magpro.md follow.

A message is a NamedTuple whose annotations say where each field lies in the payload, of which byte
0 is the id. Two bytes and more are big-endian but where they say so. Names end in their unit:
`_pct`, `_dhz` (0.1 Hz), `_ds` (0.1 s), `_dms` (0.1 ms), `_ms`, `_c` (degree C).

Two directions share ids: the table is asked by direction, id and, for 02, 09, 0A, 0B and 0C of the
host, the byte behind it.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

from firmware_protocol.magpro import names as n
from firmware_protocol.magpro.layout import Row, Wire, i16, message, rows, u8, u16
from firmware_protocol.table import Direction, Effect

START: Final = 0xFE
END: Final = 0xFF
FRAME_REST: Final = 4  # START, LEN, checksum, END
PAYLOAD_SIZE_MAX: Final = 32
"""Longer is no frame. The longest that anybody has seen has 15 bytes."""

REPLY_MAX_US: Final = 1_000_000
"""A host that has waited so long may take it that no reply comes; 20 to 80 ms are usual."""

_PERCENT: Final = (0, 100)
_OUT, _IN = Direction.TO_DEVICE, Direction.TO_HOST
_READ, _SAFE, _KEEP, _ENERGISE = Effect.READ, Effect.MAKE_SAFE, Effect.SUSTAIN, Effect.ENERGISE


# -- host to device -------------------------------------------------------------------------------


@message(0x00, _OUT, _READ, 1, reply="ShortStatus")
class GetShortStatus(NamedTuple):
    """Asks for the short status."""


@message(0x01, _OUT, _ENERGISE, 2, 3, reply="Amplitude")
class SetAmplitude(NamedTuple):
    """Intensity. TMSEMG_toolbox and MagventurePyTMS always send B, MAGIC and magicpy leave it
    out."""

    a_pct: Annotated[int, u8(1, *_PERCENT), "amplitude of A, %MSO"]
    b_pct: Annotated[int | None, u8(2, *_PERCENT), "amplitude of B, %MSO"] = None


@message(0x02, _OUT, _SAFE, 2, sub=0, reply="Amplitude, Coil, Amplitude")
class Disable(NamedTuple):
    """Disarms. How many of the three answers come is not known."""


@message(0x02, _OUT, _ENERGISE, 2, sub=1, reply="Amplitude, Coil, Amplitude")
class Enable(NamedTuple):
    """Charges and arms. An X100 sends all three answers."""


@message(0x03, _OUT, _ENERGISE, 1, 2, reply="Didt")
class Fire(NamedTuple):
    """One pulse, pair or burst; only while enabled. TMSEMG_toolbox and MagventurePyTMS send the
    short form, MAGIC and magicpy the long one."""

    one: Annotated[int | None, u8(1, 1, 1), "always 1"] = None


@message(0x04, _OUT, _ENERGISE, 1, reply="PageStatus, then Didt each pulse")
class Start(NamedTuple):
    """Starts the train on the Timing page, the protocol on the Protocol page. MAGIC and magicpy
    expect 17 bytes back, which nobody explains; a Mep frame has that length."""


@message(0x05, _OUT, _READ, 1, reply="LongStatus")
class GetLongStatus(NamedTuple):
    """Asks for the long status."""


@message(0x06, _OUT, _ENERGISE, 9, reply="not known")
class SetTrain(NamedTuple):
    """Train parameters. Only honoured on the Timing page."""

    rate_dhz: Annotated[int, u16(1, 1, 1_000), "pulses a second x 10"]
    pulses: Annotated[int, u16(3, 1, 2_000), "pulses, pairs or bursts in a train"]
    trains: Annotated[int, u16(5, 1, n.TRAINS_MAX), "number of trains"]
    iti_ds: Annotated[
        int, u16(7, 1, n.ITI_MAX_DS), "last pulse of a train to first of the next, 0.1 s"
    ]


@message(0x07, _OUT, _KEEP, 2, 3, reply="PageStatus")
class SetPage(NamedTuple):
    """Another page on the screen. MagventurePyTMS sends the short form, MAGIC and magicpy the long
    one."""

    page: Annotated[int, u8(1)._replace(among=tuple(map(int, n.SETTABLE_PAGES))), "page, see Pages"]
    zero: Annotated[int | None, u8(2, 0, 0), "always 0"] = None


@message(0x08, _OUT, _ENERGISE, 9, reply="not known")
class SetTrigger(NamedTuple):
    """Delays at the trigger sockets and before the recharge. Two zero bytes end it."""

    delay_in_dms: Annotated[int, u16(1, 0, 1_000), "trigger in to pulse, 0.1 ms"]
    delay_out_dms: Annotated[int, i16(3, -1_000, 1_000), "pulse to trigger out, 0.1 ms"]
    charge_delay_ms: Annotated[int, u16(5, 0, 10_000), "pulse to recharge, ms"]


@message(0x09, _OUT, _READ, 2, 11, sub=0, reply="WaveformStatus")
class GetWaveform(NamedTuple):
    """Asks for mode, direction, waveform and burst. MAGIC and magicpy pad it with zeros to the
    length of SetWaveform."""


@message(0x09, _OUT, _ENERGISE, 11, sub=1, reply="not known; MAGIC expects WaveformStatus")
class SetWaveform(NamedTuple):
    """Mode, direction, waveform and burst, all at once."""

    model: Annotated[int, u8(2, 0, max(n.Model)), "the unit's own model"]
    mode: Annotated[int, u8(3, 0, max(n.Mode)), "see Modes"]
    direction: Annotated[int, u8(4, 0, max(n.CurrentDirection)), "0 normal, 1 reverse"]
    waveform: Annotated[int, u8(5, 0, max(n.Waveform)), "see Waveforms"]
    burst_index: Annotated[int, u8(6, 0, 3), "0: 5 pulses, 1: 4, 2: 3, 3: 2"]
    ipi_dms: Annotated[int, u16(7, 5, 30_000), "pulse to pulse in a burst or pair, 0.1 ms"]
    ba_pct: Annotated[int, u16(9, 20, 500), "B in percent of A (Twin)"]


@message(0x0A, _OUT, _READ, 2, sub=0, reply="Delays")
class GetDelays(NamedTuple):
    """Asks for the delays."""


@message(0x0A, _OUT, _ENERGISE, 8, sub=1, reply="not known")
class SetDelays(NamedTuple):
    """Delays as in SetTrigger, in the wider ranges of the screen."""

    delay_in_dms: Annotated[int, u16(2, 0, 65_000), "trigger in to pulse, 0.1 ms"]
    delay_out_dms: Annotated[int, i16(4, -1_000, 1_000), "pulse to trigger out, 0.1 ms"]
    charge_delay_ms: Annotated[int, u16(6, 0, 12_000), "pulse to recharge, ms"]


@message(0x0B, _OUT, _READ, 2, sub=0, reply="Timing")
class GetTiming(NamedTuple):
    """Asks for the Timing menu."""


@message(0x0B, _OUT, _ENERGISE, 12, 14, sub=1, reply="not known")
class SetTiming(NamedTuple):
    """The Timing menu. MagventurePyTMS found no effect of the two bytes of the long form."""

    control: Annotated[int, u8(2, 0, max(n.TimingControl)), "see Timing control"]
    rate_dhz: Annotated[int, u16(3, 1, 1_000), "pulses a second x 10"]
    pulses: Annotated[int, u16(5, 1, 2_000), "pulses, pairs or bursts in a train"]
    trains: Annotated[int, u16(7, 1, n.TRAINS_MAX), "number of trains"]
    iti_ds: Annotated[
        int, u16(9, 1, n.ITI_MAX_DS), "last pulse of a train to first of the next, 0.1 s"
    ]
    warning: Annotated[int, u8(11, 0, 1), "1: a sound before each train"]
    ramp_pct: Annotated[int | None, u8(12, 70, 100), "level of the first train"] = None
    ramp_trains: Annotated[
        int | None, u8(13, 1, n.RAMP_TRAINS_MAX), "trains until the full level"
    ] = None


@message(0x0C, _OUT, _READ, 2, sub=0, reply="Counters")
class GetCounters(NamedTuple):
    """Asks for page and counters."""


# -- device to host -------------------------------------------------------------------------------

_ST_DOC: Final = "status byte, see Status byte"


@message(0x00, _IN, _READ, 9)
class ShortStatus(NamedTuple):
    """Answer to GetShortStatus."""

    st: Annotated[int, u8(1), _ST_DOC]
    serial: Annotated[int, Wire(2, 3, 0, 0xFF_FFFF), "serial number"]
    coil_c: Annotated[int, u8(5), "coil temperature; 90: cooled coil without its cooler"]
    coil_type: Annotated[int, u8(6), "see Coils"]
    a_pct: Annotated[int, u8(7), "amplitude of A, %MSO"]
    b_pct: Annotated[int, u8(8), "amplitude of B, %MSO"]


@message(0x01, _IN, _READ, 4)
class Amplitude(NamedTuple):
    """Intensity and status: an answer, and unasked whenever knob or enable button change one."""

    a_pct: Annotated[int, u8(1), "amplitude of A, %MSO"]
    b_pct: Annotated[int, u8(2), "amplitude of B, %MSO"]
    st: Annotated[int, u8(3), _ST_DOC]


@message(0x02, _IN, _READ, 4)
class Didt(NamedTuple):
    """A pulse has left. Twin and Dual send one or two for each pair, not predictably."""

    a_per_us: Annotated[int, u8(1), "realised slope of the current, A/us, of A"]
    b_per_us: Annotated[int, u8(2), "the same of B"]
    st: Annotated[int, u8(3), _ST_DOC]


@message(0x03, _IN, _READ, 4)
class Coil(NamedTuple):
    """The coil: an answer to 02, and unasked whenever its type or temperature changes."""

    coil_c: Annotated[int, u8(1), "coil temperature; 90: cooled coil without its cooler"]
    coil_type: Annotated[int, u8(2), "see Coils"]
    st: Annotated[int, u8(3), _ST_DOC]


@message(0x04, _IN, _READ, 13)
class Mep(NamedTuple):
    """A motor evoked potential that the unit's own amplifier has measured."""

    max_uv: Annotated[int, Wire(1, 4, -(2**31), 2**31 - 1, signed=True), "highest, uV"]
    min_uv: Annotated[int, Wire(5, 4, -(2**31), 2**31 - 1, signed=True), "lowest, uV"]
    max_at_us: Annotated[int, Wire(9, 4, 0, 2**32 - 1), "when it was highest, us"]


@message(0x05, _IN, _READ, 15)
class LongStatus(NamedTuple):
    """Answer to GetLongStatus."""

    st: Annotated[int, u8(1), _ST_DOC]
    serial: Annotated[int, Wire(2, 3, 0, 0xFF_FFFF), "serial number"]
    coil_c: Annotated[int, u8(5), "coil temperature; 90: cooled coil without its cooler"]
    coil_type: Annotated[int, u8(6), "see Coils"]
    a_pct: Annotated[int, u8(7), "amplitude of A, %MSO"]
    b_pct: Annotated[int, u8(8), "amplitude of B, %MSO"]
    original_a_pct: Annotated[int, u8(9), "amplitude of A before the factor"]
    original_b_pct: Annotated[int, u8(10), "amplitude of B before the factor"]
    factor_a_pct: Annotated[int, u8(11), "factor of A"]
    factor_b_pct: Annotated[int, u8(12), "factor of B"]
    page: Annotated[int, u8(13), "page, see Pages"]
    running: Annotated[int, u8(14), "1 while a train or protocol runs"]


@message(0x06, _IN, _READ, 4)
class OriginalAmplitude(NamedTuple):
    """Amplitudes before their factor, on the Protocol page."""

    a_pct: Annotated[int, u8(1), "of A"]
    b_pct: Annotated[int, u8(2), "of B"]
    st: Annotated[int, u8(3), _ST_DOC]


@message(0x07, _IN, _READ, 4)
class AmplitudeFactor(NamedTuple):
    """Factors of the amplitudes, on the Protocol page."""

    a_pct: Annotated[int, u8(1), "of A"]
    b_pct: Annotated[int, u8(2), "of B"]
    st: Annotated[int, u8(3), _ST_DOC]


@message(0x08, _IN, _READ, 4)
class PageStatus(NamedTuple):
    """Page, and whether a train runs: an answer, and unasked whenever one of them changes."""

    page: Annotated[int, u8(1), "page, see Pages"]
    running: Annotated[int, u8(2), "1 while a train or protocol runs"]
    st: Annotated[int, u8(3), _ST_DOC]


@message(0x09, _IN, _READ, 10)
class WaveformStatus(NamedTuple):
    """Mode, direction, waveform and burst. Interval and ratio come back as indices, not as they
    were sent."""

    model: Annotated[int, u8(2), "see Models"]
    mode: Annotated[int, u8(3), "see Modes"]
    direction: Annotated[int, u8(4), "0 normal, 1 reverse"]
    waveform: Annotated[int, u8(5), "see Waveforms"]
    burst_index: Annotated[int, u8(6), "0: 5 pulses, 1: 4, 2: 3, 3: 2"]
    ipi_index: Annotated[int, Wire(7, 2, 0, 0xFFFF, little=True), "see Indices; little-endian"]
    ba_index: Annotated[int, u8(9), "see Indices"]


@message(0x0A, _IN, _READ, 8)
class Delays(NamedTuple):
    """Answer to GetDelays."""

    delay_in_dms: Annotated[int, u16(2), "trigger in to pulse, 0.1 ms"]
    delay_out_dms: Annotated[int, i16(4), "pulse to trigger out, 0.1 ms"]
    charge_delay_ms: Annotated[int, u16(6), "pulse to recharge, ms"]


@message(0x0B, _IN, _READ, 14)
class Timing(NamedTuple):
    """Answer to GetTiming."""

    control: Annotated[int, u8(2), "see Timing control; bit 4: extended rate"]
    rate_dhz: Annotated[int, u16(3), "pulses a second x 10"]
    pulses: Annotated[int, u16(5), "pulses, pairs or bursts in a train"]
    trains: Annotated[int, u16(7), "number of trains"]
    iti_ds: Annotated[int, u16(9), "last pulse of a train to first of the next, 0.1 s"]
    warning: Annotated[int, u8(11), "1: a sound before each train"]
    ramp_pct: Annotated[int, u8(12), "level of the first train"]
    ramp_trains: Annotated[int, u8(13), "trains until the full level"]


@message(0x0C, _IN, _READ, 14, open_ended=True)
class Counters(NamedTuple):
    """Answer to GetCounters. Its other bytes are not known."""

    trains: Annotated[int, u16(2), "number of trains"]
    total: Annotated[int, Wire(5, 3, 0, 0xFF_FFFF), "pulses in train x number of trains"]
    stimuli: Annotated[int, u16(9), "stimuli so far; begins at 0 again behind 65535"]
    page: Annotated[int, u8(13), "page, see Pages"]


class Unknown(NamedTuple):
    """A sealed frame with an id that is not in the table, such as F0 and F1."""

    payload: bytes


TABLE: Final = rows()
_BY_KEY: Final = {(row.direction, row.code, row.sub): row for row in TABLE}

ToDevice = (
    GetShortStatus | SetAmplitude | Disable | Enable | Fire | Start | GetLongStatus | SetTrain
    | SetPage | SetTrigger | GetWaveform | SetWaveform | GetDelays | SetDelays | GetTiming
    | SetTiming | GetCounters
)  # fmt: skip
ToHost = (
    ShortStatus | Amplitude | Didt | Coil | Mep | LongStatus | OriginalAmplitude | AmplitudeFactor
    | PageStatus | WaveformStatus | Delays | Timing | Counters
)  # fmt: skip
AnyMessage = ToDevice | ToHost | Unknown


def find_row(payload: bytes, direction: Direction) -> Row | None:
    """The row that a payload belongs to by its first bytes, whatever its size."""
    if not payload:
        return None
    row = _BY_KEY.get((direction, payload[0], None))
    if row is None and len(payload) > 1:
        row = _BY_KEY.get((direction, payload[0], payload[1]))
    return row
