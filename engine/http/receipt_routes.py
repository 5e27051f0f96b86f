"""The routes that the outside calls without our token: signed receipts, and links that end messages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from engine.receipts import ReceiptService
from kernel.errors import BadInput
from touchpoint.api import Forged, Receipt

#: bytes in one request
_MOST_BYTES = 4_000_000
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        Receipt.model_json_schema(),
                        {"type": "array", "items": Receipt.model_json_schema()},
                    ]
                }
            }
        },
    }
}
#: no word of ours about anybody: whoever has the link sees this
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Messages</title>
<meta name="viewport" content="width=device-width">
<body style="font-family:sans-serif;margin:3em">{}</body></html>"""
_ASK = '<p>Do you want to end these messages?</p><form method="post"><button>End them</button></form>'


class ReceiptAnswer(BaseModel):
    """What became of a receipt."""

    receipt_id: str
    status: Literal["taken", "repeated"]
    #: waiting touches that it called off
    cancelled: int


def receipt_routes(service: ReceiptService) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["touchpoint"])

    @router.post("/receipts/{provider}", openapi_extra=_BODY)
    async def take_receipts(
        provider: str,
        request: Request,
        growth_timestamp: Annotated[str | None, Header()] = None,
        growth_signature: Annotated[str | None, Header()] = None,
    ) -> list[ReceiptAnswer]:
        """One receipt or up to 1,000, durable when answered, once each by `receipt_id`. Signed by HMAC-SHA256
        of `TIMESTAMP.BODY` in `growth-signature: v1=…`. An unsubscription, a complaint and a hard bounce
        suppress at once."""
        body = await request.body()
        if len(body) > _MOST_BYTES:
            raise BadInput(f"is longer than {_MOST_BYTES:,} bytes", field="body", value=len(body))
        try:
            found = await run_in_threadpool(
                service.receive, provider, body, growth_timestamp, growth_signature
            )
        except Forged as error:
            raise HTTPException(401, f"the request {error}") from None
        return [ReceiptAnswer(**each) for each in found]

    @router.get("/unsubscribe/{token}", response_class=HTMLResponse)
    def ask_unsubscribe(token: str) -> HTMLResponse:
        """Asks first: mail scanners follow links."""
        _genuine(service.check_token, token)
        return HTMLResponse(_PAGE.format(_ASK))

    @router.post("/unsubscribe/{token}", response_class=HTMLResponse)
    def unsubscribe(token: str) -> HTMLResponse:
        """Ends messages on this channel, in one click (RFC 8058)."""
        _genuine(service.unsubscribe, token)
        return HTMLResponse(_PAGE.format("<p>You will get no more of these messages.</p>"))

    return router


def _genuine(do: Any, token: str) -> None:
    try:
        do(token)
    except Forged as error:
        raise HTTPException(404, f"this {error}") from None
