"""What people do about an incident: who may, from which state, what follows, and that the same said twice is one.

Who is told is who is accountable: what verifies, lowers, joins, divides or ends an incident is the city's alone.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import orjson
import pytest
from httpx import Response

from services.escalation import commands
from services.escalation.commands import Done
from services.escalation.deadlines import pass_deadlines
from services.escalation.handlers import acknowledge, on_reports
from shared.events import (
    DecisionMade,
    Event,
    Harm,
    IncidentDesignated,
    IncidentHandedOff,
    IncidentMerged,
    IncidentSplit,
    IncidentVerified,
    ReportCorrelated,
    ReportReceived,
    SeverityRevised,
    UnitRef,
)
from shared.identity import Principal, Role
from shared.problem import Problem
from tests.integration.directory_changes import end_unit, leave
from tests.integration.escalation_support import (
    City,
    Template,
    WholeCity,
    decisions_that_differ_when_computed_again,
    whole_city_in,
)
from tests.support import BA_DINH, CHAIR, NGOC_TRAO, NIGHT, SECRETARY, SINCE, at, received

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DESK = Principal("mau-truc-ban", "desk")
HERE = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
SECRETARY_HERE = Principal("mau-14776-bi-thu", "official", "14776", SECRETARY)
OFFICER = Principal("cb-14776", "officer", "14776")
ELSEWHERE = Principal("mau-14779-chu-tich", "official", "14779", CHAIR)
WHY = "Đã kiểm tra tại chỗ"
HOLDERS = ["mau-14776-bi-thu", "mau-14776-chu-tich"]
ASKED = [f"{h}:accountable" for h in HOLDERS]
AGAIN = [f"{h}:still_open" for h in HOLDERS]
NOTHING_BROKEN = Harm(deaths=0, injured=0, property_vnd=0)
PARTS = (
    UnitRef(code="14758", valid_from=date(2023, 1, 22), name="Phần một (mẫu)"),
    UnitRef(code="14797", valid_from=date(2023, 1, 22), name="Phần hai (mẫu)"),
)
THERE = Principal("mau-14758-chu-tich-moi", "official", "14758", CHAIR)
Act = Callable[[City, str, Principal], Awaitable[Done]]


# --- doing things ---


async def reported(city: City, *events: ReportReceived) -> str:
    """Id of the incident of the last of these, or of one set-off."""
    given = list(events) or [received()]
    await on_reports(city.escalation, given)
    id_ = given[-1].data.report_id
    return await city.one("SELECT incident_id FROM escalation.report WHERE report_id = :id", id=id_)


async def answered(city: City, incident: str) -> None:
    for holder in (SECRETARY_HERE, HERE):
        await acknowledge(city.escalation, incident, holder)


async def verify(city: City, incident: str, by: Principal = DESK, **more: Any) -> Done:
    return await commands.verify(city.escalation, incident, by, WHY, **more)


async def dismiss(city: City, incident: str, by: Principal = DESK) -> Done:
    return await commands.dismiss(city.escalation, incident, by, WHY)


async def designate(city: City, incident: str, by: Principal = DESK, *, prominent: bool = True) -> Done:
    return await commands.designate(city.escalation, incident, by, WHY, prominent=prominent)


async def revise(city: City, incident: str, by: Principal = DESK, **harm: int) -> Done:
    return await commands.revise(city.escalation, incident, by, WHY, Harm(**(harm or {"deaths": 2})))


async def merge(city: City, incident: str, by: Principal = DESK) -> Done:
    """Into the other incident of the test."""
    into = await city.one("SELECT min(incident_id) FROM escalation.incident WHERE incident_id <> :id", id=incident)
    return await commands.merge(city.escalation, incident, by, WHY, into)


async def split(city: City, incident: str, by: Principal = DESK) -> Done:
    """Its last report, as it was at first."""
    sql = "SELECT report_id FROM escalation.report ORDER BY event_id DESC LIMIT 1"
    return await commands.split(city.escalation, incident, by, WHY, [await city.one(sql)])


async def hand_off(city: City, incident: str, by: Principal = DESK) -> Done:
    return await commands.hand_off(city.escalation, incident, by, WHY)


async def reassign(city: City, incident: str, by: Principal = DESK, *, part: int = 0) -> Done:
    unit = PARTS[part]
    return await commands.reassign(city.escalation, incident, by, WHY, (unit.code, unit.valid_from))


async def respond(city: City, incident: str, by: Principal = HERE) -> Done:
    return await commands.respond(city.escalation, incident, by, "Đã dập tắt")


async def propose(city: City, incident: str, by: Principal = HERE) -> Done:
    return await commands.propose_closure(city.escalation, incident, by, WHY)


async def close(city: City, incident: str, by: Principal = DESK) -> Done:
    return await commands.close(city.escalation, incident, by, WHY)


async def reopen(city: City, incident: str, by: Principal = DESK) -> Done:
    return await commands.reopen(city.escalation, incident, by, WHY)


async def refused(doing: Awaitable[Any]) -> Problem:
    with pytest.raises(Problem) as raised:
        await doing
    assert "\n" not in raised.value.detail
    return raised.value


# --- looking ---


async def written(city: City) -> list[Sequence[Any]]:
    """Everything that a command could have written."""
    tables = ("incident", "report", "finding", "decision", "notice", "delivery", "deadline", "link", "outbox")
    return [await city.rows(f"SELECT * FROM escalation.{name} ORDER BY 1") for name in tables]


async def of(city: City, kind: type[Any], incident: str | None = None) -> list[Any]:
    return [e.data for e in await city.events(incident) if isinstance(e, kind)]


async def state(city: City, incident: str) -> str:
    return await city.one("SELECT state FROM escalation.incident WHERE incident_id = :id", id=incident)


async def latest(city: City, incident: str) -> dict[str, Any]:
    """The standing decision's record."""
    sql = "SELECT record FROM escalation.decision WHERE incident_id = :id ORDER BY number DESC LIMIT 1"
    return orjson.loads(await city.one(sql, id=incident))


