"""The emulated MagPro on its line: the bytes that clients saw, states, pulses and trains."""

from __future__ import annotations

from typing import Any

import pytest

from firmware_protocol.magpro import messages as m
from firmware_protocol.magpro import names as n
from firmware_protocol.magpro.framing import frame
from tests.conformance.magpro_host import MS, SECOND, TIMING, Host

BI, BURST = n.Waveform.BIPHASIC, n.Waveform.BIPHASIC_BURST


def waveform(
    mode: int = 0, wave: int = BI, pulses: int = 3, ipi_dms: int = 200, ba_pct: int = 100
) -> m.SetWaveform:
    return m.SetWaveform(n.Model.X100_OPTION, mode, 0, wave, 5 - pulses, ipi_dms, ba_pct)


# -- bytes that clients saw ------------------------------------------------------------------------


def test_the_exchanges_that_magicpy_has_with_a_unit() -> None:
    host = Host(rise_us_per_pct=1)
    assert len(host.give(bytes.fromhex("FE010000FF"))) == 13
    assert len(host.give(bytes.fromhex("FE020132C6FF"))) == 8
    assert len(host.give(bytes.fromhex("FE020201CFFF"))) == 24
    assert len(host.give(bytes.fromhex("FE0203010BFF"))) == 8
    assert host.give(bytes.fromhex("FE0906006400050003000A67FF")) == b""
    assert host.give(bytes.fromhex("FE010461FF")) == b""  # not on the Timing page
    assert host.heard == [
        m.ShortStatus(0x24, 12_345, 20, 73, 0, 0),
        m.Amplitude(50, 0, 0x24),
        m.Amplitude(50, 0, 0x34), m.Coil(20, 73, 0x34), m.Amplitude(50, 0, 0x34),
        m.Didt(73, 0, 0x34),
    ]  # fmt: skip
    assert [type(item).__name__[:5] for item in host.heard] == [
        "Short", "Ampli", "Ampli", "Coil", "Ampli", "Didt",
    ]  # fmt: skip
    assert host.truth("pulse")[0]["mso"] == 50.0
    assert len(host.truth("pulse")) == 1


def test_the_forms_of_pytms_do_the_same_as_those_of_magicpy() -> None:
    host = Host().armed()
    assert host.one(m.SetAmplitude(60, 0)).a_pct == 60
    host.wait(SECOND)
    assert isinstance(host.one(m.Fire()), m.Didt)
    assert host.one(m.SetPage(2)) == host.one(m.SetPage(2, 0)) == m.PageStatus(2, 0, 0x34)
    short = host.give(frame(b"\x09\x00"))
    long = host.give(frame(b"\x09" + bytes(10)))
    assert short == long
    assert len(short) == 14


@pytest.mark.parametrize(
    ("settings", "model"),
    [
        ({"r30": True}, n.Model.R30),
        ({"r30": True, "option": "option"}, n.Model.R30_OPTION),
        ({"r30": True, "option": "mono"}, n.Model.R30_OPTION_MONO),
        ({}, n.Model.X100),
        ({"option": "option"}, n.Model.X100_OPTION),
    ],
)
def test_each_model_says_what_it_is(settings: dict[str, Any], model: n.Model) -> None:
    host = Host(**settings)
    assert host.status() == n.Status(0, 1, False, model)
    assert host.one(m.GetWaveform()).model == model


def test_every_question_has_its_answer() -> None:
    host = Host(page=2).armed(40)
    host.ask(m.SetTiming(0, 100, 20, 3, 50, 1))
    host.ask(m.SetDelays(100, -50, 100))
    assert host.one(m.GetLongStatus()) == m.LongStatus(
        0x34, 12_345, 20, 73, 40, 0, 40, 0, 100, 100, 2, 0
    )
    assert host.one(m.GetWaveform()) == m.WaveformStatus(1, 0, 0, 1, 3, 100, 80)
    assert host.one(m.GetDelays()) == m.Delays(100, -50, 100)
    assert host.one(m.GetTiming()) == m.Timing(0, 100, 20, 3, 50, 1, 100, 1)
    assert host.one(m.GetCounters()) == m.Counters(3, 60, 0, 2)


