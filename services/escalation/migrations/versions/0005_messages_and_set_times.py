"""What was sent under an id is kept while it may be sent again; times know when they were set."""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = """
ALTER TABLE escalation.deadline ADD COLUMN set_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE escalation.pace ADD COLUMN set_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE escalation.delivery
    ADD COLUMN set_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN ready_at TIMESTAMP WITH TIME ZONE;
UPDATE escalation.delivery SET ready_at = next_at WHERE state = 'queued';
CREATE INDEX delivery_of_bundle ON escalation.delivery (bundle_id)
    WHERE bundle_id IS NOT NULL AND state IN ('queued', 'sending', 'failed');
CREATE TABLE escalation.message (
    message_id TEXT NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (message_id)
);
"""


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0005 is not undone: restore the database from before it")
