"""What the guard's own rules demand between trains is never less than what a Rapid² needs."""

from __future__ import annotations

from drivers.contract import PulseBlock
from drivers.magstim.rapid import LEASE_US
from firmware_protocol.magstim.rates import Kind, Supply, frequency_max_dhz
from firmware_protocol.quantities import SECOND, BootUs, PercentMso
from tests.families import rapid
from tests.tables.rule_cases import GAP_US, LIMITS, request
from tmsctl.safety.dose import PulseTimes, pulse_energy_uj
from tmsctl.safety.rules import GATE

RULE = {row.code: row.rule for row in GATE}["train-rest"]
FIRST_AT = 1_000 * SECOND


def is_permitted(block: PulseBlock, rest_us: int) -> bool:
    """By the rule `train-rest`: the same train again, so long after it."""
    sent = PulseTimes(GAP_US)
    times = (FIRST_AT + block.offset_us(place) for place in range(block.pulses))
    sent.extend(times, pulse_energy_uj(block.mso.value))
    start_at = BootUs(FIRST_AT + block.span_us + rest_us)
    return RULE(request(block=block, start_at=start_at, sent=sent), LIMITS) is None


def test_no_train_that_the_gate_permits_comes_before_the_rest_of_the_one_before() -> None:
    """The longest that is handed over, at every intensity and frequency of the strongest unit: the
    table of a Rapid² is up to 0.21 J above the rule's law, and the rule counts a period more."""
    unit = rapid(super=1, plus=1)
    least_us = unit.envelope.block_rest_us
    held = 0
    for pct in range(1, 101):
        for hz in range(2, frequency_max_dhz(Supply.V240, Kind.SUPER_PLUS, pct) // 10 + 1):
            period_us = SECOND // hz
            pulses = 1 + LEASE_US // period_us
            block = PulseBlock(1, PercentMso(pct), pulses, period_us, 1, 0)
            rest_us = unit.rest_us(block)
            if rest_us > least_us:
                held += 1
                assert not is_permitted(block, rest_us - 1), block
    assert held > 1_000
