"""The schema of the first release. Frozen: what changes later is a new revision."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE escalation.contact (
    holder_id TEXT NOT NULL,
    channel TEXT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    superseded_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (holder_id, channel, recorded_at)
);
CREATE TABLE escalation.dead_letter (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    "group" TEXT NOT NULL,
    stream TEXT NOT NULL,
    entry_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    body BYTEA NOT NULL,
    error TEXT NOT NULL,
    deliveries INTEGER NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (id),
    UNIQUE ("group", stream, digest)
);
COMMENT ON COLUMN escalation.dead_letter.digest IS 'SHA-256 of the body';
COMMENT ON COLUMN escalation.dead_letter.error IS 'type and place of the error, never its text';
CREATE TABLE escalation.incident (
    incident_id TEXT NOT NULL,
    unit_code TEXT NOT NULL,
    unit_valid_from DATE NOT NULL,
    unit_name TEXT NOT NULL,
    unit_kind TEXT NOT NULL,
    family TEXT NOT NULL,
    category TEXT NOT NULL,
    exercise BOOLEAN NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    latitude FLOAT,
    longitude FLOAT,
    state TEXT NOT NULL,
    outcome TEXT NOT NULL,
    limb TEXT,
    standing TEXT NOT NULL,
    severity INTEGER,
    sequence INTEGER NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (incident_id)
);
CREATE INDEX incident_by_opening ON escalation.incident (opened_at, incident_id);
CREATE INDEX incident_to_correlate ON escalation.incident (unit_code, family, occurred_at);
CREATE TABLE escalation.outbox (
    seq BIGINT GENERATED ALWAYS AS IDENTITY,
    event_id TEXT NOT NULL,
    stream TEXT NOT NULL,
    body BYTEA NOT NULL,
    number BIGINT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (seq),
    UNIQUE (event_id)
);
CREATE UNIQUE INDEX outbox_numbered ON escalation.outbox (stream, number);
CREATE INDEX outbox_unnumbered ON escalation.outbox (stream, seq) WHERE number IS NULL;
COMMENT ON COLUMN escalation.outbox.number IS 'place in the stream; null: not yet given one';
CREATE TABLE escalation.outbox_stream (
    stream TEXT NOT NULL,
    assigned BIGINT NOT NULL,
    PRIMARY KEY (stream)
);
COMMENT ON COLUMN escalation.outbox_stream.assigned IS 'never given twice, so that an id means one event';
CREATE TABLE escalation.rulebook (
    version TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    content BYTEA NOT NULL,
    adopted_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (version)
);
CREATE TABLE escalation.tenure (
    tenure_id TEXT NOT NULL,
    unit_code TEXT NOT NULL,
    unit_valid_from DATE NOT NULL,
    unit_name TEXT NOT NULL,
    post TEXT NOT NULL,
    holder_id TEXT NOT NULL,
    holder_name TEXT NOT NULL,
    acting BOOLEAN NOT NULL,
    document TEXT NOT NULL,
    valid_from TIMESTAMP WITH TIME ZONE NOT NULL,
    valid_to TIMESTAMP WITH TIME ZONE,
    sample BOOLEAN NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    superseded_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (tenure_id)
);
CREATE INDEX tenure_by_unit ON escalation.tenure (unit_code, unit_valid_from);
CREATE TABLE escalation.unit (
    code TEXT NOT NULL,
    valid_from DATE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    valid_to DATE,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    superseded_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (code, valid_from, recorded_at)
);
CREATE TABLE escalation.decision (
    decision_id TEXT NOT NULL,
    incident_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    previous_id TEXT,
    record BYTEA NOT NULL,
    inputs JSONB NOT NULL,
    exercise BOOLEAN NOT NULL,
    made_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (decision_id),
    UNIQUE (incident_id, number),
    FOREIGN KEY(incident_id) REFERENCES escalation.incident (incident_id),
    FOREIGN KEY(previous_id) REFERENCES escalation.decision (decision_id)
);
CREATE TABLE escalation.report (
    report_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    incident_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    facts JSONB NOT NULL,
    personal JSONB,
    PRIMARY KEY (report_id),
    UNIQUE (event_id),
    FOREIGN KEY(incident_id) REFERENCES escalation.incident (incident_id)
);
CREATE INDEX report_by_incident ON escalation.report (incident_id, position);
CREATE TABLE escalation.notice (
    notice_id TEXT NOT NULL,
    incident_id TEXT NOT NULL,
    decision_id TEXT,
    recipient TEXT NOT NULL,
    purpose TEXT NOT NULL,
    posts TEXT[] NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    exercise BOOLEAN NOT NULL,
    issued_at TIMESTAMP WITH TIME ZONE NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE,
    acknowledged_at TIMESTAMP WITH TIME ZONE,
    acknowledged_by TEXT,
    PRIMARY KEY (notice_id),
    UNIQUE (incident_id, recipient, purpose),
    FOREIGN KEY(incident_id) REFERENCES escalation.incident (incident_id),
    FOREIGN KEY(decision_id) REFERENCES escalation.decision (decision_id)
);
CREATE TABLE escalation.deadline (
    deadline_id TEXT NOT NULL,
    incident_id TEXT NOT NULL,
    notice_id TEXT,
    kind TEXT NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (deadline_id),
    FOREIGN KEY(incident_id) REFERENCES escalation.incident (incident_id),
    FOREIGN KEY(notice_id) REFERENCES escalation.notice (notice_id)
);
CREATE INDEX deadline_by_incident ON escalation.deadline (incident_id);
CREATE INDEX deadline_due ON escalation.deadline (due_at) WHERE state = 'pending';
CREATE TABLE escalation.delivery (
    delivery_id TEXT NOT NULL,
    notice_id TEXT NOT NULL,
    channel TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    next_at TIMESTAMP WITH TIME ZONE NOT NULL,
    error TEXT,
    finished_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (delivery_id),
    FOREIGN KEY(notice_id) REFERENCES escalation.notice (notice_id)
);
CREATE INDEX delivery_due ON escalation.delivery (next_at) WHERE state IN ('queued', 'sending');
CREATE INDEX ix_escalation_delivery_notice_id ON escalation.delivery (notice_id);
"""

EXTRA = """
CREATE TYPE escalation.textrange AS RANGE (subtype = text, collation = "C");
ALTER TABLE escalation.tenure ADD CONSTRAINT tenure_one_holder EXCLUDE USING gist (
    escalation.textrange(
        unit_code || '/' || (unit_valid_from - DATE '2000-01-01')::text || '/' || post,
        unit_code || '/' || (unit_valid_from - DATE '2000-01-01')::text || '/' || post,
        '[]'
    ) WITH &&,
    tstzrange(valid_from, valid_to) WITH &&,
    tstzrange(recorded_at, superseded_at) WITH &&
);
"""
# A range over text needs no contrib extension: one scalar is written as a one-point range. Codes are used again for
# other units, so the unit's first day is part of it; as a number, for a date's text depends on the session.


def upgrade() -> None:
    for statement in (TABLES + EXTRA).split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP SCHEMA escalation CASCADE")
