"""What a person is told when something is wrong, and the client's deadlines."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cli import START, until
from tests.fakes.tmsd import FakeTmsd
from tmsctl.cli import client as client_module
from tmsctl.cli.client import Client
from tmsctl.cli.errors import CliError


def test_without_tmsd_one_sentence_says_how_to_start_it(tmsctl: Any) -> None:
    status, out, err = tmsctl("status")
    assert (status, out) == (2, "")
    assert err.startswith("tmsctl: tmsd is not running: nothing listens at ")
    assert "tmsd --config FILE" in err
    assert err.endswith("[tmsd-not-running]\n")
    assert err.count("\n") == 1


def test_with_json_the_error_is_also_an_object_on_standard_output(tmsctl: Any) -> None:
    status, out, _ = tmsctl("status", "--json")
    error = json.loads(out)["error"]
    assert (error["code"], error["exit"], status) == ("tmsd-not-running", 2, 2)


@pytest.mark.parametrize(
    "line", ["session start", "sesion", "session start --mt x", "session list --limit 0"]
)
def test_a_usage_error_is_one_line_and_exit_status_1(tmsctl: Any, line: str) -> None:
    status, _, err = tmsctl(*line.split())
    assert status == 1
    assert err.startswith("tmsctl: ")
    assert err.count("\n") == 1
    assert err.endswith(". See `tmsctl --help`. [usage]\n")


@pytest.mark.parametrize("exit_bit", [1, 2, 4, 8, 16])
def test_a_refusal_of_tmsd_keeps_its_sentence_code_and_status(
    tmsd: FakeTmsd, tmsctl: Any, exit_bit: int
) -> None:
    tmsd.refusals["session.prepare"] = {
        "sentence": "71 %MSO is above 70 %MSO.", "code": "mso-max", "exit": exit_bit,
        "next": "Give less.",
    }  # fmt: skip
    status, _, err = tmsctl(*START, "--yes")
    assert status == exit_bit
    assert err == "tmsctl: 71 %MSO is above 70 %MSO. Give less. [mso-max]\n"


def test_a_silent_tmsd_is_given_up_after_the_deadline(tmsd: FakeTmsd, runtime: Path) -> None:
    tmsd.silent.add("status.get")
    with Client(runtime) as client:
        with pytest.raises(CliError) as caught:
            client.call("status.get", within_s=0.05)
        assert (caught.value.code, caught.value.exit_status) == ("tmsd-silent", 2)
        assert client.call("session.list")["sessions"]


def test_notes_and_answers_do_not_get_in_each_others_way(tmsd: FakeTmsd, runtime: Path) -> None:
    with Client(runtime) as client:
        client.call("status.subscribe")
        tmsd.trip("coil-hot", "too hot")
        assert client.call("status.get")["guard"]["state"] == "safe"
        until(lambda: any(note["method"] == "event" for note in client.notes(0.1)))
        until(lambda: any(note["method"] == "status" for note in client.notes(0.1)))


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b"x" * 200])
def test_what_is_not_json_rpc_is_a_communication_error(
    runtime: Path, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MESSAGE_SIZE_MAX", 100)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(runtime / "tmsd.sock"))
        listener.listen()
        with Client(runtime) as client:
            other, _ = listener.accept()
            with other:
                other.sendall(line)
                with pytest.raises(CliError) as caught:
                    client.call("status.get")
    assert (caught.value.code, caught.value.exit_status) == ("tmsd-garbled", 4)


def test_a_tmsd_that_goes_away_ends_the_view_with_a_sentence(tmsd: FakeTmsd, runtime: Path) -> None:
    with Client(runtime) as client:
        client.call("status.subscribe")
        tmsd.__exit__(None, None, None)
        with pytest.raises(CliError) as caught:
            until(lambda: client.notes(0.1) and False)
    assert caught.value.code == "tmsd-gone"
