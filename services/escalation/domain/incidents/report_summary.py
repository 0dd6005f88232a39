"""A summary of an incident's reports, small enough to be stored in the incident's row. Pure.

Most reports of a storm repeat what others said, and cannot change the decision. The summary tells which do, so that the
incident's history need not be loaded for them.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.escalation.domain.incidents.lifecycle import State
from services.escalation.domain.rules.accountability import ReportFacts
from services.escalation.domain.rules.record import Decision, Outcome
from shared.events import Firecracker, Harm
from shared.pseudonym import is_pseudonym

MOST_SOURCES = 50
"""How many distinct senders are kept. A rulebook that asks for more before it suggests anything never does."""


MOST_SAID = 50
"""How many different things are kept. Where reports say more than that, each further one is evaluated.

The summary is written with each report, so it must stay small however many differ.
"""


class Said(BaseModel):
    """One thing that reports say, and up to two senders of one kind who said it."""

    model_config = ConfigDict(frozen=True)

    category: str
    kind: str
    clock_ahead: bool = False
    harm: Harm | None = None
    firecracker: Firecracker | None = None
    by: tuple[str, ...]

    def is_said_by(self, report: ReportFacts) -> bool:
        """Return whether the report says this, and comes from a sender of the same kind."""
        same = self.category == report.category and self.firecracker == report.firecracker
        sender = self.kind == report.source.kind and self.clock_ahead == report.clock_ahead
        return same and sender and _figures(self.harm) == _figures(report.harm)


def _figures(harm: Harm | None) -> object:
    """Return the fields. They compare much faster than models do, and a storm compares fifty for each report."""
    return harm.__dict__ if harm is not None else None


class ReportSummary(BaseModel):
    """What an incident's reports say together."""

    model_config = ConfigDict(frozen=True)

    count: int = 0
    said: tuple[Said, ...] = ()
    sources: tuple[str, ...] = ()
    """Distinct senders whose clock was not ahead, at most MOST_SOURCES."""
    assessed: bool = False
    """A person made a finding. From then on each report is weighed against it, and so always matters."""
    suggested: bool = False
    """The desk was told that the incident may be prominent, or made a finding itself."""
    late: "LateReports | None" = None
    """The reports that came after the incident had ended. Nothing above counts them."""

    @property
    def total(self) -> int:
        return self.count + (self.late.reports.count if self.late else 0)

    def already_says(self, report: ReportFacts) -> bool:
        """Return whether the report only repeats what was said, and so cannot change the decision.

        It does so if its sender said it before, if it comes from an officer and another officer said it, or if two
        other senders of its kind said it.
        """
        if self.assessed:
            return False
        same = next((s for s in self.said if s.is_said_by(report)), None)
        if same is None:
            return False
        return len(same.by) > 1 or report.source.subject in same.by or report.source.kind == "officer"

    def plus(self, report: ReportFacts) -> "ReportSummary":
        """Return the summary with one more report."""
        subject = report.source.subject
        sources = self.sources
        if not report.clock_ahead and subject not in sources and len(sources) < MOST_SOURCES:
            sources = (*sources, subject)
        return self.model_copy(update={"count": self.count + 1, "said": self._said_with(report), "sources": sources})

    def by_pseudonym(self, pseudonym: Callable[[str], str]) -> "ReportSummary":
        """Return the summary with the pseudonyms of senders in the place of their names, as it had before."""
        if all(is_pseudonym(name) for name in (*self.sources, *(by for said in self.said for by in said.by))):
            return self
        said = tuple(s.model_copy(update={"by": tuple(map(pseudonym, s.by))}) for s in self.said)
        return self.model_copy(update={"said": said, "sources": tuple(map(pseudonym, self.sources))})

    def _said_with(self, report: ReportFacts) -> tuple[Said, ...]:
        subject = report.source.subject
        for said in self.said:
            if said.is_said_by(report):
                if subject in said.by or len(said.by) > 1:
                    return self.said
                more = said.model_copy(update={"by": (*said.by, subject)})
                return tuple(more if s is said else s for s in self.said)
        if len(self.said) >= MOST_SAID:
            return self.said
        new = Said(
            category=report.category,
            kind=report.source.kind,
            clock_ahead=report.clock_ahead,
            harm=report.harm,
            firecracker=report.firecracker,
            by=(subject,),
        )
        return (*self.said, new)


