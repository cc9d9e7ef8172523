"""The control socket's requests, without a socket: what is done, what is counted, what refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from emulator_host import Host

from firmware_protocol.tmslink import messages as m
from sim_device.control import RULES_MAX, answer

SECOND = 1_000_000


def said(host: Host, **request: Any) -> dict[str, Any]:
    """The answer to one request, as it goes over the socket."""
    line = json.dumps(request).encode()
    return json.loads(json.dumps(answer(line, host.device, host.now)))


def connected() -> Host:
    host = Host()
    host.hello()
    host.live(3 * SECOND)
    return host


def test_a_fault_set_without_a_trigger_strikes_at_once_and_is_counted() -> None:
    host = connected()
    assert said(host, do="set", kind="sensor_wrong", value=123, for_s=0.5) == {"ok": True}
    host.live(100_000)
    assert host.all(m.Status)[-1].surface_dc == 123
    assert said(host, do="counts")["counts"] == {"sensor_wrong": 1}
    host.live(500_000)
    assert host.all(m.Status)[-1].surface_dc != 123
    assert said(host, do="list")["faults"] == []


@pytest.mark.parametrize(
    ("trigger", "nth"), [("at_command", 2), ("at_frame", 2), ("at_s", 0.05), ("at_pulse", 2)]
)
def test_times_and_counts_of_a_fault_begin_when_it_is_set(trigger: str, nth: float) -> None:
    kind = {"at_frame": "rx_drop_frame", "at_pulse": "missing_pulse"}.get(trigger, "refuse")
    host = Host().armed()
    host.ask(host.train(lease_id=1, bursts=3))
    host.live(SECOND)
    assert said(host, do="set", kind=kind, times=1, **{trigger: nth}) == {"ok": True}
    if trigger == "at_s":
        host.live(60_000)
    elif trigger != "at_pulse":
        host.ask(m.Tighten(100, 10_000, 1_000, 120_000_000, 410))
        assert host.device.faults.counts[kind] == 0
    host.ask(host.train(lease_id=2, bursts=3))
    host.live(SECOND)
    assert host.device.faults.counts[kind] == 1
    assert len(host.pulses_at()) == (5 if trigger == "at_pulse" else 3)


def test_what_is_set_is_listed_with_how_far_it_has_come() -> None:
    host = connected()
    said(host, do="set", kind="late", value=5, for_s=9)
    said(host, do="set", kind="coil_swapped", value=3)
    said(host, do="set", kind="missing_pulse", probability=0.5, times=7)
    host.live(50_000)
    late, swapped, missing = said(host, do="list")["faults"]
    assert (late["kind"], late["value"], late["for_s"], late["at_s"]) == ("late", 5, 9, 3)
    assert late["struck"] > 0
    assert missing == {"kind": "missing_pulse", "probability": 0.5, "times": 7, "struck": 0}
    assert (swapped["kind"], swapped["in_force"], swapped["struck"]) == ("coil_swapped", True, 1)


def test_clear_ends_one_kind_or_all() -> None:
    host = connected()
    for kind in ("late", "coil_swapped", "clock_drift_ppm"):
        said(host, do="set", kind=kind)
    host.live(50_000)
    assert said(host, do="clear", kind="coil_swapped") == {"ok": True}
    host.live(50_000)
    assert {fault["kind"] for fault in said(host, do="list")["faults"]} == {
        "late", "clock_drift_ppm"
    }  # fmt: skip
    assert said(host, do="clear") == {"ok": True}
    host.live(50_000)
    assert said(host, do="list")["faults"] == []
    assert said(host, do="counts")["counts"]["coil_swapped"] == 1


def test_counts_tell_what_could_be_counted_up_to_now() -> None:
    host = Host().armed()
    host.ask(host.train(bursts=3))
    host.live(SECOND)
    assert said(host, do="counts") == {"ok": True, "counts": {}, "pulses": 3, "commands": 2}


def test_a_person_at_the_panel_turns_the_knob_and_presses_stop() -> None:
    host = Host().armed()
    for button, mso in (("up", 61), ("down", 60), ("down", 59)):
        assert said(host, do="press", button=button) == {"ok": True}
        host.live(20_000)
        assert host.all(m.Status)[-1].mso_pct == mso
    assert said(host, do="press", button="stop") == {"ok": True}
    host.live(20_000)
    assert (host.state, host.cause) == (m.State.LATCHED, m.Cause.PANEL)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "no JSON"),
        (b"hello", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "a request is"),
        (b"3", "a request is"),
        (b"{}", "a request is"),
        (b'{"do": "dance"}', "a request is"),
        (b'{"do": ["set"]}', "a request is"),
        (b'{"do": {"a": 1}}', "a request is"),
        (b'{"do": "set"}', "kind is None"),
        (b'{"do": "set", "kind": "loud"}', "'loud'"),
        (b'{"do": "set", "kind": ["late"]}', "kind is"),
        (b'{"do": "set", "kind": "late", "value": NaN}', "value is nan"),
        (b'{"do": "set", "kind": "late", "value": 1e999}', "value is inf"),
        (b'{"do": "set", "kind": "late", "value": true}', "value is True"),
        (b'{"do": "set", "kind": "late", "value": null}', "value is None"),
        (b'{"do": "set", "kind": "late", "for_s": -1}', "for_s is -1"),
        (b'{"do": "set", "kind": "late", "at_s": 1, "at_frame": 1}', "exactly one of"),
        (b'{"do": "set", "kind": "late", "colour": 1}', "'colour'"),
        (b'{"do": "clear", "kind": "loud"}', "'loud'"),
        (b'{"do": "clear", "kind": null}', "kind is None"),
        (b'{"do": "clear", "kinds": "late"}', "'kinds'"),
        (b'{"do": "list", "kind": "late"}', "'kind'"),
        (b'{"do": "counts", "of": 1}', "'of'"),
        (b'{"do": "press"}', "button is None"),
        (b'{"do": "press", "button": ["up"]}', "button is"),
        (b'{"do": "press", "button": "up", "hard": true}', "'hard'"),
    ],
)
def test_a_wrong_request_is_refused_in_one_sentence_and_changes_nothing(
    line: bytes, words: str
) -> None:
    host = connected()
    refused = answer(line, host.device, host.now)
    assert refused["ok"] is False
    assert words in str(refused["error"])
    assert "\n" not in str(refused["error"])
    assert host.device.faults.set_rules() == []


def test_there_is_a_bound_to_how_many_faults_are_set() -> None:
    host = connected()
    for _ in range(RULES_MAX):
        assert said(host, do="set", kind="missing_pulse")["ok"]
    assert "clear some" in said(host, do="set", kind="missing_pulse")["error"]
    assert said(host, do="clear")["ok"]
    assert said(host, do="set", kind="missing_pulse")["ok"]
