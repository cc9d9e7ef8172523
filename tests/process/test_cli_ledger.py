"""`tmsctl ledger` and `tmsctl selftest`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cli import DEADLINE_S, spawn, terminal, until
from tests.fakes.tmsd import FakeTmsd

WHO = ("--operator", "AB", "--reason", "read on its display")
RESOLVE = ("ledger", "resolve", "7", "3", "--delivered", "15", *WHO)
ACCEPT = ("ledger", "accept-counter", "TR000001", *WHO)
CONFIRM = ("ledger", "confirm-clock", "--operator", "AB")


def test_the_list_shows_what_a_person_has_to_put_right(tmsd: FakeTmsd, tmsctl: Any) -> None:
    status, out, _ = tmsctl("ledger", "list")
    assert status == 0
    for part in (
        "12 to 30", "15", "no outcome was told", "tmsctl ledger resolve SESSION BLOCK",
        "Counter of TR000001: shows 1007, the ledger has 1000 to 1003; DISAGREES",
        "tmsctl ledger accept-counter", "Computer's time: 2030-01-02T03:04:05",
        "NOT CONFIRMED: The computer was started. Next: tmsctl ledger confirm-clock",
    ):  # fmt: skip
        assert part in out


def test_a_ledger_in_order_asks_for_nothing(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.ledger["unresolved"] = []
    tmsd.ledger["counter"] |= {"shown": 1000, "low": 1000, "high": 1000, "agrees": True}
    tmsd.ledger["clock"] |= {"confirmed": True, "confirmed_by": "AB", "confirmed_at": "noon"}
    out = tmsctl("ledger", "list")[1]
    for part in ("No pulse is unknown.", "shows 1000, the ledger has 1000; agrees",
                 "Last confirmed:  noon by AB"):  # fmt: skip
        assert part in out
    assert "tmsctl ledger" not in out


def test_the_dose_of_a_patient_is_shown_when_asked_for(tmsd: FakeTmsd, tmsctl: Any) -> None:
    out = tmsctl("ledger", "list", "--patient", "P001")[1]
    assert (
        "Patient P001: 600 pulses in 24 h, 1800 in 7 days; 1 h 30 min since the last pulse." in out
    )
    assert tmsd.called("ledger.list") == [{"patient": "P001"}]


def test_without_a_stimulator_the_list_says_so(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.ledger["counter"] = None
    assert "Counter: no stimulator answers." in tmsctl("ledger", "list")[1]
    assert json.loads(tmsctl("ledger", "list", "--json")[1]) == tmsd.ledger


@pytest.mark.parametrize(
    ("line", "method", "params", "words"),
    [
        (
            RESOLVE,
            "ledger.resolve",
            {"session": 7, "block": 3, "delivered": 15, "operator": "AB", "reason": WHO[3]},
            "Block 3 of session 7 counts 15 pulses.",
        ),
        (
            ACCEPT,
            "ledger.accept_counter",
            {"serial": "TR000001", "operator": "AB", "reason": WHO[3]},
            "shows 1007, the ledger has 1007; agrees.",
        ),
        (
            CONFIRM,
            "ledger.confirm_clock",
            {"operator": "AB", "time": "2030-01-02T03:04:05.000000Z"},
            "The clock is confirmed.",
        ),
    ],
)
def test_a_correction_needs_a_persons_yes(
    tmsd: FakeTmsd, tmsctl: Any, line: tuple[str, ...], method: str, params: Any, words: str
) -> None:
    for more in ((), ("--json",)):
        status, _, err = tmsctl(*line, *more)
        assert (status, tmsd.called(method)) == (1, [])
        assert "repeat the command with --yes. [no-confirmation]" in err
    status, out, _ = tmsctl(*line, "--yes")
    assert (status, tmsd.called(method)) == (0, [params])
    assert out.endswith(f"{words}\n")


def test_a_correction_as_json_is_one_object(tmsd: FakeTmsd, tmsctl: Any) -> None:
    answers = [json.loads(tmsctl(*line, "--yes", "--json")[1]) for line in (RESOLVE, CONFIRM)]
    assert answers[0] == {"session": 7, "block": 3, "delivered": 15}
    assert answers[1]["confirmed"] is True


@pytest.mark.parametrize(
    ("line", "method", "shown"),
    [
        (RESOLVE, "ledger.resolve", "Were 15 pulses of it delivered?"),
        (ACCEPT, "ledger.accept_counter", "Go on from what the device shows?"),
        (CONFIRM, "ledger.confirm_clock", "Is the computer's time right?"),
    ],
)
@pytest.mark.parametrize(("answer", "calls"), [("y\n", 1), ("n\n", 0)])
def test_on_a_terminal_it_is_shown_and_asked(
    tmsd: FakeTmsd,
    runtime: Path,
    line: tuple[str, ...],
    method: str,
    shown: str,
    answer: str,
    calls: int,
) -> None:
    with terminal(runtime, *line) as person:
        person.until(shown, "[y/N]")
        person.type(answer)
        assert person.process.wait(DEADLINE_S) == (0 if calls else 1)
    assert len(tmsd.called(method)) == calls


@pytest.mark.parametrize(
    "line",
    [
        ("ledger", "resolve", "7", "3", "--delivered", "-1", *WHO),
        ("ledger", "resolve", "7", "x", "--delivered", "1", *WHO),
        ("ledger", "resolve", "7", "3", *WHO),
        ("ledger", "accept-counter", *WHO),
        ("ledger", "confirm-clock"),
    ],
)
def test_a_wrong_command_changes_nothing(
    tmsd: FakeTmsd, tmsctl: Any, line: tuple[str, ...]
) -> None:
    status, _, err = tmsctl(*line, "--yes")
    assert (status, err.count("\n"), tmsd.calls) == (1, 1, [])
    assert err.endswith("[usage]\n")


# -- the self-test ---------------------------------------------------------------------------------


def test_the_four_proofs_are_one_line_each(tmsd: FakeTmsd, tmsctl: Any) -> None:
    status, out, _ = tmsctl("selftest")
    assert status == 0
    lines = out.splitlines()
    for line, name in zip(
        lines, ("dead-man", "STOP", "damaged frame", "ledger write"), strict=False
    ):
        assert line.startswith(f"✓ ok  {name} ")
    assert lines[4:] == [tmsd.self_test["detail"], "The self-test has passed."]


def test_it_ends_when_a_session_can_follow(tmsd: FakeTmsd, runtime: Path) -> None:
    tmsd.status["self_test"]["state"] = "running"
    with spawn(runtime, "selftest") as command:
        until(lambda: len(tmsd.called("status.get")) > 2)
        tmsd.status["self_test"]["state"] = "passed"
        assert command.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("proof", ["dead_man", "stop", "bad_frame", "ledger"])
def test_one_proof_that_fails_is_exit_status_32(tmsd: FakeTmsd, tmsctl: Any, proof: str) -> None:
    tmsd.self_test |= {proof: False, "passed": False}
    status, out, _ = tmsctl("selftest")
    assert status == 32
    assert (out.count("✗ NO"), out.count("✓ ok")) == (1, 3)
    assert "THE SELF-TEST HAS FAILED." in out
    status, out, _ = tmsctl("selftest", "--json")
    assert (status, json.loads(out)) == (32, tmsd.self_test)


def test_a_barrier_that_the_device_does_not_have_is_never_shown_as_proven(
    tmsd: FakeTmsd, tmsctl: Any
) -> None:
    tmsd.self_test |= {"dead_man": None, "bad_frame": None}
    status, out, _ = tmsctl("selftest")
    assert (status, out.count("✓ ok"), out.count("- none")) == (0, 2, 2)
    assert "- none dead-man       this device has none" in out


def test_the_counter_of_a_device_without_a_serial_number_is_named_too(
    tmsd: FakeTmsd, tmsctl: Any
) -> None:
    assert tmsctl("ledger", "list")[1].count(f"Counter of {tmsd.ledger['counter']['serial']}: ")
    tmsd.ledger["counter"]["serial"] = ""
    assert "Counter of the stimulator: shows" in tmsctl("ledger", "list")[1]


def test_a_self_test_that_cannot_be_run_is_an_error(tmsd: FakeTmsd, tmsctl: Any) -> None:
    tmsd.refusals["selftest.run"] = {
        "sentence": "Session 1 is running.", "code": "session-open", "exit": 1, "next": "Stop it.",
    }  # fmt: skip
    status, _, err = tmsctl("selftest")
    assert (status, err) == (1, "tmsctl: Session 1 is running. Stop it. [session-open]\n")
