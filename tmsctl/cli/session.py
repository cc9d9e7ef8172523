"""`tmsctl session`: start, pause, resume, stop, show, list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tmsctl.cli.options import AsJson, MtMethod, MtMethodOption

app = typer.Typer(no_args_is_help=True, help="Start, pause, resume, stop, look up sessions.")


@app.command()
def start(
    context: typer.Context,
    patient: Annotated[str, typer.Option(help="Patient's id.")],
    operator: Annotated[str, typer.Option(help="Your id.")],
    protocol: Annotated[str, typer.Option(help="Protocol's id; see `tmsctl protocol list`.")],
    mt: Annotated[float, typer.Option(help="Motor threshold, %MSO.")],
    mt_method: MtMethodOption = MtMethod.VISUAL,
    pct_mt: Annotated[
        int | None, typer.Option("--pct-mt", help="Percent of motor threshold, else protocol's.")
    ] = None,
    reduced: Annotated[
        bool, typer.Option("--reduced", help="Accept less when the device cannot reach the dose.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="Why soft limits are exceeded, when they are.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the start.")] = False,
    as_json: AsJson = False,
) -> int:
    """Show the plan, ask, then run the session and watch it to its end. Ctrl-C is STOP.

    Any other key (without a terminal: a line on standard input) says that somebody is there;
    without one for 60 s the session is paused.
    """
    from tmsctl.cli import follow
    from tmsctl.cli.client import Client

    request = {
        "patient": patient,
        "operator": operator,
        "protocol": protocol,
        "mt": mt,
        "mt_method": mt_method.value,
        "pct_mt": pct_mt,
        "reduced": reduced,
    }
    runtime: Path = context.obj
    with Client(runtime) as client:
        return follow.start(client, runtime, request, reason=reason, yes=yes, as_json=as_json)


@app.command()
def pause(context: typer.Context, as_json: AsJson = False) -> int:
    """No more pulses until `session resume`; the place in the plan is kept."""
    return _change(context.obj, "session.pause", as_json)


@app.command()
def stop(context: typer.Context, as_json: AsJson = False) -> int:
    """End the open session in good order. In an emergency: `tmsctl stop`."""
    return _change(context.obj, "session.stop", as_json)


@app.command()
def resume(context: typer.Context, as_json: AsJson = False) -> int:
    """Go on at the next pulse; becomes the station, with the live view, if that one is gone."""
    from tmsctl.cli import follow
    from tmsctl.cli.client import Client

    runtime: Path = context.obj
    with Client(runtime) as client:
        answer = client.call("session.resume")
        if answer.get("adopted"):
            return follow.attach(client, runtime, lambda: int(answer["session"]), as_json)
    _say(answer, as_json)
    return 0


@app.command()
def show(
    context: typer.Context,
    session: Annotated[int | None, typer.Argument(help="Its number, else the newest.")] = None,
    as_json: AsJson = False,
) -> int:
    """The record of one session."""
    from tmsctl.cli.client import Client
    from tmsctl.cli.show import console, print_json

    with Client(context.obj) as client:
        kept = client.call("session.show", {"session": session})
    if as_json:
        print_json(kept)
        return 0
    from tmsctl.cli import record

    console().print(record.summary(kept))
    console().print(record.events(kept))
    return 0


@app.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    as_json: AsJson = False,
) -> int:
    """The newest sessions."""
    from tmsctl.cli.client import Client
    from tmsctl.cli.show import console, print_json

    with Client(context.obj) as client:
        answer = client.call("session.list", {"limit": limit})
    if as_json:
        print_json(answer)
        return 0
    from tmsctl.cli import record

    console().print(record.listing(answer["sessions"]))
    return 0


def _change(runtime: Path, method: str, as_json: bool) -> int:
    from tmsctl.cli.client import Client

    with Client(runtime) as client:
        answer = client.call(method)
    _say(answer, as_json)
    return 0


def _say(answer: dict[str, object], as_json: bool) -> None:
    if as_json:
        from tmsctl.cli.show import print_json

        print_json(answer)
    else:
        print(f"Session {answer['session']} is {answer['state']}.")
