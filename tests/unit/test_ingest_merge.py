"""What comes again: bars that are asked for once more, rows that OKX plays again while symbols come and go."""

from pathlib import Path

import msgspec

from liqmap.clock import ManualClock
from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import Kind, Ratio, Topic, Venue
from liqmap.domain.event import Event
from liqmap.domain.instrument import InstrumentTable, configured_table
from liqmap.exchanges.adapter import PollPlan
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.feeds import SourceState
from liqmap.ingest.gaps import Feed
from liqmap.ingest.handoff import Polled
from liqmap.ingest.merge import Bars, Replays
from liqmap.ingest.replies import Asker
from tests.unit.router_desk import NAMES, Desk

NOW_NS = ManualClock().now_ns()
NOW_MS = NOW_NS // 1_000_000


def bar(at_ms: int, share: float, which: Ratio = Ratio.ACCOUNTS, instrument: int = 0) -> Event:
    return Event(
        NOW_NS, venue_ms=at_ms, quantity=share, kind=Kind.RATIO, venue=1, side=which, topic=7, instrument=instrument
    )


def test_a_bar_is_news_when_it_is_newer_or_was_corrected() -> None:
    bars = Bars()
    assert bars.is_news(bar(300, 0.6))
    assert not bars.is_news(bar(300, 0.6))
    assert bars.is_news(bar(300, 0.61)), "corrected"
    assert bars.is_news(bar(600, 0.61))
    assert not bars.is_news(bar(300, 0.7)), "older than what is known"
    assert bars.is_news(bar(300, 0.6, Ratio.TOP_ACCOUNTS)), "another ratio"
    assert bars.is_news(bar(300, 0.6, instrument=1)), "another contract"


def table(*symbols: str) -> InstrumentTable:
    return configured_table({symbol: NAMES[symbol] for symbol in symbols}, shipped_instruments())[0]


def liquidation(instruments: InstrumentTable, symbol: str, qty: float = 1.0) -> Event:
    contract = next(one for one in instruments if one.symbol == symbol and one.venue is Venue.OKX)
    return Event(
        NOW_NS,
        venue_ms=NOW_MS,
        price=100.0,
        quantity=qty,
        kind=Kind.LIQUIDATION,
        venue=Venue.OKX,
        side=1,
        topic=Topic.LIQUIDATION,
        instrument=contract.number,
    )


def test_what_was_told_of_a_symbol_stays_told_when_others_go_and_come_back() -> None:
    replays, both, alone = Replays(), table("BTC", "ETH"), table("ETH")
    replays.use(both)
    assert replays.is_news(liquidation(both, "BTC")) and replays.is_news(liquidation(both, "ETH"))
    replays.use(alone)
    assert liquidation(alone, "ETH").instrument != liquidation(both, "ETH").instrument, "numbers are given anew"
    assert not replays.is_news(liquidation(alone, "ETH"))
    assert replays.is_news(liquidation(alone, "ETH", qty=2.0))
    replays.use(both)
    assert not replays.is_news(liquidation(both, "BTC")), "it was taken away and added again"
    assert not replays.is_news(liquidation(both, "ETH", qty=2.0))


# Through the router


def follow(desk: Desk, name: str, topic: Topic, symbols: tuple[str, ...], every_s: float) -> str:
    plan = PollPlan(Venue.BINANCE, name, "http://x", topic, symbols, every_s)
    source = f"binance/{name}"
    desk.router.replies.askers[source] = Asker(plan, ADAPTERS[Venue.BINANCE])
    carried = [(Feed(Venue.BINANCE, topic, symbol), False) for symbol in symbols]
    desk.feeds.follow(source, SourceState(Venue.BINANCE, name, False), carried, desk.router.time.now_ns, every_s)
    return source


def test_ratios_that_are_asked_for_again_and_again_are_told_once_a_bar(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    source = follow(desk, "ratio_accounts.BTCUSDT", Topic.RATIO, ("BTC",), 300.0)
    feed = Feed(Venue.BINANCE, Topic.RATIO, "BTC")
    assert desk.feeds.is_missing(feed)

    def reply(*bars: tuple[int, str]) -> None:
        rows = [
            {"symbol": "BTCUSDT", "longShortRatio": "1", "longAccount": share, "shortAccount": "0", "timestamp": at_ms}
            for at_ms, share in bars
        ]
        desk.handoff.announce(Polled(source, desk.clock.now_ns(), msgspec.json.encode(rows)))
        desk.turn()

    first, second, third = (NOW_MS - NOW_MS % 300_000 + number * 300_000 for number in range(3))
    for _ in range(3):
        reply((first, "0.60"), (second, "0.61"))
    reply((second, "0.61"), (third, "0.62"))
    told = desk.events(Kind.RATIO)
    assert list(told["venue_ms"]) == [first, second, third]
    assert list(told["quantity"]) == [0.60, 0.61, 0.62]
    assert not desk.feeds.is_missing(feed)
    assert desk.feeds.feeds[feed].events == 3


def test_the_list_of_funding_intervals_tells_every_contract_and_keeps_no_feed_alive(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    source = follow(desk, "funding_info", Topic.FUNDING, (), 3600.0)
    feed = Feed(Venue.BINANCE, Topic.FUNDING, "ETH")
    desk.feeds.follow("binance/x", SourceState(Venue.BINANCE, "x", True), [(feed, True)], desk.router.time.now_ns)
    body = [{"symbol": "ETHUSDT", "fundingIntervalHours": 4, "adjustedFundingRateCap": "0.02", "disclaimer": False}]
    desk.handoff.announce(Polled(source, desk.clock.now_ns(), msgspec.json.encode(body)))
    desk.turn()
    assert [desk.events(Kind.FUNDING, symbol=symbol)["extra"][0] for symbol in ("BTC", "ETH")] == [8.0, 4.0]
    assert desk.events(Kind.FUNDING)["quantity"][0] != desk.events(Kind.FUNDING)["quantity"][0], "no rate is told"
    assert desk.feeds.is_missing(feed), "the link that carries the rates has not spoken"


def test_what_is_played_again_after_an_outage_is_history_before_the_first_mark_comes() -> None:
    instruments = table("BTC")
    replays, ahead_ns, minute_ns = Replays(), 3600 * 10**9, 60 * 10**9
    replays.use(instruments)
    mark = liquidation(instruments, "BTC")._replace(kind=int(Kind.MARK_PRICE), receive_ns=NOW_NS + ahead_ns)
    replays.clock(mark)  # our clock is an hour ahead; then nothing came for half an hour
    back = liquidation(instruments, "BTC")._replace(receive_ns=NOW_NS + ahead_ns + 30 * minute_ns)
    assert replays.is_news(back._replace(venue_ms=NOW_MS + 25 * 60_000))
    assert not replays.is_news(back._replace(venue_ms=NOW_MS + 15 * 60_000)), "a quarter of an hour old"
