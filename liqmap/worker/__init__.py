"""The process of one symbol: ring in, boards out."""
