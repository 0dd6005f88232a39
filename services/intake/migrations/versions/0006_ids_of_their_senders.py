"""A report's id is its sender's: two senders may use one. Before, an id was one for all."""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = (
    "LOCK TABLE intake.report, intake.reporter IN ACCESS EXCLUSIVE MODE",
    "ALTER TABLE intake.reporter DROP CONSTRAINT reporter_report_id_fkey, DROP CONSTRAINT reporter_pkey",
    "ALTER TABLE intake.report DROP CONSTRAINT report_pkey, ADD PRIMARY KEY (submitter, report_id)",
    "ALTER TABLE intake.reporter ADD COLUMN submitter TEXT",
    """
    UPDATE intake.reporter SET submitter = report.submitter
    FROM intake.report WHERE report.report_id = reporter.report_id
    """,
    "ALTER TABLE intake.reporter ADD PRIMARY KEY (submitter, report_id)",
    """
    ALTER TABLE intake.reporter
        ADD FOREIGN KEY (submitter, report_id) REFERENCES intake.report (submitter, report_id)
    """,
    "CREATE INDEX report_by_submitter ON intake.report (submitter, event_id)",
    "CREATE UNIQUE INDEX report_of_before ON intake.report (report_id) WHERE own_id IS NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0006 is not undone: restore the database from before it")
