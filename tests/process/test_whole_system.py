"""The real programs together: whole sessions, deaths at random instants, refusals.

Judged by the ground truth of the emulator. A limit of time is a limit between two instants of
CLOCK_BOOTTIME, the pulse's own and that of the deed; how fast a test runs decides nothing.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import signal
import sqlite3
import subprocess
import threading
import tty
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import programs
from tests.process.system import (
    DEADLINE_S,
    NUISANCES,
    REASON,
    Cable,
    Run,
    System,
    boot_us,
    system,
    until,
)
from tmsctl.cli import stop
from tmsctl.cli.client import Client
from tmsctl.cli.errors import CliError

pytestmark = pytest.mark.timeout(180)  # a session of 40 s, on a machine that does other things too

LOST_BEATS_US = 55_000  # 50 ms, and 5 ms for the estimate of the device's clock
STOPPED_US = 60_000  # the last beat before STOP still permits 50 ms
SERVICE_LOST_US = 1_100_000  # noticed within 1 s, then as STOP


# -- a whole session -------------------------------------------------------------------------------


def journal(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def test_a_whole_session_ends_with_plan_record_counter_and_ground_truth_equal() -> None:
    with system() as whole:
        whole.start()
        run = whole.start_session(protocol="ctbs600")
        whole.until_complete()
        record, pulses = whole.dose_is_exact(run), whole.truth.pulses()
        assert record["delivered"] == 600 - record["skipped"]
        assert record["skipped"] == 0 or whole.recoveries
        assert record["device"]["count_before"] == 0
        assert record["device"]["count_after"] == record["delivered"] == len(pulses)
        assert (record["state"], record["planned"], record["end_code"]) == (
            "complete", 600, "complete",
        )  # fmt: skip
        refused = [block for block in record["blocks"] if block["outcome"] != "applied"]
        assert not refused or whole.recoveries
        assert all((block["outcome"], block["delivered"]) == ("refused", 0) for block in refused)
        gaps = [after.at - before.at for before, after in itertools.pairwise(pulses)]
        assert min(gaps) >= 19_000  # 20 ms planned; the device itself may be 1 ms late

        path = whole.state / "journal.sqlite"
        assert journal(path, "PRAGMA integrity_check") == [("ok",)]
        assert journal(path, "SELECT sum(delivered), sum(unknown) FROM outcomes") == [
            (len(pulses), 0)
        ]
        told = journal(path, "SELECT device_us, pulse_count FROM pulses ORDER BY id")
        left = [(line.says["t_us"], line.says["count"]) for line in pulses]
        if whole.recoveries:  # a guard that was kept waiting lost reports; the count above did not
            left = [pulse for pulse in left if pulse in told]
        assert told == left
        places = [place for (place,) in journal(path, "SELECT place FROM pulses ORDER BY id")]
        assert places == sorted(set(places))
        *refused_starts, last = journal(path, "SELECT state FROM session_ends ORDER BY session")
        assert last == ("complete",)
        assert set(refused_starts) <= {("stopped",)}  # a guard that was kept waiting would not arm
        assert len(refused_starts) <= whole.recoveries


# -- deaths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [2, 22])
def test_a_killed_guard_leaves_no_pulse_and_comes_back_disarmed_and_latched(seed: int) -> None:
    with system(seed) as whole:
        whole.start()
        run, pid = whole.delivering(), whole.guard_pid
        at = whole.signal(pid, signal.SIGKILL)
        whole.until_device_disarmed()
        whole.until_new_guard(pid)
        whole.until_disarmed("safe")
        whole.no_pulse_after(at, LOST_BEATS_US)
        until(lambda: whole.causes() == ["unclean-start"], "the guard says why")
        assert whole.session_state() == "interrupted"
        whole.dose_covers(run)
        a_person_resolves(whole, run)
        whole.acknowledge()
        gives_no_pulse_yet(whole)


def a_person_resolves(whole: System, run: Run) -> None:
    """What nobody knew counts as the device's counter says, once a person has said so."""
    for block in whole.call("ledger.list")["unresolved"]:
        status, out, err = whole.tmsctl(
            "ledger", "resolve", str(block["session"]), str(block["block"]), "--operator", "AB",
            "--delivered", str(block["suggests"]), "--reason", "the device's counter", "--yes",
        )  # fmt: skip
        assert (status, err) == (0, ""), out
    record = whole.call("session.show", session=run.session)
    assert record["unknown"] == 0
    assert record["delivered"] + record["resolved"] == whole.given(run)
    assert whole.call("ledger.list")["counter"]["agrees"]


