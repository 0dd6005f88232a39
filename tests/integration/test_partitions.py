"""The number of partitions: fewer than were written to is refused at the start, and nothing waits unread."""

from pathlib import Path

import pytest

from shared.database import DatabaseError
from shared.messaging import partition_of
from tests.integration.escalation_support import Template, whole_city_in
from tests.unit.intake.sample import UNITS, body

FOUR = 4


async def test_fewer_partitions_than_were_written_to_are_refused_in_one_line(
    template: Template, tmp_path: Path
) -> None:
    ward = next(unit for unit in UNITS if partition_of(unit.code, FOUR) == FOUR - 1)
    async with whole_city_in(template, partitions=FOUR, keys=tmp_path) as city:
        answer = await city.post("/intake/v1/reports", "desk", json=body(ward=ward.code))
        assert answer.status_code == 201, answer.text
        kept = {name: getattr(city.settings, name) for name in ("database_url", "redis_url", "keys")}
    with pytest.raises(DatabaseError, match="set it to 4 or more"):
        async with whole_city_in(template, partitions=1, **kept):
            pass
    async with whole_city_in(template, partitions=FOUR, **kept):
        pass
