"""A summary of an incident's reports, small enough to be stored in the incident's row. Pure.

Most reports of a storm repeat what others said, and cannot change the decision. The summary tells which do, so that the
incident's history need not be loaded for them.
"""

from collections.abc import Callable, Iterable

from pydantic import BaseModel, ConfigDict

from services.escalation.domain.rules.accountability import ReportFacts
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
        same = self.category == report.category and self.harm == report.harm
        sender = self.kind == report.source.kind and self.clock_ahead == report.clock_ahead
        return same and sender and self.firecracker == report.firecracker


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
