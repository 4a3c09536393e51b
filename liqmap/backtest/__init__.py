"""Drives the engine over what was recorded."""
