"""Which notices need not be sent any more: conditions on a notice, joined with its incident if it has one."""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, any_, literal, not_, or_, select

from services.escalation.domain.directory.model import LEADERSHIP
from services.escalation.domain.incidents.lifecycle import FINAL
from services.escalation.domain.notices.delivery_state import GOT_THROUGH, SENDING
from services.escalation.domain.notices.notification import AFTER_THE_END, ASKING, EACH_ROUND, FOR_HOLDERS
from services.escalation.store.tables import contact, delivery, incident, notice, roster, tenure


def is_stale(
    channel: ColumnElement[str], was_tried: ColumnElement[bool], now: ColumnElement[datetime]
) -> ColumnElement[bool]:
    """Condition: the notice was acknowledged or withdrawn; or it is of a past round; or it takes back what was never
    told; or its recipient has left.

    After an attempt also: its incident has ended, or its channel was taken from its recipient. Without an incident: its
    time is over, or its channel was taken from its recipient.
    """
    taken_away, without = lost_channel(channel), notice.c.incident_id.is_(None)
    return or_(
        and_(without, or_(taken_away, notice.c.due_at <= now)),
        notice.c.acknowledged_at.is_not(None),
        notice.c.withdrawn_at.is_not(None),
        _is_of_a_past_round(),
        _never_told(),
        _has_left(now),
        and_(was_tried, or_(_is_over(), taken_away)),
    )


def _is_over() -> ColumnElement[bool]:
    """Its incident has ended, after which it is not sent."""
    still_sent = and_(incident.c.state == "handed_off", notice.c.purpose == "accountable")
    said_after_the_end = notice.c.purpose.in_(sorted(AFTER_THE_END))
    return and_(incident.c.state.in_(sorted(FINAL)), not_(said_after_the_end), not_(still_sent))


def _is_of_a_past_round() -> ColumnElement[bool]:
    """Everybody is asked anew. What takes something back holds until its recipient is told again."""
    later = notice.alias()
    again = (
        select(literal(1))
        .where(later.c.incident_id == notice.c.incident_id, later.c.recipient == notice.c.recipient)
        .where(later.c.round > notice.c.round, later.c.purpose.in_(sorted(FOR_HOLDERS)))
    )
    purpose = notice.c.purpose
    means_nothing = or_(purpose.in_(sorted((ASKING | EACH_ROUND) - {"stand_down"})), again.exists())
    return and_(notice.c.round < incident.c.round, purpose.in_(sorted(ASKING | EACH_ROUND)), means_nothing)


def _has_left(now: ColumnElement[datetime]) -> ColumnElement[bool]:
    """Its recipient's turn of duty is over, or they left the post after the police took over.

    While an incident is open, the notices to whoever leaves a post are withdrawn.
    """
    turn = select(literal(1)).where(roster.c.holder_id == notice.c.recipient, roster.c.level == "ward")
    turn = turn.where(roster.c.superseded_at.is_(None), roster.c.valid_from <= now, roster.c.valid_to > now)
    acting = or_(tenure.c.unit_code == incident.c.unit_code, tenure.c.unit_code == incident.c.successor["code"].astext)
    held = select(literal(1)).where(tenure.c.holder_id == notice.c.recipient, tenure.c.post == any_(notice.c.posts))
    held = held.where(acting, tenure.c.superseded_at.is_(None), tenure.c.valid_from <= now)
    held = held.where(or_(tenure.c.valid_to.is_(None), tenure.c.valid_to > now))
    after_the_end = and_(incident.c.state == "handed_off", notice.c.purpose == "accountable")
    return or_(and_(notice.c.purpose == "duty", ~turn.exists()), and_(after_the_end, ~held.exists()))


def _never_told() -> ColumnElement[bool]:
    """It takes back what its recipient was never told."""
    earlier, other = notice.alias(), delivery.alias()
    taken_back = or_(earlier.c.purpose.in_(sorted(FOR_HOLDERS)), earlier.c.recipient == LEADERSHIP)
    told = (
        select(literal(1))
        .join_from(other, earlier, earlier.c.notice_id == other.c.notice_id)
        .where(earlier.c.incident_id == notice.c.incident_id, earlier.c.recipient == notice.c.recipient)
        .where(taken_back, other.c.state.in_(sorted({SENDING, *GOT_THROUGH})))
    )
    return and_(notice.c.purpose == "stand_down", ~told.exists())


def lost_channel(channel: ColumnElement[str]) -> ColumnElement[bool]:
    """Condition on a notice: its recipient had this channel and no longer has it. Exercises go to no such channel."""
    theirs = select(literal(1)).where(contact.c.holder_id == notice.c.recipient, contact.c.channel == channel)
    in_use = theirs.where(contact.c.superseded_at.is_(None))
    return and_(notice.c.exercise.is_(False), theirs.exists(), ~in_use.exists())
