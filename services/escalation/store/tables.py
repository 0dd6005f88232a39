"""The tables of schema `escalation`.

unit, tenure, roster, posting and contact are bitemporal: their rows are superseded, never changed.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Identity,
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

from shared.credentials.store import credential_tables
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
    Column("successors", JSONB, nullable=False, server_default="[]"),
    Column("legal_act", Text),
    _instant("superseded_at", nullable=True),
)
"""`successors` of a unit that ended: `[{"code", "valid_from", "name"}]`. One took its place whole, several took parts
of it."""

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
    Column("capacity", Text, nullable=False, server_default="holder"),
    Column("reason", Text),
    Column("document", Text, nullable=False),
    _instant("valid_from"),
    _instant("valid_to", nullable=True),
    Column("sample", Boolean, nullable=False),
    _instant("recorded_at"),
    _instant("superseded_at", nullable=True),
    Index("tenure_by_unit", "unit_code", "unit_valid_from"),
)
"""The migrations add an exclusion constraint: one holder and one deputy a post at any pair of valid and recorded
time."""

roster = Table(
    "roster",
    metadata,
    Column("roster_id", Text, primary_key=True),
    Column("level", Text, nullable=False),
    Column("unit_code", Text),
    Column("unit_valid_from", Date),
    Column("holder_id", Text, nullable=False),
    Column("holder_name", Text, nullable=False),
    Column("document", Text, nullable=False),
    _instant("valid_from"),
    _instant("valid_to"),
    Column("sample", Boolean, nullable=False),
    _instant("recorded_at"),
    _instant("superseded_at", nullable=True),
    Index("roster_by_time", "valid_to"),
)
"""Who is on duty: in a ward (with its unit), at the desk or in the leadership (without a unit)."""

posting = Table(
    "posting",
    metadata,
    Column("posting_id", Text, primary_key=True),
    Column("unit_code", Text, nullable=False),
    Column("unit_valid_from", Date, nullable=False),
    Column("subject", Text, nullable=False),
    Column("document", Text, nullable=False),
    _instant("valid_from"),
    _instant("valid_to", nullable=True),
    Column("sample", Boolean, nullable=False),
    _instant("recorded_at"),
    _instant("superseded_at", nullable=True),
    Index("posting_by_subject", "subject"),
)
"""`subject`: of an officer's or a device's credential. Events name it by pseudonym."""

contact = Table(
    "contact",
    metadata,
    Column("holder_id", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("recorded_at", DateTime(timezone=True), primary_key=True),
    Column("quiet_from", Text),
    Column("quiet_to", Text),
    _instant("superseded_at", nullable=True),
)
"""Quiet hours are the city's, as "HH:MM". Both columns are set, or neither."""

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
    Column("rulebook_version", Text),
    Column("round", Integer, nullable=False, server_default="1"),
    Column("level", Integer, nullable=False, server_default="0"),
    Column("successor", JSONB),
    Column("digest", Text, nullable=False, server_default="{}"),
    _instant("decided_at", nullable=True),
    Column("merged_into", Text, ForeignKey("escalation.incident.incident_id")),
    Index(
        "incident_open",
        "incident_id",
        postgresql_where=text("state NOT IN ('closed', 'dismissed', 'merged', 'handed_off')"),
    ),
    Index("incident_by_place", "unit_code", "occurred_at"),
    Index("incident_merged", "merged_into", postgresql_where=text("merged_into IS NOT NULL")),
    Index("incident_to_correlate", "unit_code", "family", "occurred_at"),
    Index("incident_by_opening", "opened_at", "incident_id"),
)
"""`occurred_at` is the anchor: the time of occurrence of the incident's first report. `level`: how far up the chain the
present `round` has gone; 0 means the post-holders. `successor`: the unit whose post-holders act now. `digest`: the
report summary, as JSON."""

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
"""`report_id` is ours; reports of before have their sender's. `personal` holds free text and the point for those who
must act, and the sender's own id of the report. An erasure sets it to NULL."""
SENDER_REPORT_ID = "sender_report_id"

finding = Table(
    "finding",
    metadata,
    Column("finding_id", Text, primary_key=True),
    Column("incident_id", Text, ForeignKey(incident.c.incident_id), nullable=False),
    Column("position", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("content", JSONB, nullable=False),
    Column("reason", Text),
    _instant("made_at"),
    UniqueConstraint("incident_id", "position"),
)
"""What people found or did about an incident, in order. `reason` is free text; an erasure sets it to NULL."""

link = Table(
    "link",
    metadata,
    Column("incident_id", Text, ForeignKey(incident.c.incident_id), primary_key=True),
    Column("other_id", Text, ForeignKey(incident.c.incident_id), primary_key=True),
    Column("reason", Text, nullable=False),
    _instant("made_at"),
)
"""Related incidents. Each pair is stored once, the later incident first."""

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
    Column("event_id", Text),
    UniqueConstraint("incident_id", "number"),
)
"""`event_id`: the event that recorded it."""

channel_test = Table(
    "channel_test",
    metadata,
    Column("test_id", Text, primary_key=True),
    Column("event_id", Text, nullable=False),
    Column("ward", JSONB),
    Column("people", JSONB, nullable=False),
    _instant("started_at"),
    Column("started_by", Text, nullable=False),
    _instant("confirm_by"),
    Index("channel_test_by_start", "started_at", "test_id"),
)
"""Tests of the contacts' channels. `ward`: of one ward only, `{"code", "days"}`. `people`: who was in office then, with
or without a channel. The notices of a test have its id; one that its recipient confirmed counts as acknowledged."""

