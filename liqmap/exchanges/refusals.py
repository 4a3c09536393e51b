"""Why a venue did not answer: HTTP status, type, headers and body, read in that order (docs/exchanges.md, "Refusals").

JSON is decoded only when the Content-Type says JSON: what a firewall in front of a venue answers is a page of HTML.
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

from liqmap.exchanges.adapter import Malformed, Refusal, RefusalKind
from liqmap.exchanges.wire import decode_any

RATE_LIMITED, BANNED, REGION, OVERLOAD, SHAPE = RefusalKind

BYBIT_TOO_FREQUENT_S: Final = 600.0
"""Bybit: after "access too frequent" stop every request of this IP for at least ten minutes."""
BINANCE_BAN_S: Final = 120.0
"""Binance: the shortest ban, when neither a header nor the text says how long."""
FIREWALL_S: Final = 300.0
REGION_RETRY_S: Final = 3600.0
"""A refusal by country holds for this egress address: ask again hourly at most."""

_MAX_TEXT = 200
_REGION_WORDS = re.compile(r"restricted location|your country|your region|country or region|not available in", re.I)
_HTML_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.I | re.S)
_UNTIL = re.compile(r"until (\d{13})")

_BINANCE_CODES: Final[Mapping[int, RefusalKind]] = {-1003: RATE_LIMITED, -1008: OVERLOAD, -1015: RATE_LIMITED}
_BYBIT_CODES: Final[Mapping[int, RefusalKind]] = {
    10000: OVERLOAD,
    10006: RATE_LIMITED,
    10009: REGION,
    10016: OVERLOAD,
    10018: RATE_LIMITED,
    10024: REGION,
}
_OKX_CODES: Final[Mapping[int, RefusalKind]] = {
    50001: OVERLOAD,
    50011: RATE_LIMITED,
    50013: OVERLOAD,
    50026: OVERLOAD,
    50040: RATE_LIMITED,
    50051: REGION,
    50061: RATE_LIMITED,
}
_OVERLOAD_STATUS: Final = frozenset({408, 500, 502, 503, 504})


def binance_refusal(status: int, content_type: str, headers: Mapping[str, str], body: bytes) -> Refusal | None:
    """Binance: 418 bans, 451 is the region, 403 is the firewall; codes are negative and come with a 4xx."""
    code, message = _envelope(content_type, body, "code", "msg")
    if status == 418:
        return Refusal(BANNED, _pause(headers, message, BINANCE_BAN_S), message or "banned")
    if status == 451:
        return Refusal(REGION, REGION_RETRY_S, message or "unavailable from this location")
    if 200 <= status < 300 and (code is None or code >= 0):
        return None
    return _classify(status, code, message, headers, body, _BINANCE_CODES)


def bybit_refusal(status: int, content_type: str, headers: Mapping[str, str], body: bytes) -> Refusal | None:
    """Bybit: 403 is the region or ten minutes of silence, 429 the venue's own overload, errors come with a 200."""
    code, message = _envelope(content_type, body, "retCode", "retMsg")
    if status == 403 and "too frequent" in (message + body[:2000].decode("utf-8", "replace")):
        return Refusal(RATE_LIMITED, _pause(headers, "", BYBIT_TOO_FREQUENT_S), message or "access too frequent")
    if status == 429:
        return Refusal(OVERLOAD, _pause(headers, "", None), message or "system protection")
    if 200 <= status < 300 and code in (None, 0):
        return None
    return _classify(status, code, message, headers, body, _BYBIT_CODES)


def okx_refusal(status: int, content_type: str, headers: Mapping[str, str], body: bytes) -> Refusal | None:
    """OKX: the code is a string, and comes with a 200 as often as not."""
    code, message = _envelope(content_type, body, "code", "msg")
    if 200 <= status < 300 and code in (None, 0):
        return None
    return _classify(status, code, message, headers, body, _OKX_CODES)


def _classify(
    status: int,
    code: int | None,
    message: str,
    headers: Mapping[str, str],
    body: bytes,
    codes: Mapping[int, RefusalKind],
) -> Refusal:
    text = message or _page_title(body) or f"HTTP {status}"
    told = codes.get(code) if code is not None else None
    if told is REGION or status == 451 or (status == 403 and _REGION_WORDS.search(_readable(body))):
        return Refusal(REGION, REGION_RETRY_S, text)
    if told is not None:
        return Refusal(told, _pause(headers, message, None), text)
    if status == 429:
        return Refusal(RATE_LIMITED, _pause(headers, message, None), text)
    if status == 403:
        return Refusal(BANNED, _pause(headers, message, FIREWALL_S), text)
    if status in _OVERLOAD_STATUS:
        return Refusal(OVERLOAD, _pause(headers, message, None), text)
    return Refusal(SHAPE, None, text if code is None else f"{code} {text}")


def _envelope(content_type: str, body: bytes, code_key: str, text_key: str) -> tuple[int | None, str]:
    """The venue's own error number and words, when the answer is JSON and has them."""
    if "json" not in content_type.lower():
        return None, ""
    try:
        answer: Any = decode_any(body)
    except Malformed:
        return None, ""
    if not isinstance(answer, dict):
        return None, ""
    code, text = answer.get(code_key), answer.get(text_key)
    number = re.fullmatch(r"-?\d{1,9}", str(code))
    return (int(number[0]) if number else None), (text[:_MAX_TEXT] if isinstance(text, str) else "")


def _pause(headers: Mapping[str, str], message: str, otherwise: float | None) -> float | None:
    """Seconds to wait: Retry-After, else "banned until <ms>" against the answer's own Date, else `otherwise`."""
    found = {name.lower(): value.strip() for name, value in headers.items()}
    retry_after = found.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}(\.\d+)?", retry_after):
        return float(retry_after)
    answered_s = _date_s(found.get("date", ""))
    until = _UNTIL.search(message)
    until_s = float(until[1]) / 1000 if until else _date_s(retry_after)
    if answered_s is not None and until_s is not None:
        return max(0.0, until_s - answered_s)
    return otherwise


def _date_s(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _readable(body: bytes) -> str:
    return body[:4000].decode("utf-8", "replace")


def _page_title(body: bytes) -> str:
    title = _HTML_TITLE.search(body[:4000])
    return _readable(title[1]).strip()[:_MAX_TEXT] if title else ""
