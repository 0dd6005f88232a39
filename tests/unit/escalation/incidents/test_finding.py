"""What people found out adds up: the latest of each kind holds, a reopening takes the verification back."""

from datetime import timedelta
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.incidents.finding import Assessment, Finding, FindingKind, assess, last
from shared.events import Harm
from tests.support import NIGHT, new_id
from tests.unit.escalation.drawn import harms

CONTENT: dict[FindingKind, st.SearchStrategy[dict[str, Any]]] = {
    "verification": st.fixed_dictionaries(
        {
            "firecrackers_exploded": st.none() | st.booleans(),
            "reclassified": st.none() | st.sampled_from(("EXPLOSION", "FIRECRACKER_SET_OFF")),
        }
    ),
    "designation": st.fixed_dictionaries({"prominent": st.booleans()}),
    "severity": harms.map(lambda harm: {"harm": harm.model_dump(exclude_none=True), "until": NIGHT.isoformat()}),
}
kinds: st.SearchStrategy[FindingKind] = st.sampled_from(get_args(FindingKind))


def finding(kind: FindingKind, minutes: int = 0, **content: Any) -> Finding:
    return Finding(
        finding_id=new_id(),
        kind=kind,
        author="mau-truc-ban",
        role="desk",
        content=content,
        reason="Đã kiểm tra",
        made_at=NIGHT + timedelta(minutes=minutes),
    )


@st.composite
def some_findings(draw: st.DrawFn) -> list[Finding]:
    drawn = draw(st.lists(kinds, max_size=8))
    return [finding(k, n, **draw(CONTENT.get(k, st.just({})))) for n, k in enumerate(drawn)]


def severity(minutes: int = 0, until: int = 0, **harm: int) -> Finding:
    return finding("severity", minutes, harm=harm, until=(NIGHT + timedelta(minutes=until)).isoformat())


def test_nobody_found_out_anything_yet() -> None:
    assert assess([]) == Assessment()


def test_a_verification_without_an_answer_leaves_an_earlier_answer() -> None:
    held = assess(
        [
            finding("verification", firecrackers_exploded=False, reclassified="EXPLOSION"),
            finding("verification", firecrackers_exploded=None, reclassified=None),
        ]
    )
    assert (held.verified, held.firecrackers_exploded, held.reclassified) == (True, False, "EXPLOSION")


def test_the_latest_figures_of_harm_stand_for_the_reports_that_the_assessor_knew() -> None:
    held = assess([severity(1, deaths=3), severity(9, until=5, deaths=0, property_vnd=0)])
    assert held.harm == Harm(deaths=0, property_vnd=0)
    assert held.assessed_at == NIGHT + timedelta(minutes=5), "not when it was said: a report may have been on its way"


def test_a_reopening_takes_back_the_verification_and_nothing_else() -> None:
    found = [
        finding("verification", firecrackers_exploded=True, reclassified=None),
        finding("designation", prominent=True),
        severity(deaths=1),
    ]
    before, after = assess(found), assess([*found, finding("reopening")])
    assert before.verified
    assert after == before.model_copy(update={"verified": False})
    assert assess([*found, finding("reopening"), finding("verification")]).verified


@given(some_findings())
def test_the_latest_of_each_kind_holds(found: list[Finding]) -> None:
    held = assess(found)
    verified, reopened = last(found, "verification"), last(found, "reopening")
    assert held.verified == (verified is not None and (reopened is None or verified.made_at > reopened.made_at))
    designation, figures = last(found, "designation"), last(found, "severity")
    assert held.designated == (designation is not None and designation.content["prominent"])
    assert held.harm == (None if figures is None else Harm.model_validate(figures.content["harm"]))


@given(some_findings(), st.data())
def test_what_people_only_did_changes_no_decision(found: list[Finding], data: st.DataObject) -> None:
    deeds: st.SearchStrategy[FindingKind] = st.sampled_from(
        ("response", "closure_proposal", "reassignment", "split", "closure")
    )
    place = data.draw(st.integers(0, len(found)))
    assert assess([*found[:place], finding(data.draw(deeds)), *found[place:]]) == assess(found)


def test_the_same_said_again_by_the_same_person_is_the_same() -> None:
    one = finding("designation", prominent=True)
    assert one.says_the_same(finding("designation", 5, prominent=True))
    assert not one.says_the_same(finding("designation", prominent=False))
    for change in ({"author": "mau-khac"}, {"role": "officer"}, {"reason": "Lý do khác"}, {"kind": "verification"}):
        assert not one.says_the_same(one.model_copy(update=change))
