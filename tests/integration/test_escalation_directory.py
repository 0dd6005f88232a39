"""The directory in two times: what was so, and what was known; and files that change it, as a whole or not at all."""

import asyncio
from datetime import date, timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from services.escalation.application.adopt_rulebooks import adopt_rulebooks, packaged_rulebooks
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.import_directory import import_directory, import_wards
from services.escalation.application.record_directory import ImportSummary
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.directory.model import Contact
from services.escalation.domain.rules.rulebook import RulebookError
from services.escalation.store import directory
from shared.events import (
    ContactRecorded,
    DecisionMade,
    RosterRecorded,
    TenureRecorded,
    UnitRecorded,
    UnitRef,
    encode,
)
from tests.integration.escalation_support import City, decisions_that_differ_when_computed_again
from tests.integration.stored.looking import decisions_as_stored, directory_and_what_followed, stored
from tests.integration.stored.records import Rulebook, Tenure, Unit
from tests.support import BA_DINH, CHAIR, NIGHT, SAMPLES, SECRETARY, SINCE, at, received, rulebook, tenure

HEAD = "unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,valid_to,document,channel,sample\n"
LATE = "14776,2021-02-01,chair,mau-moi,Chủ tịch UBND phường Ba Đình (mẫu 2),2023-01-20,,QĐ mẫu số 9,outbox://mau-moi,true\n"
"""A chair of Ba Đình from 20 January 2023, whose appointment the office enters days later."""
WARDS = "code,valid_from,name,type,valid_to,successors,legal_act\n"
DONG_HAI = "14797,2021-02-01,Đông Hải,phường,2025-07-01,14797/2025-07-01,Nghị quyết mẫu số 1\n"
HAC_THANH = "14797,2025-07-01,Hạc Thành,phường,,,\n"
"""The code was Đông Hải's until then."""
REFORM = date(2025, 7, 1)


async def imported(city: City, *lines: str, keep_going: bool = False) -> ImportSummary:
    return await import_directory(city.escalation, (HEAD + "".join(lines)).encode(), keep_going=keep_going)


async def chairs(city: City, as_of: str, known_at: str) -> list[str]:
    """Who was chair of Ba Đình at `as_of`, as it was known at `known_at`."""
    async with city.escalation.database.connect() as connection:
        found = await directory.tenures(
            connection, at(known_at), units=[(BA_DINH.code, BA_DINH.valid_from)], as_of=at(as_of)
        )
    return [t.holder_id for t in found if t.post == CHAIR]


async def contacts(city: City, holder: str) -> tuple[Contact, ...]:
    async with city.escalation.database.connect() as connection:
        return (await directory.contacts(connection, {holder})).get(holder, ())


# --- an appointment that is entered late ---


async def test_a_late_entry_is_true_for_its_time_and_known_only_since_it_was_made(city: City) -> None:
    city.clock.set(at("2023-01-25 09:00"))
    assert (await imported(city, LATE)).recorded == 1
    before, after = "2023-01-25 08:59", "2023-01-25 09:01"
    assert await chairs(city, "2023-01-22 12:00", before) == ["mau-14776-chu-tich"]
    assert await chairs(city, "2023-01-22 12:00", after) == ["mau-moi"]
    assert await chairs(city, "2023-01-19 23:59", after) == ["mau-14776-chu-tich"]
    assert await chairs(city, "2023-01-20 00:00", after) == ["mau-moi"]


async def test_a_late_entry_leaves_old_decisions_as_they_were_and_makes_a_new_one(city: City) -> None:
    await route_reports(city.escalation, [received()])
    decided = await decisions_as_stored(city)
    city.clock.set(NIGHT + timedelta(minutes=2))
    await imported(city, LATE)
    assert await decisions_as_stored(city) == decided
    await fire_due_timers(city.escalation)
    first, second = (e for e in await city.events() if isinstance(e, DecisionMade))
    assert second.data.previous == first.data.decision_id
    holders = [[p["accountable"]["holder_id"] for p in e.data.record["parties"]] for e in (first, second)]  # type: ignore[index,call-overload]
    assert holders == [["mau-14776-bi-thu", "mau-14776-chu-tich"], ["mau-14776-bi-thu", "mau-moi"]]
    assert await city.told() == [
        "mau-14776-bi-thu:accountable",
        "mau-14776-chu-tich:accountable",
        "mau-moi:accountable",
    ]
    assert not await decisions_that_differ_when_computed_again(city), "each with what was known when it was made"


