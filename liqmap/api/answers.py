"""From a prepared answer to a response: ETag, 304, age, gzip; and the fields that every data answer has."""

import hashlib
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

from flask import Response, request

from liqmap import __version__
from liqmap.api.encode import Prepared, encode
from liqmap.api.resource import Serving
from liqmap.client import Freshness, Gap, Newest

Body = Mapping[str, Any]

_ALWAYS: Final = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff"}
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
    key = (path, query, newest.version, more)
    prepared = serving.memo.get(key)
    tag = prepared.etag if prepared is not None else etag(key)
    if request.if_none_match.contains_weak(_opaque(tag)):
        return Response(status=304, headers={"ETag": tag, **_ALWAYS})
    if prepared is None:
        newest, body = build()
        key = (path, query, newest.version, more)
        prepared = Prepared(encode(body), etag(key))
        serving.memo.put(key, prepared)
    return _sent(prepared, newest.freshness.age_ms)


def unkept(path: str, query: Hashable, newest: Newest, body: Body) -> Response:
    """Like `data` for small answers that hold further ages: encoded each time, with an ETag that ignores all ages."""
    tag = etag((path, query, newest.version))
    if request.if_none_match.contains_weak(_opaque(tag)):
        return Response(status=304, headers={"ETag": tag, **_ALWAYS})
    return _sent(Prepared(encode(body), tag), newest.freshness.age_ms)


def etag(key: Hashable) -> str:
    """The same for the same key in every process. Weak: the age differs between two answers that share it."""
    return f'W/"{hashlib.blake2b(repr((__version__, key)).encode(), digest_size=12).hexdigest()}"'


def _opaque(tag: str) -> str:
    return tag[3:-1]


def _sent(prepared: Prepared, age_ms: int) -> Response:
    headers = {"ETag": prepared.etag, **_ALWAYS}
    if prepared.worth_gzip and "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(prepared.gzip(age_ms), 200, headers, content_type="application/json")
    return Response(prepared.json(age_ms), 200, headers, content_type="application/json")