def test_what_it_is_when_it_is_switched_on() -> None:
    host = Host()
    assert host.one(m.GetShortStatus()) == m.ShortStatus(0x24, 12_345, 20, 73, 0, 0)
    assert host.one(m.GetWaveform()) == m.WaveformStatus(1, 0, 0, 1, 3, 100, 80)
    assert host.one(m.GetDelays()) == m.Delays(0, 0, 0)
    assert host.one(m.GetTiming()) == m.Timing(0, 10, 5, 1, 10, 0, 100, 1)
    assert host.one(m.GetCounters()) == m.Counters(1, 5, 0, 1)


def test_delays_and_direction_are_read_back_as_they_were_set() -> None:
    host = Host()
    host.ask(m.SetTrigger(10, -1_000, 50))
    assert host.one(m.GetDelays()) == m.Delays(10, -1_000, 50)
    host.ask(m.SetDelays(65_000, 1_000, 12_000))
    assert host.one(m.GetDelays()) == m.Delays(65_000, 1_000, 12_000)
    host.ask(m.SetWaveform(n.Model.X100, 0, 1, BI, 0, 200, 100))
    assert host.one(m.GetWaveform()).direction == n.CurrentDirection.REVERSE


def test_answers_take_20_to_80_ms() -> None:
    for seed in range(30):
        host = Host(seed=seed)
        assert host.ask(m.GetShortStatus(), 20 * MS - 1) == []
        host.wait(60 * MS + 1)
        assert len(host.heard) == 1


# -- enabled and disabled --------------------------------------------------------------------------


def test_a_pulse_leaves_only_while_enabled() -> None:
    host = Host()
    host.ask(m.SetAmplitude(50))
    assert host.ask(m.Fire()) == []
    host.armed()
    host.ask(m.Fire())
    assert host.ask(m.Disable()) == [m.Amplitude(50, 0, 0x24)]
    assert host.ask(m.Fire()) == []
    assert len(host.pulses_at()) == 1
    assert [line["event"] for line in host.log] == ["arm", "ready", "pulse", "disarm"]


def test_nothing_disables_it_when_the_host_falls_silent() -> None:
    host = Host().armed()
    host.wait(3_600 * SECOND)
    assert host.status().enabled


@pytest.mark.parametrize(("wait_s", "enabled"), [(59, True), (60, False)])
def test_an_idle_limit_can_be_set(wait_s: int, enabled: bool) -> None:
    host = Host(disable_after_s=60)
    host.ask(m.Enable(), wait_s * SECOND)
    assert host.device.model.armed is enabled  # type: ignore[attr-defined]
    assert host.causes() == ([] if enabled else ["IDLE_TOO_LONG"])


def test_a_pulse_begins_the_idle_time_anew_and_so_does_enable() -> None:
    host = Host(disable_after_s=60)
    host.ask(m.Disable(), 30 * SECOND)
    host.ask(m.Enable(), 30 * SECOND)
    host.ask(m.Fire(), 59 * SECOND)
    assert host.causes() == []
    host.wait(SECOND)
    assert host.causes() == ["IDLE_TOO_LONG"]
    host.wait(80 * MS)
    assert host.heard[-1] == m.Amplitude(0, 0, 0x24)


def test_what_was_charged_is_let_down_when_it_is_disabled() -> None:
    host = Host(option="option").armed(50)
    host.ask(waveform(n.Mode.DUAL))
    host.ask(m.SetAmplitude(50, 50), SECOND)
    host.ask(m.Disable())
    host.wait(6 * SECOND)  # 0.1 s for each %
    stage = host.device.model.stage  # type: ignore[attr-defined]
    assert host.device.unit.capacitor.at(host.now) == stage._bank_b.at(host.now) == 0
    assert not stage.spontaneous()
    host.ask(m.SetWaveform(n.Model.X100_OPTION, 0, 0, BI, 0, 200, 100))
    host.armed(50)
    assert [line["event"] for line in host.log] == ["arm", "ready", "disarm", "arm", "ready"]


