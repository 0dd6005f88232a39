"""Small makers of what the domain speaks of, each with the plain case as its default.

Times are the city's: `at("2023-01-21 23:50")` is ten minutes before giao thừa. Holders are samples, never real people.
"""

import csv
import itertools
import shutil
import tempfile
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from hypothesis import settings

from services.cli.embedded import erase
from services.escalation.domain.directory.model import Contact, Directory, Tenure, key_of
from services.escalation.domain.directory.model import Unit as EscalationUnit
from services.escalation.domain.directory.readers import MODELS, read_directory, read_wards
from services.escalation.domain.directory.schemas import LineError, Row, UnitRow
from services.escalation.domain.incidents.engine import IncidentEngine, OfficeChannels
from services.escalation.domain.incidents.grouping import assign, attach, decisive, follow_up
from services.escalation.domain.incidents.report import occurrence_of
from services.escalation.domain.rules.accountability import Inputs, ReportFacts
from services.escalation.domain.rules.rulebook import AdoptedRulebook, read
from services.intake.domain.wards import Unit
from shared.clock import HO_CHI_MINH
from shared.commitment import Committed
from shared.events import Firecracker, Harm, ReportReceived, ReportReceivedData, Source, UnitRef

SAMPLES = Path(__file__).parents[1] / "samples"
SALT = "5a" * 32
SECRETARY, CHAIR = "party_secretary", "chair"
SourceKind = Literal["officer", "device", "desk", "admin"]
_numbers = itertools.count(1)
R = TypeVar("R", bound=Row)


def at(text: str) -> datetime:
    """An instant as people in the city write it: "2023-01-21 23:50"."""
    return datetime.fromisoformat(text).replace(tzinfo=HO_CHI_MINH)


NIGHT = at("2023-01-21 23:50")
"""Ten minutes before giao thừa."""
SINCE = date(2021, 2, 1)
BA_DINH = UnitRef(code="14776", valid_from=SINCE, name="Ba Đình")
DONG_THO = UnitRef(code="14758", valid_from=SINCE, name="Đông Thọ")
NGOC_TRAO = UnitRef(code="14779", valid_from=SINCE, name="Ngọc Trạo")
RULEBOOKS = Path(__file__).parents[1] / "services" / "escalation" / "rulebooks"
RULEBOOK = read((RULEBOOKS / "2023-01-06.1.yaml").read_bytes())
CHANNELS = OfficeChannels(desk="outbox://desk", leadership="outbox://leadership", log="outbox://log")


def wards(table: str = "wards.csv") -> list[Unit]:
    """The 34 wards and communes of January 2023, or those of another table."""
    lines = (SAMPLES / table).read_text(encoding="utf-8").splitlines()
    return [
        Unit(row["code"], date.fromisoformat(row["valid_from"]), None, row["name"], row["type"])
        for row in csv.DictReader(lines)
    ]


def read_rows(content: bytes, model: type[R]) -> tuple[Sequence[tuple[int, R]], Sequence[LineError]]:
    """The rows of a file of one table with their lines, and what is wrong, as an import reads it."""
    asked = read_wards(content) if model is UnitRow else read_directory(content)
    (table,) = (name for name, of in MODELS.items() if of is model)
    return getattr(asked.tables, table), asked.errors


def rulebook(*changes: tuple[str, str]) -> AdoptedRulebook:
    """The rulebook of 6 January 2023, with some of its text replaced."""
    text = RULEBOOK.text
    for old, new in changes:
        assert old in text, f"the rulebook does not say {old!r}"
        text = text.replace(old, new)
    return read(text.encode())


def new_id() -> str:
    """Ids that follow one another, in the form of a UUIDv7."""
    return f"01860000-0000-7000-8000-{next(_numbers):012x}"


def facts(
    category: str = "FIRECRACKER_SET_OFF",
    *,
    kind: SourceKind = "device",
    subject: str = "cam-bien-1",
    report_id: str | None = None,
    harm: Harm | None = None,
    firecracker: Firecracker | None = None,
    clock_ahead: bool = False,
) -> ReportFacts:
    return ReportFacts(
        report_id=report_id or f"tin-bao-{next(_numbers)}",
        category=category,
        source=Source(kind=kind, subject=subject),
        occurred_at=NIGHT,
        received_at=NIGHT,
        harm=harm,
        firecracker=firecracker,
        clock_ahead=clock_ahead,
    )


