"""What rows look like outside: JSON shapes of incidents and rulebooks, without personal data beyond the rule's need."""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Row

from services.escalation.domain.notices.pacing import scheme
from services.escalation.domain.rules.rulebook import AdoptedRulebook
from services.escalation.store.timeline import without_reporter


def incident(row: Row[Any]) -> dict[str, Any]:
    shown = (
        "category",
        "family",
        "exercise",
        "occurred_at",
        "state",
        "outcome",
        "limb",
        "standing",
        "severity",
        "rulebook_version",
        "round",
        "level",
        "successor",
        "merged_into",
    )
    ward = {"code": row.unit_code, "valid_from": row.unit_valid_from, "name": row.unit_name, "kind": row.unit_kind}
    return {"id": row.incident_id, "ward": ward, "opened_at": row.opened_at} | {n: getattr(row, n) for n in shown}


def wards_of(row: Row[Any]) -> set[str]:
    """Codes of the wards whose people may see the incident: its own, and the one that took its place."""
    return {row.unit_code} | ({row.successor["code"]} if row.successor else set[str]())


def whole_incident(
    whole: dict[str, Any], timeline: Sequence[dict[str, Any]], *, shows_senders: bool, shows_texts: bool
) -> dict[str, Any]:
    """`shows_senders`: with the credential of who reported, and of the officer who found more; for the desk alone.
    `shows_texts`: with free text and point, for those who must act."""
    decisions = [_decision(row) for row in whole["decisions"]]
    latest = decisions[-1] if decisions else None
    this = whole["incident"].incident_id
    return incident(whole["incident"]) | {
        "reports": [_report(row, shows_senders=shows_senders, shows_texts=shows_texts) for row in whole["reports"]],
        "decision": latest,
        "decisions": decisions,
        "parties": latest["record"]["parties"] if latest else [],
        "findings": [_finding(row, shows_senders=shows_senders, shows_texts=shows_texts) for row in whole["findings"]],
        "related": [
            {"id": row.other_id if row.incident_id == this else row.incident_id, "reason": row.reason}
            for row in whole["links"]
        ],
        "notices": [_notice(row) for row in whole["notices"]],
        "deliveries": [_delivery(row) for row in whole["deliveries"]],
        "deadlines": [
            {
                "kind": row.kind,
                "level": row.level,
                "notice_id": row.notice_id,
                "due_at": row.due_at,
                "state": row.state,
            }
            for row in whole["deadlines"]
        ],
        "timeline": [t if shows_senders else t | {"data": without_reporter(t["data"])} for t in timeline],
    }


def _finding(row: Row[Any], *, shows_senders: bool, shows_texts: bool) -> dict[str, Any]:
    names = ("finding_id", "kind", "author", "role", "content", "made_at")
    shown = {name: getattr(row, name) for name in names} | {"reason": row.reason if shows_texts else None}
    return shown if shows_senders else without_reporter(shown)


def _report(row: Row[Any], *, shows_senders: bool, shows_texts: bool) -> dict[str, Any]:
    source = row.facts["source"] if shows_senders else {"kind": row.facts["source"]["kind"]}
    return row.facts | {"source": source, "personal": row.personal if shows_texts else None}


def _decision(row: Row[Any]) -> dict[str, Any]:
    return {
        "decision_id": row.decision_id,
        "number": row.number,
        "previous": row.previous_id,
        "made_at": row.made_at,
        "record": orjson.loads(row.record),
    }


def _notice(row: Row[Any]) -> dict[str, Any]:
    shown = (
        "notice_id",
        "recipient",
        "purpose",
        "round",
        "posts",
        "title",
        "exercise",
        "issued_at",
        "due_at",
        "acknowledged_at",
        "acknowledged_by",
    )
    return {name: getattr(row, name) for name in shown}


def _delivery(row: Row[Any]) -> dict[str, Any]:
    shown = ("delivery_id", "notice_id", "state", "attempts", "error", "finished_at", "bundle_id")
    return {name: getattr(row, name) for name in shown} | {"channel": scheme(row.channel)}


def rulebook(book: AdoptedRulebook) -> dict[str, Any]:
    rule = book.rulebook
    return {
        "version": rule.version,
        "sha256": book.sha256,
        "valid_from": rule.valid_from,
        "valid_to": rule.valid_to,
        "citation": rule.citation.model_dump(),
    }
