"""Why OKX did not answer (docs/exchanges.md, "Refusals")."""

from collections.abc import Mapping
from typing import Final

from liqmap.exchanges.adapter import Refusal, RefusalKind
from liqmap.exchanges.refusals import (
    OVERLOAD,
    RATE_LIMITED,
    REGION,
    classified,
    envelope,
)

_CODES: Final[Mapping[int, RefusalKind]] = {
    50001: OVERLOAD,
    50011: RATE_LIMITED,
    50013: OVERLOAD,
    50026: OVERLOAD,
    50040: RATE_LIMITED,
    50051: REGION,
    50061: RATE_LIMITED,
}


def refusal(status: int, content_type: str, headers: Mapping[str, str], body: bytes) -> Refusal | None:
    """OKX: the code is a string, and comes with a 200 as often as not."""
    code, message = envelope(content_type, body, "code", "msg")
    if 200 <= status < 300 and code in (None, 0):
        return None
    return classified(status, code, message, headers, body, _CODES)


def usage(_headers: Mapping[str, str]) -> None:
    """OKX says nothing about what is used."""