async def pending(city: City, incident: str) -> list[str]:
    rows = await city.rows(
        "SELECT kind FROM escalation.deadline WHERE incident_id = :id AND state = 'pending' ORDER BY 1", id=incident
    )
    return [row.kind for row in rows]


async def still_to_be_sent(city: City, incident: str) -> int:
    return await city.one(
        "SELECT count(*) FROM escalation.delivery JOIN escalation.notice USING (notice_id)"
        " WHERE incident_id = :id AND state IN ('queued', 'sending', 'failed')",
        id=incident,
    )


async def reports_of(city: City, incident: str) -> list[str]:
    rows = await city.rows(
        "SELECT report_id, position FROM escalation.report WHERE incident_id = :id ORDER BY position", id=incident
    )
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    return [row.report_id for row in rows]


async def in_order(city: City) -> None:
    """What holds of every incident after whatever was done."""
    for row in await city.rows("SELECT incident_id, state, merged_into FROM escalation.incident"):
        sequences = [e.data.sequence for e in await city.events(row.incident_id)]
        assert sequences == list(range(1, len(sequences) + 1))
        ended = row.state in {"closed", "dismissed", "merged", "handed_off"}
        assert (await pending(city, row.incident_id) == []) == ended, row.state
        assert row.state == "handed_off" or not (ended and await still_to_be_sent(city, row.incident_id))
        assert (row.merged_into is not None) == (row.state == "merged")
    assert not await decisions_that_differ_when_computed_again(city)


# --- what each command starts from ---


async def one_fire(city: City) -> str:
    return await reported(city, received("FIRE"))


async def two_fires(city: City) -> str:
    return await reported(city, received("FIRE", occurred_at=NIGHT - 2 * HOUR), received("FIRE"))


async def two_reports(city: City) -> str:
    return await reported(city, received("FIRE"), received("FIRE", subject="cam-bien-2"))


async def divided_unit(city: City) -> str:
    incident = await reported(city)
    await end_unit(city, PARTS)
    city.clock.set(at("2023-01-22 00:30"))
    return incident


async def acknowledged(city: City) -> str:
    incident = await reported(city)
    await answered(city, incident)
    return incident


async def verified(city: City) -> str:
    incident = await acknowledged(city)
    await verify(city, incident)
    return incident


async def dismissed(city: City) -> str:
    incident = await reported(city)
    await dismiss(city, incident)
    return incident


COMMANDS: dict[str, tuple[Callable[[City], Awaitable[str]], Act, Principal]] = {
    "verify": (one_fire, verify, DESK),
    "dismiss": (one_fire, dismiss, DESK),
    "designate": (one_fire, designate, DESK),
    "revise": (one_fire, revise, DESK),
    "revise by an official": (one_fire, revise, HERE),
    "revise by an officer": (one_fire, revise, OFFICER),
    "merge": (two_fires, merge, DESK),
    "split": (two_reports, split, DESK),
    "hand off": (one_fire, hand_off, DESK),
    "reassign": (divided_unit, reassign, DESK),
    "respond": (acknowledged, respond, HERE),
    "respond by the desk": (acknowledged, respond, DESK),
    "propose closure": (acknowledged, propose, HERE),
    "close": (verified, close, DESK),
    "reopen": (dismissed, reopen, DESK),
}
each_command = pytest.mark.parametrize(("before", "act", "by"), COMMANDS.values(), ids=COMMANDS)
CITYS = ("verify", "dismiss", "designate", "merge", "split", "hand off", "reassign", "close", "reopen")
each_of_the_city = pytest.mark.parametrize(("before", "act"), [COMMANDS[name][:2] for name in CITYS], ids=CITYS)


@each_command
async def test_what_is_said_is_a_finding_with_its_author_and_an_event(
    city: City, before: Callable[[City], Awaitable[str]], act: Act, by: Principal
) -> None:
    incident = await before(city)
    events = await city.events()
    done = await act(city, incident, by)
    assert done.is_new
    rows = await city.rows("SELECT * FROM escalation.finding ORDER BY made_at DESC LIMIT 1")
    assert (rows[0].author, rows[0].role) == (by.subject, by.role)
    assert rows[0].reason
    new: list[Event] = (await city.events())[len(events) :]
    said = [e.data for e in new if getattr(e.data, "finding_id", None) == rows[0].finding_id]
    assert [(d.author, d.role) for d in said] == [(by.subject, by.role)]  # type: ignore[union-attr]
    await in_order(city)


@each_command
async def test_the_same_said_twice_is_recorded_once(
    city: City, before: Callable[[City], Awaitable[str]], act: Act, by: Principal
) -> None:
    incident = await before(city)
    first = await act(city, incident, by)
    kept = await written(city)
    again = await act(city, incident, by)
    assert not again.is_new
    assert again.new_incident == first.new_incident
    assert await written(city) == kept


@each_command
async def test_the_same_said_by_many_at_once_is_recorded_once(
    city: City, before: Callable[[City], Awaitable[str]], act: Act, by: Principal
) -> None:
    incident = await before(city)
    count = await city.one("SELECT count(*) FROM escalation.finding")
    done = await asyncio.gather(*(act(city, incident, by) for _ in range(4)))
    assert sorted(d.is_new for d in done) == [False, False, False, True]
    assert await city.one("SELECT count(*) FROM escalation.finding") == count + 1
    await in_order(city)


# --- who may ---


@each_of_the_city
async def test_who_is_named_in_an_incident_decides_nothing_about_it_at_the_desk_either(
    city: City, before: Callable[[City], Awaitable[str]], act: Act
) -> None:
    """A chair who is also on the duty desk."""
    incident = await before(city)
    problem = await refused(act(city, incident, Principal(HERE.subject, "desk")))
    assert (problem.status, "somebody else at the desk" in problem.detail) == (403, True)


