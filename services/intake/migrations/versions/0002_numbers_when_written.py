"""The number of an outbox row is given when the row is written. Rows that wait without one get theirs here."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    "LOCK TABLE intake.outbox, intake.outbox_stream IN ACCESS EXCLUSIVE MODE",
    "INSERT INTO intake.outbox_stream SELECT DISTINCT stream, 0 FROM intake.outbox ON CONFLICT DO NOTHING",
    """
    UPDATE intake.outbox SET number = assigned + nth
    FROM intake.outbox_stream, (
        SELECT seq, row_number() OVER (PARTITION BY stream ORDER BY seq) AS nth
        FROM intake.outbox WHERE number IS NULL
    ) AS waiting
    WHERE outbox.seq = waiting.seq AND outbox_stream.stream = outbox.stream
    """,
    """
    UPDATE intake.outbox_stream SET assigned = greatest(assigned, highest)
    FROM (SELECT stream, max(number) AS highest FROM intake.outbox GROUP BY stream) AS given
    WHERE given.stream = outbox_stream.stream
    """,
    "DROP INDEX intake.outbox_unnumbered, intake.outbox_numbered",
    "ALTER TABLE intake.outbox DROP COLUMN seq, ALTER COLUMN number SET NOT NULL, ADD PRIMARY KEY (stream, number)",
    "COMMENT ON COLUMN intake.outbox.number IS 'place in the stream'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0002 is not undone: restore the database from before it")