def gives_no_pulse_yet(whole: System) -> None:
    """A session begins, but a new guard does not know the pulses of the minute before it."""
    run = whole.start_session()

    def waits() -> bool:
        whole.keep_running()
        return whole.waiting().startswith("minute-unknown: ")

    until(waits, "it says what it waits for")
    whole.call("session.stop")
    whole.make_idle()
    assert whole.given(run) == 0


def test_a_stopped_guard_leaves_no_pulse_and_trips_when_it_goes_on() -> None:
    with system(seed=3) as whole:
        run = whole.start().delivering()
        pid = whole.guard_pid
        for _ in range(2):
            at = whole.signal(pid, signal.SIGSTOP)
            try:
                until(lambda: whole.status()["guard"]["state"] == "absent", "its absence is seen")
                whole.until_device_disarmed()
            finally:
                whole.signal(pid, signal.SIGCONT)
            whole.until_disarmed("safe")
            whole.no_pulse_after(at, LOST_BEATS_US)
            assert whole.session_state() == "paused"
            whole.dose_is_exact(run)
            whole.acknowledge()
            whole.delivering(run)  # resumed: it goes on
        whole.end_session(run)


def test_a_killed_tmsd_makes_the_guard_stop_and_no_delivered_pulse_is_missing_afterwards() -> None:
    with system(seed=4) as whole:
        whole.start()
        for _ in range(2):
            run = whole.delivering()
            at = whole.kill("tmsd")
            whole.until_logged("stop", after=run.began_at)
            whole.start_tmsd()
            whole.until_disarmed("safe")
            whole.no_pulse_after(at, SERVICE_LOST_US)
            until(whole.causes, "the guard says why")
            whole.is_excused()
            record = whole.dose_is_exact(run)
            assert (record["state"], record["end_code"]) == ("interrupted", "service-restarted")
            whole.acknowledge()
        whole.works_again()


def test_a_stopped_tmsd_makes_the_guard_stop_and_the_session_can_be_resumed() -> None:
    with system(seed=5) as whole:
        run = whole.start().delivering()
        for _ in range(2):
            at = whole.signal(whole.running["tmsd"].pid, signal.SIGSTOP)
            try:
                whole.until_logged("stop", after=at)
                whole.no_pulse_after(at, SERVICE_LOST_US)
            finally:
                whole.running["tmsd"].send_signal(signal.SIGCONT)
            whole.until_disarmed("safe")
            until(whole.causes, "the guard says why")
            whole.is_excused()
            assert whole.session_state() == "paused"
            whole.dose_is_exact(run)
            whole.acknowledge()
            whole.delivering(run)
        whole.end_session(run)


def test_a_killed_stimulator_is_noticed_and_its_next_life_begins_disarmed() -> None:
    with system(seed=6) as whole:
        run = whole.start().delivering()
        at = whole.kill("tmssim")
        until(lambda: whole.status()["device"]["link"].startswith("port-"), "loss is told")
        until(lambda: whole.status()["guard"]["state"] == "safe", "the guard is safe")
        whole.dose_covers(run)
        whole.start_simulator()
        whole.until_disarmed("safe")
        whole.no_pulse_after(at, 0)
        whole.dose_covers(run)
        if whole.session_state() == "paused":
            whole.call("session.stop")
        whole.acknowledge()
        whole.works_again()


