"""Binance USD-M futures: everything liqmap knows of this venue, put together as one adapter."""

from functools import partial
from typing import Final

from liqmap.domain.enums import Venue
from liqmap.exchanges.adapter import Adapter, BookRule
from liqmap.exchanges.binance import plans
from liqmap.exchanges.binance.envelope import ENVELOPE
from liqmap.exchanges.binance.frames import BinanceSession
from liqmap.exchanges.binance.listing import listing, refused_name
from liqmap.exchanges.binance.past import parse_past, past_plans
from liqmap.exchanges.binance.refusals import refusal, usage
from liqmap.exchanges.binance.replies import BINANCE_SHAPES, binance_reply
from liqmap.exchanges.plans import request_of

ADAPTER: Final = Adapter(
    venue=Venue.BINANCE,
    budgets=plans.BUDGETS,
    session=BinanceSession,
    parse_reply=binance_reply,
    parse_listing=listing,
    link_plans=plans.links,
    poll_plans=plans.polls,
    ratio_plans=plans.ratios,
    subscribe_texts=partial(plans.texts, "SUBSCRIBE"),
    unsubscribe_texts=partial(plans.texts, "UNSUBSCRIBE"),
    classify_refusal=refusal,
    refused_name=refused_name,
    request_of=partial(request_of, plans.REQUESTS, BINANCE_SHAPES),
    past_plans=past_plans,
    parse_past=parse_past,
    limits=plans.LIMITS,
    usage=usage,
    envelope=ENVELOPE,
    book_rule=BookRule.BINANCE,
    book_plan=plans.book,
    book_levels=plans.book_levels,
    counts_in_base=True,
)
