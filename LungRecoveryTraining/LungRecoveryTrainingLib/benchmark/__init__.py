"""How fast training and inference are, stage by stage, beside other implementations and the device's own limits."""

from .run import run, task_from
from .table import as_text

__all__ = ["as_text", "run", "task_from"]
