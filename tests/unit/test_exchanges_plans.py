"""Links and polls: the right route, separate links for facts and trades, limits kept, texts the venues understand."""

import json
from itertools import chain
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from liqmap.config import BinanceConfig, Config, ConfigError, parse
from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import Topic, Venue
from liqmap.domain.instrument import DuplicateInstrument, Instrument, InstrumentTable, configured_table
from liqmap.exchanges.adapter import LinkPlan, Stream
from liqmap.exchanges.binance import plans
from liqmap.exchanges.registry import ADAPTERS

WANTED = {
    symbol: {venue: getattr(table.instruments, venue.name.lower()) for venue in ADAPTERS}
    for symbol, table in Config().symbols.items()
}
TABLE, UNLISTED = configured_table(WANTED, shipped_instruments())
SECTIONS = {venue: getattr(Config().venues, venue.name.lower()) for venue in ADAPTERS}


def _links(venue: Venue, table: InstrumentTable = TABLE) -> dict[str, LinkPlan]:
    return {plan.name: plan for plan in ADAPTERS[venue].link_plans(SECTIONS[venue], table)}


def _many(venue: Venue, count: int) -> InstrumentTable:
    spelled = {Venue.OKX: "C{}-USDT-SWAP"}.get(venue, "C{}USDT")
    return InstrumentTable(Instrument(venue, spelled.format(i), 1.0, f"C{i}", i) for i in range(count))


def test_the_shipped_lists_know_every_shipped_symbol() -> None:
    assert UNLISTED == ()
    assert len(TABLE) == 9


@pytest.mark.parametrize("venue", sorted(ADAPTERS))
def test_trades_books_and_facts_have_links_of_their_own(venue: Venue) -> None:
    links = _links(venue)
    assert set(links) == {"facts", "trades", "depth"}
    assert {stream.topic for stream in links["depth"].streams} == {Topic.DEPTH}
    assert not any(stream.quiet for stream in links["depth"].streams)
    assert {stream.topic for stream in links["trades"].streams} == {Topic.TRADE}
    carried = {stream.topic for stream in links["facts"].streams}
    stream_of_interest = set() if venue is Venue.BINANCE else {Topic.OPEN_INTEREST}
    assert carried == {Topic.LIQUIDATION, Topic.MARK_PRICE, Topic.FUNDING} | stream_of_interest


@pytest.mark.parametrize("venue", sorted(ADAPTERS))
def test_liquidations_may_be_quiet_and_share_a_socket_with_something_that_is_not(venue: Venue) -> None:
    facts = _links(venue)["facts"].streams
    assert all(stream.quiet for stream in facts if stream.topic is Topic.LIQUIDATION)
    assert {stream.symbols[0] for stream in facts if stream.topic is Topic.MARK_PRICE and not stream.quiet} == set(
        WANTED
    )


@pytest.mark.parametrize("venue", sorted(ADAPTERS))
def test_what_is_sent_names_every_stream_once(venue: Venue) -> None:
    for plan in _links(venue).values():
        sent = list(chain.from_iterable(_names(venue, text) for text in plan.subscribe))
        assert sorted(sent) == sorted({stream.name for stream in plan.streams})


def _names(venue: Venue, text: str) -> list[str]:
    message = json.loads(text)
    if venue is Venue.BINANCE:
        assert message["method"] in ("SUBSCRIBE", "UNSUBSCRIBE")
        return list(message["params"])
    assert message["op"] in ("subscribe", "unsubscribe")
    if venue is Venue.BYBIT:
        return list(message["args"])
    return [f"{arg['channel']}:{arg.get('instId', arg.get('instType'))}" for arg in message["args"]]


def test_pings_are_what_each_venue_wants() -> None:
    assert {venue: _links(venue)["facts"].ping for venue in ADAPTERS} == {
        Venue.BINANCE: None,
        Venue.BYBIT: '{"op":"ping"}',
        Venue.OKX: "ping",
    }
    assert all(plan.ping_every_s <= 20 for venue in ADAPTERS for plan in _links(venue).values())


@pytest.mark.finding("X12")
@pytest.mark.parametrize("trades", ["aggTrade", "trade"])
def test_no_binance_link_uses_the_unrouted_path(trades: str) -> None:
    section = msgspec.structs.replace(SECTIONS[Venue.BINANCE], trades=trades)
    links = {plan.name: plan for plan in ADAPTERS[Venue.BINANCE].link_plans(section, TABLE)}
    assert links["facts"].url == "wss://fstream.binance.com/market/stream"
    route = "market" if trades == "aggTrade" else "public"
    assert links["trades"].url == f"wss://fstream.binance.com/{route}/stream"
    assert {stream.name.partition("@")[2] for stream in links["trades"].streams} == {trades}


