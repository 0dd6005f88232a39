"""Decisions of format 1 are computed again to the byte, for ever; so they were made by commit c259847.

`c259847/` holds what that commit's sample left: `escalation.decision` with inputs and records, the rulebooks that it
had adopted, and the ledger's export, which its key verifies. These files never change.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.escalation.domain.rules.accountability import Inputs, decide
from services.escalation.domain.rules.record import Decision, record_bytes
from services.escalation.domain.rules.replay import replay
from services.escalation.domain.rules.rulebook import AdoptedRulebook, read
from services.ledger.domain.verify import verify_export

KEPT = Path(__file__).parent / "c259847"
VKEY = "trucban.local/ledger+c70feccc+AbOd71FhiH4CoXt66yMFE85w1a1SWNXVvLB92YDwrWnz"


def lines(name: str) -> Iterator[bytes]:
    with gzip.open(KEPT / name) as file:
        yield from file


@pytest.fixture(scope="module")
def books() -> dict[str, AdoptedRulebook]:
    found = [read(path.read_bytes()) for path in KEPT.glob("*.yaml")]
    return {book.rulebook.version: book for book in found}


@pytest.fixture(scope="module")
def decisions() -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in lines("decisions.ndjson.gz")]


def test_each_is_computed_again_to_the_byte(decisions: list[dict[str, Any]], books: dict[str, AdoptedRulebook]) -> None:
    replays = [replay(d["decision_id"], d["inputs"], d["record"].encode(), books) for d in decisions]
    assert len(replays) == 145
    assert [(r.decision_id, r.differences) for r in replays if not r.equal] == []


def test_the_ledger_of_then_verifies_and_has_the_same_records(decisions: list[dict[str, Any]]) -> None:
    done = verify_export(lines("export.ndjson.gz"), VKEY)
    assert (done.is_verified, done.entries, done.failures) == (True, 1_564, [])
    _, *entries = [orjson.loads(line) for line in lines("export.ndjson.gz")]
    made = [e["body"]["data"] for e in entries if e["body"]["kind"] == "vn.trucban.decision.made.v1"]
    assert {d["decision_id"]: d["record"] for d in made} == {
        d["decision_id"]: orjson.loads(d["record"]) for d in decisions
    }


def test_a_decision_that_stands_is_followed_by_one_of_format_2_only_if_it_says_something_else(
    decisions: list[dict[str, Any]], books: dict[str, AdoptedRulebook]
) -> None:
    for kept in decisions:
        inputs = Inputs.model_validate(kept["inputs"])
        book = books[inputs.rulebook_version] if inputs.rulebook_version else None
        before = Decision.model_validate_json(kept["record"])
        tenures = tuple(t.model_copy(update={"reason": None}) for t in inputs.tenures)
        again = decide(inputs.model_copy(update={"format": 2, "tenures": tenures}), book)
        assert not again.differs_from(before)
        assert record_bytes(again) != kept["record"].encode()