@pytest.mark.parametrize("act", [respond, propose, revise], ids=["respond", "propose closure", "revise"])
async def test_who_does_not_hold_the_post_any_more_does_nothing_for_it(city: City, act: Act) -> None:
    """A token may outlast a tenure."""
    incident = await acknowledged(city)
    await leave(city, HERE.subject, NIGHT)
    problem = await refused(act(city, incident, HERE))
    assert (problem.status, "does not hold" in problem.detail) == (403, True)


@each_of_the_city
@pytest.mark.parametrize("caller", [HERE, OFFICER], ids=["official", "officer"])
async def test_a_wards_own_do_nothing_that_is_the_citys_before_or_after_the_city_did_it(
    city: City, before: Callable[[City], Awaitable[str]], act: Act, caller: Principal
) -> None:
    incident = await before(city)
    for _ in range(2):
        kept = await written(city)
        problem = await refused(act(city, incident, caller))
        assert problem.status == 403
        assert caller.role in problem.detail
        assert await written(city) == kept
        if _ == 0:
            await act(city, incident, DESK)


@each_command
async def test_nobody_does_anything_about_another_wards_incident(
    city: City, before: Callable[[City], Awaitable[str]], act: Act, by: Principal
) -> None:
    incident = await before(city)
    await act(city, incident, by)
    kept = await written(city)
    for caller in (ELSEWHERE, Principal("cb-14779", "officer", "14779"), Principal("mau", "official")):
        problem = await refused(act(city, incident, caller))
        assert problem.status == 403
        assert "your token is for ward" in problem.detail or "may not" in problem.detail
    assert await written(city) == kept


async def test_a_ward_that_took_an_incident_over_may_respond_to_it(city: City) -> None:
    incident = await divided_unit(city)
    assert (await refused(respond(city, incident, THERE))).status == 403
    await reassign(city, incident)
    assert (await respond(city, incident, THERE)).is_new


# --- from which state ---


@pytest.mark.parametrize("end", [dismiss, hand_off], ids=["dismissed", "handed off"])
@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"reopen", "reassign"}))
async def test_nothing_is_done_to_what_has_ended_but_reopening(city: City, end: Act, name: str) -> None:
    before, act, by = COMMANDS[name]
    incident = await before(city)
    await end(city, incident, DESK)
    kept = await written(city)
    if (act, end) in ((dismiss, dismiss), (hand_off, hand_off)):
        assert not (await act(city, incident, by)).is_new
    else:
        problem = await refused(act(city, incident, by))
        assert problem.status == 409
        assert "dismissed" in problem.detail or "handed_off" in problem.detail
    assert await written(city) == kept


async def test_what_was_merged_is_not_reopened(city: City) -> None:
    incident = await two_fires(city)
    await merge(city, incident)
    assert (await refused(reopen(city, incident))).status == 409


async def test_only_what_ended_is_reopened(city: City) -> None:
    assert (await refused(reopen(city, await reported(city)))).status == 409


# --- verifying ---


async def test_a_verified_incident_is_confirmed_and_the_review_is_over(city: City) -> None:
    incident = await reported(city, received("FIRE", harm=Harm(property_vnd=200_000_000)))
    assert await city.told() == ["desk:review"]
    done = await verify(city, incident)
    assert await city.told() == ["desk:review", *ASKED]
    assert (await latest(city, incident))["standing"] == "confirmed"
    assert "review" not in await pending(city, incident)
    first, second = await of(city, DecisionMade)
    assert (second.previous, second.decision_id) == (first.decision_id, done.case.decision_id)
    assert await state(city, incident) == "notified"


async def test_verifying_what_was_told_already_tells_nobody_again(city: City) -> None:
    incident = await reported(city)
    await verify(city, incident)
    assert await city.told() == ASKED


@pytest.mark.parametrize(
    ("category", "exploded", "outcome"),
    [
        ("EXPLOSION", True, "applies"),
        ("FIRECRACKER_MANUFACTURE", True, "applies"),
        ("FIRECRACKER_MANUFACTURE", False, "does_not_apply"),
        ("FIRECRACKER_SET_OFF", False, "does_not_apply"),
        ("EXPLOSION", None, "undetermined"),
    ],
)
async def test_the_desk_answers_whether_firecrackers_exploded(
    city: City, category: str, exploded: bool | None, outcome: str
) -> None:
    incident = await reported(city, received(category))
    await verify(city, incident, firecrackers_exploded=exploded)
    assert (await latest(city, incident))["outcome"] == outcome
    assert [d.firecrackers_exploded for d in await of(city, IncidentVerified)] == [exploded]
    assert (outcome == "applies") == (set(ASKED) <= set(await city.told())) or category == "FIRECRACKER_SET_OFF"
    await in_order(city)


async def test_when_nothing_was_set_off_nobody_is_asked_any_more(city: City) -> None:
    incident = await reported(city)
    await verify(city, incident, firecrackers_exploded=False)
    assert await pending(city, incident) == ["idle"]
    city.clock.set(NIGHT + HOUR)
    await pass_deadlines(city.escalation)
    assert await city.told() == ASKED


async def test_the_desk_calls_it_what_it_was(city: City) -> None:
    incident = await reported(city, received("EXPLOSION"))
    await verify(city, incident, reclassified="FIRECRACKER_SET_OFF")
    record = await latest(city, incident)
    assert (record["outcome"], record["limb"]) == ("applies", "firecracker")
    sql = "SELECT category FROM escalation.incident"
    assert await city.one(sql) == "FIRECRACKER_SET_OFF"
    await on_reports(city.escalation, [received("EXPLOSION", subject="cam-bien-2")])
    assert (await latest(city, incident))["outcome"] == "applies", "a later report does not undo it"
    assert await city.one(sql) == "FIRECRACKER_SET_OFF"


async def test_what_is_of_another_kind_is_not_called_so(city: City) -> None:
    incident = await one_fire(city)
    problem = await refused(verify(city, incident, reclassified="FIRECRACKER_SET_OFF"))
    assert problem.status == 409
    assert "FIRE" in problem.detail


# --- how serious ---