@pytest.mark.finding("X12")
@pytest.mark.parametrize("key", ["market_ws", "public_ws"])
@pytest.mark.parametrize(
    "url", ["wss://fstream.binance.com", "wss://fstream.binance.com/ws", "wss://fstream.binance.com/stream"]
)
def test_an_unrouted_address_of_binance_is_refused_as_configuration(key: str, url: str) -> None:
    with pytest.raises(ConfigError, match=rf"venues\.binance\.{key}"):
        parse({"venues": {"binance": {key: url}}})


def test_binance_links_hold_at_most_200_streams_and_texts_200_names() -> None:
    links = _links(Venue.BINANCE, _many(Venue.BINANCE, 450))
    assert set(links) == {f"{kind}{part}" for kind in ("facts", "trades", "depth") for part in ("", "-2", "-3")}
    for plan in links.values():
        assert len({stream.name for stream in plan.streams}) <= 200
        assert all(len(_names(Venue.BINANCE, text)) <= 200 for text in plan.subscribe)
    texts = plans.texts("SUBSCRIBE", [Stream(f"s{i}", Topic.TRADE, ()) for i in range(450)])
    assert [len(_names(Venue.BINANCE, text)) for text in texts] == [200, 200, 50]
    assert len({json.loads(text)["id"] for text in texts}) == 3


def test_bybit_links_stay_below_21000_characters_of_topics() -> None:
    for plan in _links(Venue.BYBIT, _many(Venue.BYBIT, 700)).values():
        assert sum(len(name) for text in plan.subscribe for name in _names(Venue.BYBIT, text)) < 21_000


def test_okx_links_stay_below_480_operations_and_texts_below_64_kb() -> None:
    for plan in _links(Venue.OKX, _many(Venue.OKX, 300)).values():
        assert sum(len(_names(Venue.OKX, text)) for text in plan.subscribe) <= 400
        assert all(len(text) < 65_536 for text in plan.subscribe)


def test_one_bad_symbol_at_bybit_takes_no_other_with_it() -> None:
    for text in _links(Venue.BYBIT)["facts"].subscribe:
        assert len({name.rpartition(".")[2] for name in _names(Venue.BYBIT, text)}) == 1


@pytest.mark.parametrize("venue", sorted(ADAPTERS))
def test_symbols_that_come_and_go_are_told_on_the_open_connection(venue: Venue) -> None:
    streams = _links(venue)["trades"].streams[:2]
    adapter = ADAPTERS[venue]
    come = list(chain.from_iterable(_names(venue, text) for text in adapter.subscribe_texts(streams)))
    go = list(chain.from_iterable(_names(venue, text) for text in adapter.unsubscribe_texts(streams)))
    assert come == go == [stream.name for stream in streams]
    assert "nsub" in adapter.unsubscribe_texts(streams)[0].lower()
    assert adapter.subscribe_texts(()) == ()


def test_names_beyond_ascii_are_lowered_only_where_they_are_ascii_and_encoded_in_urls() -> None:
    table = InstrumentTable([Instrument(Venue.BINANCE, "币安İUSDT", 1.0, "X", 0)])
    (stream,) = _links(Venue.BINANCE, table)["trades"].streams
    assert stream.name == "币安İusdt@aggTrade"
    poll = ADAPTERS[Venue.BINANCE].poll_plans(BinanceConfig(), table)[0]
    assert poll.url.isascii()
    assert parse_qs(urlsplit(poll.url).query)["symbol"] == ["币安İUSDT"]


def test_open_interest_is_polled_where_no_stream_has_it_and_nowhere_else() -> None:
    asked = {venue: [plan.name for plan in ADAPTERS[venue].poll_plans(SECTIONS[venue], TABLE)] for venue in ADAPTERS}
    assert asked == {
        Venue.BINANCE: [
            *("open_interest.BTCUSDT", "open_interest.ETHUSDT", "open_interest.SOLUSDT"),
            *("instruments", "funding_info", "clock"),
        ],
        Venue.BYBIT: ["instruments", "clock"],
        Venue.OKX: ["instruments", "clock"],
    }


@pytest.mark.parametrize("venue", sorted(ADAPTERS))
def test_polls_fit_the_budgets_of_one_address(venue: Venue) -> None:
    adapter = ADAPTERS[venue]
    polls = [*adapter.poll_plans(SECTIONS[venue], TABLE), *adapter.ratio_plans(SECTIONS[venue], TABLE)]
    for budget in adapter.budgets:
        spent = sum(poll.weight * budget.per_s / poll.every_s for poll in polls if poll.budget == budget.name)
        assert spent < budget.limit / 4
    assert {poll.budget for poll in polls} <= {budget.name for budget in adapter.budgets}


@pytest.mark.parametrize("venue", sorted(ADAPTERS))
def test_the_url_of_a_poll_names_the_request_it_answers(venue: Venue) -> None:
    adapter = ADAPTERS[venue]
    for poll in (*adapter.poll_plans(SECTIONS[venue], TABLE), *adapter.ratio_plans(SECTIONS[venue], TABLE)):
        assert adapter.request_of(poll.url, b"") == poll.name


