"""The causes of tmslink in the words of `drivers.contract`."""

from __future__ import annotations

from typing import Final

from drivers.line import ECHO
from firmware_protocol.tmslink import messages as wire
from firmware_protocol.tmslink.link import LinkCounters

FAULTS: Final[dict[int, str]] = {
    wire.Cause.COIL_HOT: "coil too hot",
    wire.Cause.COIL_ABSENT: "no coil connected",
    wire.Cause.CHARGER: "charger failure",
    wire.Cause.PANEL: "changed at the device's own panel",
}
CAUSES: Final[dict[int, str]] = {
    cause: "" if cause is wire.Cause.NONE else cause.name.lower().replace("_", " ")
    for cause in wire.Cause
}


def why_unanswered(before: LinkCounters, after: LinkCounters, heard_bytes: bool) -> str:
    """Code and sentence for a HELLO without an answer, from what the line gave since."""
    if after.echoed > before.echoed:
        return ECHO
    if after.bad_crc > before.bad_crc:
        return "checksum: frames of tmslink come, and their checksums are wrong"
    if heard_bytes:
        return "garbage: what comes is none of tmslink"
    return "mute: the port is open, but nothing speaks tmslink there"
