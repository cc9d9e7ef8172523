"""The host's end of a session: what is believed, what is not, and how each command ends."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_protocol import table
from firmware_protocol.crc import SEED, crc32
from firmware_protocol.errors import LocalProtocolError
from firmware_protocol.quantities import BootUs
from firmware_protocol.tmslink import messages as m
from firmware_protocol.tmslink.framing import Deframer, body_of, frame
from firmware_protocol.tmslink.link import (
    IN_FLIGHT_MAX,
    OVERTAKEN_MAX,
    Answered,
    BadFrame,
    Link,
    Unanswered,
)
from tmsctl.ipc import messages as ipc

SESSION, NONCE, SERIAL = 0x0102_0304, 77, "TR000001"
HELLO = m.Hello(m.PROTOCOL_VERSION, NONCE, 1_000)
IDENTITY = m.Identity(m.PROTOCOL_VERSION, NONCE, 5_000, SERIAL, "reference", 1, 1, 70)
LIMITS = m.Limits(80, 10_000, 500, 10_000_000, 400, 100)
FAULT = m.Fault(9_000, m.Cause.COIL_HOT)
BEAT = m.Beat(1, 2_000, 5_000, 0, 0)
NOW = BootUs(1_000_000)
DEADLINE = BootUs(1_030_000)


def sent_by_device(
    message: Any, sequence: int, session: int = SESSION, serial: str | None = SERIAL
) -> bytes:
    """One frame from the device; without a serial number its checksum is not seeded."""
    code = table.spec_of(type(message)).code
    content = struct.pack("<BII", code, session, sequence) + table.pack(message)
    seed = SEED if serial is None else crc32(serial.encode().ljust(8, b"\0"))
    return frame(content + struct.pack("<I", crc32(content, seed)))


def sole_body(data: bytes) -> bytes:
    (piece,) = (piece for piece in Deframer().feed(data) if piece)
    body = body_of(piece)
    assert body is not None
    return body


def heard(link: Link, data: bytes, now: BootUs = NOW) -> list[Any]:
    """What was believed."""
    return [event for event in link.receive(data, now) if not isinstance(event, BadFrame)]


def bad(link: Link, data: bytes) -> list[str]:
    """What was told as wrong with the line, by kind."""
    events = link.receive(data, NOW)
    return [event.why.partition(":")[0] for event in events if isinstance(event, BadFrame)]


def header(data: bytes) -> tuple[int, int, int]:
    """Code, session and sequence of the frame that the host sends."""
    code, session, sequence = struct.unpack_from("<BII", sole_body(data))
    return code, session, sequence


def opened() -> Link:
    """A link whose session is open; the newest sequence number from the device is 1."""
    link = Link()
    link.hello(HELLO, NONCE)
    assert link.receive(sent_by_device(IDENTITY, 1, serial=None), NOW) == [IDENTITY]
    return link


def ack(of_sequence: int, result: m.Result = m.Result.APPLIED) -> m.Ack:
    return m.Ack(of_sequence, 0x03, result)


def test_identity_that_echoes_our_nonce_opens_the_session() -> None:
    link = opened()
    assert link.session == SESSION
    assert link.receive(sent_by_device(LIMITS, 2), NOW) == [LIMITS]


@pytest.mark.parametrize("nonce", [NONCE - 1, NONCE + 1, 0])
def test_identity_for_another_nonce_is_ignored(nonce: int) -> None:
    link = Link()
    link.hello(HELLO, NONCE)
    stale = IDENTITY._replace(nonce=nonce)
    assert link.receive(sent_by_device(stale, 1, serial=None), NOW) == []
    assert (link.session, link.counters.foreign) == (0, 1)


def test_identity_is_ignored_before_hello_and_when_repeated() -> None:
    identity = sent_by_device(IDENTITY, 1, serial=None)
    fresh = Link()
    assert fresh.receive(identity, NOW) == []
    assert fresh.session == 0
    link = opened()
    link.receive(sent_by_device(LIMITS, 2), NOW)
    assert link.receive(identity, NOW) == []
    assert heard(link, sent_by_device(LIMITS, 2)) == []  # it did not reset the numbering


def test_identity_without_a_session_id_is_ignored() -> None:
    link = Link()
    link.hello(HELLO, NONCE)
    assert link.receive(sent_by_device(IDENTITY, 1, session=0, serial=None), NOW) == []
    assert link.session == 0


def test_a_new_hello_closes_the_session_at_once() -> None:
    link = opened()
    link.hello(HELLO._replace(nonce=78), 78)
    assert link.session == 0
    assert link.receive(sent_by_device(LIMITS, 2), NOW) == []
    assert link.counters.foreign == 1


def test_a_frame_of_another_session_is_ignored() -> None:
    link = opened()
    for session in (0, SESSION - 1, SESSION + 1):
        assert link.receive(sent_by_device(LIMITS, 2, session=session), NOW) == []
    assert link.counters.foreign == 3
    assert link.receive(sent_by_device(LIMITS, 2), NOW) == [LIMITS]


def test_a_sequence_number_must_rise() -> None:
    link = opened()
    assert heard(link, sent_by_device(LIMITS, 5)) == [LIMITS]
    for sequence in (5, 4, 0):
        assert heard(link, sent_by_device(LIMITS, sequence)) == []
    assert link.counters.stale == 3
    assert link.receive(sent_by_device(LIMITS, 6), NOW) == [LIMITS]


@pytest.mark.parametrize(("sequence", "lost"), [(2, 0), (3, 1), (102, 100)])
def test_a_jump_in_the_sequence_is_accepted_and_counted_as_lost(sequence: int, lost: int) -> None:
    link = opened()
    assert heard(link, sent_by_device(LIMITS, sequence)) == [LIMITS]
    assert link.counters.lost == lost


@pytest.mark.parametrize("serial", [None, "", "TR000002"])
def test_a_checksum_seeded_with_another_serial_number_is_refused(serial: str | None) -> None:
    link = opened()
    assert heard(link, sent_by_device(LIMITS, 2, serial=serial)) == []
    assert link.counters.bad_crc == 1


def test_unknown_codes_and_bad_values_are_counted_and_survived() -> None:
    link = opened()
    content = struct.pack("<BII", 0x7F, SESSION, 2)
    seed = crc32(SERIAL.encode())
    unknown = frame(content + struct.pack("<I", crc32(content, seed)))
    payload = table.pack(LIMITS)
    content = struct.pack("<BII", 0x42, SESSION, 3) + b"\x65" + payload[1:]  # 101 %MSO
    too_high = frame(content + struct.pack("<I", crc32(content, seed)))
    assert heard(link, unknown + too_high) == []
    assert link.counters.bad_content == 2
    assert link.receive(sent_by_device(LIMITS, 4), NOW) == [LIMITS]


def test_our_own_bytes_coming_back_are_not_taken_for_the_device() -> None:
    """A line that echoes must neither look like a device nor use up the device's numbers."""
    link = opened()
    for _ in range(5):
        assert link.receive(link.tell(BEAT), NOW) == []
    assert link.counters.foreign == 5
    assert link.receive(sent_by_device(LIMITS, 2), NOW) == [LIMITS]


