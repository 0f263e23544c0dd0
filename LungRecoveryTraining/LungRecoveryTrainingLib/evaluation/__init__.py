"""How good weights are on pairs with known answers: the measures, their tables and figures."""

from .run import evaluate

__all__ = ["evaluate"]
