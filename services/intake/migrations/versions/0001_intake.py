"""The schema of the first release."""

from alembic import op

from services.intake.store import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    op.execute("DROP SCHEMA intake CASCADE")
