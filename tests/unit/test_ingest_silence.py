"""Silence: said of a feed whose market is awake, and of no other; and how topics of several sources come and go."""

import pytest

from liqmap.domain.enums import GapReason, Topic, Venue
from liqmap.engine.gaps import TOPIC_BITS, GapBook
from liqmap.ingest.feeds import Feeds, SourceState, VenueState
from liqmap.ingest.gaps import Feed
from liqmap.ingest.handoff import LinkState
from liqmap.ingest.witnesses import Witnesses

S = 10**9
SILENT_AFTER_S = 10.0
T0 = 1_700_000_000 * S
STREAMED = (Topic.MARK_PRICE, Topic.TRADE, Topic.DEPTH, Topic.OPEN_INTEREST)


class World:
    """Feeds on a clock of seconds: one link per venue and topic, one symbol or several."""

    def __init__(self, *symbols: str) -> None:
        self.feeds = Feeds(SILENT_AFTER_S)
        self.at_s = 0.0
        for venue in (Venue.BINANCE, Venue.BYBIT, Venue.OKX):
            self.feeds.venues[venue] = VenueState()
            for topic in STREAMED:
                carried = [(Feed(venue, topic, symbol), False) for symbol in symbols]
                self.link(venue, topic.name.lower(), carried)

    def link(self, venue: Venue, name: str, carried: list[tuple[Feed, bool]], every_s: float = 0.0) -> None:
        source, is_link = f"{venue.name.lower()}/{name}", every_s == 0.0
        state = SourceState(venue, name, is_link, LinkState.UP)
        self.feeds.follow(source, state, carried, self.now_ns, every_s)
        self.feeds.heard(source, self.now_ns)

    @property
    def now_ns(self) -> int:
        return T0 + int(self.at_s * S)

    def run(self, seconds: float, resting: set[Feed], step_s: float = 1.0) -> set[Feed]:
        """Everything speaks but what rests; returns what was found silent."""
        found: set[Feed] = set()
        end_s = self.at_s + seconds
        while self.at_s < end_s:
            self.at_s += step_s
            for feed, state in list(self.feeds.feeds.items()):
                if feed not in resting:
                    self.feeds.note(feed, state.source, self.now_ns)
            found.update(self.feeds.look(self.now_ns))
        return found


def test_a_book_may_rest_for_the_minute_between_its_beats_where_nothing_is_traded() -> None:
    """OKX tells of a book at rest once a minute; that others' books move says nothing of this one."""
    world = World("SHIB")
    book, trades = Feed(Venue.OKX, Topic.DEPTH, "SHIB"), Feed(Venue.OKX, Topic.TRADE, "SHIB")
    world.run(30.0, set())
    assert world.run(2.4 * SILENT_AFTER_S, {book, trades}) == {trades}
    assert world.run(0.3 * SILENT_AFTER_S, {book, trades}) == {book}


@pytest.mark.finding("X12")
@pytest.mark.parametrize("topic", STREAMED, ids=lambda topic: topic.name.lower())
@pytest.mark.parametrize("venue", [Venue.BINANCE, Venue.BYBIT, Venue.OKX], ids=lambda venue: venue.name.lower())
def test_any_topic_of_any_venue_is_named_when_it_alone_says_nothing(venue: Venue, topic: Topic) -> None:
    world = World("BTC", "ETH")
    world.run(30.0, set())
    silent = Feed(venue, topic, "BTC")
    assert world.run(100.0, {silent}) == {silent}
    assert world.feeds.gaps.reason(silent) is GapReason.SILENT
    assert world.run(5.0, set()) == set()
    assert not world.feeds.is_missing(silent)
    assert world.feeds.gap_ms(silent, world.now_ns) == pytest.approx(101_000, abs=1000)


@pytest.mark.finding("X12")
def test_a_venue_that_never_says_anything_is_named_in_every_topic() -> None:
    world = World("BTC")
    dead = {Feed(Venue.BINANCE, topic, "BTC") for topic in STREAMED}
    assert world.run(100.0, dead) == dead


def test_a_market_that_rests_everywhere_is_silent_nowhere() -> None:
    world = World("BTC", "QQQ")
    world.run(30.0, set())
    resting = {feed for feed in world.feeds.feeds if feed.symbol == "QQQ"}
    assert world.run(10_000.0, resting, step_s=20.0) == set()


def test_a_market_of_one_venue_that_rests_while_its_marks_go_on_is_not_called_silent() -> None:
    world = World("BTC")
    listed = [Feed(Venue.BINANCE, topic, "QQQ") for topic in STREAMED]
    world.link(Venue.BINANCE, "qqq", [(feed, False) for feed in listed])
    world.run(30.0, set())
    resting = {feed for feed in listed if feed.topic in (Topic.TRADE, Topic.DEPTH)}
    assert world.run(1000.0, resting) == set()


def test_a_poll_is_no_witness_for_a_stream() -> None:
    rests = Feed(Venue.BINANCE, Topic.MARK_PRICE, "QQQ")
    assert not Witnesses([(Feed(Venue.BINANCE, Topic.OPEN_INTEREST, "QQQ"), False)]).expect(rests)
    assert Witnesses([(Feed(Venue.BINANCE, Topic.DEPTH, "QQQ"), True)]).expect(rests)
    assert Witnesses([(Feed(Venue.OKX, Topic.MARK_PRICE, "QQQ"), False)]).expect(rests)
    assert not Witnesses([(Feed(Venue.OKX, Topic.MARK_PRICE, "BTC"), True)]).expect(rests)


