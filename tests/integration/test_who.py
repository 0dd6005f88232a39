"""Which events name the person who caused them, and by which name."""

from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.adopt_rulebooks import adopt_rulebooks, packaged_rulebooks
from services.escalation.application.fire_timers import fire_due_timers
from shared.events import AcknowledgementRecorded, Harm, SeverityRevised, StepRaised, Who
from shared.http.identity import Principal
from shared.pseudonym import pseudonym
from tests.integration.command_support import DESK, HERE, HOUR, OFFICER, reported, revise, verify
from tests.integration.escalation_support import City, decisions_that_differ_when_computed_again
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Decision
from tests.support import received


async def test_what_follows_from_a_command_names_its_author_and_what_falls_due_names_nobody(city: City) -> None:
    incident = await reported(city)
    routed = await city.events()
    await verify(city, incident)
    commanded = (await city.events())[len(routed) :]
    city.clock.set(city.clock.now() + HOUR)
    await fire_due_timers(city.escalation)
    fell_due = (await city.events())[len(routed) + len(commanded) :]
    assert [e for e in routed if e.data.who] == []
    assert {e.type.split(".")[2] for e in commanded} >= {"incident", "decision"}
    assert [e.data.who for e in commanded] == [Who(subject=DESK.subject, role="desk", means="api")] * len(commanded)
    assert fell_due
    assert [e for e in fell_due if e.data.who] == []


async def test_a_deadline_that_a_command_finds_missed_names_nobody_and_the_command_its_author(city: City) -> None:
    incident = await reported(city)
    before = len(await city.events())
    city.clock.set(city.clock.now() + HOUR)
    await revise(city, incident, deaths=1)
    written = (await city.events())[before:]
    (raised, *_) = (number for number, e in enumerate(written) if isinstance(e, SeverityRevised))
    assert any(isinstance(e, StepRaised) for e in written[:raised])
    assert [e for e in written[:raised] if e.data.who] == []
    who = Who(subject=DESK.subject, role="desk", means="api")
    assert [e for e in written[raised:] if e.data.who != who] == []


async def test_an_officer_is_named_by_a_pseudonym_which_is_the_same_each_time(city: City) -> None:
    incident = await reported(city)
    before = len(await city.events())
    await revise(city, incident, OFFICER, deaths=1)
    await revise(city, incident, OFFICER, deaths=2)
    names = {e.data.who.subject for e in (await city.events())[before:] if e.data.who}
    assert names == {OFFICER.who(city.escalation.pseudonym_key).subject}
    written = await city.rows("SELECT body FROM escalation.outbox UNION ALL SELECT body FROM escalation.timeline")
    assert not [row.body for row in written if OFFICER.subject.encode() in row.body]


async def test_an_official_who_acknowledges_is_named_by_their_holder_id(city: City) -> None:
    incident = await reported(city)
    await acknowledge(city.escalation, incident, HERE)
    found = [e.data.who for e in await city.events(incident) if isinstance(e, AcknowledgementRecorded)]
    assert found == [Who(subject=HERE.subject, role="official", means="api")]


async def test_a_rulebook_is_adopted_by_the_operator(city: City) -> None:
    await city.run("DELETE FROM escalation.rulebook")
    who = Who(subject="ky-su", role="operator", means="cli")
    await adopt_rulebooks(city.escalation.by(who), packaged_rulebooks())
    assert [e.data.who for e in await city.events() if e.type.startswith("vn.trucban.rulebook")][-1] == who


async def test_a_sender_who_was_stored_by_name_is_no_second_one_by_pseudonym(city: City) -> None:
    """As after the upgrade, in an incident that was open then."""
    incident = await reported(city, received("FIRE", subject="cam-bien-1"))
    name = pseudonym(city.escalation.pseudonym_key, "cam-bien-1")
    await city.run("UPDATE escalation.report SET facts = jsonb_set(facts, '{source,subject}', '\"cam-bien-1\"')")
    await city.run("UPDATE escalation.incident SET digest = replace(digest, :name, 'cam-bien-1')", name=name)
    await reported(city, received("FIRE", subject=name, harm=Harm(deaths=1)))
    decision = (await stored(city, Decision, incident_id=incident))[-1]
    assert (decision.said["standing"], decision.said["reports"]["count"]) == ("provisional", 2)
    assert {report["source"]["subject"] for report in decision.inputs["reports"]} == {name}
    summary = await city.one("SELECT digest FROM escalation.incident")
    assert "cam-bien-1" not in summary
    await reported(city, received("FIRE", subject="cam-bien-2", harm=Harm(deaths=1)))
    assert (await stored(city, Decision, incident_id=incident))[-1].said["standing"] == "confirmed"
    assert not await decisions_that_differ_when_computed_again(city)


async def test_two_officers_have_two_pseudonyms_and_another_installation_gives_others() -> None:
    one, other = (Principal(name, "officer") for name in ("cb-1", "cb-2"))
    key, another = bytes(32), bytes([1]) * 32
    names = {one.who(key).subject, other.who(key).subject, one.who(another).subject}
    assert len(names) == 3
    assert all(name.startswith("p_") and len(name) == 18 for name in names)
