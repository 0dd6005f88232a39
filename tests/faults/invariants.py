"""Promises about a city's records, each a sentence and a function that finds what breaks it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from tests.faults.broken import Sort
from tests.faults.kept import Kept, grouped
from tests.integration.stored.records import ASKING, Delivery, DueTime, Event, Notice

Finder = Callable[[Kept], Iterable[Any]]
PROMISES: dict[str, tuple[Sort, Finder]] = {}


def promise(broken: str, sort: Sort = "wrong") -> Callable[[Finder], Finder]:
    """`broken`: what is said of each item that the function finds."""

    def kept_as(finder: Finder) -> Finder:
        PROMISES[broken] = sort, finder
        return finder

    return kept_as


def twice(items: Iterable[Any]) -> list[Any]:
    return [item for item, count in Counter(items).items() if count > 1]


def not_from_one(numbers: Iterable[int]) -> bool:
    """Whether there are none, or they are not 1, 2, 3 and so on, each once."""
    found = sorted(numbers)
    return not found or found != list(range(1, len(found) + 1))


# --- reports and decisions ---


@promise("the receipt of report {} names another incident than escalation, or none", "lost")
def _receipts(kept: Kept) -> Iterator[str]:
    known = {r.event_id: r.incident_id for r in kept.reports}
    return (r.report_id for r in kept.received if known.get(r.event_id) != r.incident)


@promise("escalation knows report {}, which intake never accepted")
def _unaccepted(kept: Kept) -> set[str]:
    return {r.event_id for r in kept.reports} - {r.event_id for r in kept.received}


@promise("the reports of incident {} are not numbered from 1 without a gap")
def _report_numbers(kept: Kept) -> Iterator[str]:
    by_incident = grouped(kept.reports, lambda report: report.incident_id)
    return (incident for incident, found in by_incident.items() if not_from_one(r.position for r in found))


@promise("the decisions of incident {} are not numbered from 1 without a gap, or there is none")
def _decision_numbers(kept: Kept) -> Iterator[str]:
    ids = (incident.incident_id for incident in kept.incidents)
    return (id_ for id_ in ids if not_from_one(d.number for d in kept.decisions_of[id_]))


@promise("decision {} is not linked to the one before it")
def _links(kept: Kept) -> Iterator[str]:
    ids = {(d.incident_id, d.number): d.decision_id for d in kept.decisions}
    return (d.decision_id for d in kept.decisions if d.previous_id != ids.get((d.incident_id, d.number - 1)))


# --- notices and deliveries ---


@promise("incident, recipient, purpose, round and post {} have more than one notice", "doubled")
def _notices_once(kept: Kept) -> list[Any]:
    again = {
        *("closure", "vacancy", "unit_split", "late_reports", "lost_notice", "unreachable"),
        *("not_acknowledged", "not_reviewed", "exhausted", "stand_down"),
    }
    return twice(
        (n.incident_id, n.recipient, n.purpose, n.round, post)
        for n in kept.notices
        if n.purpose not in again
        for post in n.posts or (None,)
    )


@promise(
    "of incident, office, round and post {} more notices say that nobody answered than people were asked", "doubled"
)
def _nobody_answered(kept: Kept) -> Iterator[Any]:
    asked = Counter((n.incident_id, n.round, post) for n in kept.notices if n.purpose in ASKING for post in n.posts)
    said = Counter(
        (n.incident_id, n.recipient, n.round, post)
        for n in kept.notices
        if n.purpose == "not_acknowledged"
        for post in n.posts
    )
    return (key for key, count in said.items() if count > asked[key[0], key[2], key[3]])


@promise("delivery {} is neither sent nor needless", "lost")
def _undelivered(kept: Kept) -> Iterator[str]:
    left = [d for d in kept.deliveries if d.state not in THROUGH]
    wrong = [d for d in left if not (d.state == "cancelled" and _is_needless(kept, d))]
    through = Counter(d.notice_id for d in kept.deliveries if d.state in THROUGH)
    return (f"{d.delivery_id} ({_seen(kept, d)}; {through[d.notice_id]} got through)" for d in wrong)


def _seen(kept: Kept, delivery: Delivery) -> str:
    notice = kept.notice[delivery.notice_id]
    left = f"withdrawn {notice.withdrawn_at}" if notice.withdrawn_at else "not withdrawn"
    said = [finding.kind for finding in kept.findings_of[delivery.incident_id]]
    return (
        f"{delivery.state} {delivery.finished_at}, {delivery.purpose} of {delivery.incident_id} to {notice.recipient},"
        f" {delivery.error}, {left}; findings {said}"
    )


def _is_needless(kept: Kept, delivery: Delivery) -> bool:
    """Acknowledged, or of an incident that ended, or to somebody who by a later decision does not answer for it any
    more or who was asked anew, or of a past round, or about nobody answering or being reached where somebody has, or
    for a task of the desk after which somebody found or decided something."""
    notice, at = kept.notice[delivery.notice_id], delivery.finished_at
    id_ = delivery.incident_id
    ends = {"dismissal", "merge", "hand_off", "closure"}
    return (
        notice.acknowledged_at is not None
        or any(f.kind in ends and at is not None and f.made_at <= at + kept.set_back for f in kept.findings_of[id_])
        or _answers_no_more(kept, notice)
        or _was_asked_anew(kept, notice)
        or notice.round < kept.incident[id_].round
        or (notice.purpose in FOR_THE_DESK and _came_later(kept, notice, at))
        or any(n.purpose == "stand_down" and n.recipient == notice.recipient for n in kept.notices_of[id_])
        or (
            notice.purpose in {"not_acknowledged", "exhausted", "lost_notice", "unreachable"}
            and any(
                n.acknowledged_at and at is not None and n.acknowledged_at <= at + kept.set_back
                for n in kept.notices_of[id_]
            )
        )
    )


def _answers_no_more(kept: Kept, notice: Notice) -> bool:
    made = kept.decisions_of[notice.incident_id]
    numbers = [d.number for d in made if d.decision_id == notice.decision_id]
    later = [d for d in made if numbers and d.number > numbers[0]]
    return any(notice.recipient not in map(_acting, d.said["parties"]) for d in later)


def _came_later(kept: Kept, notice: Notice, at: datetime | None) -> bool:
    """Whether a finding or a decision came between the notice and the end of its delivery."""
    id_, since = notice.incident_id, notice.issued_at - kept.set_back
    made = [*(f.made_at for f in kept.findings_of[id_]), *(d.made_at for d in kept.decisions_of[id_])]
    return at is not None and any(since <= each <= at + kept.set_back for each in made)


def _was_asked_anew(kept: Kept, notice: Notice) -> bool:
    """Whether the notice was withdrawn because a later one asks its recipient again. The later one is checked too."""
    return notice.withdrawn_at is not None and any(
        later.purpose == "still_open"
        and later.recipient == notice.recipient
        and later.notice_id != notice.notice_id
        and later.issued_at + kept.set_back >= notice.withdrawn_at
        for later in kept.notices_of[notice.incident_id]
    )


def _acting(party: dict[str, Any]) -> str | None:
    who = party.get("deputy") or party.get("present")
    return who["holder_id"] if who else None


# --- what falls due ---


@promise("deadline {} has passed and nothing was done", "stuck")
def _forgotten(kept: Kept) -> Iterator[str]:
    return (d.deadline_id for d in kept.due_times if d.state == "pending" and d.due_at <= kept.at)


@promise("incident {} is open and nothing will fall due for it", "lost")
def _unwatched(kept: Kept) -> Iterator[str]:
    waited_for = (i.incident_id for i in kept.incidents if i.is_waited_for)
    return (id_ for id_ in waited_for if not _pending(kept, id_))


@promise("incident {} has ended and something still falls due for it")
def _watched_in_vain(kept: Kept) -> Iterator[str]:
    ended = (i.incident_id for i in kept.incidents if not i.is_waited_for)
    return (id_ for id_ in ended if _pending(kept, id_))


def _pending(kept: Kept, incident: str) -> bool:
    return any(d.state == "pending" for d in kept.due_times_of[incident])


def _passed(due_times: Iterable[DueTime], *kinds: str) -> list[DueTime]:
    return [d for d in due_times if d.state == "passed" and d.kind in kinds]


def _said(kept: Kept, what: str) -> list[Event]:
    """Events of incidents, of this type."""
    return [event for event in kept.timeline if event.incident_id is not None and what in event.type]


def _steps(kept: Kept) -> Counter[tuple[str | None, datetime]]:
    """Steps up of each incident and due time."""
    return Counter((e.incident_id, datetime.fromisoformat(e.data["due_at"])) for e in _said(kept, "step.raised"))


@promise("deadline {} passed without a step up", "lost")
def _no_step(kept: Kept) -> Iterator[str]:
    """What fell due after its person had left, or when the chain had ended already, has no step of its own."""
    steps, ended = _steps(kept), {event.incident_id for event in _said(kept, "chain.exhausted")}
    changed = {d.incident_id for d in _passed(kept.due_times, "directory")}
    due = (d for d in _passed(kept.due_times, *CLIMBING) if d.incident_id not in ended | changed)
    return (d.deadline_id for d in due if not steps[d.incident_id, d.due_at])


@promise("incident and due time {} have more steps up than deadlines", "doubled")
def _too_many_steps(kept: Kept) -> Iterator[Any]:
    passed: Counter[tuple[str | None, datetime]] = Counter(
        (d.incident_id, d.due_at) for d in _passed(kept.due_times, *CLIMBING)
    )
    return (key for key, count in _steps(kept).items() if count > passed[key])


@promise("the chain of incident, reason and round {} ended more than once", "doubled")
def _chain_ends(kept: Kept) -> list[Any]:
    return twice(
        (e.incident_id, e.data["reason"], e.data.get("task"), e.data["round"]) for e in _said(kept, "chain.exhausted")
    )


@promise("incident {} is in a round for which nothing lapsed, was reopened or decided anew")
def _rounds(kept: Kept) -> Iterator[str]:
    for incident in kept.incidents:
        id_ = incident.incident_id
        lapsed = len(_passed(kept.due_times_of[id_], "lapse"))
        reopened = sum(finding.kind == "reopening" for finding in kept.findings_of[id_])
        if incident.round > lapsed + reopened + len(kept.decisions_of[id_]):
            yield id_


# --- what is recorded ---


@promise("what was said of an incident is recorded more than once: {}", "doubled")
def _said_twice(kept: Kept) -> list[str]:
    return [
        reason
        for _, _, reason in twice((f.incident_id, f.kind, f.reason) for f in kept.findings if f.reason is not None)
    ]


@promise("event {} is more than once in the timeline", "doubled")
def _events_once(kept: Kept) -> list[str]:
    return twice(event.event_id for event in kept.timeline)


@promise("event {} is in the timeline and not in the ledger", "lost")
def _unrecorded(kept: Kept) -> set[str]:
    return {event.event_id for event in kept.timeline} - {entry.event_id for entry in kept.entries}


@promise("event {} of escalation is in the ledger and not in the timeline")
def _untimed(kept: Kept) -> set[str]:
    recorded_now = kept.entries[kept.inherited :]  # the first releases had no timeline
    of_escalation = {entry.event_id for entry in recorded_now if entry.kind != RECEIVED}
    return of_escalation - {event.event_id for event in kept.timeline}


@promise("report {} has not exactly one entry in the ledger", "lost")
def _reports_recorded(kept: Kept) -> Iterator[str]:
    recorded = Counter(entry.event_id for entry in kept.entries if entry.kind == RECEIVED)
    return (report.report_id for report in kept.received if recorded[report.event_id] != 1)


@promise("the ledger has a report.received {} that intake does not know")
def _unknown_reports(kept: Kept) -> set[str]:
    recorded = {entry.event_id for entry in kept.entries if entry.kind == RECEIVED}
    return recorded - {report.event_id for report in kept.received}


@promise("the events of incident {} are not in the ledger from 1 to its last, each once", "lost")
def _sequences(kept: Kept) -> Iterator[str]:
    """An incident numbers its events itself, so a gap here is an event that got lost on its way to the ledger."""
    for incident in kept.incidents:
        numbers = Counter(entry.data.get("sequence") for entry in kept.entries_of[incident.incident_id])
        if not numbers or numbers != Counter(range(1, incident.sequence + 1)):
            yield incident.incident_id


@promise("the ledger has events of incident {}, which escalation does not know")
def _unknown_incidents(kept: Kept) -> set[str]:
    return set(kept.entries_of) - {incident.incident_id for incident in kept.incidents}


@promise("an event of service {} is dead", "lost")
def _dead(kept: Kept) -> Iterable[str]:
    return kept.dead


RECEIVED = "report.received"
CLIMBING = ("acknowledge", "review", "vacancy", "unit_split", "closure", "late_reports", "lost_notice")
"""Kinds of due times after which the next level is told."""
FOR_THE_DESK = frozenset(
    {"review", "not_reviewed", "vacancy", "unit_split", "closure", "late_reports", "lost_notice", "unreachable"}
)
"""Purposes of notices that ask for something which the desk has to do; once it is done they need not be sent."""
THROUGH = frozenset({"sent", "delivered"})
"""States of a delivery that was taken, by a file or by a receiver."""


def unequal_records(kept: Kept) -> Iterator[tuple[Sort, str, Iterable[str]]]:
    """Of what is stored, the ledger has one entry each, and no entry more: what is broken, and of what."""
    yield from _unequal(kept, "decision_id", {d.decision_id for d in kept.decisions}, "decision.made")
    yield from _unequal(kept, "notice_id", {n.notice_id for n in kept.notices}, "notice.issued")
    sent = {d.delivery_id for d in kept.deliveries if d.state in THROUGH}
    yield from _unequal(kept, "delivery_id", sent, "delivery.finished")
    acknowledged = {n.notice_id for n in kept.notices if n.acknowledged_at is not None}
    yield from _unequal(kept, "notice_id", acknowledged, "acknowledgement.recorded")
    yield from _unequal(kept, "finding_id", {f.finding_id for f in kept.findings})
    yield from _unequal(kept, "tenure_id", {t.tenure_id for t in kept.tenures}, "tenure.recorded")
    yield from _unequal(kept, "version", {r.version for r in kept.rulebooks}, "rulebook.adopted")


def _unequal(
    kept: Kept, key: str, stored: set[str], kind: str | None = None
) -> Iterator[tuple[Sort, str, Iterable[str]]]:
    """`kind`: of the entries; any if none is given."""
    said = (entry.data for entry in kept.entries if kind in (None, entry.kind))
    recorded = Counter(str(data[key]) for data in said if data.get(key) is not None and not data.get("withdrawn"))
    what = kind or "event"
    yield "lost", f"{key} {{}} has no {what} in the ledger", stored - recorded.keys()
    yield "wrong", f"{key} {{}} has a {what} in the ledger and is not stored", recorded.keys() - stored
    yield "doubled", f"{key} {{}} has more than one {what} in the ledger", twice(recorded.elements())
