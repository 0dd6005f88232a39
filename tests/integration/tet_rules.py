"""What must hold in a simulated week: of whom each incident waits for, and of what people really got."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from services.escalation.domain.directory.model import OFFICES, day_start
from services.escalation.domain.incidents.lifecycle import FINAL
from services.escalation.domain.incidents.obligations import Obligation
from services.escalation.domain.notices import notification
from services.escalation.domain.notices.message import DueDelivery, Message
from services.escalation.domain.notices.shift import OFFICE_NAMES, SHIFT
from services.escalation.domain.rules.record import Decision
from services.escalation.sending.channels.content import content_of, read
from services.escalation.sending.channels.message import Outgoing
from shared.clock import local
from shared.events import AcknowledgementRecorded, DecisionMade
from tests.integration.escalation_support import City
from tests.integration.stored.looking import acknowledged_since, decided_since, issued_since, stored, waited_for
from tests.integration.stored.records import ASKING, Channel, Incident, Notice, Tenure, Turn, Unit

SAYS_IT_APPLIES = "Thuộc phạm vi quy định"
TELLS_THE_WARD = ASKING | {"reminder", "duty"}
OF_A_ROUND = (
    ASKING | {"reminder", "not_acknowledged", "not_reviewed", "exhausted", "closure", "late_reports"} | {"lost_notice"}
)
"""Purposes of notices that mean nothing once everybody is asked anew."""
AFTER_THE_END = {"stand_down", "late_reports"}
OWED = {
    "review": "review",
    "vacancy": "fill_vacancy",
    "unit_split": "assign_unit",
    "closure": "decide_closure",
    "late_reports": "review_late_reports",
    "lost_notice": "mend_lost_notice",
    "unreachable": "mend_lost_notice",
}
"""What the desk still has to do while a notice of this purpose may be sent."""
UnitKey = tuple[str, date]
SLACK = timedelta(minutes=1)
"""While the timers run and are looked at, the clock goes on."""


@dataclass(frozen=True)
class Said:
    """A message that a channel took or refused, as its receiver reads it."""

    message: Message
    title: str
    body: str
    at: datetime

    @classmethod
    def by(cls, message: Message, at: datetime) -> "Said":
        said = read(content_of(Outgoing(message, {})))
        return cls(message, said.title, said.body, at)

    @property
    def alone(self) -> DueDelivery | None:
        """Its one notice, or None where it bundles several."""
        return self.message.deliveries[0] if len(self.message.deliveries) == 1 else None


@dataclass(frozen=True)
class Directory:
    """Who holds which post, who is on duty, and whose a channel is, as recorded now."""

    tenures: Sequence[Tenure]
    turns: Sequence[Turn]
    ends: Mapping[UnitKey, datetime]
    """When units that end do so."""
    owners: Mapping[str, str]

    @classmethod
    async def read(cls, city: City) -> "Directory":
        ending = [u for u in await stored(city, Unit, superseded_at=None) if u.valid_to is not None]
        return cls(
            tenures=await stored(city, Tenure, superseded_at=None),
            turns=await stored(city, Turn, superseded_at=None),
            ends={(u.code, u.valid_from): day_start(u.valid_to) for u in ending if u.valid_to},
            owners={c.channel: c.holder_id for c in await stored(city, Channel, superseded_at=None)},
        )


@dataclass(frozen=True)
class World:
    """What holds at one moment, as it is stored."""

    now: datetime
    incidents: Mapping[str, Incident]
    waits_for: Mapping[str, Sequence[Obligation]]
    decisions: Mapping[str, Decision]
    """The standing one of each incident."""
    notices: Mapping[str, Notice]
    """All that were ever issued, as they were then."""
    answered: Mapping[str, Notice]
    """Those that are acknowledged."""
    directory: Directory

    @property
    def waiting(self) -> Iterable[Incident]:
        return (i for i in self.incidents.values() if i.is_waited_for)

    def holds(self, holder: str, post: str | None = None, unit: UnitKey | None = None) -> bool:
        """Whether the person holds the post, or any, there or anywhere, or stands in for its holder."""
        return any(
            tenure.holder_id == holder
            and post in {None, tenure.post}
            and unit in {None, (tenure.unit_code, tenure.unit_valid_from)}
            and tenure.valid_from <= self.now < min(self._ends(tenure))
            for tenure in self.directory.tenures
        )

    def _ends(self, tenure: Tenure) -> Iterable[datetime]:
        never = self.now + timedelta(days=1)
        return tenure.valid_to or never, self.directory.ends.get((tenure.unit_code, tenure.unit_valid_from), never)

    def is_on_duty(self, holder: str, level: str, unit: UnitKey | None = None) -> bool:
        return any(
            (turn.holder_id, turn.level) == (holder, level)
            and (unit is None or unit == (turn.unit_code, turn.unit_valid_from))
            and turn.valid_from <= self.now < turn.valid_to
            for turn in self.directory.turns
        )


@dataclass
class Watch:
    """Looks at the city from moment to moment. Decisions and notices never change, so only new ones are read."""

    city: City
    since: datetime
    """The least that the clock has shown since the last look."""
    decisions: dict[str, tuple[int, Decision]] = field(default_factory=dict[str, tuple[int, Decision]])
    notices: dict[str, Notice] = field(default_factory=dict[str, Notice])
    answered: dict[str, Notice] = field(default_factory=dict[str, Notice])
    new: list[Notice] = field(default_factory=list[Notice])
    """Notices that were issued between the last two looks."""
    directory: Directory | None = None
    """Set it to None when it was changed."""

    async def look(self) -> World:
        if self.directory is None:
            self.directory = await Directory.read(self.city)
        since, self.since = self.since, self.city.clock.now()
        for made in await decided_since(self.city, since):
            if made.number > self.decisions.get(made.incident_id, (0, None))[0]:
                self.decisions[made.incident_id] = made.number, Decision.model_validate(made.said)
        self.new = [n for n in await issued_since(self.city, since) if n.notice_id not in self.notices]
        self.notices |= {n.notice_id: n for n in self.new}
        return World(
            now=self.since,
            incidents={i.incident_id: i for i in await stored(self.city, Incident)},
            waits_for=await waited_for(self.city),
            decisions={incident: decision for incident, (_, decision) in self.decisions.items()},
            notices=self.notices,
            answered=dict(self.answered),
            directory=self.directory,
        )

    async def see_who_answered(self) -> None:
        """Call it after people had their turn."""
        self.answered |= {n.notice_id: n for n in await acknowledged_since(self.city, self.since)}


# --- whom an incident waits for ---


def each_open_incident_waits_for_somebody(world: World) -> None:
    """And nothing else does: not even for a moment, nor one that has ended."""
    waiting = {incident.incident_id for incident in world.waiting}
    assert waiting == {incident for incident, owed in world.waits_for.items() if owed}


def whoever_is_waited_for_can_act(world: World) -> None:
    """An office, or a person who answers for a post of the incident's ward now. Nobody is waited for in the past."""
    for incident in world.waiting:
        for owed in world.waits_for[incident.incident_id]:
            can_act = owed.who in OFFICES or world.holds(owed.who, unit=incident.acting_unit)
            assert can_act, f"{incident.incident_id} waits for {owed.who}, who answers for nothing there: {owed.what}"
            assert owed.due_at > world.now - SLACK, f"{incident.incident_id} waits for {owed.who} since {owed.due_at}"


