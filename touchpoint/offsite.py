"""Audiences on ad platforms: what is uploaded of whom, and what is added and removed.

Platforms match by SHA-256 of a normalised address, in hexadecimal: an e-mail address trimmed and in lower
case, a telephone number in E.164 form (Google Ads: Customer Match; Meta: Custom Audiences).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import Field, model_validator

from kernel.clock import parse_window
from kernel.definitions import Definition, Name
from kernel.errors import BadInput, NotFound
from kernel.work import Window
from touchpoint.channels.definitions import Variable
from touchpoint.channels.gateways import AudienceUpload
from touchpoint.channels.sandbox import SandboxAudiences

#: entry points of installed packages: each takes an `AudienceSync` and its secret, and gives an
#: `AudienceUpload`
GROUP = "growth.audiences"
SANDBOX = "sandbox"
#: keys in one request
BATCH = 5_000
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
Secrets = Callable[[str], str]


class AudienceSync(Definition):
    """A group, or the audiences of a goal, kept on an ad platform."""

    kind: Literal["audience_sync"] = "audience_sync"
    #: `sandbox`, or the name of an installed gateway
    platform: Name = SANDBOX
    #: of the sandbox: its folder, relative to the workspace; of others: whatever they take
    url: str = ""
    #: environment variable with the platform's secret
    secret: Variable | None = None
    #: for an installed gateway: whatever it understands
    options: dict[str, Any] = {}
    #: the platform's name of the audience; absent: the sync's
    remote: Name | None = None
    #: who is in it: members of a group, or the audiences of a goal
    group: str | None = None
    goal: str | None = None
    #: channel that consent and suppressions are asked for
    channel: Name = "ads"
    #: fields of the catalog that hold addresses; at least one
    email: str | None = None
    phone: str | None = None
    #: country code of telephone numbers that begin with 0, such as 49
    calling_code: str | None = Field(default=None, pattern=r"^[1-9][0-9]{0,2}$")
    #: E.164 with its plus sign (Google), or digits alone (Meta)
    plus: bool = True
    #: event that takes a user out, and for how long
    converted: str | None = None
    converted_within: Window = "30d"
    #: event that is an exposure there; and the field of it that names this audience, where one does
    exposure: str | None = None
    audience_field: str | None = None
    #: exposures after which a user is taken out, and within which they count
    at_most: int | None = Field(default=None, ge=1)
    within: Window = "30d"
    #: or: a frequency whose targets say when that is
    frequency: str | None = None
    #: how often all of it is worked out anew while `growth serve` runs; who converted goes at once
    every: Window = "1h"

    @model_validator(mode="after")
    def _fits(self) -> AudienceSync:
        if (self.group is None) == (self.goal is None):
            raise ValueError("needs either group or goal")
        if self.email is None and self.phone is None:
            raise ValueError("needs email or phone, a field that holds addresses")
        if self.at_most is not None and self.exposure is None:
            raise ValueError("at_most needs an exposure event to count")
        if self.audience_field is not None and self.exposure is None:
            raise ValueError("audience_field needs an exposure event to be a field of")
        if self.platform == SANDBOX and not self.url:
            raise ValueError("url is required: the sandbox's folder")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(each for each in (self.email, self.phone) if each is not None)

    @property
    def there(self) -> str:
        """What the platform calls it."""
        return self.remote or self.name

    @property
    def seconds(self) -> float:
        return parse_window(self.every).total_seconds()


def open_platform(sync: AudienceSync, *, secrets: Secrets, base: Path) -> AudienceUpload:
    """Raises BadInput for a secret that is not there, NotFound for a platform that nothing installed
    offers."""
    secret = None if sync.secret is None else secrets(sync.secret)
    if sync.platform == SANDBOX:
        return SandboxAudiences((base / sync.url).resolve())
    installed = {each.name: each for each in entry_points(group=GROUP)}
    if sync.platform not in installed:
        raise NotFound("platform", sync.platform, [SANDBOX, *installed], where=f"audience_sync {sync.name}")
    made: AudienceUpload = installed[sync.platform].load()(sync, secret)
    return made


def email_key(address: object) -> str | None:
    """None for what is no address."""
    text = str(address).strip().lower()
    return _hashed(text) if _EMAIL.fullmatch(text) else None


def phone_key(number: object, calling_code: str | None = None, *, plus: bool = True) -> str | None:
    """None for what is no number: without a country code it could be anybody's."""
    text = str(number).strip()
    digits = re.sub(r"[^0-9]", "", text.replace("(0)", ""))
    if text.startswith("00"):
        digits = digits[2:]
    elif not text.startswith("+"):
        if calling_code is None or not digits.startswith("0"):
            return None
        digits = calling_code + digits[1:]
    if not _PHONE.fullmatch(f"+{digits}"):
        return None
    return _hashed(f"+{digits}" if plus else digits)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def keys_of(sync: AudienceSync, people: pl.DataFrame) -> dict[str, str]:
    """Key → user's id as text, for everybody in `people` (user and the sync's fields) who has an address. An
    address that two share stands for the first."""
    found: dict[str, str] = {}
    users = people["user"].cast(pl.String).to_list()
    for field, make in (
        (sync.email, email_key),
        (sync.phone, lambda each: phone_key(each, sync.calling_code, plus=sync.plus)),
    ):
        if field is None:
            continue
        for user, address in zip(users, people[field].to_list(), strict=True):
            key = None if address is None else make(address)
            if key is not None:
                found.setdefault(key, user)
    return found


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What has to change on the platform; each sorted."""

    add: tuple[str, ...]
    remove: tuple[str, ...]


def delta(wanted: Collection[str], sure: Collection[str], maybe: Collection[str]) -> Delta:
    """From what the platform holds for `sure`, and what it may hold: what was interrupted is done anew."""
    surely, wished = set(sure), set(wanted)
    return Delta(add=tuple(sorted(wished - surely)), remove=tuple(sorted((surely | set(maybe)) - wished)))


def batches(keys: Sequence[str], size: int = BATCH) -> Iterator[Sequence[str]]:
    return (keys[at : at + size] for at in range(0, len(keys), size))


def reach(
    exposures: pl.DataFrame, labels: pl.DataFrame | None = None, *, most: int = 10
) -> list[dict[str, Any]]:
    """Reach and frequency of `exposures` (user): for all and, by `labels` (user, label), for each label:
    exposures, users, average, and `reach`: users with at least 1, 2, …, `most` exposures."""
    counted = exposures.group_by("user").agg(pl.len().alias("times"))
    parts: list[tuple[str, pl.DataFrame]] = [("all", counted)]
    if labels is not None:
        named = counted.join(labels, on="user", how="inner")
        parts += [
            (str(key[0]), part) for key, part in sorted(named.partition_by("label", as_dict=True).items())
        ]
    return [{"group": name, **_reached(part["times"], most)} for name, part in parts]


def _reached(times: pl.Series, most: int) -> Mapping[str, Any]:
    total = int(times.sum())
    at_least = {str(k): int((times >= k).sum()) for k in range(1, most + 1)}
    return {
        "exposures": total,
        "users": len(times),
        "average": total / len(times) if len(times) else None,
        "reach": at_least,
    }


def check_syncs(
    syncs: Iterable[AudienceSync], *, groups: Collection[str], goals: Collection[str],
    frequencies: Collection[str], events: Mapping[str, Collection[str]] | None, fields: Collection[str] |
    None, ) -> None:  # fmt: skip
    """Raises NotFound or BadInput for the first name that nothing answers to, or two syncs of one remote
    audience. `events`, `fields`: of the catalog; None where there is none."""
    taken: dict[tuple[str, str, str], str] = {}
    for each in syncs:
        where = f"audience_sync {each.name}"
        named: tuple[tuple[str, str | None, Collection[str] | None], ...] = (
            ("group", each.group, groups),
            ("goal", each.goal, goals),
            ("frequency", each.frequency, frequencies),
            ("converted", each.converted, events),
            ("exposure", each.exposure, events),
            ("email", each.email, fields),
            ("phone", each.phone, fields),
        )
        for field, name, known in named:
            if name is not None and known is not None and name not in known:
                raise NotFound(field, name, known, where=where, field=field)
        if each.audience_field is not None and events is not None:
            known = events[each.exposure or ""]
            if each.audience_field not in known:
                raise NotFound("field", each.audience_field, known, where=where, field="audience_field")
        place = (each.platform, each.url, each.there)
        if place in taken:
            raise BadInput(f"is {taken[place]}'s already", where=where, field="remote", value=each.there)
        taken[place] = each.name
