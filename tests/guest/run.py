"""Boots a Debian kernel under qemu with this checkout in it, once for each scenario and all at the
same time, and judges what the scenarios print.

No image is built: the guest's root is this machine's own, read-only. No acceleration is used, since
few machines for tests have any. The kernel is fetched once as a Debian package and never installed.
The guest's clock counts its instructions: on a busy machine the guest is slower for us, and not for
itself, so that none of its deadlines depends on the machine.
"""

from __future__ import annotations

import compileall
import gzip
import lzma
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / "build" / "usb-guest"
LIMIT_S: Final = 600
"""A guest that has not ended by then is stopped. Each needs half a minute of a processor."""

KERNEL: Final = "linux-image-amd64"
TOOLS: Final = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "udevadm": "udev",
}
"""Program: Debian package."""
MODULES: Final = (
    "virtio_pci", "9pnet_virtio", "9p", "overlay", "vhci_hcd", "ftdi_sio",
)  # fmt: skip
ARGUMENTS: Final = (
    "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable no_timer_check nowatchdog "
    "cryptomgr.notests lpj=4000000"
)
"""Of the kernel. Most leave out a look at hardware that is not there, emulated at length."""
COMPILED: Final = (
    "firmware_protocol", "drivers", "sim_device", "tmsctl", "tests/fakes", "tests/process",
    "tests/guest",
)  # fmt: skip
"""Where the guest's programs come from."""

SCENARIOS: Final = ("usb", "serial")
PASSED: Final = "PASS "  # begins the line of a scenario that has passed
TOLD_LINES: Final = 100  # of the guest's console, when something has failed


class GuestError(Exception):
    """One sentence: what is missing or went wrong."""


def main() -> int:
    """Exit status: 0 when every scenario has passed, or outside CI where a tool is missing."""
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing or os.uname().machine != "x86_64":
        why = f"apt-get install {' '.join(missing)}" if missing else "needs an x86-64 machine"
        print(f"usb-guest-test not run: {why}")
        return int(os.environ.get("CI") == "true")
    began = time.monotonic()
    try:
        prepare()
        print(f"kernel and first file system: {time.monotonic() - began:.1f} s", flush=True)
        with ThreadPoolExecutor() as guests:
            passed = dict(zip(SCENARIOS, guests.map(boot, SCENARIOS), strict=True))
    except (GuestError, OSError, subprocess.SubprocessError) as error:
        print(f"usb-guest-test: {error}")
        return 1
    failed = [name for name in SCENARIOS if not passed[name]]
    for name in failed:
        print(*console(name).read_text().splitlines()[-TOLD_LINES:], sep="\n")
        print(f"FAIL {name}: see {console(name)}")
    print(f"usb-guest-test: {time.monotonic() - began:.0f} s")
    return int(bool(failed))


def console(name: str) -> Path:
    """What the guest of this scenario has printed, and when."""
    return CACHE / f"console-{name}.log"


