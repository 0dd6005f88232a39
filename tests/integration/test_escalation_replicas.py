"""Several processes of escalation at once, whose clocks are not quite the same."""

from datetime import timedelta

from services.escalation.handlers import on_reports
from services.escalation.importing import import_directory
from tests.integration.escalation_support import City, city_in, decisions_that_differ_when_computed_again
from tests.support import NIGHT, received

HEAD = "unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,document,sample\n"
LATE = "14776,2021-02-01,chair,mau-moi,(mẫu),2023-01-20,QĐ mẫu số 9,true\n"
BEHIND = timedelta(seconds=2)


async def test_a_process_whose_clock_is_behind_tells_who_was_just_recorded_by_another(city: City) -> None:
    assert not (await import_directory(city.escalation, (HEAD + LATE).encode())).errors
    async with city_in(city.database_url, NIGHT - BEHIND) as other:
        await on_reports(other.escalation, [received()])
        assert sorted(await other.told()) == ["desk:unreachable", "mau-14776-bi-thu:accountable", "mau-moi:accountable"]
        assert not await decisions_that_differ_when_computed_again(other)
