"""The guard: one pure-in-time object. Everything that can fire goes through `Guard.cycle`.

One cycle: STOP, device, tmsd's messages, rules, at most one action, beat. Time is an argument and
the device a port, so production runs it in real time and the tests run the same object in virtual
time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from drivers.contract import DeviceState, Permit, PulseBlock, Stimulator
from firmware_protocol.quantities import MS, BootUs, PercentMso
from tmsctl.guard.device_view import DeviceView
from tmsctl.guard.playback import Intent, OpenBlock, Playback
from tmsctl.guard.report import Reporter
from tmsctl.ipc import messages as ipc
from tmsctl.safety import machine, permit, rules
from tmsctl.safety.dose import PulseTimes
from tmsctl.safety.facts import Facts, Request
from tmsctl.safety.limits import Limits
from tmsctl.safety.machine import Armed, Arming, Effect, Idle, Safe, State
from tmsctl.safety.plan_check import tightened
from tmsctl.safety.rules import Action, Trip, Verdict
from tmsctl.stimulation.plan import Plan

PERIOD_US: Final = 10 * MS
SEND_AHEAD_US: Final = 60 * MS
"""A block is handed over this long before the driver's lead begins, at the earliest."""

PERMIT_FOR_US: Final = 50 * MS
"""Each beat lets pulses leave for this long; the device's dead-man is as long."""

