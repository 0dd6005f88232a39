"""Acknowledging notices (xác nhận). Pure.

Each acknowledgement is recorded. Once every post-holder of the round has acknowledged, nobody higher up is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.escalation.domain.directory.model import OFFICES
from services.escalation.domain.incidents import lifecycle, obligations
from services.escalation.domain.incidents.change_set import Acknowledgement
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.incident import Incident
from services.escalation.domain.notices.notification import ASKING, to_holders
from shared.events import AcknowledgementRecorded, AcknowledgementRecordedData

WHEN_ALL_ANSWERED = frozenset({"not_acknowledged", "exhausted"})
"""Purposes of notices that say that somebody does not acknowledge. They need not be sent once everybody has."""


@dataclass(frozen=True)
class StoredNotice:
    """A notice that was issued in an earlier transaction, and whether it was acknowledged."""

    notice_id: str
    recipient: str
    purpose: str
    posts: tuple[str, ...]
    round: int
    due_at: datetime | None
    acknowledged_at: datetime | None
    event_id: str | None
    """Id of the event that recorded it."""


def record_acknowledgement(
    engine: IncidentEngine, incident: Incident, notices: Sequence[StoredNotice], mine: Sequence[StoredNotice], by: str
) -> bool:
    """Acknowledge `mine`, which are among the incident's `notices`, in the name of `by`.

    Returns whether any of them had not been acknowledged before. The caller has checked that `by` may do this.
    """
    new = [n for n in mine if n.acknowledged_at is None]
    if not new:
        return False
    owed = obligations.desk_tasks(incident)
    incident.lost -= {(n.recipient, post) for n in new for post in n.posts}
    obligations.end_what_is_done(engine, incident, owed)
    ids = tuple(n.notice_id for n in new)
    engine.changes.acknowledgements.append(Acknowledgement(ids, by, engine.now))
    if incident.is_open and _all_have_acknowledged(incident, notices, ids):
        incident.state = lifecycle.after_acknowledgement(incident.state)
        engine.cancel_stored(incident, "acknowledge", "remind")
        engine.changes.supersede(incident.incident_id, WHEN_ALL_ANSWERED)
    for notice in new:
        _record(engine, incident, notice, by)
    return True


def _all_have_acknowledged(incident: Incident, notices: Sequence[StoredNotice], new: Sequence[str]) -> bool:
    """Return whether everybody asked in this round has acknowledged, with the notice ids in `new` counted.

    People who no longer answer for a post are not waited for.
    """
    asked = [n for n in notices if n.purpose in ASKING and n.round == incident.round]
    waiting = [n for n in asked if n.acknowledged_at is None and n.notice_id not in new]
    if waiting:
        answering = {n.recipient for n in to_holders(incident.standing.parties, "accountable")}
        asked = [n for n in asked if n.recipient in answering]
        waiting = [n for n in waiting if n.recipient in answering]
    return bool(asked) and not waiting


def _record(engine: IncidentEngine, incident: Incident, notice: StoredNotice, by: str) -> None:
    in_time = notice.due_at is None or engine.now <= notice.due_at
    engine.emit(
        incident,
        lambda head, data: AcknowledgementRecorded(
            **head,
            data=AcknowledgementRecordedData(
                **data, notice_id=notice.notice_id, holder=by, posts=notice.posts, in_time=in_time
            ),
        ),
        cause=notice.event_id,
        officials=() if notice.recipient in OFFICES else {by, notice.recipient},
    )
