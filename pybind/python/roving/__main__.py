"""`python -m roving` is the command `roving`."""

import sys

from roving.cli import main

sys.exit(main())
