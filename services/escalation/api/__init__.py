"""Routes under `/escalation/v1`: parse, authorise, call, answer."""

from fastapi import APIRouter

from services.escalation.api import commands, decisions, directory, incidents

router = APIRouter()
for part in (incidents, commands, directory, decisions):
    router.include_router(part.router)