PlanFor = Callable[[ipc.Load], tuple[Plan, Limits] | Trip]
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
        latched: str | None = None,
    ) -> None:
        """`serial`: the only device that may be armed. `latched`: why it begins in SAFE, if so."""
        self.driver = driver
        self.limits = limits
        self.cycles = 0
        self.state: State = Idle()
        if latched is not None:
            self.state = Safe((Trip("unclean-start", Action.SAFE, latched),))
        self.report = Reporter()
        self.device = DeviceView(serial, PulseTimes(limits.train_gap_min_us), self.report)
        self.play: Playback | None = None
        self._plan_for = plan_for
        self._sent = PulseTimes(limits.train_gap_min_us)
        self._stopped_by: str | None = None
        self._service_seen_at: BootUs | None = None
        self._last_cycle_at = now
        self._block_id = 0
        self._run_asked = False
        self._acknowledge_asked = False
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
            self._stopped_by = self._stopped_by or inputs.stopped_by
        self.listen(now)
        self._take_commands(inputs, now)
        self.device.settle(self.play)

        verdict = rules.watch(self._facts(gap_us), self._limits(), now)
        ready = self.device.ready_at(self._armed_mso(), self._armed_since())
        self._step(machine.Tick(verdict, ready, now), now)
        self._act(verdict, now)

        self.cycles += 1
        armed = isinstance(self.state, Armed)
        self.driver.beat(self.cycles, now, BootUs(now + PERMIT_FOR_US) if armed else BootUs(0))
        return self.report.collect(self, now)

    def make_safe(self, now: BootUs) -> None:
        """The last act of a guard that ends: no lock, no allocation that matters, no disk."""
        self.driver.stop(now)

    # -- tmsd's messages ---------------------------------------------------------------------

    def _take_commands(self, inputs: Inputs, now: BootUs) -> None:
        if not inputs.service_connected:
            if self._service_seen_at is not None and self.play is not None:
                self.play.running = False  # nobody is left who could grant or resume
            self._service_seen_at = None
        for command in inputs.commands:
            self._service_seen_at = now
            match command:
                case ipc.Load():
                    self._load(command)
                case ipc.Run(session_no):
                    if self._is_loaded(session_no, command):
                        self._run_asked = True
                case ipc.Grant():
                    self._granted(command)
                case ipc.Pause(session_no):
                    if self._is_loaded(session_no, command):
                        self._pause(Trip("paused", Action.PERMIT, "the operator paused"))
                case ipc.Unload():
                    self._pause(Trip("unloaded", Action.PERMIT, "the session was ended"))
                    self._unload()
                case ipc.Acknowledge():
                    self._acknowledge_asked = True
                case ipc.Recorded(session_no, block_id):
                    self.report.recorded(session_no, block_id)
                case _:
                    pass  # Welcome and Alive say that tmsd lives, and no more

    def _load(self, load: ipc.Load) -> None:
        if not isinstance(self.state, Idle) or (self.play and self.play.open):
            self.report.refuse(load, "wrong-state", "a plan is loaded only while disarmed")
            return
        envelope = self.device.envelope
        if envelope is None:
            self.report.refuse(load, "no-device", "no stimulator has answered yet")
            return
        planned = self._plan_for(load)
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
        info = self.driver.info
        self.play = Playback(
            plan=plan,
            session_no=load.session_no,
            limits=tightened(limits, plan),
            position=load.first_pulse,
            lease_max_us=min(info.lease_max_us, envelope.block_max_us),
            pulses_max=envelope.block_pulses_max,
            lead_us=info.lead_us,
            sent=self._sent,
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
        self._disarm_asked = why
        self._run_asked = False
        if self.play is not None:
            self.play.running = False
            self._withdraw("paused")

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

    def _armed_mso(self) -> PercentMso | None:
        return self.state.mso if isinstance(self.state, Arming | Armed) else None

    def _armed_since(self) -> BootUs | None:
        return self.state.since if isinstance(self.state, Arming | Armed) else None

    def _limits(self) -> Limits:
        return self.play.limits if self.play is not None else self.limits

    def _facts(self, gap_us: int) -> Facts:
        device = self.device
        armed = isinstance(self.state, Arming | Armed)
        return Facts(
            stopped_by=self._stopped_by,
            service_seen_at=self._service_seen_at,
            cycle_gap_us=gap_us,
            device_known=device.known,
            status=device.status,
            armed_since=self._armed_since(),
            armed_mso=self._armed_mso(),
            ready_seen=isinstance(self.state, Armed),
            energy_at=device.energy_at if armed else None,
            counter=device.counter_range(self.play),
            realised_permille=device.realised_permille if armed else None,
            unresolved_since=device.unresolved_since(self.play),
            refusals=device.refusals,
            strangers=device.strangers,
            seen=device.seen,
            session_since=self.play.since if self.play else None,
        )

    def _step(self, event: machine.Event, now: BootUs) -> machine.Step:
        before = self.state
        result = machine.step(before, event)
        self.state = result.state
        match result.effect:
            case Effect.ARM:
                assert isinstance(result.state, Arming)
                self.device.arming(self.driver.arm(result.state.mso, now), now)
            case Effect.DISARM:
                self.driver.disarm(now)
            case Effect.STOP:
                self.driver.stop(now)
            case Effect.NOTHING:
                pass
        if result.state is not before:
            self.report.transition(before, result.state, result.causes, now)
            if not isinstance(result.state, Arming | Armed) and self.play is not None:
                self.play.running = False
                self._withdraw(result.causes[0].code)
        return result

    def _act(self, verdict: Verdict, now: BootUs) -> None:
        """At most one thing, the safest first."""
        refused = self.device.arm_refused()
        if self._disarm_asked is not None:
            why, self._disarm_asked = self._disarm_asked, None
            self._step(machine.DisarmAsked(why), now)
        elif refused is not None:
            self._step(machine.DisarmAsked(refused), now)
        elif isinstance(self.state, Safe) and not self._acknowledge_asked:
            if self.device.may_be_armed:
                self.driver.stop(now)  # until the device itself shows that it is disarmed
        elif self._acknowledge_asked:
            self._acknowledge(now)
        elif self._run_asked:
            self._run(verdict, now)
        elif isinstance(self.state, Armed) and self.play is not None:
            self._play(verdict, self.play, now)
        elif isinstance(self.state, Idle):
            if self.device.may_be_armed:
                self.driver.disarm(now)
            elif self.device.latched_by_us:
                self.driver.acknowledge(now)

    def _acknowledge(self, now: BootUs) -> None:
        self._acknowledge_asked = False
        # What has happened is acknowledged; only what is still so can keep the latch.
        facts = self._facts(0)._replace(
            stopped_by=None, strangers=0, status=self.device.status_without_fault
        )
        verdict = rules.watch(facts, self._limits(), now)
        result = self._step(machine.Acknowledged(verdict), now)
        if result.causes[0].action is not Action.PERMIT:
            cause = result.causes[0]
            self.report.refuse(ipc.Acknowledge(), cause.code, cause.detail)
            return
        self._stopped_by = None
        self.device.strangers = self.device.refusals = 0
        self.driver.acknowledge(now)
        self.listen(now)  # the connection is being renewed, and the next snapshot says so

    def _run(self, verdict: Verdict, now: BootUs) -> None:
        self._run_asked = False
        play = self.play
        assert play is not None
        if play.complete:
            self.report.refuse(ipc.Run(play.session_no), "complete", "the plan is complete")
            return
        result = self._step(machine.ArmAsked(verdict, play.plan.mso, now), now)
        if result.effect is Effect.ARM:
            play.running, play.origin = True, None
            play.since = play.since or now
        else:
            cause = result.causes[0]
            self.report.refuse(ipc.Run(play.session_no), cause.code, cause.detail)

    # -- the plan ----------------------------------------------------------------------------

    def _play(self, verdict: Verdict, play: Playback, now: BootUs) -> None:
        if play.complete:
            play.running = False
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
        elif now >= play.due(intent.slice) - play.lead_us - SEND_AHEAD_US:
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
        piece = intent.slice
        block = PulseBlock(
            block_id=intent.block_id,
            mso=play.plan.mso,
            bursts=piece.bursts,
            burst_period_us=piece.burst_period_us,
            pulses_per_burst=piece.pulses_per_burst,
            interval_us=piece.interval_us,
        )
        request = Request(
            block=block,
            start_at=play.due(piece),
            plan_mso=play.plan.mso,
            mt_permille=play.plan.mt_permille,
            plan_pulses_left=play.plan.pulses - play.position,
            session_pulses=play.first_pulse + play.delivered,
            sent=play.sent,
            granted_pulses=intent.pulses - intent.skipped if intent.granted else 0,
        )
        judged = rules.gate(verdict, request, play.limits)
        minted = permit.mint(self.state, judged, request, now)
        if not isinstance(minted, Permit):
            # Held for the sake of a limit, the rest of the train begins later; it is not skipped.
            play.keeps_rhythm = False
            play.waiting = f"{minted.trips[0].code}: {minted.trips[0].detail}"
            if minted.action is Action.SAFE:
                self._step(machine.Tick(minted, False, now), now)
            return
        play.intent, play.keeps_rhythm, play.waiting = None, True, ""
        ticket = self.driver.fire(minted, now)
        play.open = OpenBlock(intent, block, request.start_at, now, ticket)

    @property
    def energised(self) -> bool:
        """May a pulse leave, as far as anybody knows?"""
        return isinstance(self.state, Arming | Armed) or self.device.may_be_armed

    @property
    def device_state(self) -> DeviceState | None:
        status = self.device.status
        return None if status is None else status.state
