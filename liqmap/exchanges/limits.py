"""What the venues allow one IP and one connection, from their documents (docs/exchanges.md, "Limits").

Request budgets are charged by the poller, connections and texts by the links; each venue has one account of each kind,
however many links and polls there are.
"""

from typing import Final

from liqmap.exchanges.adapter import Budget, Limits

BINANCE_BUDGETS: Final = (Budget("rest", 2400, 60.0), Budget("data", 1000, 300.0), Budget("funding", 500, 300.0))
BYBIT_BUDGETS: Final = (Budget("rest", 600, 5.0),)
OKX_BUDGETS: Final = (Budget("rest", 20, 2.0), Budget("books", 40, 2.0), Budget("rubik", 5, 2.0))
"""OKX counts per endpoint: the tightest of the endpoints in use stands for all of a name."""

BINANCE_LIMITS: Final = Limits(messages=Budget("messages", 10, 1.0))
"""Ten texts, pings and pongs a second on one connection. Spot's 300 connections in five minutes are not futures'."""
BYBIT_LIMITS: Final = Limits(connects=Budget("connects", 500, 300.0))
OKX_LIMITS: Final = Limits(connects=Budget("connects", 3, 1.0), operations=Budget("operations", 480, 3600.0))
