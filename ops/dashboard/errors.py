"""What the API answers when something is wrong: one body for all, and which error of the layers below means what."""

import redis
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from ops.jobs.dead_letters import ReplayFailed
from storage.database import DatabaseRefused, DatabaseUnavailable, SchemaOutdated
from storage.redis_refusals import in_words
from storage.registry import UnknownModel
from streams.kafka import KafkaUnavailable

log = structlog.get_logger(__name__)

CODES = {401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
UNAVAILABLE = (DatabaseRefused, DatabaseUnavailable, SchemaOutdated, KafkaUnavailable, ReplayFailed, redis.RedisError)


class ErrorDetail(BaseModel):
    code: str
    message: str


class ErrorBody(BaseModel):
    error: ErrorDetail


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


def not_found(message: str) -> ApiError:
    return ApiError(404, "not_found", message)


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    body = ErrorBody(error=ErrorDetail(code=code, message=message))
    return JSONResponse(body.model_dump(), status, headers)


def unavailable_message(error: Exception) -> str:
    """What is away, and what to do."""
    if isinstance(error, redis.RedisError):
        return f"Redis is away: {in_words(error)}; check HEADGATE_REDIS, or try again once it is back"
    if isinstance(error, KafkaUnavailable | ReplayFailed):
        return f"Kafka is away: {error}; check HEADGATE_KAFKA, or try again once it is back"
    if isinstance(error, SchemaOutdated | DatabaseRefused):
        return str(error)
    return f"SQL is away: {error}; check HEADGATE_DATABASE, or try again once it is back"


def add_error_handlers(app: FastAPI) -> None:
    async def api_error(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error_response(error.status, error.code, error.message, error.headers)

    async def http_error(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 400:  # what FastAPI says of bytes that it cannot even take for JSON
            return error_response(422, "invalid", "body: cannot be read as JSON")
        headers = dict(error.headers) if error.headers else None
        return error_response(error.status_code, CODES.get(error.status_code, "failed"), str(error.detail), headers)

    async def invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(422, "invalid", "; ".join(map(_problem, error.errors())))

    async def unknown_model(_request: Request, error: Exception) -> JSONResponse:
        return error_response(404, "not_found", str(error))

    async def away(_request: Request, error: Exception) -> JSONResponse:
        log.warning("a request could not be answered", error=str(error))
        return error_response(503, "unavailable", unavailable_message(error))

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(UnknownModel, unknown_model)
    for kind in UNAVAILABLE:
        app.add_exception_handler(kind, away)


def _problem(problem: dict[str, object]) -> str:
    """`body.label: ...`, without what was sent."""
    place = problem.get("loc", ())
    where = ".".join(map(str, place)) if isinstance(place, tuple | list) else ""
    return f"{where}: {problem['msg']}"
