"""What people do about an incident, and what came of it, for tests of commands."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import orjson
import pytest

from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.command_context import CommandResult
from services.escalation.application.route_reports import route_reports
from shared.events import (
    Harm,
    ReportReceived,
    UnitRef,
)
from shared.http.identity import Principal
from shared.http.problem import Problem
from tests.integration.directory_changes import appoint, end_unit, leave
from tests.integration.escalation_support import (
    City,
    decisions_that_differ_when_computed_again,
    events_without_their_cause,
)
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Incident
from tests.support import CHAIR, NIGHT, SECRETARY, at, received

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
NO_LONGER = [told.replace("accountable", "stand_down") for told in ASKED]
AGAIN = [f"{h}:still_open" for h in HOLDERS]
NOTHING_BROKEN = Harm(deaths=0, injured=0, property_vnd=0)
PARTS = (
    UnitRef(code="14758", valid_from=date(2023, 1, 22), name="Phần một (mẫu)"),
    UnitRef(code="14797", valid_from=date(2023, 1, 22), name="Phần hai (mẫu)"),
)
THERE = Principal("mau-14758-chu-tich-moi", "official", "14758", CHAIR)
Act = Callable[[City, str, Principal], Awaitable[CommandResult]]


# --- doing things ---


async def reported(city: City, *events: ReportReceived) -> str:
    """Id of the incident of the last of these, or of one set-off."""
    given = list(events) or [received()]
    await route_reports(city.escalation, given)
    id_ = given[-1].data.report_id
    return await city.one("SELECT incident_id FROM escalation.report WHERE report_id = :id", id=id_)


async def answered(city: City, incident: str) -> None:
    for holder in (SECRETARY_HERE, HERE):
        await acknowledge(city.escalation, incident, holder)


async def verify(city: City, incident: str, by: Principal = DESK, **more: Any) -> CommandResult:
    return await commands.verify(city.escalation, incident, by, WHY, **more)


async def dismiss(city: City, incident: str, by: Principal = DESK) -> CommandResult:
    return await commands.dismiss(city.escalation, incident, by, WHY)


async def designate(city: City, incident: str, by: Principal = DESK, *, prominent: bool = True) -> CommandResult:
    return await commands.designate(city.escalation, incident, by, WHY, prominent=prominent)


async def revise(city: City, incident: str, by: Principal = DESK, **harm: int) -> CommandResult:
    return await commands.revise(city.escalation, incident, by, WHY, Harm(**(harm or {"deaths": 2})))


async def merge(city: City, incident: str, by: Principal = DESK) -> CommandResult:
    """Into the other incident of the test."""
    into = await city.one("SELECT min(incident_id) FROM escalation.incident WHERE incident_id <> :id", id=incident)
    return await commands.merge(city.escalation, incident, by, WHY, into)


async def split(city: City, incident: str, by: Principal = DESK) -> CommandResult:
    """Its last report, as it was at first."""
    sql = "SELECT report_id FROM escalation.report ORDER BY event_id DESC LIMIT 1"
    return await commands.split(city.escalation, incident, by, WHY, [await city.one(sql)])


async def hand_off(city: City, incident: str, by: Principal = DESK) -> CommandResult:
    return await commands.hand_off(city.escalation, incident, by, WHY)


async def reassign(city: City, incident: str, by: Principal = DESK, *, part: int = 0) -> CommandResult:
    unit = PARTS[part]
    return await commands.reassign(city.escalation, incident, by, WHY, (unit.code, unit.valid_from))


async def correct(city: City, incident: str, by: Principal = DESK, **holds: Any) -> CommandResult:
    """To five minutes earlier, unless it is said what holds."""
    return await commands.correct(city.escalation, incident, by, WHY, **(holds or {"occurred_at": NIGHT - 5 * MINUTE}))


async def respond(city: City, incident: str, by: Principal = HERE) -> CommandResult:
    return await commands.respond(city.escalation, incident, by, "Đã dập tắt")


async def escalate(city: City, incident: str, by: Principal = HERE) -> CommandResult:
    return await commands.escalate(city.escalation, incident, by, WHY)


async def propose(city: City, incident: str, by: Principal = HERE) -> CommandResult:
    return await commands.propose_closure(city.escalation, incident, by, WHY)


async def close(city: City, incident: str, by: Principal = DESK) -> CommandResult:
    return await commands.close(city.escalation, incident, by, WHY)


async def reopen(city: City, incident: str, by: Principal = DESK) -> CommandResult:
    return await commands.reopen(city.escalation, incident, by, WHY)


async def new_chair_at(city: City, when: datetime) -> None:
    """In place of the present one."""
    await leave(city, HERE.subject, when)
    await appoint(city, "mau-chu-tich-moi", when)


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


async def accountable(city: City, incident: str) -> dict[str, str | None]:
    """By post, who held it then."""
    parties = (await latest(city, incident))["parties"]
    return {p["post"]: (p.get("accountable") or {}).get("holder_id") for p in parties}


async def pending(city: City, incident: str) -> list[str]:
    rows = await city.rows(
        "SELECT kind FROM escalation.deadline WHERE incident_id = :id AND state = 'pending' ORDER BY 1", id=incident
    )
    return [row.kind for row in rows]


async def still_to_be_sent(city: City, incident: str) -> int:
    """Besides what tells people that an earlier notice no longer holds."""
    return await city.one(
        "SELECT count(*) FROM escalation.delivery JOIN escalation.notice USING (notice_id)"
        " WHERE incident_id = :id AND state IN ('queued', 'sending', 'failed') AND purpose <> 'stand_down'",
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
    for row in await stored(city, Incident):
        sequences = [e.data.sequence for e in await city.events(row.incident_id)]
        assert sequences == list(range(1, len(sequences) + 1))
        ended = not row.is_waited_for
        assert (await pending(city, row.incident_id) == []) == ended, row.state
        assert row.state == "handed_off" or not (ended and await still_to_be_sent(city, row.incident_id))
        assert (row.merged_into is not None) == (row.state == "merged")
    assert not await decisions_that_differ_when_computed_again(city)
    assert not await events_without_their_cause(city)


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
    "correct": (one_fire, correct, DESK),
    "respond": (acknowledged, respond, HERE),
    "respond by the desk": (acknowledged, respond, DESK),
    "escalate": (acknowledged, escalate, HERE),
    "escalate by the desk": (one_fire, escalate, DESK),
    "propose closure": (acknowledged, propose, HERE),
    "close": (verified, close, DESK),
    "reopen": (dismissed, reopen, DESK),
}
each_command = pytest.mark.parametrize(("before", "act", "by"), COMMANDS.values(), ids=COMMANDS)
CITYS = ("verify", "dismiss", "designate", "merge", "split", "hand off", "reassign", "correct", "close", "reopen")
each_of_the_city = pytest.mark.parametrize(("before", "act"), [COMMANDS[name][:2] for name in CITYS], ids=CITYS)
