"""What participants are asked for: a JSON Schema of an object, its check, and the form made from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match

from kernel.errors import BadInput

#: bytes of text in one answer, and answers in one registration
_MOST_TEXT, _MOST_FIELDS = 10_000, 100
#: JSON Schema type → kind of input
_INPUTS = {"string": "text", "integer": "number", "number": "number", "boolean": "checkbox", "array": "list"}
_FORMATS = {"date": "date", "email": "email", "date-time": "datetime", "uri": "url", "time": "time"}


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises ValueError for what is no schema of an object, or reaches outside itself."""
    if not schema:
        return
    if schema.get("type", "object") != "object":
        raise ValueError("fields is not the schema of an object")
    if "$ref" in str(schema):
        raise ValueError("fields uses $ref, which is not followed here")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = ".".join(str(part) for part in error.absolute_path) or "fields"
        raise ValueError(f"fields is no JSON Schema at {place}: {error.message}") from None


def check_answers(
    schema: Mapping[str, Any], answers: Mapping[str, Any], *, place: str = "fields", where: str = ""
) -> None:
    """Raises BadInput for the first answer that the schema does not allow, naming field (below `place`) and
    value.

    What the schema does not name is refused unless it says `additionalProperties` itself.
    """
    if len(answers) > _MOST_FIELDS:
        raise BadInput(f"are more than {_MOST_FIELDS}", where=where, field=place, value=len(answers))
    for name, answer in answers.items():
        if isinstance(answer, str) and len(answer) > _MOST_TEXT:
            raise BadInput(f"is longer than {_MOST_TEXT:,}", where=where, field=f"{place}.{name}",
                           value=f"{answer[:20]}…")  # fmt: skip
    strict = {"type": "object", "additionalProperties": False, **schema}
    checker = Draft202012Validator(strict, format_checker=Draft202012Validator.FORMAT_CHECKER)
    worst = best_match(checker.iter_errors(dict(answers)))
    if worst is None:
        return
    field = ".".join(str(part) for part in (place, *worst.absolute_path))
    named = isinstance(worst.instance, str | int | float | bool) and bool(worst.absolute_path)
    raise BadInput(worst.message, where=where, field=field, value=worst.instance if named else None)


def form(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Inputs in order: `{name, label, input, required, help, values?, least?, most?, pattern?}`."""
    required = set(schema.get("required", ()))
    inputs = []
    for name, each in schema.get("properties", {}).items():
        kind = each.get("type", "string")
        shown = _FORMATS.get(each.get("format", ""), _INPUTS.get(kind, "text"))
        line: dict[str, Any] = {
            "name": name,
            "label": each.get("title") or name.replace("_", " "),
            "input": "choice" if "enum" in each else shown,
            "required": name in required,
            "help": each.get("description", ""),
        }
        told = {"values": "enum", "least": "minimum", "most": "maximum", "pattern": "pattern"}
        line |= {ours: each[theirs] for ours, theirs in told.items() if theirs in each}
        inputs.append(line)
    return inputs
