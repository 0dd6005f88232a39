"""Nothing that intake accepts is refused further on: whatever was acknowledged gets an incident and a ledger entry."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from services.escalation.application.route_reports import route_reports
from services.intake.domain.draft import Draft, DraftContext, draft_report
from services.intake.domain.submission import Submission
from services.ledger.domain.canonical import make_entry
from shared.commitment import new_salt
from shared.events import ReportReceivedV2, encode, parse
from shared.http.identity import Principal
from shared.http.problem import Problem
from shared.taxonomy import categories
from tests.integration.escalation_support import City
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Report
from tests.support import NIGHT, body, depth, new_id, wards

UNITS = wards()
CALLERS = (Principal("cam-bien-1", "device"), Principal("truc-ban", "desk"), Principal("quan-tri", "admin"))
NOW = NIGHT
_texts = st.text(max_size=40)
_times = st.datetimes(datetime(2021, 2, 2), datetime(2023, 2, 20)).map(lambda t: t.isoformat() + "+07:00")  # noqa: DTZ001
_counts = st.integers(0, 10_000)
_bodies = st.fixed_dictionaries(
    {
        "category": st.sampled_from(sorted(categories())),
        "ward": st.sampled_from([u.code for u in UNITS[:4]]),
        "occurred_at": st.just("2023-01-21T23:50:00+07:00") | _times,
        "harm": st.fixed_dictionaries(
            {"deaths": st.integers(0, 3) | _counts},
            optional={
                "injured": st.integers(0, 100_000),
                "injury_percent": st.integers(0, 1_000_000),
                "life_threatening": _counts,
                "property_vnd": st.integers(0, 2**53 - 1),
            },
        ),
    },
    optional={
        "description": _texts,
        "neighbourhood": _texts,
        "captured_at": _times,
        "exercise": st.booleans(),
        "location": st.fixed_dictionaries(
            {"latitude": st.floats(-90, 90), "longitude": st.floats(-180, 180)},
            optional={"accuracy_m": st.floats(0, 100_000)},
        ),
        "firecracker": st.fixed_dictionaries(
            {}, optional={"explosion_sound": st.booleans(), "licensed": st.none() | st.booleans()}
        ),
        "evidence": st.lists(
            st.fixed_dictionaries(
                {
                    "sha256": st.just("ab" * 32),
                    "bytes": st.integers(1, 2**40),
                    "media_type": st.just("image/jpeg"),
                }
            ),
            max_size=3,
        ),
        "reporter": st.fixed_dictionaries({}, optional={"name": _texts, "phone": st.text(max_size=20)}),
    },
)


def drafted(sent: dict[str, Any], caller: Principal) -> Draft | None:
    """As intake accepts it, or None where it refuses."""
    context = DraftContext(
        NOW,
        new_id,
        new_salt,
        new_receipt=lambda: "TB-0000-0000-0000-0000",
        content_key=bytes(32),
        pseudonym_key=bytes(32),
    )
    try:
        return draft_report(Submission.model_validate(body(**sent)), caller, UNITS, context)
    except (Problem, ValueError):
        return None


@depth(ci=25, full=500)
@given(st.lists(st.tuples(_bodies, st.sampled_from(CALLERS)), min_size=1, max_size=6))
async def test_every_accepted_report_gets_its_incident_and_can_be_entered_in_the_ledger(
    shared_city: City, sent: list[tuple[dict[str, Any], Principal]]
) -> None:
    accepted = [found for content, caller in sent if (found := drafted(content, caller))]
    assume(accepted)
    events = [parse(encode(found.event)) for found in accepted]
    reports = [event for event in events if isinstance(event, ReportReceivedV2)]
    assert [encode(e) for e in reports] == [encode(found.event) for found in accepted], "as it was, after the wire"
    await shared_city.emptied()
    shared_city.clock.set(NOW + timedelta(seconds=1))
    await route_reports(shared_city.escalation, reports)
    assert len(await stored(shared_city, Report)) == len(accepted)
    for event in (*events, *await shared_city.events()):
        assert make_entry(event, "trucban.local/ledger", NOW).columns.event_id == event.id
