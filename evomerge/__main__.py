"""`python -m evomerge` is the command `evomerge`."""

import sys

from evomerge.cli.main import main

sys.exit(main())
