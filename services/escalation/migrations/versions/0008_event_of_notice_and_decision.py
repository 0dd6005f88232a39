"""A notice and a decision know the event that recorded them, so that what follows from them can name its cause."""

from alembic import op

revision = "0008"
down_revision = "0007"

STATEMENTS = """
ALTER TABLE escalation.notice ADD COLUMN event_id TEXT;
ALTER TABLE escalation.decision ADD COLUMN event_id TEXT;
UPDATE escalation.notice SET event_id = recorded.event_id
FROM (
    SELECT event_id, convert_from(body, 'UTF8')::jsonb -> 'data' ->> 'notice_id' AS id
    FROM escalation.timeline WHERE type = 'vn.trucban.notice.issued.v1'
) AS recorded
WHERE notice_id = recorded.id;
UPDATE escalation.decision SET event_id = recorded.event_id
FROM (
    SELECT event_id, convert_from(body, 'UTF8')::jsonb -> 'data' ->> 'decision_id' AS id
    FROM escalation.timeline WHERE type = 'vn.trucban.decision.made.v1'
) AS recorded
WHERE decision_id = recorded.id;
"""


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0008 is not undone: restore the database from before it")
