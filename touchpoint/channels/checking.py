"""Whether channels, providers, contents and the catalog fit: found out before the first send."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kernel.errors import BadInput, NotFound
from kernel.work import Content, Touchpoint
from touchpoint.channels.definitions import Channel, Provider
from touchpoint.templates import check_content


def check_channels(
    channels: Iterable[Channel],
    providers: Iterable[Provider],
    contents: Iterable[Content],
    touchpoints: Iterable[Touchpoint],
    fields: Collection[str] | None,
) -> None:
    """Raises BadInput for the first thing that does not fit.

    `fields`: names of the catalog's user fields; None: there is no catalog to ask.
    """
    known = {each.name: each for each in providers}
    used = {each.channel for each in touchpoints}
    for channel in channels:
        where = f"channel {channel.name}"
        if channel.provider not in known:
            raise NotFound("provider", channel.provider, known, where=where)
        if used and channel.name not in used:
            raise NotFound("channel", channel.name, used, where=where, field="name")
        if channel.address is not None and fields is not None and channel.address not in fields:
            raise NotFound("field", channel.address, fields, where=where, field="address")
        if known[channel.provider].type == "smtp" and channel.address is None:
            raise BadInput("is required and missing: mail needs an address", where=where, field="address")
    for content in contents:
        check_content(content, fields)