def test_hello_carries_no_session_and_our_numbers_go_on() -> None:
    link = opened()
    link.tell(BEAT)
    assert header(link.hello(HELLO, NONCE))[:2] == (0x01, 0)
    link.receive(sent_by_device(IDENTITY, 1, serial=None), NOW)
    assert header(link.tell(BEAT)) == (0x08, SESSION, 2)  # no number ever names two commands


def test_every_frame_we_send_has_the_session_and_the_next_number() -> None:
    link = opened()
    sent = [link.tell(BEAT), link.ask(m.Disarm(), DEADLINE)[1], link.tell(BEAT)]
    assert [header(data) for data in sent] == [
        (0x08, SESSION, 1),
        (0x04, SESSION, 2),
        (0x08, SESSION, 3),
    ]


def test_what_we_send_is_seeded_with_the_serial_number_except_stop() -> None:
    link = opened()
    for message, seed in ((BEAT, crc32(SERIAL.encode())), (m.Stop(), SEED)):
        body = sole_body(link.tell(message))
        assert body[-4:] == struct.pack("<I", crc32(body[:-4], seed))


def test_stop_can_be_sent_without_a_session_and_commands_cannot() -> None:
    link = Link()
    assert header(link.tell(m.Stop())) == (0x07, 0, 1)
    with pytest.raises(LocalProtocolError, match="no session"):
        link.ask(m.Disarm(), DEADLINE)


