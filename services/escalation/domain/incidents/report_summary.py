"""What an incident's reports amount to, small enough to travel with its row. Pure.

Most reports of a storm say what others said before. With this at hand such a report is filed without reading its
incident's history: however many more say so, the decision stays the same.
"""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from services.escalation.domain.rules.accountability import ReportFacts
from shared.events import Firecracker, Harm

MOST_SOURCES = 50
"""As many independent sources as a rulebook may ask for before it suggests anything."""


class Said(BaseModel):
    """One thing that reports say, by up to two senders of one kind."""

    model_config = ConfigDict(frozen=True)

    category: str
    kind: str
    clock_ahead: bool = False
    harm: Harm | None = None
    firecracker: Firecracker | None = None
    by: tuple[str, ...]

    def is_said_by(self, report: ReportFacts) -> bool:
        same = self.category == report.category and self.harm == report.harm
        sender = self.kind == report.source.kind and self.clock_ahead == report.clock_ahead
        return same and sender and self.firecracker == report.firecracker


class ReportSummary(BaseModel):
    model_config = ConfigDict(frozen=True)

    count: int = 0
    said: tuple[Said, ...] = ()
    sources: tuple[str, ...] = ()
    """Distinct senders whose clock can be trusted."""
    assessed: bool = False
    """A person looked at it: what a report adds to their findings has to be weighed each time."""
    suggested: bool = False
    """The desk was pointed to it as prominent, or has looked at it by itself."""

    def already_says(self, report: ReportFacts) -> bool:
        """The decision cannot change: its sender, an officer, or two others said the same before."""
        if self.assessed:
            return False
        same = next((s for s in self.said if s.is_said_by(report)), None)
        if same is None:
            return False
        return len(same.by) > 1 or report.source.subject in same.by or report.source.kind == "officer"

    def plus(self, report: ReportFacts) -> "ReportSummary":
        subject = report.source.subject
        sources = self.sources
        if not report.clock_ahead and subject not in sources and len(sources) < MOST_SOURCES:
            sources = (*sources, subject)
        return self.model_copy(update={"count": self.count + 1, "said": self._said_with(report), "sources": sources})

    def _said_with(self, report: ReportFacts) -> tuple[Said, ...]:
        subject = report.source.subject
        for said in self.said:
            if said.is_said_by(report):
                if subject in said.by or len(said.by) > 1:
                    return self.said
                more = said.model_copy(update={"by": (*said.by, subject)})
                return tuple(more if s is said else s for s in self.said)
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
