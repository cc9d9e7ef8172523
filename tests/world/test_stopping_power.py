"""A-01 and A-04 by the thousand: the device without valid beats, and the device after STOP.

Here the emulator meets a host that is nothing but the line's own code, so that a trial costs a
millisecond and each of many random instants and ways of failing gets its turn. That the guard
presses STOP and withholds beats when it should is tested in `test_faults.py` and `test_seeds.py`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import pytest

from firmware_protocol.quantities import MS, SECOND, BootUs
from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.link import Link
from sim_device.settings import Settings
from sim_device.tmslink_firmware import Firmware
from tests.world.odometer import TOTAL

TRIALS: Final = 3_000  # in each of four parts; ask for 10,000 in all
PARTS: Final = range(4)
DEAD_MAN_US: Final = 50 * MS
STOP_US: Final = 20 * MS
FAR: Final = 2**60
QUICK: Final = Settings(rise_us_per_pct=1, bleed_us_per_pct=1, recharge_us_per_pct=1)


class Host:
    """One end of the line, on the device's own clock. Beats every 10 ms while it is told to."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.log: list[dict[str, Any]] = []
        self.device = Firmware(QUICK, self.rng, self.log.append)
        self.link = Link()
        self.now = QUICK.clock_us
        self.cycle = 0
        self.sent: list[bytes] = []

    def begin(self) -> None:
        """A new session, armed, with a train of 100 pulses that begins within 50 ms."""
        self.log.clear()
        self.sent.clear()
        self.cycle = 0
        hello = self.link.hello(m.Hello(m.PROTOCOL_VERSION, 7, self.now), 7)
        self.link.receive(self.give(hello), BootUs(self.now))  # the session's number
        self.tell(m.Arm(5, QUICK.coil_type))
        self.wait(10 * MS)
        start = self.now + m.LEAD_MIN_US + self.rng.randrange(20 * MS)
        self.tell(m.Train(1, start, FAR, 100, 10 * MS, 1, 0, 5))
        assert self.happened("train_start")

    def give(self, data: bytes) -> bytes:
        """What the device answers."""
        self.device.receive(data, self.now)
        return self.device.take_output()

    def tell(self, message: Any) -> None:
        data = self.link.tell(message)
        self.sent.append(data)
        self.give(data)

    def wait(self, duration_us: int) -> None:
        TOTAL.bench_us += duration_us
        self.now += duration_us
        self.device.run_to(self.now)
        self.device.take_output()

    def beat(self, age_us: int = 0) -> m.Beat:
        self.cycle += 1
        return m.Beat(self.cycle, self.now, self.now - age_us, self.now + DEAD_MAN_US, 0)

    def live(self, duration_us: int) -> int:
        """Time passes with valid beats; the instant of the last one."""
        end, fed_at = self.now + duration_us, self.now
        while self.now < end:
            fed_at = self.now
            self.tell(self.beat())
            self.wait(min(10 * MS, end - self.now))
        return fed_at

    def happened(self, *names: str) -> list[int]:
        return [line["t_us"] for line in self.log if line["event"] in names]


# Each gives what the host puts on the line in place of a valid beat; None is nothing at all.
def silence(_: Host) -> bytes | None:
    return None


def one_bit_wrong(host: Host) -> bytes | None:
    data = bytearray(host.link.tell(host.beat()))
    data[host.rng.randrange(len(data))] ^= 1 << host.rng.randrange(8)
    return bytes(data)


def cut_short(host: Host) -> bytes | None:
    data = host.link.tell(host.beat())
    return data[: host.rng.randrange(len(data) - 1)]


def repeated(host: Host) -> bytes | None:
    return host.rng.choice(host.sent)


def cycle_stands_still(host: Host) -> bytes | None:
    beat = host.beat()
    host.cycle -= 1
    return host.link.tell(beat._replace(cycle=host.cycle))


def echo_too_old(host: Host) -> bytes | None:
    return host.link.tell(host.beat(m.ECHO_AGE_MAX_US + 1))


def echo_from_the_future(host: Host) -> bytes | None:
    return host.link.tell(host.beat(-1))


def of_another_session(host: Host) -> bytes | None:
    mine, host.link.session = host.link.session, host.rng.randrange(1, 2**32)
    data = host.link.tell(host.beat())
    host.link.session = mine
    return data


