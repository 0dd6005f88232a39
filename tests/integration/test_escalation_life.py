"""The life of incidents, whatever happens in whatever order: what must hold of each after every step.

Reports come, due times pass one by one or all at once after an outage, people acknowledge, the desk and the wards do
what they may and may not, posts change hands, units end. All on PostgreSQL, with the clock moved.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test

from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge, acknowledge_by_link
from services.escalation.application.command_context import CommandResult
from services.escalation.application.escalation import Escalation
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.directory.model import OFFICES
from services.escalation.domain.incidents import lifecycle
from services.escalation.domain.incidents.lifecycle import ACTIONS, FINAL, TO, WHO, Action, refusal
from shared.events import Harm, UnitRef
from shared.http.identity import Principal
from shared.http.problem import Problem
from tests.integration.directory_changes import appoint, end_unit, leave, on_duty
from tests.integration.escalation_support import Template, city_in, decisions_that_differ_when_computed_again
from tests.integration.life_support import (
    Looking,
    names_nobody_outside_their_tenure,
    those_asked,
    told_after_acknowledging,
    whoever_answers_is_asked,
)
from tests.integration.stored.looking import next_due, told_outside_their_tenure
from tests.integration.stored.records import (
    ASKING,
    WAITING,
    Decision,
    Delivery,
    DueTime,
    Finding,
    Incident,
    Notice,
    Outgoing,
    Report,
    Tenure,
)
from tests.support import BA_DINH, CHAIR, NIGHT, SECRETARY, SINCE, depth, received

MINUTE = timedelta(minutes=1)
DESK = Principal("mau-truc-ban", "desk")
LEADER = Principal("mau-lanh-dao", "leader")
THIEU_KHANH = UnitRef(code="15856", valid_from=SINCE, name="Thiệu Khánh")
"""One person holds both posts."""
PARTS = (
    UnitRef(code="14758", valid_from=date(2023, 1, 22), name="Phần một (mẫu)"),
    UnitRef(code="14797", valid_from=date(2023, 1, 22), name="Phần hai (mẫu)"),
)
WHY = st.sampled_from(("Đã kiểm tra", "Theo báo cáo"))
FIGURES = st.sampled_from(
    (Harm(), Harm(deaths=0, injured=0, property_vnd=0), Harm(deaths=1), Harm(deaths=3), Harm(property_vnd=10**8))
)
HARMS = st.none() | FIGURES
CATEGORIES = st.sampled_from(
    ("FIRECRACKER_SET_OFF", "FIRECRACKER_SET_OFF", "EXPLOSION", "FIRE", "FIRECRACKER_POSSESSION")
)
WAITS = st.sampled_from((1, 5, 10, 16, 31, 61, 400))
RECENT = st.integers(0, 2)
PLAIN: dict[Action, Callable[[Escalation, str, Principal, str], Awaitable[CommandResult]]] = {
    "dismiss": commands.dismiss,
    "hand_off": commands.hand_off,
    "respond": commands.respond,
    "escalate": commands.escalate,
    "propose_closure": commands.propose_closure,
    "close": commands.close,
    "reopen": commands.reopen,
}


class Life(Looking):
    """Incidents are chosen by a number, the newest being 0."""

    @initialize(category=CATEGORIES, harm=HARMS)
    def begin(self, category: str, harm: Harm | None) -> None:
        self.run(self.city.emptied())
        self.city.clock.set(NIGHT)
        self.notices_of_ended: dict[str, int] = {}
        self.has_ended = False
        self.people = 0
        first = [received(category, harm=harm), received(category, subject="cam-bien-2")]
        self.run(route_reports(self.city.escalation, first))

    # --- reports and time ---

    @rule(
        category=CATEGORIES,
        unit=st.sampled_from((BA_DINH, BA_DINH, THIEU_KHANH)),
        source=st.sampled_from((("device", "cam-bien-1"), ("device", "cam-bien-2"), ("officer", "cb-1"))),
        harm=HARMS,
        ago=st.sampled_from((0, 5, 50)),
        exercise=st.sampled_from((False, False, False, True)),
        count=st.integers(1, 3),
    )
    def report(
        self, category: str, unit: UnitRef, source: Any, harm: Harm | None, ago: int, exercise: bool, count: int
    ) -> None:
        now = self.city.clock.now()
        events = [
            received(
                category,
                unit=unit,
                kind=source[0],
                subject=f"{source[1]}-{n}",
                harm=harm,
                occurred_at=now - ago * MINUTE,
                received_at=now,
                exercise=exercise,
            )
            for n in range(count)
        ]
        self.run(route_reports(self.city.escalation, events))

    @rule(minutes=WAITS)
    def time_passes(self, minutes: int) -> None:
        self.run(self._time_passes(self.city.clock.now() + minutes * MINUTE))

    async def _time_passes(self, until: Any) -> None:
        city = self.city
        for _ in range(400):
            due = await next_due(city)
            if due is None or due > until:
                break
            city.clock.set(max(due, city.clock.now()))
            await fire_due_timers(city.escalation)
        else:
            raise AssertionError("due times never come to an end")
        city.clock.set(until)

    @rule(minutes=st.integers(1, 6_000))
    def an_outage_ends(self, minutes: int) -> None:
        """One pass, in which nobody gets two messages about one incident unless posts changed hands meanwhile."""
        self.city.clock.set(self.city.clock.now() + minutes * MINUTE)
        known = {n.notice_id for n in self.stored(Notice)}
        changes = self.stored(DueTime, kind="directory", state="passed")
        self.run(fire_due_timers(self.city.escalation))
        new = [n for n in self.stored(Notice) if n.notice_id not in known]
        if len(self.stored(DueTime, kind="directory", state="passed")) == len(changes):
            most = Counter((n.incident_id, n.recipient) for n in new)
            assert max(most.values(), default=0) <= 1, f"a storm: {[(n.recipient, n.purpose) for n in new]}"
        late = [n for n in new if n.purpose == "reminder" and (n.due_at is None or n.due_at <= n.issued_at)]
        assert not late, "no reminder after its deadline"

    # --- people ---

    @rule(which=RECENT)
    def everybody_asked_acknowledges(self, which: int) -> None:
        incident = self.incident(which).incident_id
        for n in self.stored(Notice, incident_id=incident):
            if n.purpose in ASKING:
                self.run(acknowledge_by_link(self.city.escalation, n.notice_id, n.recipient))

    @precondition(lambda self: self.stored(Notice))
    @rule(which=st.integers(0, 30), by_link=st.booleans())
    def somebody_acknowledges(self, which: int, by_link: bool) -> None:
        told = sorted(self.stored(Notice), key=lambda n: n.issued_at, reverse=True)
        n = told[which % len(told)]
        if by_link:
            done = self.run(acknowledge_by_link(self.city.escalation, n.notice_id, n.recipient))
            assert done is not None
            return
        if n.recipient in OFFICES:
            who = DESK if n.recipient == "desk" else LEADER
        else:
            (incident,) = self.stored(Incident, incident_id=n.incident_id)
            who = Principal(n.recipient, "official", incident.unit_code, n.posts[0] if n.posts else None)
        try:
            self.run(acknowledge(self.city.escalation, n.incident_id, who))
        except Problem as problem:
            corrections = self.stored(Finding, incident_id=n.incident_id, kind="correction")
            corrected = any(c.made_at >= n.issued_at for c in corrections)
            assert n.purpose == "duty" or corrected, "who was told of a post may say that they have seen it"
            assert problem.status in {403, 404}

    @rule(
        which=RECENT,
        action=st.sampled_from(("verify", "designate", "revise", "respond", "propose_closure")),
        why=WHY,
        data=st.data(),
    )
    def somebody_finds_out(self, which: int, action: Action, why: str, data: st.DataObject) -> None:
        incident = self.incident(which, action)
        caller = self.holder_of(incident) if action == "propose_closure" else DESK
        self._try(self._command(action, incident.incident_id, caller, why, data), action, incident, caller)

    @rule(which=RECENT, action=st.sampled_from(("merge", "split", "reassign")), why=WHY, data=st.data())
    def the_desk_joins_and_divides(self, which: int, action: Action, why: str, data: st.DataObject) -> None:
        incident = self.incident(which, action)
        self._try(self._command(action, incident.incident_id, DESK, why, data), action, incident, DESK)

    @rule(which=RECENT, why=WHY, data=st.data())
    def the_desk_corrects(self, which: int, why: str, data: st.DataObject) -> None:
        incident = self.incident(which, "correct")
        self._try(self._command("correct", incident.incident_id, DESK, why, data), "correct", incident, DESK)

    @rule(
        which=RECENT,
        action=st.sampled_from(("dismiss", "hand_off", "close", "reopen", "reopen")),
        why=WHY,
        data=st.data(),
    )
    def the_desk_ends_and_reopens(self, which: int, action: Action, why: str, data: st.DataObject) -> None:
        incident = self.incident(which, action)
        self._try(self._command(action, incident.incident_id, DESK, why, data), action, incident, DESK)

    @rule(which=RECENT, why=WHY)
    def the_desk_verifies_and_closes(self, which: int, why: str) -> None:
        incident = self.incident(which)
        city, id_ = self.city.escalation, incident.incident_id
        if incident.state not in FINAL:
            self.run(commands.verify(city, id_, DESK, why))
            self._try(commands.close(city, id_, DESK, why), "close", self.incident(which), DESK)

    @rule(which=RECENT, action=st.sampled_from(ACTIONS), officer=st.booleans(), data=st.data())
    def the_ward_tries(self, which: int, action: Action, officer: bool, data: st.DataObject) -> None:
        """Own-ward people never verify, merge, dismiss or close, and never lower."""
        incident = self.incident(which)
        caller = Principal("cb-1", "officer", incident.unit_code) if officer else self.holder_of(incident)
        before = self.severity(incident.incident_id)
        done = self._try(self._command(action, incident.incident_id, caller, "Lý do", data), action, incident, caller)
        if caller.role not in WHO[action]:
            assert not done
        elif action == "revise" and done:
            after = self.severity(incident.incident_id)
            assert (after or 1.5) >= (before or 1.5), f"a ward's own lowered {before} to {after}"

    def _command(
        self, action: Action, id_: str, by: Principal, why: str, data: st.DataObject
    ) -> Awaitable[CommandResult]:
        what = (self.city.escalation, id_, by, why)
        if action == "verify":
            exploded, category = data.draw(st.none() | st.booleans()), data.draw(st.none() | CATEGORIES)
            return commands.verify(*what, firecrackers_exploded=exploded, reclassified=category)
        if action == "designate":
            return commands.designate(*what, prominent=data.draw(st.booleans()))
        if action == "revise":
            return commands.revise(*what, data.draw(FIGURES))
        if action == "merge":
            return commands.merge(*what, data.draw(st.sampled_from(self.others(id_)[:3])))
        if action == "split":
            reports = [r.report_id for r in self.stored(Report, incident_id=id_)] or ["khong-co"]
            some = data.draw(st.lists(st.sampled_from(reports), min_size=1, max_size=2, unique=True))
            return commands.split(*what, some)
        if action == "reassign":
            part = data.draw(st.sampled_from(PARTS))
            return commands.reassign(*what, (part.code, part.valid_from))
        if action == "correct":
            return commands.correct(*what, **data.draw(self._corrections()))
        return PLAIN[action](*what)

    def _corrections(self) -> st.SearchStrategy[dict[str, Any]]:
        """What holds: some of it so already, some that cannot be."""
        wards = [(unit.code, unit.valid_from) for unit in (BA_DINH, THIEU_KHANH, PARTS[0])]
        holds: dict[str, st.SearchStrategy[Any]] = {
            "occurred_at": st.sampled_from((-60, -20, 0, 20)).map(lambda minutes: NIGHT + minutes * MINUTE),
            "unit": st.sampled_from(wards),
            "exercise": st.booleans(),
        }
        return st.sampled_from(sorted(holds)).flatmap(lambda name: st.fixed_dictionaries({name: holds[name]}))

    def _try(self, doing: Awaitable[CommandResult], action: Action, incident: Incident, by: Principal) -> bool:
        """Whether it was recorded. What is refused has a reason and leaves no trace."""
        events = len(self.stored(Outgoing))
        stands = incident.is_waited_for and incident.state in FINAL and TO.get(action) == incident.state
        refused = lifecycle.forbidden(action, by.role) if stands else refusal(action, by.role, incident.state)
        try:
            done: CommandResult = self.run(doing)  # type: ignore[arg-type]
        except Problem as problem:
            assert problem.status in {403, 409} or (problem.status, action) == (422, "correct")
            assert problem.detail
            assert len(self.stored(Outgoing)) == events, "what is refused leaves no trace"
            assert refused is None or problem.status in {refused.status, 403}, "403: who holds the post no more"
            return False
        assert done.is_new == (len(self.stored(Outgoing)) > events), "what was said before is not said again"
        assert refused is None or not done.is_new, f"{by.role} may not {action} what is {incident.state}"
        if done.is_new and action == "reopen":
            self.notices_of_ended.pop(incident.incident_id, None)
        return done.is_new

    # --- the directory ---

    @rule(post=st.sampled_from((SECRETARY, CHAIR)), minutes=st.sampled_from((-30, 0, 7, 100)), vacant=st.booleans())
    def a_post_changes_hands(self, post: str, minutes: int, vacant: bool) -> None:
        """As recorded now, at a time that was or is to come."""
        when = self.city.clock.now() + minutes * MINUTE
        for tenure in self.tenures(post, "holder"):
            if tenure.valid_from < when and tenure.valid_to is None:
                self.run(leave(self.city, tenure.holder_id, when, post=post))
        taken = any(t.valid_to is None or t.valid_to > when for t in self.tenures(post, "holder"))
        if not vacant and not taken:
            self.people += 1
            self.run(appoint(self.city, f"mau-moi-{self.people}", when, post=post))

    @rule(post=st.sampled_from((SECRETARY, CHAIR)), minutes=st.sampled_from((0, 7)), length=st.sampled_from((10, 600)))
    def a_deputy_stands_in(self, post: str, minutes: int, length: int) -> None:
        start = self.city.clock.now() + minutes * MINUTE
        end = start + length * MINUTE
        taken = self.tenures(post, "deputy")
        if not any(t.valid_from < end and (t.valid_to is None or start < t.valid_to) for t in taken):
            self.people += 1
            who = f"mau-uy-quyen-{self.people}"
            self.run(appoint(self.city, who, start, end, post=post, capacity="deputy"))

    @rule(level=st.sampled_from(("ward", "desk", "leadership")))
    def somebody_goes_on_duty(self, level: str) -> None:
        self.people += 1
        unit = BA_DINH if level == "ward" else None
        self.run(on_duty(self.city, f"mau-truc-{self.people}", level, unit=unit))

    @precondition(lambda self: not self.has_ended)
    @rule(parts=st.sampled_from((1, 2)))
    def the_unit_is_to_end(self, parts: int) -> None:
        """At midnight, which may have passed: then it is a late entry."""
        self.has_ended = True
        self.run(end_unit(self.city, PARTS[:parts]))

    # --- what always holds ---

    @invariant()
    def all_holds(self) -> None:
        """What must be so after every step."""
        incidents, notices, due_times = self.stored(Incident), self.stored(Notice), self.stored(DueTime)
        decided = {decision.incident_id: decision for decision in self.stored(Decision)}
        pending = Counter(d.incident_id for d in due_times if d.state == "pending")
        issued = Counter(notice.incident_id for notice in notices)
        queued = (d for d in self.stored(Delivery) if d.state in WAITING and d.purpose != "stand_down")
        waiting = Counter(delivery.incident_id for delivery in queued)
        asked = those_asked(incidents, notices, due_times)
        for incident in incidents:
            id_, state = incident.incident_id, incident.state
            assert (pending[id_] == 0) == (not incident.is_waited_for), f"{state}, and {pending[id_]} due times"
            if incident.is_waited_for and state in FINAL:
                self.notices_of_ended.pop(id_, None)
            elif state in FINAL:
                assert waiting[id_] == 0 or state == "handed_off", "of what has ended nothing is sent"
                known = self.notices_of_ended.setdefault(id_, issued[id_])
                assert issued[id_] == known, "of what has ended nothing is issued"
            else:
                whoever_answers_is_asked(decided[id_], asked)
        assert not told_after_acknowledging(notices)
        assert not self.run(told_outside_their_tenure(self.city))

    def teardown(self) -> None:
        """What need not be looked at after every step, for nothing of it is ever changed."""
        if not hasattr(self, "people"):
            return
        for incident in self.stored(Incident):
            sequences = [e.data.sequence for e in self.run(self.city.events(incident.incident_id))]
            assert sequences == list(range(1, incident.sequence + 1))
        decisions = self.stored(Decision)
        before: dict[str, Decision] = {}
        tenures = {t.tenure_id: t for t in self.stored(Tenure)}
        for made in decisions:
            earlier = before.get(made.incident_id)
            assert made.number == (earlier.number + 1 if earlier else 1)
            assert made.previous_id == (earlier.decision_id if earlier else None)
            before[made.incident_id] = made
            names_nobody_outside_their_tenure(made, tenures)
        if decisions:
            assert not self.run(decisions_that_differ_when_computed_again(self.city))


def test_whatever_happens_each_incident_ends_or_goes_on_and_nobody_is_wronged(template: Template) -> None:
    loop = asyncio.new_event_loop()
    opened = city_in(loop.run_until_complete(template.clone()))
    city = loop.run_until_complete(opened.__aenter__())
    try:
        machine = type("LifeHere", (Life,), {"city": city, "run": staticmethod(loop.run_until_complete)})
        deep = settings(depth(ci=25, full=1_000), stateful_step_count=25)
        run_state_machine_as_test(machine, settings=deep)
    finally:
        loop.run_until_complete(opened.__aexit__(None, None, None))
        loop.close()
