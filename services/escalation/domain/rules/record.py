"""The decision record: what a decision says, in each format that there ever was. Pure.

Format 1 has no field `format`. It names each report by its id, and may quote the reason of a delegation. Format 2 names
the reports by count and root, and has no free text, so that nothing in it or in its inputs is ever erased.
"""

from typing import Any, Literal

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict

from shared.events import UnitRef

Outcome = Literal["applies", "does_not_apply", "undetermined"]
Limb = Literal["firecracker", "serious"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Holder(Frozen):
    holder_id: str
    name: str
    acting: bool
    document: str
    tenure_id: str


class Deputy(Holder):
    """A deputy (người được ủy quyền) of the present holder, who is notified in the holder's place."""

    reason: str | None = None
    """In format 1 only: it is free text."""


class Party(Frozen):
    """A post (chức vụ) that the rule names, with its holders.

    `accountable` held it at the time of occurrence; `present` holds it now; `changed`: they are not the same person.
    """

    post: str
    accountable: Holder | None = None
    present: Holder | None = None
    deputy: Deputy | None = None
    changed: bool
    contested: tuple[Holder, ...] | None = None
    """Who else held it at times of occurrence that other reports give, until the desk has said when it was."""

    @property
    def acting(self) -> Holder | None:
        """Who is notified and answers for this post now: the deputy, or else the present holder."""
        return self.deputy or self.present


class RulebookRef(Frozen):
    version: str
    sha256: str
    citation_vi: str
    citation_en: str


class Deadlines(Frozen):
    acknowledge_by: AwareDatetime
    review_by: AwareDatetime


class ReportSet(Frozen):
    """Which reports a decision is made on. Their ids stand in its inputs."""

    count: int
    root: str
    """SHA-256 of the ids in the order of their characters, each followed by a line feed; 64 hex digits."""


class Decision(Frozen):
    """The decision record. The ledger keeps it, and replay must reproduce it byte for byte."""

    format: Literal[2] | None = None
    """None stands for 1, in which a record does not say it."""
    incident: str
    unit: UnitRef
    reports: tuple[str, ...] | ReportSet
    """Format 1: the ids."""
    time_of_occurrence: AwareDatetime
    evaluated_at: AwareDatetime
    rulebook: RulebookRef | None = None
    outcome: Outcome
    limb: Limb | None = None
    reasons: tuple[str, ...]
    severity: int | None = None
    standing: Literal["provisional", "confirmed"]
    disputed: bool
    """The desk has to decide: the reports verify the incident only together with those that contradict the limb that
    applies, or it is `time_disputed`."""
    immediate: bool
    """Firecrackers were set off, or life is at stake. The holders are notified at once, verified or not."""
    clock_ahead: bool
    exercise: bool
    parties: tuple[Party, ...]
    deadlines: Deadlines | None = None
    successor: UnitRef | None = None
    divided: Literal[True] | None = None
    time_disputed: Literal[True] | None = None
    """Other persons would answer, or by another rulebook, if it occurred when other reports say. The desk has to say
    when it was."""

    @property
    def acting(self) -> set[str]:
        """Holder ids of those who are notified and answer for a post now."""
        return {p.acting.holder_id for p in self.parties if p.acting}

    @property
    def acting_for(self) -> set[tuple[str, str]]:
        """Who is notified and answers now, for which post: (holder id, post)."""
        return {(p.acting.holder_id, p.post) for p in self.parties if p.acting}

    @property
    def named(self) -> set[str]:
        """Holder ids of everybody in the decision: accountable and present holders, deputies, and contested ones."""
        found = (h for p in self.parties for h in (p.accountable, p.present, p.deputy, *(p.contested or ())))
        return {h.holder_id for h in found if h}

    def differs_from(self, other: "Decision") -> bool:
        """Return whether the result differs.

        A further report that says the same, or the same tenure recorded anew, is no difference.
        """
        return self.model_dump(exclude=PASSING) != other.model_dump(exclude=PASSING)


_RECORD = {"tenure_id": True}
PASSING: Any = {
    "format": True,
    "reports": True,
    "evaluated_at": True,
    "deadlines": True,
    "parties": {
        "__all__": {
            "accountable": _RECORD,
            "present": _RECORD,
            "deputy": _RECORD | {"reason": True},
            "contested": {"__all__": _RECORD},
        }
    },
}
"""Fields in which two decisions of the same result may differ.

A decision of format 1 may be followed by one of format 2, which would not be made for that alone.
"""


def record_bytes(decision: Decision) -> bytes:
    """Return the record as canonical JSON (RFC 8785). Its keys are ASCII, and it has no floats."""
    return orjson.dumps(decision.model_dump(mode="json", exclude_none=True), option=orjson.OPT_SORT_KEYS)
