"""Errors on the wire: every failure of an application leaves as `application/problem+json` (RFC 9457)."""

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from shared.http.problem import Problem, field_errors, invalid

log = structlog.get_logger()


def response(problem: Problem) -> JSONResponse:
    return JSONResponse(problem.body(), problem.status, media_type="application/problem+json", headers=problem.headers)


def install(app: FastAPI) -> None:
    """Every error of `app` leaves as a problem; none carries a stack trace or a rejected value."""

    async def on_problem(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return response(error)

    async def on_invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return response(invalid(field_errors(error.errors(), drop=1)))

    async def on_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers) if error.headers else None
        return response(Problem(error.status_code, str(error.detail), headers=headers))

    async def on_bug(_: Request, error: Exception) -> JSONResponse:
        log.error("request failed", error=type(error).__name__)
        return response(Problem(500, "this is a fault of ours, and it is in the log"))

    app.add_exception_handler(Exception, on_bug)
    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
