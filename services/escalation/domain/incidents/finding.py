"""Findings: what people found out or did about an incident, and what a decision takes from it. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from services.escalation.domain.incidents.correlation import Point
from shared.events import Harm

FindingKind = Literal[
    "verification",
    "dismissal",
    "designation",
    "severity",
    "merge",
    "split",
    "hand_off",
    "reassignment",
    "correction",
    "response",
    "escalation",
    "closure_proposal",
    "closure",
    "reopening",
]


class Finding(BaseModel):
    """One finding. `author` is the subject of a credential.

    Most kinds have a reason in free text.
    """

    model_config = ConfigDict(frozen=True)

    finding_id: str
    kind: FindingKind
    author: str
    role: str
    content: dict[str, Any]
    reason: str | None = None
    made_at: AwareDatetime

    def says_the_same(self, other: "Finding") -> bool:
        """Return whether `other` is the same finding sent again."""
        return self.model_dump(exclude=UNSAID) == other.model_dump(exclude=UNSAID)


UNSAID: Any = {"finding_id": True, "made_at": True, "content": {"round": True}}
"""What somebody who says the same again does not say: `round` is that which a correction began."""


class Assessment(BaseModel):
    """What holds after all findings so far.

    `harm` replaces the figures of the first `assessed_reports`, which its author knew. Later reports add to it. It is
    None if the finding is older than this number, or if reports were taken away since: then those received after
    `assessed_at` are the later ones.
    """

    model_config = ConfigDict(frozen=True)

    verified: bool = False
    designated: bool = False
    harm: Harm | None = None
    assessed_at: AwareDatetime | None = None
    assessed_reports: int | None = None
    occurred_at: AwareDatetime | None = None
    """When it occurred, if a person said it. It overrides the reports."""
    firecrackers_exploded: bool | None = None
    reclassified: str | None = None


def assess(findings: Iterable[Finding]) -> Assessment:
    """Return what holds after these findings, which are in order."""
    held = Assessment()
    for finding in findings:
        held = held.model_copy(update=_effect_of(finding))
    return held


def _effect_of(finding: Finding) -> dict[str, Any]:
    """Return the fields of the assessment that a finding sets."""
    content = finding.content
    if finding.kind == "verification":
        said = {
            name: content[name] for name in ("firecrackers_exploded", "reclassified") if content.get(name) is not None
        }
        return {"verified": True} | said
    if finding.kind == "designation":
        return {"designated": content["prominent"]}
    if finding.kind == "severity":
        until = datetime.fromisoformat(content["until"])
        harm = Harm.model_validate(content["harm"])
        return {"harm": harm, "assessed_at": until, "assessed_reports": content.get("reports")}
    if finding.kind == "correction":
        return {"occurred_at": datetime.fromisoformat(content["occurred_at"])} if "occurred_at" in content else {}
    if finding.kind == "split":
        return {"assessed_reports": None}
    if finding.kind == "reopening":
        return {"verified": False}
    return {}


def point_of(findings: Iterable[Finding]) -> Point | None:
    """Return the point to which the desk corrected the incident last, or None."""
    said = [f.content["location"] for f in findings if f.kind == "correction" and "location" in f.content]
    return Point(**said[-1]) if said else None


def last(findings: Iterable[Finding], kind: FindingKind) -> Finding | None:
    return next((f for f in reversed(list(findings)) if f.kind == kind), None)
