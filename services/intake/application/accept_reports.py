"""Accepting reports: each is checked by itself, and those that arrive at the same time share a commit."""

import base64
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.intake import store
from services.intake.application import metrics
from services.intake.application.intake import Intake
from services.intake.domain.draft import Draft, DraftContext, ReportKey, draft_report, reporter_json
from services.intake.domain.submission import Submission
from shared.commitment import new_salt
from shared.events import encode
from shared.group_commit import GroupCommit
from shared.halving import work_in_halves
from shared.http.identity import Principal
from shared.http.problem import Problem
from shared.ids import uuid7
from shared.messaging import INTAKE, Outgoing, add, describe_error, is_transient, route
from shared.probe import Probe

log = structlog.get_logger()
REPORTS_A_COMMIT = 500
"""At most so many reports share one commit. Long ones count as several: whoever comes meanwhile waits for its end."""
CHARACTERS_OF_ONE = 500
CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ")
UNKNOWN = "not known whether the report was stored: send it again with the same report_id"


@dataclass(frozen=True)
class Accepted:
    """The answer to a report: what is stored under its id, and whether this message was the first to bring it."""

    report_id: str
    receipt: str
    received_at: datetime
    is_new: bool


class ReportAcceptance:
    """First `prepare`, then `accept`."""

    def __init__(self, intake: Intake, commits: Probe) -> None:
        """`commits` is told of each commit, and of each that fails in a way that may pass."""
        self.intake = intake
        self._probe = commits
        self._commits = GroupCommit(self._commit, at_most=REPORTS_A_COMMIT, weight=_weight)

    def health_failure(self) -> str | None:
        return self._commits.health_failure()

    async def prepare(self, submission: Submission, caller: Principal) -> Draft:
        """Check a report, and make its event. Raises Problem 403, 422, or 503 while no wards are known."""
        units = await self.intake.units()
        if not units:
            raise Problem(503, "no wards are known yet: import them with 'trucban import wards FILE'")
        now = self.intake.clock.now()
        context = DraftContext(
            received_at=now,
            new_id=lambda: uuid7(now),
            new_salt=new_salt,
            new_receipt=new_receipt,
            content_key=self.intake.content_key,
            pseudonym_key=self.intake.pseudonym_key,
            postings=self.intake.postings,
        )
        return draft_report(submission, caller, units, context)

    async def accept(self, draft: Draft) -> Accepted:
        """Durable when this returns. Raises Problem 409 for a used id, 503 when it is unknown whether it was stored."""
        outcome = await self._commits.add(draft, draft.submitter)
        if isinstance(outcome, Problem):
            metrics.reports.labels("conflict" if outcome.status == 409 else "unknown").inc()
            raise outcome
        metrics.reports.labels("accepted" if outcome.is_new else "duplicate").inc()
        return outcome

    async def _commit(self, drafts: Sequence[Draft]) -> list[Accepted | Problem]:
        """One outcome a draft. A draft that the database refuses fails alone."""
        unknown = Problem(503, UNKNOWN, headers={"Retry-After": "1"})
        outcomes: list[Accepted | Problem] = [unknown] * len(drafts)

        async def commit_some(places: Sequence[int]) -> None:
            batch = [drafts[place] for place in places]
            for place, outcome in zip(places, _outcomes(batch, await self._store(batch)), strict=True):
                outcomes[place] = outcome

        async def refuse(_: int, error: Exception) -> None:
            log.warning("report not committed", error=describe_error(error))

        try:
            await work_in_halves(range(len(drafts)), commit_some, refuse, is_transient)
            self._probe.succeeded()
        except Exception as error:
            self._probe.failed(error)
            log.warning("reports not committed", count=outcomes.count(unknown), error=describe_error(error))
        return outcomes

    async def _store(self, drafts: Sequence[Draft]) -> dict[ReportKey, store.StoredReport]:
        """Store the new ones in one transaction, with their events. Of one key in two drafts the first counts."""
        distinct = {d.key: d for d in reversed(drafts)}
        async with self.intake.database.begin() as connection:
            stored = await store.add_reports(connection, list(distinct.values()))
            new = [d for key, d in distinct.items() if stored[key].is_new]
            new.sort(key=lambda d: d.event.id)
            sealed = [
                (d.key, self._seal(d), d.reporter_salt)
                for d in new
                if d.reporter is not None and d.reporter_salt is not None
            ]
            await store.add_reporters(connection, sealed)
            outgoing = [self._outgoing(d) for d in new]
            await add(connection, store.outbox, outgoing, partitions=self.intake.partitions)
        self.intake.wake()
        return stored

    def _outgoing(self, draft: Draft) -> Outgoing:
        event = draft.event
        assert event.data.unit is not None
        return Outgoing(event.id, route(INTAKE, event.data.unit.code, self.intake.partitions), encode(event))

    def _seal(self, draft: Draft) -> bytes:
        """AES-256-GCM, nonce first. The associated data binds it to its report."""
        assert draft.reporter is not None
        nonce = os.urandom(12)
        text = reporter_json(draft.reporter).encode()
        return nonce + AESGCM(self.intake.reporter_key).encrypt(nonce, text, draft.report_id.encode())


def _weight(draft: Draft) -> int:
    description = draft.event.data.description
    return 1 if description is None else 1 + len(description.value) // CHARACTERS_OF_ONE


def _outcomes(drafts: Sequence[Draft], stored: dict[ReportKey, store.StoredReport]) -> list[Accepted | Problem]:
    """A draft whose key is stored with another content is a conflict. A repeated one is a duplicate of the first."""
    outcomes: list[Accepted | Problem] = []
    seen: set[ReportKey] = set()
    for draft in drafts:
        report_id, found = draft.report_id, stored[draft.key]
        if found.content_mac != draft.content_mac:
            used = f"you used report_id {report_id} for another report, with the receipt {found.receipt}"
            outcomes.append(Problem(409, f"{used}: give this one its own id"))
            continue
        is_new = found.is_new and draft.key not in seen
        seen.add(draft.key)
        outcomes.append(Accepted(report_id, found.receipt, found.received_at, is_new))
    return outcomes


def new_receipt() -> str:
    """80 random bits in Crockford's base 32, without letters that are mistaken for digits."""
    letters = base64.b32encode(secrets.token_bytes(10)).translate(CROCKFORD).decode()
    return "TB-" + "-".join(letters[i : i + 4] for i in range(0, 16, 4))
