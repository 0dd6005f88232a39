"""What followed a unit that has ended, so that who names it is told."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("ALTER TABLE intake.unit ADD COLUMN successors jsonb NOT NULL DEFAULT '[]'")
