"""A stimulator on USB: tmssim's USB function, tmsd and its guard, no kernel and no root between.

What the coil gave is judged by the ground truth of the emulator, as everywhere.
"""

from __future__ import annotations

import gc
import itertools
import select
from collections.abc import Iterator

import pytest

from drivers.transport.usb_port import Opener, UsbPort
from tests.fakes import programs
from tests.process.system import System, boot_us, system, until
from tests.process.test_family_sessions import pattern
from tests.tables.test_usb_port import lost, opened

pytestmark = pytest.mark.timeout(180)

LOST_BEATS_US = 55_000  # the dead-man, and 5 ms for the estimate of the device's clock
STOPPED_US = 60_000
TEN_HZ = pattern("ten-hz", trains=2, train=6_500_000, bursts=10)


class UsbSystem:
    """The programs, with the stimulator behind USB/IP."""

    def __init__(self, whole: System) -> None:
        self.whole = whole
        self.socket = whole.folder / "usb"
        self.control = whole.folder / "control"
        (whole.folder / "protocols" / "ten-hz.toml").write_text(TEN_HZ)
        whole.write_config(f"usbip:unix:{self.socket}#SIM00001")

    def plug(self, serial: str = "SIM00001") -> None:
        self.whole.start_simulator(
            "--usb", f"unix:{self.socket}", "--control", str(self.control),
            "--set", f"serial={serial}",
        )  # fmt: skip
        until(self.control.exists, "the stimulator is there")

    def ctl(self, *words: str) -> None:
        programs.run("tmssim", "ctl", self.control, *words, timeout=30).check_returncode()


@pytest.fixture
def usb() -> Iterator[UsbSystem]:
    with system() as whole:
        yield UsbSystem(whole)


def test_a_whole_session_over_usb_ends_with_record_counter_and_ground_truth_equal(
    usb: UsbSystem,
) -> None:
    whole = usb.whole
    usb.plug()
    whole.start_tmsd()
    whole.until_disarmed("idle")
    run = whole.start_session(protocol="ten-hz")
    whole.until_complete()
    record, pulses = whole.dose_is_exact(run), whole.truth.pulses()
    assert record["delivered"] == 20 - record["skipped"]
    assert record["skipped"] == 0 or whole.recoveries
    assert record["device"]["count_after"] == record["delivered"] == len(pulses)
    gaps = [after.at - before.at for before, after in itertools.pairwise(pulses)]
    assert min(gaps) >= 99_000


def test_unplugging_in_a_train_is_safe_and_another_device_in_its_place_is_never_armed(
    usb: UsbSystem,
) -> None:
    whole = usb.whole
    usb.plug()
    whole.start_tmsd()
    whole.until_disarmed("idle")
    run = whole.delivering()
    at = whole.kill("tmssim")
    until(lambda: whole.status()["guard"]["state"] == "safe", "the guard is safe")
    until(lambda: whole.status()["device"]["link"].startswith("port-"), "the loss is told")
    whole.dose_covers(run)
    usb.plug("SIM00002")
    until(
        lambda: (
            "port-missing: no tmslink USB device with serial number SIM00001"
            in whole.status()["device"]["link"]
        ),
        "the other one is told from it",
    )
    whole.no_pulse_after(at, 0)
    whole.kill("tmssim")
    usb.plug()
    whole.until_disarmed("safe")
    whole.no_pulse_after(at, 0)
    whole.make_idle()
    whole.works_again()


def test_an_endpoint_that_halts_in_a_train_leaves_the_coil_disarmed(usb: UsbSystem) -> None:
    """What else can happen on the bus happens in virtual time: tests/world/test_usb_faults.py."""
    whole = usb.whole
    usb.plug()
    whole.start_tmsd()
    whole.until_disarmed("idle")
    run = whole.delivering()
    usb.ctl("set", "usb_stall", "value=2", "times=2")
    at = boot_us()
    until(lambda: whole.status()["guard"]["state"] == "safe", "the guard is safe")
    whole.until_device_disarmed()
    usb.ctl("clear")
    whole.until_disarmed("safe")
    assert whole.truth.events("arm", after=at) == []
    whole.dose_covers(run)
    whole.acknowledge()
    whole.delivering(run)
    whole.end_session(run)


# -- the port against the emulator -------------------------------------------------------------


@pytest.fixture
def port(usb: UsbSystem) -> Iterator[UsbPort]:
    usb.plug()
    made = opened(Opener(f"usbip:unix:{usb.socket}"))
    yield made
    made.close()
    assert made.ended(5)


@pytest.mark.parametrize("fault", ["usb_stall value=2", "usb_nak value=2", "usb_drop value=2"])
def test_stop_reaches_the_device_while_bulk_is_halted_or_full(
    usb: UsbSystem, port: UsbPort, fault: str
) -> None:
    usb.ctl("set", *fault.split())
    for _ in range(20):
        port.write(bytes(200))
    began = boot_us()
    assert port.stop()
    assert usb.whole.until_logged("stop", after=0) >= began


def test_a_device_that_comes_and_goes_leaves_nothing_behind(usb: UsbSystem) -> None:
    """The guard collects no garbage, and a plug may be loose for weeks."""
    usb.plug()
    opener, counts = Opener(f"usbip:unix:{usb.socket}#SIM00001"), []
    gc.disable()
    try:
        for _ in range(16):
            port = opened(opener)
            usb.ctl("set", "disconnect", "value=1")
            lost(port)
            port.close()
            assert port.ended(5)
            counts.append(len(gc.get_objects()))
    finally:
        gc.enable()
    assert counts[-1] - counts[5] < 10, counts


def test_the_port_waits_for_nothing_while_nothing_comes(port: UsbPort) -> None:
    assert select.select([port], [], [], 0.3)[0] == []
    assert port.read() == b""
