"""Touches on their way out: what the outbox holds of them, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kernel.contact import MessageClass
from kernel.errors import BadInput


class TouchState(StrEnum):
    """Where a touch stands in the outbox."""

    QUEUED = "queued"  # waits for its time, or for another attempt
    LEASED = "leased"  # a dispatcher works on it; handed over with a key by which a repeat is known
    HANDING = "handing"  # is being handed to somebody who would not know a repeat
    ACCEPTED = "accepted"  # the provider has it
    REFUSED = "refused"  # a rule forbade it at the last moment
    FAILED = "failed"  # somebody must act, or every attempt was in vain
    IN_DOUBT = "in_doubt"  # may have been handed over; not sent again without a person
    CANCELLED = "cancelled"  # somebody called it off


#: states in which a touch stays for ever, unless a person takes it up again
FINAL = (
    TouchState.ACCEPTED, TouchState.REFUSED, TouchState.FAILED, TouchState.IN_DOUBT, TouchState.CANCELLED
)  # fmt: skip


class TaskState(StrEnum):
    """Where a task of one run stands in the outbox."""

    LOADING = "loading"  # not all its touches are in yet; nothing of it goes out
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class Failure(StrEnum):
    """Whether trying again can help."""

    RETRIABLE = "retriable"
    ACT_ON_IT = "act_on_it"


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxTask:
    """What all touches of a task in one run have in common."""

    #: given by the outbox; 0 before that
    number: int = 0
    #: what the task was made for, such as a plan's date
    run: str
    #: name of the task
    task: str
    goal: str
    benefit: str
    touchpoint: str
    channel: str
    content: str
    message_class: MessageClass


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxTouch:
    """One touch in the outbox."""

    #: given by the outbox; 0 before that
    number: int = 0
    touch_id: str
    #: the user's own id, as text
    user: str
    #: when it is to be handed over, microseconds since 1970
    send_us: int
    #: coupon code that it carries
    code: str = ""
    #: attempts that failed so far
    attempts: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What became of one touch that a dispatcher had leased."""

    #: the outbox's number of the touch
    number: int
    #: QUEUED: again at `due_us`; else where it stays
    state: TouchState
    #: rule that refused it, or the `Failure`; empty when accepted
    rule: str = ""
    #: a sentence for a person
    reason: str = ""
    #: when it is due again, microseconds since 1970
    due_us: int | None = None
    #: whether this was an attempt that failed
    attempted: bool = False
    #: mark of the address that it went to, so that a bounce can be told to that address
    address: str = ""
    #: the provider's own name for it
    provider_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """A token bucket that all dispatchers of the workspace share."""

    #: `channel/email`, `provider/crm`
    name: str
    #: touches a second in the long run
    per_second: float
    #: most at once after a pause
    burst: float


class ReceiptKind(StrEnum):
    """What a provider can tell of a touch."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"
    OPENED = "opened"
    CLICKED = "clicked"
    UNSUBSCRIBED = "unsubscribed"
    COMPLAINED = "complained"


class Suppressed(StrEnum):
    """Why somebody, or an address, gets no more touches."""

    HARD_BOUNCE = "hard_bounce"  # binds every message class: it cannot arrive
    UNSUBSCRIBED = "unsubscribed"
    COMPLAINED = "complained"
    MANUAL = "manual"

    def binds(self, message_class: MessageClass) -> bool:
        """Only what cannot arrive stops a transactional message."""
        return self is Suppressed.HARD_BOUNCE or message_class is not MessageClass.TRANSACTIONAL


def known_state(text: str) -> TouchState:
    """Raises BadInput for what is no state."""
    try:
        return TouchState(text)
    except ValueError:
        names = ", ".join(TouchState)
        raise BadInput(f"is no state of a touch; states: {names}", field="state", value=text) from None
