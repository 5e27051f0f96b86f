"""Sandbox twins of gateways: they keep what they get in a folder, know repeats, refuse as real ones do."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from touchpoint.channels.definitions import Provider
from touchpoint.channels.gateways import Over, over_in_app, over_push, over_sms
from touchpoint.channels.message import ACCEPTED, Answer, Handed

_TOKEN = re.compile(r"[A-Za-z0-9:_-]{1,4096}")
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
#: a notification's bytes at most, as FCM and APNs have it; characters of a text message in ten parts
_MOST_BYTES, _MOST_CHARACTERS = 4096, 1530
#: what tokens and numbers begin with that are no more
_GONE = "gone"


class Sandbox:
    """Records in `FOLDER/MEDIUM.jsonl`, one a message that was taken."""

    def __init__(self, folder: Path, medium: str) -> None:
        self._file = folder / f"{medium}.jsonl"
        self._keys = {record["key"] for record in records(self._file)}

    def _keep(self, key: str, **said: Any) -> Handed:
        if key in self._keys:
            return ACCEPTED  # a repeat is dropped, and answered as the first was
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a+b") as out:
            out.seek(max(out.seek(0, os.SEEK_END) - 1, 0))
            torn = out.read() not in (b"", b"\n")  # by a kill: that line stays what it is
            line = json.dumps({"key": key, **said}, ensure_ascii=False) + "\n"
            out.write(b"\n" * torn + line.encode())
            out.flush()
            os.fsync(out.fileno())
        self._keys.add(key)
        return Handed(answer=Answer.ACCEPTED, provider_id=f"sandbox-{key}")


class SandboxPush(Sandbox):
    async def push(
        self, *, token: str, title: str, body: str, data: Mapping[str, str], key: str, user: str
    ) -> Handed:
        if not _TOKEN.fullmatch(token):
            return _never("is no token of a device", bounced=True)
        if token.startswith(_GONE):
            return _never("the device is not registered any more", bounced=True)
        size = len(json.dumps({"title": title, "body": body, "data": dict(data)}).encode())
        if size > _MOST_BYTES:
            return _never(f"the notification has {size:,} bytes, more than {_MOST_BYTES:,}")
        return self._keep(key, user_id=user, token=token, title=title, body=body, data=dict(data))


class SandboxSms(Sandbox):
    async def send(self, *, phone: str, text: str, key: str, user: str) -> Handed:
        if not _PHONE.fullmatch(phone):
            return _never(f"{phone!r} is no number such as +4915112345678", bounced=True)
        if not 0 < len(text) <= _MOST_CHARACTERS:
            return _never(f"the text has {len(text):,} characters, not 1 to {_MOST_CHARACTERS:,}")
        return self._keep(key, user_id=user, phone=phone, text=text)


class SandboxInApp(Sandbox):
    async def show(self, *, user: str, title: str, body: str, data: Mapping[str, str], key: str) -> Handed:
        if not title and not body:
            return _never("the message is empty")
        return self._keep(key, user_id=user, title=title, body=body, data=dict(data))


class SandboxAudiences:
    """The audiences of an ad platform, one file each: `FOLDER/AUDIENCE.json`, written whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, audience: str, hashes: Sequence[str], *, key: str) -> None:
        self._change(audience, lambda held: held | set(hashes), key)

    def remove(self, audience: str, hashes: Sequence[str], *, key: str) -> None:
        self._change(audience, lambda held: held - set(hashes), key)

    def members(self, audience: str) -> frozenset[str]:
        return frozenset(self._read(audience)["members"])

    def _read(self, audience: str) -> dict[str, list[str]]:
        try:
            found: dict[str, list[str]] = json.loads(self._path(audience).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"members": [], "keys": []}
        return found

    def _change(self, audience: str, change: Any, key: str) -> None:
        held = self._read(audience)
        if key in held["keys"]:
            return
        after = {"members": sorted(change(set(held["members"]))), "keys": [*held["keys"], key]}
        path = self._path(audience)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(after), encoding="utf-8")
        fresh.replace(path)

    def _path(self, audience: str) -> Path:
        return self._folder / f"{audience}.json"


def sandbox(provider: Provider, base: Path) -> Over:
    """What the provider's `medium` stands for, in its folder."""
    folder = (base / provider.url).resolve()
    if provider.medium == "push":
        return over_push(SandboxPush(folder, "push"))
    if provider.medium == "sms":
        return over_sms(SandboxSms(folder, "sms"))
    return over_in_app(SandboxInApp(folder, "in_app"))


def records(file: Path) -> list[dict[str, Any]]:
    """What a sandbox has taken; a line that a kill tore off was not taken."""
    found: list[dict[str, Any]] = []
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _never(reason: str, *, bounced: bool = False) -> Handed:
    return Handed(answer=Answer.ACT_ON_IT, reason=reason, bounced=bounced)