def boot(name: str) -> bool:
    """Run a guest; whether its scenario has passed."""
    command: list[str | Path] = [
        "qemu-system-x86_64", "-accel", "tcg", "-icount", "shift=0", "-M", "q35,hpet=off",
        "-cpu", "qemu64", "-smp", "1", "-m", "1024",
        "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
        "-kernel", CACHE / "vmlinux", "-initrd", CACHE / "initramfs",
        "-append", f"{ARGUMENTS} checkout={ROOT} scenario={name}",
        "-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
    ]  # fmt: skip
    guest = subprocess.Popen(
        ["timeout", str(LIMIT_S), *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert guest.stdout is not None
    passed, ended, began = False, False, time.monotonic()
    with guest.stdout, console(name).open("w") as log:
        for raw in guest.stdout:
            line = raw.decode(errors="replace").rstrip()
            log.write(f"{time.monotonic() - began:6.1f} {line}\n")
            log.flush()
            if line.startswith(PASSED):
                passed = True
                print(line, flush=True)
            ended |= line.startswith("ended ")
    if guest.wait() or not ended:
        raise GuestError(f"the guest has not ended within {LIMIT_S} s; see {console(name)}")
    return passed


# -- kernel and first file system ------------------------------------------------------------------


def prepare() -> None:
    """Fetch and unpack the kernel once; make the first file system anew."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for folder in COMPILED:  # else the guest would, some ten times as slowly
        compileall.compile_dir(ROOT / folder, quiet=2)
    if not (CACHE / "vmlinux").exists():
        fetch()
    (release,) = (CACHE / "lib/modules").iterdir()
    files = list(in_order(release))
    content: list[tuple[str, int, bytes]] = [
        (name, stat.S_IFDIR | 0o755, b"")
        for name in ("bin", "modules", "proc", "sys", "dev", "lower", "memory", "root")
    ]
    busybox = Path(shutil.which("busybox") or "").read_bytes()
    content.append(("bin/busybox", stat.S_IFREG | 0o755, busybox))
    applets = ("mount", "insmod", "mkdir", "ip", "cat", "cp", "poweroff", "switch_root")
    content += [(f"bin/{name}", stat.S_IFLNK | 0o777, b"busybox") for name in applets]
    content.append(("init", stat.S_IFREG | 0o755, (ROOT / "tests/guest/init.sh").read_bytes()))
    content += [(f"modules/{f.name}", stat.S_IFREG | 0o644, f.read_bytes()) for f in files]
    order = "".join(f"{file.name}\n" for file in files).encode()
    content.append(("modules/order", stat.S_IFREG | 0o644, order))
    (CACHE / "initramfs").write_bytes(gzip.compress(archive(content), compresslevel=1))


def fetch() -> None:
    """The kernel that Debian has now, unpacked. Nothing is installed."""
    depends = run("apt-cache", "depends", KERNEL).stdout.split()
    package = depends[2] if depends[1:2] == ["Depends:"] else ""
    if not package:
        raise GuestError(f"apt knows no {KERNEL}; run apt-get update")
    print(f"fetching {package}", flush=True)
    run("apt-get", "-qq", "download", package)
    (deb,) = CACHE.glob(f"{package}_*.deb")
    run("dpkg-deb", "--extract", str(deb), "unpacked")
    (image,) = (CACHE / "unpacked/boot").glob("vmlinuz*")
    shutil.rmtree(CACHE / "lib", ignore_errors=True)
    (CACHE / "unpacked/lib").rename(CACHE / "lib")
    (release,) = (CACHE / "lib/modules").iterdir()
    run("depmod", "--basedir", str(CACHE), release.name)
    (CACHE / "vmlinux").write_bytes(uncompressed(image.read_bytes()))
    shutil.rmtree(CACHE / "unpacked")
    deb.unlink()


def run(*command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=CACHE, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    if done.returncode:
        raise GuestError(f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}")
    return done


def uncompressed(image: bytes) -> bytes:
    """The kernel proper: it starts some seconds sooner than with its own unpacking, emulated."""
    at = image.find(b"\xfd7zXZ\0")
    if at < 0:
        raise GuestError("the kernel is not packed with xz, as Debian 12 has it")
    return lzma.LZMADecompressor().decompress(image[at:])


def in_order(release: Path) -> Iterator[Path]:
    """Files of `MODULES` and of all that they need, each behind what it needs."""
    needs = {}
    for line in (release / "modules.dep").read_text().splitlines():
        name, _, rest = line.partition(":")
        needs[Path(name).name.partition(".")[0].replace("-", "_")] = [name, *rest.split()]
    seen: set[str] = set()
    for module in MODULES:
        for name in reversed(needs.get(module, [])):  # one that is built in needs nothing
            if name not in seen:
                seen.add(name)
                yield release / name


def archive(content: Iterable[tuple[str, int, bytes]]) -> bytes:
    """A cpio archive as the kernel unpacks it: name, mode, data."""
    packed = bytearray()
    for number, (name, mode, data) in enumerate((*content, ("TRAILER!!!", 0, b"")), start=1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        packed += b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (name.encode() + b"\0", data):
            packed += part
            packed += bytes(-len(packed) % 4)
    return bytes(packed)


if __name__ == "__main__":
    sys.exit(main())
