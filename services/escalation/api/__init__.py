"""Routes under `/escalation/v1`: parse, authorise, call, answer."""

from fastapi import APIRouter

from services.escalation.api import commands, decisions, directory, incidents, links, stream

router = APIRouter()
for part, subject in (
    (incidents, "incidents"),
    (commands, "what people do about an incident"),
    (directory, "directory"),
    (decisions, "rulebooks and decisions"),
    (links, "signed links"),
    (stream, "stream"),
):
    router.include_router(part.router, tags=[subject])
