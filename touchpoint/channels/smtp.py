"""Touches as e-mail: plain text and HTML, with what mailbox providers ask of bulk mail (RFC 8058).

SMTP knows no repeat: whatever is interrupted between DATA and its answer is in doubt, and not sent again.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as LINES
from email.utils import format_datetime, parseaddr
from queue import Empty, SimpleQueue

from touchpoint.channels.definitions import Provider
from touchpoint.channels.message import ACCEPTED, Answer, Handed, Message

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
#: replies to RCPT that mean: there is no such mailbox
_NO_MAILBOX = frozenset({550, 551, 553})


class Smtp:
    """One message a transaction, several connections that are kept."""

    together = 1

    def __init__(self, provider: Provider, password: str | None) -> None:
        self.connections = provider.connections
        self._of, self._password = provider, password
        self._idle: SimpleQueue[smtplib.SMTP] = SimpleQueue()
        self._context = ssl.create_default_context() if provider.security != "none" else None

    async def deliver(self, messages: Sequence[Message]) -> Sequence[Handed]:
        return [await asyncio.to_thread(self._send, each) for each in messages]

    async def close(self) -> None:
        while True:
            try:
                connection = self._idle.get_nowait()
            except Empty:
                return
            await asyncio.to_thread(connection.close)

    def _send(self, message: Message) -> Handed:
        try:
            mail = compose(message, self._of.sender, self._of.reply_to, self._of.unsubscribe)
        except ValueError as error:
            return Handed(answer=Answer.ACT_ON_IT, reason=f"cannot be an e-mail: {error}")
        try:
            connection = self._connection()
        except (OSError, smtplib.SMTPException) as error:
            return Handed(
                answer=Answer.RETRIABLE, reason=f"the mail server does not answer: {error}", down=True
            )
        answer, keep = self._transact(connection, message.address, mail)
        if keep:
            self._idle.put(connection)
        else:
            connection.close()
        return answer

    def _transact(self, connection: smtplib.SMTP, address: str, mail: EmailMessage) -> tuple[Handed, bool]:
        """The answer, and whether the connection is good for another."""
        try:
            sender = parseaddr(self._of.sender)[1]
            code, reply = connection.mail(sender)
            if code >= 400:
                connection.rset()
                return _judged(code, reply, "the sender", address=False), True
            code, reply = connection.rcpt(address)
            if code >= 400:
                connection.rset()
                return _judged(code, reply, "the address", address=code in _NO_MAILBOX), True
        except (OSError, smtplib.SMTPException) as error:
            return Handed(
                answer=Answer.RETRIABLE, reason=f"the mail server went away: {error}", down=True
            ), False
        try:
            code, reply = connection.data(mail.as_bytes(policy=LINES))
        except smtplib.SMTPDataError as error:  # it refused before it took anything
            return _judged(error.smtp_code, error.smtp_error, "the message", address=False), False
        except (OSError, smtplib.SMTPException) as error:
            said = f"the mail server went away before it said whether it took it: {error}"
            return Handed(answer=Answer.IN_DOUBT, reason=said), False
        if code == 250:
            return ACCEPTED, True
        return _judged(code, reply, "the message", address=False), True

    def _connection(self) -> smtplib.SMTP:
        while True:
            try:
                kept = self._idle.get_nowait()
            except Empty:
                break
            try:
                if kept.noop()[0] == 250:
                    return kept
            except (OSError, smtplib.SMTPException):
                pass
            kept.close()
        of, port = self._of, self._of.port or _PORTS[self._of.security]
        if of.security == "tls":
            made: smtplib.SMTP = smtplib.SMTP_SSL(of.host, port, timeout=of.timeout, context=self._context)
        else:
            made = smtplib.SMTP(of.host, port, timeout=of.timeout)
        try:
            if of.security == "starttls":
                made.starttls(context=self._context)
            made.ehlo_or_helo_if_needed()
            if self._password is not None:
                made.login(of.username, self._password)
        except BaseException:
            made.close()
            raise
        return made


def compose(message: Message, sender: str, reply_to: str = "", mailbox: str = "") -> EmailMessage:
    """The mail. Raises ValueError for an address or a header that cannot be one."""
    if not message.address.isascii():
        raise ValueError(f"address {message.address!r} has letters beyond ASCII")
    mail = EmailMessage()
    name, own = parseaddr(sender)
    mail["From"] = Address(display_name=name, addr_spec=own)
    mail["To"] = Address(addr_spec=message.address)
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(message.send_at)
    mail["Message-ID"] = f"<{message.touch_id}@{own.partition('@')[2]}>"
    if reply_to:
        mail["Reply-To"] = reply_to
    ways = [f"<{message.unsubscribe}>"] if message.unsubscribe else []
    ways += [f"<mailto:{mailbox}?subject=unsubscribe%20{message.touch_id}>"] if mailbox else []
    if ways and message.message_class != "transactional":
        mail["List-Unsubscribe"] = ", ".join(ways)
        if message.unsubscribe.startswith("https://"):
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content(message.text)
    if message.html:
        mail.add_alternative(message.html, subtype="html")
    return mail


def _judged(code: int, reply: bytes | str, what: str, *, address: bool) -> Handed:
    said = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    reason = f"the mail server rejected {what}: {code} {said[:200]}"
    if code < 500:
        return Handed(answer=Answer.RETRIABLE, reason=reason, down=code == 421)
    return Handed(answer=Answer.ACT_ON_IT, reason=reason, bounced=address)
