"""What a person is shown before a session, and asked: the plan, every limit, and two questions."""

from __future__ import annotations

import sys
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table

from tmsctl.cli.errors import EXIT_LIMIT, CliError
from tmsctl.cli.options import UNVERIFIED
from tmsctl.cli.show import console

Json = dict[str, Any]

MEANS_UNVERIFIED: Final = f"{UNVERIFIED}: nobody has compared this limit with its source yet."


def show(prepared: Json) -> None:
    """The sentence to read back, the warnings, and both numbers of every limit."""
    paper = console()
    paper.print(prepared["sentence"], style="bold")
    for warning in prepared["warnings"]:
        paper.print(f"warning: {warning}", style="yellow")
    print_checks(paper, prepared["checks"])


def print_checks(paper: Console, found: list[Json]) -> None:
    """One limit a line, what is exceeded last; a limit that nobody has verified says so."""
    table = Table("", "check", "found", "", box=None)
    for check in sorted(found, key=lambda check: (not check["ok"], not check["soft"])):
        mark, style = _mark(check)
        known = "" if check["verified"] else UNVERIFIED
        table.add_row(mark, check["code"], check["detail"], known, style=style)
    paper.print(table)
    if any(not check["verified"] for check in found):
        paper.print(MEANS_UNVERIFIED, style="dim")


def _mark(check: Json) -> tuple[str, str]:
    if check["ok"]:
        return "✓ ok", "green"
    return ("! SOFT", "bold yellow") if check["soft"] else ("✗ NO", "bold red")


def refuse_failed(prepared: Json) -> None:
    """CliError for the first hard limit that the plan breaks."""
    failed = [check for check in prepared["checks"] if not check["ok"] and not check["soft"]]
    if failed:
        raise CliError(
            failed[0]["code"],
            f"The session cannot start, {failed[0]['code']}: {failed[0]['detail'].rstrip('.')}.",
            failed[0]["next"] or f"Put right what is marked NO ({len(failed)}) and start again.",
            EXIT_LIMIT,
        )


def agreed(prepared: Json, reason: str | None, *, yes: bool, as_json: bool) -> str | None:
    """Ask what has to be asked. Returns the reason for exceeding soft limits, None without any.

    CliError when the answer is no, or when nobody is here to ask.
    """
    alone = as_json or not sys.stdin.isatty()
    if not yes:
        if alone:
            raise CliError(
                "no-confirmation",
                "A session starts only after a yes, and there is nobody here to ask.",
                "Read the summary, then repeat the command with --yes.",
            )
        _ask("Start?")
    beyond = prepared["needs_reason"]
    if not beyond:
        return reason
    names = ", ".join(beyond)
    if reason is None and alone:
        raise CliError(
            "soft-limit",
            f"The session exceeds soft limits ({names}), and nobody here can say why.",
            "If it is meant so, repeat the command with --reason TEXT.",
            EXIT_LIMIT,
        )
    if reason is None:
        print(f"Soft limits are exceeded: {names}. The reason goes on record; empty: do not start.")
        reason = typer.prompt("Reason", default="", show_default=False).strip()
        if not reason:
            raise CliError("not-confirmed", "Nothing was started: no reason was given.")
    elif not yes:
        _ask(f"Exceed soft limits ({names}), because: {reason}?")
    return reason


def _ask(question: str) -> None:
    if not typer.confirm(question, default=False):
        raise CliError("not-confirmed", "Nothing was started: the answer was no.")
