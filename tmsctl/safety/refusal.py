"""A refusal: what a person is told when something is not allowed."""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """An expected no. `code` is stable; `sentence` holds the two values compared."""

    code: str
    sentence: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.sentence} {self.next_step} [{self.code}]"
