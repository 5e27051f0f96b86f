"""How do we reach them without wearing them out? The door of this room."""

from touchpoint.channels.checking import check_channels
from touchpoint.channels.definitions import Channel, Provider, rates_of
from touchpoint.channels.files import FileDrop
from touchpoint.channels.gateways import AudienceUpload
from touchpoint.channels.message import Answer, Gateway, Handed, Message
from touchpoint.channels.opening import open_gateway
from touchpoint.channels.sandbox import SandboxAudiences
from touchpoint.dispatch_rules import Rules, Situation, Verdict
from touchpoint.export import export_touches
from touchpoint.planning import TouchPlan, plan_touches
from touchpoint.ports import Ledger
from touchpoint.receipts import Forged, Receipt, read_receipts, sandbox_receipts, verify_signature
from touchpoint.templates import NotForHer, Words, check_content, render, user_fields
from touchpoint.verification import verify_touches

__all__ = [
    "Answer",
    "AudienceUpload",
    "Channel",
    "FileDrop",
    "Forged",
    "Gateway",
    "Handed",
    "Ledger",
    "Message",
    "NotForHer",
    "Provider",
    "Receipt",
    "Rules",
    "SandboxAudiences",
    "Situation",
    "TouchPlan",
    "Verdict",
    "Words",
    "check_channels",
    "check_content",
    "export_touches",
    "open_gateway",
    "plan_touches",
    "rates_of",
    "read_receipts",
    "render",
    "sandbox_receipts",
    "user_fields",
    "verify_signature",
    "verify_touches",
]
