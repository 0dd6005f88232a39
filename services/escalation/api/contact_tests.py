"""Routes on tests of the contacts' channels."""

from fastapi import APIRouter

from services.escalation.api.common import Wired, asked_ward
from services.escalation.api.models.contact_tests import (
    ContactTest,
    ContactTestPage,
    NewContactTest,
    contact_test,
    contact_test_item,
)
from services.escalation.application import channel_tests
from shared.http import cursor as cursors
from shared.http.body import bounded
from shared.http.cursor import Limit
from shared.http.guard import Caller, guarded
from shared.http.openapi import problems
from shared.http.problem import Problem

MAX_BYTES = 10_000
LATEST = "latest"
router = APIRouter(prefix="/contact-tests", route_class=bounded(MAX_BYTES))


@router.post(
    "",
    status_code=201,
    responses=problems({409: "another test is still sent, or nobody is in office; the detail says"}),
)
async def post_contact_test(escalation: Wired, caller: Caller, body: NewContactTest) -> ContactTest:
    """Send a test message, marked as such, to each channel of everybody in office, with a link to confirm.

    Messages go as notices do. None rings at night or in quiet hours.
    """
    async with escalation.database.connect() as connection:
        place = await asked_ward(connection, body.ward)
    return contact_test(await channel_tests.start(escalation, caller, place), caller)


@router.get("", dependencies=[guarded])
async def list_contact_tests(escalation: Wired, limit: Limit = 50, cursor: str | None = None) -> ContactTestPage:
    """Tests, the newest first."""
    found = await channel_tests.list_tests(escalation, cursors.decode_instant(cursor) if cursor else None, limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    following = cursors.encode([last.started_at.isoformat(), last.test_id]) if last else None
    return ContactTestPage(items=[contact_test_item(test) for test in found[:limit]], next=following)


@router.get("/{test_id}")
async def get_contact_test(escalation: Wired, caller: Caller, test_id: str) -> ContactTest:
    """One test, or the `latest`: who has confirmed at which channel, who has not, and which channels failed."""
    found = await channel_tests.look(escalation, None if test_id == LATEST else test_id)
    if found is None:
        raise Problem(404, "there was no test yet" if test_id == LATEST else f"there is no test {test_id}")
    return contact_test(found, caller)
