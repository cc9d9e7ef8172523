"""What a person is told when a command cannot be carried out."""

from __future__ import annotations

EXIT_USAGE = 1  # usage, internal, or a command in the wrong state
EXIT_UNREACHABLE = 2  # no device, or no program that speaks for it
EXIT_COMMUNICATION = 4
EXIT_FAULT = 8  # the guard is in SAFE
EXIT_LIMIT = 16  # refused by a limit
EXIT_SELF_TEST = 32  # a proof of the self-test failed


class CliError(Exception):
    """One sentence, a next step, a stable code and the exit status of the program."""

    def __init__(
        self, code: str, sentence: str, next_step: str = "", exit_status: int = EXIT_USAGE
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.next_step = next_step
        self.exit_status = exit_status

    def __str__(self) -> str:
        step = f" {self.next_step}" if self.next_step else ""
        return f"tmsctl: {self.sentence}{step} [{self.code}]"
