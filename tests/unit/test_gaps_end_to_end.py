"""A gap of any feed of any venue: from ingest's book keeping through the events of the ring to the bit in minute
frames, and to the gaps that readers are told of while it is open."""

from pathlib import Path
from typing import Any

import pytest

from liqmap.client import feeds as readers_feeds
from liqmap.domain.enums import GapReason, Topic, Venue
from liqmap.engine.engine import Engine
from liqmap.engine.gaps import TOPIC_BITS, GapBook
from liqmap.ingest.feeds import SourceState
from liqmap.ingest.gaps import Feed
from tests.unit.engine_tape import BTC
from tests.unit.router_desk import Desk

FEEDS = [Feed(venue, topic, "BTC") for venue in (Venue.BINANCE, Venue.BYBIT, Venue.OKX) for topic in Topic]
SOURCE = "tried/source"


class Trial:
    """A desk whose one source carries one feed, and the engine of its symbol behind the ring."""

    def __init__(self, directory: Path, feed: Feed) -> None:
        self.desk, self.feed, self.engine = Desk(directory), feed, Engine(BTC)
        feeds = self.desk.feeds
        for source in list(feeds.sources):
            feeds.unfollow(source, self.now_ns)
        feeds.follow(SOURCE, SourceState(feed.venue, "source", True), [(feed, False)], self.now_ns)
        self.frames: list[Any] = []
        self._taken = 0

    @property
    def now_ns(self) -> int:
        return self.desk.router.time.now_ns

    def speaks(self) -> None:
        self.desk.feeds.note(self.feed, SOURCE, self.now_ns)

    def is_lost(self) -> None:
        self.desk.feeds.lost(SOURCE, GapReason.DISCONNECTED, self.now_ns)

    def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.desk.clock.advance(1.0)
            self.desk.turn()
        events = self.desk.events()
        self.frames += self.engine.apply(events[self._taken :])
        self._taken = len(events)

    def told(self) -> list[tuple[str, str, str | None, str]]:
        gaps = readers_feeds.decode(self.desk.board(), silent=False).gaps_of("BTC")
        return [(gap.venue, gap.topic, gap.symbol, gap.reason) for gap in gaps]

    def missing_minutes(self) -> list[bool]:
        bit = self.feed.venue * TOPIC_BITS + self.feed.topic
        assert all(frame.gap_topics & ~(1 << bit) == 0 for frame in self.frames[1:]), "of nobody else"
        return [bool(frame.gap_topics >> bit & 1) for frame in self.frames]


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: f"{feed.venue.name}-{feed.topic.name}".lower())
def test_a_gap_is_in_the_frames_of_its_minutes_and_told_while_it_is_open(tmp_path: Path, feed: Feed) -> None:
    trial = Trial(tmp_path, feed)
    name = (feed.venue.name.lower(), feed.topic.name.lower(), "BTC")
    assert trial.told() == [(*name, "not_connected")]
    trial.passes(1)
    trial.speaks()
    trial.passes(125)
    assert trial.told() == []
    before = len(trial.frames)
    assert trial.missing_minutes()[1:] == [False] * (before - 1)
    trial.speaks()
    trial.is_lost()
    trial.passes(125)
    assert trial.told() == [(*name, "disconnected")]
    during = trial.missing_minutes()[before:]
    assert len(during) >= 2 and all(during), "an open gap is in every minute"
    trial.speaks()
    trial.passes(190)
    assert trial.told() == []
    after = trial.missing_minutes()[before + len(during) :]
    assert after[-2:] == [False, False], "a closed one ends with its minute"
    assert after[:1] == [True], "the minute in which it closed was not whole"


def test_a_feed_that_is_no_longer_wanted_is_no_longer_missing(tmp_path: Path) -> None:
    trial = Trial(tmp_path, Feed(Venue.OKX, Topic.TRADE, "BTC"))
    trial.passes(70)
    trial.desk.feeds.unfollow(SOURCE, trial.now_ns)
    trial.passes(190)
    assert trial.told() == []
    assert trial.missing_minutes()[0] and trial.missing_minutes()[-2:] == [False, False]


@pytest.mark.parametrize("topic", range(TOPIC_BITS))
def test_every_topic_that_a_frame_has_a_bit_for_is_kept(topic: int) -> None:
    book = GapBook()
    for venue in Venue:
        book.note(venue, topic, 1000, -1)
    assert book.bits(0, 60_000) == sum(1 << (venue * TOPIC_BITS + topic) for venue in Venue)
    for venue in Venue:
        book.note(venue, topic, 1000, 70_000)
    assert book.bits(60_000, 120_000) == sum(1 << (venue * TOPIC_BITS + topic) for venue in Venue)
    assert book.bits(120_000, 180_000) == 0


def test_feeds_beyond_the_bits_of_a_frame_touch_no_other_bit() -> None:
    book = GapBook()
    book.note(Venue.BINANCE, TOPIC_BITS, 0, -1)
    book.note(len(Venue), Topic.TRADE, 0, -1)
    assert book.bits(0, 60_000) == 0


def test_every_topic_has_a_bit() -> None:
    assert max(Topic) < TOPIC_BITS
