"""Hypothesis strategies for files of the directory: rows of Ba Đình around the night, none of them with an error."""

from collections.abc import Sequence
from datetime import date, time, timedelta

from hypothesis import strategies as st

from services.escalation.domain.directory.model import Unit, UnitKey, key_of
from services.escalation.domain.directory.schemas import ContactRow, RosterRow, Tables, TenureRow
from services.escalation.domain.directory.validation import check
from tests.support import BA_DINH, CHAIR, SECRETARY, at

FIRST = date(2022, 12, 1)
POSTS = (CHAIR, SECRETARY)
UNITS: dict[UnitKey, Unit] = {key_of(BA_DINH): Unit(BA_DINH, "phường")}
PEOPLE = ("mau-1", "mau-2", "mau-3")

days = st.integers(0, 40).map(lambda n: FIRST + timedelta(days=n))


def row(holder: str = "mau-1", start: str = "2021-02-01", end: str | None = None, **more: object) -> TenureRow:
    """Of the chair of Ba Đình."""
    plain = {
        "unit_code": "14776",
        "unit_valid_from": "2021-02-01",
        "post": CHAIR,
        "holder_id": holder,
        "holder_name": f"{holder} (mẫu)",
        "valid_from": start,
        "valid_to": end,
        "document": "QĐ mẫu số 1",
    }
    return TenureRow.model_validate(plain | more)


def turn(holder: str = "mau-1", **more: object) -> RosterRow:
    """At the desk, over giao thừa."""
    plain = {
        "level": "desk",
        "holder_id": holder,
        "holder_name": f"{holder} (mẫu)",
        "valid_from": at("2023-01-21 18:00"),
        "valid_to": at("2023-01-22 06:00"),
        "document": "Lịch trực mẫu",
    }
    return RosterRow.model_validate(plain | more)


@st.composite
def tenure_rows(draw: st.DrawFn) -> TenureRow:
    start, end = draw(days), draw(st.none() | days)
    return row(
        draw(st.sampled_from(PEOPLE)),
        start.isoformat(),
        end.isoformat() if end and end > start else None,
        post=draw(st.sampled_from(POSTS)),
        capacity=draw(st.sampled_from(("holder", "holder", "deputy"))),
        document=draw(st.sampled_from(("QĐ mẫu số 1", "QĐ mẫu số 2"))),
        channel=draw(st.sampled_from((None, None, "json://a", "json://b"))),
        withdrawn=draw(st.integers(0, 9)) == 0,
    )


@st.composite
def turns(draw: st.DrawFn) -> RosterRow:
    return turn(
        draw(st.sampled_from(PEOPLE)),
        document=draw(st.sampled_from(("Lịch trực mẫu", "Lịch trực mẫu 2"))),
        valid_to=at(draw(st.sampled_from(("2023-01-22 06:00", "2023-01-22 07:00")))),
        withdrawn=draw(st.integers(0, 4)) == 0,
    )


@st.composite
def contact_rows(draw: st.DrawFn) -> ContactRow:
    channel = draw(st.sampled_from((None, "json://a", "json://b", "mailto://c@d.vn")))
    quiet = draw(st.sampled_from((None, time(22), time(23)))) if channel else None
    return ContactRow(
        holder_id=draw(st.sampled_from(PEOPLE)),
        channel=channel,
        quiet_from=quiet,
        quiet_to=time(6) if quiet else None,
    )


def without_errors(tables: Tables, posts: Sequence[str] = POSTS) -> Tables:
    while found := check(tables, UNITS, posts):
        tables = tables.without(found)
    return tables


files = st.builds(
    Tables,
    tenures=st.lists(tenure_rows(), max_size=6).map(lambda rows: list(enumerate(rows))),
    rosters=st.lists(turns(), max_size=3).map(lambda rows: list(enumerate(rows))),
    contacts=st.lists(contact_rows(), max_size=3).map(lambda rows: list(enumerate(rows))),
).map(without_errors)
