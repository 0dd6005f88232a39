"""Credentials that were issued, those that were revoked, and the outbox of the stream of revocations."""

from alembic import op

revision = "0011"
down_revision = "0010"

STATEMENTS = """
CREATE TABLE escalation.credential (
    credential_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    role TEXT NOT NULL,
    ward TEXT,
    post TEXT,
    key_id TEXT,
    issued_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    issued_by TEXT NOT NULL,
    revoked_at TIMESTAMP WITH TIME ZONE,
    revoked_by TEXT,
    PRIMARY KEY (credential_id)
);
CREATE INDEX credential_by_subject ON escalation.credential (subject);
CREATE TABLE escalation.revocation_outbox (
    stream TEXT NOT NULL,
    number BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    body BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (stream, number),
    UNIQUE (event_id)
);
COMMENT ON COLUMN escalation.revocation_outbox.number IS 'place in the stream';
CREATE TABLE escalation.revocation_outbox_stream (
    stream TEXT NOT NULL,
    assigned BIGINT NOT NULL,
    closed BIGINT DEFAULT 0 NOT NULL,
    PRIMARY KEY (stream)
);
COMMENT ON COLUMN escalation.revocation_outbox_stream.assigned IS 'never given twice, so that an id means one event';
COMMENT ON COLUMN escalation.revocation_outbox_stream.closed IS 'up to here, no longer published';
CREATE TABLE escalation.revocation (
    revocation_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    credential TEXT,
    subject TEXT,
    issued_before TIMESTAMP WITH TIME ZONE,
    holder TEXT NOT NULL,
    role TEXT NOT NULL,
    revoked_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    stored_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (revocation_id)
);
CREATE INDEX revocation_by_storing ON escalation.revocation (stored_at);
CREATE TABLE escalation.old_token (
    digest TEXT NOT NULL,
    subject TEXT NOT NULL,
    role TEXT NOT NULL,
    ward TEXT,
    issued_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (digest)
);
"""


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0011 is not undone: restore the database from before it")
