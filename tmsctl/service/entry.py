"""`tmsd --config FILE`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 ended in good order, 1 could not start."""
    parser = argparse.ArgumentParser(
        prog="tmsd",
        description="Runs treatment sessions: API, records, and care of the guard. "
        "tmsctl is not a cleared medical device.",
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the configuration file (TOML)"
    )
    config: Path = parser.parse_args(arguments).config
    # Only now what takes long to import: --help stays fast.
    start: Callable[[Path], list[str]] = importlib.import_module("tmsctl.service.start").start
    problems = start(config.absolute())
    for sentence in problems:
        print(f"tmsd: {sentence}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
