"""An incident: one line of a list, and all that belongs to it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, Field
from sqlalchemy import Row

from services.escalation.api.models.decisions import DecisionItem, decision_item
from services.escalation.api.models.delivery_error import told_error
from services.escalation.domain.directory.channel_form import scheme
from services.escalation.domain.incidents import report_summary
from services.escalation.domain.incidents.finding import FindingKind
from services.escalation.domain.incidents.incident import TimerKind
from services.escalation.domain.incidents.lifecycle import FINAL, State
from services.escalation.domain.incidents.obligations import Obligation, What
from services.escalation.domain.incidents.report_summary import Added
from services.escalation.domain.notices.delivery_state import DeliveryState
from services.escalation.domain.notices.incident_number import number_of
from services.escalation.domain.notices.notification import Purpose
from services.escalation.domain.rules.record import Limb, Outcome, Party
from services.escalation.store.incident_row import from_row
from services.escalation.store.tables import SENDER_REPORT_ID
from services.escalation.store.timeline import without_reporter
from shared.events import Firecracker, Harm, UnitRef
from shared.http.fields import Answer, Category, Page, Severity, Stored, UnitKind
from shared.http.identity import Principal

A = TypeVar("A", bound=Answer)
DeadlineState = Literal["pending", "passed", "cancelled"]


class Ward(Answer):
    """The ward or commune (phường, xã). Codes are reused over the years: `code` and `valid_from` are the key."""

    code: str
    valid_from: date
    name: str
    kind: UnitKind


class ObligationItem(Answer):
    """What an open incident waits for (việc phải làm): who has to do what by when."""

    who: str
    """A holder's id, `desk` or `leadership`."""
    posts: list[str]
    """The posts that it is about; empty where it is about none."""
    what: What
    """acknowledge: say that the notice was seen. resolve: act, and propose closure. review: verify and classify.
    fill_vacancy: record who holds the post. assign_unit: say whose the incident of a divided unit is. decide_closure:
    close it or not. answer_escalation: acknowledge what was put to the leadership at once, and say what is to be done.
    review_late_reports: reopen it, or end it again as it ended. mend_lost_notice: nothing could be brought to a
    post-holder: call them, and record a channel that works. close: close it, or it closes by itself."""
    since: AwareDatetime
    due_at: AwareDatetime
    """When it passes, the next level is told; after the last level, all are asked again."""
    level: int
    """Whose time it is: 0 the post-holders', then the levels of the chain."""


class LateReports(Answer):
    """The reports that came after the incident had ended. They count in its decision once it is reopened."""

    count: int
    new: int
    """How many came since the desk last said that the end stands."""
    adds: list[Added]
    """severity: a higher one. applies: the rule would apply, or may. urgent: firecrackers were set off, or life is at
    stake. confirmed: it did happen. goes_on: it happened after the end."""
    severity: Severity | None
    """That they would give; null: not known."""


class Incident(Answer):
    """What one or more reports are about, and where it stands."""

    id: str
    number: str
    """Its short number, such as `2201-K4T7M`: day and month of its opening, and five characters. Two may share it."""
    ward: Ward
    opened_at: AwareDatetime
    """By our clock."""
    category: Category
    family: str
    """Reports of one family can be about one incident."""
    exercise: bool
    """An exercise (diễn tập), which is in no count."""
    occurred_at: AwareDatetime
    """The time of occurrence of its first report, unless the desk corrected it."""
    state: State
    """received → notified → acknowledged → responding → closure_proposed, then one of the ends."""
    outcome: Outcome
    """Whether the rule applies, by the standing decision."""
    limb: Limb | None
    """By which part of the rule it applies."""
    standing: Literal["provisional", "confirmed"]
    severity: Severity | None
    """4 is the gravest; null: not known."""
    rulebook_version: str | None
    """The rulebook in force when it occurred; null: there was none."""
    round: int
    """From 1; in each, whoever answers is asked once."""
    level: int
    """How far up the chain this round has gone: 0 is the post-holders."""
    successor: Annotated[dict[str, Any], Stored(UnitRef)] | None
    """The unit that took the place of its ward, whose post-holders answer now."""
    merged_into: str | None
    """Id of the incident that has its reports now."""

    waits_for: list[ObligationItem]
    """Who has to act, the soonest due first. Never empty while it is open. Once it has ended, only what the desk owes
    for reports after the end."""
    late_reports: LateReports | None = None
    """Null where no report came after the end, or it is open again."""


_MADE = ("id", "number", "ward", "waits_for", "late_reports")
_OF_THE_ROW = tuple(n for n in Incident.model_fields if n not in _MADE)


class IncidentPage(Page[Incident]):
    """Incidents, the newest first."""


class Handover(Page[Incident]):
    """What waits for whoever comes on duty, the soonest due first. They are told the same when their turn begins."""

    open: Annotated[int, Field(description="How many incidents are open that they may see, whoever they wait for.")]
    waiting: Annotated[int, Field(description="How many incidents wait for the caller: as many as all pages hold.")]


