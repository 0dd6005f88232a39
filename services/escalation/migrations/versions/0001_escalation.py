"""The schema of the first release."""

from alembic import op

from services.escalation.store.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind())
    # A range over text needs no contrib extension; one scalar is written as a one-point range.
    op.execute('CREATE TYPE escalation.textrange AS RANGE (subtype = text, collation = "C")')
    op.execute(
        """
        ALTER TABLE escalation.tenure ADD CONSTRAINT tenure_one_holder EXCLUDE USING gist (
            escalation.textrange(unit_code || '/' || post, unit_code || '/' || post, '[]') WITH &&,
            tstzrange(valid_from, valid_to) WITH &&,
            tstzrange(recorded_at, superseded_at) WITH &&
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP SCHEMA escalation CASCADE")