async def test_the_desks_figures_replace_what_was_known_up_and_down(city: City) -> None:
    incident = await reported(city, received("FIRE", harm=Harm(deaths=1)))
    assert await city.told() == ASKED, "life at stake"
    await revise(city, incident, deaths=3)
    await revise(city, incident, deaths=0, injured=0, property_vnd=0)
    revised = await of(city, SeverityRevised)
    assert [(d.previous, d.severity) for d in revised] == [(2, 4), (4, 1)]
    record = await latest(city, incident)
    assert (record["severity"], record["outcome"]) == (1, "does_not_apply")
    assert await city.one("SELECT severity FROM escalation.incident") == 1
    await in_order(city)


@pytest.mark.parametrize("caller", [HERE, OFFICER], ids=["official", "officer"])
async def test_a_wards_own_add_to_what_is_known_and_take_nothing_away(city: City, caller: Principal) -> None:
    incident = await reported(city, received("FIRE", harm=Harm(deaths=1, property_vnd=600_000_000)))
    kept = await written(city)
    problem = await refused(revise(city, incident, caller, deaths=0, injured=4, property_vnd=600_000_000))
    assert problem.status == 403
    assert "deaths" in problem.detail
    assert await written(city) == kept
    await revise(city, incident, caller, injured=4)
    (revised,) = await of(city, SeverityRevised)
    assert revised.harm == Harm(deaths=1, injured=4, property_vnd=600_000_000)
    assert (revised.previous, revised.severity) == (3, 3)
    await revise(city, incident, caller, deaths=3)
    assert (await latest(city, incident))["severity"] == 4


@pytest.mark.parametrize("caller", [HERE, OFFICER], ids=["official", "officer"])
async def test_a_wards_own_do_not_call_slight_what_is_unknown(city: City, caller: Principal) -> None:
    incident = await one_fire(city)
    kept = await written(city)
    problem = await refused(revise(city, incident, caller, deaths=0, injured=0, property_vnd=0))
    assert problem.status == 403
    assert "only the desk may lower it" in problem.detail
    assert await written(city) == kept


async def test_a_wards_own_do_not_undo_what_the_desk_found(city: City) -> None:
    incident = await one_fire(city)
    await revise(city, incident, DESK, deaths=2)
    await revise(city, incident, HERE, injured=1)
    assert (await latest(city, incident))["severity"] == 3


async def test_a_report_that_comes_after_an_assessment_adds_to_it(city: City) -> None:
    incident = await one_fire(city)
    await revise(city, incident, DESK, deaths=0, injured=0, property_vnd=0)
    city.clock.set(NIGHT + 10 * MINUTE)
    late = received("FIRE", received_at=NIGHT + 9 * MINUTE, harm=Harm(deaths=1), subject="cam-bien-2")
    await on_reports(city.escalation, [late])
    assert (await latest(city, incident))["severity"] == 2


async def test_a_report_that_was_on_its_way_while_the_desk_assessed_is_not_lost(city: City) -> None:
    """Intake had received it, escalation was away: the assessor did not know it."""
    incident = await one_fire(city)
    city.clock.set(NIGHT + 10 * MINUTE)
    await revise(city, incident, DESK, deaths=0, injured=0, property_vnd=0)
    on_its_way = received("FIRE", received_at=NIGHT + 5 * MINUTE, harm=Harm(deaths=3), subject="cam-bien-2")
    await on_reports(city.escalation, [on_its_way])
    assert (await latest(city, incident))["severity"] == 4


async def test_prominent_is_what_a_person_calls_so_and_no_longer(city: City) -> None:
    incident = await reported(city, received("CONGESTION", kind="officer"))
    assert (await latest(city, incident))["outcome"] == "does_not_apply"
    await designate(city, incident)
    record = await latest(city, incident)
    assert (record["outcome"], record["limb"]) == ("applies", "serious")
    assert await city.told() == ASKED
    await designate(city, incident, prominent=False)
    assert (await latest(city, incident))["outcome"] == "does_not_apply"
    await designate(city, incident)
    assert (await latest(city, incident))["outcome"] == "applies"
    assert await city.told() == [*ASKED, *AGAIN], "who had not answered is asked again"


# --- false, and after all not ---


async def test_a_wards_own_do_not_keep_the_desk_from_being_pointed_to_what_many_report(city: City) -> None:
    incident = await acknowledged(city)
    await respond(city, incident)
    await on_reports(city.escalation, [received(subject=f"cam-bien-{n}") for n in range(2, 12)])
    assert "desk:prominence" in await city.told()


async def test_what_the_desk_looked_at_is_not_pointed_out_to_it(city: City) -> None:
    incident = await acknowledged(city)
    await verify(city, incident)
    await on_reports(city.escalation, [received(subject=f"cam-bien-{n}") for n in range(2, 12)])
    assert "desk:prominence" not in await city.told()


async def test_what_follows_from_a_command_names_it_as_its_cause(city: City) -> None:
    incident = await one_fire(city)
    await revise(city, incident, DESK, deaths=2)
    by_id = {e.id: e for e in await city.events(incident)}
    (said,) = (e for e in by_id.values() if isinstance(e, SeverityRevised))
    caused = [e for e in by_id.values() if e.data.cause == said.id]
    assert [e.type.split(".")[2:4] for e in caused] == [["decision", "made"], *[["notice", "issued"]] * 2]


async def test_of_a_dismissed_incident_nothing_more_is_sent_or_falls_due(city: City) -> None:
    incident = await reported(city)
    await dismiss(city, incident)
    assert await pending(city, incident) == []
    assert await still_to_be_sent(city, incident) == 0
    told = await city.told()
    city.clock.set(NIGHT + 24 * HOUR)
    assert await pass_deadlines(city.escalation) == 0
    assert await city.told() == told


async def test_a_report_after_a_dismissal_is_an_incident_of_its_own(city: City) -> None:
    incident = await reported(city)
    await dismiss(city, incident)
    another = await reported(city, received(subject="cam-bien-2"))
    assert another != incident
    assert len(await city.told(another)) == 2


