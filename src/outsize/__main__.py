"""`python -m outsize`, the same as the `outsize` command."""

import sys

from outsize.cli import main

if __name__ == "__main__":
    sys.exit(main())