@pytest.mark.parametrize("result", m.Result)
def test_an_answer_ends_its_command_exactly_once(result: m.Result) -> None:
    link = opened()
    sequence, _data = link.ask(m.Arm(45, 70), DEADLINE)
    answer = sent_by_device(ack(sequence, result), 2)
    assert link.receive(answer, NOW) == [Answered(sequence, result)]
    assert heard(link, answer + sent_by_device(ack(sequence), 3), DEADLINE) == []


def test_silence_is_unanswered_exactly_at_the_deadline_and_once() -> None:
    link = opened()
    sequence, _data = link.ask(m.Arm(45, 70), DEADLINE)
    assert link.receive(b"", BootUs(DEADLINE - 1)) == []
    assert link.receive(b"", DEADLINE) == [Unanswered(sequence)]
    assert link.receive(b"", BootUs(DEADLINE + 1)) == []


def test_an_answer_in_the_last_bytes_before_the_deadline_is_judged_counts() -> None:
    link = opened()
    sequence, _data = link.ask(m.Arm(45, 70), DEADLINE)
    answer = sent_by_device(ack(sequence), 2)
    assert link.receive(answer, DEADLINE) == [Answered(sequence, m.Result.APPLIED)]


def test_a_late_answer_is_ignored() -> None:
    link = opened()
    sequence, _data = link.ask(m.Arm(45, 70), DEADLINE)
    assert link.receive(b"", DEADLINE) == [Unanswered(sequence)]
    assert link.receive(sent_by_device(ack(sequence), 2), DEADLINE) == []
    assert link.counters.frames == 2


def test_an_answer_to_something_never_asked_is_ignored() -> None:
    link = opened()
    assert link.receive(sent_by_device(ack(99), 2), NOW) == []


def test_only_so_many_commands_may_be_under_way() -> None:
    link = opened()
    first, *_ = [link.ask(m.Disarm(), DEADLINE)[0] for _ in range(IN_FLIGHT_MAX)]
    with pytest.raises(LocalProtocolError, match="under way"):
        link.ask(m.Disarm(), DEADLINE)
    link.receive(sent_by_device(ack(first), 2), NOW)
    link.ask(m.Disarm(), DEADLINE)


def test_commands_under_way_when_a_new_session_opens_end_unanswered() -> None:
    link = opened()
    asked = [link.ask(m.Disarm(), DEADLINE)[0] for _ in range(2)]
    link.hello(HELLO._replace(nonce=78), 78)
    answer = sent_by_device(IDENTITY._replace(nonce=78), 1, session=SESSION + 1, serial=None)
    events = link.receive(answer, NOW)
    assert [e for e in events if isinstance(e, Unanswered)] == [Unanswered(s) for s in asked]
    assert link.receive(b"", DEADLINE) == []


def test_events_come_in_the_order_in_which_they_happened() -> None:
    link = opened()
    first, _ = link.ask(m.Disarm(), DEADLINE)
    second, _ = link.ask(m.Disarm(), DEADLINE)
    data = sent_by_device(LIMITS, 2) + sent_by_device(ack(second), 3) + sent_by_device(FAULT, 4)
    assert link.receive(data, DEADLINE) == [
        LIMITS,
        Answered(second, m.Result.APPLIED),
        FAULT,
        Unanswered(first),
    ]


