"""What must never happen, and what must still work: faults against a running session.

Judged by the ground truth of the emulator's physics alone.
"""

from __future__ import annotations

import pytest

from firmware_protocol.quantities import MS, SECOND
from sim_device.faults import Rule
from sim_device.settings import Settings
from tests.world.rig import Rig, compiled
from tmsctl.guard.core import PERIOD_US
from tmsctl.ipc import messages as ipc
from tmsctl.safety.machine import Arming, Idle, Safe

DEAD_MAN_US = 50 * MS
STOP_US = 20 * MS
GUARD_US = 20 * MS  # one cycle and the wire


def running(seed: int = 0, protocol: str = "ctbs600", **options: object) -> Rig:
    """A rig in the middle of a train, at a random instant."""
    rig = Rig(seed, **options)  # type: ignore[arg-type]
    rig.start(compiled(protocol))
    rig.run(rig.rng.randrange(1, 3 * SECOND))
    return rig


def recover(rig: Rig) -> None:
    """After the fault: acknowledge, run again, and pulses come."""
    rig.service.connected = True
    rig.run(1 * SECOND)
    if isinstance(rig.guard.state, Safe):
        rig.acknowledge()
        rig.run(1 * SECOND)
    assert isinstance(rig.guard.state, Idle), rig.story()
    before = len(rig.pulses)
    play = rig.guard.play
    if play is None:
        rig.load(rig.plan, len(rig.pulses))
    rig.ask_to_run()
    rig.run_until(lambda: len(rig.pulses) > before, 10 * SECOND)


@pytest.mark.parametrize("seed", range(40))
def test_no_pulse_later_than_20_ms_after_stop_at_any_instant(seed: int) -> None:
    rig = running(seed)
    rig.stop()
    stopped_at = rig.now
    rig.run(1 * SECOND)
    assert rig.last_pulse_at() <= stopped_at + STOP_US
    assert rig.is_safe
    assert rig.service.codes()[-1] == "stop"
    assert rig.service.counted >= len(rig.pulses)
    if seed % 10 == 0:
        recover(rig)


@pytest.mark.parametrize("seed", range(40))
def test_a_guard_that_dies_at_any_instant_is_followed_by_silence_within_50_ms(seed: int) -> None:
    rig = running(seed)
    died_at = rig.now
    rig.stall(1 * SECOND)  # SIGKILL or SIGSTOP: no cycle runs any more
    assert rig.last_pulse_at() <= died_at + DEAD_MAN_US
    dead_man = [line for line in rig.truth if line["event"] == "dead_man"]
    assert len(dead_man) == 2  # the first one was the self-test's
    rig.cycle()  # it comes back after SIGSTOP: it knows that it was not watching
    assert rig.is_safe
    assert rig.service.codes()[-1] in ("cycle-gap", "status-age", "disarmed-itself", "setting")
    assert "cycle-gap" in rig.service.codes()
    recover(rig)


def test_a_guard_stalled_for_the_allowed_time_goes_on() -> None:
    rig = running()
    for _ in range(5):
        rig.run(500 * MS)
        rig.stall(18 * MS)
    rig.run(500 * MS)
    assert not rig.is_safe
    rig.run_until(lambda: rig.complete, 60 * SECOND)
    assert len(rig.pulses) == 600


@pytest.mark.parametrize("seed", range(20))
def test_loss_of_tmsd_makes_safe_at_once(seed: int) -> None:
    rig = running(seed)
    rig.service.connected = False
    lost_at = rig.now
    rig.cycle_now()
    rig.run(1 * SECOND)
    assert rig.last_pulse_at() <= lost_at + STOP_US
    assert rig.service.codes()[-1] == "service-lost" or rig.is_safe
    recover(rig)


def test_a_silent_tmsd_trips_after_one_second() -> None:
    rig = running()
    rig.service._alive_at = rig.now + 1_000 * SECOND  # connected, but says nothing
    silent_at = rig.now
    rig.run(2 * SECOND)
    assert rig.is_safe
    assert silent_at + 750 * MS <= rig.last_pulse_at() <= silent_at + 1 * SECOND + GUARD_US


@pytest.mark.parametrize("seed", range(20))
def test_unplugging_makes_safe_and_replugging_finds_the_device_disarmed(seed: int) -> None:
    rig = running(seed)
    rig.port.plugged = False
    unplugged_at = rig.now
    rig.run(1 * SECOND)
    assert rig.last_pulse_at() <= unplugged_at + DEAD_MAN_US
    assert rig.is_safe
    rig.port.plugged = True
    rig.run(1 * SECOND)
    assert rig.is_safe  # nothing rearms by itself
    before = len(rig.pulses)
    assert rig.service.counted == before  # the counter told what had left
    recover(rig)
    places = [m.place for m in rig.service.told if isinstance(m, ipc.PulseRecord)]
    assert len(places) == len(set(places))  # nothing was delivered twice


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("direction", ["to_device", "to_host"])
def test_a_cut_wire_in_either_direction_ends_in_safe(seed: int, direction: str) -> None:
    rig = running(seed)
    wire = getattr(rig, direction)
    wire.cut = True
    cut_at = rig.now
    rig.run(1 * SECOND)
    assert rig.is_safe
    assert rig.last_pulse_at() <= cut_at + 60 * MS + DEAD_MAN_US + GUARD_US
    wire.cut = False
    rig.run(1 * SECOND)
    assert rig.service.counted == len(rig.pulses)
    recover(rig)


