"""Faults of what is asked for: refusals in the venues' own words, bad and late answers, readings that stand still.
What the API showed during and after. Nothing asked for in vain may ever become a number."""

from collections.abc import Iterator
from typing import Any

import pytest

from liqmap.domain.enums import GapReason, Kind, Topic, Venue
from tests.venue_servers import venue_servers
from tests.watched import VENUES, Watched, watching

OPEN_INTEREST = "/fapi/v1/openInterest"
WHOLE_VENUE = {
    (Venue.BINANCE, "429"): "Too many requests",
    (Venue.BINANCE, "418"): "banned until",
    (Venue.BINANCE, "451"): "restricted location",
    (Venue.BYBIT, "403_too_frequent"): "access too frequent",
    (Venue.BYBIT, "403_country"): "could not be satisfied",
    (Venue.OKX, "50011"): "Rate limit reached",
    (Venue.OKX, "50051"): "not available in your region",
}
BAD_ANSWERS = ("200_html", "200_empty", "200_truncated", "200_nothing")


@pytest.fixture(scope="module")
def shared() -> Iterator[Watched]:
    """One instance for all tests here; each leaves it calm. Lists of contracts are asked for often, as the one thing
    that all three venues are asked for."""
    polls = {"open_interest_poll_s": 0.3, "instruments_poll_s": 0.5}
    with (
        venue_servers() as venues,
        watching(venues, polls=polls, silent_after_s=8.0, probe_timeout_s=8.0, connect_timeout_s=1.0) as watched,
    ):
        yield watched


def readings(seen: Watched) -> Any:
    """Binance's open interest, as it went to the worker."""
    rows = seen.events("BTC", Kind.OPEN_INTEREST)
    return rows[rows["venue"] == Venue.BINANCE]


@pytest.mark.parametrize(("venue", "kind"), WHOLE_VENUE, ids=lambda value: getattr(value, "name", value))
def test_rest_refusals_that_concern_the_address(seen: Watched, venue: Venue, kind: str) -> None:
    """The venue is asked for nothing any more; its streams go on, and no other venue notices."""
    words = WHOLE_VENUE[venue, kind]
    trades = len(seen.prices(venue))
    seen.venues.fault(venue, {"fault": "rest", "kind": kind})
    seen.speaking_until(lambda: words in seen.feed(venue)["reason"], "the refusal in the venue's words")
    feed = seen.feed(venue)
    assert feed["state"] == "refused" and feed["backoff_s"] > 60
    assert any(words in line for line in seen.health()["problems"]) or feed["delivering"]
    if venue is Venue.BINANCE:
        seen.speaking_until(lambda: ("binance", "open_interest", "refused") in seen.gaps(), "its gap")
    assert all(seen.feed(other)["delivering"] for other in VENUES if other is not venue)
    seen.speaking_until(lambda: len(seen.prices(venue)) > trades + 3, "the streams go on")
    before = len(readings(seen))
    seen.venues.fault(venue, {"fault": "clear"})
    seen.speaking_until(lambda: True, "a moment")
    assert venue is not Venue.BINANCE or len(readings(seen)) == before, "nobody asks before the time has come"
    seen.passing.let_pass(4000.0)
    seen.speaking_until(lambda: seen.feed(venue)["state"] != "refused", "asking again")
    seen.passing.let_pass(61.0)
    seen.until_all_up()
    seen.speaking_until(lambda: seen.feed(venue)["reason"] == "", "nothing stands against the venue")


@pytest.mark.finding("M15")
@pytest.mark.parametrize("kind", ["503", "408"])
def test_rest_refusals_that_concern_one_request(seen: Watched, kind: str) -> None:
    """Overload: that reading is missing, the last one is shown with its age, and no zero is made up."""
    known = len(seen.outages(Venue.BINANCE, Topic.OPEN_INTEREST))
    level = seen.get("/oi")["per_venue"]["binance"]["base"]
    seen.venues.fault(Venue.BINANCE, {"fault": "rest", "path": OPEN_INTEREST, "kind": kind})
    seen.speaking_until(lambda: ("binance", "open_interest", "not_connected") in seen.gaps(), "the gap")
    assert {gap[:2] for gap in seen.gaps()} == {("binance", "open_interest")}
    assert seen.health()["status"] == "degraded"
    assert seen.get("/oi")["per_venue"]["binance"]["base"] == pytest.approx(level, rel=0.01)
    asked = len(readings(seen))
    assert all(readings(seen)["quantity"] > 0)
    seen.calm()
    assert len(readings(seen)) > asked
    (reason, from_ms, to_ms), *more = seen.outages(Venue.BINANCE, Topic.OPEN_INTEREST)[known:]
    assert (reason, more) == (GapReason.NOT_CONNECTED, []) and to_ms >= from_ms


