"""Judges of the line: dead-man (O5), STOP (O9), the channel (O12), pulse and command (O13)."""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections import defaultdict
from typing import Any, Final

from tests.world.evidence import INTENDED, MS, Evidence, clock, events, injected, intended

DEAD_MAN_US: Final = 50 * MS
SLACK_US: Final = 100
"""Clocks 500 ppm apart over 50 ms are 25 us; roundings add a few."""


TOLD_WITHIN_US: Final = 150 * MS
"""A host that does not yet know that the device disarmed by itself goes on permitting so long."""


def dead_man(e: Evidence) -> list[str]:
    """O5: each pulse within 50 ms after an accepted beat that permitted it; else disarmed."""
    found = []
    fed_at, permit_us, armed, disarmed_at, booted_us = -DEAD_MAN_US, 0, False, -1, 0
    beats = iter(e["heard"])
    beat = next(beats, None)
    clocks_hold = not injected(e, "clock_jump")
    for line in events(e, "arm", "disarm", "remote", "pulse", "boot", "dead_man"):
        while beat is not None and beat[0] <= line["at_us"]:
            at_us, _, name, _, _, values = beat
            if name in ("Beat", "Hello"):
                if armed and at_us - fed_at > DEAD_MAN_US + SLACK_US:
                    found.append(f"armed from {clock(fed_at)} to {clock(at_us)} without a beat")
                fed_at, permit_us = at_us, values[3] if name == "Beat" else 0
                if permit_us and not armed and at_us - disarmed_at > TOLD_WITHIN_US:
                    found.append(f"a beat permits pulses at {clock(at_us)}, nothing is armed")
            beat = next(beats, None)
        event, at_us = line["event"], line["at_us"]
        late = at_us - fed_at > DEAD_MAN_US + SLACK_US
        if event == "pulse":
            permitted = line["t_us"] - booted_us <= permit_us or not clocks_hold
            if line["cause"] in INTENDED and (late or not permitted):
                found.append(f"pulse at {clock(at_us)}; the last beat was at {clock(fed_at)}")
            continue
        if armed and late and event != "arm":
            found.append(f"armed until {clock(at_us)}; the last beat was at {clock(fed_at)}")
        if event == "boot":
            booted_us = line["t_us"]  # its clock begins again
        if armed and event != "arm":
            disarmed_at = at_us
        armed = event == "arm"
    return found


STOP_US: Final = 20 * MS
STOP_BAD_LINE_US: Final = 60 * MS
"""A STOP that the line eats is repeated, and the permit of the last beat runs out in 50 ms."""

_LINE_FAULTS: Final = ("storm", "cut", "unplug")


def stop_latency(e: Evidence) -> list[str]:
    """O9: no commanded pulse and no permit later than 20 ms after STOP, and STOP arrives."""
    found = []
    pulses = [pulse["at_us"] for pulse in intended(e)]
    arms = [line["at_us"] for line in events(e, "arm")]
    stops = [line["at_us"] for line in events(e, "stop")]
    permits = [at for at, _, name, _, _, values in e["heard"] if name == "Beat" and values[3]]
    bad = [(h["at_us"], h["until_us"]) for h in e["hazards"] if h["what"] in _LINE_FAULTS]
    bad += [(line["at_us"], line["at_us"] + 3_000 * MS) for line in events(e, "injected")]
    for ask in e["asks"]:
        if ask["what"] != "stop" or ask["answer"] != "ok":
            continue
        at_us = ask["at_us"]
        on_bad_line = any(a - 100 * MS <= at_us <= b + STOP_US for a, b in bad)
        within = STOP_BAD_LINE_US if on_bad_line else STOP_US
        rearmed = next((at for at in arms if at > at_us), at_us + 2_000 * MS)
        late = [at for at in pulses if at_us + within < at < rearmed]
        if late:
            found.append(f"{len(late)} pulses up to {(late[-1] - at_us) // MS} ms after STOP "
                         f"at {clock(at_us)}")  # fmt: skip
        still = [at for at in permits if at_us + within < at < rearmed]
        if still:
            found.append(f"still permitted {(still[-1] - at_us) // MS} ms after STOP "
                         f"at {clock(at_us)}")  # fmt: skip
        arrived = any(at_us <= at <= at_us + within for at in stops)
        if ask["armed"] and not on_bad_line and not arrived:
            found.append(f"STOP at {clock(at_us)} never reached the armed device")
    return found