class Source(Answer):
    """The credential that sent a report, never the person who saw it."""

    kind: Literal["officer", "device", "desk", "admin"]
    subject: str | None = None
    """An officer's stands in `POST …/senders` alone, which takes a reason. Any other is shown to the desk."""


class Texts(Answer):
    """Free text and place of a report. What was not given, or was erased, is absent."""

    description: str | None = None
    neighbourhood: str | None = None
    location: str | None = None
    """JSON: `{"latitude", "longitude", "accuracy_m"}`, degrees WGS 84 and metres."""


class Report(Answer):
    """One report as the rule looks at it. What was not given is absent."""

    id: str
    """Ours, by which events name it."""
    report_id: str
    """As its sender calls it: for the desk alone. For everybody else, and where it was erased, it is ours."""
    category: Category
    source: Source
    occurred_at: AwareDatetime
    """As its sender says."""
    received_at: AwareDatetime
    """By our clock."""
    harm: Harm | None = None
    firecracker: Firecracker | None = None
    late: bool = False
    """It came after the incident had ended, and does not count in the decision. False once the incident is reopened."""
    clock_ahead: bool = False
    """`occurred_at` is later than our clock allowed at receipt: the sender's clock is off."""
    personal: Texts | None
    """Null where the caller need not act on it, or there is none."""


class FindingItem(Answer):
    """What a person found, or did, about the incident."""

    finding_id: str
    kind: FindingKind
    author: str | None
    """A credential's subject; null where it is an officer: see `POST …/senders`."""
    role: str
    content: dict[str, Any]
    """Open, by `kind`: verification has firecrackers_exploded and reclassified; designation prominent; severity harm
    and until; merge into and reports; split new_incident and reports; hand_off and reassignment to; escalation posts
    and round; correction occurred_at, unit, exercise, location (where reports' own are shown) and the round that it
    began."""
    made_at: AwareDatetime
    reason: str | None
    """Free text; null where the caller need not act on it, or it was erased."""


class SentReport(Answer):
    """One report, and the credential that sent it."""

    id: str
    report_id: str
    source: Source


class FindingAuthor(Answer):
    """An officer who found something about the incident, and so may have reported it."""

    finding_id: str
    author: str


class Senders(Answer):
    """Who sent the reports of an incident. That this was shown, to whom and why, is recorded."""

    reports: list[SentReport]
    findings: list[FindingAuthor]


class Related(Answer):
    """Another incident that may have to do with this one."""

    id: str
    reason: str


class NoticeItem(Answer):
    """What one person is told for one purpose."""

    notice_id: str
    recipient: str
    """A holder's id, `desk` or `leadership`."""
    purpose: Purpose
    round: int
    posts: list[str]
    """For which they are told."""
    title: str
    exercise: bool
    issued_at: AwareDatetime
    due_at: AwareDatetime | None
    """To be acknowledged by then."""
    acknowledged_at: AwareDatetime | None
    acknowledged_by: str | None


class DeliveryItem(Answer):
    """Bringing a notice over one channel."""

    delivery_id: str
    notice_id: str
    state: DeliveryState
    attempts: int
    error: str | None
    """That the last attempt failed. What came back is told to administrators only, by the tests of contacts."""
    finished_at: AwareDatetime | None
    bundle_id: str | None
    """The same for all that went out as one message."""
    channel: str
    """Its scheme only: the rest is an address or a secret."""


class DeadlineItem(Answer):
    """A due time, and what became of it."""

    kind: TimerKind
    level: int
    """Whose time it is: 0 the post-holders', then the levels of the chain."""
    notice_id: str | None
    due_at: AwareDatetime
    state: DeadlineState


class TimelineItem(Answer):
    """One event of the incident."""

    id: str
    type: str
    """Such as `vn.trucban.incident.opened.v1`."""
    at: AwareDatetime
    sequence: int | None
    """The incident's own counter, from 1 without a gap."""
    cause: str | None
    """Id of the event that caused it."""
    data: dict[str, Any]
    """Open: the event's data by its `type`, as docs/schemas describes them, without what stands elsewhere in this
    answer and without personal values."""


class IncidentDetails(Incident):
    """An incident with all that belongs to it, each list in its order."""

    reports: list[Annotated[dict[str, Any], Stored(Report)]]
    decision: DecisionItem | None
    """The standing one, which is the last of `decisions`."""
    decisions: list[DecisionItem]
    parties: list[Annotated[dict[str, Any], Stored(Party)]]
    """The posts that the standing decision names."""
    findings: list[FindingItem]
    related: list[Related]
    notices: list[NoticeItem]
    deliveries: list[DeliveryItem]
    deadlines: list[DeadlineItem]
    timeline: list[Annotated[dict[str, Any], Stored(TimelineItem)]]


