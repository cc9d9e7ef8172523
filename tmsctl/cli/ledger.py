"""`tmsctl ledger`: what only a person can know about the dose on record."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tmsctl.cli.options import AsJson

app = typer.Typer(no_args_is_help=True, help="The dose ledger: what a person has to put right.")

Json = dict[str, Any]
Operator = Annotated[str, typer.Option(help="Your id.")]
Reason = Annotated[str, typer.Option(help="What you know, and how; it stays on record.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

CALM = "No pulse is unknown."
WRONG_CLOCK = "Set the computer's clock, then repeat this command."


@app.command("list")
def list_(
    context: typer.Context,
    patient: Annotated[
        str | None, typer.Option(help="Also this patient's pulses of a day and a week.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Unknown pulses, the device's counter, the clock. Reads only."""
    from tmsctl.cli.client import Client
    from tmsctl.cli.show import print_json

    with Client(context.obj) as client:
        ledger = client.call("ledger.list", {"patient": patient})
    if as_json:
        print_json(ledger)
        return 0
    print("\n".join(_lines(ledger)))
    return 0


@app.command()
def resolve(
    context: typer.Context,
    session: Annotated[int, typer.Argument(min=1, help="Number of the session.")],
    block: Annotated[int, typer.Argument(min=0, help="Number of the block, as listed.")],
    delivered: Annotated[int, typer.Option(min=0, help="Pulses that left the coil.")],
    operator: Operator,
    reason: Reason,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Say what an unknown block delivered; until then all of it counts."""
    from tmsctl.cli.client import Client

    with Client(context.obj) as client:
        if not yes:
            _show_block(client.call("ledger.list")["unresolved"], session, block, as_json)
            _ask(f"Were {_pulses(delivered)} of it delivered?", as_json)
        client.call(
            "ledger.resolve",
            {
                "session": session, "block": block, "delivered": delivered,
                "operator": operator, "reason": reason,
            },
        )  # fmt: skip
    answer = {"session": session, "block": block, "delivered": delivered}
    _say(answer, f"Block {block} of session {session} counts {_pulses(delivered)}.", as_json)
    return 0


@app.command()
def accept_counter(
    context: typer.Context,
    serial: Annotated[str, typer.Argument(help="Serial number of the connected device.")],
    operator: Operator,
    reason: Reason,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Go on from what the device's counter shows: you know why it disagrees."""
    from tmsctl.cli.client import Client

    with Client(context.obj) as client:
        if not yes:
            counter = client.call("ledger.list")["counter"]
            if not as_json:
                print(_counter(counter))
            _ask("Go on from what the device shows?", as_json)
        params = {"serial": serial, "operator": operator, "reason": reason}
        counter = client.call("ledger.accept_counter", params)
    _say(counter, _counter(counter), as_json)
    return 0


@app.command()
def confirm_clock(
    context: typer.Context, operator: Operator, yes: Yes = False, as_json: AsJson = False
) -> int:
    """Compare the computer's clock with a watch: doses are counted by it."""
    from tmsctl.cli.client import Client

    with Client(context.obj) as client:
        clock = client.call("ledger.list")["clock"]
        if not as_json:
            for line in _clock(clock):
                print(line)
        if not yes:
            _ask("Is the computer's time right?", as_json, WRONG_CLOCK)
        clock = client.call("ledger.confirm_clock", {"operator": operator, "time": clock["time"]})
    _say(clock, "The clock is confirmed.", as_json)
    return 0


def _show_block(found: list[Json], session: int, block: int, as_json: bool) -> None:
    """A block that is not among the unknown ones is tmsd's to refuse."""
    if not as_json:
        mine = [item for item in found if (item["session"], item["block"]) == (session, block)]
        print("\n".join(map(_unresolved, mine)))


def _ask(question: str, as_json: bool, next_step: str = "") -> None:
    """CliError unless the answer is yes. Without a terminal --yes is needed."""
    import sys

    from tmsctl.cli.errors import CliError

    if as_json or not sys.stdin.isatty():
        raise CliError(
            "no-confirmation",
            "This needs a person's yes, and there is nobody here to ask.",
            "Read what `tmsctl ledger list` shows, then repeat the command with --yes.",
        )
    if not typer.confirm(question, default=False):
        raise CliError("not-confirmed", "Nothing was changed: the answer was no.", next_step)


def _say(answer: Json, sentence: str, as_json: bool) -> None:
    if as_json:
        from tmsctl.cli.show import print_json

        print_json(answer)
    else:
        print(sentence)


def _unresolved(item: Json) -> str:
    """An unknown block in two lines."""
    counter = "nothing" if item["suggests"] is None else str(item["suggests"])
    return (
        f"Session {item['session']} block {item['block']}: patient {item['patient']}, "
        f"{item['intent_at'][:19]}\n"
        f"  {item['confirmed']} to {_pulses(item['pulses'])} delivered, the device's counter says "
        f"{counter}; {item['why']}"
    )


def _lines(ledger: Json) -> list[str]:
    lines = [_unresolved(item) for item in ledger["unresolved"]] or [CALM]
    if ledger["unresolved"]:
        lines.append("All of these count as delivered until: tmsctl ledger resolve SESSION BLOCK")
    counter, dose = ledger["counter"], ledger["dose"]
    lines.append(_counter(counter))
    lines += _clock(ledger["clock"])
    if dose is not None:
        lines.append(
            f"Patient {dose['patient']}: {_pulses(dose['day_pulses'])} in 24 h, "
            f"{dose['week_pulses']} in 7 days; {_since(dose['since_last_s'])}."
        )
    return lines


def _counter(counter: Json | None) -> str:
    if counter is None:
        return "Counter: no stimulator answers."
    low, high = counter["low"], counter["high"]
    fits = str(low) if low == high else f"{low} to {high}"
    verdict = "agrees" if counter["agrees"] else "DISAGREES: tmsctl ledger accept-counter"
    whose = counter["serial"] or "the stimulator"
    return f"Counter of {whose}: shows {counter['shown']}, the ledger has {fits}; {verdict}."


def _clock(clock: Json) -> list[str]:
    lines = [f"Computer's time: {clock['time']}"]
    if clock["confirmed_at"] is not None:
        lines.append(f"Last confirmed:  {clock['confirmed_at']} by {clock['confirmed_by']}")
    if not clock["confirmed"]:
        lines.append(f"NOT CONFIRMED: {clock['why']} Next: tmsctl ledger confirm-clock")
    return lines


def _pulses(number: int) -> str:
    return f"{number} pulse" if number == 1 else f"{number} pulses"


def _since(seconds: float | None) -> str:
    if seconds is None:
        return "no session before"
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours} h {minutes} min since the last pulse"
