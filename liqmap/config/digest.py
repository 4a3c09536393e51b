"""What tells two configurations apart: a digest of everything that changes a map, and of nothing else."""

import hashlib

import msgspec

from liqmap.config.records import Config


def config_digest(config: Config) -> str:
    """16 hexadecimal digits over symbols, model and the rhythm of ticks; not where files lie and who is asked."""
    told = {"symbols": config.symbols, "model": config.model, "tick_ms": config.ingest.tick_ms}
    return hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()[:16]
