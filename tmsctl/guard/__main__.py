"""`python -m tmsctl.guard` is `tms-guard`."""

import sys

from tmsctl.guard.entry import main

if __name__ == "__main__":
    sys.exit(main())
