"""The maintenance margin rates that a worker's map is made with: read once, at its start.

A table that the venues publish meanwhile changes nothing here: it is used when an operator names it (ingest.margins),
so that a journal played again gives the same map.
"""

import logging

from liqmap.config import ConfigError, Effective
from liqmap.domain.margin import InvalidMarginTable, effective_mmr
from liqmap.engine.spec import significant
from liqmap.logs import fields
from liqmap.store.margin_files import tables_in_use

log = logging.getLogger(__name__)


def tier_mmr(effective: Effective, symbol: str) -> tuple[float, ...]:
    """The effective maintenance margin rate of each leverage tier of `symbol`. Raises ConfigError, one line."""
    path, tables = tables_in_use(effective, symbol)
    log.info("maintenance margins", extra=fields(file=path, as_of=", ".join(sorted({t.as_of for t in tables}))))
    try:
        return tuple(
            significant(effective_mmr(tables, leverage)) for leverage in effective.config.symbols[symbol].leverages
        )
    except InvalidMarginTable as error:
        raise ConfigError(f"symbols.{symbol}.leverages: {error} (margin table {path})") from error
