"""USB that fails in a session, in virtual time: directed, and judged by the ground truth alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drivers.tmslink.driver import TmslinkStimulator
from firmware_protocol.quantities import MS, SECOND
from firmware_protocol.tmslink.messages import State
from sim_device.faults import Rule
from sim_device.usb_tmslink import BULK_IN, BULK_OUT, make_tmslink
from tests.world.rig import SITE, START, Rig, Service, compiled
from tests.world.test_faults import DEAD_MAN_US, STOP_US, recover
from tests.world.usb_bus import UsbBus
from tests.world.usb_line import UsbLine, VirtualOpener
from tmsctl.ipc import messages as ipc
from tmsctl.safety.machine import Armed, Arming, Idle

SAFE_WITHIN_US = 20 * MS


class UsbRig(Rig):
    """A guard that keeps to the first device it finds on its bus."""

    port: UsbBus

    def _new_line(self, delay_us: int) -> UsbBus:
        assert delay_us, "the bus has delays of its own"
        return UsbBus(
            make_tmslink(self.firmware, self.settings.clock_us), self.clock, START, self.rng
        )

    def _new_driver(self) -> TmslinkStimulator:
        opener = VirtualOpener(self.port, "", [], self.rng)
        return TmslinkStimulator(opener, SITE, usb_serial=lambda: opener.serial)

    def new_guard(self) -> None:
        """The one before was killed; tmsd begins anew with it."""
        self.driver.close()
        self.port.forget()
        self.service = Service()
        self.guard = self._new_guard(None)

    def inject(self, *rules: Rule) -> None:
        for rule in rules:
            self.firmware.faults.add_from_now(rule, self.clock.device(self.now))

    def after(self, event: str, since_us: int) -> list[int]:
        """When it happened since then, on the host's clock."""
        at = (self.clock.host(int(str(x["t_us"]))) for x in self.truth if x["event"] == event)
        return [one for one in at if one >= since_us]


def running(seed: int, protocol: str = "ctbs600") -> UsbRig:
    """In the middle of a train, at a random instant."""
    rig = UsbRig(seed)
    rig.start(compiled(protocol))
    rig.run(rig.rng.randrange(1, 3 * SECOND))
    return rig


@pytest.mark.parametrize("seed", range(8))
def test_unplugged_in_a_train_all_is_safe_and_the_dose_covers_what_was_given(seed: int) -> None:
    rig = running(seed)
    rig.port.plugged, at = False, rig.now
    rig.run_until(lambda: rig.is_safe, SAFE_WITHIN_US)
    rig.run(SECOND)
    given = ended(rig, at, at + DEAD_MAN_US)
    rig.port.plugged = True
    rig.run(SECOND)
    assert not rig.after("arm", at)  # nothing arms by itself
    assert rig.service.counted == len(rig.pulses) == given  # the counter has told
    if seed == 0:
        recover(rig)


def ended(rig: UsbRig, at: int, until_us: int) -> int:
    """The train is over by then, the device disarmed and the dose no less than what was given."""
    assert rig.last_pulse_at() <= until_us
    assert rig.after("disarm", at)[0] <= until_us
    assert rig.service.counted >= len(rig.pulses)
    return len(rig.pulses)


STATES: dict[str, Callable[[UsbRig], bool]] = {
    "idle": lambda rig: isinstance(rig.guard.state, Idle),
    "arming": lambda rig: isinstance(rig.guard.state, Arming),
    "armed": lambda rig: isinstance(rig.guard.state, Armed) and not rig.pulses,
    "firing": lambda rig: bool(rig.pulses),
    "safe": lambda rig: rig.is_safe,
}


@pytest.mark.parametrize("state", STATES)
def test_unplugged_in_any_state_nothing_is_armed_and_it_works_again(state: str) -> None:
    rig = UsbRig()
    rig.self_test()
    rig.load(compiled("itbs90"))
    if state != "idle":
        rig.ask_to_run()
    if state == "safe":
        rig.run(SECOND)
        rig.stop()
    rig.run_until(lambda: STATES[state](rig), 10 * SECOND)
    rig.port.plugged, at = False, rig.now
    rig.run(SECOND)
    assert rig.firmware.machine.state in (State.IDLE, State.LATCHED)
    rig.port.plugged = True
    rig.run(SECOND)
    assert not rig.after("arm", at)
    recover(rig)


