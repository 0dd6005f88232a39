"""Record how attempts to send messages ended. One transaction for all that ended meanwhile."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.channel_form import scheme
from services.escalation.domain.directory.model import DESK, LEADERSHIP, OFFICES, key_of
from services.escalation.domain.envelope import envelope
from services.escalation.domain.incidents.change_set import ChangeSet
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.incident import Incident, IncidentRow
from services.escalation.domain.incidents.notifying import issue, tell_desk
from services.escalation.domain.notices.message import Attempt, DueDelivery
from services.escalation.domain.notices.notification import Notice
from services.escalation.store import delivery_attempts, incident_loading, waiting_deliveries
from shared.events import DeliveryFinished, DeliveryFinishedData


async def record(escalation: Escalation, attempts: Sequence[Attempt]) -> None:
    """Record attempts. Safe to repeat.

    An attempt that is recorded already, or whose delivery another worker has leased since, changes nothing.
    """
    changes = ChangeSet()
    async with escalation.database.begin() as connection:
        now = escalation.clock.now()
        # An acknowledgement takes the same locks: it came before, or it comes later and cancels the retry.
        concerned = _incidents(d for a in attempts for d in a.message.deliveries)
        rows = {row.incident_id: row for row in await incident_loading.locked(connection, concerned)}
        ours = await delivery_attempts.end_attempts(connection, attempts)
        failed = [due.delivery_id for a in attempts if a.outcome == "failed" for due in a.message.deliveries]
        if failed:
            await waiting_deliveries.call_off_failed(connection, failed, now)
        finished = [(due, a) for a in attempts for due in a.message.deliveries if due.delivery_id in ours]
        recorded: dict[str, str] = {}
        for due, attempt in finished:
            row = rows.get(due.incident_id or "")
            if row is not None:
                changes.incidents[row.incident_id] = row
            event = _finished(escalation, row, due, attempt)
            changes.events.append(event)
            recorded[due.delivery_id] = event.id
        await escalation.save(connection, changes, now)
        given_up = [due for due, attempt in finished if attempt.outcome == "given_up"]
        if given_up:
            await _tell_of_lost(escalation, connection, rows, given_up, recorded)
    if finished:
        escalation.wake(deliveries=bool(given_up))


def _finished(escalation: Escalation, row: IncidentRow | None, due: DueDelivery, attempt: Attempt) -> DeliveryFinished:
    """`row`: the incident, None where the notice is about none."""
    assert attempt.outcome != "failed"
    persons = {due.recipient} - OFFICES
    data = DeliveryFinishedData(
        notice_id=due.notice_id,
        delivery_id=due.delivery_id,
        channel=scheme(due.channel),
        outcome=attempt.outcome,
        attempts=due.attempts,
        bundle_id=due.bundle_id,
        cause=due.notice_event,
        officials=tuple(persons),
    )
    if row is not None:
        data = data.model_copy(update=row.number_event(due.notice_event, persons))
    return DeliveryFinished(**envelope(escalation.new_id(), due.incident_id or due.notice_id, attempt.at), data=data)


async def _tell_of_lost(
    escalation: Escalation,
    connection: AsyncConnection,
    rows: dict[str, IncidentRow],
    given_up: Collection[DueDelivery],
    recorded: Mapping[str, str],
) -> None:
    """Notify somebody else of notices about an incident that were given up and got through by no other channel.

    `recorded`: by delivery id, the event that records how it ended.
    """
    through = await delivery_attempts.got_through(connection, [d.notice_id for d in given_up])
    ours = [d for d in given_up if d.incident_id]
    counts = [d for d in ours if rows[d.incident_id or ""].is_open or d.purpose == "late_reports"]
    lost = [d for d in counts if d.notice_id not in through]
    if not lost:
        return
    concerned = await incident_loading.with_standing(connection, [rows[i] for i in _incidents(lost)])
    engine = await escalation.incident_engine(connection, {key_of(i.unit) for i in concerned})
    for incident in concerned:
        _tell(engine, incident, [due for due in lost if due.incident_id == incident.incident_id], recorded)
    await escalation.save(connection, engine.changes, engine.now)


def _tell(engine: IncidentEngine, incident: Incident, lost: Sequence[DueDelivery], recorded: Mapping[str, str]) -> None:
    """Tell the desk. If the lost notice was the desk's, tell the leadership.

    If that is lost too, only /readyz reports it.
    """
    to_desk = [due for due in lost if due.recipient == DESK]
    others = [d for d in lost if d.recipient != DESK and (d.recipient, d.purpose) != (LEADERSHIP, "undeliverable")]
    if others:
        tell_desk(engine, incident, "undeliverable", _posts(others), recorded[others[-1].delivery_id])
    if to_desk and (LEADERSHIP, "undeliverable") not in incident.notified:
        notice = Notice(LEADERSHIP, "undeliverable", tuple(sorted(_posts(to_desk))))
        issue(engine, incident, notice, None, recorded[to_desk[-1].delivery_id])


def _posts(lost: Sequence[DueDelivery]) -> set[str]:
    return {post for due in lost for post in due.posts}


def _incidents(due: Iterable[DueDelivery]) -> list[str]:
    return sorted({d.incident_id for d in due if d.incident_id})
