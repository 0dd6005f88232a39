"""Notifying people: a notice is worded, queued on each channel of its recipient, and recorded. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

from services.escalation.domain.directory.model import DESK, OFFICES, Contact, answers, key_of
from services.escalation.domain.incidents import lifecycle, obligations
from services.escalation.domain.incidents.change_set import IssuedNotice
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.incident import Incident, IncidentRow
from services.escalation.domain.notices import notification
from services.escalation.domain.notices.notification import Late, Notice, Purpose, Subject
from services.escalation.domain.notices.wording import words
from services.escalation.domain.rules.rulebook import AdoptedRulebook
from shared.events import NoticeIssued, NoticeIssuedData


def issue(
    engine: IncidentEngine, incident: Incident, notice: Notice, due_at: datetime | None, cause: str | None
) -> IssuedNotice:
    """Issue a notice about the standing decision, and return it.

    `due_at`: when it must be acknowledged, or None. `cause`: id of the event that led to it. Sets no timer.
    """
    adopted = engine.rulebook_of(incident)
    late = _late_of(incident) if notice.purpose == "late_reports" else None
    source = adopted.rulebook.citation.source if adopted else ""
    subject = Subject(incident.unit_kind, _category_of(incident, adopted), due_at, source, incident.corrected, late)
    title, body = words(incident.standing, notice, subject, adopted.rulebook.posts if adopted else ())
    notice_id = engine.new_id()
    event_id = engine.emit(
        incident,
        lambda head, data: NoticeIssued(
            **head,
            data=NoticeIssuedData(
                **data,
                notice_id=notice_id,
                recipient=notice.recipient,
                purpose=notice.purpose,
                posts=notice.posts,
                decision_id=incident.decision_id,
                due_at=due_at,
                exercise=incident.anchor.exercise,
            ),
        ),
        cause=cause,
        officials=() if notice.recipient in OFFICES else (notice.recipient,),
    )
    issued = IssuedNotice(
        notice_id=notice_id,
        event_id=event_id,
        incident=incident,
        notice=notice,
        decision_id=incident.decision_id,
        title=title,
        body=body,
        issued_at=engine.now,
        due_at=due_at,
        round=incident.round,
        exercise=incident.anchor.exercise,
        channels=_channels_of(engine, incident, notice.recipient),
    )
    engine.changes.notices.append(issued)
    incident.record_notified(notice.recipient, notice.purpose, notice.posts)
    if notice.purpose in notification.ASKING:
        asked = {(notice.recipient, post) for post in notice.posts}
        incident.ack_requested |= asked
        incident.lost = incident.lost - asked if issued.channels else incident.lost | asked
    return issued


def _late_of(incident: IncidentRow) -> Late | None:
    late = incident.late_reports_waiting
    if late is None or late.weight is None:
        return None
    return Late(late.new, late.adds, late.weight.severity, late.weight.outcome == "applies")


def request_acknowledgements(
    engine: IncidentEngine, incident: Incident, notices: Iterable[Notice], cause: str | None, *, reminds: bool = True
) -> None:
    """Issue notices that must be acknowledged. Each gets a deadline (thời hạn), and a reminder before it if `reminds`.

    The desk is asked to reach the holders who have no channel.
    """
    policy = engine.policy_of(incident)
    time_given = timedelta(minutes=policy.acknowledge_minutes(incident.standing.severity))
    known = set(incident.lost) if "lost_notice" in incident.pending else set[tuple[str, str]]()
    unreachable: set[str] = set()
    for notice in notices:
        rings = min((at for _, at in _channels_of(engine, incident, notice.recipient)), default=None)
        asked_at = rings or engine.now
        waits = asked_at > engine.now
        due_at = asked_at + time_given
        issued = issue(engine, incident, notice, due_at, cause)
        who = (notice.recipient,)
        engine.schedule(incident, "acknowledge", due_at, issued.notice_id, who=who, by_calendar=waits)
        if reminds:
            remind_at = asked_at + time_given * policy.chain.remind_percent / 100
            engine.schedule(incident, "remind", remind_at, issued.notice_id, by_calendar=waits)
        incident.state = lifecycle.after_notice(incident.state)
        if rings is None:
            unreachable |= {post for post in notice.posts if (notice.recipient, post) not in known}
    if unreachable:
        ask_to_mend(engine, incident, "unreachable", unreachable, cause)


def tell_desk(
    engine: IncidentEngine, incident: Incident, purpose: Purpose, posts: Iterable[str], cause: str | None
) -> None:
    """Notify the desk about these posts, each post once for each purpose."""
    told = incident.notified.get((DESK, purpose))
    new = set(posts) - (told or frozenset())
    if new or told is None:
        issue(engine, incident, Notice(DESK, purpose, tuple(sorted(new))), None, cause)


def ask_to_mend(
    engine: IncidentEngine,
    incident: Incident,
    purpose: Literal["unreachable", "lost_notice"],
    posts: Iterable[str],
    cause: str | None,
) -> None:
    """Tell the desk that the holders of these posts could just now not be notified, and ask it to mend that.

    Where that does not matter any more, it is told once, and has nothing to do.
    """
    if "lost_notice" not in obligations.desk_tasks(incident):
        tell_desk(engine, incident, purpose, posts, cause)
        return
    by = obligations.ask_desk(engine, incident, "lost_notice")
    issue(engine, incident, Notice(DESK, purpose, tuple(sorted(set(posts)))), by, cause)


def stand_down(engine: IncidentEngine, incident: Incident, cause: str | None) -> None:
    """Tell everybody of the ward who was notified, and still answers or is on duty, that it no longer holds.

    What was not sent yet is not sent.
    """
    engine.changes.supersede(incident.incident_id, notification.FOR_HOLDERS | notification.UNANSWERED)
    issue_stand_down(engine, incident, _notified_of_the_ward(engine, incident), cause)


def told_of(engine: IncidentEngine, incident: Incident) -> dict[str, frozenset[str]]:
    """Return who of the ward was notified, and still answers or is on duty, for which posts.

    Empty where the standing decision notifies nobody of them: then it was taken back.
    """
    return _notified_of_the_ward(engine, incident) if notification.holders_are_told(incident.standing) else {}


def _notified_of_the_ward(engine: IncidentEngine, incident: Incident) -> dict[str, frozenset[str]]:
    """Posts may have changed hands since the standing decision: by the directory, each must be theirs now."""
    acts, tenures = incident.successor or incident.unit, engine.tenures(incident.unit, incident.successor)
    there = on_duty(engine, incident)
    told: dict[str, frozenset[str]] = {}
    for (who, purpose), posts in incident.notified.items():
        if purpose == "duty" and who in there:
            told.setdefault(who, frozenset())
        elif purpose in notification.FOR_HOLDERS and who in incident.standing.acting:
            theirs = {post for post in posts if answers(tenures, post, who, engine.now, acts)}
            if theirs:
                told[who] = told.get(who, frozenset()) | theirs
    return told


def issue_stand_down(
    engine: IncidentEngine, incident: Incident, told: Mapping[str, frozenset[str]], cause: str | None
) -> None:
    """Tell these people that what they were told no longer holds. `told`: posts by holder id."""
    for holder, posts in sorted(told.items()):
        issue(engine, incident, Notice(holder, "stand_down", tuple(sorted(posts))), None, cause)


def on_duty(engine: IncidentEngine, incident: IncidentRow) -> list[str]:
    """Return the holder ids of those on duty now in the ward that acts for the incident."""
    acts = key_of(incident.successor or incident.unit)
    return [
        d.holder_id
        for d in engine.directory.duties
        if d.level == "ward" and d.unit_key == acts and d.valid_from <= engine.now < d.valid_to
    ]


def _channels_of(engine: IncidentEngine, incident: Incident, recipient: str) -> tuple[tuple[str, datetime], ...]:
    """Return the recipient's channels, each with the time from which it may be used.

    Exercises go to the log channel only.
    """
    if incident.anchor.exercise:
        return ((engine.channels.log, engine.now),)
    waits = recipient not in OFFICES and notification.may_wait(incident.standing, engine.policy_of(incident))
    found: dict[str, datetime] = {}
    for contact in _contacts_of(engine, incident, recipient):
        found.setdefault(contact.channel, notification.rings_at(contact, engine.now, may_wait=waits))
    return tuple(found.items())


def _contacts_of(engine: IncidentEngine, incident: Incident, recipient: str) -> list[Contact]:
    """Return the recipient's contacts. Those of an office include whoever is on duty there.

    Whoever the decision names is left out at an office: the link of its notice acknowledges in the office's name.
    """
    contacts = engine.directory.contacts
    if recipient not in OFFICES:
        return list(contacts.get(recipient, ()))
    own = engine.channels.desk if recipient == DESK else engine.channels.leadership
    there = (
        contact
        for d in engine.directory.duties
        if d.level == recipient and d.valid_from <= engine.now < d.valid_to
        if d.holder_id not in incident.standing.named
        for contact in contacts.get(d.holder_id, ())
    )
    return [Contact(own), *there]


def _category_of(incident: Incident, adopted: AdoptedRulebook | None) -> str:
    """Return the category that the text names.

    Where the firecracker limb applies, that is setting off firecrackers, whatever the incident's own category is.
    """
    if incident.standing.limb != "firecracker" or adopted is None:
        return incident.category
    rules = adopted.rulebook.categories.items()
    return next((code for code, rule in rules if rule.firecracker == "yes"), incident.category)
