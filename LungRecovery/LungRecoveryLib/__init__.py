"""LungRecovery: is this lung recovering, where, and how fast?"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("lungrecovery")
except PackageNotFoundError:  # run from the source tree, as inside Slicer
    __version__ = "0.1.0"

RESEARCH_USE_ONLY = "Research use only; not for diagnosis"
