"""A resource: one thing that can be asked for, its path and alias, its table of parameters, and who answers.

Everything that serves or documents paths is generated from these records, so none can lack its alias, its parameters
or its refusals.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from flask import Blueprint, Response, request

from liqmap.api.errors import WarmingUp
from liqmap.api.memo import Memo
from liqmap.api.parameters import SymbolName, Table
from liqmap.client import Client, NotYet
from liqmap.config import Config

T = TypeVar("T")


@dataclass(frozen=True)
class Serving:
    """What every resource is given."""

    config: Config
    client: Client
    memo: Memo
    var_dir: Path | None = None

    @property
    def default_symbol(self) -> str:
        """BTC where it is configured, else the first symbol."""
        return "BTC" if "BTC" in self.config.symbols else next(iter(self.config.symbols))

    def symbol_parameter(self, default: str | None = None) -> SymbolName:
        """The parameter `symbol`, which takes a symbol's name, that with USDT behind it, or an instrument's name."""
        names: dict[str, str] = {}
        for symbol, table in self.config.symbols.items():
            listed = msgspec.structs.astuple(table.instruments)
            for name in (symbol, f"{symbol}USDT", *filter(None, listed)):
                names.setdefault(name.upper(), symbol)
        names.update({symbol: symbol for symbol in self.config.symbols})
        return SymbolName("symbol", "the symbol, in any of its spellings", default, names)


@dataclass(frozen=True)
class Resource(Generic[T]):
    """One path. `answer` gets the parsed parameters."""

    path: str
    alias: str
    words: str
    table: Table[T]
    answer: Callable[[T], Response]

    @property
    def name(self) -> str:
        """What it is called in blueprints and documents."""
        return self.path.strip("/").replace("/", "_")


@dataclass(frozen=True, slots=True)
class NoQuery:
    """No parameters at all."""


NO_PARAMETERS = Table(NoQuery)


def blueprint(resource: Resource[Any], serving: Serving) -> Blueprint:
    """The resource under its path and its alias, GET and HEAD only."""
    made = Blueprint(resource.name, __name__)
    parse, answer = resource.table.parse, resource.answer

    def view() -> Response:
        query = parse(request.args)
        try:
            return answer(query)
        except NotYet as error:
            raise WarmingUp(serving.client.why_not(query.symbol) or "not yet") from error

    for number, rule in enumerate((resource.path, resource.alias)):
        made.add_url_rule(rule, f"view{number}", view, methods=["GET"], provide_automatic_options=False)
    return made