@pytest.mark.parametrize("seed", range(10))
def test_a_noisy_wire_never_makes_a_pulse_that_is_not_counted(seed: int) -> None:
    rig = running(seed)
    rig.to_device.flip = rig.to_host.flip = 0.05
    rig.to_device.loss = rig.to_host.loss = 0.02
    rig.to_device.duplicate = 0.05
    rig.run(8 * SECOND)
    assert rig.service.counted >= len(rig.pulses)
    for wire in (rig.to_device, rig.to_host):
        wire.flip = wire.loss = wire.duplicate = 0.0
    rig.run(2 * SECOND)
    rig.service.say(ipc.Pause(1))
    rig.run(1 * SECOND)
    assert rig.service.counted == len(rig.pulses)
    recover(rig)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Rule("spontaneous_pulse", at_us=5 * SECOND), "stranger-pulse"),
        (Rule("intensity_bias", value=10, at_us=5 * SECOND), "realised"),
        (Rule("coil_hot", value=450, at_us=5 * SECOND), "device-fault"),
        (Rule("coil_absent", at_us=5 * SECOND), "device-fault"),
        (Rule("disarms_itself", at_us=5 * SECOND), "device-fault"),
        (Rule("silent", at_us=5 * SECOND), "status-age"),
        (Rule("late", value=200, at_us=5 * SECOND), "status-age"),
    ],
)
def test_each_device_fault_ends_in_safe_with_its_own_cause(fault: Rule, code: str) -> None:
    rig = Rig(rules=[fault])
    rig.start(compiled("ctbs600"))
    struck_at = rig.clock.host(rig.settings.clock_us + 5 * SECOND)
    rig.run_until(lambda: rig.is_safe, 10 * SECOND)
    rig.run(500 * MS)
    assert code in rig.service.codes()
    assert rig.last_pulse_at() <= struck_at + 60 * MS + DEAD_MAN_US + GUARD_US
    assert rig.service.counted >= len([p for p in rig.pulses if p["cause"] != "spontaneous"])


def test_a_device_that_refuses_to_arm_leaves_the_guard_idle_and_says_so() -> None:
    rig = Rig()
    rig.self_test()
    rig.firmware.faults.add(Rule("refuse_arm", at_us=0, for_us=3 * SECOND))
    rig.load(compiled("ctbs600"))
    rig.ask_to_run()
    rig.run(1 * SECOND)
    assert isinstance(rig.guard.state, Idle)
    assert rig.service.codes() == ["run", "arm-refused"]
    assert not rig.pulses
    rig.run(3 * SECOND)
    recover(rig)


def test_a_device_that_falls_to_its_dead_man_while_it_charges_is_noticed_at_once() -> None:
    rig = Rig()
    rig.self_test()
    rig.load(compiled("ctbs600"))
    rig.ask_to_run()
    rig.run_until(lambda: isinstance(rig.guard.state, Arming), 1 * SECOND)
    rig.run(2 * PERIOD_US)  # the device answers that it arms
    logged = len(rig.truth)
    beat, rig.driver.beat = rig.driver.beat, lambda *_: None  # type: ignore[method-assign]
    rig.run_until(lambda: "dead_man" in [of["event"] for of in rig.truth[logged:]], 60 * MS)
    rig.driver.beat = beat  # type: ignore[method-assign]
    rig.run(2 * PERIOD_US)
    assert rig.service.codes()[-1] == "disarmed-itself"
    assert not rig.pulses


def test_another_device_on_the_same_port_is_never_armed() -> None:
    rig = Rig(serial="OTHER001")
    rig.run(500 * MS)
    rig.service.say(ipc.SelfTest())
    rig.load(compiled("ctbs600"))
    rig.ask_to_run()
    rig.run(5 * SECOND)
    assert not [line for line in rig.truth if line["event"] == "arm"]
    refused = [m.code for m in rig.service.told if isinstance(m, ipc.Refused)]
    assert refused == ["no-device", "wrong-device"]


def test_a_guard_after_a_crash_begins_in_safe_and_needs_a_person() -> None:
    rig = Rig(latched="the guard before this one did not end in order")
    rig.run(500 * MS)
    rig.service.say(ipc.SelfTest())
    rig.load(compiled("ctbs600"))
    rig.ask_to_run()
    rig.run(2 * SECOND)
    assert rig.is_safe
    assert not rig.pulses
    rig.acknowledge()
    rig.run(100 * MS)
    assert isinstance(rig.guard.state, Idle)


