"""Lists of contracts: page by page, again and again; what is new is taken in, what is gone is named."""

import pytest

from liqmap.domain.enums import Topic, Venue
from liqmap.domain.instrument import Instrument
from liqmap.exchanges.adapter import Listing, PollPlan
from liqmap.exchanges.plans import next_page
from liqmap.ingest.contracts import ContractLists

SHIPPED = (Instrument(Venue.OKX, "BTC-USDT-SWAP", 0.01), Instrument(Venue.BYBIT, "BTCUSDT", 1.0))


def page(*names: str, cursor: str = "", size: float = 1.0, **refused: str) -> Listing:
    return Listing(tuple(Instrument(Venue.BYBIT, name, size) for name in names), refused, cursor)


def test_only_after_the_last_page_can_be_said_what_is_not_listed() -> None:
    lists, ours = ContractLists(SHIPPED), {"BTCUSDT", "ZUSDT", "GONEUSDT"}
    first = lists.take(Venue.BYBIT, page("AUSDT", "BTCUSDT", cursor="2"), ours, first=True)
    assert (first.absent, first.cursor) == (None, "2")
    last = lists.take(Venue.BYBIT, page("ZUSDT"), ours, first=False)
    assert (last.absent, last.cursor) == (("GONEUSDT",), "")
    assert last.changed == {"ZUSDT": "refused->1"}


def test_a_list_begins_anew_with_its_first_page() -> None:
    lists, ours = ContractLists(()), {"AUSDT"}
    lists.take(Venue.BYBIT, page("AUSDT", cursor="2"), ours, first=True)
    assert lists.take(Venue.BYBIT, page("BUSDT"), ours, first=True).absent == ("AUSDT",)


def test_what_the_venue_says_of_a_contract_changes_what_is_known() -> None:
    lists, ours = ContractLists(SHIPPED), {"BTCUSDT"}
    assert lists.take(Venue.BYBIT, page("BTCUSDT"), ours, first=True).changed == {}
    assert lists.take(Venue.BYBIT, page("BTCUSDT", size=10.0), ours, first=True).changed == {"BTCUSDT": "1->10"}
    taken = lists.take(Venue.BYBIT, page(BTCUSDT="not trading"), ours, first=True)
    assert taken.changed == {"BTCUSDT": "10->refused"} and taken.absent == ()
    assert lists.refusal(Venue.BYBIT, "BTCUSDT") == "not trading"
    assert [contract.name for contract in lists] == ["BTC-USDT-SWAP"]
    lists.take(Venue.BYBIT, page("BTCUSDT"), ours, first=True)
    assert lists.refusal(Venue.BYBIT, "BTCUSDT") is None


def test_a_venue_that_always_names_one_more_page_is_not_followed_for_ever() -> None:
    lists, pages, cursor = ContractLists(()), 0, "0"
    while cursor:
        cursor = lists.take(Venue.BYBIT, page(f"A{pages}USDT", cursor="again"), set(), first=pages == 0).cursor
        pages += 1
        assert pages < 1000
    assert pages == 64


@pytest.mark.parametrize("cursor", ["page%3D2", "a&symbol=X", "öäü"])
def test_a_cursor_goes_back_to_the_venue_as_it_came(cursor: str) -> None:
    plan = PollPlan(Venue.BYBIT, "instruments", "http://x/y?category=linear", Topic.INSTRUMENTS, (), 300.0)
    asked = next_page(plan, cursor)
    assert asked.name == plan.name and asked.url.count("&") == 1