def test_ready_is_in_the_truth_again_after_a_new_amplitude() -> None:
    host = Host().armed(50)
    host.ask(m.SetAmplitude(60), SECOND)
    host.ask(m.SetAmplitude(60), SECOND)
    assert [line["mso"] for line in host.truth("ready")] == [50, 60]


def test_a_new_amplitude_takes_the_time_of_the_charger() -> None:
    host = Host(rise_us_per_pct=10_000)
    host.ask(m.SetAmplitude(50))
    host.ask(m.Enable(), 250 * MS)
    host.ask(m.Fire(), SECOND)
    host.ask(m.Fire())
    assert [round(line["mso"]) for line in host.truth("pulse")] == [25, 50]
    careful = Host(rise_us_per_pct=10_000, fire_uncharged="ignore")
    careful.ask(m.SetAmplitude(50))
    careful.ask(m.Enable(), 250 * MS)
    careful.ask(m.Fire(), SECOND)
    careful.ask(m.Fire())
    assert [round(line["mso"]) for line in careful.truth("pulse")] == [50]


@pytest.mark.parametrize(
    ("word", "kinds"),
    [("1", "A"), ("1-3", "AC"), ("3-1", "CA"), ("1-3-1", "ACA")],
)
def test_number_and_order_of_the_frames_on_02_can_be_set(word: str, kinds: str) -> None:
    host = Host(enable_frames=word, disable_frames=word)
    for message in (m.Enable(), m.Disable()):
        assert "".join(type(item).__name__[0] for item in host.ask(message)) == kinds


# -- pulses, bursts, pairs -------------------------------------------------------------------------


@pytest.mark.parametrize("pulses", [2, 3, 4, 5])
def test_a_burst_has_its_pulses_and_interval(pulses: int) -> None:
    host = Host(option="option").armed(30)
    host.ask(waveform(wave=BURST, pulses=pulses, ipi_dms=200))
    assert len(host.ask(m.Fire(), 200 * MS)) == 1
    assert host.gaps_us() == [20_000] * (pulses - 1)
    each = Host(option="option", burst_frames="each").armed(30)
    each.ask(waveform(wave=BURST, pulses=pulses, ipi_dms=200))
    assert len(each.ask(m.Fire(), 200 * MS)) == pulses


@pytest.mark.parametrize(("frames", "wanted"), [("one", {1}), ("two", {2}), ("either", {1, 2})])
def test_a_pair_is_told_in_one_or_two_frames(frames: str, wanted: set[int]) -> None:
    host = Host(option="option", pair_frames=frames).armed(40)
    host.ask(waveform(n.Mode.TWIN, ipi_dms=29, ba_pct=150), SECOND)
    counts = set()
    for _ in range(12):
        told = host.ask(m.Fire(), 300 * MS)
        counts.add(len(told))
        if len(told) == 2:
            assert told[0] == m.Didt(59, 0, 0x76)
        assert told[-1] == m.Didt(59, 88, 0x76)
    assert counts == wanted
    assert set(host.gaps_us()[::2]) == {2_900}
    assert [round(line["mso"]) for line in host.truth("pulse")] == [40, 60] * 12


def test_dual_sets_b_by_itself_and_reads_it_back() -> None:
    host = Host(option="option", pair_frames="one").armed(40)
    host.ask(waveform(n.Mode.DUAL))
    assert host.one(m.SetAmplitude(40, 25)) == m.Amplitude(40, 25, 0x77)
    assert host.one(m.GetWaveform()).ba_index == 75
    host.wait(SECOND)
    assert host.one(m.Fire()) == m.Didt(59, 37, 0x77)


def test_b_of_a_twin_pair_ends_at_full_output() -> None:
    host = Host(option="option").armed(60)
    host.ask(waveform(n.Mode.TWIN, ba_pct=500))
    assert host.one(m.GetShortStatus()).b_pct == 100


@pytest.mark.parametrize(("wave", "ipi_dms"), [(n.Waveform.MONOPHASIC, 20), (BI, 10)])
def test_pairs_of_monophasic_pulses_begin_at_2_ms(wave: int, ipi_dms: int) -> None:
    host = Host(option="option").armed(20)
    host.ask(waveform(n.Mode.DUAL, wave, ipi_dms=10))
    host.ask(m.Fire())
    assert host.gaps_us() == [ipi_dms * 100]
    burst = Host(option="option").armed(20)
    burst.ask(waveform(wave=BURST, ipi_dms=10, pulses=2))
    burst.ask(m.Fire())
    assert burst.gaps_us() == [1_000]


