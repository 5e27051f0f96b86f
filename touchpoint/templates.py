"""The words of a touch: templates that are checked before anything is sent, and rendered in a sandbox.

Jinja2's sandbox, strict: a name that nobody knows is an error of the content, told before the first send; a
value that one user lacks is a reason not to write to that user. Nothing is loaded from anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import (
    Environment,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateSyntaxError,
    UndefinedError,
    nodes,
)
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kernel.errors import BadInput, GrowthError, NotFound
from kernel.work import Content

#: names that every template knows, and what they stand for
VARIABLES = {
    "benefit": "label of the benefit",
    "goal": "label of the goal",
    "code": "coupon code; empty where the task carries none",
    "channel": "name of the channel",
    "task": "name of the task",
    "date": "local date at which it is sent, such as 2017-10-16",
    "workspace": "name of the workspace",
    "unsubscribe": "address that ends such messages; empty where there is none",
    "user": "the user's fields by their names in the catalog: `user.city`",
}
#: the parts of a content that are templates
PARTS = ("subject", "text", "html")
#: characters of one part at most
_MOST = 200_000
_REPEATED = 100_000
#: the form of the first contents: `{benefit}`
_SINGLE = re.compile(r"(?<!\{)\{benefit\}(?!\})")
#: what has no place in a content: there is nothing to load, and nothing to define
_FOREIGN = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block, nodes.Macro)


class NotForHer(GrowthError):
    """A content cannot be written to one user, since a value is not known."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """A content as one user gets it."""

    subject: str
    text: str
    html: str


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """`'x' * 10**9` would be no template but an attack."""
        sized = any(isinstance(each, str | list | tuple) for each in (left, right))
        if sized or operator == "**":
            most = max((each for each in (left, right) if isinstance(each, int | float)), default=0)
            if most > _REPEATED:
                raise SecurityError("repeats too often")
        return super().call_binop(context, operator, left, right)


def _known(value: Any) -> Any:
    """A value that is not known is not written as `None`."""
    if value is None:
        raise UndefinedError("a value of hers is not known")
    return value


def _environment(*, escape: bool) -> Environment:
    return _Sandbox(
        undefined=StrictUndefined, autoescape=escape, finalize=_known, keep_trailing_newline=False
    )


_PLAIN, _HTML = _environment(escape=False), _environment(escape=True)


def check_content(content: Content, fields: Collection[str] | None) -> None:
    """Raises BadInput naming the content, the part and the variable that nobody knows.

    `fields`: names of the catalog's user fields, such as `user.city`; None: not known, only the form counts.
    """
    for part in PARTS:
        for variable, line in variables(content, part):
            where = f"content {content.name}, {part}, line {line}"
            head, _, rest = variable.partition(".")
            if head not in VARIABLES:
                raise NotFound("variable", variable, VARIABLES, where=where)
            if head == "user" and not rest:
                raise BadInput(
                    "stands for nothing by itself; name a field",
                    where=where,
                    field="variable",
                    value=variable,
                )
            if head != "user" and rest:
                raise BadInput("has no parts", where=where, field="variable", value=variable)
            if head == "user" and fields is not None and variable not in fields:
                raise NotFound("variable", variable, [*VARIABLES, *fields], where=where)


def variables(content: Content, part: str) -> Iterator[tuple[str, int]]:
    """(name, line) of every variable, with the field where it is one of `user`. Raises BadInput."""
    tree = _parsed(content, part)
    local = {
        name.name
        for loop in tree.find_all((nodes.For, nodes.Assign))
        for name in loop.find_all(nodes.Name)
        if name.ctx == "store"
    }
    if tree.find(nodes.For) is not None:
        local.add("loop")
    parts: list[nodes.Getattr | nodes.Getitem] = [
        *tree.find_all(nodes.Getattr),
        *tree.find_all(nodes.Getitem),
    ]
    fields = {
        id(each.node): (f"user.{key}", each.lineno)
        for each in parts
        if isinstance(each.node, nodes.Name) and (key := _key(each)) is not None
    }
    for name in tree.find_all(nodes.Name):
        if name.ctx != "load" or name.name in local:
            continue
        said, line = fields.get(id(name), ("", 0))
        if said and name.name != "user":
            yield f"{name.name}.{said.partition('.')[2]}", line
        else:
            yield (said or name.name), name.lineno


def user_fields(content: Content) -> frozenset[str]:
    """The fields of users that a content names, as the catalog does."""
    named = (variable for part in PARTS for variable, _ in variables(content, part))
    return frozenset(each for each in named if each.startswith("user."))


def render(content: Content, values: Mapping[str, Any]) -> Words:
    """`values` as in VARIABLES; `user` is field → value, None where it is not known.

    Raises NotForHer, naming content and part, when a value is missing or the words are too long.
    """
    parts = {part: _render(content, part, values) for part in PARTS}
    parts["subject"] = " ".join(parts["subject"].split())  # a line end would begin another header
    return Words(**parts)


def _render(content: Content, part: str, values: Mapping[str, Any]) -> str:
    source = getattr(content, part)
    if not source:
        return ""
    if "{" not in source:
        return str(source)
    try:
        said = _compiled(source, part == "html").render(values)
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise NotForHer(f"content {content.name}, {part}: {error}") from None
    if len(said) > _MOST:
        raise NotForHer(f"content {content.name}, {part}: is longer than {_MOST:,} characters")
    return said


@lru_cache(maxsize=512)
def _compiled(source: str, html: bool) -> Template:
    return (_HTML if html else _PLAIN).from_string(_SINGLE.sub("{{ benefit }}", source))


def _parsed(content: Content, part: str) -> nodes.Template:
    where = f"content {content.name}, {part}"
    try:
        tree = _PLAIN.parse(_SINGLE.sub("{{ benefit }}", getattr(content, part)))
    except TemplateSyntaxError as error:
        raise BadInput(
            f"does not parse: {error.message}", where=where, field="line", value=error.lineno
        ) from None
    foreign = next(iter(tree.find_all(_FOREIGN)), None)
    if foreign is not None:
        name = type(foreign).__name__.lower()
        raise BadInput("has no place in a content", where=where, field=f"line {foreign.lineno}", value=name)
    unknown = {
        each.name: each.lineno for each in tree.find_all(nodes.Filter) if each.name not in _PLAIN.filters
    }
    for filter_, line in unknown.items():
        raise NotFound("filter", filter_, _PLAIN.filters, where=f"{where}, line {line}")
    return tree


def _key(node: nodes.Expr) -> str | None:
    if isinstance(node, nodes.Getattr):
        return str(node.attr)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return str(node.arg.value)
    return None
