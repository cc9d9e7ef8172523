"""The expected no of the service, with what a person needs to go on."""

from __future__ import annotations

import enum

from tmsctl.safety.refusal import Refusal


class Exit(enum.IntEnum):
    """Bit of the exit status with which a command ends that was refused."""

    USAGE = 1  # wrong input, wrong state, or a defect of ours
    DEVICE = 2  # guard or device unreachable
    FAULT = 8  # the guard is in SAFE
    LIMIT = 16


class RefusedError(Exception):
    """A command was not carried out. `code` is stable; the sentences are for people."""

    def __init__(self, exit_bit: Exit, code: str, sentence: str, next_step: str) -> None:
        super().__init__(sentence)
        self.exit_bit = exit_bit
        self.refusal = Refusal(code, sentence, next_step)
