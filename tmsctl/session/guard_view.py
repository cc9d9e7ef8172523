"""What the service knows of the guard, and whether that is enough to begin."""

from __future__ import annotations

from typing import Final

from drivers.causes import parted
from firmware_protocol.table import spec_of
from tmsctl.ipc.messages import Grant, GuardState, Load, Refused, Run, Snapshot, Transition
from tmsctl.session.refused import Exit, RefusedError

SNAPSHOT_AGE_MAX_US: Final = 500_000
"""An older snapshot says nothing: the guard is absent."""

CAUSES_MAX: Final = 16

DEVICE_CODES: Final = frozenset({"wrong-device", "status-age", "arm-refused", "arming-slow"})
"""Causes that lie with the device, whatever was asked."""

TO_DELIVER: Final = frozenset(spec_of(kind).code for kind in (Load, Run, Grant))
"""Messages that the guard refuses because of a limit, unless something worse is the matter."""

_AGAIN: Final = "Try again; if it comes back, "

NEXT: Final = {
    "recharge": "This stimulator needs longer between pulses: choose a protocol with fewer pulses "
    "a second, or where that is allowed a lower intensity.",
    "device-cannot": "Choose a protocol that this stimulator can deliver; nothing was armed.",
    "coil-hot": "Let the coil cool, or take a cool one; then try again.",
    "coil-sensor": "See the coil and its plug; if another coil does not cure it, call service.",
    "coil-changed": "Connect a coil, wait a second, and try again.",
    "didt": "Connect a coil that docs/limits.md names.",
    "wrong-device": "Connect the stimulator that `[device] serial` names.",
    "journal-failed": "Mend the disk of the journal, then restart tmsd.",
    "status-age": f"{_AGAIN}see the cable, and `tmsctl doctor`.",
    "link-doubt": f"{_AGAIN}see the cable, and `tmsctl doctor`.",
    "cycle-gap": f"{_AGAIN}this computer is too busy: see `timing` in `tmsctl status`.",
    "service-lost": f"{_AGAIN}this computer is too busy: see the log of tmsd.",
    "counter": "Compare with `tmsctl ledger list`.",
    "ledger-counter": "Compare with `tmsctl ledger list`.",
    "unresolved": "Wait a second, until the device has told what left, and try again.",
    "unresolved-long": "Stop the session; `tmsctl ledger list` shows what is unknown.",
    "rate-seen": "Stop the session, and find out who pulsed, or why the device's clock went back.",
    "session-long": "Stop the session; what is left of its plan is another session's.",
    "presence-lost": "Somebody must be at the station: start or resume again from there.",
    "self-test": "Run `tmsctl selftest`.",
    "not-confirmed": "Look at the plan again, and confirm that one.",
    "confirmation-old": "Look at the plan again, and confirm it anew.",
}
"""What to do about a refusal of the guard. Where one is in SAFE, its causes say more."""

LOOK: Final = "Look at the status and the events."


class GuardView:
    """The newest word of the guard, and the causes of its newest way into SAFE."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.last: Snapshot | None = None
        self.causes: list[Transition] = []

    def down(self) -> None:
        """The connection is gone, and what is known with it."""
        self.pid = self.last = None
        self.causes.clear()

    def entered_safe(self, cause: Transition) -> None:
        """One message for each cause; those of one entry share its instant."""
        if self.causes and self.causes[0].boot_us != cause.boot_us:
            self.causes.clear()
        if len(self.causes) < CAUSES_MAX:
            self.causes.append(cause)

    @property
    def safe(self) -> bool:
        return self.last is not None and self.last.state == GuardState.SAFE

    def fresh(self, now_us: int) -> Snapshot | None:
        """The newest snapshot; None when there is none, or it is old, or from the future."""
        if self.last is None or not 0 <= now_us - self.last.boot_us <= SNAPSHOT_AGE_MAX_US:
            return None
        return self.last

    def present(self, now_us: int) -> Snapshot:
        """The newest snapshot, or RefusedError."""
        snapshot = self.fresh(now_us)
        if snapshot is None:
            raise absent()
        return snapshot

    def connected(self, now_us: int) -> Snapshot:
        """The newest snapshot, with a device; or RefusedError."""
        snapshot = self.present(now_us)
        if not snapshot.connected:
            why, step = parted(snapshot.link)
            sentence = f"No stimulator answers: {why or 'the guard has not said why'}."
            step = step or "see its power and cable, and [device] in the configuration"
            raise RefusedError(
                Exit.DEVICE, "device-unreachable", sentence, f"{step[0].upper()}{step[1:]}."
            )
        return snapshot

    def ready(self, now_us: int) -> Snapshot:
        """What start and resume need: a device, and a guard that is disarmed and not in SAFE."""
        snapshot = self.connected(now_us)
        if snapshot.state == GuardState.SAFE:
            causes = "; ".join(f"{c.code}: {c.detail}" for c in self.causes)
            raise RefusedError(
                Exit.FAULT,
                "guard-safe",
                f"The guard is in SAFE ({causes or 'it has not said why'}).",
                "Remove the cause, then acknowledge first.",
            )
        if snapshot.state != GuardState.IDLE:
            sentence = "The guard has not disarmed the stimulator yet."
            raise RefusedError(Exit.USAGE, "guard-busy", sentence, "Try again in a second.")
        return snapshot

    def refusal(self, item: Refused) -> RefusedError:
        """What the guard refused, as an error for whoever asked."""
        exit_bit = Exit.LIMIT if item.of_code in TO_DELIVER else Exit.USAGE
        if item.code in DEVICE_CODES or (self.last is not None and not self.last.connected):
            exit_bit = Exit.DEVICE
        elif self.safe:
            exit_bit = Exit.FAULT
        sentence = f"The guard refuses: {item.detail}."
        return RefusedError(exit_bit, item.code, sentence, NEXT.get(item.code, LOOK))


def absent() -> RefusedError:
    """The guard does not answer."""
    return RefusedError(
        Exit.DEVICE,
        "guard-absent",
        "The guard does not answer, so nothing can be delivered.",
        "Look at the log of tms-guard; tmsd tries to reach it four times a second.",
    )