async def test_who_acknowledges_a_dismissed_incident_does_not_revive_it(city: City) -> None:
    incident = await reported(city)
    await dismiss(city, incident)
    await answered(city, incident)
    assert await state(city, incident) == "dismissed"
    await in_order(city)


@pytest.mark.parametrize("end", [dismiss, hand_off], ids=["dismissed", "handed off"])
async def test_when_it_is_reopened_everybody_is_told_again(city: City, end: Act) -> None:
    incident = await verified(city)
    await end(city, incident, DESK)
    city.clock.set(NIGHT + HOUR)
    done = await reopen(city, incident)
    assert await city.told(incident) == [*ASKED, *AGAIN]
    assert (done.case.state, done.case.round) == ("notified", 2)
    assert sorted(await pending(city, incident)) == ["acknowledge", "acknowledge", "lapse", "remind", "remind"]
    assert (await latest(city, incident))["standing"] == "provisional", "it has to be verified again"
    assert await still_to_be_sent(city, incident) == 2
    city.clock.set(NIGHT + HOUR + 16 * MINUTE)
    await pass_deadlines(city.escalation)
    assert (await city.told(incident))[-1] == "desk:not_acknowledged"


async def test_what_is_reopened_undetermined_goes_to_the_desk_again(city: City) -> None:
    incident = await one_fire(city)
    await dismiss(city, incident)
    await reopen(city, incident)
    assert await city.told() == ["desk:review", "desk:review"]
    assert await pending(city, incident) == ["lapse", "review"]


async def test_an_incident_may_be_reopened_each_time_that_it_ended(city: City) -> None:
    incident = await reported(city)
    for round_ in (2, 3, 4):
        await dismiss(city, incident)
        assert (await reopen(city, incident)).case.round == round_
    assert await city.told() == [*ASKED, *AGAIN * 3]


# --- the same, or two ---


async def test_of_merged_incidents_one_is_left_with_the_reports_of_both(city: City) -> None:
    first = await reported(city, received("FIRE", occurred_at=NIGHT - 2 * HOUR, harm=Harm(deaths=1)))
    second = await reported(city, received("FIRE", harm=Harm(deaths=3)))
    before, moved = await reports_of(city, first), await reports_of(city, second)
    await merge(city, second)
    assert await state(city, second) == "merged"
    assert await reports_of(city, first) == [*before, *moved]
    assert await reports_of(city, second) == []
    assert (await latest(city, first))["severity"] == 4
    (merged,) = await of(city, IncidentMerged)
    assert (merged.incident, merged.into, list(merged.reports)) == (second, first, moved)
    correlated = [d for d in await of(city, ReportCorrelated, first) if d.report_id in moved]
    assert [d.incident for d in correlated] == [first], "the receipt says where it went"
    await in_order(city)


async def test_what_a_merged_incident_was_reported_to_do_is_not_covered_by_an_earlier_assessment(city: City) -> None:
    """The assessor of the one did not know the other's reports, though they had been received by then."""
    first = await reported(city, received("FIRE", occurred_at=NIGHT - 2 * HOUR, harm=Harm(deaths=3)))
    second = await reported(city, received("FIRE"))
    await revise(city, second, deaths=0, injured=0, property_vnd=0)
    await merge(city, first)
    assert (await latest(city, second))["severity"] == 4
    revised = await of(city, SeverityRevised, second)
    assert [(d.previous, d.severity) for d in revised] == [(None, 1), (1, 4)]
    await in_order(city)


async def test_what_was_found_about_a_merged_incident_holds_of_what_is_left(city: City) -> None:
    first = await reported(city, received("EXPLOSION", occurred_at=NIGHT - 2 * HOUR))
    await verify(city, first, firecrackers_exploded=True)
    await revise(city, first, deaths=2)
    await designate(city, first)
    second = await reported(city, received("EXPLOSION"))
    await merge(city, first)
    record = await latest(city, second)
    assert [record[name] for name in ("limb", "standing", "severity")] == ["firecracker", "confirmed", 3]
    assert len(await of(city, IncidentDesignated, second)) == 1
    await in_order(city)


async def test_that_nothing_was_set_off_in_one_place_is_not_said_of_the_other(city: City) -> None:
    first = await reported(city, received("EXPLOSION", occurred_at=NIGHT - 2 * HOUR))
    await verify(city, first, firecrackers_exploded=False)
    second = await reported(city, received())
    await commands.merge(city.escalation, first, DESK, WHY, second)
    assert (await latest(city, second))["limb"] == "firecracker"


async def test_later_reports_of_either_join_what_is_left(city: City) -> None:
    first = await reported(city, received("FIRE", occurred_at=NIGHT - 2 * HOUR))
    second = await reported(city, received("FIRE"))
    await merge(city, second)
    for when in (NIGHT - 2 * HOUR, NIGHT + 5 * MINUTE):
        later = received("FIRE", occurred_at=when, received_at=NIGHT + 6 * MINUTE, subject="cam-bien-2")
        assert await reported(city, later) == first


async def test_later_reports_join_even_what_was_of_another_kind(city: City) -> None:
    blast = await reported(city, received("EXPLOSION"))
    fire = await reported(city, received("FIRE"))
    await commands.merge(city.escalation, fire, DESK, WHY, blast)
    assert await reported(city, received("FIRE", subject="cam-bien-2")) == blast
    assert await reported(city, received("EXPLOSION", subject="cam-bien-2")) == blast


async def test_what_was_merged_into_a_merged_incident_goes_where_that_went(city: City) -> None:
    ids = [await reported(city, received("FIRE", occurred_at=NIGHT - n * 2 * HOUR)) for n in range(3)]
    await commands.merge(city.escalation, ids[0], DESK, WHY, ids[1])
    await commands.merge(city.escalation, ids[1], DESK, WHY, ids[2])
    later = received("FIRE", subject="cam-bien-2")
    assert await reported(city, later) == ids[2]
    await dismiss(city, ids[2])
    assert await reported(city, received("FIRE", subject="cam-bien-3")) not in ids, "what ended takes no more"