POLYNOMIAL: Final = 0xF1922815
_FORMS: Final = {  # code and layout; written down again here from docs/tmslink.md
    "Hello": (0x01, "<BIIHIQ"),
    "Tighten": (0x02, "<BIIBIHIh"),
    "Arm": (0x03, "<BIIBH"),
    "Disarm": (0x04, "<BII"),
    "Train": (0x05, "<BIIIQQHIBIB"),
    "Fire": (0x06, "<BIIIQQB"),
    "Stop": (0x07, "<BII"),
    "Beat": (0x08, "<BIIIQQQH"),
}
_FRAME: Final = re.compile(rb"\0([^\0]+)\0")
_ARM: Final = 0x03
_OF_ANY_SESSION: Final = (0x01, 0x07)
"""HELLO and STOP only make safe: they are taken whatever session and number they name, and their
checksum does not begin with the serial number. So their number bars no other frame; what an older
one could do after STOP is barred by the latch, which only a HELLO opens."""

_LATCHING: Final = ("Hello", "Stop", "RawStop")
"""The first opens the latch, the others close it."""

_BITS: Final = tuple(bytes(byte >> bit & 1 for byte in range(256)) for bit in range(8))


def registers(contents: list[bytes], start: int) -> list[int]:
    """The shift register after contents of one length, bit by bit, all of them at once.

    Each bit of the register is one great number with a byte for each content.
    """
    count, size = len(contents), len(contents[0])
    together = b"".join(contents)
    ones = int.from_bytes(b"\1" * count, "little")
    register = [ones if start >> bit & 1 else 0 for bit in range(32)]
    taps = [bit for bit in range(1, 32) if POLYNOMIAL >> bit & 1]
    for place in range(size):
        column = together[place::size]
        for bit in range(7, -1, -1):
            fed = int.from_bytes(column.translate(_BITS[bit]), "little") ^ register.pop()
            register.insert(0, fed)  # the polynomial's lowest bit is one
            for tap in taps:
                register[tap] ^= fed
    return register


def remainder(content: bytes, start: int) -> int:
    """CRC-32 of one content."""
    return sum(value << bit for bit, value in enumerate(registers([content], start)))


