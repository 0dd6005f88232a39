"""One incident in memory and what falls due for it, kept as the store keeps it."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, Literal

from services.escalation.domain.directory.model import Contact, Directory, Duty, Tenure, Unit, key_of
from services.escalation.domain.incidents import lifecycle
from services.escalation.domain.incidents.acknowledging import StoredNotice, record_acknowledgement
from services.escalation.domain.incidents.after_end import count, stands
from services.escalation.domain.incidents.change_set import ChangeSet, IssuedNotice, NewTimer
from services.escalation.domain.incidents.correcting import BEGINS_ANEW, Correction, correct
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.evaluation import begin_round, evaluate
from services.escalation.domain.incidents.finding import Finding, FindingKind
from services.escalation.domain.incidents.incident import NOT_ENOUGH, Case, as_case
from services.escalation.domain.incidents.notifying import ask_to_mend, issue
from services.escalation.domain.incidents.obligations import ask_desk, schedule_lapse, settle
from services.escalation.domain.incidents.timers import FiredTimer, TimedNotice, ask_again, end, fire, put_to_leadership
from services.escalation.domain.notices.notification import ASKING, EACH_ROUND, Notice
from shared.events import (
    Event,
    Firecracker,
    Harm,
    ReportReceived,
    UnitRef,
)
from tests.support import (
    BA_DINH,
    BOTH_POSTS,
    CHAIR,
    NIGHT,
    SECRETARY,
    at,
    engine,
    new_id,
    received,
    route,
    tenure,
)

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
ASKED = ["mau-bi-thu:accountable", "mau-chu-tich:accountable"]
AGAIN = ["mau-bi-thu:still_open", "mau-chu-tich:still_open"]
NO_LONGER = ["mau-bi-thu:stand_down", "mau-chu-tich:stand_down"]
REMINDED = ["mau-bi-thu:reminder", "mau-chu-tich:reminder"]
SLIGHT = Harm(deaths=0, injured=0, property_vnd=0)
LAWFUL = Firecracker(explosion_sound=False, licensed=True)
SUCCESSOR = UnitRef(code="14770", valid_from=date(2023, 1, 22), name="Ba Đình mới")
OTHER_PART = UnitRef(code="14772", valid_from=date(2023, 1, 22), name="Ba Đình phần hai")
ANOTHER_CHAIR_AT_MIDNIGHT = (
    BOTH_POSTS[0],
    tenure(CHAIR, "mau-cu", end="2023-01-22 00:00"),
    tenure(CHAIR, "mau-moi", "2023-01-22 00:00"),
)
THERE = (tenure(SECRETARY, "mau-bi-thu-moi", unit=SUCCESSOR), tenure(CHAIR, "mau-chu-tich-moi", unit=SUCCESSOR))


class Night:
    """One incident and what falls due for it, kept as the store keeps it; the clock is in `engine.now`."""

    def __init__(self, *events: ReportReceived, using: IncidentEngine | None = None) -> None:
        self.engine = using or engine()
        self.rows: list[NewTimer] = []
        self.notices: list[IssuedNotice] = []
        self.acknowledged: set[str] = set()
        self.given_up: set[str] = set()
        self.withdrawn: set[str] = set()
        self.events: list[Event] = []
        self.case: Case
        self.report(*(events or (received(kind="officer"),)))  # verified: nothing waits for the desk

    def report(self, *events: ReportReceived) -> None:
        for event in events:
            route(self.engine, event)
        (incident,) = self.engine.changes.incidents.values()
        self.case = as_case(incident)
        self._saved()

    def report_at_once(self, *events: ReportReceived) -> None:
        """As one batch."""
        route(self.engine, *events)
        self._saved()

    def change(self, *tenures: Tenure, **more: Any) -> None:
        """The directory is changed now, which makes a due time for each incident that it concerns."""
        held = {"tenures": tenures or self.engine.directory.tenures} | more
        self.look_up(replace(self.engine.directory, **held))
        self.rows.append(NewTimer(self.case, "directory", self.engine.now))
        self.case.pending.add("directory")

    def look_up(self, directory: Directory) -> None:
        """As the next transaction does, which has an engine of its own."""
        used = self.engine
        contacts = {t.holder_id: (Contact(f"outbox://{t.holder_id}"),) for t in directory.tenures}
        found = replace(directory, contacts=contacts | dict(directory.contacts))
        self.engine = IncidentEngine(found, used.rulebooks, used.channels, used.now, used.new_id, used.pseudonym)

    def lose(self, recipient: str) -> None:
        """No channel takes what they were asked last, as the delivery loop records it."""
        *_, asked = (n for n in self.notices if n.notice.recipient == recipient and n.notice.purpose in ASKING)
        self.given_up.add(asked.notice_id)
        self.case.lost = self._lost()
        ask_to_mend(self.engine, self.case, "lost_notice", asked.notice.posts, None)
        self._saved()

    def _lost(self) -> set[tuple[str, str]]:
        return {
            (n.notice.recipient, post)
            for n in self.notices
            if n.notice.purpose in ASKING and n.round == self.case.round
            if n.notice_id in self.given_up or not n.channels
            if n.notice_id not in self.acknowledged | self.withdrawn
            for post in n.notice.posts
        }

    def end(self, state: Literal["closed", "dismissed", "handed_off"] = "dismissed") -> None:
        """As the commands do it."""
        kinds: dict[str, FindingKind] = {"closed": "closure", "dismissed": "dismissal", "handed_off": "hand_off"}
        self._found(kinds[state])
        end(self.engine, self.case, state)
        self._saved()

    def hold_to_the_end(self) -> None:
        """As the command does it that ended the case before."""
        stands(self.engine, self.case)
        self._saved()

    def reopen(self) -> None:
        """As the command does it."""
        self._found("reopening")
        self.case.state = lifecycle.after("reopen", self.case.state)
        count(self.case)
        begin_round(self.engine, self.case)
        evaluate(self.engine, self.case, None)
        if self.case.standing.outcome != "does_not_apply":
            ask_again(self.engine, self.case, None)
        self._saved()

    def go(self, until: datetime) -> list[str]:
        """Run until then, each due time acted on when it falls due. Who was told what."""
        before = len(self.notices)
        while (due := min((r.due_at for r in self.rows), default=until)) < until:
            self.engine.now = max(due, self.engine.now)
            self.pass_once()
        self.engine.now = until
        return self.told[before:]

    def wake(self, at: datetime) -> list[str]:
        """After an outage until then, one pass over all that fell due."""
        before = len(self.notices)
        self.engine.now = at
        self.pass_once()
        return self.told[before:]

    def pass_once(self) -> None:
        now = self.engine.now
        due = sorted((r for r in self.rows if r.due_at <= now), key=lambda r: r.due_at)
        self.rows = [r for r in self.rows if r.due_at > now]
        self.case.pending = {r.kind for r in self.rows}
        told = {
            n.notice_id: TimedNotice(n.notice.recipient, n.notice.posts, n.due_at, n.event_id) for n in self.notices
        }
        fire(self.engine, self.case, [FiredTimer(r.kind, r.due_at, r.notice_id, r.level) for r in due], told)
        self._saved()

    def find(self, kind: FindingKind, **content: Any) -> None:
        """The desk found something out."""
        self._found(kind, **content)
        evaluate(self.engine, self.case, None)
        self._saved()

    def _found(self, kind: FindingKind, **content: Any) -> None:
        made = Finding(
            finding_id=new_id(),
            kind=kind,
            author="mau-truc-ban",
            role="desk",
            content=content,
            made_at=self.engine.now,
        )
        self.case.findings.append(made)
        self.case.summary = self.case.summary.model_copy(update={"assessed": True})

    def correct(self, correction: Correction) -> None:
        """As the command does it."""
        anew = correction.changes(self.case) & BEGINS_ANEW
        content = {"occurred_at": correction.occurred_at.isoformat()} if correction.occurred_at else {}
        self.case.findings.append(
            Finding(
                finding_id=new_id(),
                kind="correction",
                author="mau-truc-ban",
                role="desk",
                content=content | ({"round": self.case.round + 1} if anew else {}),
                made_at=self.engine.now,
            )
        )
        correct(self.engine, self.case, correction, new_id())
        self._saved()

    def propose_closure(self) -> None:
        """As the command does it."""
        self.case.state = "closure_proposed"
        self.engine.cancel(self.case, "lapse")
        by = ask_desk(self.engine, self.case, "closure")
        issue(self.engine, self.case, Notice("desk", "closure"), by, None)
        self._saved()

    def escalate(self, *posts: str) -> None:
        """As the command does it."""
        put_to_leadership(self.engine, self.case, posts, None)
        self._saved()

    def respond(self) -> None:
        """As the command does it."""
        self.case.state = lifecycle.after("respond", self.case.state)
        self.engine.changes.incidents[self.case.incident_id] = self.case
        settle(self.engine, self.case)
        if not self.case.pending - NOT_ENOUGH:
            schedule_lapse(self.engine, self.case)
        self._saved()

    def acknowledge(self, recipient: str) -> None:
        stored = [
            StoredNotice(
                notice_id=n.notice_id,
                recipient=n.notice.recipient,
                purpose=n.notice.purpose,
                posts=n.notice.posts,
                round=n.round,
                due_at=n.due_at,
                acknowledged_at=n.issued_at if n.notice_id in self.acknowledged else None,
                event_id=n.event_id,
            )
            for n in self.notices
        ]
        record_acknowledgement(
            self.engine, self.case, stored, [n for n in stored if n.recipient == recipient], recipient
        )
        self._saved()

    def _saved(self) -> None:
        out, id_ = self.engine.changes, self.case.incident_id
        answered = {notice_id for given in out.acknowledgements for notice_id in given.notice_ids}
        self.acknowledged |= answered
        self.rows = [r for r in self.rows if r.notice_id not in answered]
        gone = out.withdrawn.get(id_, set())
        withdrawn = {n.notice_id for n in self.notices if n.notice.recipient in gone}
        self.withdrawn |= withdrawn
        kept = [
            r for r in self.rows if r.kind not in out.cancelled_timers.get(id_, ()) and r.notice_id not in withdrawn
        ]
        self.rows = [*(kept if id_ not in out.ended else []), *out.timers]
        self.notices += out.notices
        self.events += out.events
        self.case.pending = {r.kind for r in self.rows}
        self.case.notified = {}
        self.case.corrected = frozenset()
        since = max((f.content.get("round", 0) for f in self.case.findings), default=0)
        self.case.told_since = since
        counted = [n for n in self.notices if n.round >= since]
        above = {n.notice.purpose for n in counted if n.notice.recipient == "leadership"}
        self.case.leadership_told = bool(above - {"stand_down"})
        for n in counted:
            if n.notice.purpose not in EACH_ROUND or n.round == self.case.round:
                self.case.record_notified(n.notice.recipient, n.notice.purpose, n.notice.posts)
        self.case.acknowledged = {
            (n.notice.recipient, post)
            for n in self.notices
            if n.notice_id in self.acknowledged and n.round == self.case.round
            for post in n.notice.posts
        }
        self.case.ack_requested = {
            (n.notice.recipient, post)
            for n in self.notices
            if n.notice.purpose in ASKING and n.round == self.case.round
            for post in n.notice.posts
        }
        self.case.lost = self._lost()
        self.engine.changes = ChangeSet()
        assert (not self.rows) == (not self.case.is_waited_for), "something falls due exactly if somebody has to act"

    @property
    def told(self) -> list[str]:
        return [f"{n.notice.recipient}:{n.notice.purpose}" for n in self.notices]

    def of(self, kind: type[Event]) -> list[Any]:  # type: ignore[valid-type]
        return [e.data for e in self.events if isinstance(e, kind)]

    def due(self, *kinds: str) -> list[tuple[str, int]]:
        """Pending kinds with the minutes from midnight."""
        wanted = [r for r in self.rows if not kinds or r.kind in kinds]
        return sorted((r.kind, round((r.due_at - NIGHT) / MINUTE)) for r in wanted)


def duty(level: str, holder: str, *, unit: UnitRef | None = None, start: datetime = NIGHT - DAY) -> Duty:
    return Duty.model_validate(
        {
            "roster_id": f"truc-{holder}",
            "level": level,
            "unit_code": unit.code if unit else None,
            "unit_valid_from": unit.valid_from if unit else None,
            "holder_id": holder,
            "holder_name": f"{holder} (mẫu)",
            "document": "Lịch trực mẫu",
            "valid_from": start,
            "valid_to": start + 2 * DAY,
            "sample": True,
            "recorded_at": at("2023-01-06 08:00"),
        }
    )


def with_directory(**more: Any) -> IncidentEngine:
    found = engine(more.pop("tenures", BOTH_POSTS))
    found.directory = replace(found.directory, **more)
    return found


def divided(*successors: UnitRef, day: date = date(2023, 1, 22)) -> dict[Any, Unit]:
    parts = {key_of(u): Unit(u, "phường") for u in successors}
    return {key_of(BA_DINH): Unit(BA_DINH, "phường", day, successors)} | parts
