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
# The same goes for numpy's BLAS, whose share of the work is small: it gets one thread.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

RESEARCH_USE_ONLY = "Research use only; not for diagnosis"