def test_damaged_frames_are_counted_by_kind() -> None:
    link = opened()
    good = sent_by_device(LIMITS, 2)
    damaged = good[:-3] + bytes([good[-3] ^ 1 or 2]) + good[-2:]
    assert heard(link, b"\0\xff\xfe\0" + damaged + good) == [LIMITS]
    counters = link.counters
    assert (counters.garbage, counters.bad_crc, counters.frames) == (1, 1, 2)


# -- what is told as wrong -------------------------------------------------------------------


def spoilt(message: Any, sequence: int) -> bytes:
    """A frame with one wrong bit in its checksum, stuffed as it should be."""
    body = bytearray(sole_body(sent_by_device(message, sequence)))
    body[-1] ^= 0x80
    return frame(bytes(body))


def test_a_good_line_is_never_told_as_bad() -> None:
    link = opened()
    for sequence in range(2, 100):
        assert bad(link, sent_by_device(FAULT, sequence)) == []


@pytest.mark.parametrize(
    ("data", "kinds"),
    [
        (b"", []),
        (b"\0\0\0", []),
        (spoilt(LIMITS, 2), ["checksum"]),
        (b"\0\xff\xfe\0", ["garbage"]),
        (b"\x55" * 200 + b"\0", ["garbage"]),
        (sent_by_device(LIMITS, 3), ["lost"]),
        (sent_by_device(LIMITS, 103), ["lost"]),
        (sent_by_device(LIMITS, 1), ["repeated"]),
        (sent_by_device(LIMITS, 2) * 2, ["repeated"]),
        (sent_by_device(LIMITS, 2, session=SESSION + 1), []),  # late words of the session before
    ],
)
def test_each_thing_that_is_wrong_with_the_line_is_told_once(data: bytes, kinds: list[str]) -> None:
    assert bad(opened(), data) == kinds


def test_a_frame_of_forbidden_content_is_told_as_bad() -> None:
    content = struct.pack("<BII", 0x7F, SESSION, 2)
    unknown = frame(content + struct.pack("<I", crc32(content, crc32(SERIAL.encode()))))
    link = opened()
    assert bad(link, unknown) == ["content"]
    assert bad(link, sent_by_device(LIMITS, 3)) == []


@pytest.mark.parametrize(
    ("device_time_us", "kinds"),
    [(0, []), (1 << 62, []), ((1 << 62) + 1, ["content"]), ((1 << 64) - 1, ["content"])],
)
def test_a_time_that_no_clock_shows_is_none(device_time_us: int, kinds: list[str]) -> None:
    """All ones for "unknown" once ended the guard: on its own clock it was past 64 bits."""
    pulse = table.pack(m.Pulse(0, 6, 0, 0, 0, 0))
    content = struct.pack("<BIIQ", table.spec_of(m.Pulse).code, SESSION, 2, device_time_us)
    content += pulse[8:]
    seed = crc32(SERIAL.encode())
    assert bad(opened(), frame(content + struct.pack("<I", crc32(content, seed)))) == kinds
    latest = ipc.PulseRecord(1, 0, (1 << 62) + (1 << 62), 1 << 62, 0, 6, 0)
    assert ipc.decode(ipc.encode(latest)) == latest


@pytest.mark.parametrize(("damaged", "next_sequence"), [(1, 3), (2, 4), (5, 7)])
def test_the_gap_that_damaged_frames_leave_is_not_told_again(
    damaged: int, next_sequence: int
) -> None:
    link = opened()
    data = b"".join(spoilt(LIMITS, 2 + number) for number in range(damaged))
    assert bad(link, data + sent_by_device(LIMITS, next_sequence)) == ["checksum"] * damaged
    assert bad(link, sent_by_device(LIMITS, next_sequence + 2)) == ["lost"]


def test_of_a_gap_only_what_no_damaged_frame_explains_is_told() -> None:
    link = opened()
    events = link.receive(spoilt(LIMITS, 2) + sent_by_device(LIMITS, 5), NOW)
    assert [event.why for event in events if isinstance(event, BadFrame)] == [
        "checksum: a frame whose checksum is wrong",
        "lost: 2 frames never came",
    ]


