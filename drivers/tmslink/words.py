"""The causes of tmslink in the words of `drivers.contract.DeviceStatus`."""

from __future__ import annotations

from typing import Final

from firmware_protocol.tmslink import messages as wire

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
