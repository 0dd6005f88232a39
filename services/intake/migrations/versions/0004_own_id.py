"""A report has an id of ours, by which events name it. Null: its sender's id is the one, as for all of before."""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    "ALTER TABLE intake.report ADD COLUMN own_id TEXT, ADD UNIQUE (own_id)",
    "COMMENT ON COLUMN intake.report.own_id IS 'by which events name it; null: by report_id, as before'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0004 is not undone: restore the database from before it")
