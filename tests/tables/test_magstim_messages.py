"""The table of Magstim's commands, its bytes, and the arithmetic of a Rapid²."""

from __future__ import annotations

import pytest

from firmware_protocol.errors import LocalProtocolError
from firmware_protocol.magstim import energy, rates
from firmware_protocol.magstim import messages as m
from firmware_protocol.magstim.framing import Decoder, checksum, encode
from firmware_protocol.table import Effect

M200, BISTIM = m.Dialect(m.Model.M200), m.Dialect(m.Model.BISTIM)
RAPIDS = {firmware: m.Dialect(m.Model.RAPID, firmware) for firmware in (5, 7, 9, 10)}
DIALECTS = (M200, BISTIM, *RAPIDS.values())
CODE = "0123-456789ab-cd"


# -- bytes that were seen or worked out by others ----------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "name", "values", "wire"),
    [
        (M200, "enable_remote", (), "51406e"),
        (M200, "disable_remote", (), "52406d"),
        (M200, "get_parameters", (), "4a4075"),
        (M200, "get_temperature", (), "464079"),
        (M200, "set_power", (50,), "403035302a"),
        (M200, "arm", (), "454278"),
        (M200, "disarm", (), "454179"),
        (M200, "fire", (), "454872"),
        (BISTIM, "set_power_b", (50,), "4130353029"),
        (BISTIM, "set_interval", (10,), "433031302b"),
        (BISTIM, "high_resolution", (), "594066"),
        (BISTIM, "low_resolution", (), "5a4065"),
        (BISTIM, "get_mode", (), "584067"),
        (RAPIDS[9], "unlock", (CODE,), "51303132332d34353637383961622d6364bd"),
        (RAPIDS[9], "get_version", (), "4e446d"),
        (RAPIDS[9], "get_error", (), "494076"),
        (RAPIDS[9], "get_rapid_parameters", (), "5c4063"),
        (RAPIDS[9], "set_frequency", (100,), "4230313030fc"),
        (RAPIDS[7], "set_pulses", (20,), "4430303230f9"),
        (RAPIDS[9], "set_pulses", (20,), "443030303230c9"),
        (RAPIDS[7], "set_duration", (10,), "5b30313013"),
        (RAPIDS[9], "set_duration", (10,), "5b30303130e3"),
        (RAPIDS[9], "ignore_coil_switch", (), "62405d"),
        (RAPIDS[9], "enhanced_power_on", (), "5e4061"),
        (RAPIDS[9], "enhanced_power_off", (), "5f4060"),
        (RAPIDS[9], "get_system_status", (), "784047"),
        (RAPIDS[10], "set_charge_delay", (500,), "6e30303530309c"),
        (RAPIDS[10], "get_charge_delay", (), "6f4050"),
    ],
)
def test_a_command_has_the_bytes_that_others_send(
    dialect: m.Dialect, name: str, values: tuple[m.Value, ...], wire: str
) -> None:
    assert encode(dialect.row(name), *values).hex() == wire


@pytest.mark.parametrize(
    ("dialect", "name", "wire", "shown"),
    [
        (BISTIM, "get_parameters", "4a8930333030333030313075",
         "get_parameters: done status=89(standby+coil_present+remote) power=30 power_b=30 "
         "interval=10"),
        (BISTIM, "get_mode", "5809346a",
         "get_mode: done status=09(standby+coil_present) mode='4'"),
        (M200, "enable_remote", "518a24",
         "enable_remote: done status=8A(armed+coil_present+remote)"),
        (M200, "enable_remote", "518c22",
         "enable_remote: done status=8C(ready+coil_present+remote)"),
        (M200, "fire", "455367", "fire: not in this state"),
        (M200, "fire", "453f7b", "fire: data not accepted"),
        (M200, "fire", "3f", "fire: no such command"),
        (RAPIDS[9], "get_version", "4e56392e3000c4", "get_version: done version='9.0'"),
        (RAPIDS[9], "set_frequency", "428970c4",
         "set_frequency: done status=89(standby+coil_present+remote) "
         "rapid_status=70(hv_psu+coil_ready+theta_psu)"),
        (RAPIDS[9], "get_system_status", "788c70000586",
         "get_system_status: done status=8C(ready+coil_present+remote) "
         "rapid_status=70(hv_psu+coil_ready+theta_psu) extended=0005(plus1+charge_delay)"),
    ],
)  # fmt: skip
def test_a_reply_reads_as_what_the_unit_meant(
    dialect: m.Dialect, name: str, wire: str, shown: str
) -> None:
    decoder = Decoder()
    decoder.expect(dialect.row(name))
    reply = decoder.feed(bytes.fromhex(wire))
    assert reply is not None
    assert m.describe_reply(reply) == shown
    assert decoder.garbage == 0