async def test_what_a_late_entry_superseded_stays_on_record_with_what_replaced_it(city: City) -> None:
    city.clock.set(at("2023-01-25 09:00"))
    await imported(city, LATE)
    chairs_ = await stored(city, Tenure, unit_code="14776", post=CHAIR)
    assert [(t.holder_id, t.valid_to, t.superseded_at is not None) for t in chairs_] == [
        ("mau-14776-chu-tich", None, True),
        ("mau-14776-chu-tich", at("2023-01-20 00:00"), False),
        ("mau-moi", None, False),
    ]
    recorded = [e.data for e in await city.events() if isinstance(e, TenureRecorded)]
    assert [(d.holder_id, d.supersedes is not None) for d in recorded] == [
        ("mau-14776-chu-tich", True),
        ("mau-moi", False),
    ]


async def test_two_holders_of_one_post_at_once_are_refused_by_the_database_itself(city: City) -> None:
    second = tenure(CHAIR, "mau-thu-hai", "2023-01-10 00:00", "2023-01-12 00:00")
    with pytest.raises(IntegrityError, match="tenure_one_holder"):
        async with city.escalation.database.begin() as connection:
            await directory.add_tenures(connection, [second])


async def test_two_deputies_of_one_post_at_once_are_refused_by_the_database_itself(city: City) -> None:
    deputies = [
        tenure(CHAIR, f"mau-pho-{n}", "2023-01-10 00:00", "2023-01-12 00:00").model_copy(update={"capacity": "deputy"})
        for n in range(2)
    ]
    async with city.escalation.database.begin() as connection:
        await directory.add_tenures(connection, deputies[:1])
    with pytest.raises(IntegrityError, match="tenure_one_holder"):
        async with city.escalation.database.begin() as connection:
            await directory.add_tenures(connection, deputies[1:])


async def test_a_code_that_was_used_again_is_another_unit_with_a_holder_of_its_own(city: City) -> None:
    await import_wards(city.escalation, (WARDS + DONG_HAI + HAC_THANH).encode())
    line = "14797,2025-07-01,chair,mau-hac-thanh,Chủ tịch (mẫu),2023-01-01,,QĐ mẫu số 9,outbox://hac-thanh,true\n"
    assert not (await imported(city, line)).errors
    async with city.escalation.database.connect() as connection:
        found = await directory.tenures(connection, city.clock.now(), as_of=at("2023-01-20 00:00"))
    units = {t.unit.valid_from: t.holder_id for t in found if t.unit.code == "14797" and t.post == CHAIR}
    assert units == {SINCE: "mau-14797-chu-tich", date(2025, 7, 1): "mau-hac-thanh"}


# --- files, as a whole or not at all ---


async def test_the_same_files_again_record_nothing_and_tell_nobody(city: City) -> None:
    before = await directory_and_what_followed(city)
    for name, run in (("wards", import_wards), ("directory", import_directory)):
        again = await run(city.escalation, (SAMPLES / f"{name}.csv").read_bytes())
        assert (again.recorded, list(again.errors)) == (0, [])
    assert await directory_and_what_followed(city) == before


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("99999,2021-02-01,chair,mau-x,(mẫu),2023-01-20,,QĐ,,true\n", "unit 99999 of 2021-02-01 is unknown"),
        ("14776,2021-02-01,mayor,mau-x,(mẫu),2023-01-20,,QĐ,,true\n", "post mayor is unknown"),
        ("14776,2021-02-01,chair,mau-x,(mẫu),hôm qua,,QĐ,,true\n", "valid_from"),
        (LATE.replace("mau-moi", "mau-x"), "overlaps line 2"),
    ],
)
async def test_one_bad_line_and_nothing_is_recorded_unless_the_good_ones_are_wanted(
    city: City, line: str, detail: str
) -> None:
    before = await directory_and_what_followed(city)
    refused = await imported(city, LATE, line)
    assert (refused.lines, refused.recorded) == (2, 0)
    ((number, text),) = ((e.line, e.detail) for e in refused.errors)
    assert number == 3
    assert detail in text
    assert await directory_and_what_followed(city) == before
    kept = await imported(city, LATE, line, keep_going=True)
    assert (kept.lines, kept.recorded, len(kept.errors)) == (2, 1, 1)


async def test_a_ward_that_is_on_two_lines_is_an_error_and_not_a_crash(city: City) -> None:
    before = await directory_and_what_followed(city)
    refused = await import_wards(city.escalation, (WARDS + DONG_HAI + HAC_THANH * 2).encode())
    assert (refused.lines, refused.recorded, [e.line for e in refused.errors]) == (3, 0, [4])
    assert await directory_and_what_followed(city) == before
    kept = await import_wards(city.escalation, (WARDS + DONG_HAI + HAC_THANH * 2).encode(), keep_going=True)
    assert kept.recorded == 2


async def test_a_line_that_rests_on_a_bad_one_is_not_recorded_either(city: City) -> None:
    bad = HAC_THANH.replace("phường", "quận")
    kept = await import_wards(city.escalation, (WARDS + DONG_HAI + bad).encode(), keep_going=True)
    assert (kept.recorded, [e.line for e in kept.errors]) == (0, [2, 3])


