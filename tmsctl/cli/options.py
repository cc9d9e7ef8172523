"""Options and words that several commands share."""

from __future__ import annotations

import enum
from typing import Annotated, Final

import typer


class MtMethod(enum.StrEnum):
    """Twitches are measured by electromyography, or seen with the eye."""

    EMG = "emg"
    VISUAL = "visual"


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
MtMethodOption = Annotated[
    MtMethod, typer.Option("--mt-method", help="How it was measured; by eye is judged stricter.")
]

UNVERIFIED: Final = "unverified"
