"""Brings databases that ran an earlier content of 0002 to what 0002 makes today.

0002 was changed four times after it had been used. A database of that time lacks columns and indexes, so that nobody
is told. Every statement is idempotent: where 0002 ran in its last form, none of them changes the schema.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    "ALTER TABLE escalation.incident ADD COLUMN IF NOT EXISTS decided_at TIMESTAMP WITH TIME ZONE",
    "ALTER TABLE escalation.incident ADD COLUMN IF NOT EXISTS digest TEXT DEFAULT '{}' NOT NULL",
    """
    DO $$ BEGIN
        IF (SELECT data_type FROM information_schema.columns
            WHERE table_schema = 'escalation' AND table_name = 'incident' AND column_name = 'digest') = 'jsonb' THEN
            ALTER TABLE escalation.incident ALTER COLUMN digest DROP DEFAULT;
            ALTER TABLE escalation.incident ALTER COLUMN digest TYPE TEXT USING digest::text;
            ALTER TABLE escalation.incident ALTER COLUMN digest SET DEFAULT '{}';
        END IF;
    END $$
    """,
    "CREATE INDEX IF NOT EXISTS incident_by_place ON escalation.incident (unit_code, occurred_at)",
    "ALTER TABLE escalation.notice DROP CONSTRAINT IF EXISTS notice_incident_id_recipient_purpose_round_key",
    "ALTER TABLE escalation.notice ADD COLUMN IF NOT EXISTS withdrawn_at TIMESTAMP WITH TIME ZONE",
    "CREATE INDEX IF NOT EXISTS notice_by_incident ON escalation.notice (incident_id)",
    """
    CREATE UNIQUE INDEX IF NOT EXISTS notice_once ON escalation.notice (incident_id, recipient, purpose, round)
        WHERE purpose IN ('accountable', 'duty', 'reminder', 'still_open')
    """,
    "CREATE INDEX IF NOT EXISTS delivery_given_up ON escalation.delivery (finished_at) WHERE state = 'given_up'",
    # An incident of before 0002 has no summary of its reports, or one that begins with the first report after 0002.
    """
    UPDATE escalation.incident SET digest = (incident.digest::jsonb || jsonb_build_object(
        'count', found.count, 'sources', found.sources,
        'assessed', EXISTS (SELECT 1 FROM escalation.finding WHERE finding.incident_id = incident.incident_id)
    ))::text
    FROM (
        SELECT incident_id, count(*) AS count,
            COALESCE(jsonb_agg(DISTINCT facts #>> '{source,subject}')
                FILTER (WHERE facts ->> 'clock_ahead' IS DISTINCT FROM 'true'), '[]') AS sources
        FROM escalation.report GROUP BY incident_id
    ) AS found
    WHERE found.incident_id = incident.incident_id
        AND COALESCE((incident.digest::jsonb ->> 'count')::integer, 0) < found.count
    """,
    # A review of before 0002 is the desk's, which is level 1 of the chain: after it the leadership is told.
    "UPDATE escalation.deadline SET level = 1 WHERE kind = 'review' AND level = 0 AND state = 'pending'",
    # An open incident always has something that falls due. One that has nothing was forgotten: it is looked at at once.
    """
    INSERT INTO escalation.deadline (deadline_id, incident_id, kind, due_at, state)
    SELECT gen_random_uuid()::text, incident_id, CASE outcome WHEN 'does_not_apply' THEN 'idle' ELSE 'lapse' END,
        opened_at, 'pending'
    FROM escalation.incident
    WHERE state NOT IN ('closed', 'dismissed', 'merged', 'handed_off') AND NOT EXISTS (
        SELECT 1 FROM escalation.deadline
        WHERE deadline.incident_id = incident.incident_id AND deadline.state = 'pending'
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0003 is not undone: restore the database from before it")
