"""The one place that knows which venues there are, and what each adapter is made of."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from liqmap.domain.enums import Venue
from liqmap.exchanges import depth_plans, limits, plans
from liqmap.exchanges.adapter import Adapter, BookRule
from liqmap.exchanges.binance import BinanceSession
from liqmap.exchanges.binance_rest import BINANCE_SHAPES, binance_reply
from liqmap.exchanges.bybit import BybitSession
from liqmap.exchanges.bybit_rest import BYBIT_SHAPES, bybit_reply
from liqmap.exchanges.listings import (
    binance_listing,
    bybit_listing,
    okx_listing,
    refused_binance_name,
    refused_bybit_name,
    refused_okx_name,
)
from liqmap.exchanges.okx import OkxSession
from liqmap.exchanges.okx_rest import OKX_SHAPES, okx_reply
from liqmap.exchanges.refusals import binance_refusal, bybit_refusal, okx_refusal

BINANCE: Final = Adapter(
    venue=Venue.BINANCE,
    budgets=limits.BINANCE_BUDGETS,
    session=BinanceSession,
    parse_reply=binance_reply,
    parse_listing=binance_listing,
    link_plans=plans.binance_links,
    poll_plans=plans.binance_polls,
    ratio_plans=plans.binance_ratios,
    subscribe_texts=partial(plans.binance_texts, "SUBSCRIBE"),
    unsubscribe_texts=partial(plans.binance_texts, "UNSUBSCRIBE"),
    classify_refusal=binance_refusal,
    refused_name=refused_binance_name,
    request_of=partial(plans.request_of, plans.BINANCE_REQUESTS, BINANCE_SHAPES),
    limits=limits.BINANCE_LIMITS,
    book_rule=BookRule.BINANCE,
    book_plan=depth_plans.binance_book,
)

BYBIT: Final = Adapter(
    venue=Venue.BYBIT,
    budgets=limits.BYBIT_BUDGETS,
    session=BybitSession,
    parse_reply=bybit_reply,
    parse_listing=bybit_listing,
    link_plans=plans.bybit_links,
    poll_plans=plans.bybit_polls,
    ratio_plans=plans.bybit_ratios,
    subscribe_texts=partial(plans.bybit_texts, "subscribe"),
    unsubscribe_texts=partial(plans.bybit_texts, "unsubscribe"),
    classify_refusal=bybit_refusal,
    refused_name=refused_bybit_name,
    request_of=partial(plans.request_of, plans.BYBIT_REQUESTS, BYBIT_SHAPES),
    limits=limits.BYBIT_LIMITS,
    book_rule=BookRule.BYBIT,
    book_plan=depth_plans.bybit_book,
)

OKX: Final = Adapter(
    venue=Venue.OKX,
    budgets=limits.OKX_BUDGETS,
    session=OkxSession,
    parse_reply=okx_reply,
    parse_listing=okx_listing,
    link_plans=plans.okx_links,
    poll_plans=plans.okx_polls,
    ratio_plans=plans.okx_ratios,
    subscribe_texts=partial(plans.okx_texts, "subscribe"),
    unsubscribe_texts=partial(plans.okx_texts, "unsubscribe"),
    classify_refusal=okx_refusal,
    refused_name=refused_okx_name,
    request_of=partial(plans.request_of, plans.OKX_REQUESTS, OKX_SHAPES),
    limits=limits.OKX_LIMITS,
    book_rule=BookRule.OKX,
    book_plan=depth_plans.okx_book,
)

ADAPTERS: Final[Mapping[Venue, Adapter]] = {adapter.venue: adapter for adapter in (BINANCE, BYBIT, OKX)}

VENUES_BY_NAME: Final[Mapping[str, Venue]] = {venue.name.lower(): venue for venue in ADAPTERS}
"""The names that configuration, commands and answers use."""
