"""Notices without an incident: tests of contact channels, and what whoever comes on duty is told."""

from alembic import op

revision = "0009"
down_revision = "0008"

STATEMENTS = """
CREATE TABLE escalation.channel_test (
    test_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    ward JSONB,
    people JSONB NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    started_by TEXT NOT NULL,
    confirm_by TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (test_id)
);
CREATE INDEX channel_test_by_start ON escalation.channel_test (started_at, test_id);
CREATE TABLE escalation.shift (
    holder_id TEXT NOT NULL,
    level TEXT NOT NULL,
    unit TEXT NOT NULL,
    valid_from TIMESTAMP WITH TIME ZONE NOT NULL,
    told_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (holder_id, level, unit, valid_from)
);
ALTER TABLE escalation.notice
    ALTER COLUMN incident_id DROP NOT NULL,
    ADD COLUMN test_id TEXT REFERENCES escalation.channel_test (test_id);
CREATE INDEX notice_of_test ON escalation.notice (test_id) WHERE test_id IS NOT NULL;
"""


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0009 is not undone: restore the database from before it")
