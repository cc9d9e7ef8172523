"""The commands of `tmsctl`. What a command needs is imported when it runs: --help stays fast."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tmsctl.cli import interlocks, ledger, protocol, session
from tmsctl.cli import stop as stop_command
from tmsctl.cli.options import AsJson

if TYPE_CHECKING:
    from tmsctl.cli.client import Client

app = typer.Typer(
    help="Drive a magnetic stimulator through tmsd. Not a cleared medical device.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(session.app, name="session")
app.add_typer(protocol.app, name="protocol")
app.add_typer(ledger.app, name="ledger")
app.add_typer(interlocks.app, name="interlocks")


@app.callback()
def common(
    context: typer.Context,
    runtime: Annotated[
        Path,
        typer.Option(envvar="TMSCTL_RUNTIME", help="Folder of the sockets of tmsd and the guard."),
    ] = Path(stop_command.RUNTIME_DEFAULT),
) -> None:
    """Options of every command."""
    context.obj = runtime


@app.command()
def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it; Ctrl-C leaves.")] = False,
    as_json: AsJson = False,
) -> int:
    """What guard, device and session are doing. Reads only."""
    from tmsctl.cli import follow
    from tmsctl.cli.client import Client
    from tmsctl.cli.show import console, print_json

    with Client(context.obj) as client:
        if watch:
            return _watch(client, as_json)
        now = client.call("status.get")
    if as_json:
        print_json(now)
    else:
        from tmsctl.cli import live

        console().print(live.view(now, 0.0, live.ONCE))
    return follow.exit_status(now)


@app.command()
def stop(context: typer.Context, as_json: AsJson = False) -> int:
    """STOP: no more pulses, at once. Says when the device itself confirms it."""
    # The entry point serves STOP before it comes here; this is its entry in the help.
    return stop_command.main(["--runtime", str(context.obj), *(["--json"] if as_json else [])])


@app.command()
def acknowledge(context: typer.Context, as_json: AsJson = False) -> int:
    """You have seen why the guard is in SAFE: let it be armed again."""
    from tmsctl.cli.client import Client
    from tmsctl.cli.show import print_json

    with Client(context.obj) as client:
        answer = client.call("guard.acknowledge")
    if as_json:
        print_json(answer)
    else:
        print(f"The guard is {answer['state']}.")
    return 0


@app.command()
def selftest(context: typer.Context, as_json: AsJson = False) -> int:
    """Prove that every barrier holds; no pulse leaves. Needed once a day."""
    from tmsctl.cli import self_test
    from tmsctl.cli.client import Client

    with Client(context.obj) as client:
        return self_test.run(client, as_json)


@app.command()
def trace(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="A recording, its parts in order.")
    ],
    driver: Annotated[
        str | None, typer.Option(help="Whose bytes these are, where the file does not say it.")
    ] = None,
    calls: Annotated[
        bool, typer.Option("--calls", help="Also what the driver was asked for, and cycles.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """A recording of a line, or a file of the flight recorder, in words. Needs no device."""
    from tmsctl.cli import trace as trace_command

    return trace_command.run(files, driver, calls=calls, as_json=as_json)


@app.command()
def doctor(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="The configuration, where no tmsd runs that names it.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """What stands between this place and a session. Reads only; opens no port."""
    from tmsctl.cli import doctor as doctor_command

    return doctor_command.run(context.obj, config, as_json)


@app.command()
def demo(
    protocol_id: Annotated[str, typer.Option("--protocol", help="Protocol's id.")] = "ctbs600",
    mt: Annotated[float, typer.Option(help="Motor threshold, %MSO.")] = 50.0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the programs running until Ctrl-C, to try them.")
    ] = False,
) -> int:
    """One complete session on the software stimulator, in a temporary folder."""
    from tmsctl.cli.demo import run

    return run(protocol_id, mt, keep=keep)


def _watch(client: Client, as_json: bool) -> int:
    from tmsctl.cli import follow, live
    from tmsctl.cli.show import JsonStates, opened

    client.call("status.subscribe")
    way = nullcontext(JsonStates()) if as_json else opened(live.ELSEWHERE)
    with suppress(KeyboardInterrupt), way as show:
        follow.watch(client, show, over=lambda _: False)
    return 0