def incident_page(
    rows: Sequence[Row[Any]], obliged: Mapping[str, Sequence[Obligation]], following: str | None
) -> IncidentPage:
    """All of them are checked in one call, which for a page of 500 is much cheaper than one by one."""
    items = [_columns(row) | {"waits_for": _obligations(obliged.get(row.incident_id, ()))} for row in rows]
    return IncidentPage.model_validate({"items": items, "next": following})


def _obligations(found: Sequence[Obligation]) -> list[dict[str, Any]]:
    return [asdict(one) | {"posts": list(one.posts)} for one in found]


def _columns(row: Row[Any]) -> dict[str, Any]:
    ward = {"code": row.unit_code, "valid_from": row.unit_valid_from, "name": row.unit_name, "kind": row.unit_kind}
    number = number_of(row.incident_id)
    shown = {"id": row.incident_id, "number": number, "ward": ward, "late_reports": _late_item(_late(row))}
    return shown | {name: getattr(row, name) for name in _OF_THE_ROW}


def _late(row: Row[Any]) -> report_summary.LateReports | None:
    return from_row(row).summary.late if row.state in FINAL else None


def _late_item(late: report_summary.LateReports | None) -> dict[str, Any] | None:
    if late is None:
        return None
    severity = late.weight.severity if late.weight else None
    return {"count": late.reports.count, "new": late.new, "adds": list(late.adds), "severity": severity}


def incident_details(
    whole: dict[str, Any],
    timeline: Sequence[dict[str, Any]],
    obliged: Sequence[Obligation],
    caller: Principal,
    *,
    for_desk: bool,
    shows_texts: bool,
) -> IncidentDetails:
    """`for_desk`: with the ids that senders gave, and the credentials of devices. `shows_texts`: with free text and
    point, for those who must act."""
    decisions = [decision_item(row) for row in whole["decisions"]]
    standing = decisions[-1] if decisions else None
    this = whole["incident"].incident_id
    return IncidentDetails(
        **_columns(whole["incident"]),
        waits_for=[ObligationItem(**one) for one in _obligations(obliged)],
        reports=_reports(whole, for_desk=for_desk, shows_texts=shows_texts),
        decision=standing,
        decisions=decisions,
        parties=standing.record["parties"] if standing else [],
        findings=[_finding(row, shows_texts=shows_texts) for row in whole["findings"]],
        related=[
            Related(id=row.other_id if row.incident_id == this else row.incident_id, reason=row.reason)
            for row in whole["links"]
        ],
        notices=[_of_row(NoticeItem, row) for row in whole["notices"]],
        deliveries=[_delivery(row, caller) for row in whole["deliveries"]],
        deadlines=[_of_row(DeadlineItem, row) for row in whole["deadlines"]],
        timeline=[t | {"data": without_reporter(t["data"])} for t in timeline],
    )


def _delivery(row: Row[Any], caller: Principal) -> DeliveryItem:
    return _of_row(DeliveryItem, row, channel=scheme(row.channel), error=told_error(row.error, caller))


def _reports(whole: dict[str, Any], *, for_desk: bool, shows_texts: bool) -> list[dict[str, Any]]:
    late = _late(whole["incident"])
    counted = len(whole["reports"]) - (late.reports.count if late else 0)
    return [
        _report(row, for_desk=for_desk, shows_texts=shows_texts) | ({"late": True} if n > counted else {})
        for n, row in enumerate(whole["reports"], 1)
    ]


def _report(row: Row[Any], *, for_desk: bool, shows_texts: bool) -> dict[str, Any]:
    kind = row.facts["source"]["kind"]
    source = row.facts["source"] if for_desk and kind != "officer" else {"kind": kind}
    texts = dict(row.personal or {})
    theirs = texts.pop(SENDER_REPORT_ID, None)
    ids = {"id": row.report_id, "report_id": theirs if for_desk and theirs else row.report_id}
    return row.facts | ids | {"source": source, "personal": texts or None if shows_texts else None}


def senders(whole: dict[str, Any]) -> Senders:
    reports = [
        _report(row, for_desk=True, shows_texts=False) | {"source": row.facts["source"]} for row in whole["reports"]
    ]
    findings = [{"finding_id": f.finding_id, "author": f.author} for f in whole["findings"] if f.role == "officer"]
    return Senders.model_validate({"reports": reports, "findings": findings})


def _finding(row: Row[Any], *, shows_texts: bool) -> FindingItem:
    content = row.content if shows_texts else {name: v for name, v in row.content.items() if name != "location"}
    is_told = shows_texts or row.kind == "escalation"  # the leadership has to act on it
    reason = row.reason if is_told else None
    return _of_row(
        FindingItem, row, author=None if row.role == "officer" else row.author, reason=reason, content=content
    )


def _of_row(model: type[A], row: Row[Any], **instead: Any) -> A:
    """Each field from the column of its name, but for what is given `instead`."""
    return model(**{name: getattr(row, name) for name in model.model_fields if name not in instead}, **instead)
