"""Errors as application/problem+json (RFC 9457): the one place that knows their HTTP codes."""

from __future__ import annotations

import json
import logging
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from kernel.errors import BadInput, GrowthError, Infeasible, NotFound, Stale, Unavailable

MEDIA_TYPE = "application/problem+json"
_IN_THE_LOG = "something went wrong here; it is in the log"
_log = logging.getLogger(__name__)

#: the nearest ancestor of an error answers for it
_STATUS: dict[type[BaseException], tuple[int, str]] = {
    NotFound: (404, "not found"),
    Infeasible: (422, "infeasible"),
    BadInput: (422, "bad input"),
    Stale: (409, "stale"),
    Unavailable: (503, "unavailable"),
    GrowthError: (500, "error"),
}


class Problem(BaseModel):
    """What every error looks like."""

    type: str = "about:blank"
    title: str = Field(examples=["bad input"])
    status: int = Field(examples=[422])
    #: one sentence for a person
    detail: str = Field(examples=["user_id: is required and missing"])
    #: the field that is wrong, dotted; null when none is
    field: str | None = None


#: for OpenAPI: what any call of /v1 may answer besides
RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"description": title, "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
    for code, title in (
        (401, "no valid token"),
        (404, "not found"),
        (409, "stale"),
        (422, "bad input"),
        (503, "unavailable"),
    )
}


def problem(
    status: int, title: str, detail: str, field: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    # ASCII: a lone surrogate in what a caller sent cannot be written as UTF-8
    body = json.dumps(Problem(title=title, status=status, detail=detail, field=field).model_dump())
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI) -> None:
    app.add_exception_handler(GrowthError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unknown)


def response_of(error: Exception) -> Response:
    """As the app answers it; who asks has logged what nobody expected."""
    for kind, told in ((GrowthError, _known), (RequestValidationError, _invalid), (HTTPException, _http)):
        if isinstance(error, kind):
            return told(None, error)
    return problem(500, "error", _IN_THE_LOG)


def _known(_request: Request | None, error: Exception) -> Response:
    status, title = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    field = error.field if isinstance(error, BadInput) else ""
    return problem(status, title, str(error), field or None)


def _invalid(_request: Request | None, error: Exception) -> Response:
    """FastAPI puts body, path or query before the name of the field; the reader does not need it."""
    complaints = cast(RequestValidationError, error).errors()
    first = max(complaints, key=lambda each: len(each["loc"]))
    if first["type"] == "json_invalid":
        return problem(422, "bad input", f"body: is not JSON: {first['ctx']['error']}", "body")
    place = [str(part) for part in first["loc"][1:]]
    scalar = len(place) > 2 and place[-1] in ("str", "int", "float", "bool")  # a union's alternatives
    field = ".".join(place[:-1] if scalar else place) or "body"
    if scalar:
        bad = BadInput("is not text, a finite number or truth", field=field, value=_short(first["input"]))
    elif first["type"] == "missing":
        bad = BadInput("is required and missing", field=field)
    elif first["type"] == "extra_forbidden":
        bad = BadInput("is not a known field here", field=field, value=_short(first["input"]))
    else:
        message = str(first["msg"]).removeprefix("Value error, ")
        bad = BadInput(message[:1].lower() + message[1:], field=field, value=_short(first["input"]))
    return problem(422, "bad input", str(bad), field)


def _short(value: object) -> object:
    return value if isinstance(value, int | float | bool) else str(value)[:80]


def _http(_request: Request | None, error: Exception) -> Response:
    http = cast(HTTPException, error)
    headers = dict(http.headers) if http.headers else None
    return problem(http.status_code, str(http.detail).lower(), str(http.detail), headers=headers)


def _unknown(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(500, "error", _IN_THE_LOG)
