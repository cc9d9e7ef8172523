"""The DuoMAG tables against bytes written out by hand from reference and published clients."""

from __future__ import annotations

import pytest

from firmware_protocol.duomag import messages as m
from firmware_protocol.duomag.framing import encode
from firmware_protocol.duomag.messages import Command, Delay, Kind, Status
from firmware_protocol.errors import LocalProtocolError, RemoteProtocolError
from firmware_protocol.table import Effect
from sim_device.duomag_wire import record

QUIET = Status(*([0] * 23), None)


def test_every_byte_is_one_command_and_no_byte_two() -> None:
    covered = [byte for row in m.COMMANDS for byte in range(row.first, row.last + 1)]
    assert covered == list(range(256))


@pytest.mark.parametrize(
    ("command", "wire"),
    [
        (Command(Kind.INTENSITY, 0), "0000"),
        (Command(Kind.INTENSITY, 1), "0101"),
        (Command(Kind.INTENSITY, 100), "6464"),
        (m.FIRE, "7979"),
        (Command(Kind.RECHARGE_HIGH, 30), "9e9e"),
        (Command(Kind.RECHARGE_LOW, 16), "b0b0"),
        (Command(Kind.TTL_HIGH, 25), "d9d9"),
        (Command(Kind.TTL_LOW, 31), "ffff"),
    ],
)
def test_a_command_is_its_byte_twice(command: Command, wire: str) -> None:
    assert encode([command]).hex() == wire
    assert m.BY_BYTE[int(wire[:2], 16)] == command


@pytest.mark.parametrize(
    "command",
    [
        Command(Kind.INTENSITY, 101),
        Command(Kind.INTENSITY, -1),
        Command(Kind.FIRE, 1),
        Command(Kind.UNKNOWN, 101),
        Command(Kind.UNKNOWN, 122),
        Command(Kind.TTL_LOW, 32),
    ],
)
def test_what_the_protocol_does_not_have_is_never_sent(command: Command) -> None:
    with pytest.raises(LocalProtocolError):
        encode([command])


def test_the_bytes_of_unknown_meaning_are_101_to_120_and_122_to_127() -> None:
    unknown = [b for b in range(256) if m.BY_BYTE[b].kind is Kind.UNKNOWN]
    assert unknown == [*range(101, 121), *range(122, 128)]
    for row in m.COMMANDS:
        assert (row.effect is Effect.ENERGISE) == (row.first < 0x80)  # the unknown counts as worst


@pytest.mark.parametrize(
    ("high", "delay", "wire"),
    [
        (Kind.RECHARGE_HIGH, Delay(120, 4), "9e9eb0b0"),  # 120 ms, seen from the client
        (Kind.TTL_HIGH, Delay(100, 4), "d9d9f0f0"),  # 100 ms out, seen from the client
        (Kind.RECHARGE_HIGH, Delay(127, 7), "9f9fbfbf"),
        (Kind.TTL_HIGH, Delay(1, 0), "c0c0e1e1"),
    ],
)
def test_a_delay_is_seven_bits_of_steps_over_two_bytes(high: Kind, delay: Delay, wire: str) -> None:
    assert encode(m.delay_commands(high, delay)).hex() == wire


