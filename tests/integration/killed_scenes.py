"""What a process of escalation may be about when it is killed: scenes, each with what leads to it."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import date, timedelta

from services.escalation.application import channel_tests, commands
from services.escalation.application.acknowledge import acknowledge, acknowledge_by_link
from services.escalation.application.adopt_rulebooks import adopt_rulebooks
from services.escalation.application.begin_shifts import begin_shifts
from services.escalation.application.escalation import Escalation
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.import_directory import import_directory, import_wards
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.directory.places import Place
from shared.events import Harm, ReportReceived, UnitRef
from shared.http.identity import Principal
from shared.http.problem import Problem
from tests.integration.directory_changes import appoint, end_unit, leave, on_duty
from tests.integration.escalation_support import City, route_all
from tests.integration.killing import Act
from tests.support import BA_DINH, CHAIR, DONG_THO, NIGHT, SECRETARY, received, rulebook

MINUTE = timedelta(minutes=1)
DESK = Principal("mau-truc-ban", "desk")
SECRETARY_HERE = Principal("mau-14776-bi-thu", "official", "14776", SECRETARY)
CHAIR_HERE = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
WHY = "Đã kiểm tra tại chỗ"
HEAD = "unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,valid_to,document,capacity,sample\n"
LATE = "14776,2021-02-01,chair,mau-moi,(mẫu),2023-01-20,,QĐ mẫu số 9,,true\n"
WARDS = "code,valid_from,name,type,valid_to,successors\n"
REFORM = "14758,2021-02-01,Đông Thọ,phường,2023-02-01,14758/2023-02-01\n14758,2023-02-01,Hàm Rồng,phường,,\n"
PARTS = (
    UnitRef(code="14758", valid_from=date(2023, 1, 22), name="Phần một (mẫu)"),
    UnitRef(code="14797", valid_from=date(2023, 1, 22), name="Phần hai (mẫu)"),
)

Scene = Callable[[City], Awaitable[Act]]
"""Brings a city to where something is to be done, and returns what."""
SCENES: dict[str, Scene] = {}


def scene(prepare: Scene) -> Scene:
    SCENES[prepare.__name__.replace("_", " ")] = prepare
    return prepare


async def reported(city: City, *events: ReportReceived) -> str:
    """Id of the incident of the first of these, or of one set-off."""
    given = list(events) or [received()]
    await route_reports(city.escalation, given)
    id_ = given[0].data.report_id
    return await city.one("SELECT incident_id FROM escalation.report WHERE report_id = :id", id=id_)


async def go(city: City, minutes: int) -> None:
    """Each due time until then is acted on when it falls due."""
    until = NIGHT + minutes * MINUTE
    while True:
        due = await city.one("SELECT min(due_at) FROM escalation.deadline WHERE state = 'pending'")
        if due is None or due >= until:
            break
        city.clock.set(max(due, city.clock.now()))
        await fire_due_timers(city.escalation)
    city.clock.set(until)


async def answered(city: City, incident: str) -> None:
    for holder in (SECRETARY_HERE, CHAIR_HERE):
        await acknowledge(city.escalation, incident, holder)


async def verified(city: City) -> str:
    incident = await reported(city)
    await commands.verify(city.escalation, incident, DESK, WHY)
    await answered(city, incident)
    return incident


# --- reports ---


@scene
async def reports_that_open_join_and_decide(city: City) -> Act:
    await reported(city)
    batch = [
        received(kind="officer", subject="cb-1", harm=Harm(deaths=1)),
        received(subject="cam-bien-1"),
        received("FIRE", unit=DONG_THO),
        received(unit=DONG_THO, exercise=True),
        received("FIRECRACKER_POSSESSION", kind="officer", subject="cb-1"),
    ]
    return lambda process: route_all(process, batch)


# --- acknowledgements ---


@scene
async def the_first_acknowledgement(city: City) -> Act:
    incident = await reported(city)
    return lambda process: acknowledge(process, incident, CHAIR_HERE)


@scene
async def the_last_acknowledgement(city: City) -> Act:
    incident = await reported(city)
    await go(city, 20)
    await acknowledge(city.escalation, incident, CHAIR_HERE)
    return lambda process: acknowledge(process, incident, SECRETARY_HERE)


@scene
async def an_acknowledgement_by_link(city: City) -> Act:
    await reported(city)
    notice = await city.one("SELECT notice_id FROM escalation.notice WHERE recipient = :id", id=CHAIR_HERE.subject)
    return lambda process: acknowledge_by_link(process, notice, CHAIR_HERE.subject)


@scene
async def an_acknowledgement_by_the_desk(city: City) -> Act:
    incident = await reported(city)
    await go(city, 20)
    return lambda process: acknowledge(process, incident, DESK)


# --- what falls due ---


@scene
async def the_reminders(city: City) -> Act:
    await reported(city)
    await go(city, 9)
    return fire_due_timers


@scene
async def the_step_to_the_desk(city: City) -> Act:
    await reported(city)
    await reported(city, received(unit=DONG_THO))
    await go(city, 15)
    return fire_due_timers


@scene
async def the_step_to_the_leadership(city: City) -> Act:
    await reported(city)
    await go(city, 30)
    return fire_due_timers


@scene
async def the_end_of_the_chain(city: City) -> Act:
    await reported(city)
    await go(city, 45)
    return fire_due_timers


@scene
async def an_overdue_review(city: City) -> Act:
    await reported(city, received("FIRE"))
    await go(city, 30)
    return fire_due_timers


@scene
async def an_acknowledgement_that_lapses(city: City) -> Act:
    await verified(city)
    await go(city, 360)
    return fire_due_timers


@scene
async def an_incident_that_ends_by_itself(city: City) -> Act:
    await reported(city, received("FIRECRACKER_POSSESSION", kind="officer", subject="cb-1"))
    await go(city, 4320)
    return fire_due_timers


@scene
async def a_change_of_hands(city: City) -> Act:
    await reported(city)
    await leave(city, CHAIR_HERE.subject, NIGHT + 5 * MINUTE)
    await appoint(city, "mau-moi", NIGHT + 5 * MINUTE)
    await fire_due_timers(city.escalation)
    await go(city, 5)
    return fire_due_timers


@scene
async def all_that_fell_due_in_an_outage(city: City) -> Act:
    await reported(city)
    await reported(city, received("FIRE", unit=DONG_THO))
    await on_duty(city, "mau-truc-dem", "desk")
    city.clock.set(NIGHT + 400 * MINUTE)
    return fire_due_timers


# --- commands ---


@scene
async def verify(city: City) -> Act:
    incident = await reported(city, received("FIRE"))
    return lambda process: commands.verify(process, incident, DESK, WHY, firecrackers_exploded=True)


@scene
async def dismiss(city: City) -> Act:
    incident = await reported(city)
    return lambda process: commands.dismiss(process, incident, DESK, WHY)


@scene
async def designate(city: City) -> Act:
    incident = await reported(city, received("CONGESTION", kind="officer", subject="cb-1"))
    return lambda process: commands.designate(process, incident, DESK, WHY, prominent=True)


@scene
async def revise(city: City) -> Act:
    incident = await reported(city)
    return lambda process: commands.revise(process, incident, DESK, WHY, Harm(deaths=2))


@scene
async def merge(city: City) -> Act:
    into = await reported(city)
    middle = await reported(city, received(occurred_at=NIGHT - 100 * MINUTE))
    first = await reported(city, received(occurred_at=NIGHT - 200 * MINUTE))
    await commands.merge(city.escalation, first, DESK, WHY, middle)
    return lambda process: commands.merge(process, middle, DESK, WHY, into)


@scene
async def split(city: City) -> Act:
    events = [received(subject=f"cam-bien-{n}") for n in range(3)]
    incident = await reported(city, *events)
    moved = [e.data.report_id for e in events[1:]]
    return lambda process: commands.split(process, incident, DESK, WHY, moved)


@scene
async def hand_off(city: City) -> Act:
    incident = await verified(city)
    return lambda process: commands.hand_off(process, incident, DESK, WHY)


@scene
async def reassign(city: City) -> Act:
    incident = await reported(city)
    await end_unit(city, PARTS)
    city.clock.set(NIGHT + 20 * MINUTE)
    await fire_due_timers(city.escalation)
    part = PARTS[1]
    return lambda process: commands.reassign(process, incident, DESK, WHY, (part.code, part.valid_from))


@scene
async def respond(city: City) -> Act:
    incident = await verified(city)
    return lambda process: commands.respond(process, incident, CHAIR_HERE, WHY)


@scene
async def escalate(city: City) -> Act:
    incident = await verified(city)
    return lambda process: commands.escalate(process, incident, CHAIR_HERE, WHY)


@scene
async def propose_closure(city: City) -> Act:
    incident = await verified(city)
    return lambda process: commands.propose_closure(process, incident, CHAIR_HERE, WHY)


@scene
async def close(city: City) -> Act:
    incident = await verified(city)
    return lambda process: commands.close(process, incident, DESK, WHY)


@scene
async def reopen(city: City) -> Act:
    incident = await verified(city)
    await commands.close(city.escalation, incident, DESK, WHY)
    return lambda process: commands.reopen(process, incident, DESK, WHY)


# --- channels and duty ---


@scene
async def the_start_of_a_test(city: City) -> Act:
    del city

    async def start(process: Escalation) -> None:
        with suppress(Problem):  # done before, it still runs
            await channel_tests.start(process, Principal("mau-admin", "admin"), Place("14776"))

    return start


@scene
async def the_confirmation_of_a_channel(city: City) -> Act:
    await channel_tests.start(city.escalation, Principal("mau-admin", "admin"), Place("14776"))
    notice = await city.one("SELECT notice_id FROM escalation.notice WHERE recipient = :id", id=CHAIR_HERE.subject)
    return lambda process: channel_tests.confirm(process, notice, CHAIR_HERE.subject)


@scene
async def the_beginning_of_a_turn(city: City) -> Act:
    await reported(city, received("FIRE"))
    await on_duty(city, "mau-truc-dem", "desk")
    return begin_shifts


# --- the directory ---


@scene
async def import_of_a_late_tenure(city: City) -> Act:
    await reported(city)
    return lambda process: import_directory(process, (HEAD + LATE).encode())


@scene
async def import_of_a_reform(city: City) -> Act:
    await reported(city, received(unit=DONG_THO))
    return lambda process: import_wards(process, (WARDS + REFORM).encode())


@scene
async def import_of_contacts(city: City) -> Act:
    lines = f"holder_id,channel,sample\n{CHAIR_HERE.subject},outbox://khac,true\n"
    return lambda process: import_directory(process, lines.encode())


@scene
async def adoption_of_a_rulebook(city: City) -> Act:
    book = rulebook(('version: "2023-01-06.1"', 'version: "2023-01-06.2"'))
    return lambda process: adopt_rulebooks(process, [book])


@scene
async def a_correction_of_time_and_ward(city: City) -> Act:
    await on_duty(city, "mau-truc", "ward", unit=BA_DINH)
    incident = await reported(city)
    await answered(city, incident)
    elsewhere = (DONG_THO.code, DONG_THO.valid_from)
    earlier = NIGHT - 5 * MINUTE
    return lambda process: commands.correct(process, incident, DESK, WHY, occurred_at=earlier, unit=elsewhere)


@scene
async def a_correction_to_an_exercise(city: City) -> Act:
    incident = await reported(city)
    await go(city, 20)
    return lambda process: commands.correct(process, incident, DESK, WHY, exercise=True)
