"""Marked personal data in every free field go through the whole system. Nowhere do they come out where they may not.

`MAY` says where each may stand. A place that is not in it may hold none. What stays out of backups is not looked at.
"""

from collections.abc import Generator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.e2e.marked_city import FAILING, MARKS, MarkedCity
from tests.e2e.running import PATIENCE_SECONDS, Up, trucban
from tests.support import passable_folder

pytestmark = pytest.mark.timeout(240)
SET = {"TRUCBAN_CHANNEL_HOSTS": "127.0.0.1", "TRUCBAN_LOG_LEVEL": "debug", "TRUCBAN_DEAD_LETTER_AFTER": "1"}
REPORTED = {"description", "neighbourhood", "media_type"}
SAID = {"reason", "response"}
CHECK_VIOLATION = "23514"
WIRE = REPORTED | SAID | {"report_id"}
"""What events carry beside their commitments, until their streams and outboxes are pruned."""
FAILED = {"ledger"}
"""The description of a report whose event the ledger could not take."""
SHOWN = REPORTED | SAID | FAILED
MAY: Mapping[str, set[str]] = {
    "officer": SHOWN,
    "official": SHOWN,
    "desk": SHOWN | {"report_id"},
    # A word of IANA's registry, which events name in the clear. Intake checks its form, and cannot know the word.
    "auditor": {"media_type"},
    "admin": {"media_type"},
}
KEPT: Mapping[str, set[str]] = {
    "intake.report": {"report_id", "subject"},
    "intake.reporter": {"report_id", "subject"},
    "intake.outbox": WIRE | FAILED,
    "escalation.outbox": WIRE,
    "escalation.report": REPORTED | FAILED | {"report_id"},
    "escalation.finding": SAID,
    "escalation.contact": {"address"},
    "escalation.delivery": {"address"},
    "ledger.private": WIRE,
    "ledger.entry": {"media_type"},
    "ledger.dead_letter": WIRE | FAILED,
    "stream trucban.intake.{0}": WIRE | FAILED,
    "stream trucban.escalation.{0}": WIRE,
    "append-only file": WIRE | FAILED,
}
"""Until rows are deleted, outboxes and streams are pruned: docs/architecture/personal-data.md says how."""


@pytest.fixture(scope="module")
def city() -> Generator[MarkedCity]:
    with passable_folder("marked") as data:
        log = Path(f"{data}.log")
        with Up(data, SET, log=log) as up, httpx.Client(base_url=up.url, timeout=PATIENCE_SECONDS) as client:
            made = MarkedCity(up, client)
            made.import_directory()
            made.change_contacts()
            made.work_on_it()
            made.refuse_failing_values()
            made.read_answers()
            listed = trucban(data, "dead-letters", "list")
            made.answers["list of dead letters"] = listed.stdout + listed.stderr
            made.answers["log"] = log.read_text(encoding="utf-8")
            made.answers["file of notices"] = (data / "outbox.ndjson").read_text(encoding="utf-8")
            yield made


def places_of(texts: Mapping[str, str], may: Mapping[str, set[str]]) -> list[str]:
    """Each mark that stands where it may not."""
    return sorted(
        f"{mark} in {place}"
        for place, text in texts.items()
        for mark, value in [*MARKS.items(), *FAILING.items()]
        if mark not in may.get(place, set()) and (value in text or value.encode().hex() in text)
    )


def test_the_databases_did_fail_and_the_log_says_so(city: MarkedCity) -> None:
    """Else nothing would be proved of what it says."""
    lines = [line for line in city.answers["log"].splitlines() if CHECK_VIOLATION in line]
    for said in ("report not committed", "request failed", "event is dead"):  # intake, escalation, ledger
        assert [line for line in lines if said in line], "\n".join(lines)


def test_no_output_holds_what_it_may_not(city: MarkedCity) -> None:
    assert not (found := places_of(city.answers, MAY)), "\n".join(found)


def test_no_store_holds_what_it_may_not(city: MarkedCity) -> None:
    assert not (found := places_of(city.read_stores(), KEPT)), "\n".join(found)
