"""The reader library: frozen snapshots of what the daemon publishes."""
