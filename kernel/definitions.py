"""What every definition that a person writes in YAML has in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from kernel.errors import BadInput

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("is not a name (a letter, then letters, digits, '_', '.' or '-'; at most 100)")
    return name


Name = Annotated[str, AfterValidator(_check_name)]


class Frozen(BaseModel):
    """A value: immutable, and unknown keys are an error rather than a silence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """What was pickled before a field was added, as within a model, has the field's default."""
        super().__setstate__(state)
        for name, field in type(self).model_fields.items():
            if name not in self.__dict__ and not field.is_required():
                self.__dict__[name] = field.get_default(call_default_factory=True)


class Definition(Frozen):
    """A named thing that a person wrote."""

    #: which sort of definition this is, such as `goal`
    kind: str
    #: unique among its kind
    name: Name
    #: what a person calls it
    label: str = ""
    #: why it exists
    description: str = ""

    @property
    def title(self) -> str:
        return self.label or self.name.replace("_", " ")


Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], raw: object, where: str) -> Model:
    """`raw` as `model`. Raises BadInput for the first thing wrong, naming place, field and value."""
    if not isinstance(raw, Mapping):
        raise BadInput("is not a mapping of names to values", where=where, field="document", value=raw)
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        raise first_problem(error, where) from None


def first_problem(error: ValidationError, where: str) -> BadInput:
    """pydantic's first complaint as one sentence."""
    first = max(error.errors(include_url=False), key=lambda each: len(each["loc"]))
    field = ".".join(str(part) for part in first["loc"]) or "document"
    value: Any = first.get("input")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return BadInput("is required and missing", where=where, field=field)
    if first["type"] == "extra_forbidden":
        message = "is not a known field here"
    return BadInput(message[:1].lower() + message[1:], where=where, field=field, value=_short(value))


def _short(value: Any) -> Any:
    return value if isinstance(value, int | float | bool) else str(value)[:80]
