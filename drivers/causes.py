"""Every cause for which a device is not connected: its code, what it means, and what to do next."""

from __future__ import annotations

from typing import Final, NamedTuple


class Cause(NamedTuple):
    """A driver says CODE: sentence; what to do next is added here."""

    code: str
    means: str
    step: str


CAUSES: Final = (
    Cause("port-missing", "the port does not exist", "plug it in, or correct [device] url"),
    Cause("port-busy", "another program has opened the port", "end that program"),
    Cause("port-denied", "the guard's user may not open the port", "then start the guard again"),
    Cause(
        "port-ambiguous",
        "two USB devices are meant as well as one",
        "put the serial number into [device] url",
    ),
    Cause(
        "libusb-missing",
        "the library that reaches USB is not installed",
        "install the package libusb-1.0-0",
    ),
    Cause(
        "usb-descriptors",
        "what a USB device says of itself cannot be true",
        "do not use it; tell the maker of its firmware",
    ),
    Cause("port-wrong", "[device] url names something else", "correct [device] url"),
    Cause("port-failed", "the port cannot be opened", "see its cable and [device] url"),
    Cause("port-lost", "the port has gone", "plug the cable in again"),
    Cause("port-full", "the line takes only a part of a command", "see the cable and the unit"),
    Cause("mute", "nothing answers", "see power and cable, [device] driver and url"),
    Cause(
        "garbage",
        "what comes is of no such device: another one, its baud rate, or noise",
        "see [device] driver and url, then the cable",
    ),
    Cause(
        "checksum", "frames come, and the checksums are wrong", "see the cable and what is near it"
    ),
    Cause(
        "unasked",
        "bytes come before anything was asked, as from a DuoMAG; nothing is sent to it",
        "see [device] driver and url, then the cable",
    ),
    Cause("echo", "the line brings back what is sent", "take its own cable, switch off any echo"),
    Cause("wrong-model", "another model of the family answers", "correct [device] driver"),
    Cause(
        "wrong-mode", "it is set to give other pulses than the driver's", "set another at its panel"
    ),
    Cause("wrong-version", "it speaks another version of tmslink", "update device or tmsctl"),
    Cause(
        "firmware-unknown", "nobody has tried the driver with it", "do not use it; tell its version"
    ),
    Cause(
        "unlock-missing",
        "firmware 9 and later takes commands only after the unit's own code",
        "set device.options.unlock; the maker has the code",
    ),
    Cause("unlock-wrong", "the unit does not take the code", "correct device.options.unlock"),
    Cause("unlock-needless", "the unit knows no code", "remove device.options.unlock"),
    Cause("adc-missing", "its thermometer has no known scale", "measure it, set device.options"),
    Cause("no-remote", "the unit does not give remote control", "end what runs at its panel"),
    Cause("refused", "a step was answered with a refusal", "see its panel, switch it off and on"),
    Cause("no-answer", "it answered, and then did not", "see its cable; it is tried again"),
    Cause("still-armed", "it was told to disarm, and does not", "switch the unit off"),
    Cause("still-firing", "a train goes on that disarming does not end", "wait for its end"),
    Cause("device-silent", "it answered, and falls silent", "see power and cable"),
    Cause("restarted", "it has lost what it was set to", "see its power; it is set anew by itself"),
    Cause("reconnecting", "an acknowledged latch is being released", "wait a second"),
)
_STEPS: Final = {cause.code: cause.step for cause in CAUSES}


def code_of(why: str) -> str:
    return why.partition(": ")[0]


def with_step(why: str) -> str:
    """CODE: sentence, and what to do next."""
    step = _STEPS.get(code_of(why))
    return why if step is None else f"{why}; {step}"


def parted(link: str) -> tuple[str, str]:
    """What `with_step` has joined: the sentence, with its code, and the step; "" where none is."""
    step = _STEPS.get(code_of(link), "")
    sentence = link.removesuffix(f"; {step}")
    return (link, "") if sentence == link else (sentence, step)
