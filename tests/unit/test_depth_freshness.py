"""A book is only shown as what it is: not when its venue tells nothing of it any more, and never younger than it is."""

from dataclasses import replace

from liqmap.config.shipped import shipped_instruments
from liqmap.domain.enums import BookState, GapReason, Topic, Venue
from liqmap.domain.instrument import configured_table
from liqmap.ingest.depth_board import DepthBoard
from liqmap.ingest.gaps import Feed
from liqmap.ingest.handoff import LinkState
from liqmap.ingest.shelf import WantedBook
from tests.unit.test_depth_desk import NAMES, SECOND, Stage, book


def test_a_book_whose_topic_fell_silent_is_not_shown_until_it_speaks_again() -> None:
    stage = Stage(configured_table({"BTC": NAMES["BTC"]}, shipped_instruments())[0])
    stage.whole(Venue.OKX)
    stage.whole(Venue.BYBIT)
    stage.feeds.sources["okx/depth"].state = LinkState.UP
    for sequence in range(101, 180):
        stage.passes(1.0)
        stage.take(book(Venue.BYBIT, sequence))
        stage.feeds.look(stage.now_ns)
    assert stage.feeds.gaps.reason(Feed(Venue.OKX, Topic.DEPTH, "BTC")) is GapReason.SILENT
    stage.passes(0.3)
    assert stage.row(Venue.OKX)["state"] == BookState.ABSENT, "what it says of now is not known"
    assert stage.row(Venue.BYBIT)["state"] == BookState.SYNCED
    stage.take(book(Venue.OKX, 101, 100))
    stage.passes(0.3)
    assert stage.row(Venue.OKX)["state"] == BookState.SYNCED, "nothing was missing in its sequence"
    assert stage.feeds.gaps.reason(Feed(Venue.OKX, Topic.DEPTH, "BTC")) is None


def test_the_age_of_a_book_is_that_of_the_connection_whose_book_is_shown() -> None:
    stage = Stage()
    stage.whole(Venue.BINANCE)
    stage.passes(0.3)
    told_ns, sequence = stage.row(Venue.BINANCE)["as_of_ns"], stage.row(Venue.BINANCE)["sequence"]
    stage.passes(2.0)
    stage.take(book(Venue.BINANCE, 205, 200), connection=2)  # of a rotation, not whole yet
    stage.passes(0.3)
    assert (stage.row(Venue.BINANCE)["as_of_ns"], stage.row(Venue.BINANCE)["sequence"]) == (told_ns, sequence)
    stage.answer(205)
    stage.passes(0.3)
    assert stage.row(Venue.BINANCE)["as_of_ns"] > told_ns + SECOND
    assert stage.row(Venue.BINANCE)["sequence"] == 205


def wanted_by(stage: Stage, *symbols: str) -> list[WantedBook]:
    """What the switchboard wants when only these symbols are left: contracts are numbered anew."""
    table = configured_table({symbol: NAMES[symbol] for symbol in symbols}, shipped_instruments())[0]
    return [stage.wanted(contract) for contract in table]


def use(stage: Stage, wanted: list[WantedBook]) -> None:
    boards = {symbol: DepthBoard(sink, 20.0, stage.config.depth) for symbol, sink in stage.boards.items()}
    stage.desk.use((stage.config.depth, stage.config.ingest), wanted, boards, stage.asked.append, lambda: 0.0)


def test_a_book_outlives_the_going_of_another_symbol() -> None:
    stage = Stage()
    stage.take(book(Venue.OKX, 100, snapshot=True, name="ETH-USDT-SWAP"))
    stage.passes(0.3)
    assert stage.row(Venue.OKX, "ETH")["state"] == BookState.SYNCED
    use(stage, wanted_by(stage, "ETH"))
    stage.passes(0.3)
    assert stage.row(Venue.OKX, "ETH")["state"] == BookState.SYNCED
    assert stage.said == []
    table = configured_table({"ETH": NAMES["ETH"]}, shipped_instruments())[0]
    stage.flow.use(table, stage.lanes)
    higher = ((59_992.0, 1.0),)
    stage.take(book(Venue.OKX, 101, 100, bids=higher, name="ETH-USDT-SWAP"))
    stage.passes(0.3)
    number = next(contract.number for contract in table if contract.venue is Venue.OKX)
    assert stage.mids("ETH")["instrument"][-1] == number, "its middle bears the new number"


def test_a_book_that_begins_anew_because_its_contract_changed_size_is_missing_meanwhile() -> None:
    stage = Stage(configured_table({"BTC": NAMES["BTC"]}, shipped_instruments())[0])
    stage.whole(Venue.OKX)
    feed = Feed(Venue.OKX, Topic.DEPTH, "BTC")
    assert not stage.feeds.is_missing(feed)
    changed = [
        replace(wanted, instrument=replace(wanted.instrument, contract_base=0.1)) for wanted in wanted_by(stage, "BTC")
    ]
    use(stage, changed)
    stage.passes(0.3)
    assert stage.row(Venue.OKX)["state"] == BookState.ABSENT
    assert stage.feeds.is_missing(feed)
    stage.take(book(Venue.OKX, 200, snapshot=True))
    assert not stage.feeds.is_missing(feed)
