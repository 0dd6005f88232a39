"""Streams, groups and partitions."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.database import SERVICES
from shared.messaging import (
    ESCALATION,
    GROUPS,
    INTAKE,
    dead_stream,
    partition_of,
    route,
    rules_of,
    stream_name,
    streams,
)

ROOT = Path(__file__).parents[4]


def test_every_partition_has_its_stream_and_the_groups_that_must_acknowledge() -> None:
    assert streams(INTAKE, 2) == {
        "trucban.intake.{0}": ("escalation", "ledger"),
        "trucban.intake.{1}": ("escalation", "ledger"),
    }
    assert streams(ESCALATION, 1) == {"trucban.escalation.{0}": ("intake", "ledger")}


def test_no_group_reads_what_its_own_service_publishes() -> None:
    assert "intake" not in GROUPS[INTAKE]
    assert "escalation" not in GROUPS[ESCALATION]


def test_dead_letters_stay_in_the_cluster_slot_of_their_stream() -> None:
    assert dead_stream(stream_name(INTAKE, 3)) == "trucban.intake.{3}.dead"


def test_an_unknown_base_is_an_error() -> None:
    with pytest.raises(KeyError):
        streams("trucban.elsewhere", 1)


def test_a_ward_never_moves_to_another_partition() -> None:
    """Values computed once: a change would tear the order of a ward's events."""
    assert [partition_of(code, 16) for code in ("14776", "14797", "15025")] == [5, 13, 10]


@given(st.text(), st.integers(1, 64))
def test_a_key_has_one_partition(key: str, count: int) -> None:
    assert 0 <= partition_of(key, count) < count
    assert route(INTAKE, key, count) in streams(INTAKE, count)


@pytest.mark.parametrize("service", SERVICES)
def test_redis_in_a_container_gives_each_service_the_same_rights_as_the_embedded_one(service: str) -> None:
    script = (ROOT / "deploy" / "redis-users.sh").read_text(encoding="utf-8")
    assert f'"user {service} on >${service.upper()}_PASSWORD {rules_of(service)}"' in script