def when_a_due_time_passes_somebody_who_can_act_is_told(passed: World, world: World, new: Sequence[Notice]) -> None:
    """`passed`: before the timers ran, at their time. `new`: what was issued since.

    Nobody need be told where the incident has ended or goes on to wait for its end by itself; where somebody did it,
    if late; or where the desk heard before in this round that nobody answers.
    """
    for id_, obligations in passed.waits_for.items():
        incident, still = world.incidents[id_], {owed.what for owed in world.waits_for.get(id_, ())}
        late = [owed for owed in obligations if owed.due_at <= passed.now and owed.what in still - {"close"}]
        if not late or not incident.is_waited_for:
            continue
        told = [n for n in new if n.incident_id == id_ and _can_act(world, incident, n.recipient)]
        of_this_round = (n for n in world.notices.values() if (n.incident_id, n.round) == (id_, incident.round))
        ended = any(n.purpose == "exhausted" for n in of_this_round)
        assert told or ended, f"{id_}: {[(o.who, o.what) for o in late]} passed, and nobody was told"


def _can_act(world: World, incident: Incident, recipient: str) -> bool:
    return recipient in OFFICES or world.holds(recipient, unit=incident.acting_unit)


def nobody_is_asked_again_in_the_round_in_which_they_answered(
    answered: Iterable[Notice], new: Iterable[Notice]
) -> None:
    """For the same posts. `answered`: acknowledged before any of `new` was issued."""
    posts: dict[tuple[str, str, int], set[str]] = {}
    for n in answered:
        if n.purpose in ASKING:
            posts.setdefault((n.incident_id, n.recipient, n.round), set()).update(n.posts)
    again = [
        (n.incident_id, n.recipient, n.purpose)
        for n in new
        if n.purpose in ASKING | {"reminder"}
        and (n.incident_id, n.recipient, n.round) in posts
        and posts[n.incident_id, n.recipient, n.round].issuperset(n.posts)
    ]
    assert not again


