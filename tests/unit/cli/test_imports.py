"""What `trucban import wards` and `import directory` show of a change."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from services.cli.commands.imports import import_as_json, print_import
from services.escalation.application.record_directory import ImportSummary
from services.escalation.domain.directory.coverage import Coverage
from services.escalation.domain.directory.diff import (
    Reach,
    plan_contacts,
    plan_tenures,
    shown_reach,
    shown_tenure,
)
from services.escalation.domain.directory.differences import differences
from services.escalation.domain.directory.model import Contact, Unit
from services.escalation.domain.directory.schemas import ContactRow, LineError, Note, Tables
from tests.support import BA_DINH, at, new_id
from tests.unit.escalation.drawn_rows import UNITS, row

SECRET = "mailto://ten:mat-khau@example.vn"
NOW = at("2023-01-25 09:00")
FILE = Path("so.xlsx")


@pytest.fixture
def done() -> ImportSummary:
    """A handover that is entered late, and another channel for who left."""
    before = plan_tenures([(2, row())], UNITS, (), NOW, new_id).recorded
    tenures = plan_tenures([(2, row("mau-2", "2023-01-20"))], UNITS, before, NOW, new_id)
    tables = Tables(contacts=[(2, ContactRow(holder_id="mau-1", channel=SECRET))])
    contacts = plan_contacts(tables, {"mau-1": [Contact("outbox://mau-1")]})
    found = [*differences("tenure", tenures, shown_tenure), *differences("contact", contacts, shown_reach)]
    errors = [LineError(3, "unit 99999 of 2021-02-01 is unknown: import its ward first", "unit_code", "tenures")]
    notes = [Note("post chair has no holder", 2, "tenures")]
    return ImportSummary(3, 2, errors, found, notes, dry_run=True, causes=1, wrong=1)


def printed(done: ImportSummary, *, terminal: bool) -> str:
    out = io.StringIO()
    print_import(Console(file=out, force_terminal=terminal, width=200), FILE, done)
    return out.getvalue()


def test_lines_for_a_pipe_name_file_sheet_and_line(done: ImportSummary, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(done, terminal=False).splitlines()
    assert lines[0].startswith("so.xlsx:tenures:2: tenure added 14776 2021-02-01 chair holder mau-2")
    assert lines[1].startswith("so.xlsx:tenures:2: tenure superseded 14776 2021-02-01 chair holder mau-1")
    assert lines[1].endswith("valid_to: — → 2023-01-20")
    assert lines[2:] == [
        "so.xlsx:contacts:2: contact added mau-1 mailto",
        "so.xlsx:contacts:2: contact withdrawn mau-1 outbox",
        "so.xlsx: 3 lines, 2 would be recorded, 0 unchanged, 1 with errors",
    ]
    assert capsys.readouterr().err.splitlines() == [
        "so.xlsx:tenures:3: unit 99999 of 2021-02-01 is unknown: import its ward first",
        "so.xlsx:tenures:2: note: post chair has no holder",
    ]


def test_a_person_is_shown_a_table(done: ImportSummary) -> None:
    table = printed(done, terminal=True)
    assert "old → new" in table
    assert "valid_to: — → 2023-01-20" in table


def test_a_machine_is_told_the_same(done: ImportSummary) -> None:
    told = json.loads(json.dumps(import_as_json(done)))
    assert (told["dry_run"], told["lines"], told["recorded"], told["unchanged"]) == (True, 3, 2, 0)
    assert [(a["kind"], a["line"]) for a in told["added"]] == [("tenure", 2), ("contact", 2)]
    assert [s["became"] for s in told["superseded"]] == [[{"valid_to": [None, "2023-01-20"]}], []]
    assert [(e["table"], e["line"]) for e in told["errors"]] == [("tenures", 3)]


def test_nobody_is_shown_more_of_a_channel_than_its_scheme(done: ImportSummary) -> None:
    for shown in (printed(done, terminal=False), printed(done, terminal=True), json.dumps(import_as_json(done))):
        assert "mailto" in shown
        assert "mat-khau" not in shown
    assert "mat-khau" not in str(shown_reach(Reach("mau-1", Contact(SECRET))))


def test_an_import_ends_with_what_the_directory_lacks(done: ImportSummary) -> None:
    ward = Unit(BA_DINH, "phường")
    lacks = Coverage(34, ((ward, "chair"), (ward, "party_secretary")), ("mau-1",), ())
    told = printed(replace(done, coverage=lacks), terminal=False)
    assert told.splitlines()[-1] == "directory: 1 wards without holder, 1 persons without channel"
    assert import_as_json(replace(done, coverage=lacks))["persons_without_channel"] == 1