async def test_a_ward_that_ended_is_recorded_anew_and_its_old_record_stays(city: City) -> None:
    assert (await import_wards(city.escalation, (WARDS + DONG_HAI + HAC_THANH).encode())).recorded == 2
    assert [(u.name, u.valid_to, u.superseded_at is None) for u in await stored(city, Unit, code="14797")] == [
        ("Đông Hải", None, False),
        ("Đông Hải", date(2025, 7, 1), True),
        ("Hạc Thành", None, True),
    ]
    told = [e.data for e in await city.events() if isinstance(e, UnitRecorded)]
    hac_thanh = UnitRef(code="14797", valid_from=REFORM, name="Hạc Thành")
    assert [(d.unit, d.valid_to, d.successors, d.legal_act) for d in told] == [
        (UnitRef(code="14797", valid_from=SINCE, name="Đông Hải"), REFORM, (hac_thanh,), "Nghị quyết mẫu số 1"),
        (hac_thanh, None, (), None),
    ]


async def test_the_old_wards_file_again_does_not_raise_ended_wards_from_the_dead(city: City) -> None:
    await import_wards(city.escalation, (WARDS + DONG_HAI + HAC_THANH).encode())
    before = await directory_and_what_followed(city)
    again = await import_wards(city.escalation, (SAMPLES / "wards.csv").read_bytes())
    assert (again.recorded, again.unchanged, list(again.errors)) == (0, 34, [])
    assert await directory_and_what_followed(city) == before


async def test_the_same_file_by_two_people_at_once_is_recorded_once(city: City) -> None:
    async with city.another() as other:
        both = await asyncio.gather(imported(city, LATE), imported(other, LATE))
    assert sorted(i.recorded for i in both) == [0, 1]
    assert len(await stored(city, Tenure, holder_id="mau-moi")) == 1


# --- contacts ---


async def test_a_new_channel_takes_the_place_of_the_old_one_and_the_event_tells_its_scheme_only(city: City) -> None:
    await imported(city, LATE)
    city.clock.set(NIGHT + timedelta(minutes=1))
    await imported(city, LATE.replace("outbox://mau-moi", "json://mat-khau@gateway.example/0912000001"))
    assert await contacts(city, "mau-moi") == (Contact("json://mat-khau@gateway.example/0912000001"),)
    recorded = [e for e in await city.events() if isinstance(e, ContactRecorded)]
    assert [(e.data.channel, e.data.withdrawn) for e in recorded] == [
        ("outbox", False),
        ("outbox", True),
        ("json", False),
    ]
    assert not any(b"mat-khau" in encode(e) or b"0912000001" in encode(e) for e in recorded)


async def test_going_back_to_an_earlier_channel_is_possible(city: City) -> None:
    for minute, channel in enumerate(("outbox://a", "outbox://b", "outbox://a")):
        city.clock.set(NIGHT + timedelta(minutes=minute))
        await imported(city, LATE.replace("outbox://mau-moi", channel))
    assert await contacts(city, "mau-moi") == (Contact("outbox://a"),)


# --- deputies, rosters, and all at once ---


async def test_a_deputy_is_recorded_beside_the_holder_with_the_reason(city: City) -> None:
    head = HEAD.replace("\n", ",capacity,reason\n")
    line = LATE.replace(",true\n", ",true,deputy,nghỉ phép\n").replace("2023-01-20,,", "2023-01-20,2023-01-30,")
    assert (await import_directory(city.escalation, (head + line).encode())).recorded == 1
    assert await chairs(city, "2023-01-22 12:00", "2023-01-22 12:00") == ["mau-14776-chu-tich", "mau-moi"]
    (event,) = (e.data for e in await city.events() if isinstance(e, TenureRecorded))
    assert (event.capacity, event.reason, event.supersedes) == ("deputy", "nghỉ phép", None)


async def test_who_never_was_chair_is_taken_back_with_an_event(city: City) -> None:
    await imported(city, LATE)
    head = HEAD.replace("\n", ",withdrawn\n")
    line = LATE.replace(",true\n", ",true,true\n")
    assert (await import_directory(city.escalation, (head + line).encode())).recorded == 1
    assert await chairs(city, "2023-01-22 12:00", "2023-01-22 12:00") == []
    assert await chairs(city, "2023-01-19 12:00", "2023-01-22 12:00") == ["mau-14776-chu-tich"]
    *_, last = (e.data for e in await city.events() if isinstance(e, TenureRecorded))
    assert (last.holder_id, last.withdrawn, last.supersedes) == ("mau-moi", True, last.tenure_id)


