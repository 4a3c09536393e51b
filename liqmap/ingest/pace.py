"""What a client may say on one websocket: so many texts, pongs included, and so many subscriptions (adapter.Limits).

Owned by the link's thread. A text that may not be said yet waits; a ping that may not be said is left out, since what
went out instead kept the connection alive.
"""

from typing import Any, Final

import msgspec

from liqmap.exchanges.adapter import Limits
from liqmap.ingest.spending import Spending

MESSAGE_SHARE: Final = 0.7
"""Of the texts; the rest is for pongs, which have to be answered when they come (transport.PONG_EVERY_S)."""
OPERATION_SHARE: Final = 0.95
"""Of the subscriptions and cancellations."""


class _Request(msgspec.Struct):
    """A subscription or cancellation in the style of OKX and Bybit."""

    args: tuple[Any, ...] = ()


def operations_of(text: str) -> int:
    """How many subscriptions or cancellations a text asks for: its arguments, each of them counted, the stricter of
    the readings of the venue's document."""
    try:
        return len(msgspec.json.decode(text, type=_Request).args)
    except msgspec.MsgspecError:
        return 0


class Pace:
    """The allowances of one connection. Times are monotonic ns."""

    def __init__(self, limits: Limits) -> None:
        self._messages = None if limits.messages is None else Spending(limits.messages, MESSAGE_SHARE)
        self._operations = None if limits.operations is None else Spending(limits.operations, OPERATION_SHARE)

    def may_say(self, text: str, now_ns: int) -> bool:
        """Take one text, if it may be said now."""
        operations = operations_of(text) if self._operations is not None else 0
        if self._messages is not None and self._messages.wait_s(now_ns) > 0:
            return False
        if self._operations is not None and operations:
            if self._operations.wait_s(now_ns, operations) > 0:
                return False
            self._operations.spend(now_ns, operations)
        if self._messages is not None:
            self._messages.spend(now_ns)
        return True

    def answered(self, pongs: int, now_ns: int) -> None:
        """So many pongs went out: they count as texts."""
        if pongs and self._messages is not None:
            self._messages.spend(now_ns, pongs)
