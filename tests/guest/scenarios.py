"""What runs in a guest: the programs of this checkout, the kernel's own USB between them, udevd.

A scenario that passes prints one line for tests/guest/run.py. As everywhere, the ground truth
of the emulator judges what the coil gave.
"""

from __future__ import annotations

import fcntl
import grp
import select
import struct
import subprocess
import sys
import termios
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

import serial

from drivers.transport import usb_hotplug
from drivers.transport.serial_port import SerialPort
from firmware_protocol.magstim.framing import Decoder, encode
from firmware_protocol.magstim.messages import Dialect, Model, Status, Value
from sim_device.usbip_attach import VHCI, attach
from tests.fakes import programs
from tests.process import system as whole_system
from tests.process.system import System, boot_us, system, until

SERIAL: Final = "SIM00001"
TTY: Final = "/dev/ttyUSB0"
NOBODY: Final = 65534
BEATS_LOST_US: Final = 55_000  # the dead-man, and 5 ms for the estimate of the device's clock
QUICK: Final = ("--set", "arming_us=50000", "rise_us_per_pct=1000", "after_pulse_us=100000")
"""A Magstim that need not be waited for."""
KEEP_ALIVE_US: Final = 1_050_000  # its 1 s, and the line
KEPT_ALIVE_S: Final = 0.4
READY_ASKS_MAX: Final = 25
TRUTH_LINES: Final = 40
ANNOUNCED_WITHIN_S: Final = 30
POLL_S: Final = 0.05
"""Each look costs some milliseconds of the guest, and ten times as many of whoever waits for it."""


