"""`python -m overmind_agent`."""

import sys

from overmind_agent.cli import main

sys.exit(main())
