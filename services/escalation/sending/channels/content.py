"""What a message says under its id: composed once, kept while it may be sent again, the same bytes each time."""

from dataclasses import dataclass
from typing import Any

import orjson

from services.escalation.domain.notices.incident_number import number_of
from services.escalation.domain.notices.message import DueDelivery
from services.escalation.sending.channels.message import Outgoing
from shared.clock import local

TYPE = "vn.trucban.notice.v1"


def compose(out: Outgoing) -> bytes:
    """Return the content: the body of a webhook, from which a mail is made as well."""
    title, body = out.text()
    data = {
        "title": title,
        "body": body,
        "bundle_id": out.message.bundle_id,
        "notices": [_notice(d, out.links.get(d.notice_id)) for d in out.deliveries],
    }
    issued = local(max(d.issued_at for d in out.deliveries))
    return orjson.dumps({"type": TYPE, "timestamp": issued, "data": data})


def content_of(out: Outgoing) -> bytes:
    """Return the content that was kept, or compose it."""
    return out.message.content or compose(out)


@dataclass(frozen=True)
class Said:
    """What a content says to a person."""

    title: str
    body: str
    threads: frozenset[tuple[str, str]]
    """Pairs of incident and recipient."""


def read(content: bytes) -> Said:
    data = orjson.loads(content)["data"]
    return Said(
        data["title"],
        data["body"],
        frozenset((n["incident_id"], n["recipient"]) for n in data["notices"] if n["incident_id"]),
    )


def _notice(due: DueDelivery, link: str | None) -> dict[str, Any]:
    listed = due.listed
    due_at = listed.due_at if listed else due.due_at
    return {
        "delivery_id": due.delivery_id,
        "notice_id": due.notice_id,
        "incident_id": due.incident_id,
        "incident_number": number_of(due.incident_id) if due.incident_id else None,
        "recipient": due.recipient,
        "purpose": due.purpose,
        "posts": due.posts,
        "exercise": due.exercise,
        "title": due.title,
        "body": due.body,
        "category": listed.spoken if listed else None,
        "place": listed.place if listed else None,
        "severity": listed.severity if listed else None,
        "provisional": listed.provisional if listed else None,
        "occurred_at": local(listed.occurred_at) if listed else None,
        "due_at": local(due_at) if due_at else None,
        "acknowledge": link,
    }
