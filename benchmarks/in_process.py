"""What can be measured inside one process: codec, virtual time, the guard's cycle.

Times are of the processor: other programs on the machine count less.
"""

from __future__ import annotations

import gc
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Figure, percentile
from firmware_protocol.duomag.framing import StatusDecoder
from firmware_protocol.magpro.framing import Decoder as MagproDecoder
from firmware_protocol.magpro.messages import LongStatus
from firmware_protocol.magstim import messages as magstim
from firmware_protocol.magstim.framing import Decoder as MagstimDecoder
from firmware_protocol.quantities import SECOND, BootUs
from firmware_protocol.tmslink.link import Link
from firmware_protocol.tmslink.messages import Beat
from sim_device import magpro_wire, magstim_wire
from tests.world.oracles import judge
from tests.world.rig import Rig, Service, compiled
from tests.world.story import tell
from tmsctl.ipc import messages as ipc

CYCLES = 100_000
STORIES = range(1, 7)  # seeds


def codec(_folder: Path) -> list[Figure]:
    """Encode and decode of BEAT, the most frequent frame, best of five."""
    sender, receiver = Link(), Link()
    sender.session = receiver.session = 0x1234_5678
    beats = [Beat(i, 2**40 + i, 2**39 + i, 2**39 + 50_000 + i, i & 0xFFFF) for i in range(10_000)]
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for beat in beats:
            # The link refuses its own direction, but only after all the work of decoding.
            receiver.receive(sender.tell(beat), BootUs(0))
        best = min(best, time.process_time() - began)
    return [Figure("codec, encode + decode", len(beats) / best, "frames/s", 30_000, at_most=False)]


def decoders(_folder: Path) -> list[Figure]:
    """What comes from the devices of laboratories, each frame by itself, best of five."""
    dialect = magstim.Dialect(magstim.Model.RAPID, 9)
    row = dialect.row("get_rapid_parameters")
    shown = {"status": 0x8C, "rapid_status": 0, "power": 50, "frequency": 100, "pulses": 10,
             "duration": 10, "wait": 5}  # fmt: skip
    reply = magstim_wire.reply(row, shown)
    status = magpro_wire.encode(LongStatus(0x34, 1, 25, 73, 50, 50, 50, 50, 100, 100, 1, 0))
    record = bytes((0xFF, 0, 50, 60, 60, 60, 0, 0, 3, 1, 0, 4, 0x50, 0, 0, 1))
    magstim_decoder, magpro_decoder = MagstimDecoder(), MagproDecoder()
    duomag_decoder = StatusDecoder()

    def one_magstim() -> None:
        magstim_decoder.expect(row)
        assert magstim_decoder.feed(reply) is not None

    def several(name: str, act: Callable[[], object]) -> Figure:
        best = float("inf")
        for _ in range(5):
            began = time.process_time()
            for _ in range(5_000):
                act()
            best = min(best, time.process_time() - began)
        return Figure(f"{name}, decode", 5_000 / best, "frames/s", 20_000, at_most=False)

    return [
        several("magstim", one_magstim),
        several("magpro", lambda: magpro_decoder.feed(status)),
        several("duomag", lambda: duomag_decoder.feed(record)),
    ]


def virtual_time(_folder: Path) -> list[Figure]:
    """A whole iTBS 600 session: guard, driver, codec and emulator."""
    plan = compiled("itbs600")
    best = float("inf")
    for _ in range(3):
        rig = Rig()
        began = time.process_time()
        rig.start(plan)
        rig.run_until(lambda rig=rig: rig.complete, plan.span_us + 5 * SECOND)  # type: ignore[misc]
        best = min(best, time.process_time() - began)
        assert len(rig.pulses) == plan.pulses
    ratio = plan.span_us / 1e6 / best
    return [
        Figure("virtual time, one iTBS 600 session", best, "s", 3),
        Figure("virtual time against real time", ratio, "x", 60, at_most=False),
    ]


def fault_laden(_folder: Path) -> list[Figure]:
    """Sessions with faults: guard, session engine, journal and emulator on one core.

    The judges, who read what is written of it afterwards, are timed apart.
    """
    simulated_us, took_s, judging_s, faults = 0, 0.0, 0.0, 0
    for seed in STORIES:
        told, judged = float("inf"), float("inf")
        for _ in range(2):
            began = time.process_time()
            result = tell(seed)
            ended = time.process_time()
            gc.disable()  # as in `tell`
            judge(result.evidence)
            told, judged = min(told, ended - began), min(judged, time.process_time() - ended)
            gc.enable()
        simulated_us += result.simulated_us
        faults += result.faults.total()
        took_s += told
        judging_s += judged
    name = "virtual time, fault-laden session"
    ratio, judged_ratio = (simulated_us / 1e6 / s for s in (took_s - judging_s, took_s))
    told_beside = f"{faults} faults; with the judges {judged_ratio:.0f}"
    return [Figure(name, ratio, "x", 150, at_most=False, reference=told_beside)]


class Deaf(Service):
    """A tmsd that grants and confirms, but keeps nothing, so that memory shows the guard's only."""

    def hear(self, messages: object, now: int) -> None:
        for message in messages:  # type: ignore[attr-defined]
            if isinstance(message, ipc.Want | ipc.BlockOutcome):
                super().hear([message], now)
        self.told.clear()
        self.outcomes.clear()
        self.intents.clear()


def guard_cycle(_folder: Path) -> list[Figure]:
    """Cycles of an armed guard that delivers 1 Hz pulses, with garbage collection off."""
    rig = Rig()
    rig.service = Deaf()
    rig.start(compiled("lf1-900"))
    rig.run(2 * SECOND)
    gc.collect()
    gc.freeze()
    gc.disable()
    guard, durations = rig.guard, array("q", [0] * CYCLES)
    cycle, clock = guard.cycle, time.perf_counter_ns

    def timed(inputs: object, now: BootUs) -> object:
        began = clock()
        told = cycle(inputs, now)  # type: ignore[arg-type]
        durations[count[0] % CYCLES] = clock() - began
        count[0] += 1
        return told

    count = [0]
    guard.cycle = timed  # type: ignore[method-assign, assignment]
    while count[0] < CYCLES // 10:
        rig.cycle()
    rig.truth.clear()
    rig.pulses.clear()
    blocks, collections = sys.getallocatedblocks(), sum(s["collections"] for s in gc.get_stats())
    while count[0] < CYCLES:
        rig.cycle()
        rig.truth.clear()
        rig.pulses.clear()
    grown = sys.getallocatedblocks() - blocks
    collected = sum(s["collections"] for s in gc.get_stats()) - collections
    gc.enable()
    gc.unfreeze()
    return [
        Figure("guard cycle, median", percentile(durations, 0.5) / 1e3, "us", 150),
        Figure("guard cycle, p99", percentile(durations, 0.99) / 1e3, "us", None),
        Figure("collections in 90,000 cycles", collected, "", 0),
        Figure("blocks of memory grown in 90,000 cycles", grown, "", 200,
               reference="window of pulses, sets"),
    ]  # fmt: skip
