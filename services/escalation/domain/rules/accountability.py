"""Does the rule apply to an incident, by which limb, and which two post-holders does it name? Pure.

The answer is "the rule applies to this incident", never that anybody is guilty. Only people decide that.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import AwareDatetime

from services.escalation.domain.directory.model import Tenure, holder_at
from services.escalation.domain.rules.record import (
    Deadlines,
    Decision,
    Deputy,
    Frozen,
    Holder,
    Limb,
    Outcome,
    Party,
    ReportSet,
    RulebookRef,
)
from services.escalation.domain.rules.rulebook import AdoptedRulebook, Answer, Rulebook
from shared.events import Firecracker, Harm, Source, UnitRef

MEASURES = ("deaths", "injured", "injury_percent", "life_threatening", "property_vnd")


class ReportFacts(Frozen):
    """What the rule looks at in one report."""

    report_id: str
    category: str
    source: Source
    occurred_at: AwareDatetime
    received_at: AwareDatetime
    harm: Harm | None = None
    firecracker: Firecracker | None = None
    clock_ahead: bool = False


class Inputs(Frozen):
    """Everything that a decision depends on. It is stored with the decision, so that it can be computed again.

    Nothing in it is ever erased: from format 2 on it holds no free text.
    """

    format: Literal[2] | None = None
    """Format of the record that is computed from it. None stands for 1, whose inputs do not say it."""
    incident: str
    unit: UnitRef
    time_of_occurrence: AwareDatetime
    evaluated_at: AwareDatetime
    other_times: tuple[AwareDatetime, ...] = ()
    """Times of occurrence that other reports give, if others answer for what happened then: one for each who answer.
    Empty once a person said when it was."""
    reports: tuple[ReportFacts, ...]
    tenures: tuple[Tenure, ...]
    """Tenures of the unit and of its successor, as recorded at `evaluated_at`."""
    rulebook_version: str | None
    exercise: bool = False
    designated: bool = False
    """A person designated the incident "nổi cộm" (prominent), on the record."""
    verified: bool = False
    """The desk verified the incident, whatever its reports show by themselves."""
    assessed_harm: Harm | None = None
    """The harm that a person assessed. Reports after the first `assessed_reports` add to it."""
    assessed_at: AwareDatetime | None = None
    """When the last report that the person knew was received. Without `assessed_reports`, reports received later add to
    the harm: so it was before, when a report that came later with an earlier time was ignored."""
    assessed_reports: int | None = None
    firecrackers_exploded: bool | None = None
    """The desk's answer, if it gave one. It overrides the reports."""
    reclassified: str | None = None
    """The category that the desk found the incident to be."""
    successor: UnitRef | None = None
    """The unit that took the place of `unit`. Its post-holders act now."""
    divided: bool = False
    """The unit ended, several units took parts of it, and nobody has said yet which of them acts."""


def decide(inputs: Inputs, adopted: AdoptedRulebook | None) -> Decision:
    """Evaluate the rule. `adopted`: the rulebook that decides, or None if none was in force."""
    reports = _as_classified(inputs)
    harm = effective_harm(inputs)
    clock_ahead = all(r.clock_ahead for r in reports) and not inputs.verified
    ruling = _rule(inputs, reports, adopted, harm) if adopted else NO_RULEBOOK
    time_disputed = bool(inputs.other_times) and ruling.outcome != "does_not_apply"
    supporting = [r for r in reports if adopted is None or not _contradicts(r, ruling.limb, inputs, adopted.rulebook)]
    return Decision(
        format=inputs.format,
        incident=inputs.incident,
        unit=inputs.unit,
        reports=_named(inputs),
        time_of_occurrence=inputs.time_of_occurrence,
        evaluated_at=inputs.evaluated_at,
        rulebook=ruling.rulebook,
        outcome=ruling.outcome,
        limb=ruling.limb,
        reasons=ruling.reasons,
        severity=ruling.severity,
        standing="confirmed" if _is_confirmed(inputs, supporting, clock_ahead) else "provisional",
        disputed=time_disputed or (not inputs.verified and is_verified(reports) and not is_verified(supporting)),
        immediate=ruling.limb == "firecracker" or _life_at_stake(harm),
        clock_ahead=clock_ahead,
        exercise=inputs.exercise,
        parties=ruling.parties,
        deadlines=ruling.deadlines,
        successor=inputs.successor,
        divided=True if inputs.divided else None,
        time_disputed=True if time_disputed else None,
    )


def _named(inputs: Inputs) -> tuple[str, ...] | ReportSet:
    ids = sorted(r.report_id for r in inputs.reports)
    if inputs.format is None:
        return tuple(ids)
    root = hashlib.sha256("".join(f"{id_}\n" for id_ in ids).encode()).hexdigest()
    return ReportSet(count=len(ids), root=root)


