"""liqmap: live liquidation maps of crypto perpetual futures. docs/architecture.md draws the house."""

__version__ = "0.1.0"
