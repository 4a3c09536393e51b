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

FIREWALL_S: Final = 300.0
REGION_RETRY_S: Final = 3600.0
"""A refusal by country holds for this egress address: ask again hourly at most."""

_MAX_TEXT = 200
_REGION_WORDS = re.compile(r"restricted location|your country|your region|country or region|not available in", re.I)
_HTML_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.I | re.S)
_UNTIL = re.compile(r"until (\d{13})")

_OVERLOAD_STATUS: Final = frozenset({408, 500, 502, 503, 504})


def classified(
    status: int,
    code: int | None,
    message: str,
    headers: Mapping[str, str],
    body: bytes,
    codes: Mapping[int, RefusalKind],
) -> Refusal:
    """The refusal that status, code and body add up to; `codes`: what the venue's own numbers mean."""
    text = message or _page_title(body) or f"HTTP {status}"
    told = codes.get(code) if code is not None else None
    if told is REGION or status == 451 or (status == 403 and _REGION_WORDS.search(_readable(body))):
        return Refusal(REGION, REGION_RETRY_S, text)
    if told is not None:
        return Refusal(told, pause_s(headers, message, None), text)
    if status == 429:
        return Refusal(RATE_LIMITED, pause_s(headers, message, None), text)
    if status == 403:
        return Refusal(BANNED, pause_s(headers, message, FIREWALL_S), text)
    if status in _OVERLOAD_STATUS:
        return Refusal(OVERLOAD, pause_s(headers, message, None), text)
    return Refusal(SHAPE, None, text if code is None else f"{code} {text}")


def envelope(content_type: str, body: bytes, code_key: str, text_key: str) -> tuple[int | None, str]:
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


def pause_s(headers: Mapping[str, str], message: str, otherwise: float | None) -> float | None:
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