def test_the_coil_that_gets_too_hot_stops_the_session() -> None:
    rig = Rig(settings=Settings(coil_start_dc=395))
    rig.start(compiled("hf10-19"))
    rig.run_until(lambda: rig.is_safe, 900 * SECOND)
    assert {"coil-hot", "device-fault"} & set(rig.service.codes())
    hottest = max(float(str(p["surface_c"])) for p in rig.pulses)
    assert hottest <= 41.1


def test_no_grant_no_pulse() -> None:
    rig = Rig()
    rig.service.grant_us = 3_600 * SECOND
    rig.self_test()
    rig.load(compiled("itbs600"))
    rig.ask_to_run()
    rig.run(59 * SECOND)
    assert not rig.pulses
    rig.run(3 * SECOND)
    assert isinstance(rig.guard.state, Idle)
    assert rig.service.codes()[-1] == "armed-idle"


def test_an_extra_pulse_inside_a_block_is_noticed_before_the_block_ends() -> None:
    rig = Rig()
    rig.start(compiled("ctbs600"))
    rig.run(2 * SECOND)
    rig.firmware.faults.add(Rule("extra_pulse", at_us=0, times=1))
    rig.run_until(lambda: rig.is_safe, 1 * SECOND)
    extra = next(p for p in rig.pulses if p["cause"] == "extra")
    assert rig.now - rig.clock.host(int(str(extra["t_us"]))) <= 60 * MS
    assert set(rig.service.codes()) & {"stranger-pulse", "counter"}


def test_a_link_that_latched_is_acknowledged_and_serves_again() -> None:
    rig = Rig()
    rig.start(compiled("ctbs600"))
    rig.service.say(ipc.Pause(1))
    rig.run(100 * MS)
    rig.guard.device.link_watch.error(rig.now)
    rig.guard.device.link_watch.error(rig.now)
    rig.run(100 * MS)
    assert rig.is_safe
    assert rig.service.codes()[-1] == "link-errors"
    recover(rig)


def test_a_pulse_that_nobody_told_of_while_disarmed_latches_until_a_person_has_seen_it() -> None:
    rig = Rig()
    rig.start(compiled("ctbs600"))
    rig.service.say(ipc.Pause(1))
    rig.run(500 * MS)
    assert isinstance(rig.guard.state, Idle)
    rig.firmware.machine.pulse_count += 1
    rig.run(100 * MS)
    assert rig.is_safe
    assert rig.service.codes()[-1] == "stranger-pulse"
    rig.acknowledge()
    rig.run(500 * MS)
    assert isinstance(rig.guard.state, Idle)
    rig.ask_to_run()
    rig.run(100 * MS)  # the guard knows the new count; the ledger has its own word
    assert [m.code for m in rig.service.told if isinstance(m, ipc.Refused)] == ["ledger-counter"]


def test_a_device_that_lost_power_while_armed_is_found_again() -> None:
    """It has forgotten the site's limits, which a latched device would not take again."""
    rig = Rig()
    rig.start(compiled("ctbs600"))
    rig.firmware.faults.add(Rule("reboot", at_us=0, times=1))
    rig.run_until(lambda: rig.is_safe, 1 * SECOND)
    before = len(rig.pulses)
    rig.run(3 * SECOND)
    assert len(rig.pulses) == before
    assert rig.guard.device.status is not None, rig.story()
    assert not rig.guard.energised
    rig.service.say(ipc.Unload())
    rig.acknowledge()
    rig.run(1 * SECOND)
    assert not rig.is_safe
    rig.self_test()


def test_a_coil_that_was_plugged_in_later_is_taken_for_what_it_is() -> None:
    rig = Rig()
    rig.self_test()
    unit = rig.firmware.machine.unit
    unit.coil_type = 0
    rig.guard.driver.acknowledge(rig.now)  # the connection is made without a coil
    rig.run(500 * MS)
    rig.load(compiled("ctbs600"))
    rig.ask_to_run()
    rig.run(100 * MS)
    assert [m.code for m in rig.service.told if isinstance(m, ipc.Refused)] == ["coil-changed"]
    unit.coil_type = 2
    rig.run(500 * MS)
    rig.ask_to_run()
    rig.run_until(lambda: rig.guard.energised, 1 * SECOND)


@pytest.mark.parametrize("protocol", ["ctbs600", "itbs600", "hf10-19"])
def test_a_device_that_takes_blocks_and_does_not_pulse_pauses_the_session(protocol: str) -> None:
    rig = Rig()
    rig.start(compiled(protocol))
    rig.run(1 * SECOND)
    rig.firmware.faults.add(Rule("missing_pulse", at_us=0, times=2))
    rig.run(2 * SECOND)
    assert rig.guard.energised  # two in a row are allowed
    rig.firmware.faults.add(Rule("no_fire", at_us=0, for_us=3_600 * SECOND))
    rig.run_until(lambda: not rig.guard.energised, 60 * SECOND)
    assert rig.service.codes()[-1] == "missed-pulses"
    rig.firmware.faults.clear("no_fire")
    before = len(rig.pulses)
    rig.ask_to_run()
    rig.run_until(lambda: len(rig.pulses) > before, 20 * SECOND)
