"""Every kind of fault of the emulated device, in tables: what it does, and when it can strike."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple


class Occasion(enum.Enum):
    """When a fault of a kind can strike."""

    TO_HOST = "each frame to the host"
    TO_DEVICE = "each frame to the device"
    COMMAND = "each command"
    PULSE = "each pulse of a lease"
    TRANSFER = "each USB transfer"
    DESCRIPTOR = "each USB descriptor"
    PLUGGING = "each plugging in"
    MOMENT = "any time, once"
    STATE = "any time, and goes on"


class Value(NamedTuple):
    unit: str
    default: int
    low: int
    high: int


class Kind(NamedTuple):
    occasion: Occasion
    lasts: bool  # goes on from its trigger; otherwise it strikes once
    value: Value | None
    doc: str


RX: Final = "rx_"
"""Begins the names of what happens on the way to the device."""


class FrameKind(NamedTuple):
    """What can happen to a frame on its way, one row for both ways."""

    lasts: bool
    value: Value | None
    doc: str


def _ms(default: int) -> Value:
    return Value("ms", default, 1, 10_000)


_BACK: Final = Value("frames back", 10, 1, 1_000)

FRAME_KINDS: Final[dict[str, FrameKind]] = {
    "silent": FrameKind(True, None, "no frame arrives"),
    "drop_frame": FrameKind(False, None, "a frame does not arrive"),
    "drop_byte": FrameKind(False, None, "a frame lacks one byte"),
    "bit_flip": FrameKind(False, None, "one bit of a frame is inverted"),
    "bad_crc": FrameKind(False, None, "right framing, wrong checksum"),
    "wrong_baud": FrameKind(True, None, "every byte becomes another one"),
    "late": FrameKind(True, _ms(20), "frames arrive later, in their order"),
    "jitter": FrameKind(True, _ms(20), "each frame is late by a random time up to this"),
    "split": FrameKind(False, _ms(3), "the second half of a frame arrives later"),
    "merge": FrameKind(True, _ms(16), "frames wait, and arrive together this often"),
    "reorder": FrameKind(False, _ms(15), "a frame is late, and others overtake it"),
    "duplicate": FrameKind(False, None, "a frame arrives twice"),
    "replay": FrameKind(False, _BACK, "an old frame arrives again, after a new one"),
    "revolving": FrameKind(
        True, Value("frames", 10, 1, 1_000), "so many old frames go round instead of new ones"
    ),
    "foreign_session": FrameKind(
        False, None, "a frame comes again as if of another session, rightly sealed"
    ),
    "foreign_device": FrameKind(
        False, None, "a frame comes again, sealed as if for another serial number"
    ),
}

_BYTES: Final = Value("bytes", 64, 1, 4096)
_PERCENT: Final = Value("%", 10, -100, 100)
_ONCE: Final = Occasion.MOMENT
_ON: Final = Occasion.STATE


def _frame_kinds(occasion: Occasion, prefix: str) -> dict[str, Kind]:
    return {prefix + name: Kind(occasion, *row) for name, row in FRAME_KINDS.items()}


_PIPE: Final = Value("endpoint", -1, -1, 255)

USB_KINDS: Final[dict[str, Kind]] = {
    # Endpoint: its address, 0 for control requests, -1 for any but those.
    "usb_stall": Kind(Occasion.TRANSFER, False, _PIPE, "the endpoint halts; 0: a request stalls"),
    "usb_delay": Kind(Occasion.TRANSFER, True, _ms(20), "data transfers wait, in their order"),
    "usb_drop": Kind(Occasion.TRANSFER, False, _PIPE, "a transfer never completes"),
    "usb_short": Kind(
        Occasion.TRANSFER, False, Value("bytes", 1, 1, 64), "an answer lacks its last bytes"
    ),
    "usb_babble": Kind(
        Occasion.TRANSFER, False, None, "more comes than was asked for (EOVERFLOW), and is lost"
    ),
    "usb_reset": Kind(
        Occasion.TRANSFER,
        False,
        Value("ms", 100, 1, 3_600_000),
        "it leaves the bus, and enumerates anew so much later",
    ),
    "usb_nak": Kind(_ON, True, _PIPE, "the endpoint answers NAK and nothing else"),
    "usb_lies": Kind(
        Occasion.DESCRIPTOR, True, Value("lie", 1, 1, 8), "a descriptor is wrong, see below"
    ),
    "usb_other_serial": Kind(
        Occasion.PLUGGING, False, None, "it comes back with another serial number"
    ),
}
"""What can happen where the port is USB, whatever the model."""

KINDS: Final[dict[str, Kind]] = {
    **_frame_kinds(Occasion.TO_HOST, ""),
    **_frame_kinds(Occasion.TO_DEVICE, RX),
    # The line as a whole.
    "echo": Kind(Occasion.TO_DEVICE, True, None, "the host's own bytes come back to it"),
    "garbage": Kind(_ONCE, False, _BYTES, "random bytes to the host"),
    "rx_garbage": Kind(_ONCE, False, _BYTES, "random bytes to the device"),
    "banner": Kind(_ONCE, False, None, "the text of a boot loader to the host"),
    "disconnect": Kind(
        _ONCE, False, Value("ms", 500, 1, 3_600_000), "the port is gone (EIO), and comes back"
    ),
    # Answers to commands. DISARM and STOP are touched by no_reply, wrong_reply, reply_late and
    # lacks_command alone.
    "refuse_arm": Kind(Occasion.COMMAND, True, None, "ARM is answered FAULT_PRESENT"),
    "refuse": Kind(
        Occasion.COMMAND, False, Value("result", 7, 1, 12), "not carried out; answered with this"
    ),
    "busy": Kind(Occasion.COMMAND, True, None, "TRAIN and FIRE are answered NOT_CHARGED"),
    "false_refusal": Kind(Occasion.COMMAND, False, None, "carried out, but answered FAULT_PRESENT"),
    "false_ack": Kind(Occasion.COMMAND, False, None, "answered APPLIED, but not carried out"),
    "no_reply": Kind(Occasion.COMMAND, False, None, "carried out, but not answered"),
    "wrong_reply": Kind(
        Occasion.COMMAND, False, None, "the answer names the frame before the command"
    ),
    "reply_late": Kind(Occasion.COMMAND, False, _ms(60), "the answer comes later"),
    "lacks_command": Kind(
        Occasion.COMMAND,
        True,
        Value("message code", 2, 0, 255),
        "firmware without this message: neither carried out nor answered",
    ),
    "snap": Kind(
        Occasion.COMMAND, False, Value("%MSO", 5, -100, 100), "ARM takes so much more than asked"
    ),
    # Pulses.
    "missing_pulse": Kind(Occasion.PULSE, False, None, "neither leaves nor is counted nor told"),
    "no_fire": Kind(Occasion.PULSE, True, None, "armed, takes leases, and no pulse leaves"),
    "phantom_pulse": Kind(
        Occasion.PULSE, False, None, "counted, and told with output 0, but does not leave"
    ),
    "extra_pulse": Kind(
        Occasion.PULSE, False, _ms(5), "a second pulse so much later, counted but not told"
    ),
    "intensity_bias": Kind(Occasion.PULSE, True, _PERCENT, "delivers more or less than is set"),
    "hidden_bias": Kind(
        Occasion.PULSE, True, _PERCENT, "the same, and only the slope of the current tells it"
    ),
    "intensity_drift": Kind(
        Occasion.PULSE, True, Value("permille", 5, -100, 100), "off by so much more each pulse"
    ),
    # What happens to the device.
    "spontaneous_pulse": Kind(_ONCE, False, None, "fires without a command, once it is charged"),
    "coil_hot": Kind(_ONCE, False, Value("0.1 C", 450, 0, 1000), "coil jumps to this"),
    "disarms_itself": Kind(_ONCE, False, None, "somebody presses stop on its panel"),
    "falls_idle": Kind(_ONCE, False, None, "armed no more, without a cause"),
    "charger_fault": Kind(_ONCE, False, None, "its charger fails and it latches"),
    "panel_setting": Kind(
        _ONCE, False, Value("%MSO", 5, -100, 100), "somebody turns its knob while it is armed"
    ),
    "panel_gap": Kind(
        _ONCE,
        False,
        Value("ms", 0, 0, 999),
        "somebody sets the time from pulse A to pulse B at its panel; 0: both at once",
    ),
    "panel_mode": Kind(
        _ONCE, False, Value("mode", 3, 0, 3), "somebody sets another mode; of a pair, B to 100 %"
    ),
    "panel_waveform": Kind(
        _ONCE, False, Value("waveform", 3, 0, 3), "somebody sets another waveform"
    ),
    "panel_interval": Kind(
        _ONCE,
        False,
        Value("0.1 ms", 50, 0, 30_000),
        "somebody sets another interval between the pulses of one trigger",
    ),
    "external_trigger": Kind(_ONCE, False, None, "an edge comes to its trigger input"),
    "clock_jump": Kind(
        _ONCE, False, Value("ms", 1000, -86_400_000, 86_400_000), "its clock jumps by this"
    ),
    "counter_jump": Kind(
        _ONCE, False, Value("pulses", 1000, -(2**31), 2**31), "its counter jumps by this"
    ),
    "counter_rollover": Kind(_ONCE, False, None, "its counter begins at 0 again"),
    "reboot": Kind(
        _ONCE, False, Value("ms", 500, 1, 3_600_000), "loses power; so much later it boots"
    ),
    # How the device is, for a time.
    "coil_absent": Kind(_ON, True, None, "the coil is unplugged; it notices and latches"),
    "coil_unplugged": Kind(_ON, True, None, "the coil is unplugged; only its STATUS shows it"),
    "coil_swapped": Kind(_ON, True, Value("coil type", 2, 1, 255), "another coil is connected"),
    "coil_heats": Kind(_ON, True, Value("0.1 C/s", 10, 1, 1000), "coil is heated from outside"),
    "cooling_failure": Kind(_ON, True, None, "a cooled coil is cooled no more"),
    "sensor_stuck": Kind(_ON, True, None, "temperatures stay where they are"),
    "sensor_wrong": Kind(
        _ON, True, Value("0.1 C", 0, -32768, 32767), "both temperatures read this"
    ),
    "charger_slow": Kind(_ON, True, Value("times", 5, 1, 1000), "charges so much more slowly"),
    "bleeds_slow": Kind(_ON, True, Value("times", 5, 1, 1000), "discharges so much more slowly"),
    "ready_early": Kind(_ON, True, None, "READY before the voltage is where it should be"),
    "door_open": Kind(_ON, True, None, "safety contact open: latches, and refuses ARM"),
    "clock_drift_ppm": Kind(
        _ON, True, Value("ppm", 500, -10_000, 10_000), "its clock runs this much faster"
    ),
    **USB_KINDS,
}
