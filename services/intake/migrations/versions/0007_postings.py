"""Where officers and devices are posted, as escalation has recorded it."""

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = """
CREATE TABLE intake.posting (
    posting_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    unit_code TEXT NOT NULL,
    unit_valid_from DATE NOT NULL,
    valid_from TIMESTAMP WITH TIME ZONE NOT NULL,
    valid_to TIMESTAMP WITH TIME ZONE,
    withdrawn BOOLEAN NOT NULL,
    PRIMARY KEY (posting_id)
)
"""


def upgrade() -> None:
    op.execute(STATEMENTS)