def other_frames_only(host: Host) -> bytes | None:
    return host.link.tell(m.Tighten(100, 10_000, 1_000, 60_000_000, 410))


def noise(host: Host) -> bytes | None:
    return host.rng.randbytes(60).replace(b"\x18", b"\x19")  # no STOP by chance


LOSSES: Final[tuple[Callable[[Host], bytes | None], ...]] = (
    silence, one_bit_wrong, cut_short, repeated, cycle_stands_still, echo_too_old,
    echo_from_the_future, of_another_session, other_frames_only, noise,
)  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_without_valid_beats_the_device_is_disarmed_50_ms_after_the_last_one(part: int) -> None:
    host = Host(part)
    kinds: Counter[str] = Counter()
    for trial in range(TRIALS):
        host.begin()
        fed_at = host.live(host.rng.randrange(1, 90 * MS))
        lose = LOSSES[trial % len(LOSSES)]
        kinds[lose.__name__] += 1
        while host.now < fed_at + DEAD_MAN_US:
            data = lose(host)
            if data is not None:
                host.give(data)
            host.wait(10 * MS)
        host.wait(50 * MS)
        story = f"part {part}, trial {trial}, {lose.__name__}"
        assert host.happened("disarm") == [fed_at + DEAD_MAN_US], story  # not later, not sooner
        assert max(host.happened("pulse"), default=0) <= fed_at + DEAD_MAN_US, story
    assert min(kinds.values()) == TRIALS // len(LOSSES)
    TOTAL.faults += kinds


def test_every_way_to_lose_beats_would_be_seen_if_the_device_took_them() -> None:
    for lose in LOSSES[1:]:
        host = Host(1)
        host.begin()
        host.live(100 * MS)
        before = host.device.counters.accepted - host.device.counters.beats_refused
        data = lose(host)
        assert data
        host.give(data)
        taken = host.device.counters.accepted - host.device.counters.beats_refused - before
        assert taken == (lose is other_frames_only), lose.__name__


def as_frame(host: Host) -> bytes:
    return host.link.tell(m.Stop())


def as_bytes(_: Host) -> bytes:
    return m.STOP_BYTES


def as_both(host: Host) -> bytes:
    return m.STOP_BYTES + host.link.tell(m.Stop())


def of_no_session(host: Host) -> bytes:
    host.link.close()
    return host.link.tell(m.Stop())


def in_the_middle_of_a_frame(host: Host) -> bytes:
    data = host.link.tell(host.beat())
    return data[: host.rng.randrange(len(data))] + m.STOP_BYTES


def after_noise(host: Host) -> bytes:
    return noise(host) + b"\0" + as_both(host)  # type: ignore[operator]


STOPS: Final[tuple[Callable[[Host], bytes], ...]] = (
    as_frame, as_bytes, as_both, of_no_session, in_the_middle_of_a_frame, after_noise,
)  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_no_pulse_leaves_later_than_20_ms_after_stop(part: int) -> None:
    host = Host(100 + part)
    in_train = 0
    for trial in range(TRIALS):
        host.begin()
        host.live(host.rng.randrange(1, 100 * MS))
        in_train += bool(host.happened("pulse"))
        press = STOPS[trial % len(STOPS)]
        stopped_at = host.now + host.rng.randrange(2 * MS)  # the way there
        host.device.run_to(stopped_at)
        host.now = stopped_at
        host.give(press(host))
        for _ in range(2):
            host.give(host.link.tell(host.beat()))  # a host that goes on changes nothing
            host.wait(10 * MS)
        host.wait(40 * MS)
        story = f"part {part}, trial {trial}, {press.__name__}"
        assert max(host.happened("pulse"), default=0) <= stopped_at + STOP_US, story
        assert host.happened("disarm") == [stopped_at], story
        assert host.device.machine.state is m.State.LATCHED, story
    assert in_train > TRIALS // 3  # most of them struck while pulses left


def test_a_device_that_is_not_stopped_goes_on() -> None:
    host = Host(1)
    host.begin()
    host.live(1_200 * MS)
    assert len(host.happened("pulse")) == 100
    assert host.now < QUICK.clock_us + 2 * SECOND
