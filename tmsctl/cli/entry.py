"""The program `tmsctl`. STOP is served before anything heavy is imported."""

from __future__ import annotations

import os
import sys

from tmsctl.cli import stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from tmsctl.cli.errors import CliError


def main() -> int:
    """Run the command in sys.argv and return the exit status."""
    arguments = sys.argv[1:]
    if stop.asked(arguments):
        return stop.main(arguments)
    sys.excepthook = _internal_error
    for stream in (sys.stdout, sys.stderr):
        # A terminal without Unicode shows "?" for a character instead of ending the session's view.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    return _commands(arguments)


def _commands(arguments: list[str]) -> int:
    import typer

    from tmsctl.cli.app import app
    from tmsctl.cli.errors import EXIT_USAGE, CliError

    command = typer.main.get_command(app)
    try:
        status = command.main(arguments or ["--help"], prog_name="tmsctl", standalone_mode=False)
    except CliError as error:
        return _report(error, arguments)
    except typer.TyperException as error:
        message = error.format_message()
        if message.startswith("Usage:"):  # a group without a command: its help is the answer
            print(message)
            return EXIT_USAGE
        sentence = " ".join(message.split()).rstrip(".") + "."
        return _report(CliError("usage", sentence, "See `tmsctl --help`."), arguments)
    except typer.Abort:
        return _report(CliError("not-confirmed", "Nothing was started."), arguments)
    except KeyboardInterrupt:
        return EXIT_USAGE
    # 130 is typer's word for Ctrl-C; here bits have meanings and 128 would say "service due".
    return EXIT_USAGE if status == 130 else status or 0


def _report(error: CliError, arguments: list[str]) -> int:
    print(error, file=sys.stderr)
    if "--json" in arguments:
        import json

        body = {
            "code": error.code,
            "message": error.sentence,
            "next": error.next_step,
            "exit": error.exit_status,
        }
        print(json.dumps({"error": body}))
    return error.exit_status


def _internal_error(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """A defect of ours: one sentence, and the traceback only for who asks for it."""
    if os.environ.get("TMSCTL_TRACEBACK"):
        sys.__excepthook__(kind, error, trace)
    print(
        f"tmsctl: internal error, {kind.__name__}: {error}. Set TMSCTL_TRACEBACK=1 and repeat "
        "to see where, and report it. [internal]",
        file=sys.stderr,
    )
