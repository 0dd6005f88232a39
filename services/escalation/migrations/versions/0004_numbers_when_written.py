"""The number of an outbox row is given when the row is written. Rows that wait without one get theirs here."""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    "LOCK TABLE escalation.outbox, escalation.outbox_stream IN ACCESS EXCLUSIVE MODE",
    "INSERT INTO escalation.outbox_stream SELECT DISTINCT stream, 0 FROM escalation.outbox ON CONFLICT DO NOTHING",
    """
    UPDATE escalation.outbox SET number = assigned + nth
    FROM escalation.outbox_stream, (
        SELECT seq, row_number() OVER (PARTITION BY stream ORDER BY seq) AS nth
        FROM escalation.outbox WHERE number IS NULL
    ) AS waiting
    WHERE outbox.seq = waiting.seq AND outbox_stream.stream = outbox.stream
    """,
    """
    UPDATE escalation.outbox_stream SET assigned = greatest(assigned, highest)
    FROM (SELECT stream, max(number) AS highest FROM escalation.outbox GROUP BY stream) AS given
    WHERE given.stream = outbox_stream.stream
    """,
    "DROP INDEX escalation.outbox_unnumbered, escalation.outbox_numbered",
    "ALTER TABLE escalation.outbox DROP COLUMN seq, ALTER COLUMN number SET NOT NULL, ADD PRIMARY KEY (stream, number)",
    "COMMENT ON COLUMN escalation.outbox.number IS 'place in the stream'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0004 is not undone: restore the database from before it")
