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
from services.escalation.domain.incidents.notifying import ask_to_mend, issue, tell_desk
from services.escalation.domain.notices.message import Attempt, DueDelivery
from services.escalation.domain.notices.notification import ASKING, Notice
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
        failed = {due.delivery_id: due for a in attempts if a.outcome == "failed" for due in a.message.deliveries}
        called_off = await waiting_deliveries.call_off_failed(connection, failed, now) if failed else set[str]()
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
        over = [due for due, attempt in finished if attempt.outcome == "given_up"]
        over += [failed[id_] for id_ in sorted(called_off) if failed[id_].purpose in ASKING]
        if over:
            await _tell_of_lost(escalation, connection, rows, over, recorded)
    if finished or over:
        escalation.wake(deliveries=bool(over), timers=bool(over))


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
    over: Collection[DueDelivery],
    recorded: Mapping[str, str],
) -> None:
    """Notify somebody else of notices about an incident that got through by no channel, and that none may still take.

    `over`: deliveries that are not tried again. `recorded`: by delivery id, the event that records how it ended.
    """
    arrives = await delivery_attempts.not_lost(connection, [d.notice_id for d in over])
    ours = [d for d in over if d.incident_id]
    counts = [d for d in ours if rows[d.incident_id or ""].is_open or d.purpose == "late_reports"]
    lost = [d for d in counts if d.notice_id not in arrives]
    if not lost:
        return
    concerned = await incident_loading.with_standing(connection, [rows[i] for i in _incidents(lost)])
    await incident_loading.find_lost(connection, concerned)
    engine = await escalation.incident_engine(connection, {key_of(i.unit) for i in concerned})
    for incident in concerned:
        _tell(engine, incident, [due for due in lost if due.incident_id == incident.incident_id], recorded)
    await escalation.save(connection, engine.changes, engine.now)


def _tell(engine: IncidentEngine, incident: Incident, lost: Sequence[DueDelivery], recorded: Mapping[str, str]) -> None:
    """Ask the desk to reach a post-holder whom the request of this round did not reach. Tell it of all else that is
    lost. If the lost notice was the desk's, tell the leadership.

    If that is lost too, only /readyz reports it.
    """

    def cause(due: DueDelivery) -> str | None:
        return recorded.get(due.delivery_id, due.notice_event)

    to_desk = [due for due in lost if due.recipient == DESK]
    others = [d for d in lost if d.recipient != DESK and (d.recipient, d.purpose) != (LEADERSHIP, "undeliverable")]
    requests = [d for d in others if d.purpose in ASKING]
    unreached = [d for d in requests if not incident.lost.isdisjoint(_asked(d) & incident.standing.acting_for)]
    # what else was to be sent to somebody who was not reached says nothing new, nor does a request of before
    rest = [d for d in others if d not in requests and not (d.posts and _asked(d) <= incident.lost)]
    if unreached:
        ask_to_mend(engine, incident, "lost_notice", _posts(unreached), cause(unreached[-1]))
    if rest:
        tell_desk(engine, incident, "undeliverable", _posts(rest), cause(rest[-1]))
    if to_desk and (LEADERSHIP, "undeliverable") not in incident.notified:
        notice = Notice(LEADERSHIP, "undeliverable", tuple(sorted(_posts(to_desk))))
        issue(engine, incident, notice, None, cause(to_desk[-1]))


def _asked(due: DueDelivery) -> set[tuple[str, str]]:
    return {(due.recipient, post) for post in due.posts}


def _posts(lost: Sequence[DueDelivery]) -> set[str]:
    return {post for due in lost for post in due.posts}


def _incidents(due: Iterable[DueDelivery]) -> list[str]:
    return sorted({d.incident_id for d in due if d.incident_id})