def test_a_cable_that_is_pulled_out_leaves_no_pulse_and_the_session_can_be_resumed() -> None:
    with system(seed=7) as whole:
        whole.start_simulator("--tcp", "127.0.0.1:0")
        log = whole.folder / "tmssim.log"
        until(lambda: "ready" in log.read_text(), "the stimulator listens")
        cable = Cable(int(log.read_text().split(":")[-1]))
        try:
            whole.write_config(f"socket://127.0.0.1:{cable.port}")
            whole.start_tmsd()
            whole.until_disarmed("idle")
            run = whole.delivering()
            for _ in range(2):
                cable.cut()
                at = boot_us()
                until(lambda: not whole.status()["device"]["connected"], "the loss is noticed")
                until(lambda: whole.status()["guard"]["state"] == "safe", "the guard is safe")
                cable.plug()
                whole.until_disarmed("safe")
                whole.no_pulse_after(at, LOST_BEATS_US)
                whole.until_device_disarmed()
                assert whole.session_state() == "paused"
                whole.dose_is_exact(run)  # read back: the device kept count
                whole.acknowledge()
                whole.delivering(run)
            whole.end_session(run)
        finally:
            cable.cut()


# -- what people do --------------------------------------------------------------------------------


TRIES = 3  # on a busy machine an answer may come later than a person is let wait for it


def press_stop(whole: System) -> int:
    """By the datagram; CLOCK_BOOTTIME when the guard accepted it."""
    for _ in range(TRIES):
        for stage in stop.press(str(whole.runtime), "test"):
            if stage == stop.ACCEPTED:
                return boot_us()
    pytest.fail("nobody accepted STOP")


def run_stop(whole: System) -> int:
    """By the program, which says every stage."""
    for _ in range(TRIES):
        status, out, err = whole.tmsctl("stop")
        at = boot_us()
        assert err == ""
        if status == 0:
            assert out.splitlines() == [*stop.STAGE_WORDS.values()][:3]
            return at
        assert (status, "USE THE HARDWARE STOP" in out) == (2, True)
    pytest.fail("STOP was never confirmed")


@pytest.mark.parametrize("way", [press_stop, run_stop])
def test_stop_ends_the_session_at_once_and_latches(one: System, way: Any) -> None:
    run = one.delivering()
    before = boot_us()
    at = way(one)
    one.no_pulse_after(one.until_logged("stop", after=before), 20_000)
    one.no_pulse_after(at, STOPPED_US)
    one.until_disarmed("safe")
    one.is_ended(run)


def test_a_session_that_is_ended_by_a_person_gives_no_pulse_any_more(one: System) -> None:
    for _ in range(2):
        run = one.delivering()
        assert one.call("session.stop")["state"] == "stopped"
        at = boot_us()
        one.no_pulse_after(one.until_device_disarmed(), 0)
        one.no_pulse_after(at, STOPPED_US)
        one.is_ended(run)


def test_stop_while_it_charges_lets_no_pulse_out(one: System) -> None:
    run = one.start_session(mt=100.0)  # 80 %MSO: it charges for most of a second
    at = press_stop(one)
    one.no_pulse_after(at, STOPPED_US)
    one.until_disarmed("safe")
    one.is_ended(run)


def test_pause_keeps_the_place_and_resume_goes_on_at_the_next_pulse(one: System) -> None:
    run = one.delivering()
    for _ in range(2):
        assert one.call("session.pause")["state"] == "paused"
        at = boot_us()
        one.no_pulse_after(one.until_device_disarmed(), 0)
        one.no_pulse_after(at, STOPPED_US)
        one.dose_is_exact(run)
        one.until_given(run, one.given(run) + one.random.randint(1, 9))
    one.end_session(run)
    record = one.call("session.show", session=run.session)
    nexts = [block["first_pulse"] + block["delivered"] for block in record["blocks"]]
    firsts = [block["first_pulse"] for block in record["blocks"] if block["delivered"]]
    assert set(firsts) <= {0, *nexts}
    assert max(nexts) == one.given(run) or record["skipped"]