class Cable:
    """Between the emulator and the guest's own USB. The emulator lives on when it is pulled."""

    def __init__(self, whole: System, option: str, *words: str) -> None:
        self._address = f"unix:{whole.folder}/usb"
        whole.start_simulator(option, self._address, *words)
        until((whole.folder / "usb").exists, "the emulator is there")

    def plug_by_command(self) -> None:
        done = subprocess.run(
            [programs.FOLDER / "tmssim", "attach", self._address],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self._port = port_of(done.stdout)

    def plug(self) -> None:
        """As `tmssim attach` does, in this process: a program takes long to start here."""
        (said,) = attach([self._address])
        self._port = port_of(said)

    def pull(self) -> int:
        """CLOCK_BOOTTIME before it."""
        at = boot_us()
        (VHCI / "detach").write_text(self._port)
        return at


def port_of(said: str) -> str:
    """Of vhci_hcd, from what `tmssim attach` prints."""
    return said.partition(";")[0].rpartition(" ")[2]


# -- tmslink: vhci_hcd, usbcore, usbfs, libusb, pyusb ----------------------------------------------


def tmslink_over_libusb(whole: System) -> str:
    """A session of tmsd and its guard. The device is unplugged in the middle, and comes back."""
    whole.write_config(f"usb:{SERIAL}")
    cable = Cable(whole, "--usb")
    cable.plug_by_command()
    whole.start_tmsd()
    whole.until_disarmed("idle")
    run = whole.start_session()
    whole.until_given(run, 3)
    at = cable.pull()
    until(lambda: whole.status()["guard"]["state"] == "safe", "the guard is safe")
    until(lambda: not whole.status()["device"]["connected"], "the loss is told")
    still = whole.until_device_disarmed() - at
    whole.no_pulse_after(at, BEATS_LOST_US)
    whole.dose_covers(run)
    announced = plugged_with_rules(cable)
    whole.until_disarmed("safe")
    whole.no_pulse_after(at, BEATS_LOST_US)
    given = whole.given(run)
    whole.make_idle()
    return (
        f"{given} pulses, unplugged, disarmed {still // 1000} ms later, safe, found again, "
        f"announced by udevd after {announced // 1000} ms"
    )


def plugged_with_rules(cable: Cable) -> int:
    """Plug it in. How long udevd took to announce it; then the rules have given it to its group."""
    line, words = usb_hotplug.listen(), set()
    assert line is not None
    at = boot_us()
    cable.plug()
    while usb_hotplug.Word.UDEV not in words:
        assert select.select([line._line], [], [], ANNOUNCED_WITHIN_S)[0], words
        words.add(line._read())
    took = boot_us() - at
    assert usb_hotplug.Word.KERNEL in words
    line.close()
    belongs_to_the_guard(Path(f"/dev/tmsctl/usb-{SERIAL}"))
    return took


def belongs_to_the_guard(name: Path) -> None:
    """As systemd/70-tmsctl.rules has it."""
    found = name.stat()  # of what the link leads to
    assert (grp.getgrgid(found.st_gid).gr_name, found.st_mode & 0o777) == ("dialout", 0o660), found


# -- Magstim: vhci_hcd, usbcore, ftdi_sio, tty, pyserial -------------------------------------------


def magstim_over_ftdi_sio(whole: System) -> str:
    """Modem lines, baud rate and parity, single pulses, a second program, and an unplug."""
    cable = Cable(whole, "--ftdi", *QUICK)
    cable.plug()
    until(Path(TTY).exists, "the kernel has made a terminal")
    until(Path(f"/dev/tmsctl/serial-{SERIAL}").exists, "udevd has applied its rules")
    belongs_to_the_guard(Path(TTY))
    opening_raises_rts(whole)
    only_its_own_format_is_understood()
    line = SerialPort(f"usb-serial:{SERIAL}", 9600, lines_low=True)
    get_ready(line)
    ask(line, "fire")
    until(lambda: len(whole.truth.pulses()) == 1, "a pulse")
    nobody_else_opens_it(whole)
    get_ready(line)
    fcntl.ioctl(line.fileno(), termios.TIOCMBIS, struct.pack("I", termios.TIOCM_RTS))
    until(lambda: len(whole.truth.pulses()) == 2, "a pulse of the trigger input")
    until(lambda: bool(ask(line, "enable_remote") & (Status.ARMED | Status.READY)), "still armed")
    at = cable.pull()
    until(lambda: is_gone(line), "the loss is told")
    line.close()
    still = whole.until_device_disarmed() - at
    assert still <= KEEP_ALIVE_US, still
    cable.plug()
    until(Path(TTY).exists, "the terminal is back")
    SerialPort(f"usb-serial:{SERIAL}", 9600, lines_low=True).close()
    causes = [line.says["cause"] for line in whole.truth.pulses()]
    assert causes == ["fire", "trigger"], causes
    return f"a pulse each by command and by RTS, unplugged, disarmed {still // 1000} ms later"


def opening_raises_rts(whole: System) -> None:
    """Linux does, whatever is asked, and each time."""
    assert whole.truth.events("edge") == []
    for _ in range(2):
        at = boot_us()
        with serial.Serial(TTY, 9600) as port:
            whole.until_logged("edge", after=at)
            assert (port.cts, port.dsr) == (True, True)
    assert len(whole.truth.events("edge")) == 2


def only_its_own_format_is_understood() -> None:
    row = DIALECT.row("enable_remote")
    with serial.Serial(TTY, 9600) as port:
        for baud, parity, understood in ((9600, "N", 1), (19200, "N", 0), (9600, "E", 0)):
            port.baudrate, port.parity, port.timeout = baud, parity, 5 if understood else 0.3
            port.reset_input_buffer()
            port.write(encode(row))
            decoder = Decoder()
            decoder.expect(row)
            reply = decoder.feed(port.read(row.reply_size or 0))
            assert (reply is not None) == understood, f"{baud} {parity}: {reply}"


def nobody_else_opens_it(whole: System) -> None:
    """A user who may open the file, while it is open: no byte and no edge of it arrives."""
    Path(TTY).chmod(0o666)
    before = len(whole.truth.events("edge"))
    done = subprocess.run(
        ["/bin/sh", "-c", f"echo EA > {TTY}"], user=NOBODY, capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert "busy" in done.stderr, done
    assert len(whole.truth.events("edge")) == before


DIALECT: Final = Dialect(Model.M200)


def ask(line: SerialPort, name: str, *values: Value) -> Status:
    """One command; the status that answers it."""
    row, decoder, statuses = DIALECT.row(name), Decoder(), []
    decoder.expect(row)
    assert line.write(encode(row, *values))

    def answered() -> bool:
        reply = decoder.feed(line.read())
        if reply is not None:
            assert reply.status is not None, reply
            statuses.append(reply.status)
        return bool(statuses)

    until(answered, f"an answer to {name}")
    return statuses[0]


def get_ready(line: SerialPort) -> None:
    """Armed and charged, 2 s after a pulse; asking keeps it alive."""
    if Status.STANDBY in ask(line, "enable_remote"):
        ask(line, "set_power", 10)
        ask(line, "arm")
    for _ in range(READY_ASKS_MAX):
        if ask(line, "enable_remote") & Status.READY:
            return
        time.sleep(KEPT_ALIVE_S)
    raise AssertionError("never happened: ready")


def is_gone(line: SerialPort) -> bool:
    try:
        line.read()
    except OSError:
        return True
    return False


SCENARIOS: Final[dict[str, tuple[str, Callable[[System], str]]]] = {
    "usb": ("tmslink", tmslink_over_libusb),
    "serial": ("magstim-200", magstim_over_ftdi_sio),
}
"""Name: model, and what happens."""


def told(scenario: Callable[[System], str], whole: System) -> str:
    """What it says; when it fails, what the device has seen is printed."""
    try:
        return scenario(whole)
    except AssertionError:
        print(*whole.truth.lines()[-TRUTH_LINES:], sep="\n", flush=True)
        raise


def main() -> int:
    """Exit status: 1 when the scenario that was named has failed."""
    whole_system.POLL_S = POLL_S
    name, began = sys.argv[1], time.monotonic()
    model, scenario = SCENARIOS[name]
    try:
        with system(model=model) as whole:
            said = told(scenario, whole)
    except (AssertionError, OSError, subprocess.SubprocessError):
        traceback.print_exc(file=sys.stdout)
        return 1
    print(f"PASS {name}: {said} ({time.monotonic() - began:.1f} s of the guest)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
