"""The emulated MagPro: people at its panel, a hot or missing coil, wrong bytes, faults."""

from __future__ import annotations

from typing import Any

import pytest

from firmware_protocol.magpro import messages as m
from firmware_protocol.magpro import names as n
from firmware_protocol.magpro.framing import frame, frame_of
from firmware_protocol.magpro.layout import rows
from firmware_protocol.table import Direction
from sim_device.faults import Rule
from sim_device.magpro_firmware import KINDS
from tests.conformance.magpro_host import MS, SECOND, TIMING, Host

SOON_US = 5 * SECOND
"""After the second in which a host arms."""


def soon(kind: str, value: int | None = None, **more: Any) -> Rule:
    return Rule(kind, value, at_us=SOON_US, **more)


def struck(*rules: Rule, **settings: Any) -> tuple[Host, list[Any]]:
    """An enabled unit, and what it has said by itself since the faults began."""
    host = Host(*rules, **settings).armed(50)
    host.wait(SOON_US - 100 * MS - (host.now - host.settings.clock_us))
    before = len(host.heard)
    host.wait(SECOND)
    return host, host.heard[before:]


# -- what it says unasked --------------------------------------------------------------------------


def test_the_knob_is_told_and_moves_what_leaves() -> None:
    host, told = struck(soon("panel_setting", 7))
    assert told == [m.Amplitude(57, 0, 0x34)]
    host.ask(m.Fire())
    assert host.truth("pulse")[0]["mso"] == 57.0


BURST_DMS = n.IPI_OF_INDEX_BURST_DMS.index
PAIR_DMS = n.IPI_OF_INDEX_PAIR_DMS.index
TURNED: dict[str, tuple[int, m.WaveformStatus, list[float]]] = {
    "panel_mode": (3, m.WaveformStatus(3, 3, 0, 1, 3, PAIR_DMS(100), 0), [50.0, 100.0]),
    "panel_waveform": (3, m.WaveformStatus(3, 0, 0, 3, 3, BURST_DMS(100), 80), [50.0, 50.0]),
    "panel_interval": (50, m.WaveformStatus(3, 0, 0, 1, 3, BURST_DMS(50), 80), [50.0]),
}


@pytest.mark.parametrize("kind", TURNED)
@pytest.mark.parametrize("frames", ["none", "state"])
def test_what_is_set_at_the_panel_acts_and_is_told_where_it_tells_it(
    kind: str, frames: str
) -> None:
    value, shown, left = TURNED[kind]
    host, told = struck(soon(kind, value), option="option", panel_frames=frames)
    assert [item for item in told if isinstance(item, m.WaveformStatus)] == (
        [shown] if frames == "state" else []
    )
    assert host.one(m.GetWaveform()) == shown
    host.give(frame_of(m.Fire()), SECOND)
    assert [line["mso"] for line in host.truth("pulse")] == left


def test_a_mode_that_the_unit_does_not_have_cannot_be_set_at_its_panel() -> None:
    host, told = struck(soon("panel_mode"))
    assert told == []
    assert host.device.faults.counts["panel_mode"] == 0


def test_the_enable_button_is_told() -> None:
    host, told = struck(soon("disarms_itself"))
    assert told == [m.Amplitude(50, 0, 0x24)]
    assert host.causes() == ["PANEL"]
    assert host.ask(m.Fire()) == []


@pytest.mark.parametrize("kind", ["disarms_itself", "falls_idle", "external_trigger"])
def test_what_needs_an_enabled_unit_waits_for_it(kind: str) -> None:
    host = Host(soon(kind))
    host.wait(2 * SOON_US)
    assert host.device.faults.counts[kind] == 0
    host.ask(m.Enable(), SECOND)
    assert host.device.faults.counts[kind] == 1


def test_a_unit_that_falls_idle_says_nothing() -> None:
    host, told = struck(soon("falls_idle"))
    assert told == []
    assert not host.status().enabled


