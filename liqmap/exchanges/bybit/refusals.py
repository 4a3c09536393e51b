"""Why Bybit did not answer (docs/exchanges.md, "Refusals")."""

import re
from collections.abc import Mapping
from typing import Final

from liqmap.exchanges.adapter import Refusal, RefusalKind, Usage
from liqmap.exchanges.refusals import (
    OVERLOAD,
    RATE_LIMITED,
    REGION,
    classified,
    envelope,
    pause_s,
)

TOO_FREQUENT_S: Final = 600.0
"""Bybit: after "access too frequent" stop every request of this IP for at least ten minutes."""
_CODES: Final[Mapping[int, RefusalKind]] = {
    10000: OVERLOAD,
    10006: RATE_LIMITED,
    10009: REGION,
    10016: OVERLOAD,
    10018: RATE_LIMITED,
    10024: REGION,
}


def refusal(status: int, content_type: str, headers: Mapping[str, str], body: bytes) -> Refusal | None:
    """Bybit: 403 is the region or ten minutes of silence, 429 the venue's own overload, errors come with a 200."""
    code, message = envelope(content_type, body, "retCode", "retMsg")
    if status == 403 and "too frequent" in (message + body[:2000].decode("utf-8", "replace")):
        told_s = pause_s(headers, "", None) or 0.0
        return Refusal(RATE_LIMITED, max(told_s, TOO_FREQUENT_S), message or "access too frequent")
    if status == 429:
        return Refusal(OVERLOAD, pause_s(headers, "", None), message or "system protection")
    if 200 <= status < 300 and code in (None, 0):
        return None
    return classified(status, code, message, headers, body, _CODES)


def usage(headers: Mapping[str, str]) -> Usage | None:
    """Whether an endpoint's allowance is spent, and when there is more (`X-Bapi-Limit-Status`: what is left)."""
    left, reset_ms = headers.get("x-bapi-limit-status", ""), headers.get("x-bapi-limit-reset-timestamp", "")
    if left != "0" or not re.fullmatch(r"\d{13}", reset_ms):
        return None
    return Usage("rest", until_ms=int(reset_ms))
