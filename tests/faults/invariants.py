"""Promises about a city's records, each as a query that returns what breaks it."""

from sqlalchemy import text

# Each query returns what breaks the promise that it stands for.
PROMISES = {
    "the receipt of report {} names another incident than escalation, or none": """
        SELECT r.report_id FROM intake.report r LEFT JOIN escalation.report e USING (report_id)
        WHERE e.incident_id IS DISTINCT FROM r.incident OR e.event_id IS DISTINCT FROM r.event_id
    """,
    "escalation knows report {}, which intake never accepted": """
        SELECT e.report_id FROM escalation.report e LEFT JOIN intake.report r USING (report_id)
        WHERE r.report_id IS NULL
    """,
    "the reports of incident {} are not numbered from 1 without a gap": """
        SELECT incident_id FROM escalation.report GROUP BY incident_id
        HAVING (min(position), max(position), count(DISTINCT position)) <> (1, count(*), count(*))
    """,
    "the decisions of incident {} are not numbered from 1 without a gap, or there is none": """
        SELECT i.incident_id FROM escalation.incident i LEFT JOIN escalation.decision d USING (incident_id)
        GROUP BY i.incident_id
        HAVING (min(d.number), max(d.number), count(DISTINCT d.number)) IS DISTINCT FROM (1, count(*), count(*))
    """,
    "decision {} is not linked to the one before it": """
        SELECT d.decision_id FROM escalation.decision d LEFT JOIN escalation.decision p
            ON p.incident_id = d.incident_id AND p.number = d.number - 1
        WHERE d.previous_id IS DISTINCT FROM p.decision_id
    """,
    "incident, recipient, purpose, round and post {} have more than one notice": """
        SELECT (incident_id, recipient, purpose, round, post)::text FROM escalation.notice
            LEFT JOIN LATERAL unnest(posts) AS post ON true
        WHERE purpose NOT IN ('closure', 'vacancy', 'unit_split', 'not_acknowledged', 'exhausted')
        GROUP BY incident_id, recipient, purpose, round, post HAVING count(*) > 1
    """,
    "of incident, office, round and post {} more notices say that nobody answered than people were asked": """
        SELECT (n.incident_id, recipient, round, post)::text FROM escalation.notice n, unnest(posts) AS post
        WHERE purpose = 'not_acknowledged'
        GROUP BY n.incident_id, recipient, round, post
        HAVING count(*) > (SELECT count(*) FROM escalation.notice asked WHERE asked.incident_id = n.incident_id
            AND asked.round = n.round AND asked.purpose IN ('accountable', 'still_open') AND post = ANY (asked.posts))
    """,
    # Needless: acknowledged, or of an incident that ended, or to somebody who by a later decision does not answer for
    # it any more, or about nobody answering where somebody has.
    "delivery {} is neither sent nor needless": """
        SELECT d.delivery_id FROM escalation.delivery d JOIN escalation.notice n USING (notice_id)
        WHERE d.state <> 'sent' AND NOT (d.state = 'cancelled' AND (
            n.acknowledged_at IS NOT NULL
            OR EXISTS (SELECT FROM escalation.finding f WHERE f.incident_id = n.incident_id
                AND f.kind IN ('dismissal', 'merge', 'hand_off', 'closure') AND f.made_at <= d.finished_at)
            OR EXISTS (SELECT FROM escalation.decision later JOIN escalation.decision first USING (incident_id)
                WHERE first.decision_id = n.decision_id AND later.number > first.number AND NOT EXISTS (
                    SELECT FROM jsonb_array_elements(convert_from(later.record, 'UTF8')::jsonb -> 'parties') AS party
                    WHERE coalesce(party -> 'deputy', party -> 'present') ->> 'holder_id' = n.recipient))
            OR (n.purpose IN ('not_acknowledged', 'exhausted') AND EXISTS (SELECT FROM escalation.notice other
                WHERE other.incident_id = n.incident_id AND other.acknowledged_at <= d.finished_at))
        ))
    """,
    "deadline {} has passed and nothing was done": """
        SELECT deadline_id FROM escalation.deadline WHERE state = 'pending' AND due_at <= :now
    """,
    "incident {} is open and nothing will fall due for it": """
        SELECT i.incident_id FROM escalation.incident i
        WHERE i.state NOT IN ('closed', 'dismissed', 'merged', 'handed_off') AND NOT EXISTS (
            SELECT FROM escalation.deadline d WHERE d.incident_id = i.incident_id AND d.state = 'pending')
    """,
    "incident {} has ended and something still falls due for it": """
        SELECT DISTINCT i.incident_id FROM escalation.incident i JOIN escalation.deadline d USING (incident_id)
        WHERE i.state IN ('closed', 'dismissed', 'merged', 'handed_off') AND d.state = 'pending'
    """,
    # What fell due after its person had left, or when the chain had ended already, has no step of its own.
    "deadline {} passed without a step up": """
        SELECT d.deadline_id FROM escalation.deadline d
        WHERE d.kind IN ('acknowledge', 'review') AND d.state = 'passed' AND NOT EXISTS (
            SELECT FROM escalation.timeline t WHERE t.incident_id = d.incident_id AND (
                t.type LIKE '%chain.exhausted%' OR (t.type LIKE '%step.raised%'
                AND (convert_from(t.body, 'UTF8')::jsonb #>> '{data,due_at}')::timestamptz = d.due_at))
        ) AND NOT EXISTS (SELECT FROM escalation.deadline change WHERE change.incident_id = d.incident_id
            AND change.kind = 'directory' AND change.state = 'passed')
    """,
    "incident and due time {} have more steps up than deadlines": """
        SELECT (t.incident_id, t.due_at)::text FROM (
            SELECT incident_id, (convert_from(body, 'UTF8')::jsonb #>> '{data,due_at}')::timestamptz AS due_at
            FROM escalation.timeline WHERE type LIKE '%step.raised%'
        ) t GROUP BY t.incident_id, t.due_at HAVING count(*) > (
            SELECT count(*) FROM escalation.deadline d WHERE d.incident_id = t.incident_id AND d.due_at = t.due_at
            AND d.kind IN ('acknowledge', 'review') AND d.state = 'passed')
    """,
    "the chain of incident, reason and round {} ended more than once": """
        SELECT (incident_id, said ->> 'reason', said ->> 'round')::text FROM (
            SELECT incident_id, convert_from(body, 'UTF8')::jsonb -> 'data' AS said
            FROM escalation.timeline WHERE type LIKE '%chain.exhausted%'
        ) t GROUP BY incident_id, said ->> 'reason', said ->> 'round' HAVING count(*) > 1
    """,
    "incident {} is in a round for which nothing lapsed, was reopened or decided anew": """
        SELECT i.incident_id FROM escalation.incident i WHERE i.round > 1
            + (SELECT count(*) FROM escalation.deadline d WHERE d.incident_id = i.incident_id
                AND d.kind = 'lapse' AND d.state = 'passed')
            + (SELECT count(*) FROM escalation.finding f WHERE f.incident_id = i.incident_id AND f.kind = 'reopening')
            + (SELECT count(*) - 1 FROM escalation.decision d WHERE d.incident_id = i.incident_id)
    """,
    "what was said of an incident is recorded more than once: {}": """
        SELECT reason FROM escalation.finding WHERE reason IS NOT NULL
        GROUP BY incident_id, kind, reason HAVING count(*) > 1
    """,
    "event {} is more than once in the timeline": """
        SELECT event_id FROM escalation.timeline GROUP BY event_id HAVING count(*) > 1
    """,
    "event {} is in the timeline and not in the ledger": """
        SELECT event_id FROM escalation.timeline t WHERE NOT EXISTS (
            SELECT FROM ledger.entry e WHERE e.event_id = t.event_id)
    """,
    "event {} of escalation is in the ledger and not in the timeline": """
        SELECT event_id FROM ledger.entry e WHERE e.kind <> 'report.received' AND NOT EXISTS (
            SELECT FROM escalation.timeline t WHERE t.event_id = e.event_id)
    """,
    "report {} has not exactly one entry in the ledger": """
        SELECT r.report_id FROM intake.report r LEFT JOIN ledger.entry e
            ON e.event_id = r.event_id AND e.kind = 'report.received'
        GROUP BY r.report_id HAVING count(e.idx) <> 1
    """,
    "the ledger has a report.received {} that intake does not know": """
        SELECT e.event_id FROM ledger.entry e LEFT JOIN intake.report r USING (event_id)
        WHERE e.kind = 'report.received' AND r.event_id IS NULL
    """,
    # An incident numbers its events itself, so a gap here is an event that got lost on its way to the ledger.
    "the events of incident {} are not in the ledger from 1 to its last, each once": """
        SELECT i.incident_id FROM escalation.incident i LEFT JOIN (
            SELECT incident, (convert_from(body, 'UTF8')::jsonb #>> '{data,sequence}')::int AS sequence
            FROM ledger.entry WHERE incident IS NOT NULL
        ) e ON e.incident = i.incident_id
        GROUP BY i.incident_id, i.sequence
        HAVING (min(e.sequence), max(e.sequence), count(DISTINCT e.sequence), count(*))
            IS DISTINCT FROM (1, i.sequence, i.sequence, i.sequence)
    """,
    "the ledger has events of incident {}, which escalation does not know": """
        SELECT e.incident FROM ledger.entry e LEFT JOIN escalation.incident i ON i.incident_id = e.incident
        WHERE e.incident IS NOT NULL AND i.incident_id IS NULL
    """,
    "an event of service {} is dead": """
        SELECT 'intake' FROM intake.dead_letter UNION ALL SELECT 'escalation' FROM escalation.dead_letter
        UNION ALL SELECT 'ledger' FROM ledger.dead_letter
    """,
}

