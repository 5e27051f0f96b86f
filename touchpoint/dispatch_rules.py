"""At the last moment: may this touch go out now, later, or not at all?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from kernel.clock import aware
from kernel.contact import MessageClass, QuietHours
from kernel.delivery import Suppressed
from kernel.work import Touchpoint
from touchpoint.timing import is_quiet, quiet_for

#: hours ahead that are looked at for a time that is allowed
_AHEAD = 24 * 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """What is known of a touch when its time has come."""

    channel: str
    message_class: MessageClass
    #: when it was meant to go out
    send_at: datetime
    #: after this nobody wants it any more
    expires_at: datetime
    #: the user's
    zone: ZoneInfo
    #: forgotten by this workspace
    forgotten: bool
    #: None: the workspace keeps no consent, or has none on record for her
    consent: bool | None
    #: what suppresses the user or the address: (channel or '' for all, reason)
    suppressed: Sequence[tuple[str, Suppressed]]
    #: the ledger still holds its place under the caps
    reserved: bool
    #: she has an address on this channel
    reachable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """GO, WAIT until, or REFUSE, with the rule that says so."""

    what: Literal["go", "wait", "refuse"]
    #: name of the quiet hours or touchpoint; else what kind of rule
    rule: str = ""
    #: a sentence for the operator, in the user's zone
    reason: str = ""
    #: of WAIT: the next time that is allowed; of REFUSE: until when it would be refused, None: until somebody
    #: changes something
    until: datetime | None = None


GO = Verdict(what="go")


class Rules:
    """Judges touches. `late`: channel → whether what falls into quiet hours waits for the next allowed time.

    A transactional message is bound by consent and by what cannot arrive, and by nothing else.
    """

    def __init__(
        self,
        *,
        quiet_hours: Sequence[QuietHours],
        touchpoints: Sequence[Touchpoint],
        late: dict[str, Literal["wait", "expire"]],
    ) -> None:
        self._quiet, self._late = quiet_hours, late
        self._hours = {each.name: each.hours for each in touchpoints}
        self._known: dict[tuple[object, ...], tuple[str, datetime | None]] = {}
        self._at: datetime | None = None

    def judge(self, touchpoint: str, case: Situation, now: datetime) -> Verdict:
        if case.forgotten:
            return _refused("forgotten", "the person was forgotten; refused for ever")
        if case.consent is False:
            said = f"the user does not allow {case.channel}; refused until the user does"
            return _refused("consent", said)
        for channel, reason in case.suppressed:
            if channel in ("", case.channel) and reason.binds(case.message_class):
                over = f"on {channel}" if channel else "everywhere"
                said = f"suppressed {over} ({str(reason).replace('_', ' ')}); refused until that is lifted"
                return _refused("suppressed", said)
        if not case.reachable:
            return _refused("address", f"has no address for {case.channel}; refused until there is one")
        if not case.reserved:
            return _refused("reservation", "its place under the caps was released or has expired")
        if now > case.expires_at:
            local = case.expires_at.astimezone(case.zone)
            return _refused("expired", f"its time ended {_wall(local)}; nobody sends it any more")
        return self._within_hours(touchpoint, case, now)

    def _within_hours(self, touchpoint: str, case: Situation, now: datetime) -> Verdict:
        if case.message_class is MessageClass.TRANSACTIONAL:
            return GO
        if self._at != now:
            self._at, self._known = now, {}
        place = (touchpoint, case.channel, case.message_class, case.zone.key)
        if place not in self._known:
            self._known[place] = self._open(touchpoint, case.channel, case.message_class, case.zone, now)
        rule, until = self._known[place]
        if not rule:
            return GO
        if until is None:
            return _refused(rule, f"{rule} leaves no hour of the week; refused until it changes")
        wall = _wall(until.astimezone(case.zone))
        if self._late.get(case.channel, "wait") == "expire" or until > case.expires_at:
            said = f"{rule} forbids it until {wall}; nobody waits so long"
            return Verdict(what="refuse", rule=rule, reason=said, until=until)
        return Verdict(what="wait", rule=rule, reason=f"{rule} forbids it until {wall}", until=until)

    def _open(
        self, touchpoint: str, channel: str, message_class: MessageClass, zone: ZoneInfo, now: datetime
    ) -> tuple[str, datetime | None]:
        """('', None) when it may go out now; else the rule, and the first instant at which it may."""
        quiet = quiet_for(channel, message_class, self._quiet)
        low, high = self._hours.get(touchpoint, (0, 24))

        def forbids(at: datetime) -> str:
            hour = at.astimezone(zone).hour
            shut = next((each.name for each in quiet if is_quiet(hour, each)), "")
            return shut or ("" if low <= hour < high else touchpoint)

        rule = forbids(now)
        if not rule:
            return "", None
        at = now
        for _ in range(_AHEAD):
            at = _next_hour(at, zone)
            if not forbids(at):
                return rule, at
        return rule, None


def _next_hour(at: datetime, zone: ZoneInfo) -> datetime:
    """The instant at which the wall shows the next hour; where clocks change in between, soon after it."""
    local = at.astimezone(zone)
    passed = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return aware(at, "at") + timedelta(hours=1) - passed


def _refused(rule: str, reason: str) -> Verdict:
    return Verdict(what="refuse", rule=rule, reason=reason)


def _wall(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="minutes")
