"""Flask over the reader library: HTTP for people, scripts and nginx."""
