"""Where umock_host.py puts its devices in sysfs."""

from __future__ import annotations

from typing import Final

DEVICE: Final = "/sys/devices/mock/usb1/1-1"
ADAPTER: Final = "/sys/devices/mock/usb1/1-2"
ADAPTER_TTY: Final = f"{ADAPTER}/1-2:1.0/ttyUSB0/tty/ttyUSB0"