@pytest.mark.parametrize("venue", sorted(ADAPTERS))
def test_a_venue_without_configured_contracts_is_asked_nothing(venue: Venue) -> None:
    others = InstrumentTable(i for i in TABLE if i.venue != venue)
    unowned = InstrumentTable([Instrument(venue, "AUSDT", 1.0)])
    for table in (others, unowned):
        assert ADAPTERS[venue].link_plans(SECTIONS[venue], table) == ()
        assert ADAPTERS[venue].poll_plans(SECTIONS[venue], table) == ()


@pytest.mark.finding("L17")
def test_a_contract_or_a_symbol_registered_twice_is_refused() -> None:
    btc = Instrument(Venue.BYBIT, "BTCUSDT", 1.0, "BTC", 0)
    with pytest.raises(DuplicateInstrument, match="bybit BTCUSDT is listed twice"):
        InstrumentTable([btc, Instrument(Venue.BYBIT, "BTCUSDT", 1.0, "XBT", 1)])
    with pytest.raises(DuplicateInstrument, match="BTC has two instruments at bybit"):
        InstrumentTable([btc, Instrument(Venue.BYBIT, "BTCPERP", 1.0, "BTC", 1)])
    with pytest.raises(DuplicateInstrument, match="listed twice"):
        configured_table({"BTC": {Venue.BYBIT: "BTCUSDT"}, "XBT": {Venue.BYBIT: "BTCUSDT"}}, [btc])


@pytest.mark.finding("L10")
def test_a_configured_contract_that_no_list_knows_is_refused_and_named() -> None:
    wanted = {"BTC": {Venue.OKX: "BTC-USDT-SWAP"}, "NEW": {Venue.OKX: "NEW-USDT-SWAP", Venue.BYBIT: "NEWUSDT"}}
    table, refused = configured_table(wanted, shipped_instruments())
    assert [(u.venue, u.name, u.symbol) for u in refused] == [
        (Venue.OKX, "NEW-USDT-SWAP", "NEW"),
        (Venue.BYBIT, "NEWUSDT", "NEW"),
    ]
    assert [instrument.name for instrument in table] == ["BTC-USDT-SWAP"]


def test_a_list_that_arrives_later_changes_no_number() -> None:
    wanted = {"NEW": {Venue.OKX: "NEW-USDT-SWAP"}, "BTC": {Venue.OKX: "BTC-USDT-SWAP"}}
    before, _ = configured_table(wanted, shipped_instruments())
    after, refused = configured_table(wanted, [*shipped_instruments(), Instrument(Venue.OKX, "NEW-USDT-SWAP", 10.0)])
    assert refused == ()
    numbers = {instrument.name: instrument.number for instrument in after}
    assert all(numbers[instrument.name] == instrument.number for instrument in before)


def test_books_are_asked_for_as_configured_and_not_at_all_where_they_are_not_wanted() -> None:
    binance = msgspec.structs.replace(SECTIONS[Venue.BINANCE], depth_stream="depth@0ms", depth_snapshot_levels=500)
    (links,) = [p for p in ADAPTERS[Venue.BINANCE].link_plans(binance, TABLE) if p.name == "depth"]
    assert links.url == "wss://fstream.binance.com/public/stream", "books are carried by the public route only"
    assert links.streams[0].name == "btcusdt@depth@0ms"
    bybit = msgspec.structs.replace(SECTIONS[Venue.BYBIT], depth_levels=200)
    assert ADAPTERS[Venue.BYBIT].book_levels(bybit) == 200
    (links,) = [p for p in ADAPTERS[Venue.BYBIT].link_plans(bybit, TABLE) if p.name == "depth"]
    assert links.streams[0].name == "orderbook.200.BTCUSDT"
    for venue, adapter in ADAPTERS.items():
        section = msgspec.structs.replace(SECTIONS[venue], depth=False)
        assert {plan.name for plan in adapter.link_plans(section, TABLE)} == {"facts", "trades"}


def test_okx_gives_fewer_than_thirty_deep_books_to_one_connection() -> None:
    depth = [plan for name, plan in _links(Venue.OKX, _many(Venue.OKX, 70)).items() if name.startswith("depth")]
    assert [len(plan.streams) for plan in depth] == [25, 25, 20]


@pytest.mark.finding("X4")
def test_a_snapshot_is_asked_for_by_the_name_of_its_contract_where_the_stream_brings_none() -> None:
    for instrument in TABLE:
        plan = ADAPTERS[instrument.venue].book_plan(SECTIONS[instrument.venue], instrument)
        if instrument.venue is not Venue.BINANCE:
            assert plan is None
            continue
        assert plan is not None
        assert plan.name == f"depth.{instrument.name}"
        assert parse_qs(urlsplit(plan.url).query) == {"symbol": [instrument.name], "limit": ["1000"]}
        assert (plan.weight, plan.budget) == (20, "rest")
