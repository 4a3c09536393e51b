"""Benchmarks. A module here that has `rows(effort)` takes part in the table of `make bench`."""