def test_a_charger_that_fails_disables_until_power_comes_again() -> None:
    host, told = struck(soon("charger_fault"), Rule("reboot", 100, at_us=20 * SECOND))
    assert told == [m.Amplitude(50, 0, 0x24)]
    assert host.ask(m.Enable())[0] == m.Amplitude(50, 0, 0x24)
    host.wait(20 * SECOND)
    assert host.ask(m.Enable())[0] == m.Amplitude(0, 0, 0x34)


def test_a_coil_that_is_unplugged_is_told_and_disables() -> None:
    host, told = struck(soon("coil_unplugged", for_us=10 * SECOND))
    assert told == [m.Coil(20, 0, 0x34), m.Amplitude(50, 0, 0x24)]
    assert [line["cause"] for line in host.truth("fault")] == ["COIL_ABSENT"]
    assert {n.status_of(item.st).enabled for item in host.ask(m.Enable())} == {False}
    host.wait(10 * SECOND)
    assert host.heard[-1].coil_type == 73
    host.armed()


def test_another_coil_is_told() -> None:
    host, told = struck(soon("coil_swapped", 60))
    assert told == [m.Coil(20, 60, 0x34)]
    assert host.one(m.Fire()).a_per_us == round(149.77 / 2)


@pytest.mark.parametrize(("coil_dc", "hot"), [(429, False), (430, True)])
def test_a_hot_coil_disables_at_its_limit(coil_dc: int, hot: bool) -> None:
    host, told = struck(soon("coil_hot", coil_dc))
    assert (m.Amplitude(50, 0, 0x24) in told) is hot
    assert m.Coil(43, 73, 0x34) in told
    assert host.causes() == (["COIL_HOT"] if hot else [])


@pytest.mark.parametrize(("coil_dc", "enabled"), [(401, False), (400, True)])
def test_behind_a_hot_coil_it_is_enabled_only_when_that_is_3_degrees_cooler(
    coil_dc: int, enabled: bool
) -> None:
    host, _ = struck(soon("coil_hot", 450), Rule("coil_hot", coil_dc, at_us=7 * SECOND))
    host.wait(7 * SECOND - (host.now - host.settings.clock_us))
    assert {n.status_of(item.st).enabled for item in host.ask(m.Enable())[-3:]} == {enabled}


def test_a_temperature_is_told_when_it_is_another_and_not_before() -> None:
    _, told = struck(soon("coil_heats", 10, for_us=20 * SECOND))
    assert told == [m.Coil(21, 73, 0x34)]


def test_a_cooled_coil_without_its_cooler_reads_90_and_is_hot() -> None:
    host = Host(coil_type=60, cooler=0)
    assert host.one(m.GetShortStatus()).coil_c == n.NO_COOLER_C
    assert {n.status_of(item.st).enabled for item in host.ask(m.Enable())} == {False}
    assert Host(coil_type=73, cooler=0).one(m.GetShortStatus()).coil_c == 20
    assert Host(coil_type=60).one(m.GetShortStatus()).coil_c == 20


def test_a_page_and_the_end_of_a_train_are_told() -> None:
    host = Host().armed(20)
    assert host.ask(TIMING) == [m.PageStatus(2, 0, 0x34)]
    host.ask(m.SetTrain(100, 2, 1, 10))
    told = [item for item in host.ask(m.Start(), SECOND) if isinstance(item, m.PageStatus)]
    assert [item.running for item in told] == [1, 0]


def test_a_page_that_no_host_may_set_is_not_set() -> None:
    host = Host()
    assert [item.page for item in (host.ask_raw(b"\x07\x0d"))] == [n.Page.MAIN]


# -- triggers at its socket ------------------------------------------------------------------------


