"""Schema `escalation`. Histories (unit, tenure, contact) are bitemporal: rows are superseded, never changed."""

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from shared.messaging import dead_letter_table, outbox_tables

metadata = MetaData(schema="escalation")


def _instant(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


unit = Table(
    "unit",
    metadata,
    Column("code", Text, primary_key=True),
    Column("valid_from", Date, primary_key=True),
    Column("recorded_at", DateTime(timezone=True), primary_key=True),
    Column("valid_to", Date),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    _instant("superseded_at", nullable=True),
)

tenure = Table(
    "tenure",
    metadata,
    Column("tenure_id", Text, primary_key=True),
    Column("unit_code", Text, nullable=False),
    Column("unit_valid_from", Date, nullable=False),
    Column("unit_name", Text, nullable=False),
    Column("post", Text, nullable=False),
    Column("holder_id", Text, nullable=False),
    Column("holder_name", Text, nullable=False),
    Column("acting", Boolean, nullable=False),
    Column("document", Text, nullable=False),
    _instant("valid_from"),
    _instant("valid_to", nullable=True),
    Column("sample", Boolean, nullable=False),
    _instant("recorded_at"),
    _instant("superseded_at", nullable=True),
    Index("tenure_by_unit", "unit_code", "unit_valid_from"),
)
"""The migration adds an exclusion constraint: one holder a post at any (valid, recorded) time."""

contact = Table(
    "contact",
    metadata,
    Column("holder_id", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("recorded_at", DateTime(timezone=True), primary_key=True),
    _instant("superseded_at", nullable=True),
)

rulebook = Table(
    "rulebook",
    metadata,
    Column("version", Text, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    _instant("adopted_at"),
)

incident = Table(
    "incident",
    metadata,
    Column("incident_id", Text, primary_key=True),
    Column("unit_code", Text, nullable=False),
    Column("unit_valid_from", Date, nullable=False),
    Column("unit_name", Text, nullable=False),
    Column("unit_kind", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("exercise", Boolean, nullable=False),
    _instant("occurred_at"),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("state", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("limb", Text),
    Column("standing", Text, nullable=False),
    Column("severity", Integer),
    Column("sequence", Integer, nullable=False),
    _instant("opened_at"),
    Index("incident_to_correlate", "unit_code", "family", "occurred_at"),
    Index("incident_by_opening", "opened_at", "incident_id"),
)
"""`occurred_at` is the anchor: the time of occurrence of the incident's first report."""

report = Table(
    "report",
    metadata,
    Column("report_id", Text, primary_key=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("incident_id", Text, ForeignKey(incident.c.incident_id), nullable=False),
    Column("position", Integer, nullable=False),
    Column("facts", JSONB, nullable=False),
    Column("personal", JSONB),
    Index("report_by_incident", "incident_id", "position"),
)
"""`personal` holds free text and point for those who must act; an erasure sets it to NULL."""

decision = Table(
    "decision",
    metadata,
    Column("decision_id", Text, primary_key=True),
    Column("incident_id", Text, ForeignKey(incident.c.incident_id), nullable=False),
    Column("number", Integer, nullable=False),
    Column("previous_id", Text, ForeignKey("escalation.decision.decision_id")),
    Column("record", LargeBinary, nullable=False),
    Column("inputs", JSONB, nullable=False),
    Column("exercise", Boolean, nullable=False),
    _instant("made_at"),
    UniqueConstraint("incident_id", "number"),
)

notice = Table(
    "notice",
    metadata,
    Column("notice_id", Text, primary_key=True),
    Column("incident_id", Text, ForeignKey(incident.c.incident_id), nullable=False),
    Column("decision_id", Text, ForeignKey(decision.c.decision_id)),
    Column("recipient", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("posts", ARRAY(Text), nullable=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("exercise", Boolean, nullable=False),
    _instant("issued_at"),
    _instant("due_at", nullable=True),
    _instant("acknowledged_at", nullable=True),
    Column("acknowledged_by", Text),
    UniqueConstraint("incident_id", "recipient", "purpose"),
)

delivery = Table(
    "delivery",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("notice_id", Text, ForeignKey(notice.c.notice_id), nullable=False, index=True),
    Column("channel", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    _instant("next_at"),
    Column("error", Text),
    _instant("finished_at", nullable=True),
    Index("delivery_due", "next_at", postgresql_where=text("state IN ('queued', 'sending')")),
)
"""queued → sending (a lease until `next_at`) → sent | queued again | given_up; acknowledging cancels what is queued."""

deadline = Table(
    "deadline",
    metadata,
    Column("deadline_id", Text, primary_key=True),
    Column("incident_id", Text, ForeignKey(incident.c.incident_id), nullable=False),
    Column("notice_id", Text, ForeignKey(notice.c.notice_id)),
    Column("kind", Text, nullable=False),
    _instant("due_at"),
    Column("state", Text, nullable=False),
    Index("deadline_due", "due_at", postgresql_where=text("state = 'pending'")),
    Index("deadline_by_incident", "incident_id"),
)
"""kind acknowledge | review; pending → passed | cancelled."""

outbox = outbox_tables(metadata)
dead_letter = dead_letter_table(metadata)
