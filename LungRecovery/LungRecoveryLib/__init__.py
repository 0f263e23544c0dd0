"""LungRecovery: is this lung recovering, where, and how fast?"""

import os
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("lungrecovery")
except PackageNotFoundError:  # run from the source tree, as inside Slicer
    __version__ = "0.1.0"

# GNU OpenMP reads this when torch loads it: threads that wait for each other by spinning for long make registration
# many times slower as soon as another program wants a core too.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

RESEARCH_USE_ONLY = "Research use only; not for diagnosis"
