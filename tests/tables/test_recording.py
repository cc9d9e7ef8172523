"""The file of what passed on a line, and the words that are made of it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_protocol import recording, traces
from firmware_protocol.duomag import messages as duomag
from firmware_protocol.duomag.framing import encode
from firmware_protocol.magstim import messages as magstim
from firmware_protocol.magstim.framing import encode as encode_magstim
from firmware_protocol.quantities import SECOND
from firmware_protocol.recording import Record
from firmware_protocol.tmslink import messages as tmslink
from firmware_protocol.tmslink.framing import frame
from firmware_protocol.tmslink.spec import VECTORS, vector_body
from sim_device.duomag_wire import record as duomag_record
from sim_device.entry import MODELS

FACTS = {"driver": "tmslink", "url": "/dev/ttyACM0"}
HEAD = "# tmsctl recording 1\n# driver tmslink\n# url /dev/ttyACM0\n"
RECORDS = [
    Record(100, recording.OPENED, b""),
    Record(100, recording.CALL, b"arm 40"),
    Record(101, recording.TO_DEVICE, b"\x00\xff"),
    Record(102, recording.NOT_TAKEN, b"\x01"),
    Record(103, recording.FROM_DEVICE, b"abc"),
    Record(104, recording.LOST, b"12"),
    Record(105, recording.FAILED, b"5 Input/output error"),
    Record(106, recording.CLOSED, b""),
]
TEXT = (
    "100 +\n100 : arm 40\n101 > 00ff\n102 x 01\n103 < 616263\n104 ~ 12\n"
    "105 ! 5 Input/output error\n106 -\n"
)
DATA = st.binary(max_size=40)
ANY = st.builds(
    lambda at, mark, data, word: Record(at, mark, data if mark in "<>x" else word.encode()),
    st.integers(0, 2**60),
    st.sampled_from(sorted(recording.MARKS)),
    DATA,
    st.lists(st.sampled_from(["arm", "40", "é", "poll"]), max_size=4).map(" ".join),
)


def test_a_file_is_written_as_the_page_says() -> None:
    assert recording.header_of(FACTS) == HEAD
    assert "".join(map(recording.line_of, RECORDS)) == TEXT


def test_what_was_written_is_read() -> None:
    facts, records = recording.read((HEAD + TEXT).splitlines(keepends=True))
    assert facts == FACTS
    assert list(records) == RECORDS


@given(records=st.lists(ANY, max_size=20))
def test_any_record_survives_its_file(records: list[Record]) -> None:
    lines = [*HEAD.splitlines(keepends=True), *map(recording.line_of, records)]
    assert list(recording.read(lines)[1]) == records


def test_a_fact_never_breaks_the_header() -> None:
    assert recording.header_of({"url": "a\nb\r 100 > 00"}).splitlines()[1:] == [
        "# url a b 100 > 00"
    ]


def test_the_parts_of_a_recording_are_read_one_after_the_other() -> None:
    lines = (HEAD + TEXT + HEAD + TEXT).splitlines(keepends=True)
    assert list(recording.read(lines)[1]) == RECORDS * 2


@pytest.mark.parametrize("size", range(len("103 < 616263\n")))
def test_a_line_that_was_cut_short_is_not_believed(size: int) -> None:
    """Half of the bytes of a frame would look like a whole line."""
    lines = f"{HEAD}101 > 00ff\n{'103 < 616263'[:size]}".splitlines(keepends=True)
    records = list(recording.read(lines)[1])
    assert records[0] == Record(101, ">", b"\x00\xff")
    assert [record.mark for record in records[1:]] == (["?"] if size else [])


@pytest.mark.parametrize(
    "line",
    [
        "103 < 61626",
        "103 < zz",
        "103 q 61",
        "x < 61",
        "-1 < 61",
        "103",
        "",
        "103<61",
        "\u0661 < 61",
    ],
)
def test_a_spoilt_line_is_told_and_the_next_one_read(line: str) -> None:
    lines = f"{HEAD}101 > 00ff\n{line}\n104 < 62\n".splitlines(keepends=True)
    records = list(recording.read(lines)[1])
    assert records[1] == Record(101, recording.SPOILT, line.encode())
    assert records[2] == Record(104, "<", b"b")


@pytest.mark.parametrize(
    "first", ["", "# tmsctl recording 2\n", "# tmsctl recording\n", "hello\n", "100 +\n"]
)
def test_another_file_is_refused(first: str) -> None:
    with pytest.raises(ValueError, match="recording"):
        recording.read([first, "100 +\n"])


def test_the_flight_recorder_writes_lines_of_the_same_kind() -> None:
    lines = ["# tmsctl flight recorder, CLOCK_BOOTTIME 9 us\n", "# cause stop: a STOP\n",
             "# driver tmslink\n", "5 < 00\n", "6 = cycle 7 late 8\n"]  # fmt: skip
    facts, records = recording.read(lines)
    assert facts["driver"] == "tmslink"
    assert list(records) == [Record(5, "<", b"\0"), Record(6, "=", b"cycle 7 late 8")]


# -- in words ----------------------------------------------------------------------------------


def told(
    driver: str, *records: tuple[str, bytes], facts: dict[str, str] | None = None
) -> list[str]:
    """Each line as its text, or as its damage and bytes."""
    made = [Record(n, mark, data) for n, (mark, data) in enumerate(records)]
    lines = traces.trace(driver, facts or {}, made)
    return [line.text or f"{line.damage} {line.data.hex()}".strip() for line in lines]


IDENTITY = frame(vector_body(*VECTORS[1]))
BEAT = frame(vector_body(*VECTORS[2]))
STATUS = frame(vector_body(*VECTORS[4]))
BEAT_TEXT = (
    "Beat cycle=5 host_time_us=1050000 device_time_us=2540000 permit_us=2700000 state_hash=48879"
    " session=a1b2c3d4 sequence=8"
)


def test_frames_of_tmslink_are_told_with_their_direction_and_session() -> None:
    text = told("tmslink", ("<", IDENTITY), (">", BEAT[:9]), ("<", STATUS), (">", BEAT[9:]))
    assert text[0].startswith("Identity protocol=1 nonce=3735928559 device_time_us=2500000 serial=")
    assert text[1].startswith("Status device_time_us=2560000")
    assert text[2] == BEAT_TEXT


def test_a_checksum_that_cannot_be_checked_is_said_and_a_serial_number_cures_it() -> None:
    unknown = f"{BEAT_TEXT} (serial number unknown, checksum not checked)"
    assert told("tmslink", (">", BEAT)) == [unknown]
    assert told("tmslink", (">", BEAT), facts={"serial": "TR000001"}) == [BEAT_TEXT]
    wrong = told("tmslink", (">", BEAT), facts={"serial": "TR000002"})
    assert wrong[0].startswith("checksum: a frame whose checksum is wrong")


@pytest.mark.parametrize("place", range(1, len(BEAT) - 1))
def test_a_damaged_frame_of_tmslink_is_marked_with_its_bytes(place: int) -> None:
    spoilt = bytearray(BEAT)
    spoilt[place] ^= 0x10
    text = told("tmslink", ("<", IDENTITY), (">", bytes(spoilt)), (">", BEAT))
    assert text[-1] == BEAT_TEXT
    assert text[1].split(":")[0] in ("checksum", "garbage")
    assert bytes(spoilt).strip(b"\0").hex() in text[1] or 0 in spoilt[1:-1]


def test_the_unframed_stop_is_known() -> None:
    stop = frame(vector_body(*VECTORS[5]))
    text = told("tmslink", (">", tmslink.STOP_BYTES + stop))
    assert text[0] == "unframed STOP, 32 bytes"
    assert text[1].startswith("Stop ")


def test_a_new_port_begins_with_no_half_frame() -> None:
    torn = [("<", IDENTITY), (">", BEAT[:9]), ("-", b""), ("+", b"")]
    text = told("tmslink", *torn, ("<", IDENTITY), (">", BEAT))
    assert text[-1] == BEAT_TEXT
    assert len(text) == 5


def test_frames_of_a_duomag_are_told() -> None:
    status = duomag.Status(*([0] * 23), 1)._replace(mso_pct=40, charged=1)
    stream = duomag_record(status, 15) * 4 + b"\xff"
    text = told("duomag", (">", encode([duomag.Command(duomag.Kind.INTENSITY, 40), duomag.FIRE])),
                ("<", stream), (">", b"\x79\x28\x28"))  # fmt: skip
    assert text[:2] == ["Intensity mso_pct=40", "Fire"]
    assert text[2].startswith("length 15: not the usual one 0028")
    assert text[4] == duomag.describe(status)
    assert text[-2:] == ["a byte without its double 79", "Intensity mso_pct=40"]


def test_a_spoilt_line_is_damage() -> None:
    assert told("tmslink", ("?", b"103 < 6")) == ["103 < 6"]
    assert next(traces.trace("tmslink", {}, [Record(1, "?", b"x")])).damage


def test_frames_of_a_magpro_are_told_and_damage_is_shown() -> None:
    torn = bytes.fromhex("00 FE0302320012FF FE020505")
    text = told("magpro", (">", bytes.fromhex("FE010000FF FE020132C6FF")), ("<", torn),
                (">", b"\xfe\x01\x00\x01\xff"))  # fmt: skip
    assert text == [
        "GetShortStatus",
        "SetAmplitude a_pct=50",
        "garbage: bytes that are no frame 00fe0302320012ff",
        "garbage: bytes that are no frame fe010001ff",
    ]


def test_damaged_bytes_of_a_magpro_stand_before_the_frame_behind_them() -> None:
    good = bytes.fromhex("FE010000FF")
    stream = b"\x01\x02" + good + b"\x03" + good
    whole = ["garbage: bytes that are no frame 0102", "GetShortStatus",
             "garbage: bytes that are no frame 03", "GetShortStatus"]  # fmt: skip
    assert told("magpro", (">", stream)) == whole
    pieces = told("magpro", *[(">", bytes((byte,))) for byte in stream])
    assert [line for line in pieces if "no frame" not in line] == ["GetShortStatus"] * 2


def test_commands_and_replies_of_a_magstim_are_told() -> None:
    """Bytes that were seen between MagPy and its device."""
    said = [(">", "51406E"), ("<", "518925"), (">", "4A4075"), ("<", "4A8930333030"),
            ("<", "3030303030 79"), (">", "403035302A"), ("<", "408936"), (">", "454278"),
            ("<", "455367")]  # fmt: skip
    assert told("magstim", *[(mark, bytes.fromhex(data)) for mark, data in said]) == [
        "enable_remote",
        "enable_remote: done status=89(standby+coil_present+remote)",
        "get_parameters",
        "get_parameters: done status=89(standby+coil_present+remote) power=30 power_b=0 interval=0",
        "set_power power=50",
        "set_power: done status=89(standby+coil_present+remote)",
        "arm",
        "arm: not in this state",
    ]


def test_damaged_bytes_of_a_magstim_are_marked() -> None:
    text = told("magstim", (">", b"EBx"), ("<", bytes.fromhex("99 458931")), (">", b"EBy"),
                ("<", b"\x45\x89"), (">", b"EBx"), ("<", b"\x45\x89\x31\x31"))  # fmt: skip
    done = "arm: done status=89(standby+coil_present+remote)"
    assert text == [
        "arm",
        "garbage: bytes that are no reply 99",
        done,
        "garbage: bytes that are no command 454279",
        "garbage: bytes that are no reply 4589",
        "arm",
        done,
        "garbage: bytes that are no reply 31",
    ]


def test_a_host_that_stops_does_not_wait_and_both_answers_are_told() -> None:
    text = told("magstim", (">", bytes.fromhex("51406E")), ("<", b"\x51"), (">", b"EAy"),
                ("<", bytes.fromhex("8925 458931")))  # fmt: skip
    assert [line.partition(":")[0] for line in text] == [
        "enable_remote", "disarm", "enable_remote", "disarm"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "settings", "silent"),
    [
        ("magstim-200", {}, False),
        ("magstim-bistim", {}, False),
        ("magstim-rapid", {"firmware": "7.0"}, False),
        ("magstim-rapid", {"firmware": "9.0"}, True),  # for most, while it is locked
    ],
)
def test_whatever_a_magstim_of_any_kind_says_is_read_without_being_told_its_kind(
    model: str, settings: dict[str, Any], silent: bool
) -> None:
    made = MODELS[model]
    row = made.settings(**settings)
    unit = made.make(row, random.Random(1), lambda _: None, [])
    kind = {"magstim-200": magstim.Model.M200, "magstim-bistim": magstim.Model.BISTIM}
    firmware = int(settings.get("firmware", "0").partition(".")[0])
    dialect = magstim.Dialect(kind.get(model, magstim.Model.RAPID), firmware)
    asked = [r for r in dialect.rows if all(f.form.name in ("PAD", "MODE") for f in r.data)]
    now, records = row.clock_us, []
    for command in asked:
        data = encode_magstim(command)
        records.append((">", data))
        unit.receive(data, now)
        now += SECOND // 2
        unit.run_to(now)
        records.append(("<", unit.take_output()))
    text = told("magstim", *records)
    assert [line for line in text if "garbage" in line] == []
    answered = {line.partition(":")[0] for line in text if ":" in line}
    assert answered <= {command.name for command in asked}
    assert silent == (len(answered) < len(asked))
    assert len(answered) >= 3


@pytest.mark.parametrize("driver", sorted(traces.TRACES))
def test_two_thousand_streams_of_noise_are_told_without_an_error(driver: str) -> None:
    rng = random.Random(8)
    good = {
        "tmslink": IDENTITY + BEAT,
        "duomag": b"\xff" + bytes(15),
        "magpro": bytes.fromhex("FE020132C6FF"),
        "magstim": bytes.fromhex("51406E518925"),
    }[driver]
    for _ in range(2_000):
        noise = bytearray(good * 3)
        for _ in range(rng.randint(1, 9)):
            noise[rng.randrange(len(noise))] = rng.randrange(256)
        told(driver, ("<", bytes(noise)), (">", bytes(noise[::-1])))