@pytest.mark.parametrize(("gap_us", "pulses"), [(80_000, 5), (80_001, 10)])
def test_a_trigger_inside_a_burst_is_not_taken(gap_us: int, pulses: int) -> None:
    host = Host(option="option").armed(20)
    host.ask(waveform(wave=BURST, pulses=5, ipi_dms=200))
    host.ask(m.Fire(), gap_us)
    host.ask(m.Fire(), SECOND)
    assert len(host.pulses_at()) == pulses


@pytest.mark.parametrize(("gap_us", "pulses"), [(10_000, 2), (9_999, 1)])
def test_a_trigger_faster_than_the_ceiling_is_not_taken(gap_us: int, pulses: int) -> None:
    host = Host().armed(20)
    host.ask(m.Fire(), gap_us)
    host.ask(m.Fire())
    assert len(host.pulses_at()) == pulses


def test_the_slope_follows_the_coil() -> None:
    for coil, slope in ((73, 146.52), (60, 149.77), (72, 155.40), (86, 146.44)):
        host = Host(coil_type=coil).armed(100)
        assert host.one(m.Fire()).a_per_us == round(slope)


def test_disabling_ends_a_burst_that_is_under_way() -> None:
    host = Host(option="option").armed(30)
    host.ask(waveform(wave=BURST, pulses=5, ipi_dms=1_000))
    host.ask(m.Fire(), 150 * MS)
    host.ask(m.Disable(), SECOND)
    host.armed()
    host.wait(SECOND)
    assert len(host.pulses_at()) == 2


# -- trains ----------------------------------------------------------------------------------------


def test_a_train_is_timed_by_the_unit() -> None:
    host = Host().armed(20)
    host.ask(TIMING)
    host.ask(m.SetTrain(100, 5, 2, 10))
    told = host.ask(m.Start(), 3 * SECOND)
    assert told[0] == m.PageStatus(2, 1, 0x34)
    assert told[-1] == m.PageStatus(2, 0, 0x34)
    assert [type(item) for item in told[1:-1]] == [m.Didt] * 10
    tenth = 100_000
    assert host.gaps_us() == [tenth] * 4 + [SECOND] + [tenth] * 4
    assert host.truth("train_start")[0]["pulses"] == host.truth("train_end")[0]["fired"] == 10


def test_a_waveform_that_is_slower_lowers_the_rate() -> None:
    host = Host(page=2)
    host.ask(m.SetTrain(1_000, 5, 1, 10))
    host.ask(m.SetWaveform(n.Model.X100, 0, 0, BURST, 2, 200, 100))
    assert host.one(m.GetTiming()).rate_dhz == 200


def test_a_timing_menu_of_many_trains_counts_them_all() -> None:
    host = Host(page=2).armed(10)
    host.ask(m.SetTiming(0, 1_000, 2, 3, 1, 1))
    assert host.one(m.GetTiming())[:6] == (0, 1_000, 2, 3, 1, 1)
    host.ask(m.Start(), SECOND)
    assert host.gaps_us() == [10_000, 100_000, 10_000, 100_000, 10_000]


def test_theta_burst_is_a_train_of_bursts() -> None:
    host = Host().armed(20)
    host.ask(m.SetWaveform(n.Model.X100, 0, 0, BURST, 2, 200, 100))
    host.ask(TIMING)
    host.ask(m.SetTrain(50, 10, 20, 80))
    host.ask(m.Start(), 200 * SECOND)
    at = host.pulses_at()
    assert len(at) == 600
    assert at[-1] - at[0] == 20 * 1_800_000 + 19 * 8_000_000 + 40_000
    assert {line["cause"] for line in host.truth("pulse")} == {"train"}
    assert host.one(m.GetCounters()).stimuli == 200