def race(whole: System) -> list[str]:
    """Two clients start at once: the two answers, "" for a start."""
    whole.checks_of_the_day()
    answers: list[str] = []
    gate = threading.Barrier(2)

    def begin(client: Client) -> None:
        order = whole.confirmed(client)
        gate.wait()
        try:
            client.call("session.start", order)
            answers.append("")
        except CliError as error:
            answers.append(error.code)

    with Client(whole.runtime) as first, Client(whole.runtime) as second:
        racers = [threading.Thread(target=begin, args=(client,)) for client in (first, second)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
    return sorted(answers)


def test_of_two_clients_that_race_one_starts_and_the_other_is_told(one: System) -> None:
    before = len(one.call("session.list")["sessions"])
    answers, races = race(one), 1
    while NUISANCES & set(answers) and races < TRIES:
        one.make_idle()
        answers, races = race(one), races + 1
    assert answers == ["", "session-open"]
    assert len(one.call("session.list")["sessions"]) == before + races
    until(lambda: one.session_state() == "paused", "the winner is gone, and was the station")


def station_that_dies(whole: System) -> int:
    """A `tmsctl session start` that is killed after the first pulse; how many were before it."""
    for _ in range(TRIES):
        whole.make_idle()
        whole.checks_of_the_day()
        before = len(whole.truth.pulses())
        words = start_words("dense", "25", whole.new_patient())
        station = subprocess.Popen(
            [programs.FOLDER / "tmsctl", "--runtime", whole.runtime, *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def over(before: int = before, station: subprocess.Popen[bytes] = station) -> bool:
            return len(whole.truth.pulses()) > before or station.poll() is not None

        until(over, "the first pulse")
        station.kill()
        station.wait(DEADLINE_S)
        if len(whole.truth.pulses()) > before:
            return before
    pytest.fail("no session began")


def test_a_line_at_the_station_is_a_sign_that_the_guard_hears(one: System) -> None:
    for _ in range(3):  # a busy machine may trip the guard before the line is written
        if a_line_is_heard(one):
            return
        one.call("session.stop")  # the one that was tripped is still open
        one.make_disarmed()
    pytest.fail("the station ended by itself three times")


def a_line_is_heard(one: System) -> bool:
    """False when the session ended before anybody could write a line."""
    one.checks_of_the_day()
    words = start_words("ctbs600", "25", one.new_patient())
    with subprocess.Popen(
        [programs.FOLDER / "tmsctl", "--runtime", one.runtime, *words],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    ) as station:  # fmt: skip
        assert station.stdin is not None

        def since_s() -> float:
            session = one.status()["session"]
            return 0.0 if session is None else float(session["presence_s"] or 0)

        until(lambda: station.poll() is not None or since_s() > 1.5, "the start was a sign")
        if station.poll() is not None:
            return False
        station.stdin.write(b"here\n")
        station.stdin.flush()
        until(lambda: station.poll() is not None or since_s() < 1.5, "the line is a newer one")
        if station.poll() is not None:
            return False
        station.send_signal(signal.SIGINT)
        assert station.wait(DEADLINE_S) == 8
    one.until_disarmed("safe")
    return True


def test_a_station_that_dies_pauses_the_session_and_who_resumes_adopts_it(one: System) -> None:
    before = station_that_dies(one)
    until(lambda: one.session_state() == "paused", "the session is paused")
    one.no_pulse_after(one.until_device_disarmed(), 0)
    one.make_disarmed()
    assert one.call("session.resume")["adopted"] is True
    one.until_complete()
    record = one.call("session.show", session=None)
    pulses = len(one.truth.pulses()) - before
    assert record["delivered"] == pulses == 90 - record["skipped"]
    counts = record["device"]
    assert counts["count_after"] - counts["count_before"] == pulses


# -- refusals --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> Iterator[System]:
    """One running system for all tests after which it can be used again."""
    with system(seed=8) as whole:
        yield whole.start()


@pytest.fixture
def one(shared: System) -> System:
    """The shared system, idle and without a session, whatever the test before did."""
    shared.make_idle()
    shared.recoveries = 0
    return shared


def is_refused(whole: System, words: tuple[str, ...], code: str, status: int) -> str:
    """One sentence, a stable code, the right exit status. Returns the sentence."""
    found, _, err = whole.tmsctl(*words)
    (sentence,) = err.splitlines()
    assert sentence.startswith("tmsctl: "), sentence
    assert (sentence.rpartition("[")[2], found) == (f"{code}]", status), sentence
    return sentence


def start_words(
    protocol: str = "ctbs600", mt: str | None = "25", patient: str = "P1"
) -> tuple[str, ...]:
    """A start without questions, as a script asks for it."""
    words = ("session", "start", "--patient", patient, "--operator", "AB", "--protocol", protocol)
    threshold = () if mt is None else ("--mt", mt)
    return (*words, *threshold, "--mt-method", "emg", "--reason", REASON, "--yes")


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (start_words("ctbs60"), "protocol-unknown", 1),
        (start_words(mt=None), "usage", 1),
        (start_words(mt="0"), "mt-out-of-range", 1),
        (start_words(mt="101"), "mt-out-of-range", 1),
        (start_words(mt="nan"), "mt-not-a-number", 1),
        (start_words(mt="high"), "usage", 1),
        (start_words("itbs600", "90"), "dose-not-reachable", 16),
        (("session", "pause"), "no-session", 1),
        (("session", "resume"), "no-session", 1),
        (("session", "stop"), "no-session", 1),
        (("session", "show", "4000000000"), "session-unknown", 1),
    ],
    ids=lambda value: " ".join(value[8:]) if isinstance(value, tuple) else str(value),
)
def test_a_wrong_command_is_refused_in_one_sentence_and_arms_nothing(
    one: System, words: tuple[str, ...], code: str, status: int
) -> None:
    at = boot_us()
    is_refused(one, words, code, status)
    assert one.truth.events("arm", after=at) == []
    assert one.status()["guard"]["state"] == "idle"


def test_an_acknowledgement_without_a_cause_changes_nothing(one: System) -> None:
    assert one.tmsctl("acknowledge") == (0, "The guard is idle.\n", "")


def test_a_reduced_dose_is_given_when_a_person_accepts_it(one: System) -> None:
    run = one.start_session(protocol="itbs600", mt=90.0, reduced=True)
    until(lambda: one.truth.events("arm")[-1].says["mso"] == 100, "armed at full output")
    one.end_session(run)


def test_a_second_session_is_refused_while_one_runs(one: System) -> None:
    run = one.start_session(protocol="ctbs600")  # long enough for a program to start beside it
    is_refused(one, start_words(), "session-open", 1)
    one.until_given(run, 2)
    one.end_session(run)


def test_a_second_tmsd_and_a_second_guard_are_refused_in_one_folder(one: System) -> None:
    for name, said in (("tmsd", "Another tmsd"), ("tms-guard", "another guard already runs")):
        done = started(name, one.config)
        assert done.returncode == 1
        (sentence,) = done.stderr.splitlines()
        assert sentence.startswith(f"{name}: {said}"), sentence
    assert one.status()["guard"]["state"] == "idle"


def started(name: str, config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [programs.FOLDER / name, "--config", config],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["tmsd", "tms-guard"])
@pytest.mark.parametrize(
    ("more", "key"),
    [("[guards]\ncpu = 1\n", "guards"), ("[limits]\nmso_max_pct = '30'\n", "mso_max_pct")],
)
def test_a_wrong_configuration_is_refused_in_one_sentence(
    tmp_path: Path, name: str, more: str, key: str
) -> None:
    config = tmp_path / "tmsctl.toml"
    config.write_text(
        f'[paths]\nruntime = "{tmp_path}/r"\nstate = "{tmp_path}/s"\n'
        f'[device]\ndriver = "tmslink"\nurl = "/dev/none"\n{more}'
    )
    done = started(name, config)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"{name}: {config}: ")
    assert key in sentence
    assert not (tmp_path / "r").exists()


