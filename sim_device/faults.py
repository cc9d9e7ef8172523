"""Faults on demand: when each rule strikes, and how often it did. What they do is elsewhere:
wire_faults.py for frames, device_faults.py for the device."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sim_device.fault_kinds import KINDS, Occasion

Log = Callable[[dict[str, object]], None]
"""Takes one line of the ground truth."""

FRAMES: Final = (Occasion.TO_HOST, Occasion.TO_DEVICE)


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault and its one trigger; counts start at 1, times at the device's start.

    Without a trigger it strikes at once. A value of None is the default of its kind.
    ValueError for a kind, a value or a trigger that there is not.
    """

    kind: str
    value: int | None = None
    at_us: int | None = None
    at_pulse: int | None = None  # from the n-th pulse that was due
    at_command: int | None = None  # from the n-th command, beats not counted
    at_frame: int | None = None  # from the n-th frame that way, while faults of that way are set
    probability: float | None = None
    for_us: int | None = None
    times: int | None = None

    def __post_init__(self) -> None:
        kind = KINDS.get(self.kind)
        if kind is None:
            raise ValueError(f"no fault of kind {self.kind!r}")
        if self.value is not None:
            row = kind.value
            if row is None or not row.low <= self.value <= row.high:
                raise ValueError(f"{self.kind}: value {self.value} is not allowed")
        if self.at_frame is not None and kind.occasion not in FRAMES:
            raise ValueError(f"{self.kind}: at_frame is for faults of frames")
        if len(self.triggers) > 1:
            raise ValueError(f"{self.kind}: more than one trigger")

    @property
    def triggers(self) -> list[float]:
        several = (self.at_us, self.at_pulse, self.at_command, self.at_frame, self.probability)
        return [trigger for trigger in several if trigger is not None]


class Active:
    """A rule and how far it has come."""

    __slots__ = ("left", "rule", "since_us", "struck", "until_us", "value")

    def __init__(self, rule: Rule) -> None:
        kind = KINDS[rule.kind]
        default = kind.value.default if kind.value is not None else 0
        once = (not kind.lasts and rule.for_us is None) or kind.occasion is Occasion.STATE
        bounded = once and rule.probability is None
        self.rule = rule
        self.value = default if rule.value is None else rule.value
        self.left = rule.times if rule.times is not None else 1 if bounded else None
        self.struck = 0
        self.since_us: int | None = None  # when it was triggered
        self.until_us: int | None = None  # of a state: when it ends


