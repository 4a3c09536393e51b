"""OKX V5 swaps: everything liqmap knows of this venue, put together as one adapter."""

from functools import partial
from typing import Final

from liqmap.domain.enums import Venue
from liqmap.exchanges.adapter import Adapter, BookRule
from liqmap.exchanges.okx import plans
from liqmap.exchanges.okx.envelope import ENVELOPE
from liqmap.exchanges.okx.frames import OkxSession
from liqmap.exchanges.okx.listing import listing, refused_name
from liqmap.exchanges.okx.refusals import refusal, usage
from liqmap.exchanges.okx.replies import OKX_SHAPES, okx_reply
from liqmap.exchanges.okx.tiers import tier_plans, tiers
from liqmap.exchanges.plans import request_of

ADAPTER: Final = Adapter(
    venue=Venue.OKX,
    budgets=plans.BUDGETS,
    session=OkxSession,
    parse_reply=okx_reply,
    parse_listing=listing,
    link_plans=plans.links,
    poll_plans=plans.polls,
    ratio_plans=plans.ratios,
    subscribe_texts=partial(plans.texts, "subscribe"),
    unsubscribe_texts=partial(plans.texts, "unsubscribe"),
    classify_refusal=refusal,
    refused_name=refused_name,
    request_of=partial(request_of, plans.REQUESTS, OKX_SHAPES),
    limits=plans.LIMITS,
    usage=usage,
    envelope=ENVELOPE,
    book_rule=BookRule.OKX,
    book_plan=plans.book,
    book_levels=plans.book_levels,
    tier_plans=tier_plans,
    parse_tiers=tiers,
    resubscribes_once_acknowledged=True,
    closing_notices=frozenset({"64008"}),
    replays_liquidations=True,
)