def summary_of(reports: Iterable[ReportFacts], *, assessed: bool = False, suggested: bool = False) -> ReportSummary:
    found = ReportSummary(assessed=assessed, suggested=suggested)
    for report in reports:
        found = found.plus(report)
    return found


Added = Literal["severity", "applies", "urgent", "confirmed", "goes_on"]
"""What reports after the end add: a higher severity; that the rule applies, or may; that firecrackers were set off or
life is at stake; that it did happen; that it happened after the end."""
KEEP_COMING = 2
"""So many reports after the desk dismissed the incident are more than an echo."""
_GRADES: tuple[Outcome, ...] = ("does_not_apply", "undetermined", "applies")


class Weight(BaseModel):
    """How much a decision asks of people."""

    model_config = ConfigDict(frozen=True)

    severity: int | None = None
    outcome: Outcome = "does_not_apply"
    urgent: bool = False
    confirmed: bool = False
    """It is verified, and the rule applies or may apply."""

    def added_to(self, less: "Weight") -> tuple[Added, ...]:
        """Return in what it asks more than `less`. Unknown severity ranks between 1 and 2."""
        more: dict[Added, bool] = {
            "severity": (self.severity or 1.5) > (less.severity or 1.5),
            "applies": _GRADES.index(self.outcome) > _GRADES.index(less.outcome),
            "urgent": self.urgent and not less.urgent,
            "confirmed": self.confirmed and not less.confirmed,
        }
        return tuple(name for name, is_more in more.items() if is_more)


def weight_of(decision: Decision) -> Weight:
    return Weight(
        severity=decision.severity,
        outcome=decision.outcome,
        urgent=decision.immediate,
        confirmed=decision.standing == "confirmed" and decision.outcome != "does_not_apply",
    )


class LateReports(BaseModel):
    """The reports that came after an incident had ended, and what the desk knows of them."""

    model_config = ConfigDict(frozen=True)

    reports: ReportSummary = Field(default_factory=ReportSummary)
    known: int = 0
    """How many there were when the desk last said that the end stands."""
    since: AwareDatetime | None = None
    """When the incident ended, or the desk last said that the end stands. None until the first are weighed."""
    before: Weight | None = None
    """What held at that time."""
    weight: Weight | None = None
    """What would hold with all of them."""
    goes_on: bool = False
    """One says that it happened later than `since`."""
    asked: bool = False
    """The desk is asked to reopen the incident or to say that the end stands."""

    @property
    def new(self) -> int:
        """How many the desk has not seen."""
        return self.reports.count - self.known

    @property
    def adds(self) -> tuple[Added, ...]:
        more = self.weight.added_to(self.before) if self.weight and self.before else ()
        return (*more, "goes_on") if self.goes_on else more

    def matter(self, state: State) -> bool:
        """Return whether they are more than an echo of what ended in this state."""
        return bool(self.adds) or (state == "dismissed" and self.new >= KEEP_COMING)

    def already_say(self, report: ReportFacts, at: datetime) -> bool:
        """Return whether the report, of something at this time, adds nothing to them."""
        is_later = self.since is None or (at > self.since and not self.goes_on)
        return not is_later and self.reports.already_says(report)

    def plus(self, report: ReportFacts) -> "LateReports":
        return self.model_copy(update={"reports": self.reports.plus(report)})

    def seen(self, now: datetime) -> "LateReports":
        """Return them as they are once the desk said that the end stands."""
        held = {"known": self.reports.count, "since": now, "before": self.weight}
        return self.model_copy(update=held | {"goes_on": False, "asked": False})


ReportSummary.model_rebuild()
