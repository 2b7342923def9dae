"""`python -m proxdm`: the command line."""

import sys

from proxdm.cli import main

if __name__ == "__main__":
    sys.exit(main())