def received(
    category: str = "FIRECRACKER_SET_OFF",
    *,
    unit: UnitRef = BA_DINH,
    occurred_at: datetime = NIGHT,
    received_at: datetime | None = None,
    kind: SourceKind = "device",
    subject: str = "cam-bien-1",
    point: tuple[float, float] | None = None,
    **more: Any,
) -> ReportReceived:
    """The event of a report; `point` is (latitude, longitude)."""
    event_id = new_id()
    data = ReportReceivedData(
        report_id=f"tin-bao-{event_id[-12:]}",
        unit=unit,
        category=category,
        occurred_at=occurred_at,
        received_at=received_at or occurred_at,
        from_source=Source(kind=kind, subject=subject),
        location=location(*point) if point else None,
        **more,
    )
    return ReportReceived(
        id=event_id, source="/trucban/intake", subject=data.report_id, time=data.received_at, data=data
    )


def location(latitude: float, longitude: float) -> Committed:
    return Committed(salt=SALT, value=f'{{"latitude":{latitude},"longitude":{longitude}}}')


def tenure(
    post: str = SECRETARY,
    holder: str = "mau-bi-thu",
    start: str = "2021-02-01 00:00",
    end: str | None = None,
    *,
    unit: UnitRef = BA_DINH,
    recorded: str = "2023-01-06 08:00",
    superseded: str | None = None,
    acting: bool = False,
) -> Tenure:
    return Tenure(
        tenure_id=f"{holder}-{post}-{start}",
        unit=unit,
        post=post,
        holder_id=holder,
        holder_name=f"{holder} (mẫu)",
        acting=acting,
        document="QĐ mẫu số 1",
        valid_from=at(start),
        valid_to=at(end) if end else None,
        sample=True,
        recorded_at=at(recorded),
        superseded_at=at(superseded) if superseded else None,
    )


BOTH_POSTS = (tenure(SECRETARY, "mau-bi-thu"), tenure(CHAIR, "mau-chu-tich"))
"""One holder for each post, since 2021."""


def inputs(
    *reports: ReportFacts,
    tenures: Sequence[Tenure] = BOTH_POSTS,
    occurred: datetime = NIGHT,
    evaluated: datetime | None = None,
    **more: Any,
) -> Inputs:
    """What a decision on these reports depends on; one report of setting off by a sensor if none is given."""
    more.setdefault("format", 2)
    return Inputs(
        incident="vu-viec-1",
        unit=BA_DINH,
        time_of_occurrence=occurred,
        evaluated_at=evaluated or occurred,
        reports=reports or (facts(),),
        tenures=tuple(tenures),
        rulebook_version=RULEBOOK.rulebook.version,
        **more,
    )


def engine(
    tenures: Iterable[Tenure] = BOTH_POSTS,
    *,
    now: datetime = NIGHT,
    channels: dict[str, tuple[str, ...]] | None = None,
    rulebooks: Sequence[AdoptedRulebook] = (RULEBOOK,),
) -> IncidentEngine:
    """An engine over no incidents yet, in which every holder has a channel."""
    held = tuple(tenures)
    of_holder = {t.holder_id: (f"outbox://{t.holder_id}",) for t in held} if channels is None else channels
    contacts = {holder: tuple(Contact(url) for url in urls) for holder, urls in of_holder.items()}
    return IncidentEngine(
        directory=Directory(
            tenures=held, contacts=contacts, units={key_of(BA_DINH): EscalationUnit(BA_DINH, "phường")}
        ),
        rulebooks=rulebooks,
        channels=CHANNELS,
        now=now,
        new_id=new_id,
        pseudonym=str,
    )


def route(engine: IncidentEngine, *events: ReportReceived) -> None:
    """These reports together, as `route_reports` routes a batch."""
    assigned = [assign(engine, event, occurrence_of(event)) for event in events]
    for each in assigned:
        attach(engine, each)
    for each in decisive(assigned):
        follow_up(engine, each)


def body(**changes: Any) -> dict[str, Any]:
    """What `POST /reports` takes; a field given as None is left out."""
    plain = {
        "report_id": f"tin-bao-{next(_numbers)}",
        "category": "FIRECRACKER_SET_OFF",
        "ward": "Ba Đình",
        "occurred_at": "2023-01-21T23:50:00+07:00",
    }
    return {name: value for name, value in (plain | changes).items() if value is not None}


def depth(ci: int, full: int) -> settings:
    """So many examples of a kind that is slow, by the profile that tests/conftest.py loads."""
    return settings(max_examples=full if settings.get_current_profile_name() == "full" else ci)


@contextmanager
def passable_folder(prefix: str) -> Generator[Path]:
    """A data folder that every user can reach, which pytest's is not: as root, PostgreSQL runs as somebody else."""
    parent = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir="/tmp"))
    parent.chmod(0o711)
    try:
        yield parent / "data"
    finally:
        erase(parent / "data")
        shutil.rmtree(parent)