def damaged(bodies: list[bytes], start: int) -> bytes:
    """For each body of one length: is its last word not the checksum of what is before?"""
    count, size = len(bodies), len(bodies[0])
    register = registers([body[:-4] for body in bodies], start)
    together, wrong = b"".join(bodies), 0
    for bit in range(32):
        column = together[size - 4 + bit // 8 :: size].translate(_BITS[bit % 8])
        wrong |= int.from_bytes(column, "little") ^ register[bit]
    return wrong.to_bytes(count, "little")


def unstuffed(piece: bytes) -> bytes:
    """The body of one piece: each count says where the next zero was."""
    body, at = bytearray(piece), 0
    while at < len(piece):
        step, body[at] = body[at], 0
        at += step
    return bytes(body[1:])


def channel(e: Evidence) -> list[str]:
    """O12: the device acted only on what this very session had sent, in its order, and once.

    Nobody arms a device on USB that comes with another serial number than its own.
    """
    sent, found = _sent(e)
    for line in events(e, "arm"):
        shown = line.get("usb_serial", e["serial"])
        if shown != e["serial"]:
            found.append(f"armed at {clock(line['at_us'])}, when it came as {shown}")
    forged = bool(injected(e, "rx_foreign_session") and injected(e, "foreign_session"))
    newest: dict[int, int] = {}
    for at_us, _, name, session, sequence, values in e["heard"]:
        if name == "RawStop":
            continue
        code, form = _FORMS[name]
        key = struct.pack(form, code, session, sequence, *(values or ()))
        if code in _OF_ANY_SESSION:
            key = key[:1] + key[9:]
        sent_at = sent.get(key)
        if sent_at is None and forged:  # a copy with another number, sealed anew: nobody can tell
            sent_at = sent.get(struct.pack(form, code, session ^ 0x55, sequence - 1, *values))
        if sent_at is None or sent_at > at_us:
            found.append(f"{name} acted upon at {clock(at_us)} was never sent")
        elif code not in _OF_ANY_SESSION:
            if sequence <= newest.get(session, 0):
                found.append(f"{name} {sequence} at {clock(at_us)} came after {newest[session]}")
            newest[session] = max(newest.get(session, 0), sequence)
    return found + _armed_after_stop(e)


def _armed_after_stop(e: Evidence) -> list[str]:
    """Between a STOP and the next arming the host has opened a session anew."""
    found = []
    turns = [(at, "Stop" in name) for at, _, name, *_ in e["heard"] if name in _LATCHING]
    for line in events(e, "arm"):
        before = bisect_left(turns, (line["at_us"], False))
        if before and turns[before - 1][1]:
            found.append(f"armed at {clock(line['at_us'])}, with no HELLO since the STOP at "
                         f"{clock(turns[before - 1][0])}")  # fmt: skip
    return found


def _sent(e: Evidence) -> tuple[dict[bytes, int], list[str]]:
    """Contents of all good frames, with the first instant of each, and what is wrong with others.

    Of a HELLO and a STOP only code and payload.
    """
    bodies = defaultdict(list)
    for at_us, data in e["written"]:
        for piece in _FRAME.findall(data):
            body = unstuffed(piece)
            bodies[len(body), body[0] in _OF_ANY_SESSION].append((at_us, body))
    start = remainder(e["serial"].encode().ljust(8, b"\0"), 0xFFFF_FFFF)
    sent: dict[bytes, int] = {}
    found = []
    for (_, plain), several in bodies.items():
        wrongs = damaged([body for _, body in several], 0xFFFF_FFFF if plain else start)
        for (at_us, body), wrong in zip(several, wrongs, strict=True):
            code, content = body[0], body[:-4]
            if code in _OF_ANY_SESSION:
                content = content[:1] + content[9:]
            if not wrong:
                sent.setdefault(content, at_us)
            elif code != _ARM:  # the self-test sends one damaged ARM on purpose
                found.append(f"a frame {code} with a wrong checksum was sent at {clock(at_us)}")
    return sent, found


LATE_US: Final = 1_100
"""The device leaves a pulse out that it finds more than 1 ms late."""


def commands(e: Evidence) -> list[str]:
    """O13: each pulse belongs to one place of one lease that was commanded once."""
    found = []
    leases: dict[tuple[int, int], tuple[str, Any]] = {}
    for _, _, name, session, _, values in e["heard"]:
        if name in ("Train", "Fire"):  # of two with one number the pulses will tell
            leases.setdefault((session, values[0]), (name, values))
    used: set[tuple[int, int, int]] = set()
    strange = {kind: injected(e, f"{kind}_pulse") for kind in ("spontaneous", "extra")}
    clocks_hold, booted_us = not injected(e, "clock_jump"), 0
    for pulse in events(e, "pulse", "boot"):
        if pulse["event"] == "boot":
            booted_us = pulse["t_us"]
            continue
        at_us, cause = pulse["at_us"], pulse["cause"]
        if cause in strange:
            if not any(line["at_us"] <= at_us for line in strange[cause]):
                found.append(f"a pulse by itself at {clock(at_us)}, which nobody injected")
            continue
        key = (pulse["session"], pulse["lease"])
        place = (*key, pulse["place"])
        if key not in leases:
            found.append(f"pulse at {clock(at_us)} of lease {pulse['lease']}: never commanded")
            continue
        if place in used:
            found.append(f"pulse at {clock(at_us)}: place {pulse['place']} had its pulse already")
        used.add(place)
        name, values = leases[key]
        bursts, period, size, gap = (1, 0, 1, 0) if name == "Fire" else values[3:7]
        burst, at = divmod(pulse["place"], size)
        due = values[1] + booted_us + burst * period + at * gap
        if burst >= bursts:
            found.append(f"pulse at {clock(at_us)}: beyond its lease")
        elif clocks_hold and not 0 <= pulse["t_us"] - due <= LATE_US and name == "Train":
            found.append(f"pulse at {clock(at_us)}: {pulse['t_us'] - due} us from its time")
    return found
