"""What follows for an incident: what is decided anew, who is told, what falls due. In memory, without I/O.

Reports (`joining`), due times (`chain`) and commands lead here; `store.saving` writes all of it in one transaction.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from services.escalation.domain.directory.model import (
    DESK,
    OFFICES,
    Contact,
    Directory,
    Lineage,
    Tenure,
    UnitKey,
    key_of,
    known_at,
    lineage,
    within,
)
from services.escalation.domain.envelope import envelope
from services.escalation.domain.incidents import lifecycle
from services.escalation.domain.incidents.correlation import Key, Occurrence
from services.escalation.domain.incidents.finding import assess
from services.escalation.domain.incidents.incident import (
    Case,
    ChangeSet,
    DueKind,
    IssuedNotice,
    MadeDecision,
    NewDeadline,
    about,
)
from services.escalation.domain.incidents.patterns import Neighbour
from services.escalation.domain.notices import notification
from services.escalation.domain.notices.notification import Notice, Purpose, Subject
from services.escalation.domain.notices.wording import words
from services.escalation.domain.rules.accountability import Decision, Inputs, decide
from services.escalation.domain.rules.rulebook import AdoptedRulebook, Rulebook, in_force, newness
from shared.events import (
    DecisionMade,
    DecisionMadeData,
    Event,
    IncidentOpened,
    IncidentOpenedData,
    NoticeIssued,
    NoticeIssuedData,
    UnitRef,
)


@dataclass(frozen=True)
class OfficeChannels:
    """Where the desk, the leadership and exercises are told, beside those on duty: Apprise URLs."""

    desk: str
    leadership: str
    log: str


@dataclass
class IncidentEngine:
    """Works on a set of cases, one thing after the other."""

    cases: dict[Key, list[Case]]
    """Open incidents that a report of the batch could join, by what has to be equal."""
    directory: Directory
    rulebooks: Sequence[AdoptedRulebook]
    channels: OfficeChannels
    now: datetime
    new_id: Callable[[], str]
    neighbours: dict[UnitKey, list[Neighbour]] = field(default_factory=dict[UnitKey, list[Neighbour]])
    """Other incidents of the batch's wards near in time, for patterns."""
    changes: ChangeSet = field(default_factory=ChangeSet)
    _tenures_of: dict[tuple[UnitKey, UnitKey | None], tuple[Tenure, ...]] = field(
        default_factory=dict[tuple[UnitKey, UnitKey | None], tuple[Tenure, ...]]
    )

    def is_held_as_before(self, case: Case) -> bool:
        """No post has changed hands since the case was decided."""
        decided_at = case.decided_at
        return decided_at is not None and not any(decided_at < at <= self.now for at in self._boundaries(case))

    def _boundaries(self, case: Case) -> list[datetime]:
        """When the posts of the incident change hands, or its unit ends, as recorded now."""
        acts = self.directory.units.get(key_of(case.successor or case.unit))
        found = [at for t in self.tenures(case) for at in (t.valid_from, t.valid_to) if at is not None]
        return found + ([acts.ends_at] if acts is not None and acts.ends_at is not None else [])

    def open(self, occurrence: Occurrence, unit: UnitRef, category: str) -> Case:
        """A new incident by a person's command."""
        case = self.new_case(occurrence, unit, category)
        self.announce(case, None)
        return case

    def new_case(self, occurrence: Occurrence, unit: UnitRef | None, category: str) -> Case:
        assert unit is not None
        known = self.directory.units.get(key_of(unit))
        case = Case(
            incident_id=self.new_id(),
            unit=unit,
            unit_kind=known.kind if known else "",
            category=category,
            anchor=occurrence,
            opened_at=self.now,
            is_new=True,
        )
        self.cases.setdefault(occurrence.key, []).append(case)
        return case

    def announce(self, case: Case, cause: str | None) -> None:
        data = IncidentOpenedData(**about(case, cause), family=case.anchor.family, exercise=case.anchor.exercise)
        self.emit(IncidentOpened(**self.envelope(case), data=data))

    def evaluate(self, case: Case, cause: str | None) -> None:
        """Decide again; a decision of another result is made, linked to the earlier one, and its notices issued."""
        assert case.has_history
        self.changes.cases[case.incident_id] = case
        inputs = self.inputs(case)
        decision = decide(inputs, self.rulebook_of(case))
        before, again = case.decision, self._to_ask_again(case, decision)
        if before is None or decision.differs_from(before):
            self._adopt(case, decision, inputs, cause)
        if case.is_open:
            if any((n.recipient, "still_open") in case.notified for n in again):
                again = self._in_another_round(case, decision)
            self.withdraw(case, {n.recipient for n in again})
            self._notify(case, decision, before, cause)
            self.ask(case, again, cause)
            self._keep_due(case, decision)

    def inputs(self, case: Case) -> Inputs:
        """What a decision on the case depends on now; also settles which unit acts for it."""
        held, adopted = assess(case.findings), self.rulebook_of(case)
        found = self.lineage(case)
        case.successor = None if key_of(found.acting) == key_of(case.unit) else found.acting
        tenures = self.tenures(case)
        return Inputs(
            incident=case.incident_id,
            unit=case.unit,
            time_of_occurrence=case.anchor.at,
            evaluated_at=known_at(tenures, self.now),
            reports=tuple(case.reports),
            tenures=tenures,
            rulebook_version=adopted.rulebook.version if adopted else None,
            exercise=case.anchor.exercise,
            designated=held.designated,
            verified=held.verified,
            assessed_harm=held.harm,
            assessed_at=held.assessed_at,
            firecrackers_exploded=held.firecrackers_exploded,
            reclassified=held.reclassified,
            successor=case.successor,
            divided=found.divided,
        )

    def lineage(self, case: Case) -> Lineage:
        """What became of its unit, as recorded now and as the desk said where that was divided."""
        said = (UnitRef.model_validate(f.content["to"]) for f in case.findings if f.kind == "reassignment")
        return lineage(self.directory.units, case.unit, [key_of(unit) for unit in said], self.now)

    def tenures(self, case: Case) -> tuple[Tenure, ...]:
        """Those of the unit and of the one that acts for it, gathered once."""
        key = key_of(case.unit)
        other = key_of(case.successor) if case.successor else None
        if (key, other) not in self._tenures_of:
            mine = (t for t in self.directory.tenures if key_of(t.unit) in (key, other))
            self._tenures_of[key, other] = tuple(within(mine, self.directory.units))
        return self._tenures_of[key, other]

    def rulebook_of(self, case: Case) -> AdoptedRulebook | None:
        """The version that the incident was first decided by; before that, the one in force when it occurred."""
        if case.rulebook_version is None:
            return in_force(self.rulebooks, case.anchor.at)
        return next(a for a in self.rulebooks if a.rulebook.version == case.rulebook_version)

    def policy_of(self, case: Case) -> Rulebook:
        """For times and levels; where no rulebook was in force, the newest says how long the desk has."""
        return (self.rulebook_of(case) or self.newest()).rulebook

    def newest(self) -> AdoptedRulebook:
        return max(self.rulebooks, key=newness)

    def _adopt(self, case: Case, decision: Decision, inputs: Inputs, cause: str | None) -> None:
        made = MadeDecision(self.new_id(), case, case.decision_number + 1, case.decision_id, decision, inputs)
        self.changes.decisions.append(made)
        self.withdraw(case, (case.decision.acting if case.decision else set[str]()) - decision.acting)
        case.decision, case.decision_id, case.decision_number = decision, made.decision_id, made.number
        case.rulebook_version, case.decided_at = inputs.rulebook_version, self.now
        data = DecisionMadeData(
            **about(case, cause, officials=decision.named),
            decision_id=made.decision_id,
            previous=made.previous,
            record=decision.model_dump(mode="json", exclude_none=True),
        )
        self.emit(DecisionMade(**self.envelope(case), data=data))

    def withdraw(self, case: Case, persons: set[str]) -> None:
        """What was asked of them until now, and is still to be sent to them, ends."""
        if persons:
            self.changes.withdrawn.setdefault(case.incident_id, set()).update(persons)

    def _notify(self, case: Case, decision: Decision, before: Decision | None, cause: str | None) -> None:
        planned = notification.plan(decision, case.notified, self._on_duty(case), before)
        self.ask(case, [n for n in planned if n.purpose == "accountable"], cause)
        for notice in (n for n in planned if n.purpose != "accountable"):
            self.issue(case, notice, None, cause)
            if notice.purpose == "review":
                self.due(case, "review", self._review_by(case, decision), level=1)
        if not notification.desk_reviews(decision):
            self.cancel_timers(case, "review")

    def _to_ask_again(self, case: Case, decision: Decision) -> list[Notice]:
        """Who is to be asked in this round, was told before, and of whose earlier asking nothing is left.

        They answer for a post again after a deputy, or the rule applies again after it did not, or what waited for the
        end of quiet hours may wait no more: without another deadline nobody would be asked.
        """
        before, policy = case.decision, self.policy_of(case)
        if before is None or not notification.holders_are_told(decision):
            return []
        in_vain = before.outcome == "does_not_apply" or notification.no_longer_waits(decision, before, policy)
        done = case.acknowledged if in_vain else case.acknowledged | (case.ack_requested & before.acting)
        return [n for n in self._told_before(case, decision) if n.recipient not in done]

    def _told_before(self, case: Case, decision: Decision) -> list[Notice]:
        holders = notification.to_holders(decision.parties, "still_open")
        return [n for n in holders if (n.recipient, "accountable") in case.notified]

    def _in_another_round(self, case: Case, decision: Decision) -> list[Notice]:
        """In this one somebody was asked twice in vain; in the next everybody is asked again."""
        self.cancel_stored_timers(case, "acknowledge", "remind")
        self.begin_round(case)
        return self._told_before(case, decision)

    def begin_round(self, case: Case) -> None:
        """From here on everybody may be told again; who was asked just now was asked in this round."""
        case.round += 1
        case.level = 0
        case.notified = {key: posts for key, posts in case.notified.items() if key[1] not in notification.EACH_ROUND}
        case.acknowledged.clear()
        case.ack_requested.clear()
        for place, issued in enumerate(self.changes.notices):
            if issued.case is case and issued.notice.purpose in notification.ASKING:
                case.ack_requested.add(issued.notice.recipient)
                self.changes.notices[place] = replace(issued, round=case.round)

    def _on_duty(self, case: Case) -> list[str]:
        acts = key_of(case.successor or case.unit)
        return [
            d.holder_id
            for d in self.directory.duties
            if d.level == "ward" and d.unit_key == acts and d.valid_from <= self.now < d.valid_to
        ]

    def ask(self, case: Case, notices: Iterable[Notice], cause: str | None) -> None:
        """Tell post-holders, who have to acknowledge: a deadline each, and a reminder before it."""
        assert case.decision is not None
        policy = self.policy_of(case)
        minutes = timedelta(minutes=policy.acknowledge_minutes(case.decision.severity))
        unreachable: set[str] = set()
        for notice in notices:
            rings = min((at for _, at in self._reach(case, notice.recipient)), default=None)
            asked_at = rings or self.now
            issued = self.issue(case, notice, asked_at + minutes, cause)
            self.due(case, "acknowledge", asked_at + minutes, issued.notice_id)
            self.due(case, "remind", asked_at + minutes * policy.chain.remind_percent / 100, issued.notice_id)
            case.state = lifecycle.after_notice(case.state)
            unreachable.update(notice.posts if rings is None else ())
        if unreachable:
            self.tell_desk(case, "unreachable", unreachable, cause)

    def _review_by(self, case: Case, decision: Decision) -> datetime:
        if decision.deadlines is not None:
            return decision.deadlines.review_by
        return self.now + timedelta(minutes=self.policy_of(case).deadlines.review_minutes)

    def _keep_due(self, case: Case, decision: Decision) -> None:
        """An open incident always has something that falls due."""
        policy = self.policy_of(case)
        if decision.outcome == "does_not_apply":
            self.cancel_timers(case, "acknowledge", "remind", "lapse")
            if not case.pending & {"review", "idle"}:
                self.due(case, "idle", self.now + timedelta(minutes=policy.chain.idle_minutes))
            return
        self.cancel_timers(case, "idle")
        self._watch_directory(case)
        if "lapse" not in case.pending and (case.pending & {"acknowledge"} or not case.pending - {"directory"}):
            self.lapse_later(case)

    def _watch_directory(self, case: Case) -> None:
        """A change of hands that is recorded already and still to come makes another decision when it comes."""
        coming = min((at for at in self._boundaries(case) if at > self.now), default=None)
        if coming is not None and "directory" not in case.pending:
            self.due(case, "directory", coming)

    def lapse_later(self, case: Case) -> None:
        severity = case.decision.severity if case.decision else None
        minutes = self.policy_of(case).lapse_minutes(severity)
        self.due(case, "lapse", self.now + timedelta(minutes=minutes))

    def due(self, case: Case, kind: DueKind, at: datetime, notice_id: str | None = None, *, level: int = 0) -> None:
        case.pending.add(kind)
        self.changes.deadlines.append(NewDeadline(case, kind, at, notice_id, level))

    def cancel_timers(self, case: Case, *kinds: DueKind) -> None:
        """These due times of the incident no longer matter, whether they were stored or are of this transaction."""
        if case.pending.intersection(kinds):
            self.cancel_stored_timers(case, *kinds)
            self.changes.deadlines[:] = [d for d in self.changes.deadlines if d.case is not case or d.kind not in kinds]
            case.pending.difference_update(kinds)

    def cancel_stored_timers(self, case: Case, *kinds: DueKind) -> None:
        """The same, but what was set in this transaction stays."""
        self.changes.cancelled_timers.setdefault(case.incident_id, set()).update(kinds)
        new = {d.kind for d in self.changes.deadlines if d.case is case}
        case.pending.difference_update(set(kinds) - new)

    def tell_desk(self, case: Case, purpose: Purpose, posts: Iterable[str] = (), cause: str | None = None) -> None:
        """Of something about these posts, once for each of them."""
        told = case.notified.get((DESK, purpose))
        new = set(posts) - (told or frozenset())
        if new or told is None:
            self.issue(case, Notice(DESK, purpose, tuple(sorted(new))), None, cause)

    def issue(self, case: Case, notice: Notice, due_at: datetime | None, cause: str | None) -> IssuedNotice:
        """Word a notice, queue it on each channel of its recipient, and put it on the record."""
        decision = case.decision
        assert decision is not None
        adopted = self.rulebook_of(case)
        subject = Subject(case.unit_kind, _category_of(case, decision, adopted), due_at)
        title, body = words(decision, notice, subject, adopted.rulebook.posts if adopted else ())
        issued = IssuedNotice(
            notice_id=self.new_id(),
            case=case,
            notice=notice,
            decision_id=case.decision_id,
            title=title,
            body=body,
            issued_at=self.now,
            due_at=due_at,
            round=case.round,
            channels=self._reach(case, notice.recipient),
        )
        self.changes.cases[case.incident_id] = case
        self.changes.notices.append(issued)
        case.record_notified(notice.recipient, notice.purpose, notice.posts)
        if notice.purpose in notification.ASKING:
            case.ack_requested.add(notice.recipient)
        data = NoticeIssuedData(
            **about(case, cause, officials=() if notice.recipient in OFFICES else (notice.recipient,)),
            notice_id=issued.notice_id,
            recipient=notice.recipient,
            purpose=notice.purpose,
            posts=notice.posts,
            decision_id=case.decision_id,
            due_at=due_at,
            exercise=case.anchor.exercise,
        )
        self.emit(NoticeIssued(**self.envelope(case), data=data))
        return issued

    def _reach(self, case: Case, recipient: str) -> tuple[tuple[str, datetime], ...]:
        """Channels of a recipient and when each may ring. Exercises go to the log channel and nowhere else."""
        if case.anchor.exercise:
            return ((self.channels.log, self.now),)
        assert case.decision is not None
        waits = recipient not in OFFICES and notification.may_wait(case.decision, self.policy_of(case))
        found: dict[str, datetime] = {}
        for contact in self._contacts(recipient):
            found.setdefault(contact.channel, notification.rings_at(contact, self.now, may_wait=waits))
        return tuple(found.items())

    def _contacts(self, recipient: str) -> list[Contact]:
        if recipient not in OFFICES:
            return list(self.directory.contacts.get(recipient, ()))
        own = self.channels.desk if recipient == DESK else self.channels.leadership
        on_duty = (
            contact
            for d in self.directory.duties
            if d.level == recipient and d.valid_from <= self.now < d.valid_to
            for contact in self.directory.contacts.get(d.holder_id, ())
        )
        return [Contact(own), *on_duty]

    def emit(self, event: Event) -> str:
        """Its id, for what it causes."""
        self.changes.events.append(event)
        return event.id

    def envelope(self, case: Case) -> dict[str, Any]:
        return envelope(self.new_id(), case.incident_id, self.now)


def _category_of(case: Case, decision: Decision, adopted: AdoptedRulebook | None) -> str:
    """The category to speak of: setting off where that limb applies, else the incident's own."""
    if decision.limb == "firecracker" and adopted is not None:
        return next((c for c, rule in adopted.rulebook.categories.items() if rule.firecracker == "yes"), case.category)
    return case.category
