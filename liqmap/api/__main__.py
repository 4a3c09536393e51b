"""python -m liqmap.api"""

from liqmap.api.main import main

main()
