"""What became of messages that were sent: recorded in one transaction for all that ended meanwhile."""

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.model import DESK, LEADERSHIP, OFFICES, key_of
from services.escalation.domain.envelope import envelope
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.incident import Case, about
from services.escalation.domain.notices.notification import Notice
from services.escalation.domain.notices.pacing import scheme
from services.escalation.store import deliveries, incident_loading, waiting_deliveries
from services.escalation.store.deliveries import Attempt, DueDelivery
from shared.events import DeliveryFinished, DeliveryFinishedData


async def record(escalation: Escalation, attempts: Sequence[Attempt]) -> None:
    """Safe to repeat: an attempt that is recorded, or that another worker's lease overtook, changes nothing."""
    async with escalation.database.begin() as connection:
        # Locked, as an acknowledgement locks them: either it comes before and is seen, or it cancels the retry.
        concerned = _incidents(d for a in attempts for d in a.message.deliveries)
        found = {c.incident_id: c for c in await incident_loading.locked(connection, concerned)}
        ours = await deliveries.end_attempts(connection, attempts)
        failed = [due.delivery_id for a in attempts if a.outcome == "failed" for due in a.message.deliveries]
        if failed:
            await waiting_deliveries.call_off_failed(connection, failed, escalation.clock.now())
        finished = [
            (due, attempt) for attempt in attempts for due in attempt.message.deliveries if due.delivery_id in ours
        ]
        events = [_finished(escalation, found[due.incident_id], due, attempt) for due, attempt in finished]
        await escalation.emit(connection, events)
        changed = _incidents(due for due, _ in finished)
        await deliveries.set_sequences(connection, [found[i] for i in changed])
        given_up = [due for due, attempt in finished if attempt.outcome == "given_up"]
        if given_up:
            await _tell_of_lost(escalation, connection, found, given_up)
    if finished:
        escalation.wake()


def _finished(escalation: Escalation, case: Case, due: DueDelivery, attempt: Attempt) -> DeliveryFinished:
    assert attempt.outcome != "failed"
    data = DeliveryFinishedData(
        **about(case, None, {due.recipient} - OFFICES),
        notice_id=due.notice_id,
        delivery_id=due.delivery_id,
        channel=scheme(due.channel),
        outcome=attempt.outcome,
        attempts=due.attempts,
        bundle_id=due.bundle_id,
    )
    return DeliveryFinished(**envelope(escalation.new_id(), case.incident_id, attempt.at), data=data)


async def _tell_of_lost(
    escalation: Escalation, connection: AsyncConnection, found: dict[str, Case], given_up: Collection[DueDelivery]
) -> None:
    """Of notices that got through by no other channel."""
    through = await deliveries.got_through(connection, [d.notice_id for d in given_up])
    lost = [d for d in given_up if d.notice_id not in through and found[d.incident_id].is_open]
    if not lost:
        return
    concerned = await incident_loading.with_history(connection, [found[i] for i in _incidents(lost)], reports=False)
    engine = await escalation.incident_engine(connection, {key_of(case.unit) for case in concerned})
    for case in concerned:
        _tell(engine, case, [due for due in lost if due.incident_id == case.incident_id])
    await escalation.save(connection, engine.changes, engine.now)


def _tell(engine: IncidentEngine, case: Case, lost: Sequence[DueDelivery]) -> None:
    """The desk, or the leadership of what the desk did not get; that the leadership did not hear of the desk, nobody:
    the watch complains of it."""
    to_desk = [due for due in lost if due.recipient == DESK]
    others = [d for d in lost if d.recipient != DESK and (d.recipient, d.purpose) != (LEADERSHIP, "undeliverable")]
    if others:
        engine.tell_desk(case, "undeliverable", _posts(others))
    if to_desk and (LEADERSHIP, "undeliverable") not in case.notified:
        engine.issue(case, Notice(LEADERSHIP, "undeliverable", tuple(sorted(_posts(to_desk)))), None, None)


def _posts(lost: Sequence[DueDelivery]) -> set[str]:
    return {post for due in lost for post in due.posts}


def _incidents(due: Iterable[DueDelivery]) -> list[str]:
    return sorted({d.incident_id for d in due})