def test_an_edge_at_the_trigger_input_fires_once_after_its_delay() -> None:
    host = Host(soon("external_trigger")).armed(20)
    host.ask(m.SetDelays(100, 0, 0))
    host.wait(10 * SECOND)
    assert [at - host.settings.clock_us for at in host.pulses_at()] == [SOON_US + 10_000]
    assert host.truth("pulse")[0]["cause"] == "trigger"


def test_an_edge_starts_the_sequence_when_the_timing_menu_says_so() -> None:
    for control, pulses in ((0, 1), (1, 1), (2, 5), (3, 5)):
        host = Host(soon("external_trigger"), page=2).armed(20)
        host.ask(m.SetTiming(control, 100, 5, 1, 10, 0))
        host.wait(10 * SECOND)
        assert len(host.pulses_at()) == pulses


def test_an_edge_does_nothing_while_disabled() -> None:
    host = Host(soon("external_trigger"))
    host.wait(10 * SECOND)
    assert host.pulses_at() == []


def test_a_pulse_that_nobody_asked_for_is_told() -> None:
    _, told = struck(soon("spontaneous_pulse"))
    assert told == [m.Didt(73, 0, 0x34)]


# -- bytes that are wrong --------------------------------------------------------------------------

GOOD = frame(b"\x01\x32")
BAD_CRC = GOOD[:-2] + bytes((GOOD[-2] ^ 1, 0xFF))
MALFORMED = {
    "checksum": BAD_CRC,
    "end": GOOD[:-1] + b"\xfe",
    "length": b"\xfe\x00",
    "too long": b"\xfe\x11",
    "unknown id": frame(b"\x0d"),
    "unknown form": frame(b"\x09\x02"),
    "wrong size": frame(b"\x01"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_command_is_passed_over_or_leaves_the_unit_deaf(data: bytes) -> None:
    host = Host()
    host.give(data + bytes(20))
    assert host.one(m.GetShortStatus()).a_pct == 0
    deaf = Host(Rule("reboot", 100, at_us=10 * SECOND), deaf_on_malformed=1)
    deaf.give(data + bytes(20))
    assert deaf.ask(m.GetShortStatus()) == []
    deaf.wait(10 * SECOND)
    assert deaf.one(m.GetShortStatus()).a_pct == 0


def test_noise_between_commands_leaves_nothing_deaf() -> None:
    host = Host(deaf_on_malformed=1)
    host.give(b"\x00\xff\x01abc")
    assert host.one(m.GetShortStatus()).serial == 12_345


def test_a_firmware_that_does_not_look_at_the_checksum_can_be_set() -> None:
    assert Host().give(BAD_CRC) == b""
    host = Host(bad_crc="obey")
    host.give(BAD_CRC)
    assert host.heard == [m.Amplitude(50, 0, 0x24)]


def test_a_value_that_it_does_not_have_becomes_the_nearest() -> None:
    host = Host(page=2, option="option")
    host.ask_raw(b"\x06" + b"".join(v.to_bytes(2, "big") for v in (1_234, 1_049, 900, 0)))
    assert host.one(m.GetTiming())[1:5] == (1_000, 1_000, 500, 1)
    host.ask_raw(frame_of(m.SetWaveform(3, 2, 0, 1, 2, 1_037, 101))[2:-2])
    read = host.one(m.GetWaveform())
    assert n.IPI_OF_INDEX_PAIR_DMS[read.ipi_index] == 1_000
    assert n.BA_OF_INDEX_TWIN_PCT[read.ba_index] == 100
    assert host.ask_raw(b"\x01\xc8") == [m.Amplitude(100, 100, 0x66)]


def test_or_is_not_taken_at_all() -> None:
    host = Host(page=2, out_of_range="ignore")
    before = host.one(m.GetTiming())
    host.ask_raw(b"\x06" + b"".join(v.to_bytes(2, "big") for v in (1_234, 1_049, 900, 0)))
    assert host.one(m.GetTiming()) == before
    assert host.ask_raw(b"\x01\xc8") == []


@pytest.mark.parametrize(
    ("settings", "mode", "wave", "taken"),
    [
        ({"r30": True}, n.Mode.STANDARD, n.Waveform.BIPHASIC_BURST, (0, 1)),
        ({"r30": True, "option": "option"}, n.Mode.DUAL, n.Waveform.MONOPHASIC, (3, 0)),
        ({}, n.Mode.TWIN, n.Waveform.BIPHASIC_BURST, (0, 3)),
        ({"option": "option"}, n.Mode.POWER, n.Waveform.HALF_SINE, (1, 2)),
    ],
)
def test_what_the_model_does_not_have_stays_as_it_was(
    settings: dict[str, Any], mode: int, wave: int, taken: tuple[int, int]
) -> None:
    host = Host(**settings)
    model = host.settings.model
    host.ask(m.SetWaveform(model, mode, 0, wave, 2, 200, 100))
    read = host.one(m.GetWaveform())
    assert (read.mode, read.waveform) == taken


def test_a_waveform_for_another_model() -> None:
    for word, burst_index in (("obey", 0), ("ignore", 3)):
        host = Host(wrong_model=word)
        host.ask(m.SetWaveform(n.Model.R30, 0, 0, 3, 0, 200, 100))
        assert host.one(m.GetWaveform()).burst_index == burst_index


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ((1, 1, 1, 1), (1, 1, 1, 1)),
        ((0, 0, 0, 0), (1, 1, 1, 1)),
        ((15, 1_050, 500, 3_000), (10, 1_000, 500, 3_000)),  # of two as near the lower
        ((16, 1_051, 501, 3_001), (20, 1_100, 500, 3_000)),
        ((65_535,) * 4, (1_000, 2_000, 500, 3_000)),
    ],
)
def test_train_parameters_become_the_nearest(
    asked: tuple[int, ...], taken: tuple[int, ...]
) -> None:
    host = Host(page=2)
    host.ask_raw(b"\x06" + b"".join(value.to_bytes(2, "big") for value in asked))
    assert host.one(m.GetTiming())[1:5] == taken


