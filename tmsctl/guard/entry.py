"""`tms-guard`: composition root of the guard process."""

from __future__ import annotations

import argparse
import fcntl
import os
import select
import sys
from pathlib import Path
from typing import Final

from drivers import registry
from drivers.contract import Envelope, LinkDown, LinkUp, Stimulator, Transport
from drivers.recorded import CallNotes, RecordedStimulator
from drivers.transport.recorder import RecordingTransport
from firmware_protocol.quantities import BootUs
from tmsctl.guard import realtime
from tmsctl.guard.core import Guard
from tmsctl.guard.flight import FlightRecorder
from tmsctl.guard.plans import plan_for
from tmsctl.guard.recording import Recording
from tmsctl.guard.recording import start as start_recording
from tmsctl.guard.runtime import Runtime, seconds
from tmsctl.guard.settings import Settings, SettingsError, read
from tmsctl.guard.sockets import ServiceSocket, StopSocket
from tmsctl.ipc.messages import settings_mark
from tmsctl.ipc.notify import notify
from tmsctl.safety.limits import Limits, device_limits
from tmsctl.stimulation.protocol import ProtocolFileError, load_library

SAFE_OFF_WAIT_MS: Final = 10


def main() -> int:
    """Exit status 0 after SIGTERM or lingering; 1, with one sentence, when it cannot start."""
    arguments = _parse(sys.argv[1:])
    try:
        settings = read(arguments.config)
        if arguments.safe_off:
            return _safe_off(settings)
        mark = settings_mark(arguments.config.read_bytes())
        return _guard(settings, mark, arguments.linger_s)
    except (SettingsError, ProtocolFileError, ValueError, OSError) as error:
        print(f"tms-guard: {str(error).rstrip('.')}.", file=sys.stderr)
        return 1


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tms-guard",
        description="Sole owner of the stimulator: enforces every limit every 10 ms. "
        "Not a cleared medical device.",
    )
    parser.add_argument("--config", type=Path, required=True, help="the configuration file (TOML)")
    parser.add_argument(
        "--linger-s",
        type=float,
        help="end when no tmsd has been connected for this many seconds (default: never)",
    )
    parser.add_argument(
        "--safe-off",
        action="store_true",
        help="only tell the device to stop, then end; for use after a guard that died",
    )
    return parser.parse_args(words)


def device_envelope(limits: Limits) -> Envelope:
    """What the device is told to keep to as well."""
    return Envelope(
        mso_max_pct=limits.mso_max_pct,
        interval_min_us=limits.interval_min_us,
        block_pulses_max=1_000,
        block_max_us=60_000_000,
        coil_max_dc=limits.coil_max_dc,
        recharge_us=(),  # only the device knows
        block_rest_us=0,
    )


def _driver(settings: Settings, wrap: registry.Wrap) -> Stimulator:
    place = registry.Place(
        settings.url, device_envelope(settings.limits), realtime.wall_seconds(), wrap
    )
    return registry.make(registry.find(settings.driver), place, settings.options)


def _recorded(settings: Settings, flight: FlightRecorder, kept: Recording | None) -> Stimulator:
    """The driver. The flight recorder has its bytes; a recording has its calls as well."""

    def noted(inner: Transport) -> Transport:
        return RecordingTransport(inner, realtime.now, flight.records.append)

    if kept is None:
        return _driver(settings, noted)
    notes = CallNotes(kept.note)

    def noted_twice(inner: Transport) -> Transport:
        return RecordingTransport(noted(inner), realtime.now, notes.passed)

    return RecordedStimulator(_driver(settings, noted_twice), notes)


def _facts(settings: Settings) -> dict[str, str]:
    """What a reader of the recording has to know, and who plays it again."""
    facts = {"driver": settings.driver, "url": settings.url, "clock": "CLOCK_BOOTTIME, us"}
    facts |= {} if settings.serial is None else {"serial": settings.serial}
    table = registry.find(settings.driver).options
    return facts | {
        f"option.{name}": str(value)
        for name, value in settings.options.items()
        if name in table and not table[name].secret
    }


def _safe_off(settings: Settings) -> int:
    """Open the port once, send STOP, and close it. A port in use has an owner who does it.

    It is not known who is on the port: STOP of one family can be an intensity of another. So the
    driver connects, which disarms also what cannot be heard, before it is told to stop.
    """
    driver = _driver(settings, lambda transport: transport)
    now = realtime.now()
    until = now + driver.info.connect_within_us
    while now < until:
        if any(isinstance(event, LinkUp | LinkDown) for event in driver.poll(now)):
            break
        waits = select.poll()
        if driver.fileno() >= 0:
            waits.register(driver.fileno(), select.POLLIN)
        waits.poll(SAFE_OFF_WAIT_MS)
        now = realtime.now()
    driver.stop(now)
    driver.close()
    return 0


def _guard(settings: Settings, mark: int, linger_s: float | None) -> int:
    library = load_library(settings.protocol_folders)
    runtime = settings.runtime
    runtime.mkdir(mode=0o750, parents=True, exist_ok=True)
    lock = os.open(runtime / "guard.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(f"another guard already runs in {runtime}") from None
    marker = runtime / "guard.unclean"
    latched = "the guard before this one did not end in order" if marker.exists() else None
    ended = runtime / "guard.ended"
    all_sent_since = _known_since(marker, ended)
    marker.touch()

    flight = FlightRecorder(runtime / "flight")
    kept = None if settings.record is None else start_recording(settings.record, _facts(settings))
    driver = _recorded(settings, flight, kept)
    stop, service = StopSocket(runtime / "stop.sock"), ServiceSocket(runtime / "guard.sock", mark)
    limits = device_limits(settings.limits, driver.info.status_age_us)
    guard = Guard(
        driver,
        limits,
        lambda load, envelope, why_not: plan_for(load, library, limits, envelope, why_not),
        settings.serial,
        realtime.now(),
        all_sent_since,
        latched,
    )
    guard.report.timing = realtime.prepare(settings.cpu)
    linger_us = None if linger_s is None else seconds(linger_s)
    notify("READY=1")
    Runtime(guard, stop, service, flight, notify, linger_us, kept).run()
    driver.close()
    if kept is not None:
        kept.close()
    ended.write_text(str(realtime.now()))
    marker.unlink(missing_ok=True)
    return 0


def _known_since(marker: Path, ended: Path) -> BootUs:
    """When the guard before this one can have fired last, as its files tell."""
    if marker.exists():
        return realtime.now()  # it died, nobody knows when
    try:
        return BootUs(min(int(ended.read_text()), realtime.now()))
    except FileNotFoundError:
        return BootUs(0)  # the first one since the computer was started
    except (OSError, ValueError):
        return realtime.now()
