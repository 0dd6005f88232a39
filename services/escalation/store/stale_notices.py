"""Which notices need not be sent any more: conditions on a notice, joined with its incident if it has one."""

from datetime import datetime

from sqlalchemy import ColumnElement, Date, Interval, and_, any_, cast, func, literal, not_, or_, select

from services.escalation.domain.directory.model import LEADERSHIP, OFFICES
from services.escalation.domain.incidents.lifecycle import FINAL
from services.escalation.domain.notices.delivery_state import GOT_THROUGH, SENDING
from services.escalation.domain.notices.notification import AFTER_THE_END, ASKING, EACH_ROUND, FOR_HOLDERS
from services.escalation.store.tables import contact, delivery, incident, notice, roster, tenure, unit
from shared.clock import HO_CHI_MINH


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
    """Its recipient's turn of duty is over, or they left the post after the incident had ended.

    While an incident is open, the notices to whoever leaves a post are withdrawn. What no longer holds may have been
    told in another ward.
    """
    turn = select(literal(1)).where(roster.c.holder_id == notice.c.recipient, roster.c.level == "ward")
    turn = turn.where(roster.c.superseded_at.is_(None), roster.c.valid_from <= now, roster.c.valid_to > now)
    held = select(literal(1)).where(tenure.c.holder_id == notice.c.recipient, tenure.c.post == any_(notice.c.posts))
    held = held.where(tenure.c.superseded_at.is_(None), tenure.c.valid_from <= now, ~_unit_has_ended(now))
    held = held.where(or_(tenure.c.valid_to.is_(None), tenure.c.valid_to > now))
    there = or_(tenure.c.unit_code == incident.c.unit_code, tenure.c.unit_code == incident.c.successor["code"].astext)
    of_police = and_(incident.c.state == "handed_off", notice.c.purpose == "accountable")
    taken_back = and_(notice.c.purpose == "stand_down", notice.c.recipient.not_in(sorted(OFFICES)))
    return or_(
        and_(notice.c.purpose == "duty", ~turn.exists()),
        and_(of_police, ~held.where(there).exists()),
        and_(taken_back, ~held.exists(), ~turn.exists()),
    )


def _unit_has_ended(now: ColumnElement[datetime]) -> ColumnElement[bool]:
    """Condition on a tenure: its unit is no more. Days are the city's."""
    today = cast(func.timezone(literal(HO_CHI_MINH.utcoffset(None), Interval()), now), Date)
    theirs = and_(unit.c.code == tenure.c.unit_code, unit.c.valid_from == tenure.c.unit_valid_from)
    return select(literal(1)).where(theirs, unit.c.superseded_at.is_(None), unit.c.valid_to <= today).exists()


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