# -- answers that nobody knows ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message", "kind"),
    [
        ("reply_06", m.SetTrain(100, 5, 1, 10), m.Timing),
        ("reply_08", m.SetTrigger(0, 0, 0), m.Delays),
        ("reply_09_01", m.SetWaveform(1, 0, 0, 1, 3, 100, 100), m.WaveformStatus),
        ("reply_0a_01", m.SetDelays(0, 0, 0), m.Delays),
        ("reply_0b_01", m.SetTiming(0, 10, 1, 1, 1, 0), m.Timing),
    ],
)
def test_an_answer_that_is_not_known_can_be_set(setting: str, message: Any, kind: type) -> None:
    assert Host().ask(message) == []
    assert [type(item) for item in Host(**{setting: "state"}).ask(message)] == [kind]


def test_the_17_bytes_that_some_expect_of_start_can_be_set() -> None:
    host = Host(reply_04="mep", page=2).armed(0)
    host.ask(m.SetTrain(10, 1, 1, 10))
    data = host.give(frame_of(m.Start()))
    assert data[:2] == b"\xfe\x0d"
    assert data[16:17] == b"\xff"


def test_fire_while_disabled_can_be_answered() -> None:
    for message in (m.Fire(), m.Start()):
        assert Host().ask(message) == []
        assert Host(fire_disabled="answer").ask(message) == [m.Amplitude(0, 0, 0x24)]


def test_coil_and_heat_can_be_ignored() -> None:
    host = Host(coil_type=0, coil_missing="ignore").armed(50)
    host.ask(m.Fire())
    assert host.truth("pulse")[0]["didt"] == 0.0
    _, told = struck(soon("coil_hot", 600), coil_hot="ignore")
    assert told == [m.Coil(60, 73, 0x34)]


