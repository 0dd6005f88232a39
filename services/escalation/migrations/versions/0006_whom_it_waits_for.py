"""Due times know whom the incident waits for, and since when."""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = """
ALTER TABLE escalation.deadline
    ADD COLUMN who TEXT[] DEFAULT '{}' NOT NULL,
    ADD COLUMN since TIMESTAMP WITH TIME ZONE;
UPDATE escalation.deadline SET who = ARRAY[notice.recipient], since = notice.issued_at
    FROM escalation.notice
    WHERE notice.notice_id = deadline.notice_id AND deadline.state = 'pending'
        AND deadline.kind IN ('acknowledge', 'review');
UPDATE escalation.deadline SET who = '{desk}', since = coalesce(set_at, incident.opened_at)
    FROM escalation.incident
    WHERE incident.incident_id = deadline.incident_id AND deadline.state = 'pending'
        AND deadline.kind IN ('review', 'idle') AND deadline.notice_id IS NULL;
WITH latest AS (
    SELECT DISTINCT ON (incident_id) incident_id, convert_from(record, 'UTF8')::jsonb AS said
    FROM escalation.decision ORDER BY incident_id, number DESC
), waiting AS (
    SELECT latest.incident_id, coalesce(incident.decided_at, incident.opened_at) AS since,
        incident.state = 'closure_proposed' AS is_proposed,
        (said->>'immediate')::boolean OR (said->>'outcome' = 'applies' AND said->>'standing' = 'confirmed') AS is_told,
        said->>'standing' = 'provisional' OR said->>'outcome' = 'undetermined' AS is_reviewed,
        ARRAY(SELECT DISTINCT coalesce(party->'deputy'->>'holder_id', party->'present'->>'holder_id')
            FROM jsonb_array_elements(said->'parties') AS party ORDER BY 1) AS acting
    FROM latest JOIN escalation.incident USING (incident_id)
)
UPDATE escalation.deadline SET since = waiting.since, who =
    CASE WHEN is_told AND NOT is_proposed THEN array_remove(acting, NULL) ELSE '{}' END
    || CASE WHEN is_proposed OR is_reviewed OR NOT is_told OR array_position(acting, NULL) IS NOT NULL OR acting = '{}'
        THEN ARRAY['desk'] ELSE '{}' END
    FROM waiting
    WHERE waiting.incident_id = deadline.incident_id AND deadline.state = 'pending' AND deadline.kind = 'lapse';
"""
"""An incident whose closure was proposed, or with a vacant post, waits for the desk from its next round on."""


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0006 is not undone: restore the database from before it")
