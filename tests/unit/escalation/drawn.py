"""Hypothesis strategies for what the rule looks at."""

from typing import Literal, get_args

from hypothesis import strategies as st

from services.escalation.domain.directory.model import Tenure
from services.escalation.domain.rules.accountability import ReportFacts
from shared.clock import HO_CHI_MINH
from shared.events import Firecracker, Harm, Source
from shared.taxonomy import categories
from tests.support import BA_DINH, CHAIR, NIGHT, SECRETARY, at, new_id

POSSESSION_ONLY = ("FIRECRACKER_POSSESSION", "FIRECRACKER_TRADE")
Kind = Literal["officer", "device", "desk", "admin"]

maybe_bools = st.none() | st.booleans()
kinds: st.SearchStrategy[Kind] = st.sampled_from(get_args(Kind))


def figures(*thresholds: int) -> st.SearchStrategy[int | None]:
    """Unknown, or a figure near one of the severity scale's thresholds."""
    near = [f for t in (0, *thresholds) for f in (t - 1, t, t + 1) if f >= 0]
    return st.none() | st.sampled_from(near)


harms = st.builds(
    Harm,
    deaths=figures(1, 2, 3),
    injured=figures(1, 5),
    injury_percent=figures(61, 122, 201),
    life_threatening=figures(1, 2, 3),
    property_vnd=figures(100_000_000, 500_000_000, 1_500_000_000),
)
firecrackers = st.builds(Firecracker, explosion_sound=maybe_bools, licensed=maybe_bools)


def reports(
    category: st.SearchStrategy[str] | None = None,
    harm: st.SearchStrategy[Harm | None] | None = None,
    firecracker: st.SearchStrategy[Firecracker | None] | None = None,
    kind: st.SearchStrategy[Kind] = kinds,
    clock_ahead: st.SearchStrategy[bool] | None = None,
) -> st.SearchStrategy[ReportFacts]:
    return st.builds(
        ReportFacts,
        report_id=st.builds(new_id),
        category=st.sampled_from(sorted(categories())) if category is None else category,
        source=st.builds(Source, kind=kind, subject=st.sampled_from(("a", "b", "c"))),
        occurred_at=st.just(NIGHT),
        received_at=st.just(NIGHT),
        harm=st.none() | harms if harm is None else harm,
        firecracker=st.none() | firecrackers if firecracker is None else firecracker,
        clock_ahead=st.booleans() if clock_ahead is None else clock_ahead,
    )


some_reports = st.lists(reports(), min_size=1, max_size=5)

instants = st.datetimes(at("2022-12-01 00:00").replace(tzinfo=None), at("2023-03-01 00:00").replace(tzinfo=None)).map(
    lambda naive: naive.replace(second=0, microsecond=0, tzinfo=HO_CHI_MINH)
)


@st.composite
def tenures(draw: st.DrawFn, post: str | None = None) -> Tenure:
    """A tenure of one of the two posts with a beginning, and with or without an end."""
    start, other = sorted((draw(instants), draw(instants)))
    return Tenure(
        tenure_id=new_id(),
        unit=BA_DINH,
        post=post or draw(st.sampled_from((SECRETARY, CHAIR))),
        holder_id=draw(st.sampled_from(("mau-1", "mau-2", "mau-3"))),
        holder_name="(mẫu)",
        acting=draw(st.booleans()),
        document="QĐ mẫu số 1",
        valid_from=start,
        valid_to=other if other > start and draw(st.booleans()) else None,
        sample=True,
        recorded_at=at("2022-12-01 00:00"),
    )