def whoever_comes_on_duty_is_told_what_waits_now(told: Iterable[Notice], world: World) -> None:
    """`told`: notices to those whose turn at an office has begun just now. Exercises concern no duty."""
    real = {i.incident_id for i in world.incidents.values() if not i.exercise}
    count = sum(world.incidents[id_].state not in FINAL for id_ in real)
    for notice in told:
        for office, (name, _) in OFFICE_NAMES.items():
            waiting = sum(any(o.who == office for o in world.waits_for.get(id_, ())) for id_ in real)
            if f"vụ việc chờ {name}" in notice.body:
                assert f"có {count} vụ việc đang mở, {waiting} vụ việc chờ {name}" in notice.body


# --- what people get ---


def nobody_is_told_what_is_not_true_at_that_moment(said: Said, world: World) -> None:
    """Each rule about what was said, of each notice in the message."""
    for due in said.message.deliveries:
        if due.incident_id is None:
            _of_a_turn_that_goes_on(due, world)
            continue
        incident = world.incidents[due.incident_id]
        not_what_they_acknowledged(due, world)
        not_about_what_has_ended(due, incident)
        not_to_who_has_left_the_post(due, incident, world)
        not_that_the_rule_applies_where_the_decision_says_otherwise(said, due, incident, world)
        not_of_a_past_round(due, incident, world)
        not_of_what_was_corrected(said, due, incident)
        not_of_what_is_done(due, incident, world)
        not_in_an_offices_name_to_whom_the_decision_names(said, due, incident, world)


def _of_a_turn_that_goes_on(due: DueDelivery, world: World) -> None:
    assert due.purpose == SHIFT
    assert any(turn.holder_id == due.recipient and world.now < turn.valid_to for turn in world.directory.turns)


def not_what_they_acknowledged(due: DueDelivery, world: World) -> None:
    assert due.notice_id not in world.answered, f"{due.recipient} is told what they acknowledged: {due.purpose}"


def not_about_what_has_ended(due: DueDelivery, incident: Incident) -> None:
    """But that it no longer holds, and what reports came after; those of the ward learn of what went to the police."""
    if incident.state in FINAL and due.purpose not in AFTER_THE_END:
        goes_on = (incident.state, due.purpose) == ("handed_off", "accountable")
        lost = due.purpose == "undeliverable" and incident.is_waited_for
        assert goes_on or lost, f"{due.recipient}: {due.purpose} of {incident.incident_id}, {incident.state}"