@pytest.mark.parametrize("page", [1, 3, 4])
def test_06_and_04_are_honoured_on_the_timing_page_alone(page: int) -> None:
    host = Host().armed(20)
    host.ask(m.SetPage(page))
    before = host.one(m.GetTiming())
    host.ask(m.SetTrain(200, 7, 1, 10))
    assert host.ask(m.Start(), SECOND) == []
    assert host.one(m.GetTiming()) == before
    host.ask(TIMING)
    host.ask(m.SetTrain(200, 7, 1, 10))
    host.ask(m.Start(), SECOND)
    assert len(host.pulses_at()) == 7


def test_the_protocol_page_starts_what_is_stored() -> None:
    for stored in (0, 4):
        host = Host(protocol_pulses=stored, protocol_rate_dhz=100).armed(20)
        host.ask(m.SetPage(n.Page.PROTOCOL))
        host.ask(m.Start(), SECOND)
        assert len(host.pulses_at()) == stored


@pytest.mark.parametrize(("stops", "pulses"), [(1, 3), (0, 10)])
def test_disable_during_a_train(stops: int, pulses: int) -> None:
    host = Host(page=2, disable_stops_train=stops).armed(20)
    host.ask(m.SetTrain(100, 10, 1, 10))
    host.ask(m.Start(), 250 * MS)
    host.ask(m.Disable(), 2 * SECOND)
    assert len(host.pulses_at()) == pulses
    assert not host.status().enabled
    assert host.causes() == ["HOST_DISARM"]


def test_a_train_that_was_ended_is_told_and_does_not_go_on() -> None:
    host = Host(page=2).armed(20)
    host.ask(m.SetTrain(100, 10, 1, 10))
    host.ask(m.Start(), 250 * MS)
    told = host.ask(m.Disable(), SECOND)
    assert [item.running for item in told if isinstance(item, m.PageStatus)] == [0]
    host.armed(20)
    host.wait(2 * SECOND)
    (ended,) = host.truth("train_end")
    assert (ended["fired"], ended["cause"], len(host.pulses_at())) == (3, "HOST_DISARM", 3)


@pytest.mark.parametrize(("word", "pulses"), [("ignore", 10), ("stop", 3)])
def test_start_during_a_train(word: str, pulses: int) -> None:
    host = Host(page=2, start_running=word).armed(20)
    host.ask(m.SetTrain(100, 10, 1, 10))
    host.ask(m.Start(), 250 * MS)
    host.ask(m.Fire(), 30 * MS)
    host.ask(m.Start(), 2 * SECOND)
    assert len(host.pulses_at()) == pulses


def test_a_train_goes_on_without_the_host() -> None:
    host = Host(page=2).armed(20)
    host.ask(m.SetTrain(100, 1_000, 1, 10))
    host.ask(m.Start())
    host.wait(100 * SECOND)
    assert len(host.pulses_at()) == 1_000


def test_the_charge_delay_holds_the_recharge() -> None:
    host = Host().armed(50)
    host.ask(m.SetDelays(0, 0, 1_000))
    host.ask(m.Fire(), 500 * MS)
    host.ask(m.Fire(), 999 * MS)
    host.ask(m.Fire(), 1_200 * MS)
    host.ask(m.Fire())
    assert [round(line["mso"], 1) for line in host.truth("pulse")] == [50.0, 43.3, 37.5, 50.0]


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({}, (0, 5)),
        ({"counts": "pulse"}, (0, 15)),
        ({"count_resets": "never"}, (1, 6)),
        ({"count_resets": "enable", "counts": "pulse"}, (3, 18)),
    ],
)
def test_what_the_counter_counts_can_be_set(
    settings: dict[str, Any], counts: tuple[int, int]
) -> None:
    host = Host(page=2, **settings).armed(20)
    host.ask(m.SetWaveform(n.Model.X100, 0, 0, BURST, 2, 200, 100))
    host.ask(m.SetTrain(100, 5, 1, 10))
    host.ask(m.Fire())
    before = host.one(m.GetCounters()).stimuli
    host.ask(m.Start(), SECOND)
    after = host.one(m.GetCounters()).stimuli
    reset = host.settings.count_resets == "start"
    assert (0 if reset else before, after) == counts
    assert len(host.pulses_at()) == 18
