"""Every error that HTTP shows: `{"error": {"code", "message", "param"?, "allowed"?}}`.

400 the request is at fault, 404 no such path, 405 only GET and HEAD, 503 not yet (with Retry-After), 500 our bug:
logged with its traceback, and nothing of it shown. Never 422.
"""

import logging
from typing import ClassVar

import orjson
from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, InternalServerError

from liqmap.client import ClientError

log = logging.getLogger(__name__)

RETRY_AFTER_S = 2


class ApiError(Exception):
    """A refusal with a place in the envelope."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"

    def __init__(self, message: str, *, param: str | None = None, allowed: object = None) -> None:
        super().__init__(message)
        self.message, self.param, self.allowed = message, param, allowed


class InvalidParameter(ApiError):
    """A value that is not allowed."""

    code = "invalid_parameter"


class UnknownParameter(ApiError):
    """A parameter this path does not have."""

    code = "unknown_parameter"


class RepeatedParameter(ApiError):
    """A parameter given more than once: which one counts would be a guess."""

    code = "repeated_parameter"


class NotReady(ApiError):
    """There is no data yet; the message says why."""

    status = 503
    code = "not_ready"


class WarmingUp(NotReady):
    """Nothing has been published for this symbol, or nobody is there to publish."""

    code = "warming_up"


_HTTP_CODES = {404: "unknown_path", 405: "method_not_allowed", 400: "bad_request", 414: "uri_too_long"}
_HTTP_WORDS = {
    404: "there is nothing at this path",
    405: "only GET and HEAD are answered",
}


def envelope(
    status: int, code: str, message: str, *, param: str | None = None, allowed: object = None, **more: object
) -> Response:
    """The answer for an error. `more` are further members beside `error`."""
    error: dict[str, object] = {"code": code, "message": message}
    if param is not None:
        error["param"] = param
    if allowed is not None:
        error["allowed"] = allowed
    response = Response(orjson.dumps({"error": error, **more}), status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def install(app: Flask) -> None:
    """Make every error of `app` an envelope."""
    app.register_error_handler(ApiError, _refused)
    app.register_error_handler(ClientError, _not_served)
    app.register_error_handler(HTTPException, _http)


def _refused(error: ApiError) -> Response:
    return envelope(error.status, error.code, error.message, param=error.param, allowed=error.allowed)


def _not_served(error: ClientError) -> Response:
    return envelope(503, "not_served", str(error))


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    if isinstance(error, InternalServerError):
        original = error.original_exception
        log.error("a request failed: %s %s", request.method, request.path, exc_info=original or error)
        return envelope(500, "internal_error", "this is a fault of the server; it has been logged")
    allowed = sorted({rule.rule for rule in current_app.url_map.iter_rules()}) if status == 404 else None
    words = _HTTP_WORDS.get(status, error.name.lower())
    response = envelope(status, _HTTP_CODES.get(status, "http_error"), words, allowed=allowed)
    if status == 405:
        response.headers["Allow"] = "GET, HEAD"
    return response
