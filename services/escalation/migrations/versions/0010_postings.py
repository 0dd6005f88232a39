"""Where officers and devices are posted, as an administrator records it."""

from alembic import op

revision = "0010"
down_revision = "0009"

STATEMENTS = """
CREATE TABLE escalation.posting (
    posting_id TEXT NOT NULL,
    unit_code TEXT NOT NULL,
    unit_valid_from DATE NOT NULL,
    subject TEXT NOT NULL,
    document TEXT NOT NULL,
    valid_from TIMESTAMP WITH TIME ZONE NOT NULL,
    valid_to TIMESTAMP WITH TIME ZONE,
    sample BOOLEAN NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    superseded_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (posting_id)
);
CREATE INDEX posting_by_subject ON escalation.posting (subject);
"""


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0010 is not undone: restore the database from before it")
