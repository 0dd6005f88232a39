"""Routes under `/escalation/v1`: parse, authorise, call, answer."""

from fastapi import APIRouter

from services.escalation.api import commands, decisions, directory, incidents, links, stream

router = APIRouter()
for part in (incidents, commands, directory, decisions, links, stream):
    router.include_router(part.router)