async def test_merges_at_once_both_ways_leave_one(city: City) -> None:
    second = await two_fires(city)
    first = await city.one("SELECT incident_id FROM escalation.incident WHERE incident_id <> :id", id=second)
    merges = [commands.merge(city.escalation, a, DESK, WHY, b) for a, b in ((first, second), (second, first))]
    done = await asyncio.gather(*merges, return_exceptions=True)
    assert sorted(isinstance(d, Problem) for d in done) == [False, True]
    states = {await state(city, i) for i in (first, second)}
    assert "merged" in states
    assert len(states) == 2
    await in_order(city)


@pytest.mark.parametrize("other", [received("FIRE", unit=NGOC_TRAO), received("FIRE", exercise=True)], ids=str)
async def test_incidents_of_two_wards_or_an_exercise_and_a_real_one_are_not_one(
    city: City, other: ReportReceived
) -> None:
    here, there = await one_fire(city), await reported(city, other.model_copy(update={"id": f"{other.id}-x"}))
    assert (await refused(commands.merge(city.escalation, here, DESK, WHY, there))).status == 409


async def test_nothing_is_merged_into_itself_or_into_what_ended(city: City) -> None:
    incident = await two_fires(city)
    other = await city.one("SELECT incident_id FROM escalation.incident WHERE incident_id <> :id", id=incident)
    assert (await refused(commands.merge(city.escalation, incident, DESK, WHY, incident))).status == 409
    await dismiss(city, other)
    problem = await refused(merge(city, incident))
    assert problem.status == 409
    assert "dismissed" in problem.detail


async def test_a_split_makes_two_incidents_each_decided_anew(city: City) -> None:
    point = (19.8075, 105.7764)
    slight, grave = received("FIRE"), received("FIRE", subject="cam-bien-2", harm=Harm(deaths=3), point=point)
    incident = await reported(city, slight, grave)
    done = await commands.split(city.escalation, incident, DESK, WHY, [grave.data.report_id])
    assert done.new_incident is not None
    assert await reports_of(city, incident) == [slight.data.report_id]
    assert await reports_of(city, done.new_incident) == [grave.data.report_id]
    assert (await latest(city, incident)).get("severity") is None
    assert (await latest(city, done.new_incident))["severity"] == 4
    assert await city.told(done.new_incident) == ASKED
    (said,) = await of(city, IncidentSplit)
    assert (said.new_incident, list(said.reports)) == (done.new_incident, [grave.data.report_id])
    linked = await city.rows("SELECT incident_id, other_id FROM escalation.link")
    assert [tuple(row) for row in linked] == [(done.new_incident, incident)]
    row = (await city.rows("SELECT * FROM escalation.incident WHERE incident_id = :id", id=done.new_incident))[0]
    assert ((row.latitude, row.longitude), row.family, row.category) == (point, "fire", "FIRE")
    await in_order(city)


async def test_what_was_merged_from_another_kind_is_of_its_own_kind_again_when_it_is_split_off(city: City) -> None:
    blast = await reported(city, received("EXPLOSION"))
    burning = received("FIRE")
    fire = await reported(city, burning)
    await commands.merge(city.escalation, fire, DESK, WHY, blast)
    done = await commands.split(city.escalation, blast, DESK, WHY, [burning.data.report_id])
    sql = "SELECT family, category FROM escalation.incident WHERE incident_id = :id"
    assert [tuple(row) for row in await city.rows(sql, id=done.new_incident)] == [("fire", "FIRE")]


async def test_when_the_first_report_is_split_off_what_remains_has_the_time_and_place_of_the_next(city: City) -> None:
    """Who answers is who held the post at the time of occurrence, by the rulebook in force at that time."""
    later, point = NIGHT + 20 * MINUTE, (19.8075, 105.7764)
    city.clock.set(NIGHT + HOUR)
    first = received("FIRE", received_at=NIGHT + HOUR, harm=Harm(deaths=1))
    second = received("FIRE", occurred_at=later, received_at=NIGHT + HOUR, subject="cam-bien-2", point=point)
    incident = await reported(city, first, second)
    done = await commands.split(city.escalation, incident, DESK, WHY, [first.data.report_id])
    assert done.is_new
    row = (await city.rows("SELECT * FROM escalation.incident WHERE incident_id = :id", id=incident))[0]
    assert (row.occurred_at, (row.latitude, row.longitude)) == (later, point)
    assert (await latest(city, incident))["time_of_occurrence"] == "2023-01-21T17:10:00Z"
    assert (await latest(city, str(done.new_incident)))["time_of_occurrence"] == "2023-01-21T16:50:00Z"
    await in_order(city)


async def test_what_was_split_off_and_merged_back_may_be_split_off_again(city: City) -> None:
    incident = await two_reports(city)
    first = await split(city, incident)
    assert first.new_incident is not None
    await commands.merge(city.escalation, first.new_incident, DESK, WHY, incident)
    again = await split(city, incident)
    assert again.is_new
    assert again.new_incident not in {None, first.new_incident}
    await in_order(city)


async def test_a_split_leaves_a_report_on_each_side_and_takes_no_others(city: City) -> None:
    incident = await two_reports(city)
    both = await reports_of(city, incident)
    for reports in (both, ["tin-bao-khong-co"], [both[0], "tin-bao-khong-co"]):
        assert (await refused(commands.split(city.escalation, incident, DESK, WHY, reports))).status == 409


# --- to others ---


async def test_what_the_police_take_over_ends_here(city: City) -> None:
    incident = await reported(city)
    await hand_off(city, incident)
    assert await state(city, incident) == "handed_off"
    (said,) = await of(city, IncidentHandedOff)
    assert (said.to, said.successor) == ("police", None)
    await in_order(city)


async def test_handing_a_crime_to_the_police_at_once_takes_nothing_from_who_answers_for_the_ward(city: City) -> None:
    """What they had not been sent yet they are sent all the same, and may acknowledge."""
    incident = await reported(city)
    await hand_off(city, incident)
    assert await still_to_be_sent(city, incident) == 2
    await answered(city, incident)
    assert await state(city, incident) == "handed_off"
    assert await still_to_be_sent(city, incident) == 0


