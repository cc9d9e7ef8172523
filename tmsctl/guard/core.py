"""The guard: one pure-in-time object. Everything that can fire goes through `Guard.cycle`.

One cycle: STOP, device, tmsd's messages, rules, at most one action, beat. Time is an argument and
the device a port, so production runs it in real time and the tests run the same object in virtual
time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from drivers.contract import Envelope, Permit, Stimulator, StopClass
from firmware_protocol.quantities import MS, BootUs
from tmsctl.guard import views
from tmsctl.guard.device_view import DeviceView
from tmsctl.guard.pieces import cannot, lease_us
from tmsctl.guard.playback import Intent, OpenBlock, Playback
from tmsctl.guard.report import Reporter
from tmsctl.guard.self_test import SelfTest
from tmsctl.ipc import messages as ipc
from tmsctl.safety import machine, permit, rules
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.limits import Limits
from tmsctl.safety.machine import Armed, Arming, Effect, Idle, Safe, State
from tmsctl.safety.plan_check import tightened
from tmsctl.safety.rules import Action, Trip, Verdict
from tmsctl.stimulation.plan import Plan

PERIOD_US: Final = 10 * MS
REST_PERIOD_US: Final = 20 * MS  # how often a disarmed device wants its beat: docs/tmslink.md 7
SEND_AHEAD_US: Final = 60 * MS
"""A block is handed over this long before the driver's lead begins, at the earliest."""

ASK_AGAIN_US: Final = 100 * MS
"""A block that is held back asks for its permit this often."""

PERMIT_FOR_US: Final = 50 * MS
"""Each beat lets pulses leave for this long; the device's dead-man is as long."""

PlanFor = Callable[[ipc.Load, Envelope, Callable[[Plan], str]], tuple[Plan, Limits] | Trip]
"""Compiles a confirmed prescription on the guard's own side, or says why not."""


@dataclass(slots=True)
class Inputs:
    """What reached the guard from outside since the cycle before."""

    stopped_by: str | None = None
    service_connected: bool = False
    commands: Iterable[ipc.ToGuard] = ()


