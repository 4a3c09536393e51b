"""What a venue allows is never passed, whatever anybody wishes; and bans outlive a restart. On a manual clock."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liqmap import config as configuration
from liqmap.clock import ManualClock
from liqmap.domain.enums import Venue
from liqmap.exchanges.adapter import Budget, Refusal, RefusalKind
from liqmap.exchanges.registry import ADAPTERS
from liqmap.ingest.account_book import AccountBook
from liqmap.ingest.accounts import LONGEST_S, Hold, VenueAccount
from liqmap.ingest.pace import Pace, operations_of

S = 10**9
CONFIG = configuration.parse({})

BUDGETS = [(venue, budget) for venue, adapter in ADAPTERS.items() for budget in adapter.budgets]
WISHES = st.lists(st.tuples(st.integers(0, 3 * S), st.integers(1, 20)), min_size=1, max_size=150)
"""Pauses before a wish, and its weight."""


def most_in_window(spent: list[tuple[int, int]], per_s: float) -> int:
    return max(
        sum(weight for at_ns, weight in spent if first_ns <= at_ns < first_ns + per_s * S) for first_ns, _ in spent
    )


def granted(ask: Callable[[int, int], float], wishes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """When each wish came true, if everybody waits as long as it is told."""
    now_ns, spent = S, []
    for pause_ns, weight in wishes:
        now_ns += pause_ns
        for _ in range(1000):
            wait_s = ask(weight, now_ns)
            if wait_s <= 0:
                break
            now_ns += int(wait_s * 1e9) + 1
        else:
            pytest.fail("a wish never comes true")
        spent.append((now_ns, weight))
    return spent


@pytest.mark.parametrize(("venue", "budget"), BUDGETS, ids=[f"{v.name.lower()}-{b.name}" for v, b in BUDGETS])
@given(wishes=WISHES)
def test_no_burst_of_wishes_passes_half_of_what_a_venue_allows(
    venue: Venue, budget: Budget, wishes: list[tuple[int, int]]
) -> None:
    wishes = [(pause_ns // 10, min(weight, budget.limit // 2)) for pause_ns, weight in wishes]
    account = VenueAccount(ADAPTERS[venue])
    spent = granted(lambda weight, now_ns: account.ask(budget.name, weight, now_ns), wishes)
    assert most_in_window(spent, budget.per_s) <= budget.limit / 2


@given(wishes=WISHES, others=st.integers(0, 2400))
def test_with_other_programs_behind_the_address_the_venues_limit_still_holds(
    wishes: list[tuple[int, int]], others: int
) -> None:
    account = VenueAccount(ADAPTERS[Venue.BINANCE])
    counted: dict[int, int] = {}

    def ask(weight: int, now_ns: int) -> float:
        wait_s = account.ask("rest", weight, now_ns)
        if wait_s <= 0:
            minute = now_ns // (60 * S)  # the venue counts by its own minutes; the others spend at their beginning
            counted[minute] = counted.get(minute, others) + weight
            account.heard({"x-mbx-used-weight-1m": str(counted[minute])}, now_ns, now_ns)
        return wait_s

    granted(ask, wishes)
    asked = sum(counted.values()) - others * len(counted)
    if others > 0.8 * 2400:
        assert asked <= 20 * len(counted), "one request a minute to learn whether there is room again"
    else:
        assert max(counted.values()) <= max(0.8 * 2400, others + 20)


@pytest.mark.parametrize("venue", [Venue.BYBIT, Venue.OKX])
@given(pauses=st.lists(st.integers(0, 10**8), min_size=1, max_size=400))
def test_links_that_come_back_together_never_pass_the_venues_limit_of_new_connections(
    venue: Venue, pauses: list[int]
) -> None:
    connects = ADAPTERS[venue].limits.connects
    assert connects is not None
    account = VenueAccount(ADAPTERS[venue])
    spent = granted(lambda _weight, now_ns: account.connect(now_ns)[0], [(pause_ns, 1) for pause_ns in pauses])
    assert most_in_window(spent, connects.per_s) <= connects.limit


def test_threads_that_ask_at_once_share_one_allowance() -> None:
    account = VenueAccount(ADAPTERS[Venue.OKX])
    taken: list[int] = []
    ready = threading.Barrier(16)

    def ask() -> None:
        ready.wait()
        taken.extend(1 for _ in range(50) if account.connect(S)[0] <= 0)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 2


@given(
    wishes=st.lists(
        st.tuples(st.integers(0, S // 4), st.sampled_from(["ping", "subscribe", "pong"])), min_size=1, max_size=200
    )
)
def test_a_connection_never_says_more_than_its_venue_allows(wishes: list[tuple[int, str]]) -> None:
    limits = ADAPTERS[Venue.BINANCE].limits.messages
    assert limits is not None
    pace, now_ns, said, ponged_ns = Pace(ADAPTERS[Venue.BINANCE].limits), S, [], -S
    for pause_ns, wish in wishes:
        now_ns += pause_ns
        if wish == "pong":
            if now_ns - ponged_ns >= S // 2:  # transport.PONG_EVERY_S
                ponged_ns = now_ns
                pace.answered(1, now_ns)
                said.append((now_ns, 1))
        elif pace.may_say('{"method":"SUBSCRIBE","params":[],"id":1}', now_ns):
            said.append((now_ns, 1))
    if said:
        assert most_in_window(said, limits.per_s) <= limits.limit


@given(sizes=st.lists(st.tuples(st.integers(0, 200 * S), st.integers(1, 50)), min_size=1, max_size=100))
def test_a_connection_never_asks_for_more_operations_than_its_venue_allows(sizes: list[tuple[int, int]]) -> None:
    operations = ADAPTERS[Venue.OKX].limits.operations
    assert operations is not None
    pace, now_ns, spent = Pace(ADAPTERS[Venue.OKX].limits), S, []
    for pause_ns, size in sizes:
        now_ns += pause_ns
        text = '{"op":"subscribe","args":[' + ",".join(['{"channel":"books","instId":"X"}'] * size) + "]}"
        assert operations_of(text) == size
        if pace.may_say(text, now_ns):
            spent.append((now_ns, size))
        assert pace.may_say("ping", now_ns), "a ping is no operation"
    assert most_in_window(spent, operations.per_s) <= operations.limit


def test_bybit_says_that_an_allowance_is_spent_and_when_there_is_more() -> None:
    account = VenueAccount(ADAPTERS[Venue.BYBIT])
    wall_ns = 1_700_000_000 * S
    spent = {"x-bapi-limit-status": "0", "x-bapi-limit-reset-timestamp": str(wall_ns // 10**6 + 2000)}
    account.heard(spent, S, wall_ns)
    assert account.ask("rest", 1, S) == pytest.approx(2.0)
    assert account.ask("rest", 1, 3 * S) == 0.0
    account.heard(spent | {"x-bapi-limit-reset-timestamp": "9999999999999"}, 4 * S, wall_ns)
    assert account.ask("rest", 1, 4 * S) <= 60.0, "a clock that is off is not believed for ever"


def test_how_much_is_used_is_the_worst_of_our_count_and_the_venues() -> None:
    account = VenueAccount(ADAPTERS[Venue.BINANCE])
    assert account.used(S) == 0.0
    account.ask("rest", 24, S)
    assert account.used(S) == pytest.approx(0.01)
    account.heard({"x-mbx-used-weight-1m": "1200"}, S, S)
    assert account.used(S) == pytest.approx(0.5)
    assert account.used(62 * S) == 0.0


@pytest.mark.parametrize(
    ("kind", "handshake", "requests", "connects"),
    [
        (RefusalKind.BANNED, False, True, False),
        (RefusalKind.RATE_LIMITED, False, True, False),
        (RefusalKind.RATE_LIMITED, True, False, True),
        (RefusalKind.REGION, False, True, True),
        (RefusalKind.REGION, True, True, True),
        (RefusalKind.OVERLOAD, False, False, False),
        (RefusalKind.SHAPE, False, False, False),
    ],
)
def test_what_a_refusal_holds_back(kind: RefusalKind, handshake: bool, requests: bool, connects: bool) -> None:
    account = VenueAccount(ADAPTERS[Venue.BINANCE])
    assert account.refused(Refusal(kind, None, "why"), S, 100.0, handshake=handshake) == (requests or connects)
    assert account.requests_held(2 * S) == ((99.0, "why") if requests else (0.0, ""))
    assert account.connect(2 * S) == ((99.0, "why") if connects else (0.0, ""))


def test_a_country_that_is_refused_requests_is_asked_hourly_though_websockets_are_served() -> None:
    account = VenueAccount(ADAPTERS[Venue.BINANCE])
    account.refused(Refusal(RefusalKind.REGION, None, "why"), S, 3600.0, handshake=False)
    account.served(handshake=True)
    assert account.requests_held(2 * S)[0] == 3599.0
    account.served(handshake=False)
    assert account.requests_held(2 * S) == (0.0, "")


@pytest.mark.parametrize("handshake", [True, False])
def test_when_a_country_freeze_is_over_one_of_the_kind_that_was_refused_asks_for_all(handshake: bool) -> None:
    account, over_ns = VenueAccount(ADAPTERS[Venue.BINANCE]), 102 * S
    account.refused(Refusal(RefusalKind.REGION, None, "why"), S, 100.0, handshake=handshake)
    this, other = account.connect, account.requests_held
    if not handshake:
        this, other = other, this
    assert other(over_ns)[0] > 0.0, "another door is no probe"
    assert this(over_ns) == (0.0, "")
    assert this(over_ns)[0] == 60.0 and other(over_ns)[0] == 60.0, "the others wait for what it learns"
    assert this(over_ns + 61 * S) == (0.0, ""), "nothing was heard of it: the next one"
    account.served(handshake=handshake)
    assert this(over_ns + 62 * S) == (0.0, "") and other(over_ns + 62 * S) == (0.0, "")


# Across a restart


def test_an_ingest_that_is_started_again_during_a_ban_still_keeps_it(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "bans.json"
    book = AccountBook(CONFIG, clock, path)
    book[Venue.BINANCE].hold(Hold.REQUESTS, clock.monotonic_ns(), 600.0, "banned until later")
    book[Venue.OKX].hold(Hold.REGION, clock.monotonic_ns(), 3600.0, "not in your country")
    book.save()
    clock.advance(100.0)
    after = ManualClock(clock.now_ns())
    book = AccountBook(CONFIG, after, path)
    held_s, why = book[Venue.BINANCE].requests_held(after.monotonic_ns())
    assert (round(held_s), why) == (500, "banned until later")
    assert book[Venue.BINANCE].connect(after.monotonic_ns())[0] == 0.0
    assert round(book[Venue.OKX].connect(after.monotonic_ns())[0]) == 3500
    assert book[Venue.BYBIT].requests_held(after.monotonic_ns()) == (0.0, "")


def test_the_file_is_written_when_something_changed_and_forgets_what_was_lifted(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "bans.json"
    book = AccountBook(CONFIG, clock, path)
    book.save()
    assert not path.exists()
    book[Venue.OKX].hold(Hold.REGION, clock.monotonic_ns(), 3600.0, "not in your country")
    book.save()
    first = path.stat().st_ino
    clock.advance(10.0)
    book.save()
    assert path.stat().st_ino == first
    book[Venue.OKX].served(handshake=False)
    book.save()
    assert path.read_bytes() == b"{}"


def test_what_a_simulated_venue_said_is_nothing_to_the_real_one(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "bans.json"
    simulated = configuration.parse({"venues": {"binance": {"rest": "http://127.0.0.1:1"}}})
    book = AccountBook(simulated, clock, path)
    book[Venue.BINANCE].hold(Hold.REQUESTS, clock.monotonic_ns(), 600.0, "banned")
    book.save()
    assert AccountBook(CONFIG, clock, path)[Venue.BINANCE].requests_held(clock.monotonic_ns()) == (0.0, "")


@pytest.mark.parametrize(
    "found", [b"", b"{", b"[1]", b'{"binance https://fapi.binance.com": {"requests": ["x", 1]}}', b"\xff" * 100_000]
)
def test_a_damaged_file_is_reported_and_forgotten(
    tmp_path: Path, found: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    clock, path = ManualClock(), tmp_path / "bans.json"
    path.write_bytes(found)
    book = AccountBook(CONFIG, clock, path)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert book[Venue.BINANCE].requests_held(clock.monotonic_ns()) == (0.0, "")
    book[Venue.BINANCE].hold(Hold.REQUESTS, clock.monotonic_ns(), 600.0, "banned")
    book.save()
    assert AccountBook(CONFIG, clock, path)[Venue.BINANCE].requests_held(clock.monotonic_ns())[0] > 0


def test_a_ban_written_by_a_clock_that_was_years_ahead_ends_all_the_same(tmp_path: Path) -> None:
    ahead, path = ManualClock(2_000_000_000 * S), tmp_path / "bans.json"
    book = AccountBook(CONFIG, ahead, path)
    book[Venue.BINANCE].hold(Hold.REQUESTS, ahead.monotonic_ns(), 600.0, "banned")
    book.save()
    clock = ManualClock()
    book = AccountBook(CONFIG, clock, path)
    assert book[Venue.BINANCE].requests_held(clock.monotonic_ns())[0] <= LONGEST_S


def test_a_disk_that_does_not_take_it_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    book = AccountBook(CONFIG, clock, tmp_path / "missing" / "bans.json")
    book[Venue.BINANCE].hold(Hold.REQUESTS, clock.monotonic_ns(), 600.0, "banned")
    for _ in range(3):
        book.save()
    [record] = caplog.records
    assert record.exc_info
