"""One seed, one story: a session with a random operator and a random subset of faults.

The judge reads only the ground truth of the emulator's physics and the plan.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from firmware_protocol.quantities import MS, SECOND
from sim_device.faults import Rule
from tests.world.rig import Rig, compiled
from tmsctl.ipc import messages as ipc
from tmsctl.safety.machine import Idle, Safe

STOP_US = 20 * MS
DEAD_MAN_US = 50 * MS
CLOCK_ERROR_US = 2 * MS
FAULTS_FOR_US = 40 * SECOND
USABLE_WITHIN_US = 240 * SECOND


class Story:
    """Runs one seed; `faults` counts what was injected, to prove that it happened."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rig = Rig(seed, delay_us=100 + seed * 37 % 900)
        self.rng = self.rig.rng
        self.plan = compiled(self.rng.choice(["ctbs600", "itbs600"]))
        self.faults: Counter[str] = Counter()
        self.bounds: list[tuple[str, int, int]] = []  # what, from when, until when no pulse may be
        kinds: list[Callable[[], None]] = [
            self._noise, self._cut, self._unplug, self._stall, self._lose_tmsd, self._stop,
            self._pause, self._slow_disk, self._device,
        ]  # fmt: skip
        self.kinds = self.rng.sample(kinds, self.rng.randrange(1, len(kinds) + 1))

    def run(self) -> Rig:
        rig, rng = self.rig, self.rng
        rig.run(500 * MS)
        end = rig.now + FAULTS_FOR_US
        while rig.now < end:
            self._operate()
            rig.run(rng.randrange(1, 2_000) * MS)
            rng.choice(self.kinds)()
        self._repair()
        end = rig.now + USABLE_WITHIN_US
        while not self._complete():
            assert rig.now < end, f"seed {self.seed}: not usable again; {rig.story()}"
            self._operate()
            rig.run(500 * MS)
        rig.run(2 * SECOND)
        self._judge()
        return rig

    def trace(self) -> str:
        """Hash over everything that happened in the physics."""
        lines = "\n".join(str(sorted(line.items(), key=str)) for line in self.rig.truth)
        return hashlib.sha256(lines.encode()).hexdigest()

    # -- the operator ------------------------------------------------------------------------

    def _operate(self) -> None:
        """Acknowledge, load what is left, run: as a technician would, now and then too early."""
        rig, guard = self.rig, self.rig.guard
        if isinstance(guard.state, Safe):
            rig.service.say(ipc.Acknowledge())
        elif isinstance(guard.state, Idle) and not self._complete():
            if guard.play is None:
                position = min(self._counted(), self.plan.pulses - 1)
                rig.load(self.plan, position)
            rig.service.say(ipc.Run(1))
        rig.run(200 * MS)

    def _counted(self) -> int:
        return self.rig.service.counted + sum(
            outcome.skipped for outcome in self.rig.service.outcomes.values()
        )

    def _complete(self) -> bool:
        return self.rig.complete or self._counted() >= self.plan.pulses

    # -- faults ------------------------------------------------------------------------------

    def _noise(self) -> None:
        self.faults["noise"] += 1
        for wire in (self.rig.to_device, self.rig.to_host):
            wire.flip = self.rng.choice([0.0, 0.01, 0.2])
            wire.loss = self.rng.choice([0.0, 0.01, 0.2])
            wire.duplicate = self.rng.choice([0.0, 0.1])

    def _cut(self) -> None:
        self.faults["cut"] += 1
        wire = self.rng.choice([self.rig.to_device, self.rig.to_host])
        wire.cut = True
        self.rig.run(self.rng.randrange(1, 300) * MS)
        wire.cut = False

    def _unplug(self) -> None:
        self.faults["unplug"] += 1
        self.rig.port.plugged = False
        self._no_pulse("unplug", DEAD_MAN_US + CLOCK_ERROR_US, 300 * MS)
        self.rig.port.plugged = True

    def _stall(self) -> None:
        self.faults["stall"] += 1
        stall_us = self.rng.randrange(1, 400) * MS
        began = self.rig.now
        self.rig.stall(stall_us)
        self.bounds.append(("stall", began + DEAD_MAN_US + CLOCK_ERROR_US, self.rig.now))

    def _lose_tmsd(self) -> None:
        self.faults["tmsd lost"] += 1
        self.rig.service.connected = False
        self.rig.cycle_now()
        self._no_pulse("tmsd lost", STOP_US, self.rng.randrange(50, 800) * MS)
        self.rig.service.connected = True

    def _stop(self) -> None:
        self.faults["STOP"] += 1
        self.rig.stop()
        self._no_pulse("STOP", STOP_US, self.rng.randrange(50, 800) * MS)

    def _pause(self) -> None:
        self.faults["pause"] += 1
        self.rig.service.say(ipc.Pause(1))
        self.rig.cycle()

    def _slow_disk(self) -> None:
        self.faults["slow disk"] += 1
        self.rig.service.grant_us = self.rng.choice([1, 5, 200, 2_000]) * MS

    def _device(self) -> None:
        kind = self.rng.choice(
            ["drop_frame", "bit_flip", "garbage", "missing_pulse", "disarms_itself", "refuse_arm"]
        )
        self.faults[kind] += 1
        at_us = self.rig.clock.device(self.rig.now) - self.rig.settings.clock_us
        self.rig.firmware.faults.add(Rule(kind, at_us=at_us, for_us=500 * MS))
        self.rig.run(600 * MS)

    def _no_pulse(self, what: str, after_us: int, for_us: int) -> None:
        began = self.rig.now
        self.rig.run(for_us)
        self.bounds.append((what, began + after_us, self.rig.now))

    def _repair(self) -> None:
        rig = self.rig
        for wire in (rig.to_device, rig.to_host):
            wire.flip = wire.loss = wire.duplicate = 0.0
            wire.cut = False
        rig.port.plugged = rig.service.connected = True
        rig.service.grant_us = 5 * MS
        for kind in ("drop_frame", "bit_flip", "garbage", "missing_pulse", "refuse_arm"):
            rig.firmware.faults.clear(kind)

    # -- the judge ---------------------------------------------------------------------------

    def _judge(self) -> None:
        rig, plan = self.rig, self.plan
        story = f"seed {self.seed}: pytest tests/world/test_seeds.py --seed {self.seed}\n"
        times = [rig.clock.host(int(str(p["t_us"]))) for p in rig.pulses]
        assert len(times) <= plan.pulses, story
        assert rig.service.counted >= len(times), story
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert min(gaps, default=SECOND) >= 20 * MS - 500, story
        for first, last in zip(times, times[20:], strict=False):
            assert last - first >= SECOND - 1 * MS, f"{story} more than 20 pulses in 1 s"
        for pulse in rig.pulses:
            off = abs(float(str(pulse["mso"])) - plan.mso.value)
            assert off <= 1.0, f"{story} {pulse}"
        for what, begin, end in self.bounds:
            late = [at for at in times if begin < at <= end]
            assert not late, f"{story} {what}: pulses {[at - begin for at in late]} us too late"