TURNS = "level,unit_code,unit_valid_from,holder_id,holder_name,valid_from,valid_to,document,channel,withdrawn\n"
DESK_TURN = "desk,,,mau-truc-1,Trực ban (mẫu),2023-01-21 18:00,2023-01-22 06:00,Lịch trực Tết (mẫu),json://a,\n"
WARD_TURN = "ward,14776,2021-02-01,mau-truc-2,Trực (mẫu),2023-01-21 18:00,2023-01-22 06:00,Lịch trực Tết (mẫu),,\n"


async def test_a_roster_comes_with_an_event_for_each_turn_and_is_taken_back_turn_by_turn(city: City) -> None:
    file = (TURNS + DESK_TURN + WARD_TURN).encode()
    assert (await import_directory(city.escalation, file)).recorded == 2
    assert (await import_directory(city.escalation, file)).unchanged == 2
    withdrawn = (TURNS + DESK_TURN.replace(",\n", ",true\n")).encode()
    assert (await import_directory(city.escalation, withdrawn)).recorded == 1
    told = [e.data for e in await city.events() if isinstance(e, RosterRecorded)]
    assert [(d.holder_id, d.unit.code if d.unit else None, d.withdrawn) for d in told] == [
        ("mau-truc-1", None, False),
        ("mau-truc-2", "14776", False),
        ("mau-truc-1", None, True),
    ]
    assert await contacts(city, "mau-truc-1") == (Contact("json://a"),)


async def test_an_unknown_ward_in_a_roster_is_named_by_its_line(city: City) -> None:
    refused = await import_directory(
        city.escalation, (TURNS + DESK_TURN + WARD_TURN.replace("14776", "99999")).encode()
    )
    assert [(e.line, e.field) for e in refused.errors] == [(3, "unit_code")]


# --- what a transaction works with ---


async def test_what_is_loaded_is_of_the_units_and_of_all_that_took_their_place(city: City) -> None:
    later = "14797,2030-01-01,Hạc Thành Mới,phường,,,\n"
    ended = HAC_THANH.replace("phường,,,", "phường,2030-01-01,14797/2030-01-01,Nghị quyết mẫu số 2")
    assert not (await import_wards(city.escalation, (WARDS + DONG_HAI + ended + later).encode())).errors
    posts = "14797,2025-07-01,chair,mau-hac-thanh,(mẫu),2025-07-01,,QĐ mẫu số 9,outbox://hac-thanh,true\n"
    await imported(city, posts)
    await import_directory(city.escalation, (TURNS + DESK_TURN + WARD_TURN).encode())
    key = ("14797", SINCE)
    async with city.escalation.database.connect() as connection:
        found = await directory.load(connection, {key}, city.clock.now())
        ba_dinh = await directory.load(connection, {(BA_DINH.code, BA_DINH.valid_from)}, city.clock.now())
        nothing = await directory.load(connection, set(), at("2023-01-22 06:00"))
    assert sorted(found.units) == [key, ("14797", REFORM), ("14797", date(2030, 1, 1))]
    assert found.units[key].ends_at == at("2025-07-01 00:00")
    assert [(t.post, t.holder_id) for t in found.tenures] == [
        (CHAIR, "mau-14797-chu-tich"),
        (CHAIR, "mau-hac-thanh"),
        (SECRETARY, "mau-14797-bi-thu"),
    ]
    assert [d.holder_id for d in found.duties] == ["mau-truc-1"], "the desk's, and no other ward's"
    assert found.contacts["mau-truc-1"] == (Contact("json://a"),)
    assert set(found.contacts) == {"mau-14797-chu-tich", "mau-14797-bi-thu", "mau-hac-thanh", "mau-truc-1"}
    assert {d.holder_id for d in ba_dinh.duties} == {"mau-truc-1", "mau-truc-2"}
    assert (nothing.tenures, nothing.duties, nothing.units) == ((), (), {}), "that turn is over"


# --- rulebooks ---


async def test_a_rulebook_is_adopted_once_however_many_processes_start(city: City) -> None:
    newer = rulebook(("2023-01-06.1", "2023-06-01"), ("2023-01-06T00:00:00", "2023-06-01T00:00:00"))
    async with city.another() as other:
        adopted = await asyncio.gather(
            *(adopt_rulebooks(c.escalation, [*packaged_rulebooks(), newer]) for c in (city, other))
        )
    assert sorted(adopted) == [0, 1]
    assert len(await stored(city, Rulebook)) == len(packaged_rulebooks()) + 1


async def test_an_adopted_version_never_changes(city: City) -> None:
    changed = rulebook(("window_minutes: 30", "window_minutes: 45"))
    with pytest.raises(RulebookError, match="an adopted version never changes, give the new text a new version"):
        await adopt_rulebooks(city.escalation, [changed])
    assert len(await stored(city, Rulebook)) == len(packaged_rulebooks())