def test_lengths_follow_from_the_letter_and_the_firmware() -> None:
    def sizes(firmware: int) -> dict[str, tuple[int, int | None]]:
        rows = RAPIDS[firmware].rows
        return {row.letter: (row.command_size, row.reply_size) for row in rows}

    common = {
        "Q": (3, 3), "R": (3, 3), "E": (3, 3), "F": (3, 9), "@": (5, 3), "N": (3, None),
        "I": (3, 6), "\\": (3, 21), "B": (6, 4), "D": (6, 4), "[": (5, 4), "b": (3, 3),
        "^": (3, 4), "_": (3, 4),
    }  # fmt: skip
    nine = common | {
        "Q": (18, 3), "\\": (3, 24), "D": (7, 4), "[": (6, 4), "x": (3, 6), "n": (6, 4),
        "o": (3, 7),
    }  # fmt: skip
    assert sizes(5) == common
    assert sizes(7) == common | {"\\": (3, 22)}
    assert sizes(9) == nine
    assert sizes(10) == nine | {"n": (7, 6), "o": (3, 8)}
    assert {row.letter for row in M200.rows} == set("QREF@J")
    assert {row.letter for row in BISTIM.rows} == set("QREF@JACYZX")


def test_a_200_knows_the_letters_of_a_bistim_but_offers_none_of_them() -> None:
    assert set(map(chr, M200.by_letter)) == set("QREF@JACYZX")
    with pytest.raises(LocalProtocolError, match="no command 'set_interval'"):
        M200.row("set_interval")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_command_takes_its_range_to_the_end_and_no_further(dialect: m.Dialect) -> None:
    for row in dialect.rows:
        digits = [field for field in row.data if field.form is m.Form.DIGITS]
        for field in digits:
            for value in (field.low, field.high):
                assert len(encode(row, value)) == row.command_size
            for value in (field.low - 1, field.high + 1):
                with pytest.raises(LocalProtocolError, match=f"{field.name} is {value}"):
                    encode(row, value)


def test_the_ranges_are_those_of_the_sources() -> None:
    def span(dialect: m.Dialect, name: str) -> tuple[int, int]:
        field = dialect.row(name).data[0]
        return field.low, field.high

    assert span(M200, "set_power") == span(BISTIM, "set_power_b") == (0, 100)
    assert span(RAPIDS[9], "set_power") == (0, 110)
    assert span(BISTIM, "set_interval") == (0, 999)
    assert span(RAPIDS[7], "set_pulses") == (1, 1000)
    assert span(RAPIDS[9], "set_pulses") == (1, 6000)
    assert span(RAPIDS[7], "set_duration") == (0, 100)
    assert span(RAPIDS[9], "set_duration") == (0, 9999)
    assert span(RAPIDS[9], "set_charge_delay") == (0, 2000)
    assert span(RAPIDS[10], "set_charge_delay") == (0, 10000)
    assert span(RAPIDS[9], "set_frequency") == (0, 1000)


def test_a_wrong_number_or_kind_of_values_is_our_own_mistake() -> None:
    power, unlock = M200.row("set_power"), RAPIDS[9].row("unlock")
    for row, values in ((power, ()), (power, (1, 2)), (power, ("50",)), (unlock, ("short",)),
                        (unlock, (5,)), (M200.row("arm"), (1,))):  # fmt: skip
        with pytest.raises(LocalProtocolError):
            encode(row, *values)


def test_a_trace_shows_values_and_never_the_unlock_code() -> None:
    row = M200.row("set_power")
    assert m.describe_command(row, m.values_of(row, [50])) == "set_power power=50"
    unlock = RAPIDS[9].row("unlock")
    assert m.describe_command(unlock, m.values_of(unlock, [CODE])) == "unlock code=..."
    assert m.describe_command(M200.row("arm"), {}) == "arm"


def test_every_row_says_what_it_means_and_where_it_is_from() -> None:
    for row in m.TABLE:
        assert row.doc.endswith("."), row.name
        assert row.source, row.name
    for dialect in DIALECTS:
        assert len(dialect.by_name) == len(dialect.rows)


