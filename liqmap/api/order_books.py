"""/orderbook_heatmap and _history: what stood in the order books at each price, over time."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, TypeVar

import numpy as np
from flask import Response
from numpy.typing import NDArray

from liqmap.api.answers import common, data, data_bytes
from liqmap.api.book_queries import (
    ALIAS,
    FRAME,
    LARGEST_STRIDE,
    FrameQuery,
    HistoryQuery,
    frame_table,
    history_table,
    listened_venues,
    normalised,
)
from liqmap.api.book_words import no_frame_yet
from liqmap.api.encode import Headings, known, whole_dollars
from liqmap.api.errors import InvalidParameter, WarmingUp
from liqmap.api.packed import packed
from liqmap.api.picture import picture
from liqmap.api.resource import Resource, Serving
from liqmap.client import BookColumns, BookFrame, Newest, NotYet, OutOfRange, StepTooCoarse, TooMuch

HISTORY: Final = f"{FRAME}_history"


def resources(serving: Serving) -> tuple[Resource[Any], ...]:
    """The newest frame, frames over time, and the books themselves."""

    def frame(query: FrameQuery) -> Response:
        return _answered(serving, FRAME, query, lambda: _frame(serving, query), lambda made: made.columns, _frame_body)

    def history(query: HistoryQuery) -> Response:
        return _answered(serving, HISTORY, query, lambda: _history(serving, query), lambda made: made, _history_body)

    words = "dollars that stood in the order books at each price, the mean over the newest frame"
    over_time = "the same over time, a row for each frame or for a few"
    return (
        Resource(FRAME, ALIAS, words, frame_table(serving), normalised(serving, frame)),
        Resource(HISTORY, f"{ALIAS}_history", over_time, history_table(serving), normalised(serving, history)),
    )


T = TypeVar("T")


def _frame(serving: Serving, query: FrameQuery) -> BookFrame:
    return serving.client.books.frame(query.symbol, query.prices(), query.venue)


def _history(serving: Serving, query: HistoryQuery) -> BookColumns:
    return serving.client.books.history(query.symbol, query.minutes, query.prices(), query.venue, query.stride)


def _answered(
    serving: Serving,
    path: str,
    query: FrameQuery,
    read: Callable[[], T],
    columns_of: Callable[[T], BookColumns],
    body: Callable[[Serving, T], dict[str, Any]],
) -> Response:
    """JSON or bytes, from the memo or from what `read` copies."""

    def json() -> tuple[Newest, dict[str, Any]]:
        made = _or_refused(query, read)
        columns = columns_of(made)
        return Newest(columns.version, columns.freshness), body(serving, made)

    def octets() -> tuple[Newest, bytes, Headings]:
        columns = columns_of(_or_refused(query, read))
        return Newest(columns.version, columns.freshness), _packed(columns), _headings(columns)

    try:
        newest = serving.client.books.newest(query.symbol)
        if query.format == "bin":
            return data_bytes(serving, path, query, newest, octets)
        return data(serving, path, query, newest, json)
    except NotYet as error:
        raise WarmingUp(no_frame_yet(serving, query.symbol, listened_venues(serving, query.symbol))) from error


def _or_refused(query: FrameQuery, read: Callable[[], T]) -> T:
    """What is there. What is asked for in vain, or would be too much, is the query's fault."""
    try:
        return read()
    except OutOfRange as error:
        param = "range_pct" if query.price_min is None else "price_min"
        words = f"{error}: recorded is from {error.low:.15g} to {error.high:.15g}"
        raise InvalidParameter(words, param=param, allowed={"minimum": error.low, "maximum": error.high}) from error
    except StepTooCoarse as error:
        allowed = {"minimum": error.finest, "maximum": error.coarsest}
        raise InvalidParameter(str(error), param="step", allowed=allowed) from error
    except TooMuch as error:
        stride = getattr(query, "stride", 1)
        needed = -(-error.cells * stride // error.limit)
        if error.what == "rows" and needed <= LARGEST_STRIDE:
            allowed = {"minimum": needed, "maximum": LARGEST_STRIDE}
            raise InvalidParameter(f"{error}; stride {needed} does", param="stride", allowed=allowed) from error
        minutes = max(5, getattr(query, "minutes", 5) * error.limit // error.cells)
        raise InvalidParameter(str(error), param="minutes", allowed={"minimum": 5, "maximum": minutes}) from error


def _packed(columns: BookColumns) -> bytes:
    planes = whole_dollars(np.stack([columns.bid_usd, columns.ask_usd]))
    return packed(planes, int(columns.t_ms[0]), int(columns.t_ms[-1]), float(columns.prices[0]), columns.step)


def _headings(columns: BookColumns) -> Headings:
    """The common fields of a packed answer, but its age."""
    fresh = columns.freshness
    told = {
        "Symbol": columns.symbol,
        "As-Of-Ms": fresh.as_of_ms,
        "Stale": "true" if fresh.stale else "false",
        "Source": fresh.source,
        "Gaps": len(fresh.gaps),
        "Missing": len(columns.missing),
        "Interval-Ms": columns.interval_ms,
    }
    return tuple((f"X-Liqmap-{name}", str(value)) for name, value in told.items())


def _frame_body(serving: Serving, frame: BookFrame) -> dict[str, Any]:
    columns = frame.columns
    shown = picture(columns.bid_usd, columns.ask_usd)
    listened = listened_venues(serving, columns.symbol)
    return {
        **common(columns.symbol, columns.freshness),
        "venue": columns.venue,
        "t_ms": int(columns.t_ms[0]),
        "interval_ms": columns.interval_ms,
        "mid_price": known(columns.mid_price[0]),
        "mid_open": frame.mid_open,
        "mid_close": frame.mid_close,
        "price_step": columns.step,
        "prices": columns.prices,
        "bid_usd": whole_dollars(columns.bid_usd[0]),
        "ask_usd": whole_dollars(columns.ask_usd[0]),
        "bid_u8": shown.bid_u8,
        "ask_u8": shown.ask_u8,
        "norm": shown.norm,
        "total_bid_usd": _total(columns.bid_usd[0]),
        "total_ask_usd": _total(columns.ask_usd[0]),
        "coverage": known(columns.coverage[0], 4),
        "samples": frame.samples,
        "band": {"range_pct": serving.config.depth.range_pct, **asdict(frame.summed)},
        "venues": {name: asdict(means) for name, means in frame.venues.items() if name in listened},
    }


def _history_body(serving: Serving, columns: BookColumns) -> dict[str, Any]:
    shown = picture(columns.bid_usd, columns.ask_usd)
    return {
        **common(columns.symbol, columns.freshness),
        "venue": columns.venue,
        "frame_ms": serving.config.depth.frame_s * 1000,
        "interval_ms": columns.interval_ms,
        "price_step": columns.step,
        "rows": len(columns.t_ms),
        "cols": len(columns.prices),
        "t_ms": columns.t_ms,
        "prices": columns.prices,
        "mid_price": columns.mid_price,
        "coverage": np.round(columns.coverage, 4),
        "total_bid_usd": _totals(columns.bid_usd),
        "total_ask_usd": _totals(columns.ask_usd),
        "bid_usd": whole_dollars(columns.bid_usd.ravel()),
        "ask_usd": whole_dollars(columns.ask_usd.ravel()),
        "bid_u8": shown.bid_u8,
        "ask_u8": shown.ask_u8,
        "scale": shown.norm,
        "missing": [[each.from_ms, each.to_ms, each.reason] for each in columns.missing],
    }


def _total(usd: NDArray[np.float64]) -> float | None:
    return known(_totals(usd[None])[0])


def _totals(usd: NDArray[np.float64]) -> NDArray[np.float64]:
    """Known dollars of each row; unknown where nothing is known."""
    there = ~np.isnan(usd)
    return np.where(there.any(axis=1), np.round(np.where(there, usd, 0.0).sum(axis=1)), np.nan)
