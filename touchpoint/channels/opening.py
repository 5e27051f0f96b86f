"""The gateway of a provider."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from kernel.errors import BadInput, NotFound
from touchpoint.channels.console import Console
from touchpoint.channels.definitions import Provider
from touchpoint.channels.files import FileDrop
from touchpoint.channels.message import Gateway
from touchpoint.channels.sandbox import sandbox
from touchpoint.channels.smtp import Smtp
from touchpoint.channels.webhook import Webhook

#: entry points of installed packages: each takes a Provider and its secret, and gives a Gateway
GROUP = "growth.gateways"
#: those that are always there
TYPES = ("webhook", "smtp", "file", "console", "sandbox")
#: name of a variable → its value; raises BadInput when it is not set
Secrets = Callable[[str], str]


def open_gateway(provider: Provider, *, secrets: Secrets, base: Path, say: Callable[[str], None]) -> Gateway:
    """Raises BadInput for a secret that is not there, NotFound for a type that nothing installed offers."""
    secret = None if provider.secret is None else secrets(provider.secret)
    if provider.type == "webhook":
        return Webhook(provider, (secret or "").encode())
    if provider.type == "smtp":
        return Smtp(provider, secret)
    if provider.type == "file":
        return FileDrop(provider, base)
    if provider.type == "console":
        return Console(say)
    if provider.type == "sandbox":
        return sandbox(provider, base)
    installed = {each.name: each for each in entry_points(group=GROUP)}
    if provider.type not in installed:
        known = [*TYPES, *installed]
        raise NotFound("type", provider.type, known, where=f"provider {provider.name}")
    made: Gateway = installed[provider.type].load()(provider, secret)
    if not hasattr(made, "deliver"):
        raise BadInput(
            "gives no gateway", where=f"provider {provider.name}", field="type", value=provider.type
        )
    return made
