"""The past of the directory stays what it was known to be, and a dry run tells what the real run then does."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.application.import_directory import import_directory, import_wards
from services.escalation.application.record_directory import record
from services.escalation.domain.directory.schemas import RequestedChanges, Tables
from services.escalation.store import directory
from shared.clock import Clock
from tests.integration.escalation_support import City
from tests.integration.stored.looking import directory_and_what_followed, stored
from tests.integration.stored.records import Tenure
from tests.support import NIGHT, SAMPLES, at, depth
from tests.unit.escalation.drawn_rows import files

DAYS = tuple(at(f"{day} 12:00") for day in ("2022-12-01", "2022-12-15", "2023-01-09", "2023-01-21", "2023-03-01"))
DUTY = at("2023-01-21 20:00")


async def imported(city: City, tables: Tables, *, dry_run: bool = False) -> Any:
    return await record(city.escalation, RequestedChanges(tables, len(tables)), dry_run=dry_run)


async def known(city: City, known_at: datetime) -> list[Any]:
    """What was so on each of DAYS, as it was known at `known_at`."""
    async with city.escalation.database.connect() as connection:
        shown: list[Any] = []
        for day in (*DAYS, DUTY):
            held = await directory.tenures(connection, known_at, as_of=day)
            turns = await directory.duties(connection, known_at, as_of=day)
            of_ba_dinh = [t for t in held if t.unit.code == "14776"]
            shown += [t.model_dump(exclude={"superseded_at"}) for t in (*of_ba_dinh, *turns)]
        shown += [tuple(row)[:5] for row in await directory.contacts_known(connection, known_at)]
        shown += [tuple(row)[:5] for row in await directory.units_known(connection, known_at, DAYS[0].date())]
    return sorted(shown, key=str)


@depth(ci=15, full=200)
@given(st.lists(files, min_size=1, max_size=4))
async def test_whatever_is_imported_later_what_was_known_at_an_earlier_time_is_answered_as_it_was_then(
    shared_city: City, imports: Sequence[Tables]
) -> None:
    await shared_city.emptied()
    shared_city.clock.set(NIGHT)
    answers: list[tuple[datetime, list[Any]]] = [(NIGHT, await known(shared_city, NIGHT))]
    for n, tables in enumerate(imports, 1):
        shared_city.clock.set(NIGHT + timedelta(minutes=n))
        await imported(shared_city, tables)  # the constraint of one holder a post would raise
        now = shared_city.clock.now()
        answers.append((now, await known(shared_city, now)))
        for known_at, answer in answers:
            assert await known(shared_city, known_at) == answer


@depth(ci=10, full=200)
@given(st.lists(files, min_size=1, max_size=3))
async def test_a_dry_run_changes_nothing_and_says_what_the_real_run_then_does(
    shared_city: City, imports: Sequence[Tables]
) -> None:
    await shared_city.emptied()
    shared_city.clock.set(NIGHT)
    for n, tables in enumerate(imports, 1):
        shared_city.clock.set(NIGHT + timedelta(minutes=n))
        before = await directory_and_what_followed(shared_city)
        told = await imported(shared_city, tables, dry_run=True)
        assert await directory_and_what_followed(shared_city) == before
        done = await imported(shared_city, tables)
        assert replace(told, dry_run=False) == done
        assert (await directory_and_what_followed(shared_city) == before) is (done.recorded == 0)
        assert not (await imported(shared_city, tables)).recorded, "a second time it changes nothing"


async def test_a_dry_run_of_a_file_tells_its_errors_and_what_it_would_change(city: City) -> None:
    before = await directory_and_what_followed(city)
    head = "unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,document\n"
    line = "14776,2021-02-01,chair,mau-moi,(mẫu),2023-01-20,QĐ mẫu số 9\n"
    file = (head + line + line.replace("14776", "99999")).encode()
    told = await import_directory(city.escalation, file, dry_run=True, keep_going=True)
    assert [e.line for e in told.errors] == [3]
    assert [(d.change, d.record["holder_id"], list(d.became)) for d in told.differences] == [
        ("added", "mau-moi", []),
        ("superseded", "mau-14776-chu-tich", [{"valid_to": (None, "2023-01-20")}]),
    ]
    assert await directory_and_what_followed(city) == before


@pytest.mark.parametrize("backwards", [timedelta(0), timedelta(seconds=-5), timedelta(days=-3)])
async def test_a_clock_that_went_back_records_after_what_is_recorded(city: City, backwards: timedelta) -> None:
    head = "unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,document\n"
    for n, ahead in enumerate((timedelta(0), backwards, 2 * backwards)):
        city.clock.set(NIGHT + ahead)
        line = f"14776,2021-02-01,chair,mau-{n},(mẫu),2023-01-20,QĐ mẫu số 9\n"
        assert (await import_directory(city.escalation, (head + line).encode())).recorded == 1
    assert all(t.recorded_at < t.superseded_at for t in await stored(city, Tenure) if t.superseded_at is not None)


async def test_replicas_whose_clocks_differ_answer_alike_what_all_of_their_clocks_have_passed(city: City) -> None:
    """The one behind records after the one ahead; and what is known at a time that both have passed stays known."""
    head = "unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,valid_to,document,channel,sample\n"
    behind = replace(city.escalation, clock=Clock(NIGHT - timedelta(seconds=2)))
    answers: list[tuple[datetime, list[Any]]] = []
    for n, replica in enumerate((city.escalation, behind, behind, city.escalation, behind)):
        passed = min(city.clock.now(), behind.clock.now())
        answers.append((passed, await known(city, passed)))
        line = f"14776,2021-02-01,chair,mau-{n},(mẫu),2023-01-20,,QĐ mẫu số 9,outbox://mau-{n},true\n"
        assert (await import_directory(replica, (head + line).encode())).recorded == 1
        for known_at, answer in answers:
            assert await known(city, known_at) == answer
    entered = {f"mau-{n}" for n in range(5)}
    late = [t for t in await stored(city, Tenure) if t.holder_id in entered]
    times = [t.recorded_at for t in sorted(late, key=lambda t: t.holder_id)]
    assert times == sorted(times)


async def test_wards_may_be_tried_first_too(city: City) -> None:
    ended = "code,valid_from,name,type,valid_to\n14776,2021-02-01,Ba Đình,phường,2025-07-01\n"
    before = await directory_and_what_followed(city)
    told = await import_wards(city.escalation, ended.encode(), dry_run=True)
    (difference,) = told.differences
    assert difference.became == ({"valid_to": (None, "2025-07-01")},)
    assert [n.detail for n in told.notes] == [
        "unit 14776 of 2021-02-01 ends without a successor: nobody acts for what is open there"
    ]
    assert await directory_and_what_followed(city) == before


async def test_the_sample_again_differs_in_nothing(city: City) -> None:
    for name, run in (("wards", import_wards), ("directory", import_directory)):
        again = await run(city.escalation, (SAMPLES / f"{name}.csv").read_bytes(), dry_run=True)
        assert (again.recorded, again.unchanged, list(again.differences)) == (0, again.lines, [])
