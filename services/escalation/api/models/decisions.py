"""Decisions of the rule, their replay, and the rulebooks that they were made by."""

from typing import Annotated, Any

import orjson
from pydantic import AwareDatetime
from sqlalchemy import Row

from services.escalation.domain.rules.record import Decision
from services.escalation.domain.rules.replay import Replayed
from services.escalation.domain.rules.rulebook import AdoptedRulebook, Citation, Rulebook
from shared.http.fields import Answer, Page, Sha256, Stored

Record = Annotated[dict[str, Any], Stored(Decision)]


class DecisionItem(Answer):
    """One evaluation of the rule for an incident."""

    decision_id: str
    number: int
    """Among the decisions of the incident, from 1."""
    previous: str | None
    """Id of the decision before it."""
    made_at: AwareDatetime
    record: Record
    """What the ledger keeps; what is not known, or was not asked, is absent."""


class DecisionAnswer(DecisionItem):
    """A decision by itself."""

    incident: str


def decision_item(row: Row[Any]) -> DecisionItem:
    return DecisionItem(**_columns(row))


def decision_answer(row: Row[Any]) -> DecisionAnswer:
    return DecisionAnswer(incident=row.incident_id, **_columns(row))


def _columns(row: Row[Any]) -> dict[str, Any]:
    return {
        "decision_id": row.decision_id,
        "number": row.number,
        "previous": row.previous_id,
        "made_at": row.made_at,
        "record": orjson.loads(row.record),
    }


class Replay(Answer):
    """A decision computed again from its recorded inputs."""

    decision_id: str
    equal: bool
    """Byte for byte."""
    computed: Record | None
    """Null where it could not be computed."""
    differences: list[str]
    """Place by place, what was recorded and what was computed."""


def replay_answer(done: Replayed) -> Replay:
    return Replay(
        decision_id=done.decision_id, equal=done.equal, computed=done.computed, differences=list(done.differences)
    )


class RulebookItem(Answer):
    """An adopted version of the rule, in force for occurrences from `valid_from` until before `valid_to`."""

    version: str
    sha256: Sha256
    """Of the file that it was read from."""
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None
    """Null: no end is set."""
    citation: Citation
    """The sentence of the rule."""


class RulebookAnswer(RulebookItem):
    """A version in full."""

    rulebook: Rulebook


class RulebookPage(Page[RulebookItem]):
    """Rulebooks by version."""


def rulebook_item(adopted: AdoptedRulebook) -> RulebookItem:
    return RulebookItem(**_summary(adopted))


def rulebook_answer(adopted: AdoptedRulebook) -> RulebookAnswer:
    return RulebookAnswer(rulebook=adopted.rulebook, **_summary(adopted))


def _summary(adopted: AdoptedRulebook) -> dict[str, Any]:
    rule = adopted.rulebook
    return {
        "version": rule.version,
        "sha256": adopted.sha256,
        "valid_from": rule.valid_from,
        "valid_to": rule.valid_to,
        "citation": rule.citation,
    }
