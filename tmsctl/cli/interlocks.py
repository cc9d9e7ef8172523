"""`tmsctl interlocks`: every rule with its hazards, its limit and its present value."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tmsctl.cli.errors import EXIT_UNREACHABLE, CliError
from tmsctl.cli.options import UNVERIFIED, AsJson

if TYPE_CHECKING:
    from tmsctl.safety.catalogue import Catalogue, Hazard, Requirement, Rule

app = typer.Typer(no_args_is_help=True, help="What refuses a pulse, why, and how it is known.")

Json = dict[str, Any]

WHERE: Final = {
    "watch": "in every cycle of the guard",
    "arm": "before it arms",
    "gate": "before each block of pulses",
    "plan": "on a plan, before a person confirms it",
    "patient": "on a patient's dose, before a session",
    "guard": "elsewhere in the guard",
    "service": "in tmsd",
    "device": "in the stimulator and its driver",
}


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> int:
    """Every rule: hazards, limit in force, present value. Without tmsd: the general limits."""
    from tmsctl.cli.show import print_json

    present, note = _present(context.obj)
    found = [row for rule in _catalogue().rules.values() for row in _rows(rule, present)]
    if as_json:
        print_json({"note": note, "interlocks": found})
        return 0
    for table, title in WHERE.items():
        rows = [row for row in found if row["table"] == table]
        if rows:
            print(f"{title[0].upper()}{title[1:]} ({table})")
        for row in rows:
            print(f"  {row['code']:<18} {' '.join(row['hazards'])}")
            for line in _state(row):
                print(f"      {line}")
    if note:
        print(note)
    return 0


@app.command()
def show(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="ID", help="A rule's code, a hazard (H01) or a requirement (A-12)."),
    ],
    as_json: AsJson = False,
) -> int:
    """One rule, hazard or requirement, with what it is tied to and which tests keep it."""
    from dataclasses import asdict

    from tmsctl.cli.show import print_json

    catalogue = _catalogue()
    found = (
        catalogue.rules.get(name)
        or catalogue.hazards.get(name.upper())
        or catalogue.requirements.get(name.upper())
    )
    if found is None:
        raise CliError(
            "interlock-unknown",
            f"There is no rule, hazard or requirement {name!r}.",
            "See `tmsctl interlocks list`.",
        )
    present, note = _present(context.obj)
    codes = [name] if name in catalogue.rules else getattr(found, "rules", ())
    rows = [row for code in codes for row in _rows(catalogue.rules[code], present)]
    if as_json:
        print_json(asdict(found) | {"note": note, "interlocks": rows})
        return 0
    print("\n".join(_told(found, catalogue, rows)))
    if note:
        print(note)
    return 0


@cache
def _catalogue() -> Catalogue:
    from tmsctl.safety.catalogue import load

    try:
        return load()
    except ValueError as error:
        raise CliError("catalogue", f"{error}.", "Install the program again.") from error


def _present(runtime: Path) -> tuple[dict[tuple[str, str], Json], str]:
    """What tmsd knows of each rule, by table and code; else nothing, and why."""
    from tmsctl.cli.client import Client

    try:
        with Client(runtime) as client:
            known = client.call("interlocks.list")["interlocks"]
    except CliError as error:
        if error.exit_status != EXIT_UNREACHABLE:
            raise
        return {}, f"General limits and no present values: {error.sentence}"
    return {(row["table"], row["code"]): row for row in known}, ""


def _rows(rule: Rule, present: dict[tuple[str, str], Json]) -> Iterator[Json]:
    """The rule as it stands in each of its tables."""
    for table in (rule.table, *rule.also):
        live = present.get((table, rule.code))
        now = _general(table, rule.code) if live is None else live
        yield {
            "code": rule.code, "table": table, "does": rule.does, "hazards": list(rule.hazards),
            "requirements": list(rule.requirements), "live": live is not None, **_LIMIT,
            **{key: now[key] for key in _LIMIT if key in now},
        }  # fmt: skip


_LIMIT: Final[Json] = {
    "value": None, "limit": None, "limit_name": "", "unit": "", "verified": None, "source": "",
    "says": "",
}  # fmt: skip


def _general(table: str, code: str) -> Json:
    """The general limit of a rule of the guard's tables; empty where it compares with none."""
    from tmsctl.safety.limits import ROWS
    from tmsctl.safety.rules import ARM, GATE, WATCH

    names = {
        (table, row.code): row.limit
        for table, rows in (("watch", WATCH), ("arm", ARM), ("gate", GATE))
        for row in rows
    }
    row = ROWS.get(names.get((table, code), ""))
    if row is None:
        return {}
    return {
        "limit": row.general, "limit_name": row.name, "unit": row.unit,
        "verified": row.verified, "source": row.source,
    }  # fmt: skip


def _state(row: Json) -> Iterator[str]:
    """What the rule does, value and limit with their source, and why it acts at present."""
    yield row["does"]
    now = ""
    if row["live"] and (row["limit_name"] or row["value"] is not None):
        now = f"now {_quantity(row['value'], row['unit'])}".removesuffix(f" {row['unit']}")
    if row["limit_name"]:
        from tmsctl.safety.limits import ROWS

        known = ROWS.get(row["limit_name"])
        word = "limit" if known is None else "at most" if known.at_most else "at least"
        flag = "verified" if row["verified"] else UNVERIFIED
        limit = f"{word} {_quantity(row['limit'], row['unit'])} ({flag}: {row['source']})"
        yield f"{now}, {limit}" if now else limit
    elif now:
        yield now
    if row["says"]:
        yield f"ACTS: {row['says']}"


def _quantity(value: int | None, unit: str) -> str:
    """For people; the JSON has the exact number in the unit of the table of limits."""
    if value is None:
        return "unknown"
    if unit == "us":
        return f"{value / 1e6:g} s" if abs(value) >= 1_000_000 else f"{value / 1e3:g} ms"
    if unit.startswith("0.1 degree C"):  # alone, or in a time
        return f"{value / 10:.1f} {unit.replace('0.1 degree C', '°C')}"
    return f"{value} {unit}".strip()


def _told(
    found: Rule | Hazard | Requirement, catalogue: Catalogue, rows: list[Json]
) -> Iterator[str]:
    from tmsctl.safety.catalogue import Hazard, Requirement

    match found:
        case Hazard():
            yield f"{found.id}: {found.hazard} (severity {found.severity} of 5)"
            yield f"  met by {found.met_by}: {found.why}"
            if found.remains:
                yield f"  remains: {found.remains}"
        case Requirement():
            yield f"{found.id}: {found.text}"
            yield f"  met by {found.met_by}{': ' if found.why else ''}{found.why}"
            yield from (f"  test {test}" for test in found.tests)
        case _:
            yield f"{found.code}: {found.does}"
            yield from (f"  {one}: {catalogue.hazards[one].hazard}" for one in found.hazards)
            for one in found.requirements:
                yield f"  {one}: {catalogue.requirements[one].text}"
    for row in rows:
        yield f"  {row['code']}, {WHERE[row['table']]}"
        yield from (f"    {line}" for line in _state(row) if line != getattr(found, "does", ""))
    for code in {row["code"]: None for row in rows}:
        rule = catalogue.rules[code]
        if rule.where:
            yield f"  {code} is {rule.where}"
        yield from (f"  {code} must refuse: {test}" for test in rule.refused_by)
        yield from (f"  {code} must allow: {test}" for test in rule.allowed_by)