BROKEN = {
    "halts twice": Rule("usb_stall", BULK_OUT, times=2),
    "halts each time": Rule("usb_stall", BULK_IN, times=9),
    "answers nothing": Rule("usb_nak", -1, for_us=SECOND),
    "loses what it was sent": Rule("usb_drop", BULK_OUT),
    "sends too much": Rule("usb_babble"),
    "resets itself": Rule("usb_reset", 100),
    "is late": Rule("usb_delay", 150, for_us=SECOND),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_bus_that_breaks_in_a_train_leaves_the_device_disarmed(what: str) -> None:
    """Once a beat is late, or the port is lost, by the dead-man."""
    rig = running(3, "hf10-19")
    rig.inject(BROKEN[what])
    rig.run_until(lambda: bool(rig.after("injected", 0)), SECOND)
    at = rig.after("injected", 0)[0]
    rig.run_until(lambda: rig.is_safe, 100 * MS)
    rig.run(SECOND)
    ended(rig, at, at + DEAD_MAN_US + SAFE_WITHIN_US)
    rig.firmware.faults.clear_all()
    rig.run(SECOND)
    recover(rig)


BORNE = {
    "halts once": Rule("usb_stall", BULK_OUT),
    "halts once to the host": Rule("usb_stall", BULK_IN),
    "knows no STOP": Rule("usb_stall", 0),
    "cuts an answer": Rule("usb_short", 5),
    "loses a request": Rule("usb_drop", 0),
}


@pytest.mark.parametrize("what", BORNE)
def test_one_transfer_that_fails_ends_no_session(what: str) -> None:
    rig = running(4)
    rig.inject(BORNE[what])
    before = len(rig.pulses)
    rig.run(2 * SECOND)
    assert len(rig.pulses) >= before + 27  # of 3 every 200 ms, and one burst may be at the edge
    assert not rig.is_safe


def test_a_bus_that_is_slow_all_the_time_disturbs_no_session() -> None:
    rig = UsbRig()
    rig.inject(Rule("usb_delay", 5, for_us=600 * SECOND))
    rig.start(compiled("ctbs150"))
    rig.run_until(lambda: rig.complete, 60 * SECOND)
    assert len(rig.pulses) == 150 == rig.service.counted
    assert rig.service.codes() == ["run", "ready", "complete"]


BLOCKED = {
    "full": Rule("usb_nak", BULK_OUT, for_us=SECOND),
    "halted": Rule("usb_stall", BULK_OUT, times=1),
    "silent": Rule("usb_nak", -1, for_us=SECOND),
    "swallows": Rule("usb_drop", BULK_OUT, times=20),
}


@pytest.mark.parametrize("blocked", BLOCKED)
@pytest.mark.parametrize("seed", range(3))
def test_stop_passes_a_bulk_pipe_that_takes_nothing(seed: int, blocked: str) -> None:
    rig = running(seed, "hf10-19")
    rig.inject(BLOCKED[blocked])
    at = rig.now
    rig.stop()
    rig.run(SECOND)
    assert rig.after("stop", at)[0] <= at + STOP_US
    assert rig.last_pulse_at() <= at + STOP_US
    assert rig.service.counted >= len(rig.pulses)


def test_without_its_own_request_stop_would_wait_behind_the_bulk_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(UsbLine, "stop", lambda _: False)
    rig = running(0)
    rig.inject(BLOCKED["full"])
    at = rig.now
    rig.stop()
    rig.run(SECOND)
    assert not [one for one in rig.after("stop", at) if one <= at + STOP_US]
    assert rig.after("disarm", at)[0] <= at + DEAD_MAN_US


ANOTHER = (Rule("usb_other_serial", times=1), Rule("disconnect", 100))


def test_what_comes_back_as_another_one_is_not_taken_and_as_itself_it_works_again() -> None:
    rig = running(1)
    rig.inject(*ANOTHER)
    at = rig.now
    rig.run(3 * SECOND)
    rig.acknowledge()
    rig.ask_to_run()
    rig.run(3 * SECOND)
    assert not rig.after("arm", at)
    assert "port-missing: no tmslink USB device with serial number SIM00001" in _link(rig)
    rig.inject(ANOTHER[1])
    rig.run(SECOND)
    recover(rig)


def test_a_device_that_contradicts_its_own_serial_number_is_never_armed() -> None:
    """A defect once: a guard that began while it came with another one armed it."""
    rig = UsbRig()
    rig.inject(*ANOTHER)
    rig.run(200 * MS)
    rig.new_guard()
    at = rig.now
    rig.run(SECOND)
    assert "usb-descriptors: USB shows the serial number 'SIM00000'" in _link(rig)
    rig.service.say(ipc.SelfTest())
    rig.run(3 * SECOND)
    assert not rig.after("arm", at)
    rig.inject(ANOTHER[1])
    rig.run(200 * MS)
    rig.new_guard()
    rig.start(compiled("itbs90"))


def _link(rig: UsbRig) -> str:
    assert rig.service.snapshot is not None
    return rig.service.snapshot.link