shift = Table(
    "shift",
    metadata,
    Column("holder_id", Text, primary_key=True),
    Column("level", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("valid_from", DateTime(timezone=True), primary_key=True),
    _instant("told_at"),
)
"""The beginnings of turns of duty that were acted on, each once: whoever came on duty was told what waits for them, or
nothing waited. `unit`: CODE@VALID_FROM of a ward, else empty."""

notice = Table(
    "notice",
    metadata,
    Column("notice_id", Text, primary_key=True),
    Column("incident_id", Text, ForeignKey(incident.c.incident_id)),
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
    Column("round", Integer, nullable=False, server_default="1"),
    _instant("withdrawn_at", nullable=True),
    Column("event_id", Text),
    Column("test_id", Text, ForeignKey(channel_test.c.test_id)),
    Index("notice_by_incident", "incident_id"),
    Index("notice_of_test", "test_id", postgresql_where=text("test_id IS NOT NULL")),
    Index(
        "notice_once",
        *("incident_id", "recipient", "purpose", "round"),
        unique=True,
        postgresql_where=text("purpose IN ('accountable', 'duty', 'reminder', 'still_open')"),
    ),
)
"""`withdrawn_at`: its recipient no longer answers for the incident or was asked anew, or what it says no longer holds.
A person is notified for the same purpose once a round. The desk may be notified for the same purpose again, about
another post. `event_id`: the event that recorded it. Without an incident it tests a channel, or tells whoever comes on
duty what waits for them."""

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
    Column("bundle_id", Text),
    _instant("set_at", nullable=True),
    _instant("ready_at", nullable=True),
    Index("delivery_due", "next_at", postgresql_where=text("state IN ('queued', 'sending', 'failed')")),
    Index("delivery_given_up", "finished_at", postgresql_where=text("state = 'given_up'")),
    Index(
        "delivery_of_bundle",
        "bundle_id",
        postgresql_where=text("bundle_id IS NOT NULL AND state IN ('queued', 'sending', 'failed')"),
    ),
)
"""queued → sending (leased until `next_at`) → sent | delivered | failed (tried again at `next_at`) | given_up. An
acknowledgement cancels what is queued or failed. `bundle_id` is common to all that went out as one message.

`set_at`: when `next_at` was set. Null while it is the end of quiet hours, a time of the day that does not move when the
clock is set. `ready_at`: from when the delivery might first go."""

message = Table(
    "message",
    metadata,
    Column("message_id", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
"""What is sent under an id while it may be sent again. `message_id`: the id of the bundle, or of the only delivery."""

pace = Table(
    "pace",
    metadata,
    Column("key", Text, primary_key=True),
    _instant("allowed_at"),
    _instant("set_at", nullable=True),
)
"""Theoretical arrival times (GCRA) by contact and by server. The keys are hashes of their addresses. `set_at`: when
`allowed_at` was set."""

deadline = Table(
    "deadline",
    metadata,
    Column("deadline_id", Text, primary_key=True),
    Column("incident_id", Text, ForeignKey(incident.c.incident_id), nullable=False),
    Column("notice_id", Text, ForeignKey(notice.c.notice_id)),
    Column("kind", Text, nullable=False),
    _instant("due_at"),
    Column("state", Text, nullable=False),
    Column("level", Integer, nullable=False, server_default="0"),
    _instant("set_at", nullable=True),
    Column("who", ARRAY(Text), nullable=False, server_default="{}"),
    _instant("since", nullable=True),
    Index("deadline_due", "due_at", postgresql_where=text("state = 'pending'")),
    Index("deadline_by_incident", "incident_id"),
)
"""The timers. kind: remind | acknowledge | review | vacancy | unit_split | closure | escalation | late_reports |
lost_notice | lapse | idle | directory. state: pending → passed | cancelled. `who`: holder ids or offices whom the
incident waits for, `since` when; empty for reminders and changes of hands. For a lapse, `level` counts how often it was
repeated. `level`: whose time it is; 0 means the post-holders, then come the levels of the rulebook's chain. `set_at`:
when `due_at` was set. Null if it is a time of the calendar, which does not move when the clock is set."""

timeline = Table(
    "timeline",
    metadata,
    Column("position", BigInteger, Identity(always=True), primary_key=True),
    Column("transaction", BigInteger, nullable=False, server_default=text("pg_current_xact_id()::text::bigint")),
    Column("event_id", Text, nullable=False),
    Column("incident_id", Text),
    Column("unit_code", Text),
    Column("type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    _instant("at"),
    Index("timeline_by_incident", "incident_id", "position"),
    Index("timeline_in_order", "transaction", "position"),
)
"""Every event of this service, for ever. A reader misses none if it reads in order of (transaction, position), and only
transactions older than any that still runs."""

credential = Table(
    "credential",
    metadata,
    Column("credential_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("ward", Text),
    Column("post", Text),
    Column("key_id", Text),
    _instant("issued_at"),
    _instant("expires_at"),
    Column("issued_by", Text, nullable=False),
    _instant("revoked_at", nullable=True),
    Column("revoked_by", Text),
    Index("credential_by_subject", "subject"),
)
"""Every credential that was issued and recorded. kind: token | session | link | key. `credential_id`: the `jti` of a
token, the notice of a link; a link stands here once it was revoked. `key_id`: which key signed it."""

credentials = credential_tables(metadata)
outbox = outbox_tables(metadata)
revocation_outbox = outbox_tables(metadata, "revocation_", outbox.epochs)
"""Of the stream of revocations, which is not divided by ward."""
dead_letter = dead_letter_table(metadata)
