"""The words of the field: units, events, instruments, grids, margin. Pure."""