# Rows of a table, and the ledger's entries about them: one entry each, and no entry more.
RECORDED = {
    "decision.made": ("decision_id", "SELECT decision_id FROM escalation.decision"),
    "notice.issued": ("notice_id", "SELECT notice_id FROM escalation.notice"),
    "delivery.finished": ("delivery_id", "SELECT delivery_id FROM escalation.delivery WHERE state = 'sent'"),
    "acknowledgement.recorded": (
        "notice_id",
        "SELECT notice_id FROM escalation.notice WHERE acknowledged_at IS NOT NULL",
    ),
    "%": ("finding_id", "SELECT finding_id FROM escalation.finding"),
    "tenure.recorded": ("tenure_id", "SELECT tenure_id FROM escalation.tenure"),
    "rulebook.adopted": ("version", "SELECT version FROM escalation.rulebook"),
}
ENTRIES_ABOUT = text("""
    SELECT convert_from(body, 'UTF8')\\:\\:jsonb #>> ARRAY['data', :key] FROM ledger.entry
    WHERE kind LIKE :kind AND convert_from(body, 'UTF8')\\:\\:jsonb #> ARRAY['data', :key] IS NOT NULL
    AND convert_from(body, 'UTF8')\\:\\:jsonb #>> '{data,withdrawn}' IS DISTINCT FROM 'true'
""")
