"""Who is positioned where: events in, frames out. Pure and deterministic."""