class Faults:
    """Decides at each occasion whether a fault strikes. Add and clear rules at any time."""

    def __init__(
        self, rng: random.Random, start_us: int, log: Log, rules: Iterable[Rule] = ()
    ) -> None:
        self.counts: Counter[str] = Counter()
        """How often each kind has happened; what had nothing to act on is not counted."""
        self.pulses = self.commands = 0
        self.frames: Counter[Occasion] = Counter()
        self.rng = rng
        self.changed: Callable[[], None] = lambda: None  # told after `add` and `clear`
        self._start_us, self._log = start_us, log
        self._rules: dict[str, list[Active]] = {}
        self._by_itself: list[Active] = []  # those of the rules that need no occasion
        self._on: dict[str, Active] = {}  # states in force
        for rule in rules:
            self.add(rule)

    # -- rules -------------------------------------------------------------------------------

    def add(self, rule: Rule) -> None:
        self._rules.setdefault(rule.kind, []).append(Active(rule))
        self._sort()

    def add_from_now(self, rule: Rule, now_us: int) -> None:
        """Times and counts of the rule begin now."""
        if not rule.triggers:
            rule = replace(rule, at_us=0)
        from_now = {
            "at_us": now_us - self._start_us,
            "at_pulse": self.pulses,
            "at_command": self.commands,
            "at_frame": self.frames[KINDS[rule.kind].occasion],
        }
        shifted = {
            name: getattr(rule, name) + since
            for name, since in from_now.items()
            if getattr(rule, name) is not None
        }
        self.add(replace(rule, **shifted))

    def clear(self, kind: str) -> None:
        """Forget every rule of a kind, and end it; what has happened stays."""
        self._rules.pop(kind, None)
        if kind in self._on:
            self._on[kind].until_us = self._start_us
        self._sort()

    def clear_all(self) -> None:
        for kind in [*self._rules, *self._on]:
            self.clear(kind)

    def prune(self, now_us: int) -> None:
        """Forget the rules that will never strike again, so that they cost no time."""
        over = [active for active in self.set_rules() if self._is_over(active, now_us)]
        if not over:
            return
        for active in over:
            several = self._rules.get(active.rule.kind, [])
            if active in several:
                several.remove(active)
        self._rules = {kind: several for kind, several in self._rules.items() if several}
        self._sort()

    def _is_over(self, active: Active, now_us: int) -> bool:
        rule = active.rule
        if active is self._on.get(rule.kind):
            return False
        if active.left == 0:
            return True
        if rule.for_us is None or rule.probability is not None:
            return False
        since_us = self._at_us(active) if active.since_us is None else active.since_us
        return since_us is not None and now_us - since_us >= rule.for_us

    def _at_us(self, active: Active) -> int | None:
        """When it is set to begin, if by time."""
        at_us = active.rule.at_us
        return None if at_us is None else self._start_us + at_us

    def set_rules(self) -> list[Active]:
        """The rules that can still strike, and those of the states in force."""
        rules = [active for several in self._rules.values() for active in several]
        return rules + [active for active in self._on.values() if active not in rules]

    def in_force(self) -> list[str]:
        """The states that are on."""
        return list(self._on)

    def touches(self, way: Occasion) -> bool:
        """Is there a rule for frames of this way?"""
        return any(KINDS[kind].occasion is way for kind in self._rules)

    @property
    def any_set(self) -> bool:
        return bool(self._rules or self._on)

    def _sort(self) -> None:
        alone = (Occasion.MOMENT, Occasion.STATE)
        rules = (active for several in self._rules.values() for active in several)
        self._by_itself = [a for a in rules if KINDS[a.rule.kind].occasion in alone]
        self.changed()

    # -- occasions ---------------------------------------------------------------------------

    def strikes(self, kind: str, now_us: int, value: int | None = None) -> int | None:
        """The fault's value (0 when it has none) if it strikes now, else None.

        With `value` only rules of this value count.
        """
        for active in self._rules.get(kind, ()):
            if value is not None and active.value != value:
                continue
            if self._begins_or_goes_on(active, now_us):
                self.struck(active, now_us)
                return active.value
        return None

    def struck(self, active: Active, now_us: int) -> None:
        """It has happened: count it."""
        kind = active.rule.kind
        row = KINDS[kind]
        if active.left is not None:
            active.left -= 1
        self.counts[kind] += 1
        active.struck += 1
        if row.occasion is Occasion.STATE:
            for_us = active.rule.for_us
            since_us = now_us if active.since_us is None else active.since_us
            active.until_us = None if for_us is None else since_us + for_us
            self._on[kind] = active
        often = (row.lasts and row.occasion is not Occasion.STATE) or row.occasion in FRAMES
        if active.struck == 1 or not often:
            self._tell(active, now_us, on=True)

    # -- what happens by itself --------------------------------------------------------------

    def due(self, now_us: int) -> Iterator[Active]:
        """Faults that want to happen now. `struck` has to follow for those that could."""
        for active in self._by_itself:
            if KINDS[active.rule.kind].occasion is Occasion.MOMENT:
                if self._begins_or_goes_on(active, now_us):
                    yield active
            elif active.rule.kind not in self._on and self._begins(active, now_us):
                yield active

    def end_states(self, now_us: int) -> bool:
        """Forget the states whose time is over; True when there was one."""
        over = [a for a in self._on.values() if a.until_us is not None and a.until_us <= now_us]
        for active in over:
            del self._on[active.rule.kind]
            self._tell(active, now_us, on=False)
        return bool(over)

    def states(self) -> dict[str, int]:
        """The states in force, with their values."""
        return {kind: active.value for kind, active in self._on.items()}

    def next_us(self) -> int | None:
        """Earliest instant at which a fault is set to begin or to end by itself."""
        if not self._by_itself and not self._on:
            return None
        ends = [active.until_us for active in self._on.values()]
        begins = [
            self._at_us(active) if active.rule.triggers else self._start_us
            for active in self._by_itself
            if active.since_us is None and active.left != 0 and active.rule.kind not in self._on
        ]
        return min((at for at in ends + begins if at is not None), default=None)

    def happen(
        self,
        now_us: int,
        moments: Mapping[str, Callable[[int], bool]],
        settle: Callable[[str], None],
        *,
        cooled: bool,
    ) -> None:
        """Whatever is due by itself.

        `moments`: what a kind does, given its value; False when there was nothing to act on.
        `settle`: the states in force have changed; with the kind that has just begun, or "".
        `cooled`: is there a cooling that can fail.
        """
        if self.end_states(now_us):
            settle("")
        for active in self.due(now_us):
            kind = active.rule.kind
            effect = moments.get(kind)
            if effect is not None:
                if effect(active.value):
                    self.struck(active, now_us)
            elif kind != "cooling_failure" or cooled:
                self.struck(active, now_us)
                settle(kind)
        self.prune(now_us)

    # -- triggers ----------------------------------------------------------------------------

    def _tell(self, active: Active, now_us: int, *, on: bool) -> None:
        self._log(
            {
                "t_us": now_us,
                "event": "injected",
                "kind": active.rule.kind,
                "value": active.value,
                "on": on,
            }
        )

    def _begins_or_goes_on(self, active: Active, now_us: int) -> bool:
        for_us = active.rule.for_us
        if active.left != 0 and active.since_us is not None and for_us is not None:
            if now_us - active.since_us < for_us:
                return True
            if active.rule.probability is None:
                active.left = 0
        return self._begins(active, now_us)

    def _begins(self, active: Active, now_us: int) -> bool:
        rule = active.rule
        if active.left == 0 or not self._triggered(rule, now_us):
            return False
        if active.since_us is None or rule.probability is not None:
            at_us = self._at_us(active)
            active.since_us = now_us if at_us is None else at_us
        return not self._is_over(active, now_us)

    def _triggered(self, rule: Rule, now_us: int) -> bool:
        if rule.probability is not None:
            return self.rng.random() < rule.probability
        if rule.at_us is not None:
            return now_us - self._start_us >= rule.at_us
        if rule.at_pulse is not None:
            return self.pulses >= rule.at_pulse
        if rule.at_command is not None:
            return self.commands >= rule.at_command
        return rule.at_frame is None or self.frames[KINDS[rule.kind].occasion] >= rule.at_frame