async def test_the_desk_hands_the_incident_of_a_divided_unit_to_one_of_its_parts(city: City) -> None:
    incident = await divided_unit(city)
    await pass_deadlines(city.escalation)
    assert "desk:unit_split" in await city.told()
    await reassign(city, incident)
    assert (await city.told())[-2:] == ["mau-14758-bi-thu-moi:accountable", "mau-14758-chu-tich-moi:accountable"]
    record = await latest(city, incident)
    assert record["successor"]["code"] == "14758"
    assert [p["accountable"]["holder_id"] for p in record["parties"]] == HOLDERS
    (said,) = await of(city, IncidentHandedOff)
    assert (said.to, said.successor) == ("unit", PARTS[0])
    assert await state(city, incident) == "notified"
    await in_order(city)


async def test_when_what_took_its_place_is_divided_in_turn_the_desk_hands_it_to_one_of_those_parts(city: City) -> None:
    incident = await reported(city)
    heir = UnitRef(code="14776", valid_from=date(2023, 1, 22), name="Ba Đình mới (mẫu)")
    await end_unit(city, [heir])
    city.clock.set(at("2023-01-22 00:30"))
    await pass_deadlines(city.escalation)
    later = [p.model_copy(update={"valid_from": date(2023, 1, 23)}) for p in PARTS]
    await end_unit(city, later, unit=heir)
    city.clock.set(at("2023-01-23 00:30"))
    await pass_deadlines(city.escalation)
    record = await latest(city, incident)
    assert (record["successor"]["valid_from"], record["divided"]) == ("2023-01-22", True)
    wanted = (later[1].code, later[1].valid_from)
    await commands.reassign(city.escalation, incident, DESK, WHY, wanted)
    record = await latest(city, incident)
    assert (record["successor"]["code"], record.get("divided")) == ("14797", None)
    assert f"mau-{later[1].code}-chu-tich-moi:accountable" in await city.told()


async def test_what_was_handed_to_the_wrong_part_is_handed_to_the_other(city: City) -> None:
    incident = await divided_unit(city)
    await reassign(city, incident)
    await reassign(city, incident, part=1)
    assert (await latest(city, incident))["successor"]["code"] == "14797"
    assert (await city.told())[-2:] == ["mau-14797-bi-thu-moi:accountable", "mau-14797-chu-tich-moi:accountable"]
    left = await city.rows(
        "SELECT recipient FROM escalation.deadline JOIN escalation.notice USING (notice_id)"
        " WHERE kind = 'acknowledge' AND state = 'pending' ORDER BY 1"
    )
    assert [row.recipient for row in left] == ["mau-14797-bi-thu-moi", "mau-14797-chu-tich-moi"]


async def test_no_incident_is_handed_to_a_unit_that_took_no_part_of_its_own(city: City) -> None:
    incident = await reported(city)
    assert "no unit was divided" in (await refused(reassign(city, incident))).detail
    await end_unit(city, PARTS)
    city.clock.set(at("2023-01-22 00:30"))
    wrong = commands.reassign(city.escalation, incident, DESK, WHY, (NGOC_TRAO.code, SINCE))
    problem = await refused(wrong)
    assert problem.status == 409
    assert "14758" in problem.detail


# --- until it is over ---


async def test_a_response_is_a_state_once_somebody_has_acknowledged(city: City) -> None:
    incident = await reported(city)
    assert (await respond(city, incident)).case.state == "notified"
    await answered(city, incident)
    assert (await respond(city, incident, SECRETARY_HERE)).case.state == "responding"


async def test_the_ward_proposes_closure_and_the_desk_decides(city: City) -> None:
    incident = await verified(city)
    assert (await propose(city, incident)).case.state == "closure_proposed"
    assert (await city.told())[-1] == "desk:closure"
    assert (await close(city, incident)).case.state == "closed"
    await in_order(city)


async def test_each_proposal_to_close_is_told_to_the_desk(city: City) -> None:
    incident = await verified(city)
    await propose(city, incident)
    await respond(city, incident)
    await commands.propose_closure(city.escalation, incident, HERE, "Đã dọn dẹp xong")
    assert (await city.told())[-2:] == ["desk:closure"] * 2


async def test_closure_is_proposed_of_what_was_acknowledged(city: City) -> None:
    problem = await refused(propose(city, await reported(city)))
    assert (problem.status, "notified" in problem.detail) == (409, True)


async def test_nothing_is_closed_that_is_not_verified_or_not_determined(city: City) -> None:
    incident = await acknowledged(city)
    assert "not verified" in (await refused(close(city, incident))).detail
    other = await one_fire(city)
    assert "not determined" in (await refused(close(city, other))).detail
    await verify(city, other)
    assert "not determined" in (await refused(close(city, other))).detail


async def test_nothing_is_closed_while_a_post_holder_is_still_asked(city: City) -> None:
    incident = await reported(city)
    await verify(city, incident)
    await acknowledge(city.escalation, incident, HERE)
    assert "still asked" in (await refused(close(city, incident))).detail
    await acknowledge(city.escalation, incident, SECRETARY_HERE)
    assert (await close(city, incident)).is_new


async def test_when_the_chain_has_ended_unanswered_the_desk_may_close(city: City) -> None:
    incident = await reported(city)
    await verify(city, incident)
    for minutes in (16, 32, 48):
        assert "still asked" in (await refused(close(city, incident))).detail
        city.clock.set(NIGHT + minutes * MINUTE)
        await pass_deadlines(city.escalation)
    assert (await city.told())[-1] == "desk:exhausted"
    assert (await close(city, incident)).is_new


async def test_what_the_rule_does_not_apply_to_may_be_closed_at_once(city: City) -> None:
    incident = await reported(city, received("FIRECRACKER_POSSESSION", kind="officer"))
    assert (await close(city, incident)).case.state == "closed"