def test_every_single_wrong_bit_on_the_wire_is_told_exactly_once() -> None:
    """A bit that becomes a delimiter cuts its frame in two; one that was a delimiter joins two."""
    first, second, third = (sent_by_device(FAULT, number) for number in (2, 3, 4))
    stream = first + second + third
    begin, end = len(first), len(first) + len(second)
    for place in range(begin, end):
        for bit in range(8):
            wrong = bytearray(stream)
            wrong[place] ^= 1 << bit
            for chunk in (7, len(wrong)):
                link, told = opened(), []
                for at in range(0, len(wrong), chunk):
                    told += bad(link, bytes(wrong[at : at + chunk]))
                assert len(told) == 1, (place, bit, told)


def test_without_a_session_nothing_is_told_as_bad() -> None:
    link = Link()
    assert bad(link, b"\0\xff\xfe\0" + spoilt(LIMITS, 2) + sent_by_device(LIMITS, 9)) == []
    link.hello(HELLO, NONCE)
    data = b"\0\xff\xfe\0" + sent_by_device(IDENTITY, 1, serial=None)
    assert link.receive(data + sent_by_device(LIMITS, 2), NOW) == [IDENTITY, LIMITS]
    assert bad(link, b"\0\xff\xfe\0") == ["garbage"]
    link.close()
    assert bad(link, b"\0\xff\xfe\0") == []


def test_a_frame_spoilt_on_purpose_is_right_but_for_one_bit_of_its_checksum() -> None:
    link, twin = opened(), opened()
    wrong, right = sole_body(link.spoilt(m.Arm(1, 70))), sole_body(twin.tell(m.Arm(1, 70)))
    assert wrong[:-4] == right[:-4]
    difference = int.from_bytes(wrong, "big") ^ int.from_bytes(right, "big")
    assert difference.bit_count() == 1
    assert header(link.tell(BEAT)) == (0x08, SESSION, 2)  # its number names no other frame


# -- two pipes, as on USB ----------------------------------------------------------------------

STATUS = m.Status(5_000, 0, 0, 0, m.State.IDLE, m.Cause.NONE, 0, 0, 250, 250, 0, 0, 0, 70)


def two_pipes() -> Link:
    """The session is open; IDENTITY was number 1, the newest on the interrupt pipe is 2."""
    link = Link(two_pipes=True)
    link.hello(HELLO, NONCE)
    assert heard(link, sent_by_device(IDENTITY, 1, serial=None)) == [IDENTITY]
    assert heard(link, sent_by_device(STATUS, 2)) == [STATUS]
    return link


def test_a_status_that_overtakes_an_answer_costs_neither() -> None:
    link = two_pipes()
    sequence, _ = link.ask(m.Arm(40, 70), DEADLINE)
    late = sent_by_device(ack(sequence), 3)
    assert link.receive(sent_by_device(STATUS, 4), NOW) == [STATUS]
    assert link.receive(late, NOW) == [Answered(sequence, m.Result.APPLIED)]
    assert bad(link, late) == ["repeated"]
    assert link.counters.lost == 0


def test_on_one_line_a_frame_that_was_overtaken_is_still_refused() -> None:
    link = opened()
    assert bad(link, sent_by_device(STATUS, 3)) == ["lost"]
    assert bad(link, sent_by_device(LIMITS, 2)) == ["repeated"]


def test_within_a_pipe_numbers_must_rise() -> None:
    link = two_pipes()
    assert bad(link, sent_by_device(LIMITS, 10) + sent_by_device(STATUS, 9)) == ["lost"]
    for number, message in ((10, LIMITS), (9, LIMITS), (9, STATUS), (8, FAULT)):
        assert bad(link, sent_by_device(message, number)) == ["repeated"], (number, message)


def test_a_number_is_lost_when_both_pipes_are_past_it() -> None:
    link = two_pipes()
    assert bad(link, sent_by_device(LIMITS, 3) + sent_by_device(STATUS, 5)) == []
    assert link.counters.lost == 0
    assert bad(link, sent_by_device(LIMITS, 6)) == ["lost"]  # 4 was on either
    assert link.counters.lost == 1
    assert bad(link, sent_by_device(STATUS, 7) + sent_by_device(LIMITS, 8)) == []


