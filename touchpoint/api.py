"""How do we reach them without wearing them out? The door of this room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel.doors import door

if TYPE_CHECKING:
    from touchpoint.attribution import attribute
    from touchpoint.channels.checking import check_channels
    from touchpoint.channels.definitions import Channel, Provider, rates_of
    from touchpoint.channels.files import FileDrop
    from touchpoint.channels.gateways import AudienceUpload
    from touchpoint.channels.message import Answer, Gateway, Handed, Message
    from touchpoint.channels.opening import open_gateway
    from touchpoint.channels.sandbox import SandboxAudiences
    from touchpoint.coupons import (
        LONGEST_CODE,
        Basket,
        CouponPool,
        No,
        basket_refusal,
        check_pools,
        mistyped,
        new_code,
        shown,
    )
    from touchpoint.dispatch_rules import Rules, Situation, Verdict
    from touchpoint.export import export_touches
    from touchpoint.exposure_states import Seen, derive_states
    from touchpoint.frequency import EVERYBODY, UNKNOWN, Frequency, check_frequencies
    from touchpoint.frequency_control import drawn_share, first_share, is_drawn
    from touchpoint.frequency_curves import learn_from
    from touchpoint.frequency_day import Decided, decide
    from touchpoint.inputs import check_caps
    from touchpoint.offsite import AudienceSync, batches, check_syncs, delta, keys_of, open_platform, reach
    from touchpoint.pacing import price_now
    from touchpoint.paths import paths_of_events, read_paths
    from touchpoint.planning import TouchPlan, plan_touches
    from touchpoint.ports import Ledger
    from touchpoint.receipts import Forged, Receipt, read_receipts, sandbox_receipts, verify_signature
    from touchpoint.refusing import why_refused
    from touchpoint.templates import NotForHer, Words, check_content, render, user_fields
    from touchpoint.verification import verify_touches
else:
    __getattr__ = door(__name__, __file__)

__all__ = [
    "EVERYBODY",
    "LONGEST_CODE",
    "UNKNOWN",
    "Answer",
    "AudienceSync",
    "AudienceUpload",
    "Basket",
    "Channel",
    "CouponPool",
    "Decided",
    "FileDrop",
    "Forged",
    "Frequency",
    "Gateway",
    "Handed",
    "Ledger",
    "Message",
    "No",
    "NotForHer",
    "Provider",
    "Receipt",
    "Rules",
    "SandboxAudiences",
    "Seen",
    "Situation",
    "TouchPlan",
    "Verdict",
    "Words",
    "attribute",
    "basket_refusal",
    "batches",
    "check_caps",
    "check_channels",
    "check_content",
    "check_frequencies",
    "check_pools",
    "check_syncs",
    "decide",
    "delta",
    "derive_states",
    "drawn_share",
    "export_touches",
    "first_share",
    "is_drawn",
    "keys_of",
    "learn_from",
    "mistyped",
    "new_code",
    "open_gateway",
    "open_platform",
    "paths_of_events",
    "plan_touches",
    "price_now",
    "rates_of",
    "reach",
    "read_paths",
    "read_receipts",
    "render",
    "sandbox_receipts",
    "shown",
    "user_fields",
    "verify_signature",
    "verify_touches",
    "why_refused",
]
