"""Why Binance did not answer (docs/exchanges.md, "Refusals")."""

import re
from collections.abc import Mapping
from typing import Final

from liqmap.exchanges.adapter import Refusal, RefusalKind, Usage
from liqmap.exchanges.refusals import (
    BANNED,
    OVERLOAD,
    RATE_LIMITED,
    REGION,
    REGION_RETRY_S,
    classified,
    envelope,
    pause_s,
)

BAN_S: Final = 120.0
"""Binance: the shortest ban, when neither a header nor the text says how long."""
_CODES: Final[Mapping[int, RefusalKind]] = {-1003: RATE_LIMITED, -1008: OVERLOAD, -1015: RATE_LIMITED}


def refusal(status: int, content_type: str, headers: Mapping[str, str], body: bytes) -> Refusal | None:
    """Binance: 418 bans, 451 is the region, 403 is the firewall; codes are negative and come with a 4xx."""
    code, message = envelope(content_type, body, "code", "msg")
    if status == 418:
        return Refusal(BANNED, pause_s(headers, message, BAN_S), message or "banned")
    if status == 451:
        return Refusal(REGION, REGION_RETRY_S, message or "unavailable from this location")
    if 200 <= status < 300 and (code is None or code >= 0):
        return None
    return classified(status, code, message, headers, body, _CODES)


def usage(headers: Mapping[str, str]) -> Usage | None:
    """The weight that this IP has spent in the running minute (`X-MBX-USED-WEIGHT-1M`, with every answer)."""
    used = headers.get("x-mbx-used-weight-1m", "")
    return Usage("rest", used=int(used)) if re.fullmatch(r"\d{1,9}", used) else None
