"""What dispatching keeps of a person who is forgotten: names go, the wish not to be written to stays."""

from __future__ import annotations

from collections.abc import Sequence

from engine.channels import channels_of
from engine.recipients import Recipients
from engine.wiring import Workspace
from kernel.clock import micros
from kernel.errors import GrowthError
from touchpoint.api import Provider


def forget_addresses(space: Workspace, users: Sequence[str]) -> int:
    """Takes her name and addresses off the list of the suppressed; how many. Again: finds none.

    The hashes stay. What suppressed her by her id then holds for her addresses too, so that who unsubscribed,
    was forgotten and comes back under another id with the same address is not written to. Touches, receipts
    and events are rows with her id: `storage.forget_sql` deletes them.
    """
    addresses = _addresses(space, users)
    book = space.suppressions
    space.receipts.carry_over(
        [book.mark_of_user(user) for user in users],
        [book.mark_of_address(address) for address in addresses],
        micros(space.clock.now()),
    )
    return book.forget(users, addresses)


def providers_told(space: Workspace) -> list[str]:
    """Who has got messages with people's addresses, and what is theirs to do."""
    names = [
        each.name for each in space.definitions().of(Provider) if each.type not in ("console", "sandbox")
    ]
    return [f"provider {name}: what it was handed is its own to delete" for name in names]


def _addresses(space: Workspace, users: Sequence[str]) -> list[str]:
    """As the sources have them still; they may have deleted her already."""
    fields = {each.address for each in channels_of(space.definitions()).channels.values() if each.address}
    if not fields:
        return list(users)
    people = Recipients(space)
    try:
        people.refresh(frozenset(fields))
    except GrowthError:
        return list(users)
    found = {
        str(person[name]) for person in people.of(users) for name in fields if person.get(name) is not None
    }
    return sorted({*users, *found})