def test_a_start_names_the_check_of_the_day_that_is_missing() -> None:
    with system(seed=11) as whole:
        whole.start()
        assert "IDLE: " in whole.tmsctl("status")[1]
        assert "tmsctl ledger confirm-clock" in is_refused(
            whole, start_words(), "clock-unconfirmed", 16
        )
        confirm = ("ledger", "confirm-clock", "--operator", "AB", "--yes")
        assert whole.tmsctl(*confirm)[0] == 0
        assert "tmsctl selftest" in is_refused(whole, start_words(), "self-test-missing", 16)
        status, out, _ = whole.tmsctl("selftest")
        assert (status, out.count("✓ ok")) == (0, 4)
        assert "READY: " in whole.tmsctl("status")[1]
        assert whole.truth.pulses() == []
        whole.works_again()


def test_a_port_that_is_missing_busy_or_foreign_is_told_and_the_right_one_is_found() -> None:
    with system(seed=9) as whole:
        whole.write_config(str(whole.port), "[limits]\nmso_max_pct = 30\n")
        whole.start_tmsd()
        whole.confirm_clock()
        until(lambda: whole.status()["device"]["link"].startswith("port-missing"), "missing")
        is_refused(whole, start_words(mt="50"), "dose-not-reachable", 16)  # 40 %MSO
        sentence = is_refused(whole, start_words(), "device-unreachable", 2)
        assert "port-missing" in sentence

        master, slave = pty.openpty()
        try:
            tty.setraw(slave)
            fcntl.flock(slave, fcntl.LOCK_EX)  # as other programs hold a port
            whole.port.symlink_to(os.ttyname(slave))
            until(lambda: whole.status()["device"]["link"].startswith("port-busy"), "busy")
            sentence = is_refused(whole, start_words(), "device-unreachable", 2)
            assert "port-busy" in sentence

            fcntl.flock(slave, fcntl.LOCK_UN)
            until(lambda: "mute: " in whole.status()["device"]["link"], "foreign")
            sentence = is_refused(whole, start_words(), "device-unreachable", 2)
            assert "mute: " in sentence
            status, out, _ = whole.tmsctl("status")
            assert (status, "mute: " in out) == (2, True)
        finally:
            os.close(slave)
            os.close(master)
        whole.start_simulator()
        whole.until_disarmed("idle")
        assert whole.truth.events("arm") == []
        whole.works_again()


# -- what is left ----------------------------------------------------------------------------------


def test_nothing_is_left_running_and_the_folder_serves_again_even_after_sigkill() -> None:
    with system(seed=10) as whole:
        whole.start()
        whole.delivering()
        guard = whole.guard_pid
        whole.kill("tmsd")
        whole.signal(guard, signal.SIGKILL)
        whole.kill("tmssim")
        until(lambda: whole.left() == {}, "all have ended")
        whole.start_simulator()
        whole.start_tmsd()
        whole.until_disarmed("safe")
        until(lambda: whole.causes() == ["unclean-start"], "the guard says why")
        whole.acknowledge()
        gives_no_pulse_yet(whole)
        whole.end()
        assert [path.name for path in whole.runtime.glob("*.unclean")] == []
        whole.start()  # sockets and locks of the life before are no obstacle
        gives_no_pulse_yet(whole)