def test_what_makes_safe_needs_no_remote_control_and_what_energises_does() -> None:
    for row in m.TABLE:
        if row.effect is Effect.MAKE_SAFE:
            assert row.remote is m.Remote.NO, row.name
        if row.effect is Effect.ENERGISE:
            assert row.remote is m.Remote.YES, row.name
    assert {row.name for row in m.TABLE if row.effect is Effect.MAKE_SAFE} == {
        "disarm", "disable_remote",
    }  # fmt: skip


def test_constants_are_those_of_the_sources() -> None:
    assert (m.BAUD, m.KEEP_ALIVE_US, m.ARMED_IDLE_US) == (9600, 1_000_000, 60_000_000)
    assert (m.ARMING_US, m.TRAIN_REST_US, m.MODE_AFTER_REMOTE_US) == (1_000_000, 500_000, 100_000)
    assert m.COIL_MAX_DC == 400
    assert [flag.value for flag in m.Status] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert [flag.value for flag in m.RapidStatus] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert set("QRF\\") == m.ALIVE_WITHOUT_REMOTE


def test_a_checksum_above_127_stays_one_byte() -> None:
    assert checksum(b"@050") == 0x2A
    assert checksum(b"\x01") == 0xFE
    assert checksum(bytes(range(256)) * 2) == 0xFF


# -- the energy of trains ----------------------------------------------------------------------

# J at 0 to 100 %, as the sources write it.
JOULES = """
0 0 .1 .2 .4 .6 .9 1.2 1.6 2 2.5 3 3.6 4.3 4.9 5.7 6.4 7.3 8.2 9.1 10.1 11.1 12.2 13.3 14.5 15.7 17
18.4 19.7 21.2 22.7 24.2 25.8 27.4 29.1 30.8 32.6 34.5 36.4 38.3 40.3 42.3 44.4 46.6 48.8 51 53.3
55.6 58 60.5 63 65.5 68.1 70.7 73.4 76.2 79 81.8 84.7 87.7 90.7 93.7 96.8 100 103.2 106.4 109.7 113
116.4 119.9 123.4 126.9 130.5 134.2 137.9 141.7 145.5 149.3 153.2 157.2 161.2 165.2 169.3 173.5
177.7 181.9 186.3 190.6 195 199.5 204 208.5 213.1 217.8 222.5 227.3 232.1 236.9 241.9 246.8 252
"""


def test_every_energy_is_pinned() -> None:
    wanted = [round(float(joules) * 10) for joules in JOULES.split()]
    assert [energy.energy_dj(pct) for pct in range(101)] == wanted
    assert (energy.energy_dj(101), energy.energy_dj(110)) == (2_574, 3_053)
    assert (energy.REST_MIN_US, energy.PULSES_MAX) == (500_000, 6_000)


def test_the_energy_of_a_pulse_is_that_of_the_table_and_safer_above_it() -> None:
    assert [energy.energy_dj(pct) for pct in (0, 1, 2, 50, 73, 100)] == [0, 0, 1, 630, 1342, 2520]
    for pct in range(101):
        law_dj = 2520 * pct * pct / 10_000
        assert abs(energy.energy_dj(pct) - law_dj) <= 2.1
    for pct in range(101, 111):
        assert energy.energy_dj(pct) > 2520 * pct * pct / 10_000 + 2.1
        assert energy.energy_dj(pct) > energy.energy_dj(pct - 1)


def test_waits_and_on_times_are_those_that_others_work_out() -> None:
    assert energy.wait_min_us(73, 250, 250) == 21_952_381  # 73 %, 25 Hz, 250 pulses: 21.95 s
    assert energy.on_time_max_us(73, 250) == 18_777_943  # 18.78 s
    assert energy.wait_min_us(20, 10, 6_000) == 500_000  # half a second at least
    assert energy.wait_min_us(50, 10, 1_000_000) == 500_000


def test_a_train_is_continuous_exactly_up_to_the_power_that_the_unit_gives() -> None:
    for pct in (30, 50, 73, 100):
        highest = energy.continuous_max_dhz(pct)
        assert highest is not None
        assert energy.on_time_max_us(pct, highest) is None
        assert energy.on_time_max_us(pct, highest + 1) is not None
        assert highest * energy.energy_dj(pct) <= 105_000 < (highest + 1) * energy.energy_dj(pct)
    assert energy.continuous_max_dhz(0) is None
    assert energy.on_time_max_us(0, 1000) is None


# -- highest frequencies -----------------------------------------------------------------------

