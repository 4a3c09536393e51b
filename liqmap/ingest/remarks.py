"""What venues say about a connection instead of market data: notices, and complaints about a subscription."""

import logging
import queue

from liqmap.exchanges.adapter import Control, ControlKind
from liqmap.ingest.feeds import SourceState
from liqmap.ingest.link import Order, Rotate
from liqmap.logs import fields

log = logging.getLogger(__name__)


def heed(
    control: Control,
    link: str,
    connection: int,
    source: SourceState,
    orders: "queue.SimpleQueue[Order]",
    closing: frozenset[str],
) -> None:
    """Act on what a venue said on a connection of `link`: move over before it closes, keep what it complains about.

    `closing`: the codes of its notices that it will close the connection."""
    said = fields(link=link, code=control.code, text=control.text)
    if control.kind is ControlKind.NOTICE:
        log.warning("notice of the venue", extra=said)
        if control.code in closing:
            orders.put(Rotate(connection, f"notice {control.code}"))
    elif control.kind is ControlKind.ERROR:
        complaint = f"venue says: {control.code} {control.text}".strip()
        if source.complaint != complaint:
            log.warning("the venue complains", extra=said)
        source.complaints[connection] = complaint
