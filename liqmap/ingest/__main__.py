"""`python -m liqmap.ingest --effective PATH`."""

from liqmap.ingest.main import main

if __name__ == "__main__":
    main()
