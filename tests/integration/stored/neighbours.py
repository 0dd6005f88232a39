"""What intake and the ledger have stored, as records.py has it of escalation."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from services.intake import store as intake
from services.ledger.store import tables as ledger
from tests.integration.stored.records import Record


@dataclass(frozen=True)
class Received(Record):
    """A report as intake has it."""

    source = intake.report
    order = ("report_id", "submitter")

    report_id: str
    submitter: str
    receipt: str
    event_id: str
    incident: str | None


@dataclass(frozen=True)
class IntakeOutgoing(Record):
    """An event that intake still owes to somebody."""

    source = intake.outbox.rows
    order = ("stream", "number")

    event_id: str
    body: bytes


@dataclass(frozen=True)
class Reporter(Record):
    source = intake.reporter
    order = ("report_id", "submitter")

    report_id: str
    submitter: str
    sealed: bytes
    salt: bytes


@dataclass(frozen=True)
class Entry(Record):
    """An entry of the ledger."""

    source = ledger.entry
    order = ("idx",)

    idx: int
    event_id: str
    kind: str
    incident: str | None
    body: bytes

    @cached_property
    def data(self) -> dict[str, Any]:
        return orjson.loads(self.body)["data"]


@dataclass(frozen=True)
class Private(Record):
    """A personal value that the ledger has committed to."""

    source = ledger.private
    order = ("idx", "field")

    idx: int
    field: str
    salt: bytes
    value: bytes
