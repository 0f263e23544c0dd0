"""The registration methods that the benchmark compares, one module per method.

Each module has ``register(pair, initial, threads, **options) -> SimpleITK.Transform``: from the fixed image's points to
the moving image's points (LPS mm). `METHODS` has every row of the table: its title, its module, that module's options.
"""

from dataclasses import dataclass, field
from importlib import import_module


@dataclass(frozen=True)
class Method:
    """An entry of the table: its title, the module here that runs it and that module's options."""

    title: str
    module: str
    options: dict = field(default_factory=dict)
    needs_masks: bool = True

    def load(self):
        """Import the method's packages, so that neither time nor error of the import counts as registration."""
        return import_module(f"methods.{self.module}").register


METHODS = {
    "before": Method("before", "start", {"aligned": False}, needs_masks=False),
    "aligned": Method("lungs' centres and extents aligned", "start"),
    "lungrecovery-preview": Method("LungRecovery preview", "lungrecovery", {"preset": "preview"}, needs_masks=False),
    "lungrecovery-fast": Method("LungRecovery fast", "lungrecovery", {"preset": "fast"}, needs_masks=False),
    "lungrecovery-standard": Method("LungRecovery standard", "lungrecovery", {"preset": "standard"}, needs_masks=False),
    "lungrecovery-accurate": Method("LungRecovery accurate", "lungrecovery", {"preset": "accurate"}, needs_masks=False),
    "greedy": Method("Greedy", "greedy", {"iterations": "100x50x10"}),
    "greedy-long": Method("Greedy, more iterations", "greedy", {"iterations": "100x100x50"}),
    "elastix": Method("elastix B-spline", "elastix"),
    "convexadam": Method("ConvexAdam", "convexadam"),
    "demons": Method("diffeomorphic demons", "demons"),
}