async def test_every_decision_of_a_long_story_is_linked_and_the_same_when_computed_again(city: City) -> None:
    incident = await reported(city, received("EXPLOSION"))
    await verify(city, incident, firecrackers_exploded=True)
    await revise(city, incident, HERE, deaths=1)
    await designate(city, incident)
    await answered(city, incident)
    await dismiss(city, incident)
    await reopen(city, incident)
    await answered(city, incident)
    await verify(city, incident)
    await respond(city, incident)
    await propose(city, incident)
    await close(city, incident)
    made = await of(city, DecisionMade, incident)
    assert [d.previous for d in made] == [None, *(d.decision_id for d in made[:-1])]
    assert len(made) >= 5
    await in_order(city)


async def test_all_at_once_blocks_nobody_and_leaves_everything_in_order(city: City) -> None:
    hours = [NIGHT - n * 2 * HOUR for n in range(4)]
    ids = [await reported(city, received("FIRE", occurred_at=hour)) for hour in hours]
    both = await reported(city, *(received(subject=f"cam-bien-{n}") for n in range(3)))
    city.clock.set(NIGHT + 40 * MINUTE)

    async def later(number: int) -> None:
        event = received("FIRE", occurred_at=hours[number % 4], received_at=NIGHT, subject=f"nguon-{number}")
        await on_reports(city.escalation, [event])

    async with city.another() as other:
        doing: list[Awaitable[Any]] = [later(n) for n in range(8)]
        doing += [pass_deadlines(c.escalation) for c in (city, other) for _ in range(3)]
        doing += [commands.merge(city.escalation, a, DESK, WHY, b) for a, b in pairwise(ids)]
        doing += [verify(other, i) for i in ids] + [dismiss(city, ids[3]), split(other, both), reopen(city, ids[3])]
        doing += [acknowledge(other.escalation, both, holder) for holder in (HERE, SECRETARY_HERE, DESK)]
        done = await asyncio.gather(*doing, return_exceptions=True)
    assert [d for d in done if isinstance(d, Exception) and not isinstance(d, Problem)] == []
    assert await city.one("SELECT count(*) FROM escalation.report") == 15
    await in_order(city)


# --- over HTTP ---


@pytest.fixture(scope="module")
async def house(template: Template) -> AsyncGenerator[WholeCity]:
    async with whole_city_in(template) as made:
        yield made


REASON = {"reason": WHY}


async def posted(house: WholeCity, incident: str, path: str, body: dict[str, Any], by: Principal | Role) -> Response:
    return await house.post(f"/escalation/v1/incidents/{incident}/{path}", by, json=body)


async def test_a_command_answers_201_and_200_with_where_the_incident_stands(house: WholeCity) -> None:
    incident = await reported(house, received("EXPLOSION", unit=BA_DINH))
    body = REASON | {"verdict": "confirmed", "firecrackers_exploded": True}
    answers = [await posted(house, incident, "verifications", body, "desk") for _ in range(2)]
    assert [a.status_code for a in answers] == [201, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json() | {"decision_id": ""} == {
        "incident": incident,
        "state": "notified",
        "outcome": "applies",
        "standing": "confirmed",
        "severity": None,
        "decision_id": "",
        "new_incident": None,
    }


async def test_a_false_report_is_dismissed_by_a_verification(house: WholeCity) -> None:
    incident = await reported(house, received(unit=NGOC_TRAO))
    answer = await posted(house, incident, "verifications", REASON | {"verdict": "false"}, "desk")
    assert (answer.status_code, answer.json()["state"]) == (201, "dismissed")


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("verifications", {"verdict": "confirmed"}, "#/reason"),
        ("verifications", REASON | {"verdict": "maybe"}, "#/verdict"),
        ("verifications", REASON | {"verdict": "confirmed", "category": "PARADE"}, "#/category"),
        ("verifications", REASON | {"verdict": "confirmed", "so": 1}, "#/so"),
        ("closures", {"reason": "   "}, "#/reason"),
        ("severity", REASON | {"harm": {"deaths": -1}}, "#/harm/deaths"),
        ("splits", REASON | {"reports": []}, "#/reports"),
        ("handoffs", REASON | {"to": "unit"}, "#/unit"),
        ("handoffs", REASON | {"to": "court"}, "#/to"),
    ],
)
async def test_a_wrong_body_is_refused_with_what_is_wrong(
    house: WholeCity, path: str, body: dict[str, Any], pointer: str
) -> None:
    incident = await reported(house, received("FIRE"))
    answer = await posted(house, incident, path, body, "desk")
    assert answer.status_code == 422
    assert [e["pointer"] for e in answer.json()["errors"]] == [pointer]


async def test_a_refusal_over_http_gives_the_reason(house: WholeCity) -> None:
    incident = await reported(house, received("FIRE"))
    by_ward = await posted(house, incident, "closures", REASON, HERE)
    too_early = await posted(house, incident, "closures", REASON, "desk")
    assert (by_ward.status_code, too_early.status_code) == (403, 409)
    assert "the city confirms" in by_ward.json()["detail"]
    assert "not determined" in too_early.json()["detail"]


async def test_a_receipt_follows_its_report_into_the_incident_that_took_it(house: WholeCity) -> None:
    ids: list[str] = []
    receipts: list[str] = []
    for hour in ("20", "22"):
        body = {
            "report_id": f"tin-bao-hop-{hour}",
            "category": "FIRE",
            "ward": "Đông Thọ",
            "occurred_at": f"2023-01-21T{hour}:00:00+07:00",
        }
        answer = await house.post("/intake/v1/reports", "desk", json=body)
        receipts.append(answer.json()["receipt"])
        await house.settle()
        ids.append((await house.get(f"/intake/v1/receipts/{receipts[-1]}")).json()["incident"]["id"])
    answer = await posted(house, ids[1], "merges", REASON | {"into": ids[0]}, "desk")
    assert answer.json()["state"] == "merged"
    await house.settle()
    assert (await house.get(f"/intake/v1/receipts/{receipts[1]}")).json()["incident"]["id"] == ids[0]