def test_a_reading_outside_its_byte_ends_at_the_edge() -> None:
    for sensor_dc, coil_c in ((-50, 0), (2_560, 255), (-4, 0), (214, 21), (215, 22)):
        _, told = struck(soon("sensor_wrong", sensor_dc), coil_hot="ignore")
        assert [item.coil_c for item in told] == [coil_c]
    host = Host(Rule("intensity_bias", 100, at_us=0), coil_type=72).armed(100)
    assert host.one(m.Fire()).a_per_us == 255


def test_a_frame_with_a_wrong_checksum_is_wrong_in_nothing_else() -> None:
    good = Host().give(frame_of(m.GetShortStatus()))
    bad = Host(Rule("bad_crc", at_us=0)).give(frame_of(m.GetShortStatus()))
    assert [at - len(good) for at in range(len(good)) if good[at] != bad[at]] == [-2]


def test_each_frame_of_an_answer_can_be_lost_by_itself() -> None:
    host = Host(Rule("drop_frame", at_frame=2))
    assert [type(item) for item in host.ask(m.Enable())] == [m.Amplitude, m.Amplitude]
    host = Host(Rule("rx_drop_frame", at_frame=2))
    data = frame_of(m.GetShortStatus()) + frame_of(m.GetDelays()) + frame_of(m.GetTiming())
    host.give(data)
    assert [type(item) for item in host.heard] == [m.ShortStatus, m.Timing]


def test_the_counter_begins_anew_with_each_enable_where_it_is_so_set() -> None:
    for word, stimuli in (("enable", 0), ("never", 1)):
        host = Host(count_resets=word).armed(20)
        host.ask(m.Fire())
        host.ask(m.Disable())
        host.ask(m.Enable())
        assert host.one(m.GetCounters()).stimuli == stimuli


# -- the whole of it -------------------------------------------------------------------------------


def test_a_loss_of_power_forgets_everything_but_the_coil() -> None:
    host = Host(soon("reboot", 1_000), page=2).armed(50)
    host.ask(m.SetTrain(100, 1_000, 1, 10))
    host.ask(m.Start(), SOON_US)
    fired = len(host.pulses_at())
    host.wait(10 * SECOND)
    assert len(host.pulses_at()) == fired
    assert host.status() == n.Status(0, 1, False, n.Model.X100)
    assert host.one(m.GetCounters()).stimuli == 0
    assert host.causes() == ["POWER"]


def test_a_firmware_can_lack_each_command() -> None:
    for row in rows():
        if row.direction is Direction.TO_DEVICE and row.code in (0x00, 0x05, 0x0C):
            host = Host(Rule("lacks_command", row.code, at_us=0))
            assert host.ask_raw(row.prefix) == []
            assert len(host.ask(m.GetWaveform())) == 1


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_fault_can_happen(kind: str) -> None:
    """Each is counted in a unit that works, with a cooled coil."""
    cooled = kind == "cooling_failure"
    more = {"page": 2, "coil_type": 60, "cooled": int(cooled), "option": "option"}
    host = Host(Rule(kind, at_us=2 * SECOND), **more).armed(20)
    host.ask(m.SetTrain(100, 20, 1, 10))
    host.ask(m.Start(), SECOND)
    for _ in range(20):
        host.ask(m.GetShortStatus())
        host.ask(m.Enable())
    assert host.device.faults.counts[kind] >= 1


def test_the_same_seed_tells_the_same_story() -> None:
    def story(seed: int) -> tuple[list[dict[str, Any]], list[Any]]:
        host = Host(Rule("bit_flip", probability=0.1), seed=seed, option="option", page=2).armed(20)
        host.ask(m.SetWaveform(3, 2, 0, 1, 2, 29, 100))
        host.ask(m.SetTrain(50, 20, 1, 10))
        host.ask(m.Start(), 5 * SECOND)
        return host.log, host.heard

    assert story(7) == story(7)
    assert story(7) != story(8)
