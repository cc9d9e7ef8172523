"""What an installation says of its device in `[device.options]`, read by the driver's table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Option(NamedTuple):
    """One option: a whole number with its closed range, or a text of a form."""

    doc: str
    default: int | str | None = None  # None: not known, and the driver does without
    low: int = 0
    high: int = 0
    pattern: str = ""  # of a text; empty for a number
    secret: bool = False  # such as an unlock code: it is written nowhere

    @property
    def allowed(self) -> str:
        return f"a text like {self.pattern}" if self.pattern else f"{self.low} to {self.high}"


OptionTable = Mapping[str, Option]
Options = Mapping[str, int | str | None]


def parse_options(table: OptionTable, given: Mapping[str, object]) -> Options:
    """Every option of the table, given or by default. ValueError names what is allowed."""
    values: dict[str, int | str | None] = {name: row.default for name, row in table.items()}
    for name, value in given.items():
        row = table.get(name)
        if row is None:
            known = ", ".join(table) or "none for this driver"
            raise ValueError(f"device.options.{name} is unknown; allowed are {known}")
        if row.pattern:
            good = isinstance(value, str) and re.fullmatch(row.pattern, value) is not None
        else:
            good = type(value) is int and row.low <= value <= row.high
        if not good:
            # The value may be a secret, such as an unlock code: it is not repeated.
            raise ValueError(f"device.options.{name} is not {row.allowed}")
        assert isinstance(value, int | str)
        values[name] = value
    return values
