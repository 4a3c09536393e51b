"""A child process for tests of the supervisor: does as it is told on its command line.

obedient: ends with 0 on TERM, by the signal on HUP · stubborn: takes no notice of TERM · exit N: ends at once with N ·
family: obedient, with a child of its own that takes no notice of anything. Each writes `up <pid>` to stdout first.
"""

import faulthandler
import os
import signal
import subprocess
import sys
import time

from liqmap.child import die_with_parent


def main() -> None:
    faulthandler.enable()
    die_with_parent()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and that is inherited
    told = sys.argv[1]
    if told == "exit":
        raise SystemExit(int(sys.argv[2]))
    if told == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if told == "family":
        relative = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        sys.stdout.write(f"relative {relative.pid}\n")
    sys.stdout.write(f"up {os.getpid()} inherited {sys.argv[2:]}\n")
    sys.stdout.flush()
    while True:
        time.sleep(0.05)


if __name__ == "__main__":
    main()
