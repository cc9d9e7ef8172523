"""The protocol library: its facts pinned, its loader strict, its commands truthful."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tmsctl.cli.errors import CliError
from tmsctl.cli.protocol import app
from tmsctl.safety.limits import GENERAL, session_limits
from tmsctl.safety.plan_check import check_plan
from tmsctl.stimulation.demands import OF_A_COURSE, demands, excess
from tmsctl.stimulation.plan import Plan
from tmsctl.stimulation.prescription import Prescription, compile_plan
from tmsctl.stimulation.protocol import (
    EXCEEDABLE,
    FILE_SIZE_MAX,
    LIBRARY,
    Protocol,
    ProtocolFileError,
    load_library,
    load_protocol,
)

SHIPPED = load_library()
Table = dict[str, object]
ABSENT = object()


def toml(table: Table) -> str:
    """The few kinds of value that these tests need."""
    lines, sections = [], []
    for key, value in table.items():
        if isinstance(value, dict):
            sections.append(f"[{key}]\n{toml(value)}")
        elif isinstance(value, bool):
            lines.append(f"{key} = {str(value).lower()}")
        else:
            lines.append(f"{key} = {json.dumps(value) if isinstance(value, str) else value}")
    return "\n".join([*lines, *sections])


def itbs(**changes: object) -> Table:
    """itbs600 as id `x`, with changes; ABSENT takes a key away."""
    table = tomllib.loads((LIBRARY / "itbs600.toml").read_text()) | {"id": "x"} | changes
    return {key: value for key, value in table.items() if value is not ABSENT}


@pytest.fixture
def load(tmp_path: Path) -> Callable[[Table], Protocol]:
    def write_and_load(table: Table) -> Protocol:
        path = tmp_path / "x.toml"
        path.write_text(toml(table))
        return load_protocol(path)

    return write_and_load


# pulses a burst, interval, burst period, bursts, train period, trains, % MT, pulses, span, cycle
PINNED = {
    "ctbs600": (3, 20_000, 200_000, 200, 40_000_000, 1, 80, 600, 39_840_000, 40_000_000),
    "hf10-19": (1, 0, 100_000, 40, 15_000_000, 75, 120, 3000, 1_113_900_000, 1_125_000_000),
    "hf10-37": (1, 0, 100_000, 40, 30_000_000, 75, 120, 3000, 2_223_900_000, 2_250_000_000),
    "itbs600": (3, 20_000, 200_000, 10, 10_000_000, 20, 120, 600, 191_840_000, 200_000_000),
    "lf1-900": (1, 0, 1_000_000, 900, 900_000_000, 1, 110, 900, 899_000_000, 900_000_000),
    "snt1800": (3, 20_000, 200_000, 10, 10_000_000, 60, 90, 1800, 591_840_000, 600_000_000),
}


def test_the_shipped_library_is_exactly_this() -> None:
    assert {
        p.id: (
            p.pulses_per_burst, p.interval_us, p.burst_period_us, p.bursts_per_train,
            p.train_period_us, p.trains, p.pct_mt, p.pulses, p.span_us, p.cycle_us,
        )
        for p in SHIPPED.values()
    } == PINNED  # fmt: skip
    assert all(p.reviewer == "" for p in SHIPPED.values())
    assert {p.id for p in SHIPPED.values() if p.evidence == "confirmed"} == {"hf10-19", "hf10-37"}


@pytest.mark.parametrize(
    ("protocol_id", "off_us", "gap_us"),
    [
        ("hf10-37", 26_000_000, 26_100_000),
        ("hf10-19", 11_000_000, 11_100_000),
        ("itbs600", 8_000_000, 8_160_000),
        ("snt1800", 8_000_000, 8_160_000),
    ],
)
def test_both_readings_of_the_inter_train_interval_follow_from_the_period(
    protocol_id: str, off_us: int, gap_us: int
) -> None:
    protocol = SHIPPED[protocol_id]
    assert (protocol.off_us, protocol.gap_us) == (off_us, gap_us)


@pytest.mark.parametrize("protocol", SHIPPED.values(), ids=SHIPPED)
def test_a_shipped_protocol_exceeds_exactly_what_its_file_declares(protocol: Protocol) -> None:
    assert dict(protocol.exceeds) == excess(protocol)
    assert bool(protocol.exceeds) == bool(protocol.exceeds_reason)


@pytest.mark.parametrize("protocol", SHIPPED.values(), ids=SHIPPED)
def test_a_shipped_protocol_passes_the_limits_with_its_exceptions_and_only_with_them(
    protocol: Protocol,
) -> None:
    plan = compile_plan(Prescription(protocol, 500, protocol.pct_mt, reduced=False), 100)
    assert isinstance(plan, Plan)
    by_emg, reviewer = True, "a clinician"
    limits = session_limits(GENERAL, protocol.exceeds)
    assert all(c.ok for c in check_plan(plan, limits, 10_000, by_emg, protocol.exceeds, reviewer))
    of_the_pattern = protocol.exceeds.keys() - {*OF_A_COURSE}
    passes = all(c.ok for c in check_plan(plan, GENERAL, 10_000, by_emg, {}, reviewer))
    assert passes == (not of_the_pattern)


def test_what_a_pattern_demands_of_the_limits_is_counted_on_its_pulses() -> None:
    assert demands(SHIPPED["itbs600"]) == {
        "mt_max_pct": 120,
        "interval_min_us": 20_000,
        "pulses_1s_max": 15,
        "pulses_60s_max": 180,
        "train_us_max": 2_000_000,
        "beyond_table_us_max": 0,
        "train_gap_min_us": 8_160_000,
        "session_pulses_max": 600,
        "session_us_max": 191_840_000,
    }
    assert demands(SHIPPED["ctbs600"])["pulses_60s_max"] == 600
    assert demands(SHIPPED["ctbs600"])["beyond_table_us_max"] == 0
    assert demands(SHIPPED["hf10-37"])["beyond_table_us_max"] == 4_000_000
    assert demands(SHIPPED["lf1-900"])["beyond_table_us_max"] == 900_000_000
    assert demands(SHIPPED["hf10-19"])["pulses_60s_max"] == 160
    assert demands(SHIPPED["hf10-37"])["pulses_60s_max"] == 80


def test_only_these_limits_can_be_exceeded_at_all() -> None:
    assert set(EXCEEDABLE) == {
        "interval_min_us", "pulses_1s_max", "pulses_60s_max", "train_us_max", "train_gap_min_us",
        "session_pulses_max", "session_us_max", "beyond_table_us_max", "pulses_day_max",
        "pulses_week_max", "session_gap_min_s",
    }  # fmt: skip
    assert EXCEEDABLE["session_pulses_max"] == range(3_001, 5_001)  # from its soft bound on
    assert EXCEEDABLE["session_gap_min_s"] == range(3_000, 14_400)
    assert EXCEEDABLE["pulses_60s_max"] == range(241, 601)
    assert EXCEEDABLE["train_gap_min_us"] == range(2_000_000, 5_000_000)


def test_what_a_course_asks_is_taken_from_the_file() -> None:
    asked = demands(SHIPPED["snt1800"])
    assert {name: asked[name] for name in OF_A_COURSE} == {
        "pulses_day_max": 18_000, "pulses_week_max": 90_000, "session_gap_min_s": 3_000,
    }  # fmt: skip
    assert not {*OF_A_COURSE} & demands(SHIPPED["itbs600"]).keys()


# --- the loader ---


def test_a_right_file_loads(load: Callable[[Table], Protocol]) -> None:
    assert load(itbs()).pulses == 600
    assert load(itbs(reviewer="A. Clinician, 2024-05-01")).reviewer == "A. Clinician, 2024-05-01"


KEYS = sorted(itbs())
NUMBERS = [key for key, value in itbs().items() if isinstance(value, int)]
WRONG = (math.nan, math.inf, -1, 10**30, True, False, 1.0, [1], {"a": 1}, "\x1b[2J")


@pytest.mark.parametrize("key", KEYS)
def test_a_file_without_any_one_key_is_refused(key: str, load: Callable[[Table], Protocol]) -> None:
    with pytest.raises(ProtocolFileError, match=rf"x\.toml: {key} is missing"):
        load(itbs(**{key: ABSENT}))


@pytest.mark.parametrize("key", KEYS)
def test_a_file_with_a_wrong_value_in_any_one_key_is_refused_by_name(
    key: str, load: Callable[[Table], Protocol]
) -> None:
    for value in WRONG:
        with pytest.raises(ProtocolFileError, match=rf"x\.toml: {key} is .*; allowed is .*\.$"):
            load(itbs(**{key: value}))


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_written_as_text_is_refused(key: str, load: Callable[[Table], Protocol]) -> None:
    with pytest.raises(ProtocolFileError, match=key):
        load(itbs(**{key: str(itbs()[key])}))


@pytest.mark.parametrize("key", [key for key in NUMBERS if key != "pct_mt"])
@pytest.mark.parametrize("step", [-1, 1])
def test_a_number_that_is_off_by_one_is_refused(
    key: str, step: int, load: Callable[[Table], Protocol]
) -> None:
    with pytest.raises(ProtocolFileError):
        load(itbs(**{key: itbs()[key] + step}))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"colour": 1}, "colour"),
        ({"iti_s": 8}, "iti_s"),
        ({"id": "y"}, "name of the file"),
        ({"id": "X"}, "a-z"),
        ({"id": "x" * 33}, "at most 32"),
        ({"title": ""}, "title"),
        ({"title": "a" * 1001}, "title"),
        ({"evidence": "sure"}, "evidence"),
        ({"pct_mt": 0}, "pct_mt"),
        ({"pct_mt": 201}, "pct_mt"),
        ({"pulses_per_burst": 6}, "pulses_per_burst"),
        ({"interval_us": 0}, "interval_us"),
        ({"interval_us": 100_000}, "burst_period_us"),
        ({"train_period_us": 1_999_999}, "train_period_us"),
        ({"exceeds": {}}, "exceeds"),
        ({"exceeds": {"reason": "because"}}, "exceeds"),
        ({"exceeds": {"pulses_60s_max": 600}}, "exceeds"),
        ({"exceeds": {"pulses_60s_max": 600, "reason": ""}}, r"exceeds\.reason"),
        ({"exceeds": {"pulses_60s_max": 240, "reason": "r"}}, r"241\.\.600"),
        ({"exceeds": {"pulses_60s_max": 601, "reason": "r"}}, r"241\.\.600"),
        ({"exceeds": {"pulses_60s_max": float("nan"), "reason": "r"}}, "pulses_60s_max"),
        ({"exceeds": {"pulses_60s_max": True, "reason": "r"}}, "pulses_60s_max"),
        ({"exceeds": {"mso_max_pct": 100, "reason": "r"}}, "mso_max_pct"),
        ({"exceeds": {"mt_max_pct": 130, "reason": "r"}}, "mt_max_pct"),
        ({"exceeds": {"coil_max_dc": 430, "reason": "r"}}, "coil_max_dc"),
        ({"exceeds": {"status_age_max_us": 1, "reason": "r"}}, "status_age_max_us"),
    ],
)
def test_other_wrong_files_are_refused_by_name(
    changes: Table, named: str, load: Callable[[Table], Protocol]
) -> None:
    with pytest.raises(ProtocolFileError, match=named):
        load(itbs(**changes))


@pytest.mark.parametrize(
    "content",
    [
        b"id = ",
        b"\xff\xfe",
        b"a = " + b"9" * 5000,
        b"a = " + b"[" * 9000,
        b"id = 'x'\nid = 'x'",
        b"",
    ],
    ids=["cut", "not UTF-8", "absurd number", "absurd nesting", "key twice", "empty"],
)
def test_a_file_that_is_no_toml_is_refused_in_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(ProtocolFileError, match=r"x\.toml: .*\.$") as caught:
        load_protocol(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_the_greatest_size_loads_and_a_longer_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(toml(itbs()) + "\n" + "#" * (FILE_SIZE_MAX - len(toml(itbs())) - 1))
    load_protocol(path)
    path.write_text(path.read_text() + "#")
    with pytest.raises(ProtocolFileError, match="longer than the 16384 bytes"):
        load_protocol(path)


def test_a_missing_file_or_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProtocolFileError, match=r"none\.toml: cannot be read"):
        load_protocol(tmp_path / "none.toml")
    with pytest.raises(ProtocolFileError, match="not a folder"):
        load_library([tmp_path / "none"])


def test_folders_add_to_the_library_and_an_id_is_used_once(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(toml(itbs()))
    assert load_library([tmp_path, LIBRARY]).keys() == {*PINNED, "x"}
    (tmp_path / "itbs600.toml").write_text((LIBRARY / "itbs600.toml").read_text())
    with pytest.raises(ProtocolFileError, match=r"id is 'itbs600'; allowed is an id not used in"):
        load_library([tmp_path])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        # A public library: 10 Hz, 100 pulses a train, 20 s off, "37 min"; it lasts 15 min.
        (
            {"pulses_per_burst": 1, "interval_us": 0, "burst_period_us": 100_000,
             "bursts_per_train": 100, "train_period_us": 30_000_000, "trains": 30, "pulses": 3000,
             "span_us": 879_900_000, "cycle_us": 2_220_000_000},
            "cycle_us is 2220000000; allowed is 900000000",
        ),
        # The same library: 30 trains of 20 theta-burst pulses, "9 min"; it lasts 5 min.
        (
            {"pulses_per_burst": 2, "trains": 30, "pct_mt": 80, "pulses": 600,
             "span_us": 291_820_000, "cycle_us": 540_000_000},
            "cycle_us is 540000000; allowed is 300000000",
        ),
        # The same with real bursts of three: 900 pulses, not 600.
        (
            {"trains": 30, "pct_mt": 80, "pulses": 600, "span_us": 291_840_000,
             "cycle_us": 300_000_000},
            "pulses is 600; allowed is 900",
        ),
        # 26 s of off-time taken for the gap between pulses: the train period comes out as 29.9 s.
        (
            {"pulses_per_burst": 1, "interval_us": 0, "burst_period_us": 100_000,
             "bursts_per_train": 40, "train_period_us": 29_900_000, "trains": 75, "pulses": 3000,
             "span_us": 2_223_900_000, "cycle_us": 2_250_000_000},
            "span_us is 2223900000; allowed is 2216500000",
        ),
    ],
)  # fmt: skip
def test_wrong_protocols_of_public_libraries_fail_their_self_check(
    changes: Table, named: str, load: Callable[[Table], Protocol]
) -> None:
    with pytest.raises(ProtocolFileError, match=named):
        load(itbs(**changes))


# --- the commands ---


TERMINAL = {"COLUMNS": "100"}


def run(*arguments: str) -> str:
    return CliRunner(env=TERMINAL).invoke(app, arguments, catch_exceptions=False).stdout


def refused(*arguments: str) -> tuple[CliError, str]:
    result = CliRunner(env=TERMINAL).invoke(app, arguments)
    assert isinstance(result.exception, CliError)
    return result.exception, result.stdout


def test_list_shows_every_protocol_with_its_length() -> None:
    lines = run("list").splitlines()[1:]
    assert [line.split()[0] for line in lines] == sorted(PINNED)
    assert "37:04" in next(line for line in lines if line.startswith("hf10-37"))
    assert [item["pulses"] for item in json.loads(run("list", "--json"))] == [
        PINNED[key][7] for key in sorted(PINNED)
    ]


def test_show_gives_both_readings_and_what_mixing_them_up_would_do() -> None:
    text = run("show", "hf10-37")
    for part in ("26.000 s", "26.100 s", "30.000 s", "36:57", "37:04", "37:30", "no clinician"):
        assert part in text


def test_show_with_a_threshold_prints_the_plan_and_elides_the_middle() -> None:
    text = run("show", "hf10-37", "--mt", "50")
    assert "60 %MSO" in text
    assert "(65 more)" in text
    assert "2961-3000" in text
    assert "more)" not in run("show", "hf10-37", "--mt", "50", "--all")
    plan = json.loads(run("show", "hf10-37", "--mt", "50", "--json"))["plan"]
    assert plan["hash"] in text
    assert (plan["mso"], plan["pulses"], len(plan["trains"])) == (60, 3000, 75)


def test_show_refuses_in_one_sentence_with_the_right_exit_status() -> None:
    unknown, _ = refused("show", "nope")
    assert (unknown.code, unknown.exit_status) == ("unknown-protocol", 1)
    assert "ctbs600, hf10-19" in unknown.sentence
    threshold, _ = refused("show", "itbs600", "--mt", "nan")
    assert (threshold.code, threshold.exit_status) == ("motor-threshold", 1)
    too_much, _ = refused("show", "itbs600", "--mt", "95")
    assert (too_much.code, too_much.exit_status) == ("dose-not-reachable", 16)
    no_file, _ = refused("show", "./none.toml")
    assert no_file.code == "protocol-file"


def test_text_in_a_file_is_shown_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(toml(itbs(title="[bold]:coil:[/bold]")))
    assert "[bold]:coil:[/bold]" in run("show", str(path))


def test_check_passes_the_library_and_right_files(tmp_path: Path) -> None:
    assert [line.split()[0] for line in run("check").splitlines()] == ["ok"] * len(PINNED)
    path = tmp_path / "x.toml"
    path.write_text(toml(itbs()))
    assert run("check", "itbs600", str(path)).count("ok ") == 2
    assert json.loads(run("check", str(path), "--json")) == [
        {"file": str(path), "ok": True, "problem": ""}
    ]


CTBS: Table = {"bursts_per_train": 200, "trains": 1, "train_period_us": 40_000_000,
               "span_us": 39_840_000, "cycle_us": 40_000_000, "pct_mt": 80}  # fmt: skip
WHY: Table = {"reason": "r"}


@pytest.mark.parametrize(
    ("name", "table", "why"),
    [
        ("x", itbs(pulses=601), "pulses is 601"),
        ("itbs600", itbs(id="itbs600"), "already used in the library"),
        ("x", itbs(**CTBS), "pulses_60s_max is missing; the pattern needs 600"),
        (
            "x",
            itbs(**CTBS, exceeds={"pulses_60s_max": 600, "train_us_max": 40_000_001, **WHY}),
            "train_us_max is 40000001; the pattern needs 40000000",
        ),
        (
            "x",
            itbs(exceeds={"session_pulses_max": 4000, **WHY}),
            "session_pulses_max is 4000; the pattern needs no more than the general limit",
        ),
        ("x", itbs(pct_mt=121), "mt_max_pct is missing; the pattern needs 121"),
        (
            "x",
            itbs(**CTBS | {"pct_mt": 81}, exceeds={"pulses_60s_max": 600, **WHY}),
            "beyond_table_us_max is missing; the pattern needs 40000000",
        ),
    ],
)
def test_check_names_what_is_wrong_missing_or_superfluous(
    name: str, table: Table, why: str, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.toml"
    path.write_text(toml(table))
    error, printed = refused("check", "ctbs600", str(path))
    assert (error.code, error.exit_status) == ("protocol-check-failed", 1)
    ok, failed = printed.splitlines()
    assert ok.startswith("ok ")
    assert failed.startswith("FAILED")
    assert why in failed
