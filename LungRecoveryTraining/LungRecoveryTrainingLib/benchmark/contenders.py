"""Who is measured: this project's training step, torch VoxelMorph and MONAI's VoxelMorph, each as its package ships it.

All work on the same batches (n, 1, z, y, x), with local correlation over windows and a smoothness term as their losses.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import version
from importlib.util import find_spec

import torch

from LungRecoveryLib import __version__
from LungRecoveryLib.errors import MissingDependency
from LungRecoveryLib.registration import flow
from LungRecoveryLib.registration.unet import UNet

from .timing import StageClock

Batch = dict[str, torch.Tensor]
WINDOW = 5
"""Voxels across a window of local correlation, in every loss."""


class Contender(ABC):
    """A network with its losses and optimiser on a device."""

    name: str
    version: str
    network: torch.nn.Module
    optimiser: torch.optim.Optimizer

    @property
    def parameters(self) -> int:
        """How many weights the network has."""
        return sum(p.numel() for p in self.network.parameters())

    def load(self, batch: Batch, device: torch.device) -> Batch:
        """A batch from pinned host memory on the device."""
        return {key: value.to(device, non_blocking=True) for key, value in batch.items()}

    @abstractmethod
    def loss(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch on the device."""

    @abstractmethod
    def infer(self, batch: Batch) -> torch.Tensor:
        """The warped moving images of a batch."""

    def step(self, batch: Batch, device: torch.device, clock: StageClock | None = None) -> None:
        """One training step from a batch on the host."""
        stage = clock.stage if clock else lambda name: nullcontext()
        with stage("load"):
            batch = self.load(batch, device)
        with stage("other"):
            loss = self.loss(batch)
        with stage("backward"):
            loss.backward()
        with stage("optimiser"):
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)


class Own(Contender):
    """This project's task: its network, objective and optimiser, without the trainer around them."""

    name = "LungRecovery"

    def __init__(self, task, device: torch.device, mixed_precision: bool, channels_last: bool):
        self.version = __version__
        self.task = task.to(device)
        self.network = task.network
        self.network.set_mixed_precision(mixed_precision)
        if channels_last:
            for unet in self._unets():
                unet.to(memory_format=torch.channels_last_3d)
        settings = task.optimisation
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), settings.rate, weight_decay=settings.weight_decay, fused=device.type == "cuda"
        )

    def _unets(self) -> list[UNet]:
        return [module for module in self.network.modules() if isinstance(module, UNet)]

    def compile(self) -> None:
        """Compile the U-Nets."""
        for unet in self._unets():
            unet.compile()

    def loss(self, batch: Batch) -> torch.Tensor:
        return self.task.loss(batch)[0]

    def infer(self, batch: Batch) -> torch.Tensor:
        field = self.task.predict_batch(batch).displacement
        identity = flow.voxel_coordinates(tuple(field.shape[2:]), device=field.device)
        return flow.warp(batch["moving"], identity + field)


class _Peer(Contender):
    """A peer: everything in its forward pass under bf16 autocast where asked to, its losses in float32."""

    def __init__(self, device: torch.device, mixed_precision: bool):
        self.network = self._network().to(device)
        self.similarity, self.smoothness = self._losses()
        self.optimiser = torch.optim.Adam(self.network.parameters(), 1e-4, fused=device.type == "cuda")
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision)

    @abstractmethod
    def _network(self) -> torch.nn.Module: ...

    @abstractmethod
    def _losses(self) -> tuple[Callable, Callable]: ...

    def load(self, batch: Batch, device: torch.device) -> Batch:
        return super().load({key: batch[key] for key in ("fixed", "moving")}, device)

    @abstractmethod
    def predict(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The warped moving images and the displacement."""

    def loss(self, batch: Batch) -> torch.Tensor:
        with self._autocast:
            warped, displacement = self.predict(batch)
        return self.similarity(warped.float(), batch["fixed"]) + self.smoothness(displacement.float())

    def infer(self, batch: Batch) -> torch.Tensor:
        with self._autocast:
            return self.predict(batch)[0]


class VoxelMorph(_Peer):
    """`voxelmorph.nn.models.VxmPairwise` with seven integration steps, neurite's NCC and gradient penalty."""

    name, package = "VoxelMorph (torch)", "voxelmorph"

    def _network(self) -> torch.nn.Module:
        import voxelmorph

        self.version = version("voxelmorph")
        return voxelmorph.nn.models.VxmPairwise(3, 1, 1, integration_steps=7)

    def _losses(self) -> tuple[Callable, Callable]:
        import neurite

        similarity, smoothness = neurite.nn.modules.NCC(WINDOW), neurite.nn.modules.SpatialGradient()
        return lambda warped, fixed: 1 - similarity(fixed, warped).mean(), smoothness

    def predict(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        displacement, warped = self.network(batch["moving"], batch["fixed"], return_warped_source=True)
        return warped, displacement


class Monai(_Peer):
    """`monai.networks.nets.VoxelMorph` as it comes, with MONAI's local correlation and bending energy."""

    name, package = "MONAI VoxelMorph", "monai"

    def _network(self) -> torch.nn.Module:
        from monai.networks.nets import VoxelMorph as Network

        self.version = version("monai")
        return Network()

    def _losses(self) -> tuple[Callable, Callable]:
        from monai.losses import BendingEnergyLoss, LocalNormalizedCrossCorrelationLoss

        similarity = LocalNormalizedCrossCorrelationLoss(kernel_size=WINDOW)
        return lambda warped, fixed: 1 + similarity(warped, fixed), BendingEnergyLoss()

    def predict(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network(batch["moving"], batch["fixed"])


PEERS = (VoxelMorph, Monai)


def check_installed(peer: type[_Peer]) -> None:
    """Raise MissingDependency for a peer whose package is not installed."""
    if find_spec(peer.package) is None:
        raise MissingDependency(f"{peer.package} is not installed: pip install 'lungrecovery[train-peers]'.")


def example_batch(shape: tuple[int, int, int], count: int, pinned: bool, seed: int = 0) -> Batch:
    """`count` samples (see `datasets.samples`) of smooth random images, masks and displacements, on the host."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(channels: int) -> torch.Tensor:
        coarse = torch.rand(count, channels, *(max(2, n // 8) for n in shape), generator=generator)
        return torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=False)

    z, y, x = (torch.linspace(-1, 1, n) for n in shape)
    ball = (z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < 0.9).expand(count, 1, *shape)
    # Noise everywhere: some peers' local correlation breaks where a window is constant.
    images = {
        key: torch.where(ball, 0.1 + 0.3 * smooth(1), 1.0) + 0.1 * torch.rand(count, 1, *shape, generator=generator)
        for key in ("fixed", "moving")
    }
    batch = {
        **images,
        "fixed_mask": ball.to(torch.uint8),
        "moving_mask": ball.to(torch.uint8),
        "displacement": 8 * smooth(3) - 4,
        "truth": ball.to(torch.uint8),
    }
    return {key: value.contiguous().pin_memory() if pinned else value.contiguous() for key, value in batch.items()}
