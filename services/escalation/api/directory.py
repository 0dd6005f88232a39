"""Routes on the directory."""

from fastapi import APIRouter

from services.escalation.api.common import DirectoryReader, Page, Wired
from services.escalation.directory import Tenure
from services.escalation.store import directory
from shared import cursor as cursors
from shared.cursor import Instant, Limit

router = APIRouter()


@router.get("/directory")
async def get_directory(
    escalation: Wired,
    caller: DirectoryReader,
    as_of: Instant | None = None,
    known_at: Instant | None = None,
    ward: str | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Page:
    """Who held each post at `as_of`, as it was known at `known_at`; both now if not given."""
    now = escalation.clock.now()
    async with escalation.engine.connect() as connection:
        found = await directory.tenures(connection, known_at or now, as_of=as_of or now)
    wanted = sorted((t for t in found if ward in (None, t.unit.code)), key=_tenure_key)
    page, following = cursors.page(wanted, _tenure_key, limit, cursor)
    return Page(items=[t.model_dump(mode="json") for t in page], next=following)


def _tenure_key(tenure: Tenure) -> list[str | int]:
    return [tenure.unit.code, tenure.unit.valid_from.isoformat(), tenure.post, tenure.tenure_id]