def not_to_who_has_left_the_post(due: DueDelivery, incident: Incident, world: World) -> None:
    if due.recipient in OFFICES:
        return
    if due.purpose == "stand_down":  # of a ward to which the incident was wrongly ascribed, too
        assert world.holds(due.recipient) or world.is_on_duty(due.recipient, "ward"), due
    elif due.purpose == "duty":
        assert world.is_on_duty(due.recipient, "ward", incident.acting_unit), due
    else:
        held = [post for post in due.posts if world.holds(due.recipient, post, incident.acting_unit)]
        assert held, f"{due.recipient} has left {due.posts}: {due.purpose}"


def not_that_the_rule_applies_where_the_decision_says_otherwise(
    said: Said, due: DueDelivery, incident: Incident, world: World
) -> None:
    if due.purpose not in TELLS_THE_WARD:
        return
    assert notification.holders_are_told(world.decisions[incident.incident_id]), f"{due.purpose}, {incident.outcome}"
    if said.alone and SAYS_IT_APPLIES in said.body:
        assert incident.outcome == "applies", f"{due.recipient}: {said.body}"


def not_of_a_past_round(due: DueDelivery, incident: Incident, world: World) -> None:
    issued = world.notices.get(due.notice_id)
    if issued is not None and due.purpose in OF_A_ROUND:
        assert issued.round == incident.round, f"{due.recipient}: {due.purpose} of round {issued.round}"


def not_of_what_was_corrected(said: Said, due: DueDelivery, incident: Incident) -> None:
    """But that it no longer holds, in the words of before."""
    if due.purpose == "stand_down":
        return
    assert due.exercise == incident.exercise, f"{due.recipient}: {due.title}"
    assert incident.unit_name in due.title, f"{due.recipient}: {due.title}"
    assert f"{local(incident.occurred_at):%H:%M %d/%m}" in due.body, f"{due.recipient}: {due.body}"
    if not said.alone and due.listed:
        assert (due.listed.place, due.listed.occurred_at) == (incident.place, incident.occurred_at)


def not_of_what_is_done(due: DueDelivery, incident: Incident, world: World) -> None:
    """What the desk need not do any more is asked of it no longer, nor told to the leadership.

    That nobody held a post when it occurred, though somebody acts now, asks nothing. That somebody is not reached is
    found out while messages are sent: what was issued then is newer than `world`.
    """
    owed = OWED.get(due.purpose)
    if owed is not None and due.due_at is not None and due.notice_id in world.notices:
        owes = {o.what for o in world.waits_for.get(incident.incident_id, ())}
        assert owed in owes, f"{due.recipient}: {due.purpose} of {incident.incident_id}, which waits for {sorted(owes)}"


def not_in_an_offices_name_to_whom_the_decision_names(
    said: Said, due: DueDelivery, incident: Incident, world: World
) -> None:
    """The link of an office's notice acknowledges it, whoever follows it."""
    owner = world.directory.owners.get(said.message.channel)
    if due.recipient in OFFICES and owner is not None:
        assert owner not in world.decisions[incident.incident_id].named, f"{owner}: {due.purpose}"


# --- what has happened ---


async def whoever_a_decision_names_never_acts_for_an_office(city: City) -> None:
    """By what is on record: nobody whom the decision named by then acknowledged for the desk or the leadership, or gave
    one of the desk's commands."""
    offices = {n.notice_id for n in await stored(city, Notice) if n.recipient in OFFICES}
    named: dict[str, set[str]] = {}
    for event in await city.events():
        incident, who = str(event.data.incident), event.data.who
        if isinstance(event, DecisionMade):
            named[incident] = Decision.model_validate(event.data.record).named
        elif isinstance(event, AcknowledgementRecorded) and event.data.notice_id in offices:
            assert event.data.holder not in named[incident], f"{event.data.holder} acknowledged for an office"
        elif who is not None and who.role in {"desk", "leader"}:
            assert who.subject not in named.get(incident, ()), f"{who.subject}: {event.type}"
