"""Why a venue did not answer, as each of them says it (docs/exchanges.md, "Refusals")."""

import pytest

from liqmap.domain.enums import Venue
from liqmap.exchanges.adapter import RefusalKind
from liqmap.exchanges.registry import ADAPTERS

JSON, HTML = "application/json;charset=utf-8", "text/html"
COUNTRY = (
    b"<HTML><TITLE>ERROR: The request could not be satisfied</TITLE> "
    b"The Amazon CloudFront distribution is configured to block access from your country.</HTML>"
)
WAF = b"<html><head><title>403 Forbidden</title></head></html>"
NONE: dict[str, str] = {}
RATE, BAN, REGION, OVERLOAD, SHAPE = RefusalKind

CASES = [
    (Venue.BINANCE, 200, JSON, NONE, b'{"symbol":"BTCUSDT"}', None, None),
    (Venue.BINANCE, 200, JSON, NONE, b"[]", None, None),
    (Venue.BINANCE, 429, JSON, {"Retry-After": "17"}, b'{"code":-1003,"msg":"Too many requests."}', RATE, 17.0),
    (Venue.BINANCE, 429, JSON, NONE, b'{"code":-1003,"msg":"Too many requests."}', RATE, None),
    (
        Venue.BINANCE,
        418,
        JSON,
        {"retry-after": "180"},
        b'{"code":-1003,"msg":"banned until 1790000000000"}',
        BAN,
        180.0,
    ),
    (
        Venue.BINANCE,
        418,
        JSON,
        {"Date": "Mon, 21 Sep 2026 14:11:40 GMT"},
        b'{"code":-1003,"msg":"IP banned until 1790000000000. Please use WebSocket."}',
        BAN,
        1_790_000_000 - 1_789_999_900.0,
    ),
    (Venue.BINANCE, 418, JSON, NONE, b'{"code":-1003,"msg":"banned"}', BAN, 120.0),
    (
        Venue.BINANCE,
        451,
        JSON,
        NONE,
        b'{"code":0,"msg":"Service unavailable from a restricted location according to \'b. Eligibility\'"}',
        REGION,
        3600.0,
    ),
    (Venue.BINANCE, 451, HTML, NONE, b"", REGION, 3600.0),
    (Venue.BINANCE, 403, HTML, NONE, WAF, BAN, 300.0),
    (Venue.BINANCE, 503, JSON, NONE, b'{"code":-1008,"msg":"Server is currently overloaded"}', OVERLOAD, None),
    (Venue.BINANCE, 408, JSON, NONE, b"", OVERLOAD, None),
    (Venue.BINANCE, 400, JSON, NONE, b'{"code":-1121,"msg":"Invalid symbol."}', SHAPE, None),
    (Venue.BINANCE, 404, HTML, NONE, b"<title>404 Not Found</title>", SHAPE, None),
    (Venue.BYBIT, 200, JSON, NONE, b'{"retCode":0,"retMsg":"OK","result":{}}', None, None),
    (Venue.BYBIT, 200, JSON, NONE, b'{"retCode":10001,"retMsg":"params error"}', SHAPE, None),
    (Venue.BYBIT, 200, JSON, NONE, b'{"retCode":10006,"retMsg":"Too many visits!"}', RATE, None),
    (Venue.BYBIT, 200, JSON, NONE, b'{"retCode":10016,"retMsg":"Server error."}', OVERLOAD, None),
    (Venue.BYBIT, 200, JSON, NONE, b'{"retCode":10024,"retMsg":"compliance rules triggered"}', REGION, 3600.0),
    (Venue.BYBIT, 403, JSON, NONE, b'{"retCode":10009,"retMsg":"IP is not allowed"}', REGION, 3600.0),
    (Venue.BYBIT, 403, HTML, NONE, COUNTRY, REGION, 3600.0),
    (Venue.BYBIT, 403, HTML, NONE, WAF, BAN, 300.0),
    (Venue.BYBIT, 403, "text/plain", NONE, b"403, access too frequent", RATE, 600.0),
    (Venue.BYBIT, 429, JSON, NONE, b'{"retCode":10429,"retMsg":"System level frequency protection"}', OVERLOAD, None),
    (Venue.OKX, 200, JSON, NONE, b'{"code":"0","data":[],"msg":""}', None, None),
    (Venue.OKX, 200, JSON, NONE, b'{"code":"50011","data":[],"msg":"Too Many Requests"}', RATE, None),
    (Venue.OKX, 429, JSON, {"Retry-After": "2"}, b'{"code":"50011","msg":"Too Many Requests"}', RATE, 2.0),
    (Venue.OKX, 200, JSON, NONE, b'{"code":"50013","msg":"Systems are busy."}', OVERLOAD, None),
    (Venue.OKX, 503, JSON, NONE, b'{"code":"50001","msg":"Service temporarily unavailable."}', OVERLOAD, None),
    (Venue.OKX, 200, JSON, NONE, b'{"code":"51001","msg":"Instrument ID does not exist."}', SHAPE, None),
    (Venue.OKX, 403, JSON, NONE, b'{"code":"50051","msg":"not available in your region"}', REGION, 3600.0),
    (Venue.OKX, 403, HTML, NONE, WAF, BAN, 300.0),
    (Venue.OKX, 502, HTML, NONE, b"", OVERLOAD, None),
]


@pytest.mark.parametrize(("venue", "status", "kind", "headers", "body", "refusal", "pause"), CASES)
def test_a_refusal_is_what_the_venue_means_by_it(
    venue: Venue,
    status: int,
    kind: str,
    headers: dict[str, str],
    body: bytes,
    refusal: RefusalKind | None,
    pause: float | None,
) -> None:
    found = ADAPTERS[venue].classify_refusal(status, kind, headers, body)
    if refusal is None:
        assert found is None
    else:
        assert found is not None
        assert (found.kind, found.retry_after_s) == (refusal, pause)
        assert found.text


def test_html_is_never_decoded_as_json_and_its_title_is_the_reason() -> None:
    found = ADAPTERS[Venue.BYBIT].classify_refusal(403, HTML, NONE, b'{"retCode":0}' + WAF)
    assert found is not None
    assert (found.kind, found.text) == (BAN, "403 Forbidden")


def test_a_pause_given_as_a_date_is_counted_from_the_answers_own_date() -> None:
    headers = {"Date": "Mon, 21 Sep 2026 14:00:00 GMT", "Retry-After": "Mon, 21 Sep 2026 14:01:30 GMT"}
    found = ADAPTERS[Venue.OKX].classify_refusal(429, HTML, headers, b"")
    assert found is not None
    assert found.retry_after_s == 90.0