def test_the_steps_are_those_of_the_reference() -> None:
    assert m.STEP_US == (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
    assert (m.STEPS_MAX, m.DELAY_MIN_US, m.DELAY_MAX_US) == (127, 50, 600_000)


@pytest.mark.parametrize(
    ("us", "delay"),
    [
        (50, Delay(1, 0)),
        (6_350, Delay(127, 0)),
        (6_400, Delay(64, 1)),
        (120_000, Delay(120, 4)),
        (100_000, Delay(100, 4)),
        (600_000, Delay(120, 6)),
    ],
)
def test_a_time_is_said_in_the_finest_step_that_reaches_it(us: int, delay: Delay) -> None:
    assert m.delay_of(us) == delay
    assert delay.us == us


@pytest.mark.parametrize("us", [0, 49, 51, 6_450, 599_999, 600_001, 610_000])
def test_a_time_that_no_step_reaches_is_refused(us: int) -> None:
    with pytest.raises(LocalProtocolError):
        m.delay_of(us)


# -- status ------------------------------------------------------------------------------------

BODY = bytes.fromhex("3b 28 50 46 3c 03 20 03 05 64 78 44 00 00 02")
STATUS = Status(
    ttl_demand=1, change_pct=-5, mso_pct=40, coil_adc=0x50, resistor_adc=0x46, discharge_adc=0x3C,
    omitted=3, power_hot=0, coil_absent=1, hold_error=0, recharge_error=0, fan_seized=0,
    coil_hot=0, resistor_hot=0, discharge_hot=0, coil_data_ok=1, receiving_usb=1, idle=1,
    charged=1, ttl_steps=100, recharge_steps=120, recharge_step=4, ttl_step=4, coil_type=2,
)  # fmt: skip


def test_a_whole_record_reads_and_writes_as_written_out_by_hand() -> None:
    assert m.status_of(BODY) == STATUS
    assert record(STATUS, 15) == b"\xff" + BODY
    assert STATUS.ttl_delay.us == 100_000
    assert STATUS.recharge_delay.us == 120_000
    assert STATUS.faults == ("coil_absent",)


BITS = [
    ("ttl_demand", 1, 0x20), ("power_hot", 7, 0x40), ("coil_absent", 7, 0x20),
    ("hold_error", 7, 0x10), ("recharge_error", 7, 0x08), ("fan_seized", 8, 0x40),
    ("coil_hot", 8, 0x10), ("resistor_hot", 8, 0x08), ("discharge_hot", 8, 0x04),
    ("coil_data_ok", 8, 0x02), ("receiving_usb", 8, 0x01), ("idle", 9, 0x04), ("charged", 9, 0x01),
]  # fmt: skip
VALUES = [
    ("change_pct", 1, 0x0F, 15), ("change_pct", 1, 0x10, -16), ("change_pct", 1, 0x1F, -1),
    ("mso_pct", 2, 100, 100), ("coil_adc", 3, 0xFE, 254), ("resistor_adc", 4, 1, 1),
    ("discharge_adc", 5, 2, 2), ("omitted", 6, 127, 127), ("ttl_steps", 10, 127, 127),
    ("recharge_steps", 11, 127, 127), ("recharge_step", 12, 0x70, 7), ("ttl_step", 12, 7, 7),
    ("coil_type", 15, 7, 7),
]  # fmt: skip


@pytest.mark.parametrize(("name", "byte", "raw", "value"), [*((*row, 1) for row in BITS), *VALUES])
def test_each_value_is_in_its_place_and_touches_no_other(
    name: str, byte: int, raw: int, value: int
) -> None:
    body = bytearray(15)
    body[byte - 1] = raw
    expected = QUIET._replace(coil_type=0)._replace(**{name: value})
    assert m.status_of(bytes(body)) == expected
    assert record(expected, 15) == b"\xff" + body


def test_every_flag_that_warns_is_among_the_faults_and_no_other() -> None:
    flags = {name for name, _, _ in BITS}
    assert set(m.FLAGS) == flags
    assert flags - set(m.FAULT_FLAGS) == {
        "ttl_demand", "coil_data_ok", "receiving_usb", "idle", "charged"
    }  # fmt: skip
    assert QUIET.faults == ()


@pytest.mark.parametrize(("size", "coil"), [(12, None), (13, None), (14, None), (15, 2), (31, 2)])
def test_an_older_record_lacks_the_coil(size: int, coil: int | None) -> None:
    assert m.status_of(BODY.ljust(31, b"\0")[:size]).coil_type == coil


@pytest.mark.parametrize("body", [b"", BODY[:11], BODY.ljust(32, b"\0")])
def test_a_record_of_another_length_is_none(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        m.status_of(body)


def test_an_intensity_above_100_is_no_status() -> None:
    good, bad = bytearray(BODY), bytearray(BODY)
    good[1], bad[1] = 100, 101
    assert m.status_of(bytes(good)).mso_pct == 100
    with pytest.raises(RemoteProtocolError):
        m.status_of(bytes(bad))


def test_the_device_never_says_a_sync_inside_a_record() -> None:
    loud = STATUS._replace(coil_adc=255, omitted=255)
    assert record(loud, 15).count(b"\xff") == 1
    assert m.status_of(record(loud, 15)[1:]).coil_adc == 254


def test_the_coils_are_in_the_order_of_the_manual() -> None:
    assert [coil.name for coil in sorted(m.Coil)] == [
        "C70BF", "C70BF_COOL", "C120BFV", "C100R", "C125R", "C50BF", "C50BFT",
    ]  # fmt: skip
    assert sorted(m.Coil) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (m.FIRE, "Fire"),
        (Command(Kind.INTENSITY, 40), "Intensity mso_pct=40"),
        (Command(Kind.RECHARGE_HIGH, 30), "RechargeHigh steps_upper=30"),
        (Command(Kind.TTL_LOW, 19), "TtlLow step_us=1000 steps_lower=3"),
        (Command(Kind.UNKNOWN, 101), "Unknown value=101"),
        (QUIET, "Status change_pct=0 mso_pct=0 coil_adc=0 resistor_adc=0 discharge_adc=0 omitted=0"
         " ttl_steps=0 recharge_steps=0 recharge_step=0 ttl_step=0 flags=none"),
        (STATUS, "Status change_pct=-5 mso_pct=40 coil_adc=80 resistor_adc=70 discharge_adc=60"
         " omitted=3 ttl_steps=100 recharge_steps=120 recharge_step=4 ttl_step=4 coil_type=2"
         " flags=ttl_demand,coil_absent,coil_data_ok,receiving_usb,idle,charged"),
    ],
)  # fmt: skip
def test_a_trace_has_one_line_a_message(message: Command | Status, line: str) -> None:
    assert m.describe(message) == line
