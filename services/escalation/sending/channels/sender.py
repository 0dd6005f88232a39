"""The sender: it chooses the channel that takes a message."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from services.escalation.domain.directory.channel_form import scheme
from services.escalation.domain.notices.message import Message
from services.escalation.domain.notices.signed_link import bearer
from services.escalation.sending.channels.content import compose
from services.escalation.sending.channels.file import FileChannel
from services.escalation.sending.channels.hosts import HostError
from services.escalation.sending.channels.mail import Mail
from services.escalation.sending.channels.message import DeliveryError, Outgoing, SendOutcome, asks_to_acknowledge
from services.escalation.sending.channels.through_apprise import ThroughApprise
from services.escalation.sending.channels.way_out import WayOut
from services.escalation.sending.channels.webhook import Webhooks

WITH_AN_ID = frozenset({"webhook", "webhooks", "mailto", "mailtos"})
"""Schemes by which a receiver sees the id of a message, and may drop one that it knows."""
Link = Callable[[str, str, datetime], str | None]
"""Returns the address at which a notice can be acknowledged, or None: (notice id, bearer, time of issue)."""


class Sender:
    """Sends messages. Raises DeliveryError if the channel does not take one."""

    def __init__(
        self,
        outbox: Path,
        way_out: WayOut,
        *,
        printed: Callable[[str], None] | None = None,
        link: Link | None = None,
        desk_telephone: str | None = None,
        webhooks: Webhooks | None = None,
        mail: Mail | None = None,
    ) -> None:
        self._way_out = way_out
        self._printed, self._link, self._desk_telephone = printed, link, desk_telephone
        self._webhooks, self._mail = webhooks or Webhooks(), mail or Mail()
        self._outbox, self._others = FileChannel(outbox), ThroughApprise()

    def compose(self, message: Message) -> bytes | None:
        """Return what is to be sent under the message's id each time. None on a channel whose messages have no id."""
        if scheme(message.channel) not in WITH_AN_ID:
            return None
        return compose(self._outgoing(message))

    async def send(self, message: Message) -> SendOutcome:
        out = self._outgoing(message)
        try:
            outcome = await self._hand_over(out)
        except HostError as error:
            raise DeliveryError(f"{scheme(message.channel)}: {error}", final=True) from None
        if self._printed is not None:
            self._printed(f"→ {message.deliveries[0].recipient}: {out.text()[0]}")
        return outcome

    async def _hand_over(self, out: Outgoing) -> SendOutcome:
        channel, hosts = self._way_out.checked(out.message.channel), self._way_out.hosts
        match scheme(channel):
            case "webhook" | "webhooks":
                return await self._webhooks.send(out, channel, hosts)
            case "mailto" | "mailtos":
                return await self._mail.send(out, channel, hosts)
            case "outbox":
                return await self._outbox.send(out)
            case _:
                return await self._others.send(out, channel, hosts)

    def _outgoing(self, message: Message) -> Outgoing:
        return Outgoing(message, self._links(message), self._desk_telephone)

    def _links(self, message: Message) -> dict[str, str]:
        if self._link is None:
            return {}
        asking = [d for d in message.deliveries if asks_to_acknowledge(d)]
        found = {d.notice_id: self._link(d.notice_id, bearer(d.recipient, d.person), d.issued_at) for d in asking}
        return {notice_id: link for notice_id, link in found.items() if link}

    async def aclose(self) -> None:
        await self._webhooks.aclose()
