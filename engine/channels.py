"""What carries which channel in a workspace, as its definitions say now."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.definitions import Definitions
from engine.wiring import Workspace
from kernel.contact import Cap, QuietHours
from kernel.delivery import Rate
from kernel.errors import BadInput
from kernel.work import Benefit, Content, Goal, Touchpoint
from touchpoint.api import Channel, Gateway, Provider, Rules, open_gateway, rates_of, user_fields


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Everything that dispatching is told by definitions."""

    channels: Mapping[str, Channel]
    providers: Mapping[str, Provider]
    contents: Mapping[str, Content]
    #: channel → buckets that its touches draw from
    rates: Mapping[str, tuple[Rate, ...]]
    #: benefit or goal → what a person calls it
    benefits: Mapping[str, str]
    goals: Mapping[str, str]
    rules: Rules
    caps: tuple[Cap, ...]
    #: caps count only the user's own touches, so that one can be moved without knowing whose household she is
    own_caps: bool
    #: fields of users that addresses and words need, by their names in the catalog
    fields: frozenset[str]

    def of(self, provider: str) -> tuple[str, ...]:
        """Channels that it carries."""
        return tuple(name for name, each in self.channels.items() if each.provider == provider)


def channels_of(definitions: Definitions) -> Channels:
    channels = {each.name: each for each in definitions.of(Channel)}
    providers = {each.name: each for each in definitions.of(Provider)}
    contents = {each.name: each for each in definitions.of(Content)}
    caps = definitions.of(Cap)
    needed = {each.address for each in channels.values() if each.address is not None}
    for content in contents.values():
        needed |= user_fields(content)
    return Channels(
        channels=channels,
        providers=providers,
        contents=contents,
        rates={name: rates_of(each, providers[each.provider]) for name, each in channels.items()},
        benefits={each.name: each.title for each in definitions.of(Benefit)},
        goals={each.name: each.title for each in definitions.of(Goal)},
        rules=Rules(
            quiet_hours=definitions.of(QuietHours),
            touchpoints=definitions.of(Touchpoint),
            late={name: each.late for name, each in channels.items()},
        ),
        caps=caps,
        own_caps=all(cap.by == "user" for cap in caps),
        fields=frozenset(needed),
    )


def gateway_of(space: Workspace, provider: Provider, say: Callable[[str], None]) -> Gateway:
    """Raises BadInput for a secret that is not in the environment."""
    _unsubscribable(space, provider)
    return open_gateway(provider, secrets=secret_of(provider), base=space.root, say=say)


def secret_of(provider: Provider) -> Callable[[str], str]:
    def secret(variable: str) -> str:
        value = os.environ.get(variable, "")
        if not value:
            raise BadInput(
                "is not set in the environment", where=f"provider {provider.name}", field="secret",
                value=variable,
            )  # fmt: skip
        return value

    return secret


def trouble_of(space: Workspace, provider: Provider) -> str:
    """What keeps a provider from working, as far as that is known without calling it; empty: nothing."""
    try:
        _unsubscribable(space, provider)
        for variable in (provider.secret, provider.receipts):
            if variable is not None:
                secret_of(provider)(variable)
    except BadInput as error:
        return str(error)
    return ""


def _unsubscribable(space: Workspace, provider: Provider) -> None:
    """Bulk mail without a way out is not sent (RFC 8058 and what mailbox providers demand)."""
    if provider.type == "smtp" and not provider.unsubscribe and not space.settings.public_url:
        raise BadInput(
            "is needed for mail (or public_url in the settings), so that people can unsubscribe",
            where=f"provider {provider.name}",
            field="unsubscribe",
        )
