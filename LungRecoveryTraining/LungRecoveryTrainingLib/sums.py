"""Means over the pairs of all processes."""

import torch.distributed


class Sums:
    """Weighted sums by name, from which means are taken."""

    def __init__(self):
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, values: dict[str, object], weight: float) -> None:
        """Add numbers (or tensors of one) that each stand for `weight` pairs."""
        for name, value in values.items():
            total, weights = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (total + weight * float(value), weights + weight)

    def over_processes(self) -> "Sums":
        """The sums of all processes of a distributed training, which all of them have to ask for."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self
        everyone: list = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everyone, self._sums)
        joined = Sums()
        for sums in everyone:
            for name, (total, weight) in sums.items():
                joined.add({name: total / weight}, weight)
        return joined

    def means(self) -> dict[str, float]:
        """The mean of every name, in the order of the names."""
        return {name: total / weight for name, (total, weight) in sorted(self._sums.items())}
