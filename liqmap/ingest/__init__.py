"""The process that listens to the venues and writes the rings."""
