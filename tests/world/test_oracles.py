"""The judges themselves: independent, right on what can be reckoned by hand, and not blind."""

from __future__ import annotations

import ast
import json
import random
import sys
from pathlib import Path
from typing import Any, Final, cast

import pytest

from firmware_protocol.tmslink.framing import frame
from firmware_protocol.tmslink.messages import Arm, Disarm, Hello, Stop
from firmware_protocol.tmslink.spec import _SERIAL as VECTORS_SERIAL
from firmware_protocol.tmslink.spec import vector_body
from tests.world import oracles_dose, oracles_link, oracles_people
from tests.world.defects import DEFECTS, JUDGES, PROOFS, sees
from tests.world.evidence import MS, SECOND, Evidence
from tests.world.odometer import TOTAL
from tests.world.oracles import ORACLES
from tests.world.story import Spec, tell

HERE: Final = Path(__file__).parent
JUDGES_FILES: Final = sorted([*HERE.glob("oracles*.py"), HERE / "evidence.py"])


@pytest.mark.parametrize("path", JUDGES_FILES, ids=lambda path: path.name)
def test_a_judge_imports_nothing_of_what_it_judges(path: Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert names, "the walk sees imports"
    assert not [
        name
        for name in names
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not name.startswith(("tests.world.evidence", "tests.world.oracles"))
    ]
    assert not {name.partition(".")[0] for name in names} & {"importlib", "builtins", "sys"}


def test_the_walk_covers_every_judge() -> None:
    modules = {oracle.__module__.rpartition(".")[2] for oracle in ORACLES.values()}
    assert modules <= {path.stem for path in JUDGES_FILES}
    assert len(ORACLES) == 13


SLOW: Final = ("O1", "O2", "O4", "O6", "O7", "O8", "O9", "O12", "O16")
"""Their proofs take longer than all the others': `make soak` shows them, beside all defects."""


@pytest.mark.parametrize("judge", [judge for judge in JUDGES if judge not in SLOW])
def test_every_judge_sees_a_planted_defect_and_nothing_without_it(judge: str) -> None:
    defect = DEFECTS[PROOFS[judge]]
    assert sees(judge, defect), f"{judge} is blind for: {PROOFS[judge]}"
    healthy = tell(defect.seeds[0], defect.spec)
    TOTAL.add(healthy)
    assert judge not in healthy.wrong, healthy.story()


def test_what_a_judge_reads_is_plain_data() -> None:
    evidence = tell(1, Spec(kinds=(), length_us=15 * SECOND, recovers=False)).evidence

    def plain(value: object) -> str:
        assert isinstance(value, bytes)
        return value.hex()

    again = json.loads(json.dumps(evidence, default=plain))
    assert len(again["lines"]) == len(evidence["lines"])
    assert {"arm", "pulse", "disarm"} <= {line["event"] for line in again["lines"]}


def at_times(times: list[int], **limits: int) -> Evidence:
    """One session with pulses at these instants, and nothing else known."""
    session: dict[str, Any] = {"number": 1, "at_us": 0, "exceeds": {}, "reason": True}
    lines = [{"event": "pulse", "cause": "train", "at_us": at} for at in times]
    general = {"pulses_1s_max": 1_000, "pulses_60s_max": 10_000, **limits}
    return {"lines": lines, "sessions": [session], "general": general, "soft": {}, "site": {}}  # type: ignore[return-value, typeddict-item]


def test_the_sql_window_agrees_with_counting_by_hand() -> None:
    rng = random.Random(1)
    verdicts = set()
    for _ in range(300):
        times = sorted(rng.sample(range(0, 4 * SECOND, 50 * MS), rng.randrange(2, 40)))
        most = rng.randrange(1, 14)
        worst = max(sum(0 <= at - first < SECOND for at in times) for first in times)
        found = bool(oracles_dose.rate(at_times(times, pulses_1s_max=most)))
        assert found == (worst > most), times
        verdicts.add(found)
    assert verdicts == {True, False}


def test_the_bit_columns_give_the_published_check_value() -> None:
    assert oracles_link.remainder(b"123456789", 0xFFFF_FFFF) == 0xED2C5F4E


@pytest.mark.parametrize("flipped", range(0, 13 * 8, 5))
def test_the_bit_columns_find_the_one_damaged_body_among_many(flipped: int) -> None:
    contents = [bytes((n, *range(8))) for n in range(20)]
    bodies = [c + oracles_link.remainder(c, 7).to_bytes(4, "little") for c in contents]
    assert not any(oracles_link.damaged(bodies, 7))
    wrong = bytearray(bodies[11])
    wrong[flipped // 8] ^= 1 << flipped % 8
    bodies[11] = bytes(wrong)
    assert [n for n, bad in enumerate(oracles_link.damaged(bodies, 7)) if bad] == [11]


@pytest.mark.parametrize(
    ("piece", "body"),
    [(b"\x01", b""), (b"\x01\x01", b"\0"), (b"\x02a", b"a"), (b"\x02a\x02b", b"a\0b"),
     (b"\x01\x02b", b"\0b"), (b"\x03ab\x01", b"ab\0")],
)  # fmt: skip
def test_unstuffing_by_hand(piece: bytes, body: bytes) -> None:
    assert oracles_link.unstuffed(piece) == body


SAID: Final[dict[str, tuple[int, Any]]] = {
    "Hello": (3, Hello(1, 5, 0)), "Arm": (7, Arm(50, 1)), "Disarm": (8, Disarm()),
    "Stop": (9, Stop()), "RawStop": (0, None),
}  # fmt: skip


@pytest.mark.parametrize(
    ("heard", "armed", "wrong"),
    [
        # An ARM that its STOP has overtaken comes to a device that is latched: nothing is armed.
        ("Stop Arm", False, ""),
        ("RawStop Arm", False, ""),
        ("Stop Arm", True, "no HELLO since the STOP"),
        ("RawStop Arm", True, "no HELLO since the STOP"),
        ("Stop Hello RawStop Arm", True, "no HELLO since the STOP"),
        ("RawStop Stop Hello Arm", True, ""),
        ("Hello Arm Disarm Stop", True, ""),
        ("Disarm Arm", True, "came after 8"),
        ("Arm Arm", False, "came after 7"),
    ],
)
def test_the_channel_by_hand(heard: str, armed: bool, wrong: str) -> None:
    said, lines, written = list[Any](), list[Any](), list[Any]()
    for at_us, name in enumerate(heard.split(), 10):
        sequence, message = SAID[name]
        said.append((at_us, at_us, name, 1, sequence, None if message is None else tuple(message)))
        if message is not None:
            written.append((0, frame(vector_body(1, sequence, message))))
        if name == "Arm" and armed:
            lines.append({"event": "arm", "at_us": at_us, "mso": 50})
    evidence = {"serial": VECTORS_SERIAL, "heard": said, "lines": lines, "written": written}
    found = oracles_link.channel(cast(Evidence, evidence))
    assert len(found) == bool(wrong), found
    assert wrong in "".join(found)


def fell(at_us: int, cause: str) -> dict[str, Any]:
    return {"event": "disarm", "cause": cause, "at_us": at_us}


def asked(what: str, at_us: int, answer: str = "ok") -> dict[str, Any]:
    return {"what": what, "at_us": at_us, "answer": answer, "answered_us": at_us + 9, "sent": True}


BOTH: Final = [fell(20, "DEAD_MAN"), fell(30, "HOST_STOP")]
STOOD_STILL: Final = {"what": "guard-stall", "at_us": 35 * MS, "until_us": 80 * MS}


@pytest.mark.parametrize(
    ("answer", "falls", "arm_us", "hazard", "wrong"),
    [
        ("ok", [], 50 * MS, None, ""),
        # A computer that slept: the test was done, and whoever had asked for it was not told.
        ("guard-silent", BOTH, 50 * MS, None, ""),
        ("guard-silent", [], 50 * MS, None, "without a self-test"),
        ("guard-silent", BOTH[:1], 50 * MS, None, "without a self-test"),
        ("guard-silent", BOTH[::-1], 50 * MS, None, "without a self-test"),
        ("self-test-failed", BOTH, 50 * MS, None, "without a self-test"),
        ("ok", [], 30 * MS, STOOD_STILL, "where nothing was armed"),
        ("ok", [], 90 * MS, STOOD_STILL, ""),  # armed only after the guard had stood still
    ],
)
def test_what_is_permitted_by_hand(
    answer: str, falls: list[Any], arm_us: int, hazard: Any, wrong: str
) -> None:
    evidence = {
        "lines": [
            *falls,
            {"event": "arm", "at_us": arm_us, "mso": 50},
            {"event": "pulse", "cause": "train", "at_us": 200 * MS},
        ],
        "heard": [(arm_us, arm_us, "Arm", 1, 1, (50, 1))],
        "asks": [asked("self-test", 10, answer), asked("start", 9 * MS)],
        "guards": [{"pid": 1, "from_us": 0, "until_us": None}],
        "hazards": [] if hazard is None else [hazard],
        "until_us": SECOND,
    }
    found = oracles_people.permission(cast(Evidence, evidence))
    assert len(found) == bool(wrong), found
    assert wrong in "".join(found)


@pytest.mark.parametrize(
    ("real_pct", "drained_at", "wrong"),
    [
        (50.0, None, False),
        (49.1, None, False),
        (48.9, None, True),
        (50.7, None, True),
        # A pulse of nobody empties the capacitor: what leaves until the guard stops may be weaker,
        (48.9, 900 * MS, False),
        (50.7, 900 * MS, True),  # and no stronger;
        (48.9, 800 * MS, True),  # and the guard stops soon.
    ],
)
def test_the_intensity_by_hand(real_pct: float, drained_at: int | None, wrong: bool) -> None:
    joules = oracles_dose.FULL_J * (real_pct / 100) ** 2
    strange = {"event": "pulse", "cause": "extra", "at_us": drained_at, "energy_j": 70.0}
    evidence = {
        "lines": [
            {"event": "arm", "at_us": 0},
            *([] if drained_at is None else [strange]),
            {"event": "pulse", "cause": "train", "at_us": SECOND, "energy_j": joules},
        ],
        "sessions": [{"number": 1, "at_us": 0, "mt_permille": 500, "pct_mt": 100, "exceeds": {},
                      "reason": True}],
        "general": {"mt_max_pct": 130, "mso_max_pct": 100}, "soft": {}, "site": {},
    }  # fmt: skip
    assert bool(oracles_dose.intensity(cast(Evidence, evidence))) == wrong


@pytest.mark.parametrize(
    ("missing_s", "stopped_s", "wrong"),
    [
        ((), 0.1, False),
        ((), 1.0, True),
        ((-0.5,), 1.1, False),  # one too many behind one that is missing: the sum is right
        ((-0.5,), 1.3, True),
        ((-0.5, 1.0), 2.1, False),  # and stays so while nothing else is told
        ((-0.5, 1.0), 2.3, True),
        ((1.0,), 1.1, True),
    ],
)
def test_when_a_pulse_too_many_must_have_stopped_it_by_hand(
    missing_s: tuple[float, ...], stopped_s: float, wrong: bool
) -> None:
    at_us, last_us = 10 * SECOND, int((10 + stopped_s) * SECOND)
    kinds = [(10 + s, "missing_pulse") for s in missing_s] + [(10.0, "extra_pulse")]
    injected = [
        {"event": "injected", "kind": kind, "at_us": int(s * SECOND)} for s, kind in sorted(kinds)
    ]
    evidence = {
        "lines": [
            {"event": "arm", "at_us": at_us - SECOND, "mso": 50},
            *injected,
            {"event": "pulse", "cause": "train", "at_us": last_us},
        ],
        "heard": [(at_us - SECOND, 0, "Arm", 1, 1, (50, 1))],
        "asks": [asked("self-test", 10), asked("start", at_us - 2 * SECOND)],
        "guards": [{"pid": 1, "from_us": 0, "until_us": None}],
        "hazards": [],
        "until_us": 20 * SECOND,
    }
    found = oracles_people.permission(cast(Evidence, evidence))
    assert bool(found) == wrong, found


@pytest.mark.parametrize(
    ("armed_s", "hot_s", "wrong"),
    [(4.9, None, False), (5.1, None, True), (None, None, True), (None, -1.0, False)],
)
def test_who_is_granted_a_start_is_armed_soon_by_hand(
    armed_s: float | None, hot_s: float | None, wrong: bool
) -> None:
    at_us = 100 * SECOND
    lines: list[dict[str, Any]] = []
    if hot_s is not None:
        hot_us = at_us + int(hot_s * SECOND)
        lines.append({"event": "fault", "cause": "COIL_HOT", "at_us": hot_us})
    if armed_s is not None:
        lines.append({"event": "arm", "at_us": at_us + int(armed_s * SECOND), "mso": 50})
    evidence = {
        "lines": lines, "asks": [asked("start", at_us)], "calm_from_us": at_us - 2 * SECOND,
        "until_us": at_us + 20 * SECOND, "needs_recovery": True,
    }  # fmt: skip
    assert bool(oracles_people.liveness(cast(Evidence, evidence))) == wrong
