"""The schema of the first release. Frozen: what changes later is a new revision."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE intake.dead_letter (
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
COMMENT ON COLUMN intake.dead_letter.digest IS 'SHA-256 of the body';
COMMENT ON COLUMN intake.dead_letter.error IS 'type and place of the error, never its text';
CREATE TABLE intake.outbox (
    seq BIGINT GENERATED ALWAYS AS IDENTITY,
    event_id TEXT NOT NULL,
    stream TEXT NOT NULL,
    body BYTEA NOT NULL,
    number BIGINT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (seq),
    UNIQUE (event_id)
);
CREATE UNIQUE INDEX outbox_numbered ON intake.outbox (stream, number);
CREATE INDEX outbox_unnumbered ON intake.outbox (stream, seq) WHERE number IS NULL;
COMMENT ON COLUMN intake.outbox.number IS 'place in the stream; null: not yet given one';
CREATE TABLE intake.outbox_stream (
    stream TEXT NOT NULL,
    assigned BIGINT NOT NULL,
    PRIMARY KEY (stream)
);
COMMENT ON COLUMN intake.outbox_stream.assigned IS 'never given twice, so that an id means one event';
CREATE TABLE intake.report (
    report_id TEXT NOT NULL,
    receipt TEXT NOT NULL,
    content_mac BYTEA NOT NULL,
    submitter TEXT NOT NULL,
    event_id TEXT NOT NULL,
    ward TEXT NOT NULL,
    category TEXT NOT NULL,
    exercise BOOLEAN NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    incident TEXT,
    routed TEXT,
    PRIMARY KEY (report_id),
    UNIQUE (receipt)
);
CREATE TABLE intake.unit (
    code TEXT NOT NULL,
    valid_from DATE NOT NULL,
    valid_to DATE,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (code, valid_from)
);
CREATE TABLE intake.reporter (
    report_id TEXT NOT NULL,
    sealed BYTEA NOT NULL,
    salt BYTEA NOT NULL,
    PRIMARY KEY (report_id),
    FOREIGN KEY(report_id) REFERENCES intake.report (report_id)
);
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP SCHEMA intake CASCADE")
