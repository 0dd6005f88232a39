"""Whether readiness was true: periods in which a job was not done, against what /readyz said meanwhile. Pure.

A job is *down* at a moment if something has waited for it for more than LIMIT_SECONDS, and nothing at all came of it in
the LIMIT_SECONDS before. A backlog that is being worked off is not down. Each job has the services that it takes. To
say that all is ready, one process of each of these services is enough: whoever asks through a load balancer would hear
no more. A complaint by one replica does not make the word of another true.

A period counts as untruthful if that was said at two moments of it at least, so that an answer which crosses the last
second of an outage is no lie.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.faults.readiness import Said

LIMIT_SECONDS = 15.0
MOMENT_SECONDS = 2.0
"""Two answers within this time count as given at the same moment; the watcher asks each process once a second."""
TOLD_AT_LEAST = 2


@dataclass(frozen=True)
class Wait:
    """Something to be done, from when it was there until it was done, in seconds since 1970."""

    since: float
    until: float


@dataclass(frozen=True)
class Job:
    name: str
    services: Collection[str]
    """Or names of processes: all that it takes."""
    waits: Sequence[Wait]


@dataclass(frozen=True)
class Attempt:
    """A request that a process should serve. It failed if no answer came, or one of the server's failure."""

    process: str
    began: float
    ended: float
    served: bool


def down(waits: Sequence[Wait]) -> list[tuple[float, float]]:
    """The periods in which a job was not done."""
    if not waits:
        return []
    done = [float("-inf"), *sorted(wait.until for wait in waits)]
    periods: list[tuple[float, float]] = []
    for before, after in pairwise(done):
        if after - before <= LIMIT_SECONDS:
            continue
        oldest = min(wait.since for wait in waits if wait.until >= after)
        begin = max(before, oldest) + LIMIT_SECONDS
        if begin < after:
            periods.append((begin, after))
    return periods


def refusing(attempts: Sequence[Attempt]) -> list[tuple[float, float]]:
    """The periods in which one process served nothing of what it was asked, beyond the first LIMIT_SECONDS."""
    periods: list[tuple[float, float]] = []
    began: float | None = None
    ended = 0.0
    for attempt in sorted(attempts, key=lambda attempt: attempt.ended):
        if attempt.served:
            _close(periods, began, ended)
            began = None
        else:
            began = attempt.began if began is None else began
            ended = attempt.ended
    _close(periods, began, ended)
    return periods


def _close(periods: list[tuple[float, float]], began: float | None, ended: float) -> None:
    if began is not None and ended - began > LIMIT_SECONDS:
        periods.append((began + LIMIT_SECONDS, ended))


def lies(job: Job, periods: Sequence[tuple[float, float]], said: Sequence[Said]) -> list[tuple[float, float]]:
    """Those of the periods in which all that the job takes was called ready."""
    return [period for period in periods if _moments(job, period, said) >= TOLD_AT_LEAST]


def _moments(job: Job, period: tuple[float, float], said: Sequence[Said]) -> int:
    """At how many moments of the period every service of the job had a process that said it is ready."""
    begin, end = period
    ready = [s for s in said if s.ready and begin <= s.at < end]
    each = [sorted(s.at for s in ready if name in (s.service, s.name)) for name in job.services]
    if not all(each):
        return 0
    first, *others = sorted(each, key=len)
    return len({round(at) for at in first if all(_near(at, answers) for answers in others)})


def _near(at: float, answers: Sequence[float]) -> bool:
    return any(abs(answer - at) <= MOMENT_SECONDS for answer in answers)
