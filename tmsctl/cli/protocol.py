"""`tmsctl protocol`: list, show and check protocol files. Needs no daemon and no device."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tmsctl.cli.errors import CliError
from tmsctl.cli.options import UNVERIFIED, MtMethod, MtMethodOption
from tmsctl.safety.limits import GENERAL, ROWS, session_limits
from tmsctl.safety.plan_check import check_plan
from tmsctl.safety.refusal import Refusal
from tmsctl.stimulation.demands import excess
from tmsctl.stimulation.plan import Plan, Train
from tmsctl.stimulation.prescription import Prescription, compile_plan, mt_permille
from tmsctl.stimulation.protocol import (
    LIBRARY,
    Protocol,
    ProtocolFileError,
    load_library,
    load_protocol,
)

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="The protocol library: list, show, check.")

TRAINS_SHOWN = 10
"""A longer train table is cut in the middle, unless --all."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """All protocols of the library."""
    library = _library()
    if as_json:
        print(json.dumps([_facts(protocol) for protocol in library.values()], indent=2))
        return
    from rich.table import Table

    table = Table("Id", "Title", box=None, pad_edge=False)
    for name in ("Pulses", "Trains", "Length", "% MT"):
        table.add_column(name, justify="right")
    table.add_column("Evidence")
    for p in library.values():
        numbers = (str(p.pulses), str(p.trains), _clock(p.span_us), str(p.pct_mt))
        table.add_row(p.id, p.title, *numbers, p.evidence.rpartition(", ")[2])
    _console().print(table)


@app.command()
def show(
    protocol: Annotated[str, typer.Argument(metavar="ID|FILE", help="Protocol id, or a file.")],
    mt: Annotated[
        str | None, typer.Option(help="Motor threshold, %MSO: also show the plan.", metavar="%MSO")
    ] = None,
    mt_method: MtMethodOption = MtMethod.VISUAL,
    every_train: Annotated[bool, typer.Option("--all", help="Show every train.")] = False,
    as_json: Json = False,
) -> None:
    """One protocol and, with --mt, the plan that would be delivered, judged by every limit."""
    found = _find(protocol)
    plan = None if mt is None else _plan(found, mt)
    checks = [] if plan is None else _checks(plan, mt_method is MtMethod.EMG)
    if as_json:
        facts = _facts(found) | {"beyond": list(map(_beyond, found.exceeds.items()))}
        if plan is not None:
            facts |= {"plan": _plan_facts(plan), "checks": checks}
        print(json.dumps(facts, indent=2))
        return
    from tmsctl.cli import confirm

    console = _console()
    _print_protocol(console, found)
    if plan is not None:
        _print_plan(console, plan, len(plan.trains) if every_train else TRAINS_SHOWN)
        console.print()
        confirm.print_checks(console, checks)


@app.command()
def check(
    protocols: Annotated[
        list[str] | None, typer.Argument(metavar="[ID|FILE]...", help="Default: the library.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check protocol files: format, own totals, and that [exceeds] says exactly what is needed."""
    if protocols:
        paths = [LIBRARY / f"{_find(p).id}.toml" if _is_id(p) else Path(p) for p in protocols]
    else:
        paths = sorted(LIBRARY.glob("*.toml"))
    wrong = {path: _problem(path) for path in paths}
    if as_json:
        results = [{"file": str(p), "ok": not why, "problem": why} for p, why in wrong.items()]
        print(json.dumps(results, indent=2))
    else:
        for path, why in wrong.items():
            print(f"FAILED  {why}" if why else f"ok      {path}{_beyond_words(path)}")
    failed = sum(1 for why in wrong.values() if why)
    if failed:
        raise CliError(
            "protocol-check-failed",
            f"{failed} of {len(wrong)} protocol files cannot be used.",
            "Correct what the lines above name and check again.",
        )


