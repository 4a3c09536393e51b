"""From a prepared answer to a response: ETag, 304, age, gzip; and the fields that every data answer has."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final

from flask import Response, request
from werkzeug.datastructures import Accept, Headers
from werkzeug.http import parse_accept_header

from liqmap import __version__
from liqmap.api.encode import Headings, Prepared, PreparedBytes, encode
from liqmap.api.resource import Serving
from liqmap.client import Freshness, Gap, Newest, Version

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Body = Mapping[str, Any]

_ALWAYS: Final[Headings] = (("Cache-Control", "no-cache"), ("Vary", "Accept-Encoding"))
_JSON: Final[Headings] = (*_ALWAYS, ("Content-Type", "application/json"))
_GZIP: Final[Headings] = (*_JSON, ("Content-Encoding", "gzip"))
BYTES_HEADERS: Final = tuple(
    f"X-Liqmap-{name}" for name in ("Symbol", "As-Of-Ms", "Age-Ms", "Stale", "Source", "Gaps", "Missing", "Interval-Ms")
)
"""What answers in bytes say in their headers."""
_BYTES: Final[Headings] = (*_ALWAYS, ("Content-Type", "application/octet-stream"))
NO_STORE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def common(symbol: str, freshness: Freshness) -> dict[str, Any]:
    """The common fields but `age_ms`, which is added to the encoded answer."""
    return {
        "symbol": symbol,
        "as_of_ms": freshness.as_of_ms,
        "stale": freshness.stale,
        "source": freshness.source,
        "gaps": [gap(each) for each in freshness.gaps],
    }


def gap(missing: Gap) -> dict[str, Any]:
    """A gap for JSON."""
    return {
        "venue": missing.venue,
        "topic": missing.topic,
        "symbol": missing.symbol,
        "from_ms": missing.from_ms,
        "reason": missing.reason,
    }


def plain(body: Body, status: int = 200) -> Response:
    """JSON that is never kept by anyone."""
    return Response(encode(body), status, NO_STORE, content_type="application/json")


def data(
    serving: Serving,
    path: str,
    query: Hashable,
    newest: Newest,
    build: Callable[[], tuple[Newest, Body]],
    more: Hashable = (),
) -> Response:
    """Answer from the memo, or from what `build` makes; 304 when the asker has it already.

    `newest` is what there is now, `build` returns the body and what it was really made of (it may be newer by then).
    `more`: what else the body depends on. The key is all of that, without any age.
    """

    def make() -> tuple[Newest, Callable[[str], Prepared | PreparedBytes]]:
        newest, body = build()
        return newest, lambda tag: Prepared(encode(body), tag)

    return _kept(serving, lambda version: (path, query, version, more), newest, make)


def data_bytes(
    serving: Serving, path: str, query: Hashable, newest: Newest, build: Callable[[], tuple[Newest, bytes, Headings]]
) -> Response:
    """Like `data` for answers that are bytes; what JSON says in fields is said in headers, the age among them."""

    def make() -> tuple[Newest, Callable[[str], Prepared | PreparedBytes]]:
        newest, body, headings = build()
        return newest, lambda tag: PreparedBytes(body, tag, headings)

    return _kept(serving, lambda version: (path, query, version), newest, make)


def _kept(
    serving: Serving,
    key_of: Callable[[Version], Hashable],
    newest: Newest,
    make: Callable[[], tuple[Newest, Callable[[str], Prepared | PreparedBytes]]],
) -> Response:
    key = key_of(newest.version)
    prepared = serving.memo.get(key)
    tag = prepared.etag if prepared is not None else etag(key)
    if _asker_has(tag):
        return _not_modified(tag)
    if prepared is None:
        newest, prepare = make()
        key = key_of(newest.version)
        prepared = prepare(etag(key))
        serving.memo.put(key, prepared)
    return _sent(prepared, newest.freshness.age_ms)


def unkept(path: str, query: Hashable, newest: Newest, body: Body) -> Response:
    """Like `data` for small answers that hold further ages: encoded each time, with an ETag that ignores all ages."""
    tag = etag((path, query, newest.version))
    if _asker_has(tag):
        return _not_modified(tag)
    return _sent(Prepared(encode(body), tag), newest.freshness.age_ms)


def etag(key: Hashable) -> str:
    """The same for the same key in every process. Weak: the age differs between two answers that share it."""
    return f'W/"{hashlib.blake2b(repr((__version__, key)).encode(), digest_size=12).hexdigest()}"'


class Ready(Response):
    """A response whose headers and body are complete: nothing is looked at again on the way out.

    werkzeug's own making and checking of a response costs as much as everything else an answer from the memo needs.
    """

    def __init__(self, body: bytes, status: str, headers: Headings) -> None:
        self._body, self._status, self._pairs = body, status, headers
        self._status_code = int(status[:3])
        self.response = (body,)
        self.direct_passthrough = False
        self._on_close = []

    @cached_property
    def headers(self) -> Headers:  # type: ignore[override]  # made only for who looks at it
        """The headers, for whoever wants to add one."""
        return Headers(self._pairs)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """WSGI."""
        changed: Headers | None = self.__dict__.get("headers")
        start_response(self._status, list(self._pairs) if changed is None else changed.to_wsgi_list())
        return () if environ["REQUEST_METHOD"] == "HEAD" else (self._body,)


def _asker_has(tag: str) -> bool:
    known = request.environ.get("HTTP_IF_NONE_MATCH")
    return known is not None and (known == tag or request.if_none_match.contains_weak(tag[3:-1]))


def _not_modified(tag: str) -> Response:
    return Ready(b"", "304 NOT MODIFIED", (("ETag", tag), *_ALWAYS))


@lru_cache(maxsize=64)
def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header names gzip and does not forbid it (RFC 9110 §12.5.3). Clients have few."""
    return parse_accept_header(accepted, Accept)["gzip"] > 0 and "gzip" in accepted.lower()


def _sent(prepared: Prepared | PreparedBytes, age_ms: int) -> Response:
    if isinstance(prepared, PreparedBytes):
        return _sent_bytes(prepared, age_ms)
    if prepared.worth_gzip and _takes_gzip(request.environ.get("HTTP_ACCEPT_ENCODING", "")):
        body, headers = prepared.gzip(age_ms), _GZIP
    else:
        body, headers = prepared.json(age_ms), _JSON
    return Ready(body, "200 OK", (("ETag", prepared.etag), ("Content-Length", str(len(body))), *headers))


def _sent_bytes(prepared: PreparedBytes, age_ms: int) -> Response:
    body, headers = prepared.body, (*_BYTES, *prepared.headings, ("X-Liqmap-Age-Ms", str(age_ms)))
    if _takes_gzip(request.environ.get("HTTP_ACCEPT_ENCODING", "")):
        body, headers = prepared.gzip(), (*headers, ("Content-Encoding", "gzip"))
    return Ready(body, "200 OK", (("ETag", prepared.etag), ("Content-Length", str(len(body))), *headers))
