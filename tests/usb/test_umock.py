"""Unmodified libusb and pyusb against the emulated function, through usbfs as umockdev plays it."""

from __future__ import annotations

import ctypes.util
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.usb import umock
from tests.usb.umock import Host
from tests.usb.umock_cases import CASES, SERIAL


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    libusb = [] if ctypes.util.find_library("usb-1.0") else ["libusb-1.0-0"]
    umock.require(*umock.missing_packages(), *libusb)
    with tempfile.TemporaryDirectory(prefix="tms") as folder, umock.host(Path(folder)) as made:
        yield made


@pytest.mark.parametrize("case", CASES)
def test_libusb_finds_the_device_as_the_page_has_it(running: Host, case: str) -> None:
    """Each case is a sentence in umock_cases.py."""
    running.tell("unplug")
    running.tell("plug", SERIAL)
    done = running.run(sys.executable, "-m", "tests.usb.umock_cases", case)
    assert done.returncode == 0, done.stderr
