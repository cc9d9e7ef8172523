"""Every MagPro message at the boundaries of its fields, and the tables that it is made of."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from firmware_protocol.errors import LocalProtocolError, RemoteProtocolError
from firmware_protocol.magpro import messages as m
from firmware_protocol.magpro import names as n
from firmware_protocol.magpro.coding import decode, describe, encode
from firmware_protocol.magpro.framing import crc8, frame, frame_of
from firmware_protocol.magpro.layout import Row, fits, row_of
from firmware_protocol.table import Direction, Effect
from sim_device import magpro_wire

FIELDS = [(row, field.name) for row in m.TABLE for field in row.fields]

# What clients send to real units, and what these answer; wire-level figures of the clients named
# in names.py, seen with them on a pseudo-terminal.
SEEN: list[tuple[str, Any]] = [
    ("fe 01 00 00 ff", m.GetShortStatus()),
    ("fe 01 05 3f ff", m.GetLongStatus()),
    ("fe 02 02 01 cf ff", m.Enable()),
    ("fe 02 01 32 c6 ff", m.SetAmplitude(50)),
    ("fe 03 01 32 00 17 ff", m.SetAmplitude(50, 0)),
    ("fe 02 03 01 0b ff", m.Fire(1)),
    ("fe 01 04 61 ff", m.Start()),
    ("fe 09 06 00 64 00 05 00 03 00 0a 67 ff", m.SetTrain(100, 5, 3, 10)),
]


def name(value: Any) -> str:
    return value.name if isinstance(value, Row) else str(value)


def lowest(row: Row, **changes: int) -> Any:
    """The longest form, whose other fields hold the least that is allowed."""
    values = {f.name: (f.wire.among or (f.wire.low,))[0] for f in row.fields}
    return row.make(**(values | changes))


@pytest.mark.parametrize(("text", "message"), SEEN, ids=name)
def test_what_clients_send_comes_out_byte_for_byte(text: str, message: Any) -> None:
    assert frame_of(message) == bytes.fromhex(text)
    assert decode(frame_of(message)[2:-2], Direction.TO_DEVICE) == message


def test_the_checksum_is_that_of_dallas_on_both_sides() -> None:
    assert crc8(b"123456789") == magpro_wire.checksum(b"123456789") == 0xA1
    assert all(crc8(bytes((a, b))) == magpro_wire.checksum(bytes((a, b)))
               for a in range(256) for b in (0, 1, 0x8C, 0xFE, 0xFF))  # fmt: skip


@pytest.mark.parametrize(("row", "field"), FIELDS, ids=name)
def test_the_least_and_the_greatest_value_of_every_field_survive(row: Row, field: str) -> None:
    wire = next(f.wire for f in row.fields if f.name == field)
    for value in wire.among or (wire.low, wire.high):
        message = lowest(row, **{field: value})
        again = decode(encode(message), row.direction)
        assert (type(again), again) == (row.make, message)


@pytest.mark.parametrize(
    ("row", "field"), [(r, f) for r, f in FIELDS if r.direction is Direction.TO_HOST], ids=name
)
def test_the_unit_encodes_as_the_table_says_and_cuts_what_does_not_fit(
    row: Row, field: str
) -> None:
    wire = next(f.wire for f in row.fields if f.name == field)
    for edge, beyond in ((wire.low, wire.low - 1), (wire.high, wire.high + 1)):
        wanted = frame(encode(lowest(row, **{field: edge})))
        assert magpro_wire.encode(lowest(row, **{field: edge})) == wanted
        assert magpro_wire.encode(lowest(row, **{field: beyond})) == wanted


@pytest.mark.parametrize(("row", "field"), FIELDS, ids=name)
def test_one_past_the_range_of_any_field_is_not_sent(row: Row, field: str) -> None:
    wire = next(f.wire for f in row.fields if f.name == field)
    for value in (0, 5, 6, 8) if wire.among else (wire.low - 1, wire.high + 1):
        with pytest.raises(LocalProtocolError, match=f"{row.name}.{field} is {value}, allowed are"):
            encode(lowest(row, **{field: value}))


@pytest.mark.parametrize("row", m.TABLE, ids=name)
def test_another_size_than_the_known_ones_is_not_believed(row: Row) -> None:
    payload = encode(lowest(row))
    assert len(payload) == max(s for s in row.sizes if row.name != "GetWaveform" or s == 2)
    longer = payload + bytes(40 - len(payload))
    for size in range(len(row.prefix), 40):
        assert fits(row, size) == (size in row.sizes or (row.open_ended and size > 14))
        if not fits(row, size):
            with pytest.raises(RemoteProtocolError, match=row.name):
                decode(longer[:size], row.direction)


def test_a_value_out_of_range_is_not_believed_towards_the_device() -> None:
    with pytest.raises(RemoteProtocolError, match=r"SetAmplitude.a_pct is 101, allowed are 0..100"):
        decode(b"\x01\x65", Direction.TO_DEVICE)
    assert decode(b"\x01\x64", Direction.TO_DEVICE) == m.SetAmplitude(100)


def test_both_forms_that_clients_send_are_known() -> None:
    two = {row.name: row.sizes for row in m.TABLE if len(row.sizes) > 1}
    assert two == {
        "SetAmplitude": (2, 3),
        "Fire": (1, 2),
        "SetPage": (2, 3),
        "GetWaveform": (2, 11),
        "SetTiming": (12, 14),
    }
    assert decode(b"\x03", Direction.TO_DEVICE) == m.Fire()
    assert decode(b"\x03\x01", Direction.TO_DEVICE) == m.Fire(1)
    assert decode(b"\x09" + bytes(10), Direction.TO_DEVICE) == m.GetWaveform()
    assert decode(b"\x07\x02\x00", Direction.TO_DEVICE) == m.SetPage(2, 0)
    assert decode(b"\x07\x02", Direction.TO_DEVICE) == m.SetPage(2)


def test_a_field_in_front_of_one_that_is_given_cannot_be_left_out() -> None:
    with pytest.raises(LocalProtocolError, match="ramp_pct is missing"):
        encode(m.SetTiming(0, 10, 1, 1, 1, 0, None, 1))


def test_lengths_of_the_frames_of_the_unit_are_those_that_clients_expect() -> None:
    assert {row.code: row.sizes[0] for row in m.TABLE if row.direction is Direction.TO_HOST} == {
        0: 9, 1: 4, 2: 4, 3: 4, 4: 13, 5: 15, 6: 4, 7: 4, 8: 4, 9: 10, 10: 8, 11: 14, 12: 14,
    }  # fmt: skip


def test_the_interval_is_read_back_little_endian_and_all_else_big_endian() -> None:
    assert encode(m.WaveformStatus(3, 0, 0, 3, 2, 0x0104, 80))[7:9] == b"\x04\x01"
    assert encode(m.SetWaveform(3, 0, 0, 3, 2, 0x0104, 100))[7:9] == b"\x01\x04"
    assert encode(m.ShortStatus(0, 0x010203, 0, 0, 0, 0))[2:5] == b"\x01\x02\x03"
    assert encode(m.SetTrigger(0, -50, 0))[3:5] == b"\xff\xce"


def test_each_message_says_what_it_can_do_to_the_coil() -> None:
    effects = Counter(row.effect for row in m.TABLE if row.direction is Direction.TO_DEVICE)
    assert effects == {Effect.READ: 6, Effect.ENERGISE: 9, Effect.MAKE_SAFE: 1, Effect.SUSTAIN: 1}
    assert row_of(m.Disable).effect is Effect.MAKE_SAFE
    assert row_of(m.Enable).effect is row_of(m.Fire).effect is Effect.ENERGISE


def test_every_message_says_what_it_means() -> None:
    for row in m.TABLE:
        assert row.doc.endswith("."), row.name
        assert not row.doc.startswith(f"{row.name}("), row.name
        assert all(field.doc for field in row.fields), row.name


def test_an_id_that_is_not_in_the_table_is_kept_as_it_came() -> None:
    assert decode(b"\xf0\x01") == m.Unknown(b"\xf0\x01")
    assert describe(m.Unknown(b"\xf0\x01")) == "Unknown f0 01"


def test_every_status_byte_comes_back() -> None:
    assert [n.status_of(byte).byte() for byte in range(256)] == list(range(256))


def test_a_trace_line_says_what_the_numbers_mean() -> None:
    text = describe(m.ShortStatus(0x78, 1, 22, 60, 50, 0))
    assert text == (
        "ShortStatus st=enabled,STANDARD,HALF_SINE,X100_OPTION serial=1 coil_c=22 "
        "coil_type=60(Cool-B65) a_pct=50 b_pct=0"
    )
    assert describe(m.PageStatus(5, 1, 0xE0)) == (
        "PageStatus page=page5 running=1 st=disabled,STANDARD,MONOPHASIC,model7"
    )
    assert describe(m.SetAmplitude(50)) == "SetAmplitude a_pct=50"


# -- tables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "ipi_dms"),
    [(0, 1000), (1, 990), (80, 200), (81, 195), (100, 100), (101, 99), (195, 5)],
)
def test_intervals_of_a_burst_by_index(index: int, ipi_dms: int) -> None:
    assert n.IPI_OF_INDEX_BURST_DMS[index] == ipi_dms
    assert len(n.IPI_OF_INDEX_BURST_DMS) == 196


@pytest.mark.parametrize(
    ("index", "ipi_dms"),
    [
        (0, 30_000), (20, 10_000), (21, 9_500), (30, 5_000), (31, 4_900), (70, 1_000), (71, 990),
        (150, 200), (151, 195), (170, 100), (171, 99), (260, 10),
    ],
)  # fmt: skip
def test_intervals_of_a_pair_by_index(index: int, ipi_dms: int) -> None:
    assert n.IPI_OF_INDEX_PAIR_DMS[index] == ipi_dms
    assert len(n.IPI_OF_INDEX_PAIR_DMS) == 261


def test_ratios_by_index() -> None:
    assert [n.BA_OF_INDEX_TWIN_PCT[i] for i in (0, 80, 96)] == [500, 100, 20]
    assert [n.B_OF_INDEX_DUAL_PCT[i] for i in (0, 100)] == [100, 0]
    assert (len(n.BA_OF_INDEX_TWIN_PCT), len(n.B_OF_INDEX_DUAL_PCT)) == (97, 101)


S, T, D = n.Mode.STANDARD, n.Mode.TWIN, n.Mode.DUAL
MONO, BI, HALF, BURST = n.Waveform


@pytest.mark.parametrize(
    ("model", "mode", "waveform", "rate_dhz"),
    [
        (n.Model.R30, S, BI, 300),
        (n.Model.R30_OPTION, S, MONO, 300),
        (n.Model.R30_OPTION, T, BI, 50),
        (n.Model.R30_OPTION_MONO, D, BI, 50),
        (n.Model.X100, S, BI, 1_000),
        (n.Model.X100, S, BURST, 200),
        (n.Model.X100_OPTION, S, HALF, 1_000),
        (n.Model.X100_OPTION, D, BI, 500),
        (n.Model.X100_OPTION, T, HALF, 500),
        (n.Model.X100_OPTION, T, BURST, 200),
        (n.Model.X100_OPTION, T, MONO, 50),  # the lower of two that are published
    ],
)
def test_rate_ceilings(model: n.Model, mode: n.Mode, waveform: n.Waveform, rate_dhz: int) -> None:
    assert n.rate_max_dhz(model, mode, waveform) == rate_dhz
    assert rate_dhz in n.RATES_DHZ


def test_what_each_model_can_do() -> None:
    counts = {
        model: (len(able.modes), len(able.waveforms), len(able.directions))
        for model, able in n.ABILITIES.items()
    }
    assert counts == {
        n.Model.R30: (1, 1, 1),
        n.Model.X100: (1, 3, 2),
        n.Model.R30_OPTION: (3, 2, 1),
        n.Model.X100_OPTION: (4, 4, 2),
        n.Model.R30_OPTION_MONO: (3, 2, 1),
    }
    assert n.Waveform.HALF_SINE not in n.ABILITIES[n.Model.X100].waveforms


def test_steps_of_the_screen() -> None:
    assert (n.RATES_DHZ[0], n.RATES_DHZ[8:11], n.RATES_DHZ[-1]) == (1, (9, 10, 20), 1_000)
    assert (n.PULSES_IN_TRAIN[999:1_002], n.PULSES_IN_TRAIN[-1]) == ((1_000, 1_100, 1_200), 2_000)
    assert (n.DELAY_IN_DMS[0], n.DELAY_IN_DMS[100:103], n.DELAY_IN_DMS[-1]) == (
        0, (100, 110, 120), 65_000,
    )  # fmt: skip
    assert (n.DELAY_OUT_DMS[0], n.DELAY_OUT_DMS[90:92], n.DELAY_OUT_DMS[-1]) == (
        -1_000, (-100, -99), 1_000,
    )  # fmt: skip
    assert (n.CHARGE_DELAY_MS[:2], n.CHARGE_DELAY_MS[10:12], n.CHARGE_DELAY_MS[-1]) == (
        (0, 10), (100, 125), 12_000,
    )  # fmt: skip
    assert n.SETTABLE_PAGES == (1, 2, 3, 4, 7)
    assert n.PULSES_OF_INDEX == (5, 4, 3, 2)


def test_a_payload_of_no_or_too_many_bytes_is_not_framed() -> None:
    assert len(frame(bytes(32))) == 36
    for payload in (b"", bytes(33)):
        with pytest.raises(LocalProtocolError):
            frame(payload)
