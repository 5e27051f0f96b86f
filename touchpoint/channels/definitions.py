"""`kind: provider` says who carries touches and how; `kind: channel` which provider carries a channel."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from kernel.clock import parse_window
from kernel.definitions import Definition, Name
from kernel.delivery import Rate
from kernel.work import Window

_RATE = re.compile(r"([1-9][0-9]{0,8})/([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}")


def _check_rate(text: str) -> str:
    if not _RATE.fullmatch(text):
        raise ValueError("is not a rate such as 50/s, 3000/m or 100000/d")
    return text


def _check_variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError("is not the name of an environment variable, such as CRM_SECRET (the secret itself "
                         "has no place in a definition)")  # fmt: skip
    return name


RateText = Annotated[str, AfterValidator(_check_rate)]
#: name of an environment variable that holds a secret; the secret is never in a definition
Variable = Annotated[str, AfterValidator(_check_variable)]

#: type → (fields that it needs, further fields that it may have); all have those of every provider
_FIELDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "webhook": (frozenset({"url", "secret"}), frozenset({"batch", "connections", "idempotent"})),
    "smtp": (
        frozenset({"host", "sender"}),
        frozenset({"port", "security", "username", "secret", "reply_to", "unsubscribe", "connections"}),
    ),
    "file": (frozenset({"url"}), frozenset({"format", "lead"})),
    "console": (frozenset(), frozenset()),
    "sandbox": (frozenset({"url", "medium"}), frozenset()),
}
_COMMON = frozenset(
    {"kind", "name", "label", "description", "type", "rate", "attempts", "timeout", "receipts", "options"}
)


class Provider(Definition):
    """Who carries touches. Types beyond those below come from installed packages (entry points of the group
    `growth.gateways`), which get `url`, `secret` and `options`."""

    kind: Literal["provider"] = "provider"
    #: webhook, smtp, file, console, sandbox, or the name of an installed gateway
    type: Name
    #: where to: an address of HTTP for a webhook, a folder (any fsspec URL) for files and the sandbox
    url: str = ""
    #: environment variable with the key that signs, or the password
    secret: Variable | None = None
    #: environment variable with the key that signs receipts; absent: none are taken
    receipts: Variable | None = None
    #: most touches in a time, over all channels that it carries
    rate: RateText | None = None
    #: attempts before a touch is given up
    attempts: int = Field(default=6, ge=1, le=100)
    #: seconds that one attempt may take
    timeout: float = Field(default=10.0, gt=0, le=300)
    #: connections at once
    connections: int = Field(default=8, ge=1, le=256)
    #: touches in one request
    batch: int = Field(default=1, ge=1, le=1000)
    #: the provider drops a repeat by its key; if not, what was interrupted is in doubt and not sent again
    idempotent: bool = True
    host: str = ""
    port: int | None = Field(default=None, ge=1, le=65535)
    #: of SMTP: `starttls` from port 587 on, `tls` from the first byte, `none` on a machine of one's own
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    #: `Name <address>` in From
    sender: str = ""
    reply_to: str = ""
    #: address of a mailbox for List-Unsubscribe, where there is no `public_url`
    unsubscribe: str = ""
    #: of files
    format: Literal["parquet", "csv"] = "parquet"
    #: how long before its first touch a file is written
    lead: Window = "24h"
    #: what the sandbox stands in for
    medium: Literal["push", "sms", "in_app"] | None = None
    #: for an installed gateway: whatever it understands
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fields_fit(self) -> Provider:
        if self.type not in _FIELDS:
            return self
        needs, may = _FIELDS[self.type]
        for field in sorted(needs):
            if not getattr(self, field):
                raise ValueError(f"a provider of type {self.type} needs {field}")
        for field in sorted(self.model_fields_set - needs - may - _COMMON):
            raise ValueError(f"{field} is not for a provider of type {self.type}")
        if self.type == "webhook":
            _check_url(self.url)
        if self.type == "smtp" and bool(self.username) != bool(self.secret):
            raise ValueError("username and secret go together")
        if self.type == "smtp" and (self.sender.count("@") != 1 or "\n" in self.sender):
            raise ValueError(f"sender {self.sender!r} is no address")
        return self

    @property
    def ahead(self) -> timedelta:
        """How long before its first touch a file is written."""
        return parse_window(self.lead)

    @property
    def drops_repeats(self) -> bool:
        """Whether a touch that was handed over twice arrives once."""
        return self.idempotent and self.type not in ("smtp", "console")


class Channel(Definition):
    """Which provider carries a channel; its name is the channel that touchpoints, caps and rules know."""

    kind: Literal["channel"] = "channel"
    #: name of the provider
    provider: Name
    #: field of the catalog that holds the user's address; absent: her own id is the address
    address: str | None = None
    #: most touches in a time
    rate: RateText | None = None
    #: how long after its time a touch may still go out
    expires: Window = "24h"
    #: what becomes of a touch whose time falls into quiet hours when it is due: `wait` for the next allowed
    #: time (while it does not expire), or `expire` at once
    late: Literal["wait", "expire"] = "wait"

    @model_validator(mode="after")
    def _of_users(self) -> Channel:
        if self.address is not None and not self.address.startswith("user."):
            raise ValueError(f"address {self.address!r} is no field of users, such as user.email")
        return self


def rates_of(channel: Channel, provider: Provider) -> tuple[Rate, ...]:
    """The buckets that a touch of this channel draws from."""
    found = []
    for name, text in (
        (f"channel/{channel.name}", channel.rate),
        (f"provider/{provider.name}", provider.rate),
    ):
        match = _RATE.fullmatch(text or "")
        if match:
            per_second = int(match[1]) / _SECONDS[match[2]]
            found.append(Rate(name=name, per_second=per_second, burst=max(1.0, per_second)))
    return tuple(found)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        well = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        well = False
    if not well:
        raise ValueError(f"url {url!r} is no address such as https://crm.example/touches")
    if parts.username or parts.password:
        raise ValueError("url holds a user or password; a secret goes into an environment variable")