def _problem(path: Path) -> str:
    """One sentence on the first thing that is wrong with a file; empty when nothing is."""
    try:
        protocol = load_protocol(path)
    except ProtocolFileError as error:
        return str(error)
    shipped = LIBRARY / path.name  # a file is named after its id
    if shipped.exists() and path.resolve() != shipped:
        return f"{path}: id {protocol.id!r} is already used in the library; choose another."
    needed = excess(protocol)
    for name in sorted(needed.keys() | protocol.exceeds.keys()):
        needs, declared = needed.get(name), protocol.exceeds.get(name)
        if needs == declared:
            continue
        row = ROWS[name]
        soft = "" if row.soft is None else f"soft limit {row.soft}, "
        return (
            f"{path}: exceeds.{name} is {'missing' if declared is None else declared}; the pattern "
            f"needs {'no more than the general limit' if needs is None else needs} "
            f"({soft}general limit {row.general}, never beyond {row.absolute})."
        )
    return ""


def _beyond(named: tuple[str, int]) -> dict[str, Any]:
    """A limit that a protocol exceeds: its own value, and the table's."""
    name, value = named
    row = ROWS[name]
    return {
        "name": name, "value": value, "unit": row.unit, "soft": row.soft, "general": row.general,
        "absolute": row.absolute, "verified": row.verified, "source": row.source,
    }  # fmt: skip


def _in_words(beyond: dict[str, Any]) -> str:
    general = beyond["value"] > beyond["general"]
    if not ROWS[beyond["name"]].at_most:
        general = beyond["value"] < beyond["general"]
    layer, bound = ("general", beyond["general"]) if general else ("soft", beyond["soft"])
    flag = "" if beyond["verified"] else f", {UNVERIFIED}"
    return f"{beyond['name']} {beyond['value']} ({layer} limit {bound}{flag})"


def _beyond_words(path: Path) -> str:
    """What a sound file exceeds; empty when nothing."""
    protocol = load_protocol(path)
    if not protocol.exceeds:
        return ""
    exceeded = "; ".join(_in_words(_beyond(named)) for named in protocol.exceeds.items())
    review = "" if protocol.reviewer else "; not reviewed, so a session needs a reason"
    return f", exceeds {exceeded}{review}"


def _checks(plan: Plan, by_emg: bool) -> list[dict[str, Any]]:
    """Every limit, judged as tmsd would for a site that tightens none; no device is asked."""
    protocol = plan.protocol
    limits = session_limits(GENERAL, protocol.exceeds)
    found = check_plan(plan, limits, None, by_emg, protocol.exceeds, protocol.reviewer)
    return [check._asdict() | {"next": check.next_step} for check in found]


def _is_id(name: str) -> bool:
    return "/" not in name and not name.endswith(".toml")


def _library() -> dict[str, Protocol]:
    try:
        return load_library()
    except ProtocolFileError as error:
        raise _bad_file(error) from error


def _find(name: str) -> Protocol:
    """A protocol by its id in the library, or by its file."""
    if not _is_id(name):
        try:
            return load_protocol(Path(name))
        except ProtocolFileError as error:
            raise _bad_file(error) from error
    library = _library()
    if name not in library:
        raise CliError(
            "unknown-protocol",
            f"No protocol is called {name!r}; known are {', '.join(library)}.",
            "Choose one of these, or give the path of a protocol file.",
        )
    return library[name]


def _bad_file(error: ProtocolFileError) -> CliError:
    return CliError("protocol-file", str(error), "Correct the file: `tmsctl protocol check FILE`.")


def _plan(protocol: Protocol, mt: str) -> Plan:
    try:
        permille = mt_permille(mt)
    except ValueError as error:
        raise CliError("motor-threshold", str(error), "Give it like --mt 52.5.") from error
    plan = compile_plan(Prescription(protocol, permille, protocol.pct_mt, reduced=False), 100)
    if isinstance(plan, Refusal):
        raise CliError(plan.code, plan.sentence, plan.next_step, exit_status=16)
    return plan


def _facts(protocol: Protocol) -> dict[str, Any]:
    """Every field of the file, and both readings of the inter-train interval."""
    facts = {field.name: getattr(protocol, field.name) for field in fields(protocol)}
    one_train = protocol.trains == 1
    return facts | {
        "exceeds": dict(protocol.exceeds),
        "off_us": None if one_train else protocol.off_us,
        "gap_us": None if one_train else protocol.gap_us,
    }