class Guard:
    """Owner of the stimulator. It treats tmsd as untrusted input."""

    def __init__(
        self,
        driver: Stimulator,
        limits: Limits,
        plan_for: PlanFor,
        serial: str | None,
        now: BootUs,
        all_sent_since: BootUs,
        latched: str | None = None,
    ) -> None:
        """`serial`: the only device that may be armed. `latched`: why it begins in SAFE, if so.

        `all_sent_since`: from when on no other guard can have fired; now, unless it is known.
        """
        self.driver = driver
        self.limits = limits
        self.cycles = 0
        unclean = Trip("unclean-start", Action.SAFE, latched or "")
        self.state: State = Idle() if latched is None else Safe((unclean,))
        self.report = Reporter()
        seen = PulseTimes(limits.train_gap_min_us)
        self.device = DeviceView(serial, seen, self.report, driver.info.coil_step_dc)
        self.self_test = SelfTest(driver, self.device)
        self.play: Playback | None = None
        self.stopped_by: str | None = None
        self.service_seen_at: BootUs | None = None
        self.service_fault: str | None = None
        self.presence_at: BootUs | None = None
        self.settled_at = self._last_cycle_at = now
        self.all_sent_since = all_sent_since
        self._plan_for = plan_for
        self._sent = PulseTimes(limits.train_gap_min_us)
        self._block_id = self._changed_in = 0
        self._run_asked: ipc.Run | None = None
        self._acknowledge_asked: ipc.Acknowledge | None = None
        self._disarm_asked: Trip | None = None

    # -- one cycle ---------------------------------------------------------------------------

    def listen(self, now: BootUs) -> None:
        """Take what the device said, at the time when it arrived. Decides nothing."""
        for event in self.driver.poll(now):
            self.device.note(event, self.play, now)

    def cycle(self, inputs: Inputs, now: BootUs) -> list[ipc.ToService]:
        """One whole cycle; returns what tmsd shall be told."""
        gap_us, self._last_cycle_at = now - self._last_cycle_at, now
        if inputs.stopped_by is not None:
            self.driver.stop(now)  # first of all, whatever else is to be done
            self.stopped_by = self.stopped_by or inputs.stopped_by
            self._changed_in = self.cycles
        self.listen(now)
        self._take_commands(inputs, now)
        self.device.settle(self.play)

        verdict = rules.watch(views.facts_of(self, gap_us, now), self.limits_in_force, now)
        state = self.state
        ready = isinstance(state, Arming) and self.device.ready_at(state.mso, state.since)
        if ready or verdict is not rules.PERMIT:  # else a tick changes nothing, in any state
            self._step(machine.Tick(verdict, ready, now), now)
        may_beat = self._act(verdict, now)

        self.cycles += 1
        # A latched device with a dead-man of its own has nothing left to keep alive.
        asked = self.driver.info.stop_class is not StopClass.NATIVE_LEASE
        if may_beat and (asked or not self.device.latched or self.energised):
            armed = isinstance(self.state, Armed)
            self.driver.beat(self.cycles, now, BootUs(now + PERMIT_FOR_US) if armed else BootUs(0))
        return self.report.collect(self, now)

    @property
    def period_us(self) -> int:
        """From this cycle to the next one."""
        return PERIOD_US if self.energised else REST_PERIOD_US

    @property
    def listens(self) -> bool:
        """Shall `listen` be called when the device says something? Else the next cycle does."""
        return self.energised or self.device.status is None

    def make_safe(self, now: BootUs) -> None:
        """The last act of a guard that ends: no lock, no allocation that matters, no disk."""
        self.driver.stop(now)

    # -- tmsd's messages ---------------------------------------------------------------------

    def _take_commands(self, inputs: Inputs, now: BootUs) -> None:
        if not inputs.service_connected:
            self.service_seen_at = self.service_fault = None
        for command in inputs.commands:
            self.service_seen_at = now if inputs.service_connected else None
            match command:
                case ipc.Load():
                    self._load(command)
                case ipc.Run(session_no):
                    if isinstance(self.state, Safe):  # it must not wait for the acknowledgement
                        self.report.refuse(command, "latched", "the guard is in SAFE")
                    elif self._is_loaded(session_no, command):
                        self._run_asked = command
                case ipc.Present(at_us):
                    if at_us <= now:  # a sign from the future is none
                        self.presence_at = BootUs(at_us)
                case ipc.Grant():
                    self._granted(command)
                case ipc.Pause(session_no):
                    if self._is_loaded(session_no, command):
                        self._pause(Trip("paused", Action.PERMIT, "the operator paused"))
                case ipc.Unload():
                    self._pause(Trip("unloaded", Action.PERMIT, "the session was ended"))
                    self._unload()
                case ipc.Acknowledge():
                    self._acknowledge_asked = command
                case ipc.Recorded(session_no, block_id):
                    self.report.recorded(session_no, block_id)
                case ipc.Fail(code, detail):
                    self.service_fault = f"{code}: {detail}"
                case ipc.SelfTest():
                    idle = isinstance(self.state, Idle) and self.play is None
                    if refused := self.self_test.begin(now, idle=idle):
                        self.report.refuse(command, *refused)
                case ipc.ReadInterlocks():
                    self.report.say(views.interlocks(self, now))
                case _:
                    pass  # Welcome and Alive say that tmsd lives, and no more

    def _load(self, load: ipc.Load) -> None:
        busy = self.self_test.running or (self.play is not None and self.play.open is not None)
        if busy or not isinstance(self.state, Idle):
            self.report.refuse(load, "wrong-state", "a plan is loaded only while disarmed")
            return
        if (envelope := self.device.envelope) is None:
            self.report.refuse(load, "no-device", "no stimulator has answered yet")
            return
        lease_max_us, refuses = lease_us(self.driver.info, envelope), self.driver.refuses
        planned = self._plan_for(
            load, envelope, lambda it: cannot(it, load.first_pulse, lease_max_us, envelope, refuses)
        )
        if isinstance(planned, Trip):
            self.report.refuse(load, planned.code, planned.detail)
            return
        plan, limits = planned
        if not 0 <= load.first_pulse < plan.pulses:
            self.report.refuse(load, "wrong-position", f"the plan has {plan.pulses} pulses")
            return
        self._unload()
        self.device.seen = PulseTimes(limits.train_gap_min_us)
        self._sent = self._sent.with_gap(limits.train_gap_min_us)
        self.play = Playback(
            plan=plan,
            session_no=load.session_no,
            limits=tightened(limits, plan),
            position=load.first_pulse,
            lease_max_us=lease_max_us,
            pulses_max=envelope.block_pulses_max,
            lead_us=self.driver.info.lead_us,
            sent=self._sent,
            day_pulses=load.day_pulses,
            week_pulses=load.week_pulses,
            count_at_load=(load.count_low, load.count_high),
        )

    def _is_loaded(self, session_no: int, command: ipc.ToGuard) -> bool:
        if self.play is not None and self.play.session_no == session_no:
            return True
        self.report.refuse(command, "not-loaded", f"session {session_no} is not loaded")
        return False

    def _granted(self, grant: ipc.Grant) -> None:
        play = self.play
        intent = play.intent if play and play.session_no == grant.session_no else None
        if intent is None or (intent.block_id, intent.pulses) != (grant.block_id, grant.pulses):
            # An intent that no longer has a use is closed at once, so that it counts no dose.
            self.report.useless(grant)
        else:
            intent.granted = True

    def _pause(self, why: Trip) -> None:
        self._disarm_asked = why if isinstance(self.state, Arming | Armed) else None
        self._run_asked = None

    def _withdraw(self, why: str) -> None:
        play = self.play
        if play is not None and play.intent is not None:
            intent, play.intent = play.intent, None
            if intent.granted:
                self.report.never_sent(play.session_no, intent, why)

    def _unload(self) -> None:
        """Forget the plan. A block that still has no outcome stays with the device view."""
        if self.play is not None:
            self._withdraw("unloaded")
            self.device.adopt_orphan(self.play)
            self.play = None

    # -- rules and state ---------------------------------------------------------------------

    @property
    def limits_in_force(self) -> Limits:
        return self.play.limits if self.play is not None else self.limits

    def _step(self, event: machine.Event, now: BootUs) -> machine.Step:
        before = self.state
        result = machine.step(before, event)
        self.state = result.state
        match result.effect:
            case Effect.ARM:
                assert isinstance(result.state, Arming)
                self.settled_at = views.settled_at(self, result.state.mso, now)
                shape = views.shape_of(self.play)
                self.device.arming(self.driver.arm(result.state.mso, shape, now), now)
            case Effect.DISARM:
                self.driver.disarm(now)
            case Effect.STOP:
                self.driver.stop(now)
            case Effect.NOTHING:
                pass
        if result.state is not before:
            self._run_asked, self._changed_in = None, self.cycles  # asked of the state before
            self.report.transition(before, result.state, result.causes, now)
            if not isinstance(result.state, Arming | Armed) and self.play is not None:
                self.play.running = False
                self._withdraw(result.causes[0].code)
        return result

    def _act(self, verdict: Verdict, now: BootUs) -> bool:
        """At most one thing, the safest first. Returns whether the beat may be sent."""
        if self.self_test.running:
            alone = isinstance(self.state, Idle) and self.service_seen_at is not None
            may_beat, ended = self.self_test.step(now, undisturbed=alone)
            self.report.say(ended)
            return may_beat
        refused = self.device.arm_refused()
        if self._disarm_asked is not None:
            why, self._disarm_asked = self._disarm_asked, None
            self._step(machine.DisarmAsked(why), now)
        elif refused is not None:
            self._step(machine.DisarmAsked(refused), now)
        elif self._acknowledge_asked is not None:
            self._acknowledge(self._acknowledge_asked, now)
        elif isinstance(self.state, Safe):
            if self.device.may_be_armed:
                self.driver.stop(now)  # until the device itself shows that it is disarmed
        elif self._run_asked is not None:
            self._run(self._run_asked, verdict, now)
        elif isinstance(self.state, Armed) and self.play is not None:
            self._play(verdict, self.play, now)
        elif isinstance(self.state, Idle):
            if self.device.may_be_armed:
                self.driver.disarm(now)
            elif self.device.latched_by_us or self.device.has_another_coil:
                self.driver.acknowledge(now)  # a new session, and the coil is told anew
        return True

    def _acknowledge(self, command: ipc.Acknowledge, now: BootUs) -> None:
        self._acknowledge_asked = None
        if command.cycle <= self._changed_in:  # nobody has seen this cause yet
            self.report.refuse(command, "newer-cause", "there is another cause now: look again")
            return
        verdict = rules.watch(views.facts_if_acknowledged(self, now), self.limits_in_force, now)
        cause = self._step(machine.Acknowledged(verdict), now).causes[0]
        if cause.action is not Action.PERMIT:
            self.report.refuse(command, cause.code, cause.detail)
            return
        self.stopped_by = None
        self.device.strangers = 0
        self.device.link_watch.acknowledge()
        self.driver.acknowledge(now)
        self.listen(now)  # the connection is being renewed, and the next snapshot says so

    def _run(self, run: ipc.Run, verdict: Verdict, now: BootUs) -> None:
        self._run_asked = None
        play = self.play
        assert play is not None
        if play.complete:
            self.report.refuse(run, "complete", "the plan is complete")
            return
        request = views.arm_request_of(self, play, run)
        judged = rules.arm(verdict, request, play.limits, now)
        result = self._step(machine.ArmAsked(judged, play.plan.mso, now), now)
        if result.effect is Effect.ARM:
            play.running, play.origin = True, None
            play.since = play.since or now
        else:
            cause = result.causes[0]
            self.report.refuse(run, cause.code, cause.detail)

    # -- the plan ----------------------------------------------------------------------------

    def _play(self, verdict: Verdict, play: Playback, now: BootUs) -> None:
        if play.complete:
            why = Trip("complete", Action.PERMIT, "all pulses of the plan are done")
            self._step(machine.DisarmAsked(why), now)
            return
        if play.origin is None:
            if play.open is not None:
                return  # where the last block ended is not known yet
            play.lay_time_line(now)
        self._want_next(play)
        intent = play.intent
        if play.open is not None or intent is None or not intent.granted:
            return
        if play.is_late(intent.slice, now):
            play.make_up_for_lateness(intent, now)
            if play.position >= intent.first_pulse + intent.pulses:
                self._withdraw("late")
        elif now >= max(play.ask_at, play.due(intent.slice) - play.lead_us - SEND_AHEAD_US):
            self._fire(verdict, play, intent, now)

    def _want_next(self, play: Playback) -> None:
        """Ask in time for the durable intent of the block that comes next."""
        at = play.next_pulse
        if at >= play.plan.pulses or (play.intent and play.intent.slice.first_pulse == at):
            return
        self._withdraw("the position changed")
        piece = play.slice_at(at)
        self._block_id += 1
        play.intent = Intent(self._block_id, piece.first_pulse, piece.pulses, piece)
        self.report.want(play.session_no, play.intent, self.device.count)

    def _fire(self, verdict: Verdict, play: Playback, intent: Intent, now: BootUs) -> None:
        """The only way to a pulse: this cycle's verdict, a request, a permit, the driver."""
        request = views.request_of(self, play, intent)
        judged = rules.gate(verdict, request, play.limits)
        minted = permit.mint(self.state, judged, request, now)
        if not isinstance(minted, Permit):
            # Held for the sake of a limit, the rest of the train begins later; it is not skipped.
            play.keeps_rhythm = False
            play.ask_at = BootUs(now + ASK_AGAIN_US)
            play.waiting = f"{minted.trips[0].code}: {minted.trips[0].detail}"
            if minted.action is Action.SAFE:
                self._step(machine.Tick(minted, False, now), now)
            return
        play.intent, play.keeps_rhythm, play.waiting = None, True, ""
        ticket = self.driver.fire(minted, now)
        play.open = OpenBlock(intent, request.block, request.start_at, now, ticket)

    @property
    def energised(self) -> bool:
        """May a pulse leave, as far as anybody knows? The self-test arms as well."""
        armed = isinstance(self.state, Arming | Armed) or self.device.may_be_armed
        return armed or self.self_test.running
