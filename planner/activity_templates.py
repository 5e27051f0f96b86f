"""Templates of activities: written once with parameters, made into activities by saying what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from kernel.definitions import Definition, parse
from kernel.errors import BadInput, NotFound
from planner.activities import Activity
from planner.registration import check_answers, check_schema

#: `${name}`: alone it becomes the value itself, in a text the value's text
_PLACE = re.compile(r"\$\{([A-Za-z][A-Za-z0-9_]*)\}")


class ActivityTemplate(Definition):
    """An activity with `${parameters}` in it, and what each of them may be."""

    kind: Literal["activity_template"] = "activity_template"
    #: name → JSON Schema, with `description` and, where it need not be given, `default`
    parameters: dict[str, dict[str, Any]] = {}
    #: the fields of an activity
    activity: dict[str, Any] = Field(min_length=1)

    @field_validator("activity", "parameters", mode="before")
    @classmethod
    def _plainly(cls, value: Any) -> Any:
        return _plain(value)

    @model_validator(mode="after")
    def _sound(self) -> ActivityTemplate:
        for name in self.parameters:
            if not _PLACE.fullmatch(f"${{{name}}}"):
                raise ValueError(f"parameter {name} is not a name (letters, digits and '_')")
        check_schema({"properties": self.parameters})
        for name in ("kind", "name", "template", "with"):
            if name in self.activity:
                raise ValueError(f"activity says {name}, which each activity says itself")
        unknown = sorted(set(self.activity) - set(Activity.model_fields))
        if unknown:
            raise ValueError(f"activity has {unknown[0]}, which is no field of activities")
        used = dict.fromkeys(_places(self.activity))
        for name in used:
            if name not in self.parameters:
                raise ValueError(f"activity uses ${{{name}}}, which is no parameter")
        for name in self.parameters:
            if name not in used:
                raise ValueError(f"parameter {name} is used nowhere")
        for name, schema in self.parameters.items():
            if "default" in schema:
                try:
                    check_answers({"properties": {name: schema}}, {name: schema["default"]})
                except BadInput as error:
                    raise ValueError(
                        f"parameter {name} has a default that it forbids: {error.problem}"
                    ) from None
        return self

    @property
    def required(self) -> list[str]:
        return [name for name, schema in self.parameters.items() if "default" not in schema]

    @property
    def schema_(self) -> dict[str, Any]:
        """JSON Schema of what an activity says `with` it."""
        return {"type": "object", "properties": self.parameters, "required": self.required}


class MadeActivity(Definition):
    """An activity made of a template: `with` gives its parameters, other fields stand in for its own."""

    kind: Literal["activity"] = "activity"
    template: str
    given: dict[str, Any] = Field(default={}, alias="with")
    #: fields of an activity that take the place of the template's
    instead: dict[str, Any] = {}

    @field_validator("given", "instead", mode="before")
    @classmethod
    def _plainly(cls, value: Any) -> Any:
        return _plain(value)

    @model_validator(mode="after")
    def _fields(self) -> MadeActivity:
        own = set(Activity.model_fields) - {"kind", "name", "label", "description"}
        unknown = sorted(set(self.instead) - own)
        if unknown:
            raise ValueError(f"instead has {unknown[0]}, which is no field of activities")
        return self


def make(made: MadeActivity, templates: Mapping[str, ActivityTemplate]) -> Activity:
    """The activity. Raises NotFound for the template, BadInput for a parameter or what it makes."""
    where = f"activity {made.name}"
    template = templates.get(made.template)
    if template is None:
        raise NotFound("template", made.template, templates, where=where)
    unknown = sorted(set(made.given) - set(template.parameters))
    if unknown:
        raise NotFound("parameter", unknown[0], template.parameters, where=where, field=f"with.{unknown[0]}")
    for name in template.required:
        if name not in made.given:
            said = template.parameters[name].get("description", f"template {made.template} needs it")
            raise BadInput(f"is required and missing: {said}", where=where, field=f"with.{name}")
    check_answers(template.schema_, made.given, place="with", where=where)
    defaults = {
        name: schema["default"] for name, schema in template.parameters.items() if "default" in schema
    }
    body = _filled(template.activity, {**defaults, **made.given})
    said = {"label": made.label or template.label, "description": made.description or template.description}
    whole = {**body, **said, **made.instead, "name": made.name}
    place = f"{where} (template {made.template})"
    try:
        return parse(Activity, whole, place)
    except BadInput as error:
        if error.where:
            raise
        raise BadInput(error.problem, where=place, field=error.field, value=error.value) from None


def _places(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _PLACE.findall(value)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _places(key)
            yield from _places(each)
    elif isinstance(value, list):
        for each in value:
            yield from _places(each)


def _filled(value: Any, given: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        whole = _PLACE.fullmatch(value)
        return given[whole[1]] if whole else _PLACE.sub(lambda found: str(given[found[1]]), value)
    if isinstance(value, Mapping):
        return {_filled(key, given): _filled(each, given) for key, each in value.items()}
    return [_filled(each, given) for each in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """As JSON has it: YAML makes times of what looks like one."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
