"""What recording rows adds to the directory and what it supersedes."""

from collections.abc import Sequence
from datetime import date, time

from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.directory.diff import (
    Plan,
    Reach,
    changes_of_tenures,
    changes_of_units,
    plan_contacts,
    plan_rosters,
    plan_tenures,
    plan_units,
    shown_reach,
    shown_tenure,
    tenure_of,
)
from services.escalation.domain.directory.differences import differences
from services.escalation.domain.directory.model import Contact, Tenure, day_start, overlap
from services.escalation.domain.directory.schemas import ContactRow, Tables, TenureRow, UnitRow
from tests.support import SECRETARY, SINCE, at, new_id
from tests.unit.escalation.drawn_rows import UNITS, days, files, row, turn

NOW = at("2023-01-25 09:00")


def planned(recorded: Sequence[Tenure], *rows: TenureRow) -> Plan[Tenure]:
    return plan_tenures(list(enumerate(rows)), UNITS, recorded, NOW, new_id)


def after(recorded: Sequence[Tenure], plan: Plan[Tenure]) -> list[Tenure]:
    gone = {e.old.tenure_id for e in plan.ended}
    return [t for t in recorded if t.tenure_id not in gone] + plan.recorded


def held(*rows: TenureRow) -> list[Tenure]:
    return [tenure_of(r, UNITS[r.unit_key], new_id(), at("2021-02-01 00:00")) for r in rows]


def times(tenures: Sequence[Tenure]) -> list[tuple[str, str, str | None]]:
    found = sorted(tenures, key=lambda t: (t.valid_from, t.holder_id))
    shown = [shown_tenure(t) for t in found]
    return [(s["holder_id"], s["valid_from"], s["valid_to"]) for s in shown]


# --- tenures ---


def test_a_late_handover_cuts_the_tenure_of_who_left() -> None:
    old = held(row())
    plan = planned(old, row("mau-2", "2023-01-20"))
    assert times(after(old, plan)) == [("mau-1", "2021-02-01", "2023-01-20"), ("mau-2", "2023-01-20", None)]


def test_a_holder_leaves_without_a_successor_by_the_same_tenure_with_an_end() -> None:
    old = held(row())
    assert times(after(old, planned(old, row(end="2023-01-20")))) == [("mau-1", "2021-02-01", "2023-01-20")]


def test_a_tenure_that_never_was_is_taken_back_and_leaves_the_others() -> None:
    old = held(row(end="2023-01-20"), row("mau-2", "2023-01-20"))
    plan = planned(old, row("mau-2", "2023-01-20", withdrawn=True))
    assert times(after(old, plan)) == [("mau-1", "2021-02-01", "2023-01-20")]
    assert not planned(after(old, plan), row("mau-2", "2023-01-20", withdrawn=True)).places, (
        "a second time says nothing"
    )


def test_a_deputy_leaves_the_holder_as_they_are() -> None:
    old = held(row())
    plan = planned(old, row("mau-2", "2023-01-20", "2023-01-30", capacity="deputy", reason="nghỉ phép"))
    assert not plan.ended
    assert [t.capacity for t in after(old, plan)] == ["holder", "deputy"]


def test_a_row_that_says_what_is_recorded_changes_nothing() -> None:
    old = held(row(), row(post=SECRETARY))
    assert not planned(old, row(), row(post=SECRETARY)).places


def test_another_document_takes_the_place_of_the_first_record() -> None:
    old = held(row())
    (difference,) = differences("tenure", planned(old, row(document="QĐ mẫu số 2")), shown_tenure)
    assert difference.change == "superseded"
    assert difference.became == ({"document": ("QĐ mẫu số 1", "QĐ mẫu số 2")},)


def test_a_handover_is_shown_as_who_came_and_what_became_of_who_was_there() -> None:
    old = held(row())
    added, superseded = differences("tenure", planned(old, row("mau-2", "2023-01-20")), shown_tenure)
    assert (added.change, added.record["holder_id"]) == ("added", "mau-2")
    assert superseded.record["holder_id"] == "mau-1"
    assert superseded.became == ({"valid_to": (None, "2023-01-20")},)


tenure_files = files.map(lambda tables: [row for _, row in tables.tenures])


@given(st.lists(tenure_files, min_size=1, max_size=4))
def test_after_any_files_a_post_has_one_holder_and_one_deputy_at_a_time(imports: list[list[TenureRow]]) -> None:
    recorded: list[Tenure] = []
    for rows in imports:
        recorded = after(recorded, planned(recorded, *rows))
        for n, one in enumerate(recorded):
            assert one.valid_to is None or one.valid_from < one.valid_to
            for other in recorded[:n]:
                assert (one.post, one.capacity) != (other.post, other.capacity) or not overlap(one, other)


@given(tenure_files, tenure_files)
def test_what_a_file_says_is_so_after_it_and_a_second_time_it_changes_nothing(
    before: list[TenureRow], rows: list[TenureRow]
) -> None:
    recorded = after([], planned([], *before))
    result = after(recorded, planned(recorded, *rows))
    said = {(r.post, r.capacity, r.holder_id, r.valid_from, r.valid_to) for r in rows if not r.withdrawn}
    assert said <= {(*(getattr(t, n) for n in ("post", "capacity", "holder_id")), *_days(t)) for t in result}
    assert not planned(result, *rows).places


def _days(tenure: Tenure) -> tuple[date, date | None]:
    return (tenure.valid_from.date(), tenure.valid_to.date() if tenure.valid_to else None)


