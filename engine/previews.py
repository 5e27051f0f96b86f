"""What a content says to one user, before anything is sent."""

from __future__ import annotations

from typing import Any

from engine.channels import channels_of
from engine.dispatch_batch import Preparing
from engine.wiring import Workspace
from insight.api import as_user, existing_users
from kernel.clock import micros
from kernel.contact import MessageClass
from kernel.delivery import OutboxTask, OutboxTouch
from kernel.errors import BadInput, NotFound
from kernel.work import Benefit, Goal
from touchpoint.api import Channel, NotForHer, check_content


def preview(
    space: Workspace,
    name: str,
    user: str,
    *,
    benefit: str | None = None,
    goal: str | None = None,
    channel: str | None = None,
) -> dict[str, Any]:
    """`{subject, text, html, address}` of the content for the user, with the first benefit, goal and channel
    that it can carry where none is given. Raises BadInput, also for a value that is not known of her."""
    definitions = space.definitions()
    channels = channels_of(definitions)
    if name not in channels.contents:
        raise NotFound("content", name, channels.contents)
    content = channels.contents[name]
    check_content(content, space.catalog.user_fields)
    goal = goal or content.goals[0]
    _known("goal", goal, definitions.of(Goal))
    offered = [each.name for each in definitions.of(Benefit) if goal in each.goals]
    benefit = benefit or (offered[0] if offered else "")
    if benefit:
        _known("benefit", benefit, definitions.of(Benefit))
    channel = channel or next(iter(channels.channels), "")
    if channel:
        _known("channel", channel, definitions.of(Channel))
    one = as_user(space.catalog, user, "--user")
    if not existing_users(space.catalog, [one], space.clock.now()):
        raise NotFound("user", user, (), field="--user")
    preparing = Preparing(space, space.suppressions)
    preparing.people.refresh(channels.fields)
    person = preparing.people.of([str(one)])[0]
    now = space.clock.now()
    task = OutboxTask(
        run=now.date().isoformat(), task=f"{goal}.{benefit}", goal=goal, benefit=benefit, touchpoint="",
        channel=channel, content=name, message_class=MessageClass.MARKETING,
    )  # fmt: skip
    touch = OutboxTouch(touch_id="0" * 16, user=str(one), send_us=micros(now), code="CODE-1234")
    try:
        message = preparing.message(task, touch, person, channels, now, preparing.people.zone(person))
    except NotForHer as error:
        raise BadInput(f"has no words for {user}: {error}", field="content", value=name) from None
    return {
        "content": name,
        "user": str(one),
        "channel": channel,
        "address": message.address,
        "subject": message.subject,
        "text": message.text,
        "html": message.html,
    }


def _known(kind: str, name: str, several: Any) -> None:
    names = [each.name for each in several]
    if name not in names:
        raise NotFound(kind, name, names)
