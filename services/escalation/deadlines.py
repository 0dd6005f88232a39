"""The loop over due times: each that has passed is acted on once, whoever runs it."""

from services.escalation.chain import Passed, Told, pass_due
from services.escalation.directory import UnitKey, key_of
from services.escalation.handlers import Escalation, count
from services.escalation.store import cases, deadlines

AT_ONCE = 500
WITH_REPORTS = frozenset({"directory", "lapse", "idle", "remind"})
"""Kinds that decide anew, and so look at all reports."""


async def pass_deadlines(escalation: Escalation) -> int:
    """Act on due times that have passed; returns of how many incidents."""
    async with escalation.engine.begin() as connection:
        now = escalation.clock.now()
        ids = await deadlines.claim_passed(connection, now, AT_ONCE)
        if not ids:
            return 0
        passed: dict[str, list[Passed]] = {}
        decides: set[str] = set()
        for row in await deadlines.pass_deadlines(connection, ids, now):
            passed.setdefault(row.incident_id, []).append(Passed(row.kind, row.due_at, row.notice_id, row.level))
            if row.kind in WITH_REPORTS:
                decides.add(row.incident_id)
        # another process may have acted on some between our look at what is due and our lock
        found = await cases.locked(connection, list(passed))
        await cases.with_history(connection, [c for c in found if c.incident_id in decides])
        await cases.with_history(connection, [c for c in found if c.incident_id not in decides], reports=False)
        units: set[UnitKey] = {key_of(case.unit) for case in found}
        units |= {key_of(case.successor) for case in found if case.successor}
        router = await escalation.router(connection, units)
        notice_ids = [p.notice_id for rows in passed.values() for p in rows if p.notice_id]
        told: dict[str, Told] = await deadlines.notices(connection, notice_ids)
        for case in found:
            pass_due(router, case, passed[case.incident_id], told)
        await escalation.save(connection, router.out, router.now)
    count(router.out)
    escalation.wake()
    return len(passed)
