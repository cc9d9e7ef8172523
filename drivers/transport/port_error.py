"""Why a port could not be opened."""

from __future__ import annotations


class PortError(OSError):
    """The port could not be opened. `code` is stable."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code

    def __str__(self) -> str:
        return f"{self.code}: {self.args[0]}"
