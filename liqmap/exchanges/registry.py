"""The one place that knows which venues there are: one line each."""

from collections.abc import Mapping
from typing import Final

from liqmap.domain.enums import Venue
from liqmap.exchanges import binance, bybit, okx
from liqmap.exchanges.adapter import Adapter

ADAPTERS: Final[Mapping[Venue, Adapter]] = {
    adapter.venue: adapter
    for adapter in (
        binance.ADAPTER,
        bybit.ADAPTER,
        okx.ADAPTER,
    )
}

VENUES_BY_NAME: Final[Mapping[str, Venue]] = {venue.name.lower(): venue for venue in ADAPTERS}
"""The names that configuration, commands and answers use."""
