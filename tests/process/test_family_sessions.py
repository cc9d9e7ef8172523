"""Each stimulator as a person meets it: tmssim on a terminal, tmsd and its guard, `tmsctl`.

One whole session of each, side by side. The ground truth, the record and the ledger must agree.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import pytest

from tests.process.system import NUISANCES, Json, System, system, until
from tests.process.test_whole_system import is_refused, start_words

pytestmark = pytest.mark.timeout(180)

PATTERN: Final = """\
id = "{id}"
title = "{id}, for tests"
target = "none"
pct_mt = 80
mt_basis = "resting MT"
pulses_per_burst = {burst}
interval_us = {interval}
burst_period_us = {period}
bursts_per_train = {bursts}
train_period_us = {train}
trains = {trains}
pulses = {pulses}
span_us = {span}
cycle_us = {cycle}
source = "Made for tests: short."
evidence = "from memory, unverified"
reviewer = ""
"""


def pattern(
    name: str, trains: int, train: int, bursts: int = 1, period: int = 100_000,
    burst: int = 1, interval: int = 0,
) -> str:  # fmt: skip
    """The protocol file of equal trains of equal bursts; times in microseconds."""
    span = (trains - 1) * train + (bursts - 1) * period + (burst - 1) * interval
    return PATTERN.format(
        id=name, trains=trains, train=train, bursts=bursts, period=period, burst=burst,
        interval=interval, pulses=trains * bursts * burst, span=span, cycle=trains * train,
    )  # fmt: skip


PATTERNS: Final = {
    "ten-hz": pattern("ten-hz", trains=2, train=6_500_000, bursts=10),
    "itbs": pattern("itbs", 2, 9_100_000, bursts=5, period=200_000, burst=3, interval=20_000),
    "single": pattern("single", trains=1, train=12_000_000, bursts=4, period=2_500_000),
}


class Case(NamedTuple):
    """One model, what it delivers, and what it is not able to."""

    model: str
    options: str
    protocol: str
    pulses: int
    gaps_us: tuple[int, ...]  # every planned distance between two neighbours
    barriers: tuple[int, int]  # proofs of the self-test that hold, and that it has no barrier for
    refused: str = ""
    code: str = ""
    sentence: str = ""  # that a person then reads


CASES: Final = (
    Case(
        "magstim-rapid", '[device.options]\nunlock = "0123-456789ab-cd"\nsupply = 240\n',
        "ten-hz", 20, (100_000, 5_600_000), (4, 0),
        "itbs", "device-cannot",
        "tmsctl: The guard refuses: a Rapid² times no bursts: theta burst is not in its serial "
        "protocol. Choose a protocol that this stimulator can deliver; nothing was armed. "
        "[device-cannot]",
    ),
    Case(
        "magpro-x100", "", "itbs", 30, (20_000, 160_000, 8_260_000), (2, 2),
    ),
    Case(
        "magstim-200", "", "single", 4, (2_500_000,), (4, 0),
        "ten-hz", "recharge",
        "tmsctl: The guard refuses: 100000 us between pulses, at least 2000000 needed to recharge "
        "at 40 %MSO. This stimulator needs longer between pulses: choose a protocol with fewer "
        "pulses a second, or where that is allowed a lower intensity. [recharge]",
    ),
    Case(
        "duomag-xt", "[device.options]\nadc_at_0c = 20\nadc_per_100c = 200\n",
        "single", 4, (2_500_000,), (2, 2),
        "itbs", "device-cannot",
        "tmsctl: The guard refuses: a DuoMAG is triggered pulse by pulse. Choose a protocol that "
        "this stimulator can deliver; nothing was armed. [device-cannot]",
    ),
)  # fmt: skip

EARLY_US: Final = 1_000
"""Of a burst or train that the device times."""
HOST_TIMED_US: Final = 250_000
"""After a pulse of the host's that came late the next one comes sooner. The guard sends none that
is 5 ms late, which is proved in virtual time; here the emulator too may be away when it comes."""


def delivered(whole: System, protocol: str) -> tuple[Json, str]:
    """The record of one session that `tmsctl` ran to its end, and all that was printed.

    What this computer trips by being away is acknowledged and resumed, as a technician would.
    """
    words: tuple[str, ...] = start_words(protocol, "50", whole.new_patient())
    said = ""
    while True:
        status, out, err = whole.tmsctl(*words)
        said += out + err
        assert whole.call("session.list")["sessions"], said
        record = whole.call("session.show", session=None)
        if record["state"] == "complete":
            assert status == 0, said
            return record, said
        assert record["state"] == "paused", said
        whole.recoveries += 1
        assert record["end_code"] is None
        assert any(f"{code}: " in said for code in NUISANCES), said
        assert whole.recoveries < 10, said
        whole.make_disarmed()
        words = ("session", "resume")


def one_family(case: Case) -> None:
    with system(model=case.model) as whole:
        for name, text in PATTERNS.items():
            (whole.folder / "protocols" / f"{name}.toml").write_text(text)
        whole.write_config(str(whole.port), case.options)
        whole.start()
        whole.confirm_clock()
        if case.model == "magstim-rapid":
            examined(whole)
        proven(whole, *case.barriers)
        record, said = delivered(whole, case.protocol)
        agrees(whole, case, record)
        assert f"{record['delivered']} delivered of {case.pulses} planned" in said
        if case.refused:
            at = len(whole.truth.pulses())
            armed = len(whole.truth.events("arm"))
            words = start_words(case.refused, "50", whole.new_patient())
            sentence = is_refused(whole, words, case.code, 16)
            assert sentence == case.sentence
            assert (len(whole.truth.pulses()), len(whole.truth.events("arm"))) == (at, armed)


def examined(whole: System) -> None:
    """`tmsctl doctor` beside a guard that has the port: it reads only, and the unit hears nothing
    but the guard."""
    status, out, err = whole.tmsctl("doctor")
    assert (status, err) == (0, ""), out
    for words in (
        f"✓ ok    config    {whole.config} can be used.",
        "! WARN  driver    magstim-rapid is EXPERIMENTAL: verified on no hardware",
        "! WARN  stopping  when the software fails, this device disarms by itself only after about",
        "- note  options   presumed: super = 0",
        f"✓ ok    port      {whole.port} is in use by tms-guard, as it should be.",
        "! WARN  trigger   opening the port may raise RTS for a moment",
        "✓ ok    guard     answers; it is IDLE.",
        "✓ ok    device    Rapid answers; it is idle.",
    ):
        assert words in out, out
    assert "0123-456789ab-cd" not in out
    assert [line.event for line in whole.truth.lines()] == ["clock", "remote"]
    assert whole.status()["device"]["connected"]


def proven(whole: System, holds: int, lacks: int) -> None:
    """The self-test, which says where a device has no such barrier."""
    for _ in range(3):
        status, out, _ = whole.tmsctl("selftest")
        if status == 0:
            break
        whole.make_disarmed()
    assert (status, out.count("✓ ok"), out.count("- none")) == (0, holds, lacks), out
    assert whole.truth.pulses() == []
    until(lambda: whole.status()["self_test"]["state"] == "passed", "its result is known")
    whole.until_disarmed("idle")


def agrees(whole: System, case: Case, record: Json) -> None:
    """Ground truth, record and ledger, pulse for pulse."""
    pulses = whole.truth.pulses()
    whole.until_device_disarmed()
    counted = record["delivered"] + record["unknown"]
    told = whole.call("ledger.list", patient=record["patient"])
    assert told["dose"]["day_pulses"] == counted >= len(pulses)
    assert {pulse.says["mso"] for pulse in pulses} == {record["mso"]} == {40}
    gaps = [after.at - before.at for before, after in itertools.pairwise(pulses)]
    assert min(gaps) >= min(case.gaps_us) - (
        EARLY_US if len(case.gaps_us) > 1 else HOST_TIMED_US
    ), gaps
    if whole.recoveries or record["skipped"]:
        print(f"{case.model}: {whole.recoveries} recoveries, {record['skipped']} skipped")
        return
    assert counted == len(pulses) == case.pulses == record["planned"]
    assert {min(case.gaps_us, key=lambda planned: abs(gap - planned)) for gap in gaps} == {
        *case.gaps_us
    }, gaps
    device = record["device"]
    assert device["count_after"] - device["count_before"] == case.pulses


def test_each_stimulator_runs_a_whole_session_and_what_it_cannot_is_refused_in_a_sentence() -> None:
    with ThreadPoolExecutor(len(CASES)) as pool:
        ended = [pool.submit(one_family, case) for case in CASES]
        for each in ended:
            each.result()
