"""Entry of `python -m liqmap.worker`."""

import sys

from liqmap.worker.main import main

if __name__ == "__main__":
    sys.exit(main())
