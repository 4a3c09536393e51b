"""The process that owns shared memory and the children."""