def _as_classified(inputs: Inputs) -> tuple[ReportFacts, ...]:
    if inputs.reclassified is None:
        return inputs.reports
    return tuple(r.model_copy(update={"category": inputs.reclassified}) for r in inputs.reports)


def _is_confirmed(inputs: Inputs, supporting: Sequence[ReportFacts], clock_ahead: bool) -> bool:
    return inputs.verified or (is_verified(supporting) and not clock_ahead)


@dataclass(frozen=True)
class _Ruling:
    """What one rulebook says about an incident."""

    rulebook: RulebookRef | None
    outcome: Outcome
    limb: Limb | None
    reasons: tuple[str, ...]
    severity: int | None = None
    parties: tuple[Party, ...] = ()
    deadlines: Deadlines | None = None


NO_RULEBOOK = _Ruling(None, "undetermined", None, ("no rulebook was in force at the time of occurrence",))


def _rule(inputs: Inputs, reports: Sequence[ReportFacts], adopted: AdoptedRulebook, harm: Harm) -> _Ruling:
    rulebook = adopted.rulebook
    severity = rulebook.severity_of(harm)
    firecracker = _exploded(inputs) or _strongest(_firecracker_limb(r, rulebook) for r in reports)
    serious = _serious_limb(reports, rulebook, severity, inputs.designated)
    outcome, limb = _outcome(firecracker, serious)
    citation = rulebook.citation
    return _Ruling(
        rulebook=RulebookRef(
            version=rulebook.version, sha256=adopted.sha256, citation_vi=citation.vi, citation_en=citation.en
        ),
        outcome=outcome,
        limb=limb,
        reasons=_reasons(firecracker, serious, severity, designated=inputs.designated),
        severity=severity,
        parties=tuple(_party(p.key, inputs) for p in rulebook.posts),
        deadlines=Deadlines(
            acknowledge_by=inputs.evaluated_at + timedelta(minutes=rulebook.acknowledge_minutes(severity)),
            review_by=inputs.evaluated_at + timedelta(minutes=rulebook.deadlines.review_minutes),
        ),
    )


def time_of_occurrence(occurred_at: datetime, received_at: datetime) -> datetime:
    """Return the time that the sender claims, in UTC, but no later than the receipt of the report."""
    return min(occurred_at, received_at).astimezone(UTC)


def is_verified(reports: Iterable[ReportFacts]) -> bool:
    """Return whether the reports verify the incident by themselves.

    They do if one is from an officer, or if two are from different credentials: two calls by one credential are not
    enough. Reports with a clock that is ahead do not count.
    """
    trusted = [r for r in reports if not r.clock_ahead]
    return any(r.source.kind == "officer" for r in trusted) or len({r.source.subject for r in trusted}) > 1


def effective_harm(inputs: Inputs) -> Harm:
    """Return the harm to decide by.

    It is what a person assessed together with what later reports add. Without an assessment, it is what all reports add
    up to.
    """
    assessed, at = inputs.assessed_harm, inputs.assessed_at
    if assessed is None or at is None:
        return combined_harm([r.harm for r in inputs.reports])
    if inputs.assessed_reports is not None:
        return combined_harm([assessed, *(r.harm for r in inputs.reports[inputs.assessed_reports :])])
    return combined_harm([assessed, *(r.harm for r in inputs.reports if r.received_at > at)])


def combined_harm(figures: Iterable[Harm | None]) -> Harm:
    """Return the highest figure that anybody gave for each measure. What nobody gave stays unknown."""
    given = [harm for harm in figures if harm is not None]
    highest: dict[str, int] = {}
    for measure in MEASURES:
        figures = [f for f in (getattr(h, measure) for h in given) if f is not None]
        if figures:
            highest[measure] = max(figures)
    return Harm(**highest)


def lowered(harm: Harm, known: Harm) -> list[str]:
    """Return the names of the measures for which `harm` gives a lower figure than `known`."""
    pairs = {name: (getattr(harm, name), getattr(known, name)) for name in MEASURES}
    return [name for name, (new, old) in pairs.items() if new is not None and old is not None and new < old]


def _life_at_stake(harm: Harm) -> bool:
    return bool(harm.deaths or harm.life_threatening)


def _exploded(inputs: Inputs) -> Answer | None:
    if inputs.firecrackers_exploded is None:
        return None
    return "yes" if inputs.firecrackers_exploded else "no"


