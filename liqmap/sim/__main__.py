"""`python -m liqmap.sim`."""

import sys

from liqmap.sim.main import main

sys.exit(main())
