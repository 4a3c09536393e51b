"""Shared memory: segments, boards, rings, status. One writer per byte, readers without locks."""
