"""The headless trainer of LungRecovery's networks: data sets, augmentation, training, evaluation, benchmarks."""

from LungRecoveryLib import RESEARCH_USE_ONLY, __version__

__all__ = ["RESEARCH_USE_ONLY", "__version__"]
