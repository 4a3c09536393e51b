"""Bybit V5 linear: everything liqmap knows of this venue, put together as one adapter."""

from functools import partial
from typing import Final

from liqmap.domain.enums import Venue
from liqmap.exchanges.adapter import Adapter, BookRule
from liqmap.exchanges.bybit import plans
from liqmap.exchanges.bybit.envelope import ENVELOPE
from liqmap.exchanges.bybit.frames import BybitSession
from liqmap.exchanges.bybit.listing import listing, refused_name
from liqmap.exchanges.bybit.refusals import refusal, usage
from liqmap.exchanges.bybit.replies import BYBIT_SHAPES, bybit_reply
from liqmap.exchanges.bybit.tiers import tier_plans, tiers
from liqmap.exchanges.plans import request_of

ADAPTER: Final = Adapter(
    venue=Venue.BYBIT,
    budgets=plans.BUDGETS,
    session=BybitSession,
    parse_reply=bybit_reply,
    parse_listing=listing,
    link_plans=plans.links,
    poll_plans=plans.polls,
    ratio_plans=plans.ratios,
    subscribe_texts=partial(plans.texts, "subscribe"),
    unsubscribe_texts=partial(plans.texts, "unsubscribe"),
    classify_refusal=refusal,
    refused_name=refused_name,
    request_of=partial(request_of, plans.REQUESTS, BYBIT_SHAPES),
    limits=plans.LIMITS,
    usage=usage,
    envelope=ENVELOPE,
    book_rule=BookRule.BYBIT,
    book_plan=plans.book,
    book_levels=plans.book_levels,
    tier_plans=tier_plans,
    parse_tiers=tiers,
    counts_in_base=True,
)