# Power in %, a single one or a range, and the highest frequency in Hz, as the sources write it.
PUBLISHED = {
    (240, 0): "0-30:50 31:46 32:45 33:44 34:42 35-36:41 37-38:39 39:38 40:37 41:36 42:34 43-47:33 "
    "48:32 49:31 50-51:30 52-53:29 54-55:28 56-57:27 58-59:26 60-61:25 62-63:24 64-65:23 66-67:22 "
    "68-69:21 70-73:20 74-78:19 79-84:18 85-91:17 92-97:16 98-100:15",
    (240, 1): "0-30:100 31:98 32:95 33:93 34:90 35:88 36:85 37:83 38:80 39:78 40:75 41:73 42:70 "
    "43:68 44:65 45:63 46:60 47:58 48:55 49:53 50-51:50 52-53:49 54-55:48 56-57:47 58-59:46 "
    "60-61:45 62-63:44 64-65:43 66-67:42 68-69:41 70-71:40 72-73:39 74-75:38 76-77:37 78-79:36 "
    "80-81:35 82-83:34 84-85:33 86-87:32 88-89:31 90-91:30 92-93:29 94-95:28 96-97:27 98-99:26 "
    "100:25",
    (240, 2): "0-48:100 49:98 50:97 51:95 52:93 53:91 54-55:88 56:87 57:85 58:84 59:82 60:80 61:79 "
    "62:77 63-66:74 67:71 68:70 69:69 70-71:68 72:66 73:65 74-76:62 77:60 78:59 79:58 80-81:57 "
    "82:56 83-84:55 85:53 86:52 87:51 88-89:50 90:49 91:48 92:47 93-94:46 95:45 96:44 97:43 "
    "98-99:42 100:41",
    (115, 0): "0-30:36 31-32:35 33:34 34:33 35-36:32 37:31 38:30 39:29 40-41:28 42:27 43-44:26 "
    "45-46:25 47-48:24 49-50:23 51-52:22 53-55:21 56-57:20 58-60:19 61-64:18 65-67:17 68-72:16 "
    "73-76:15 77-81:14 82-86:13 87-94:12 95-100:11",
    (115, 1): "0-37:60 38:59 39:57 40:55 41:54 42:53 43:52 44:51 45:50 46:49 47:47 48:46 49:45 "
    "50:44 51:43 52-53:42 54:41 55-56:40 57:39 58-59:38 60:37 61-62:36 63-64:35 65-66:34 67-68:33 "
    "69-70:32 71-72:31 73-74:30 75-76:29 77-79:28 80-82:27 83-86:26 87-89:25 90-93:24 94-96:23 "
    "97-100:22",
    (115, 2): "0-49:60 50:58 51-52:56 53:54 54:53 55:52 56:51 57:50 58:49 59:48 60:47 61-62:46 "
    "63:45 64:44 65-66:43 67:42 68:41 69-70:40 71-72:39 73:38 74-75:37 76-77:36 78-79:35 80-81:34 "
    "82-84:33 85-86:32 87-88:31 89-91:30 92-93:29 94-96:28 97-99:27 100:25",
}


@pytest.mark.parametrize(("supply", "kind"), PUBLISHED)
def test_every_published_frequency_is_pinned(supply: int, kind: int) -> None:
    wanted: list[int] = []
    for word in PUBLISHED[supply, kind].split():
        span, hz = word.split(":")
        first, _, last = span.partition("-")
        wanted += [int(hz)] * (int(last or first) - int(first) + 1)
    table = [
        rates.published_max_hz(rates.Supply(supply), rates.Kind(kind), pct) for pct in range(101)
    ]
    assert table == wanted


V240 = rates.Supply.V240
SUPER = rates.Kind.SUPER


@pytest.mark.parametrize("kind", rates.Kind)
@pytest.mark.parametrize("supply", rates.Supply)
def test_a_table_covers_every_percent_and_never_rises(
    supply: rates.Supply, kind: rates.Kind
) -> None:
    table = [rates.frequency_max_dhz(supply, kind, pct) for pct in range(101)]
    assert table == sorted(table, reverse=True)
    assert table[0] <= rates.FREQUENCY_MAX_HZ[supply] * 10
    assert rates.frequency_max_dhz(supply, kind, 101) == 0
    if (supply, kind) != (V240, SUPER):
        assert table == [rates.published_max_hz(supply, kind, pct) * 10 for pct in range(101)]


def test_where_the_brochure_is_lower_it_holds() -> None:
    hz = {pct: rates.frequency_max_dhz(V240, SUPER, pct) for pct in (79, 80, 89, 90, 92)}
    assert hz == {79: 360, 80: 300, 89: 300, 90: 300, 92: 290}