def _plan_facts(plan: Plan) -> dict[str, Any]:
    return {
        "hash": plan.hash,
        "mso": plan.mso.value,
        "mt_permille": plan.mt_permille,
        "pct_mt": plan.pct_mt,
        "reduced": plan.reduced,
        "pulses": plan.pulses,
        "span_us": plan.span_us,
        "trains": [asdict(train) for train in plan.trains],
    }


def _console() -> Console:
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)  # files are data, not markup


def _print_protocol(console: Console, p: Protocol) -> None:
    from rich.table import Table

    exceeds = [_in_words(_beyond(named)) for named in p.exceeds.items()]
    every = f", one every {_seconds(p.interval_us)}" if p.pulses_per_burst > 1 else ""
    rows = [
        ("Protocol", f"{p.id}: {p.title}"),
        ("Target", p.target),
        ("Intensity", f"{p.pct_mt} % of motor threshold ({p.mt_basis})"),
        ("Burst", f"{_count(p.pulses_per_burst, 'pulse')}{every}"),
        (
            "Train",
            f"{_count(p.bursts_per_train, 'burst')}, one every {_seconds(p.burst_period_us)}",
        ),
        *_train_rows(p),
        ("Pulses", str(p.pulses)),
        ("Length", f"{_seconds(p.span_us)} ({_clock(p.span_us)}), first to last pulse"),
        ("", f"{_seconds(p.cycle_us)} ({_clock(p.cycle_us)}), trains x period"),
        ("Exceeds", "; ".join([*exceeds, p.exceeds_reason]) if exceeds else "no general limit"),
        ("Source", p.source),
        ("Evidence", p.evidence),
        ("Reviewer", p.reviewer or "none: no clinician has reviewed this file"),
        ("File hash", p.hash),
    ]
    table = Table.grid("", "", padding=(0, 2))
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _train_rows(p: Protocol) -> list[tuple[str, str]]:
    """Vendors mean two things by inter-train interval; mixing them up changes the session."""
    if p.trains == 1:
        return [("Trains", "1, so there is no inter-train interval (ITI)")]
    off = _seconds(p.off_us)
    mixed_up_us = p.span_us - (p.trains - 1) * (p.gap_us - p.off_us)
    return [
        ("Trains", f"{p.trains}, one every {_seconds(p.train_period_us)}, onset to onset"),
        ("ITI, off-time", f"{off}, from the end of the last burst period to the next train"),
        ("ITI, pulse gap", f"{_seconds(p.gap_us)}, from last pulse to first pulse"),
        ("", f"{off} taken for the pulse gap would end after {_clock(mixed_up_us)}"),
    ]


def _print_plan(console: Console, plan: Plan, most: int) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("Train", "Onset", "Pulses", "End"):
        table.add_column(name, justify="right")
    rows = [_train_row(number, train) for number, train in enumerate(plan.trains, 1)]
    if len(rows) > most:
        half = most // 2
        rows = [*rows[:half], ("...", "", f"({len(rows) - 2 * half} more)", ""), *rows[-half:]]
    for row in rows:
        table.add_row(*row)
    console.print(
        f"\nPlan: {plan.mso} = {plan.pct_mt} % of a motor threshold of "
        f"{plan.mt_permille / 10:.1f} %MSO, rounded down"
    )
    console.print(table)
    console.print(f"Plan hash  {plan.hash}", soft_wrap=True)


def _train_row(number: int, train: Train) -> tuple[str, str, str, str]:
    return (
        str(number),
        _seconds(train.onset_us),
        f"{train.first_pulse + 1}-{train.first_pulse + train.pulses}",
        _seconds(train.onset_us + train.span_us),
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _seconds(us: int) -> str:
    """Exact to the microsecond, at least three decimals."""
    whole, part = divmod(us, 1_000_000)
    decimals = f"{part:06}"
    return f"{whole}.{decimals[:3]}{decimals[3:].rstrip('0')} s"


def _clock(us: int) -> str:
    """mm:ss, to the nearest second."""
    minutes, seconds = divmod((us + 500_000) // 1_000_000, 60)
    return f"{minutes}:{seconds:02}"
