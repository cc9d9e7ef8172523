"""Every message of tmslink at the boundaries of its fields, and the table as others read it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from firmware_protocol import table
from firmware_protocol.errors import LocalProtocolError, RemoteProtocolError
from firmware_protocol.table import Direction, Effect, Spec
from firmware_protocol.tmslink import messages as m

SPECS = m.TABLE.specs
WIDTHS = {
    "B": (0, 2**8 - 1),
    "H": (0, 2**16 - 1),
    "I": (0, 2**32 - 1),
    "Q": (0, 2**64 - 1),
    "h": (-(2**15), 2**15 - 1),
}
NUMBERS = [
    (spec, place)
    for spec in SPECS
    for place, field in enumerate(spec.fields)
    if not field.wire.is_text
]
NARROWED = [
    (spec, place)
    for spec, place in NUMBERS
    if spec.fields[place].wire[1:] != WIDTHS[spec.fields[place].wire.code]
]


def name(value: Any) -> str:
    return value.name if isinstance(value, Spec) else str(value)


def with_value(spec: Spec, place: int, value: object) -> Any:
    """A message whose other fields hold the least that is allowed."""
    values: list[object] = ["" if f.wire.is_text else f.wire.low for f in spec.fields]
    values[place] = value
    return spec.make(*values)


def raw(spec: Spec, place: int, value: int) -> bytes:
    """The payload with a value that the encoder would refuse."""
    values: list[object] = [b"" if f.wire.is_text else f.wire.low for f in spec.fields]
    values[place] = value
    return spec.layout.pack(*values)


@pytest.mark.parametrize(("spec", "place"), NUMBERS, ids=name)
def test_the_least_and_the_greatest_value_of_every_field_survive(spec: Spec, place: int) -> None:
    wire = spec.fields[place].wire
    for value in (wire.low, wire.low + 1, wire.high - 1, wire.high):
        message = with_value(spec, place, value)
        assert m.TABLE.unpack(spec.code, table.pack(message)) == message


@pytest.mark.parametrize(("spec", "place"), NUMBERS, ids=name)
def test_one_past_the_range_of_any_field_is_not_sent(spec: Spec, place: int) -> None:
    wire = spec.fields[place].wire
    for value in (wire.low - 1, wire.high + 1):
        with pytest.raises(LocalProtocolError, match=spec.name):
            table.pack(with_value(spec, place, value))


@pytest.mark.parametrize(("spec", "place"), NARROWED, ids=name)
def test_one_past_a_narrowed_range_is_not_believed(spec: Spec, place: int) -> None:
    field = spec.fields[place]
    with pytest.raises(
        RemoteProtocolError, match=f"{spec.name}.{field.name} is {field.wire.high + 1}"
    ):
        m.TABLE.unpack(spec.code, raw(spec, place, field.wire.high + 1))


def test_these_fields_are_narrowed_and_no_others() -> None:
    ranges = {f"{s.name}.{s.fields[p].name}": s.fields[p].wire[1:] for s, p in NARROWED}
    assert ranges == {
        "Tighten.mso_max_pct": (0, 100),
        "Arm.mso_pct": (0, 100),
        "Train.mso_pct": (0, 100),
        "Fire.mso_pct": (0, 100),
        "Limits.mso_max_pct": (0, 100),
        "Ack.result": (0, 12),
        "Status.state": (0, 4),
        "Status.cause": (0, 11),
        "Status.mso_pct": (0, 100),
        "LeaseEnd.cause": (0, 11),
        "Fault.cause": (0, 11),
        "Identity.device_time_us": (0, 1 << 62),
        "Status.device_time_us": (0, 1 << 62),
        "Pulse.device_time_us": (0, 1 << 62),
        "LeaseEnd.device_time_us": (0, 1 << 62),
        "Fault.device_time_us": (0, 1 << 62),
    }


@pytest.mark.parametrize("serial", ["", "A", "TR000001"])
def test_a_text_survives_up_to_its_size(serial: str) -> None:
    message = m.Identity(1, 2, 3, serial, "reference", 4, 5, 6)
    assert m.TABLE.unpack(0x41, table.pack(message)) == message


def test_bytes_that_are_no_text_are_read_without_an_error() -> None:
    payload = bytearray(table.pack(m.Identity(1, 2, 3, "TR000001", "m", 4, 5, 6)))
    payload[14:22] = b"\xff\xfe\x00\x00\xc3\x28\x80\x00"
    assert isinstance(m.TABLE.unpack(0x41, bytes(payload)), m.Identity)


@pytest.mark.parametrize("value", [1.5, "1", None, b"1"])
def test_a_value_that_is_no_whole_number_is_not_sent(value: object) -> None:
    with pytest.raises((LocalProtocolError, TypeError)):
        table.pack(with_value(table.spec_of(m.Beat), 0, value))
    with pytest.raises((LocalProtocolError, TypeError)):
        table.pack(with_value(table.spec_of(m.Arm), 0, value))


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_a_payload_of_any_other_size_is_refused(spec: Spec) -> None:
    payload = bytes(spec.layout.size)
    m.TABLE.unpack(spec.code, payload)
    for wrong in (payload + b"\0", payload[:-1]):
        if len(wrong) != len(payload):
            with pytest.raises(RemoteProtocolError, match=f"expected {len(payload)}"):
                m.TABLE.unpack(spec.code, wrong)


def test_every_code_that_the_table_does_not_have_is_refused() -> None:
    known = {spec.code for spec in SPECS}
    assert known == {*range(0x01, 0x09), *range(0x41, 0x48)}
    for code in set(range(256)) - known:
        with pytest.raises(RemoteProtocolError, match=f"0x{code:02x}"):
            m.TABLE.unpack(code, b"")


def test_the_layout_is_little_endian_and_packed() -> None:
    train = m.Train(1, 2, 3, 4, 5, 6, 7, 8)
    assert table.pack(train).hex(" ") == (
        "01 00 00 00 02 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00 "
        "04 00 05 00 00 00 06 07 00 00 00 08"
    )


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_describe_gives_one_line_with_every_field(spec: Spec) -> None:
    line = table.describe(m.TABLE.unpack(spec.code, bytes(spec.layout.size)))
    assert line.splitlines() == [line]
    assert line.split(" ")[0] == spec.name
    assert [cell.partition("=")[0] for cell in line.split()[1:]] == [f.name for f in spec.fields]


def test_describe_keeps_to_one_line_whatever_the_device_calls_itself() -> None:
    line = table.describe(m.Identity(1, 2, 3, "a\nb\x1b[2J", "m", 4, 5, 6))
    assert line.isprintable()


def test_the_messages_that_energise_are_these_and_no_others() -> None:
    assert [s.make for s in SPECS if s.effect is Effect.ENERGISE] == [m.Arm, m.Train, m.Fire]


def test_only_the_beat_keeps_the_device_armed() -> None:
    assert [s.make for s in SPECS if s.effect is Effect.SUSTAIN] == [m.Beat]


def test_no_message_of_the_device_has_an_effect_on_it() -> None:
    assert {s.effect for s in SPECS if s.direction is Direction.TO_HOST} == {Effect.READ}


def test_directions_follow_the_codes() -> None:
    assert all((s.direction is Direction.TO_HOST) == bool(s.code & 0x40) for s in SPECS)


def test_no_payload_is_longer_than_a_frame_can_carry() -> None:
    assert max(s.layout.size for s in SPECS) <= m.PAYLOAD_SIZE_MAX
    assert (m.BODY_SIZE_MAX, m.FRAME_SIZE_MAX) == (61, 64)


def test_the_codes_with_an_unseeded_checksum_are_hello_stop_and_identity() -> None:
    assert {m.TABLE.by_code[code].make for code in m.PLAIN_SEED} == {m.Hello, m.Stop, m.Identity}


def test_the_constants_of_the_protocol_are_pinned() -> None:
    assert (m.PROTOCOL_VERSION, m.DELIMITER, m.HEADER) == (1, b"\0", "<BII")
    assert (m.STOP_RUN, m.STOP_BYTES) == (8, b"\x18" * 32)
    assert (m.DEAD_MAN_US, m.ECHO_AGE_MAX_US) == (50_000, 40_000)
    assert (m.BEAT_PERIOD_US, m.STATUS_PERIOD_US) == (10_000, 20_000)
    assert (m.LEAD_MIN_US, m.ARMED_IDLE_US) == (30_000, 60_000_000)


def test_a_stop_burst_survives_any_three_spoilt_bytes_but_not_any_four() -> None:
    def still_stops(spoilt: tuple[int, ...]) -> bool:
        burst = bytearray(m.STOP_BYTES)
        for place in spoilt:
            burst[place] = 0
        return bytes([m.STOP_BYTE]) * m.STOP_RUN in bytes(burst)

    assert all(map(still_stops, itertools.combinations(range(32), 3)))
    assert not still_stops((6, 13, 20, 27))
