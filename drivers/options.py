"""What an installation says of its device in `[device.options]`, read by the driver's table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Option(NamedTuple):
    """One option: a whole number with its closed range or its choices, or a text of a form."""

    doc: str
    default: int | str | None = None  # None: not known
    low: int = 0
    high: int = 0
    choices: tuple[int, ...] = ()  # in place of a range
    pattern: str = ""  # of a text; empty for a number
    form: str = ""  # of a text, in words
    secret: bool = False  # such as an unlock code: no message repeats it
    required: bool = False  # without it the driver does not connect

    @property
    def allowed(self) -> str:
        if self.pattern:
            return f"a text of the form {self.form}"
        return " or ".join(map(str, self.choices)) or f"{self.low} to {self.high}"


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
        elif type(value) is int:
            good = value in row.choices if row.choices else row.low <= value <= row.high
        else:
            good = False
        if not good:
            # The value may be a secret, such as an unlock code: it is not repeated.
            raise ValueError(f"device.options.{name} is not {row.allowed}")
        assert isinstance(value, int | str)
        values[name] = value
    return values
