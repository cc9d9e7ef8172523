"""Keeps a recording: reads it from standard input and appends it to files. Started by the guard.

It may wait for the disk as long as it likes. It ends when the guard does, however that ends, and
has then written all that the guard had handed over.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from io import BufferedWriter
from pathlib import Path
from typing import Final

PART_SIZE: Final = 64 << 20
"""Bytes, of one file; then the next begins, at the beginning of a line."""

PARTS_MAX: Final = 16
"""The newest files of the folder are kept, of this recording and of those before."""

READ_SIZE: Final = 1 << 16


class Parts:
    """The files of one recording, one after the other. Each begins with the recording's header."""

    def __init__(self, folder: Path, name: str, size: int) -> None:
        self._folder, self._name, self._size = folder, name, size
        self._header: list[bytes] = []
        self._in_header = True
        self._number = self._left = 0
        self._file: BufferedWriter | None = None

    def write(self, lines: Iterable[bytes]) -> None:
        """Whole lines. They are in the file, as other programs see it, when this returns."""
        for line in lines:
            self._in_header = self._in_header and line.startswith(b"#")
            file = self._file
            if file is None or (not self._in_header and self._left < len(line)):
                file = self._begin()
            if self._in_header:
                self._header.append(line)
            else:
                self._left -= len(line)
            file.write(line)
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> BufferedWriter:
        self.close()
        self._number += 1
        path = self._folder / f"{self._name}-{self._number:04}.txt"
        self._file = file = path.open("xb")
        file.writelines(self._header)
        self._left = self._size
        kept = sorted(self._folder.glob("recording-*.txt"), key=lambda file: file.stat().st_mtime)
        for old in kept[:-PARTS_MAX]:
            old.unlink(missing_ok=True)
        return file


def keep(source: int, parts: Parts) -> None:
    """Until the end of `source`. OSError when the disk does not take it."""
    begun = b""  # of a line
    try:
        while data := os.read(source, READ_SIZE):
            *lines, begun = (begun + data).split(b"\n")
            parts.write(line + b"\n" for line in lines)
        if begun:
            parts.write([begun])  # cut short, and without its end it will not be believed
    finally:
        parts.close()


def main() -> int:
    """Exit status 0 at the end of standard input; 1, with one sentence, when the disk fails."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the guard may still have something to say
    folder = Path(sys.argv[1])
    began = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        parts = Parts(folder, f"recording-{began}-{os.getpid()}", PART_SIZE)
        keep(sys.stdin.fileno(), parts)
    except OSError as error:
        print(f"tms-guard: the recording in {folder} ends: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
