"""What a seed gives, which kinds can be chosen, and what is kept of the runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults import results
from tests.faults.kinds import KINDS, chosen
from tests.faults.proxy import SHIPPED, adapted
from tests.faults.results import Result
from tests.faults.schedule import draw_plan, without
from tests.integration.landed import STATES

CLEAN = Result(
    date="2026-11-27T14:00:00+00:00",
    commit="1c44785",
    seed=7,
    kinds="",
    faults=10,
    accepted=900,
    lost=0,
    doubled=0,
    stuck=0,
    untruthful=0,
    wrong=0,
    seconds=120,
    starved=20,
    drawn="1 intake: flush, trim 3s",
    failed="",
)
FAILED = replace(CLEAN, seed=8, lost=2, failed='lost: report "a, b" | lost: …\nand more')


def test_the_same_seed_gives_the_same_run() -> None:
    kinds = chosen("")
    assert str(draw_plan(7, kinds)) == str(draw_plan(7, kinds))
    assert str(draw_plan(7, kinds)) != str(draw_plan(8, kinds))


def test_all_kinds_are_drawn_when_none_is_chosen() -> None:
    drawn = {fault.kind.name for seed in range(200) for fault in draw_plan(seed, chosen("")).faults}
    assert drawn == KINDS.keys()


def test_an_upgrade_is_drawn_from_every_landed_state_with_the_partitions_that_it_had() -> None:
    plans = [draw_plan(seed, chosen("")) for seed in range(400)]
    upgraded = [plan for plan in plans if plan.shape.upgraded_from]
    assert {plan.shape.upgraded_from for plan in upgraded} == set(STATES)
    assert {plan.shape.migrations_killed for plan in upgraded} == {0, 1, 2}
    assert {plan.shape.partitions for plan in upgraded} == {1}
    assert len(upgraded) < len(plans) / 2
    assert all(f"upgraded from {plan.shape.upgraded_from}" in str(plan) for plan in upgraded)


def test_kinds_are_chosen_by_name_or_by_how_they_begin() -> None:
    assert [kind.name for kind in chosen("trim,group")] == ["trim", "group-destroy", "group-skip", "group-consumers"]


def test_a_kind_that_is_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="no kind of fault is called flood"):
        chosen("flush,flood")


def test_a_fault_that_this_machine_cannot_have_is_left_out_and_the_others_stay_as_drawn() -> None:
    plan = draw_plan(7, chosen("disk,flush"))
    left = without(plan, ["small_disks"])
    assert left.faults == [fault for fault in plan.faults if fault.kind.name == "flush"]
    assert not left.shape.small_disks


def test_the_proxy_of_a_run_remembers_no_failure_as_the_shipped_one_remembers_none() -> None:
    addresses = ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]
    text = adapted(SHIPPED.read_text(encoding="utf-8"), Path("/nowhere"), 9000, {"intake": addresses})
    assert "upstream intake { server 127.0.0.1:9001 max_fails=0; server 127.0.0.1:9002 max_fails=0; }" in text


def test_results_are_read_as_they_were_added(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    for result in (CLEAN, FAILED):
        results.append(result, file)
    assert results.every(file) == [CLEAN, FAILED]


def test_the_summary_names_each_seed_that_failed_and_counts_the_latest_faults_only() -> None:
    file = [FAILED, *[CLEAN] * 9, replace(FAILED, seed=9)]
    last = results.summary(file, file)[-1]
    assert "the last 100 faults" in last
    assert "clean: 9 runs with 90 faults; not clean: seeds 9" in last
