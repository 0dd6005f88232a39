"""Errors on the wire: every failure of an application leaves as `application/problem+json` (RFC 9457).

What is no fault of the request, such as a full disk or a lost connection, is 503 with `Retry-After`, here and nowhere
else. A room that answers with a page asks `outage_of`.
"""

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from shared.http.problem import MENDED_LATER, NO_DATABASE, Problem, invalid_fields
from shared.messaging import BrokerError, describe_error, is_transient, passes_by_itself

log = structlog.get_logger()
RETRY_AFTER_SECONDS = 5
OUR_FAULT = Problem(500, "this is a fault of ours, and it is in the log")
_LOGGED = "trucban.error_was_logged"
"""A key of a request's scope."""
OUTAGES = (SQLAlchemyError, OSError, BrokerError)
"""What database, broker and operating system raise. Not all of them pass: `outage_of` tells."""


def response(problem: Problem) -> JSONResponse:
    """Whatever cannot be answered now says when to try again."""
    again = {"Retry-After": str(RETRY_AFTER_SECONDS)} if problem.status == 503 else {}
    headers = again | (problem.headers or {})
    return JSONResponse(problem.body(), problem.status, media_type="application/problem+json", headers=headers)


def outage_of(error: Exception) -> Problem | None:
    """503 for what is no fault of the request, which is also logged; None for any other error."""
    if not is_transient(error):
        return None
    log.warning("request not served", error=describe_error(error))
    return Problem(503, NO_DATABASE if passes_by_itself(error) else MENDED_LATER)


def log_once(scope: Scope, error: Exception) -> None:
    """Tell the log of an error, however many applications it passes on its way out."""
    if _LOGGED not in scope:
        scope[_LOGGED] = True
        log.error("request failed", error=describe_error(error))


def install(app: FastAPI) -> None:
    """Every error of `app` leaves as a problem; none carries a stack trace or a rejected value."""

    async def on_problem(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return response(error)

    async def on_invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return response(invalid_fields(error.errors(), drop=1))

    async def on_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers) if error.headers else None
        return response(Problem(error.status_code, str(error.detail), headers=headers))

    async def on_bug(request: Request, error: Exception) -> JSONResponse:
        log_once(request.scope, error)
        return response(OUR_FAULT)

    app.add_exception_handler(Exception, on_bug)
    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)


def install_outages(app: FastAPI) -> None:
    """Every outage of database or broker leaves `app` as 503.

    Not for the application that it is mounted in: that would answer once more an error that was answered with 500.
    """

    async def on_outage(_: Request, error: Exception) -> JSONResponse:
        problem = outage_of(error)
        if problem is None:
            raise error
        return response(problem)

    for kind in OUTAGES:
        app.add_exception_handler(kind, on_outage)
