"""Routes under `/escalation/v1`: parse, authorise, call, answer."""

from fastapi import APIRouter

from services.escalation.api import decisions, directory, incidents

router = APIRouter()
for part in (incidents, directory, decisions):
    router.include_router(part.router)
