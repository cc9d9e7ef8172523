"""pydantic's findings as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_ALLOWED: Final[Mapping[str, str]] = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "list_type": "a list",
    "model_type": "a table",
    "string_type": "a text",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "only what matches {pattern}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "greater_than": "more than {gt}",
    "less_than": "less than {lt}",
    "literal_error": "{expected}",
    "finite_number": "a finite number",
}
"""What is allowed, by pydantic's error type."""


def sentences(error: ValidationError) -> list[str]:
    """One sentence for each finding: dotted key, value, what is allowed."""
    return [_sentence(details) for details in error.errors(include_url=False)]


def _sentence(details: ErrorDetails) -> str:
    key = ".".join(str(part) for part in details["loc"])
    match details["type"]:
        case "extra_forbidden":
            return f"{key} is not known here; check its spelling."
        case "missing":
            return f"{key} is missing; it has no default."
        case "value_error":
            return f"{key} is {_shown(details['input'])}; {details['ctx']['error']}."
        case kind:
            allowed = _ALLOWED.get(kind, details["msg"]).format(**details.get("ctx", {}))
            return f"{key} is {_shown(details['input'])}; allowed is {allowed}."


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