@pytest.mark.finding("M13")
def test_rest_answers_that_say_nothing(seen: Watched) -> None:
    """A status of success and no data behind it: each costs itself, is counted and kept, and is never a number."""
    kept, level = seen.feeds.quarantined, seen.get("/oi")["per_venue"]["binance"]["base"]
    for kind in BAD_ANSWERS:
        asked, malformed = len(readings(seen)), seen.feed(Venue.BINANCE)["malformed"]
        seen.venues.fault(Venue.BINANCE, {"fault": "rest", "path": OPEN_INTEREST, "kind": kind})
        seen.speaking_until(
            lambda before=malformed: seen.feed(Venue.BINANCE)["malformed"] >= before + 2,  # type: ignore[misc]
            f"two answers like {kind} counted",
        )
        assert len(readings(seen)) <= asked + 1, "one may have been on its way"
        assert all(seen.feed(venue)["delivering"] for venue in (Venue.BYBIT, Venue.OKX))
    assert seen.get("/oi")["per_venue"]["binance"]["base"] == pytest.approx(level, rel=0.01)
    assert seen.feeds.quarantined > kept and all(readings(seen)["quantity"] > 0)
    asked = len(readings(seen))
    seen.calm()
    seen.speaking_until(lambda: len(readings(seen)) > asked, "good readings")


def test_a_bad_list_of_contracts_changes_no_size(seen: Watched) -> None:
    sizes = {entry.name: entry.contract_base for entry in seen.router.instruments}
    for venue in VENUES:
        for kind in ("200_truncated", "200_html", "200_nothing"):
            before = seen.venues.state(venue)["faults"]
            assert before == []
            seen.venues.fault(venue, {"fault": "rest", "kind": kind, "times": 3})
            seen.speak()
            seen.until(lambda: True, "a turn")
            seen.venues.fault(venue, {"fault": "clear"})
    seen.calm()
    assert {entry.name: entry.contract_base for entry in seen.router.instruments} == sizes


def test_rest_slow(seen: Watched) -> None:
    """An answer later than the patience is no answer: the reading is missing, and the streams do not wait for it."""
    trades = len(seen.prices(Venue.BINANCE))
    seen.venues.fault(Venue.BINANCE, {"fault": "rest_slow", "path": OPEN_INTEREST, "latency_s": 2.5, "times": 2})
    seen.speaking_until(lambda: "timed out" in seen.feed(Venue.BINANCE)["reason"], "the reason")
    assert "open_interest" in {gap[1] for gap in seen.gaps()}
    assert len(seen.prices(Venue.BINANCE)) > trades + 5
    seen.calm()
    seen.speaking_until(lambda: seen.feed(Venue.BINANCE)["reason"] == "", "the reading is back")


@pytest.mark.parametrize("state", ["stale", "failing"])
def test_open_interest(seen: Watched, state: str) -> None:
    """A reading that stands still is told with its own age; one that fails is missing."""
    seen.venues.fault(Venue.BINANCE, {"fault": "open_interest", "state": state})
    if state == "failing":
        seen.speaking_until(lambda: ("binance", "open_interest") in {gap[:2] for gap in seen.gaps()}, "the gap")
    else:
        stands = readings(seen)["venue_ms"][-1]
        count = len(readings(seen))
        seen.speaking_until(lambda: len(readings(seen)) > count + 2, "readings that say the same")
        assert set(readings(seen)["venue_ms"][count + 1 :]) == {readings(seen)["venue_ms"][-1]}
        assert readings(seen)["venue_ms"][-1] >= stands
    seen.calm()
    newest = readings(seen)["venue_ms"][-1]
    seen.speaking_until(lambda: readings(seen)["venue_ms"][-1] > newest, "a fresh reading")