@pytest.mark.parametrize("topic", [Topic.CLOCK, Topic.INSTRUMENTS])
def test_a_list_or_a_clock_that_is_not_answered_is_silent_but_no_gap_of_any_symbol(topic: Topic) -> None:
    world = World("BTC")
    world.link(Venue.OKX, "polled", [(Feed(Venue.OKX, topic, ""), False)], every_s=60.0)
    world.run(60.0, set())
    assert world.run(2000.0, {Feed(Venue.OKX, topic, "")}, step_s=5.0) == {Feed(Venue.OKX, topic, "")}
    assert world.feeds.gaps.reason(Feed(Venue.OKX, topic, "")) is None


def test_a_topic_of_three_polls_is_back_when_all_of_them_are() -> None:
    world, ratio = World("BTC"), Feed(Venue.OKX, Topic.RATIO, "BTC")
    names = [f"okx/ratio_{number}" for number in range(3)]
    for name in names:
        world.link(Venue.OKX, name.partition("/")[2], [(ratio, False)], every_s=300.0)
    feeds = world.feeds
    for number, name in enumerate(names, start=1):
        feeds.note(ratio, name, world.now_ns)
        assert feeds.is_missing(ratio) == (number < 3)
    feeds.lost(names[1], GapReason.REFUSED, world.now_ns)
    for name in (names[0], names[2]):
        feeds.note(ratio, name, world.now_ns)
    assert feeds.is_missing(ratio), "two of three are there"
    feeds.repeated(ratio, names[1], world.now_ns)
    assert not feeds.is_missing(ratio), "a bar that is known already is an answer, too"


def test_a_topic_is_wanted_as_long_as_one_of_its_sources_is() -> None:
    world, ratio = World("BTC"), Feed(Venue.OKX, Topic.RATIO, "BTC")
    for name in ("one", "two"):
        world.link(Venue.OKX, name, [(ratio, False)], every_s=300.0)
    world.feeds.note(ratio, "okx/two", world.now_ns)
    world.feeds.unfollow("okx/one", world.now_ns)
    assert ratio in world.feeds.feeds
    world.feeds.note(ratio, "okx/two", world.now_ns)
    assert not world.feeds.is_missing(ratio), "who is gone is not waited for"
    world.feeds.unfollow("okx/two", world.now_ns)
    assert ratio not in world.feeds.feeds


def test_a_bar_that_is_known_breaks_no_silence() -> None:
    world, ratio = World("BTC"), Feed(Venue.OKX, Topic.RATIO, "BTC")
    world.link(Venue.OKX, "ratio", [(ratio, False)], every_s=300.0)
    other = Feed(Venue.BYBIT, Topic.RATIO, "BTC")
    world.link(Venue.BYBIT, "ratio", [(other, False)], every_s=300.0)
    world.run(60.0, set())
    assert world.run(2000.0, {ratio}, step_s=5.0) == {ratio}
    world.feeds.repeated(ratio, "okx/ratio", world.now_ns)
    assert world.feeds.is_missing(ratio)
    world.feeds.note(ratio, "okx/ratio", world.now_ns)
    assert not world.feeds.is_missing(ratio)


@pytest.mark.parametrize("topic", [topic for topic in Topic if topic not in (Topic.CLOCK, Topic.INSTRUMENTS)])
@pytest.mark.parametrize("venue", [Venue.BINANCE, Venue.BYBIT, Venue.OKX], ids=lambda venue: venue.name.lower())
def test_every_topics_gap_becomes_a_bit_of_the_minutes_it_touches(venue: Venue, topic: Topic) -> None:
    world, feed = World("BTC"), Feed(venue, topic, "BTC")
    world.link(venue, "other", [(feed, False)])
    feeds, book, source = world.feeds, GapBook(), f"{venue.name.lower()}/other"
    for carrier in [name for name, one in feeds.sources.items() if feed in one.feeds]:
        feeds.note(feed, carrier, world.now_ns)
    feeds.gaps.news()
    world.at_s = 60.0
    feeds.lost(source, GapReason.DISCONNECTED, world.now_ns)
    [opened] = [gap.event(world.now_ns) for gap in feeds.gaps.news()]
    book.note(opened.venue, opened.topic, opened.venue_ms, opened.detail)
    minute_ms = 60_000
    start_ms = T0 // 10**6
    assert book.bits(start_ms + minute_ms, start_ms + 2 * minute_ms) == 1 << (venue * TOPIC_BITS + topic)
    world.at_s = 130.0
    feeds.note(feed, source, world.now_ns)
    [closed] = [gap.event(world.now_ns) for gap in feeds.gaps.news()]
    book.note(closed.venue, closed.topic, closed.venue_ms, closed.detail)
    assert book.bits(start_ms + 2 * minute_ms, start_ms + 3 * minute_ms) == 1 << (venue * TOPIC_BITS + topic)
    assert book.bits(start_ms + 3 * minute_ms, start_ms + 4 * minute_ms) == 0


def test_what_went_by_before_this_ingest_is_told_once_of_each_feed() -> None:
    world, feed = World(), Feed(Venue.OKX, Topic.RATIO, "BTC")
    kept_ns = world.now_ns - 60 * S
    world.feeds.kept_until["BTC"] = (kept_ns, GapReason.NOT_RECORDED)
    for _ in range(2):  # and again an hour later, when the venue was taken away and came back
        world.link(Venue.OKX, "ratio", [(feed, False)], every_s=300.0)
        world.feeds.note(feed, "okx/ratio", world.now_ns)
        world.at_s += 3600
        world.feeds.unfollow("okx/ratio", world.now_ns)
    closed = [gap for gap in world.feeds.gaps.news() if gap.reason is GapReason.NOT_RECORDED and gap.to_ms >= 0]
    assert [(gap.from_ms, gap.to_ms) for gap in closed] == [(kept_ns // 1_000_000, T0 // 1_000_000)]