def _firecracker_limb(report: ReportFacts, rulebook: Rulebook) -> Answer:
    answer = rulebook.of(report.category).firecracker
    facts = report.firecracker
    if answer != "yes" or facts is None:
        return answer
    if facts.explosion_sound is False:
        # Fireworks (pháo hoa) make no explosion sound. Without a licence, somebody has to find out what it was.
        return "review" if facts.licensed is False else "no"
    # A licensed display may explode, as the city's own does on Lunar New Year's Eve (giao thừa): the desk decides.
    return "review" if facts.licensed else "yes"


def _serious_limb(reports: Iterable[ReportFacts], rulebook: Rulebook, severity: int | None, designated: bool) -> Answer:
    rules = [rulebook.of(r.category) for r in reports]
    by_severity = [r for r in rules if r.serious == "severity"]
    if not by_severity:
        serious: Answer = "no"
    elif severity is None:
        serious = "review" if any(r.unknown_harm == "review" for r in by_severity) else "no"
    else:
        serious = "yes" if severity >= rulebook.serious_limb.minimum_severity else "no"
    if rulebook.serious_limb.requires == "either":
        return "yes" if designated else serious
    if serious == "yes":
        return "yes" if designated else "review"
    return serious


def _contradicts(report: ReportFacts, limb: Limb | None, inputs: Inputs, rulebook: Rulebook) -> bool:
    """Return whether the report, taken alone, says that `limb` is not met.

    What it leaves open contradicts nothing.
    """
    if limb == "serious" and inputs.designated and rulebook.serious_limb.requires == "either":
        return False
    if limb == "firecracker":
        set_off = rulebook.of(report.category).firecracker == "yes"
        return set_off and _firecracker_limb(report, rulebook) == "no"
    severity = rulebook.severity_of(report.harm) if limb == "serious" and report.harm else None
    return severity is not None and severity < rulebook.serious_limb.minimum_severity


def _strongest(answers: Iterable[Answer]) -> Answer:
    found = set(answers)
    return "yes" if "yes" in found else "review" if "review" in found else "no"


def _outcome(firecracker: Answer, serious: Answer) -> tuple[Outcome, Limb | None]:
    if firecracker == "yes":
        return "applies", "firecracker"
    if serious == "yes":
        return "applies", "serious"
    return ("undetermined" if "review" in (firecracker, serious) else "does_not_apply"), None


def _reasons(firecracker: Answer, serious: Answer, severity: int | None, *, designated: bool) -> tuple[str, ...]:
    firecracker_text = {
        "yes": "firecracker limb: set off (nổ pháo trái phép)",
        "review": "firecracker limb: open whether firecrackers exploded",
        "no": "firecracker limb: no firecrackers set off",
    }
    level = "unknown" if severity is None else str(severity)
    serious_text = {
        "yes": f"serious limb: severity {level}{', designated nổi cộm' if designated else ''}",
        "review": f"serious limb: open, severity {level}",
        "no": f"serious limb: not met, severity {level}",
    }
    return (firecracker_text[firecracker], serious_text[serious])


def _party(post: str, inputs: Inputs) -> Party:
    at, known = inputs.evaluated_at, inputs.evaluated_at
    then = holder_at(inputs.tenures, post, inputs.time_of_occurrence, known, unit=inputs.unit)
    acts = inputs.successor or inputs.unit
    now = None if inputs.divided else holder_at(inputs.tenures, post, at, known, unit=acts)
    stands_in = None if inputs.divided else holder_at(inputs.tenures, post, at, known, unit=acts, capacity="deputy")
    deputy = None
    if stands_in:
        deputy = Deputy(**_fields(stands_in), reason=stands_in.reason if inputs.format is None else None)
    changed = (then.holder_id if then else None) != (now.holder_id if now else None)
    return Party(
        post=post,
        accountable=_holder(then),
        present=_holder(now),
        deputy=deputy,
        changed=changed,
        contested=_contested(post, inputs, then),
    )


def _contested(post: str, inputs: Inputs, then: Tenure | None) -> tuple[Holder, ...] | None:
    """Return who else held the post at `other_times`, each once, or None."""
    found: dict[str, Holder] = {}
    for at in inputs.other_times:
        other = holder_at(inputs.tenures, post, at, inputs.evaluated_at, unit=inputs.unit)
        if other is not None and (then is None or other.holder_id != then.holder_id):
            found.setdefault(other.holder_id, Holder(**_fields(other)))
    return tuple(found.values()) or None


def _holder(tenure: Tenure | None) -> Holder | None:
    return Holder(**_fields(tenure)) if tenure else None


def _fields(tenure: Tenure) -> dict[str, Any]:
    return {
        "holder_id": tenure.holder_id,
        "name": tenure.holder_name,
        "acting": tenure.acting,
        "document": tenure.document,
        "tenure_id": tenure.tenure_id,
    }