@given(tenure_files, tenure_files, days)
def test_who_answers_on_a_day_changes_only_if_the_day_lies_in_a_changed_span(
    before: list[TenureRow], rows: list[TenureRow], day: date
) -> None:
    recorded = after([], planned([], *before))
    plan = planned(recorded, *rows)
    instant = day_start(day)

    def answering(tenures: Sequence[Tenure]) -> set[tuple[str, str, str]]:
        known = [t.model_copy(update={"recorded_at": instant}) for t in tenures]
        return {
            (t.post, t.holder_id, t.document) for t in known if t.capacity == "holder" and t.covers(instant, instant)
        }

    changed = any(
        start <= instant and (end is None or instant < end)
        for change in changes_of_tenures(plan)
        for start, end in change.occurred
    )
    assert changed is (answering(recorded) != answering(after(recorded, plan)))


def test_a_deputy_changes_who_is_told_and_not_who_answered_then() -> None:
    plan = planned(held(row()), row("mau-2", "2023-01-20", "2023-01-30", capacity="deputy"))
    (change,) = changes_of_tenures(plan)
    assert change.occurred == ()
    assert change.boundaries == (at("2023-01-20 00:00"), at("2023-01-30 00:00"))


# --- units ---


def test_a_unit_that_ends_is_recorded_anew_and_its_end_is_a_boundary() -> None:
    ending = UnitRow(code="14776", valid_from=SINCE, name="Ba Đình", type="phường", valid_to=date(2025, 7, 1))
    plan = plan_units([(2, ending)], UNITS)
    assert [e.old for e in plan.ended] == list(UNITS.values())
    (change,) = changes_of_units(plan)
    assert change.boundaries == (at("2025-07-01 00:00"),)
    assert change.occurred == ((at("2025-07-01 00:00"), None),)


# --- rosters ---


def test_turns_are_added_beside_one_another_and_the_same_turn_is_one() -> None:
    first = plan_rosters([(0, turn()), (1, turn("mau-2"))], (), NOW, new_id)
    assert [d.holder_id for d in first.recorded] == ["mau-1", "mau-2"]
    again = plan_rosters([(0, turn()), (1, turn("mau-3"))], first.recorded, NOW, new_id)
    assert ([d.holder_id for d in again.recorded], again.ended) == (["mau-3"], [])


def test_a_turn_is_taken_back_by_its_own_row() -> None:
    recorded = plan_rosters([(0, turn())], (), NOW, new_id).recorded
    plan = plan_rosters([(0, turn(withdrawn=True))], recorded, NOW, new_id)
    assert ([e.old for e in plan.ended], plan.recorded) == (recorded, [])
    nothing = plan_rosters([(0, turn(withdrawn=True))], (), NOW, new_id)
    assert [n.detail for n in nothing.notes] == ["no such turn is recorded: there is nothing to withdraw"]


# --- contacts ---


def contact_plan(tables: Tables, **recorded: Sequence[Contact]) -> list[tuple[str, str]]:
    """Channels added and withdrawn, as +url and -url, with their holder."""
    plan = plan_contacts(tables, {holder.replace("_", "-"): found for holder, found in recorded.items()})
    added = [(r.holder_id, f"+{r.contact.channel}") for r in plan.recorded]
    return [*added, *((e.old.holder_id, f"-{e.old.contact.channel}") for e in plan.ended)]


def test_the_rows_of_a_person_give_all_of_their_channels() -> None:
    tables = Tables(contacts=[(0, ContactRow(holder_id="mau-1", channel="json://b"))])
    assert contact_plan(tables, mau_1=[Contact("json://a")], mau_2=[Contact("json://c")]) == [
        ("mau-1", "+json://b"),
        ("mau-1", "-json://a"),
    ]


def test_a_row_without_a_channel_says_that_a_person_has_none() -> None:
    tables = Tables(contacts=[(0, ContactRow(holder_id="mau-1"))])
    assert contact_plan(tables, mau_1=[Contact("json://a")]) == [("mau-1", "-json://a")]


def test_other_quiet_hours_take_the_place_of_the_first() -> None:
    quiet = ContactRow(holder_id="mau-1", channel="json://a", quiet_from=time(22), quiet_to=time(6))
    plan = plan_contacts(Tables(contacts=[(0, quiet)]), {"mau-1": [Contact("json://a")]})
    (difference,) = differences("contact", plan, shown_reach)
    assert difference.record["channel"] == "json"
    assert difference.became == ({"quiet_from": (None, "22:00"), "quiet_to": (None, "06:00")},)


def test_a_channel_in_a_tenure_keeps_the_quiet_hours_that_it_has() -> None:
    tables = Tables(tenures=[(0, row(channel="json://a"))])
    assert contact_plan(tables, mau_1=[Contact("json://a", time(22), time(6))]) == []
    assert contact_plan(tables, mau_1=[Contact("json://b")]) == [("mau-1", "+json://a"), ("mau-1", "-json://b")]


def test_rows_of_contacts_say_more_than_a_channel_in_a_tenure_of_the_same_file() -> None:
    tables = Tables(
        tenures=[(0, row(channel="json://a"))], contacts=[(0, ContactRow(holder_id="mau-1", channel="json://b"))]
    )
    assert contact_plan(tables) == [("mau-1", "+json://b")]


def test_a_channel_is_shown_by_its_scheme() -> None:
    assert "mat-khau" not in str(shown_reach(Reach("mau-1", Contact("mailto://ten:mat-khau@example.vn"))))
