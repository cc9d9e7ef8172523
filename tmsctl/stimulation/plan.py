"""The pulse plan: every pulse of a session with its planned time, and how it is cut into blocks."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, field

from firmware_protocol.quantities import PercentMso
from tmsctl.stimulation.protocol import Protocol

PLAN_FORMAT = "tmsctl-plan-1"
"""First line of the text under the hash; a new name whenever the text changes its meaning."""


@dataclass(frozen=True, slots=True)
class Train:
    """Equal bursts of equal pulses. `onset_us` counts from the first pulse of the plan."""

    onset_us: int
    first_pulse: int  # place in the plan, from 0
    bursts: int
    burst_period_us: int  # onset to onset
    pulses_per_burst: int
    interval_us: int  # pulse to pulse inside a burst; 0 for one pulse a burst

    @property
    def pulses(self) -> int:
        return self.bursts * self.pulses_per_burst

    @property
    def span_us(self) -> int:
        """First pulse to last pulse."""
        return (self.bursts - 1) * self.burst_period_us + self.burst_span_us

    @property
    def burst_span_us(self) -> int:
        """First pulse to last pulse of one burst."""
        return (self.pulses_per_burst - 1) * self.interval_us


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of one train that is handed to the device as one block."""

    first_pulse: int  # place in the plan, from 0
    pulses: int
    onset_us: int  # of its first pulse, from the first pulse of the plan
    train: int  # from 0
    starts_train: bool
    bursts: int
    burst_period_us: int
    pulses_per_burst: int
    interval_us: int  # 0 for one pulse a burst


@dataclass(frozen=True, slots=True)
class Plan:
    """All that will reach the coil: trains in order, without gaps in the count of pulses."""

    protocol: Protocol
    mso: PercentMso
    mt_permille: int  # motor threshold, permille of MSO
    pct_mt: int  # prescribed intensity, % of motor threshold
    reduced: bool  # a person accepted less than prescribed where the ceiling needs it
    trains: tuple[Train, ...]
    pulses: int = field(init=False)
    hash: str = field(init=False)  # hexadecimal SHA-256 of `canonical_text`

    def __post_init__(self) -> None:
        last = self.trains[-1]
        object.__setattr__(self, "pulses", last.first_pulse + last.pulses)  # once: it is frozen
        digest = hashlib.sha256(self.canonical_text().encode()).hexdigest()
        object.__setattr__(self, "hash", digest)

    @property
    def span_us(self) -> int:
        """First pulse to last pulse."""
        last = self.trains[-1]
        return last.onset_us + last.span_us

    def train_of(self, pulse: int) -> Train:
        """The train of this pulse (from 0). ValueError when the plan has no such pulse."""
        return self.trains[self.train_index(pulse)]

    def at_us(self, pulse: int) -> int:
        """Planned time of this pulse (from 0), counted from the first pulse of the plan."""
        train = self.train_of(pulse)
        burst, place = divmod(pulse - train.first_pulse, train.pulses_per_burst)
        return train.onset_us + burst * train.burst_period_us + place * train.interval_us

    def slice_at(self, pulse: int, lease_max_us: int, pulses_max: int) -> Slice:
        """The block that begins with this pulse (from 0).

        Inside a burst: the rest of that burst alone. Else as many whole bursts of the train as fit
        into `lease_max_us` (first to last pulse) and `pulses_max`, but at least one.
        """
        index = self.train_index(pulse)
        train = self.trains[index]
        offset = pulse - train.first_pulse
        burst, place = divmod(offset, train.pulses_per_burst)
        bursts, per_burst = 1, train.pulses_per_burst - place
        if place == 0:
            in_lease = (lease_max_us - train.burst_span_us) // train.burst_period_us + 1
            bursts = max(1, min(train.bursts - burst, in_lease, pulses_max // per_burst))
        return Slice(
            first_pulse=pulse,
            pulses=bursts * per_burst,
            onset_us=self.at_us(pulse),
            train=index,
            starts_train=offset == 0,
            bursts=bursts,
            burst_period_us=train.burst_period_us,
            pulses_per_burst=per_burst,
            interval_us=train.interval_us if per_burst > 1 else 0,
        )

    def canonical_text(self) -> str:
        """What the hash covers: one `name=value` a line, sorted; numbers and one hash only."""
        lines = [
            f"mso={self.mso.value}",
            f"mt_permille={self.mt_permille}",
            f"pct_mt={self.pct_mt}",
            f"protocol={self.protocol.hash}",
            f"reduced={int(self.reduced)}",
        ]
        lines += [
            f"train.{index:06}={train.onset_us},{train.first_pulse},{train.bursts},"
            f"{train.burst_period_us},{train.pulses_per_burst},{train.interval_us}"
            for index, train in enumerate(self.trains)
        ]
        return "\n".join([PLAN_FORMAT, *sorted(lines), ""])

    def train_index(self, pulse: int) -> int:
        """Place of the train of this pulse, from 0. ValueError when the plan has no such pulse."""
        if not 0 <= pulse < self.pulses:
            raise ValueError(f"pulse {pulse} is outside 0..{self.pulses - 1} of this plan")
        return bisect_right(self.trains, pulse, key=lambda train: train.first_pulse) - 1


def trains_of(protocol: Protocol) -> tuple[Train, ...]:
    """The trains of a protocol, the first pulse at 0."""
    pulses = protocol.bursts_per_train * protocol.pulses_per_burst
    return tuple(
        Train(
            onset_us=index * protocol.train_period_us,
            first_pulse=index * pulses,
            bursts=protocol.bursts_per_train,
            burst_period_us=protocol.burst_period_us,
            pulses_per_burst=protocol.pulses_per_burst,
            interval_us=protocol.interval_us,
        )
        for index in range(protocol.trains)
    )
