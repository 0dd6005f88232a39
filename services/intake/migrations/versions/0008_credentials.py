"""Credentials that were revoked, and tokens of before that were used."""

from alembic import op

revision = "0008"
down_revision = "0007"

STATEMENTS = """
CREATE TABLE intake.revocation (
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
CREATE INDEX revocation_by_storing ON intake.revocation (stored_at);
CREATE TABLE intake.old_token (
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
    raise NotImplementedError("0008 is not undone: restore the database from before it")
