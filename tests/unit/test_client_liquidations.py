"""Recent liquidations by cursor, against a model that is obviously right."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from liqmap.client import Client
from liqmap.domain.enums import PositionSide, Venue
from tests.api.stage import Stage, config_of, instance_name, stage

T0_MS = 1_790_000_000_000
COUNT = 3000


def rows() -> list[dict[str, Any]]:
    """Liquidations of three venues, both sides, many sizes, several in one millisecond."""
    return [
        {
            "id_": 10 + 3 * number,
            "ts_ms": T0_MS + 40 * (number // 3),
            "venue": Venue(1 + number % 3),
            "side": PositionSide(1 + (number // 2) % 2),
            "notional_usd": float(10 ** (number % 6)),
        }
        for number in range(COUNT)
    ]


@pytest.fixture(scope="module")
def filled() -> Iterator[tuple[Stage, Client]]:
    """A symbol with liquidations, one with none, one whose ring has been round."""
    with stage(config_of(instance_name(), history={"recent_liquidations": 1024})) as set_:
        set_.write_all()
        for row in rows():
            set_.write_liquidation("BTC", **row)
        yield set_, set_.client()


CURSOR: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({}),
    st.fixed_dictionaries({"after": st.integers(0, 10 + 3 * COUNT + 5)}),
    st.fixed_dictionaries({"since_ms": st.integers(T0_MS - 5, T0_MS + 40 * COUNT)}),
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "limit": st.integers(1, 5000),
        "min_notional_usd": st.sampled_from([0.0, 1.0, 100.0, 99_999.0, 1e6]),
        "side": st.sampled_from(["long", "short"]),
        "venue": st.sampled_from(["binance", "bybit", "okx"]),
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cursor=CURSOR, filters=FILTERS)
def test_cursor_filter_limit(filled: tuple[Stage, Client], cursor: dict[str, Any], filters: dict[str, Any]) -> None:
    found = filled[1].liquidations("BTC", **cursor, **filters)
    there = rows()[-1024:]
    limit = filters.get("limit", 500)
    expected = [
        row["id_"]
        for row in there
        if row["id_"] > cursor.get("after", -1)
        and row["ts_ms"] > cursor.get("since_ms", -1)
        and row["notional_usd"] >= filters.get("min_notional_usd", 0.0)
        and row["side"].name.lower() == filters.get("side", row["side"].name.lower())
        and row["venue"].name.lower() == filters.get("venue", row["venue"].name.lower())
    ]
    assert [event.id for event in found.events] == (expected[:limit] if cursor else expected[-limit:])
    assert (found.newest_ms, found.newest_id) == (there[-1]["ts_ms"], there[-1]["id_"])
    assert found.oldest_available_ms == there[0]["ts_ms"]


def test_paging_by_id_sees_every_event_once(filled: tuple[Stage, Client]) -> None:
    seen: list[int] = []
    while events := filled[1].liquidations("BTC", after=seen[-1] if seen else 0, limit=100).events:
        seen += [event.id for event in events]
    assert seen == [row["id_"] for row in rows()[-1024:]]


def test_none_yet_is_an_empty_answer(filled: tuple[Stage, Client]) -> None:
    found = filled[1].liquidations("ETH")
    assert (found.events, found.newest_ms, found.newest_id, found.oldest_available_ms) == ((), None, None, None)


def test_fields_and_what_a_venue_does_not_say(filled: tuple[Stage, Client]) -> None:
    set_, client = filled
    set_.write_liquidation(
        "SOL", 7, T0_MS, venue=Venue.OKX, side=2, printed_price=151.0, trigger_price=float("nan"), qty_base=2.0
    )
    event = client.liquidations("SOL").events[0]
    assert (event.venue, event.side, event.printed_price, event.qty_base) == ("okx", "short", 151.0, 2.0)
    assert event.trigger_price is None and event.fill_price is None
