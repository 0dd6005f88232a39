"""Deputies, rosters, lineage and quiet hours; findings, rounds and levels; pacing, the timeline."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = """
ALTER TABLE escalation.unit ADD COLUMN successors JSONB DEFAULT '[]' NOT NULL, ADD COLUMN legal_act TEXT;
ALTER TABLE escalation.tenure ADD COLUMN capacity TEXT DEFAULT 'holder' NOT NULL, ADD COLUMN reason TEXT;
ALTER TABLE escalation.tenure DROP CONSTRAINT tenure_one_holder;
ALTER TABLE escalation.tenure ADD CONSTRAINT tenure_one_holder EXCLUDE USING gist (
    escalation.textrange(
        unit_code || '/' || (unit_valid_from - DATE '2000-01-01')::text || '/' || post || '/' || capacity,
        unit_code || '/' || (unit_valid_from - DATE '2000-01-01')::text || '/' || post || '/' || capacity,
        '[]'
    ) WITH &&,
    tstzrange(valid_from, valid_to) WITH &&,
    tstzrange(recorded_at, superseded_at) WITH &&
);
CREATE TABLE escalation.roster (
    roster_id TEXT NOT NULL,
    level TEXT NOT NULL,
    unit_code TEXT,
    unit_valid_from DATE,
    holder_id TEXT NOT NULL,
    holder_name TEXT NOT NULL,
    document TEXT NOT NULL,
    valid_from TIMESTAMP WITH TIME ZONE NOT NULL,
    valid_to TIMESTAMP WITH TIME ZONE NOT NULL,
    sample BOOLEAN NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    superseded_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (roster_id)
);
CREATE INDEX roster_by_time ON escalation.roster (valid_to);
ALTER TABLE escalation.contact ADD COLUMN quiet_from TEXT, ADD COLUMN quiet_to TEXT;
ALTER TABLE escalation.incident
    ADD COLUMN rulebook_version TEXT,
    ADD COLUMN round INTEGER DEFAULT '1' NOT NULL,
    ADD COLUMN level INTEGER DEFAULT '0' NOT NULL,
    ADD COLUMN successor JSONB,
    ADD COLUMN digest TEXT DEFAULT '{}' NOT NULL,
    ADD COLUMN decided_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN merged_into TEXT REFERENCES escalation.incident (incident_id);
CREATE INDEX incident_open ON escalation.incident (incident_id)
    WHERE state NOT IN ('closed', 'dismissed', 'merged', 'handed_off');
CREATE INDEX incident_by_place ON escalation.incident (unit_code, occurred_at);
CREATE INDEX incident_merged ON escalation.incident (merged_into) WHERE merged_into IS NOT NULL;
CREATE TABLE escalation.finding (
    finding_id TEXT NOT NULL,
    incident_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    author TEXT NOT NULL,
    role TEXT NOT NULL,
    content JSONB NOT NULL,
    reason TEXT,
    made_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (finding_id),
    UNIQUE (incident_id, position),
    FOREIGN KEY(incident_id) REFERENCES escalation.incident (incident_id)
);
CREATE TABLE escalation.link (
    incident_id TEXT NOT NULL,
    other_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    made_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (incident_id, other_id),
    FOREIGN KEY(incident_id) REFERENCES escalation.incident (incident_id),
    FOREIGN KEY(other_id) REFERENCES escalation.incident (incident_id)
);
ALTER TABLE escalation.notice ADD COLUMN round INTEGER DEFAULT '1' NOT NULL;
ALTER TABLE escalation.notice DROP CONSTRAINT notice_incident_id_recipient_purpose_key;
ALTER TABLE escalation.notice ADD COLUMN withdrawn_at TIMESTAMP WITH TIME ZONE;
CREATE INDEX notice_by_incident ON escalation.notice (incident_id);
CREATE UNIQUE INDEX notice_once ON escalation.notice (incident_id, recipient, purpose, round)
    WHERE purpose IN ('accountable', 'duty', 'reminder', 'still_open');
ALTER TABLE escalation.delivery ADD COLUMN bundle_id TEXT;
DROP INDEX escalation.delivery_due;
CREATE INDEX delivery_due ON escalation.delivery (next_at) WHERE state IN ('queued', 'sending', 'failed');
CREATE INDEX delivery_given_up ON escalation.delivery (finished_at) WHERE state = 'given_up';
CREATE TABLE escalation.pace (
    key TEXT NOT NULL,
    allowed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (key)
);
ALTER TABLE escalation.deadline ADD COLUMN level INTEGER DEFAULT '0' NOT NULL;
CREATE TABLE escalation.timeline (
    position BIGINT GENERATED ALWAYS AS IDENTITY,
    transaction BIGINT DEFAULT pg_current_xact_id()::text::bigint NOT NULL,
    event_id TEXT NOT NULL,
    incident_id TEXT,
    unit_code TEXT,
    type TEXT NOT NULL,
    body BYTEA NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (position)
);
CREATE INDEX timeline_by_incident ON escalation.timeline (incident_id, position);
CREATE INDEX timeline_in_order ON escalation.timeline (transaction, position);
INSERT INTO escalation.deadline (deadline_id, incident_id, kind, due_at, state)
    SELECT gen_random_uuid()::text, incident_id, CASE outcome WHEN 'does_not_apply' THEN 'idle' ELSE 'lapse' END,
        opened_at + INTERVAL '3 days', 'pending'
    FROM escalation.incident WHERE state NOT IN ('closed', 'dismissed', 'merged', 'handed_off');
"""
# The last: an open incident always has something that falls due.


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0002 is not undone: restore the database from before it")
