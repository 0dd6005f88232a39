"""What a life of incidents looks at in the database, and what must hold of what it finds."""

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from services.escalation.domain.directory.model import OFFICES
from services.escalation.domain.incidents.lifecycle import FINAL, Action, refusal
from services.escalation.domain.notices import notification
from services.escalation.domain.rules import accountability
from services.escalation.store import directory
from shared.http.identity import Principal
from tests.integration.escalation_support import City
from tests.integration.stored.looking import stored
from tests.integration.stored.records import ASKING, Decision, DueTime, Incident, Notice, R, Report, Tenure
from tests.support import BA_DINH, CHAIR


class Looking(RuleBasedStateMachine):
    """Looks at what is stored between two steps. Incidents are chosen by a number, the newest being 0."""

    city: City
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def stored(self, kind: type[R], /, **equal: object) -> Sequence[R]:
        return self.run(stored(self.city, kind, **equal))

    def incident(self, which: int, action: Action | None = None) -> Incident:
        """Those on which the desk may take `action` come first, then the newest."""
        found = list(reversed(self.stored(Incident)))
        if action is not None:
            reports = Counter(report.incident_id for report in self.stored(Report))
            found.sort(
                key=lambda i: (
                    refusal(action, "desk", i.state) is not None,
                    action == "split" and reports[i.incident_id] < 2,
                )
            )
        return found[which % len(found)]

    def others(self, incident: str) -> list[str]:
        """What the incident could be merged into, and what it could not."""
        found = list(reversed(self.stored(Incident)))
        ours = next(i for i in found if i.incident_id == incident)
        found.sort(
            key=lambda i: (i.state in FINAL, (i.unit_code, i.exercise) != (ours.unit_code, ours.exercise), i == ours)
        )
        return [i.incident_id for i in found]

    def severity(self, incident: str) -> int | None:
        (found,) = self.stored(Incident, incident_id=incident)
        return found.severity

    def holder_of(self, incident: Incident) -> Principal:
        return Principal(f"mau-{incident.unit_code}-chu-tich", "official", incident.unit_code, CHAIR)

    def tenures(self, post: str, capacity: str) -> list[directory.Tenure]:
        """Of Ba Đình, as recorded now."""

        async def load() -> list[directory.Tenure]:
            async with self.city.escalation.database.connect() as connection:
                now = self.city.clock.now()
                return await directory.tenures(connection, now, units={(BA_DINH.code, BA_DINH.valid_from)})

        return [t for t in self.run(load()) if (t.post, t.capacity) == (post, capacity)]


def those_asked(
    incidents: Sequence[Incident], notices: Sequence[Notice], due_times: Sequence[DueTime]
) -> set[tuple[str, str]]:
    """Incident and recipient, of who was asked in the present round, and answered, is waited for or late."""
    rounds = {(i.incident_id, i.round) for i in incidents}
    still = {d.notice_id for d in due_times if d.kind == "acknowledge" and d.state in {"pending", "passed"}}
    return {
        (n.incident_id, n.recipient)
        for n in notices
        if n.purpose in ASKING
        and (n.incident_id, n.round) in rounds
        and (n.acknowledged_at is not None or n.notice_id in still)
    }


def whoever_answers_is_asked(made: Decision, asked: set[tuple[str, str]]) -> None:
    """Each acting holder is among those asked, where the rule applies."""
    decision = accountability.Decision.model_validate_json(made.record)
    if notification.holders_are_told(decision):
        acting = {p.acting.holder_id for p in decision.parties if p.acting}
        assert all((made.incident_id, holder) in asked for holder in acting), acting


def told_after_acknowledging(notices: Sequence[Notice]) -> list[Notice]:
    """Notices to a person who had acknowledged the incident in the round, but for those that take it back."""
    answered: dict[tuple[str, str, int], datetime] = {}
    for n in notices:
        key = (n.incident_id, n.recipient, n.round)
        if n.acknowledged_at is not None:
            answered[key] = min(n.acknowledged_at, answered.get(key, n.acknowledged_at))
    return [
        n
        for n in notices
        if n.recipient not in OFFICES
        and n.purpose != "stand_down"
        and (n.incident_id, n.recipient, n.round) in answered
        and n.issued_at > answered[n.incident_id, n.recipient, n.round]
    ]


def names_nobody_outside_their_tenure(made: Decision, tenures: Mapping[str, Tenure]) -> None:
    decision = accountability.Decision.model_validate(made.said)
    for party in decision.parties:
        for holder, at in (
            (party.accountable, decision.time_of_occurrence),
            (party.present, decision.evaluated_at),
            (party.deputy, decision.evaluated_at),
        ):
            if holder is not None:
                tenure = tenures[holder.tenure_id]
                assert (tenure.holder_id, tenure.post) == (holder.holder_id, party.post)
                assert tenure.covers(at, decision.evaluated_at)