@pytest.mark.parametrize(
    ("next_limits", "bad_frames"), [(7, ["checksum"]), (8, ["checksum", "lost"])]
)
def test_a_frame_that_came_damaged_is_not_told_again_once_both_pipes_are_past_it(
    next_limits: int, bad_frames: list[str]
) -> None:
    """A defect once: over USB one frame that was cut short counted twice, and ended a session."""
    link = two_pipes()
    told = bad(link, sent_by_device(LIMITS, 3) + sent_by_device(STATUS, 4)[:20] + b"\0")
    for number in (5, 6, next_limits + 1):
        told += bad(link, sent_by_device(STATUS, number))
    told += bad(link, sent_by_device(LIMITS, next_limits))
    assert told == bad_frames
    assert bad(link, sent_by_device(STATUS, 11) + sent_by_device(LIMITS, 12)) == ["lost"]


@pytest.mark.parametrize(("ahead", "lost"), [(OVERTAKEN_MAX - 1, 0), (OVERTAKEN_MAX, 1)])
def test_a_number_that_is_missing_for_long_is_lost_although_one_pipe_is_silent(
    ahead: int, lost: int
) -> None:
    link = two_pipes()
    for number in range(4, 3 + ahead + 1):  # 3 is missing
        link.receive(sent_by_device(STATUS, number), NOW)
    assert link.counters.lost == lost
    assert bad(link, sent_by_device(LIMITS, 3)) == (["repeated"] if lost else [])


def test_what_overtook_the_opening_of_a_session_is_not_missed() -> None:
    """A STATUS that comes before IDENTITY cannot be read: its session is not known."""
    link = Link(two_pipes=True)
    link.hello(HELLO, NONCE)
    assert heard(link, sent_by_device(STATUS, 3)) == []
    assert heard(link, sent_by_device(IDENTITY, 1, serial=None)) == [IDENTITY]
    assert bad(link, sent_by_device(STATUS, 4) + sent_by_device(LIMITS, 2)) == []
    assert bad(link, sent_by_device(LIMITS, 5) + sent_by_device(STATUS, 6)) == []
    assert link.counters.lost == 0


@given(data=st.data())
def test_however_two_pipes_are_interleaved_all_is_believed_once_and_nothing_is_missed(
    data: st.DataObject,
) -> None:
    kinds = data.draw(st.lists(st.booleans(), max_size=40))
    frames = [(number, STATUS if kind else LIMITS) for number, kind in enumerate(kinds, 3)]
    pipes = [[f for f in frames if f[1] is STATUS], [f for f in frames if f[1] is LIMITS]]
    link = two_pipes()
    while any(pipes):
        pipe = data.draw(st.sampled_from([pipe for pipe in pipes if pipe]))
        number, message = pipe.pop(0)
        assert link.receive(sent_by_device(message, number), NOW) == [message]
    assert link.counters.lost == 0


@given(data=st.data())
def test_of_two_pipes_every_frame_that_is_dropped_is_counted_in_the_end(
    data: st.DataObject,
) -> None:
    kinds = data.draw(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
    link = two_pipes()
    for number, (kind, dropped) in enumerate(kinds, 3):
        if not dropped:
            link.receive(sent_by_device(STATUS if kind else LIMITS, number), NOW)
    end = 3 + len(kinds)
    assert bad(link, sent_by_device(STATUS, end)) in ([], ["lost"])
    link.receive(sent_by_device(LIMITS, end + 1), NOW)
    assert link.counters.lost == sum(dropped for _, dropped in kinds)


@pytest.mark.parametrize("newest", [2**32 - 1, 100_000])
def test_a_wide_jump_costs_no_memory(newest: int) -> None:
    link = two_pipes()
    link.receive(sent_by_device(STATUS, newest), NOW)
    assert len(link._early) <= OVERTAKEN_MAX
    link.receive(sent_by_device(LIMITS, newest - 1), NOW)
    assert link.counters.lost == newest - 4
