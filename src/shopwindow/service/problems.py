"""How does the service say that something went wrong? As problem details, RFC 9457, one shape for all of them.

Every error of the service, its own and the framework's, leaves through here. Knows no endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

MEDIA_TYPE: Final = "application/problem+json"
_URN: Final = "urn:shopwindow:problem:"
_MOST_WRONG_VALUES: Final = 20
# What a pattern or a surrogate means to somebody who typed.
_PLAIN_WORDS: Final = {
    "string_pattern_mismatch": "holds nothing that can be seen: type some words",
    "string_unicode": "is not Unicode text",
    "extra_forbidden": "is no parameter here",
}


class WrongValue(BaseModel):
    """One value of a request that was not taken."""

    where: str = Field(description="the parameter or the place in the body", examples=["query.k"])
    says: str = Field(description="what was wanted", examples=["Input should be less than or equal to 200"])


class ProblemDetails(BaseModel):
    """A problem as RFC 9457 has it."""

    type: str = Field(description="names the kind of problem", examples=["urn:shopwindow:problem:busy"])
    title: str = Field(description="the kind of problem in words, the same every time", examples=["Busy"])
    status: int = Field(description="the status of the response", examples=[503])
    detail: str = Field(description="what happened this time", examples=["64 requests are being answered"])
    wrong: list[WrongValue] | None = Field(default=None, description="the values that were not taken")


class Problem(HTTPException):
    """A problem that ends a request. `kind` is a short name with dashes; its words are the title."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        wrong: Sequence[WrongValue] = (),
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.kind = kind
        self.wrong = list(wrong) or None

    def response(self) -> Response:
        """The problem as a response."""
        details = ProblemDetails(
            type=_URN + self.kind,
            title=self.kind.replace("-", " ").capitalize(),
            status=self.status_code,
            detail=self.detail,
            wrong=self.wrong,
        )
        content = json.dumps(details.model_dump(exclude_none=True))
        return Response(content, self.status_code, self.headers, MEDIA_TYPE)


def unavailable(kind: str, detail: str, *, retry_after_seconds: int) -> Problem:
    """A 503 that says when to come again."""
    return Problem(503, kind, detail, headers={"Retry-After": str(retry_after_seconds)})


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI shall know of the problems of an endpoint."""
    schema = {"$ref": "#/components/schemas/ProblemDetails"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "model": ProblemDetails,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }


def send_problems(app: FastAPI) -> None:
    """Makes all errors of an app problems: its own, the framework's, and its faults."""

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        if isinstance(error, Problem):
            return error.response()
        kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        return Problem(error.status_code, kind, error.detail, headers=error.headers).response()

    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, error: RequestValidationError) -> Response:
        got = request.headers.get("content-type", "")
        if any(one["loc"] == ("body",) for one in error.errors()) and not _is_json(got):
            detail = f"Content-Type is {_printable(got[:100])!r}" if got else "Content-Type is missing"
            return Problem(415, "unsupported-media-type", f"{detail}, application/json is wanted").response()
        wrong = [_wrong_value(one) for one in error.errors()[:_MOST_WRONG_VALUES]]
        detail = "; ".join(f"{one.where} {one.says}" for one in wrong[:3])
        return Problem(422, "invalid-request", detail, wrong=wrong).response()

    @app.exception_handler(Exception)
    async def fault(_: Request, __: Exception) -> Response:
        detail = "a fault of the service; its log names the X-Request-ID"
        return Problem(500, "internal-error", detail).response()


def _is_json(media_type: str) -> bool:
    kind = media_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _wrong_value(error: Mapping[str, Any]) -> WrongValue:
    """Where and what, without the value itself: it may be long, or not to be repeated."""
    where = ".".join(str(part)[:60] for part in error["loc"])
    says = _PLAIN_WORDS.get(str(error["type"]), str(error["msg"]).removeprefix("Value error, ")[:200])
    return WrongValue(where=_printable(where), says=_printable(says))


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
