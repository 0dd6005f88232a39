"""Routes under `/escalation/v1`: parse, authorise, call, answer."""

from fastapi import APIRouter, Depends

from services.escalation.api import commands, contact_tests, credentials, decisions, directory, incidents, links, stream
from shared.http.query import refuse_unknown_parameters

router = APIRouter()
for part, subject in (
    (incidents, "incidents"),
    (commands, "what people do about an incident"),
    (directory, "directory"),
    (contact_tests, "tests of contacts"),
    (credentials, "credentials"),
    (decisions, "rulebooks and decisions"),
    (stream, "stream"),
):
    router.include_router(part.router, tags=[subject], dependencies=[Depends(refuse_unknown_parameters)])
router.include_router(links.router, tags=["signed links"])  # a messenger may have added parameters of its own
