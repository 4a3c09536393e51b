"""A small order book around the last price, for endpoints and channels that must answer with one.

It follows from the quote alone and is not the market's own book: the simulated market has none.
"""

from liqmap.sim.market_feed import Quote


def book_levels(quote: Quote, levels: int) -> tuple[list[list[str]], list[list[str]]]:
    """(bids, asks): `levels` levels a side, best first, one tick apart, thicker away from the middle."""
    listing = quote.listing
    best_bid = round(quote.last / listing.tick) * listing.tick
    bids, asks = [], []
    for depth in range(levels):
        lots = 3 + (depth * 7919 + int(best_bid)) % 40 + depth
        bids.append([listing.price(best_bid - depth * listing.tick), listing.of_lots(lots)])
        asks.append([listing.price(best_bid + (depth + 1) * listing.tick), listing.of_lots(lots + 2)])
    return bids, asks
