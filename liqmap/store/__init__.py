"""Files: atomic writes, captures, tables, quarantine."""
