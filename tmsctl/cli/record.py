"""The record of a session as text for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table

Json = dict[str, Any]

_METHODS = {"emg": "by EMG", "visual": "by eye"}


def summary(record: Json) -> Table:
    """What was planned and what was done, one fact a line."""
    device = record["device"]
    before, after = device["count_before"], device["count_after"]
    rows = [
        ("session", f"{record['id']}, {record['state']}"),
        ("patient", f"{record['patient']}, operator {record['operator']}"),
        ("protocol", f"{record['protocol']}, plan {record['plan_hash'][:12]}"),
        ("intensity", _intensity(record)),
        ("pulses", f"{record['delivered']} delivered of {record['planned']} planned"),
        ("", _not_delivered(record)),
        ("device", f"{_name(device)}, counter {_or(before)} -> {_or(after)}"),
        ("hottest", "unknown" if (top := record["temperature_max_c"]) is None else f"{top:.1f} °C"),
        ("time", f"{record['started_at']} to {_or(record['ended_at'])}"),
        ("ended by", record["end_code"] or "has not ended"),
        ("journal", record["journal"]),
    ]
    if record["reason"]:
        rows.insert(4, ("reason", f"{record['reason']} (soft limits were exceeded)"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def events(record: Json) -> Table:
    """Every event of the session in order."""
    table = Table("time", "kind", "code", "what happened", box=None)
    for event in record["events"]:
        table.add_row(event["time"], event["kind"], event["code"], event["detail"])
    return table


def listing(records: list[Json]) -> Table:
    """One session a line, the newest first."""
    table = Table("session", "started", "patient", "protocol", "pulses", "state", box=None)
    for record in records:
        pulses = f"{record['delivered']}/{record['planned']}"
        if record["unknown"]:
            pulses += f" +{record['unknown']} unknown"
        table.add_row(
            str(record["id"]), record["started_at"], record["patient"], record["protocol"],
            pulses, record["state"],
        )  # fmt: skip
    return table


def _name(device: Json) -> str:
    """Model and serial number, where the device tells one."""
    return f"{device['model']} {device['serial']}".strip()


def _not_delivered(record: Json) -> str:
    words = f"{record['skipped']} skipped, {record['unknown']} unknown (count as delivered)"
    if record["resolved"]:
        words += f", {record['resolved']} counted by a person"
    return words


def _intensity(record: Json) -> str:
    text = f"{record['mso']} %MSO, {record['pct_mt']} % of motor threshold {record['mt']:g} %MSO "
    text += f"({_METHODS[record['mt_method']]})"
    return text + (", REDUCED from the prescription" if record["reduced"] else "")


def _or(value: object) -> str:
    return "unknown" if value is None else str(value)
