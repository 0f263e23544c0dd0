"""Training of the network that completes lungs: chests of which parts are painted as dense as consolidation.

The network sees a chest and its aerated lung and shall find the whole lung again (`LungRecoveryLib.anatomy.completion`
is where it is used). Both visits of a sample are chests of their own; some give way to chests of plain shapes, so that
the network does not rely on how the tissue around lungs looks in the others.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F

from LungRecoveryLib.anatomy.completion import channels
from LungRecoveryLib.registration import flow

from .appearance import blurred, noisy, toned
from .draws import Draws, per_sample
from .lesions import random_lesions, threshold
from .phases import Phase
from .plain_chests import plain_chests
from .tasks import RegistrationTask, batch_seed

_AERATED = 0.55  # (HU + 1000) / 1000 of lung that a threshold finds
_TISSUE, _PLACE = 0.8, 12.0  # from which density on it is tissue; over how many voxels that varies
_BONE = 1.15
_PLAIN, _ALIKE = 0.35, 0.3  # shares of chests: of plain shapes, with tissues made alike
_ROUND, _LOBAR = 0.4, 0.6  # shares with round masses, and of the others with a lobe or segment without air
_BALLS, _BALL_SHARE = 4, 0.6  # drawn at most, and how likely each
_BALL_VOXELS, _BALL_EDGE = (2.0, 10.0), (1.0, 4.0)  # radius; voxels over which the level rises by 1
_PLANAR, _DEEPEST = 0.65, 0.55  # of lobar ones cut off by a plane; at most how much of the lungs' extent across it
_CELLS, _CELL_EDGE = 12, 2.0  # lobes and segments in both lungs; voxels over which the level rises by 1 between them
_SHALLOW = 0.8  # most of the voxels around a ball's middle that may be lung
_HARD_WEIGHT = 4.0  # of dense lung against everything else in the cross-entropy
_UNIT = 50.0  # voxels that steady the Dice of few
_VALIDATION_EPOCH = 1_000_003  # no epoch of a training: validation is painted the same in all


class CompletionTask(RegistrationTask):
    """Trains a `segmenter` on whole chests; of the objective `likelihood` (cross-entropy) and `dice` count."""

    def prepared(self, batch: dict, index: int, coarsening: int = 1) -> dict:
        """The batch augmented, as chests that are painted and seen by another scanner."""
        batch = super().prepared(batch, index, coarsening)
        draws = self._draws(batch, self.current_epoch, index)
        return painted(varied(_chests(batch), draws, self.spacing_mm * coarsening), draws)

    def _draws(self, batch: dict, epoch: int, index: int) -> Draws:
        generator = torch.Generator(self.device)
        generator.manual_seed(batch_seed(self.seed + 1, epoch, index, self.global_rank))
        return Draws(2 * len(batch["fixed"]), self.device, generator)

    def loss(self, batch: dict, phase: Phase | None = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Cross-entropy, and the soft Dice of the lung that a threshold misses and of everything else, where lung is
        known."""
        logits, lung, air, known = self._logits(batch), *(batch[key][:, 0] for key in ("lung", "air", "known"))
        weights = (1 + _HARD_WEIGHT * lung * (1 - air)) * known
        terms = {
            "likelihood": F.binary_cross_entropy_with_logits(logits, lung, weights),
            "dice": _dice_loss(logits.sigmoid(), lung, air, known),
        }
        chosen = self.objective.weights
        return chosen.likelihood * terms["likelihood"] + chosen.dice * terms["dice"], terms

    def _logits(self, batch: dict) -> torch.Tensor:
        hu = batch["image"][:, 0] * 1000.0 - 1000.0
        return self.network(channels(hu, batch["air"][:, 0]))

    def validation_step(self, batch: dict, index: int) -> None:
        """Count the objective and how much of the dense lung is found, on chests painted the same every time."""
        draws = self._draws(batch, _VALIDATION_EPOCH, index)
        batch = painted(varied(_chests(batch), draws, self.spacing_mm), draws)
        loss, terms = self.loss(batch)
        known = batch["known"][:, 0] > 0
        found, lung = (self._logits(batch) > 0) & known, (batch["lung"][:, 0] > 0) & known
        dense = lung & (batch["air"][:, 0] == 0)
        figures = {
            "dense_found": (found & dense).sum() / dense.sum().clamp(min=1),
            "false_share": (found & ~lung).sum() / lung.sum().clamp(min=1),
        }
        self._validated.add({"loss": loss, **terms, **figures}, len(lung))


def _chests(batch: dict) -> dict[str, torch.Tensor]:
    """Both scans of a batch of samples as chests: `image`, `lung`, and where that is `known`, (2n, 1, z, y, x)
    float32."""
    pairs = {"image": ("fixed", "moving"), "lung": ("fixed_mask", "moving_mask"), "known": ("truth", "truth")}
    return {key: torch.cat([batch[scan] for scan in scans]).float() for key, scans in pairs.items()}


@torch.no_grad()
def varied(chests: dict[str, torch.Tensor], draws: Draws, spacing_mm: float) -> dict[str, torch.Tensor]:
    """The chests with some replaced by such of plain shapes, and in some the tissues around the lungs made alike."""
    image, lung = plain_chests(draws, chests["image"].shape[2:], spacing_mm)
    plain = per_sample(draws.chance(_PLAIN))
    image, lung = torch.where(plain, image, chests["image"]), torch.where(plain, lung, chests["lung"])
    left = per_sample(torch.where(draws.chance(_ALIKE), draws.uniform(0, 1), 1.0))
    alike = per_sample(draws.uniform(1.0, 1.06))
    soft = (image > _TISSUE) & (image < _BONE) & (lung == 0)
    image = torch.where(soft, alike + left * (image - alike), image)
    return {"image": image, "lung": lung, "known": torch.where(plain, 1.0, chests["known"])}


@torch.no_grad()
def painted(chests: dict[str, torch.Tensor], draws: Draws) -> dict[str, torch.Tensor]:
    """The chests with consolidation in their lungs, as another scanner shows them, and `air`: the aerated lung.

    Up to half of a lung may be dense, rather below (dorsally, as fluid and collapse lie) in some; in others round
    masses at the surface are, or a part as large as a lobe or a segment, with flat borders, or all beyond a plane. Soft
    tissue is brighter or darker from chest to chest, as contrast medium makes it, and from place to place.
    """
    image, lung = chests["image"], chests["lung"]
    lesions = random_lesions(draws, lung)
    level = lesions.level + per_sample(draws.uniform(0, 1.5) * draws.chance(0.4)) * _dorsal(lung)
    lesions = replace(lesions, level=level, dense=draws.uniform(0.98, 1.08), core=draws.uniform(0.0, 0.5))
    share = draws.uniform(0.0, 0.45) * draws.chance(0.8)
    balls, lobar = draws.chance(_ROUND), draws.chance(_LOBAR)
    parts = torch.where(per_sample(draws.chance(_PLANAR)), _bases(draws, lung), _cells(draws, lung))
    level = torch.where(per_sample(lobar), parts, level)
    lesions = replace(lesions, level=torch.where(per_sample(balls), _balls(draws, lung), level))
    ill = lesions.drawn(image, torch.where(balls | lobar, 0.0, threshold(share)))
    image = torch.where(lung > 0, ill, image)
    brighter = per_sample(0.04 * draws.normal())
    brighter = brighter + per_sample(draws.uniform(0.0, 0.03)) * draws.smooth_noise(1, image.shape[2:], _PLACE)
    image = image + (image > _TISSUE) * brighter
    image = blurred(image, draws.uniform(0.0, 0.15))
    still = torch.ones_like(share)
    image = toned(image, still, draws.uniform(0.96, 1.04), draws.uniform(-0.03, 0.03), None)
    image = noisy(image, draws.uniform(0.0, 0.03), draws)
    aerated = (F.avg_pool3d(image, 3, 1, 1) < _AERATED) & (image < _TISSUE)
    return chests | {"image": image, "air": lung * aerated}


def _balls(draws: Draws, lung: torch.Tensor) -> torch.Tensor:
    """Ellipsoids at the lungs' surface as a level (n, 1, z, y, x) that is 0 on their own, higher within."""
    shallow = lung * (F.avg_pool3d(lung, 5, 1, 2) < _SHALLOW)
    level = torch.full_like(lung, -1.0)
    for off in _offsets(draws, shallow, _BALLS):
        radius, edge = draws.uniform(*_BALL_VOXELS), draws.uniform(*_BALL_EDGE)
        longer = draws.uniform(0.6, 1.4, 3).unbind(1)
        distance = sum((o / per_sample(by)).square() for o, by in zip(off, longer, strict=True)).sqrt()
        drawn = per_sample(draws.chance(_BALL_SHARE))
        level = torch.maximum(level, torch.where(drawn, (per_sample(radius) - distance) / per_sample(edge), -1.0))
    return level


def _cells(draws: Draws, lung: torch.Tensor) -> torch.Tensor:
    """What lies nearer to one of some points in the lungs than to all others, as a level (n, 1, z, y, x) that is 0
    between them, higher within."""
    own, *others = (sum(o.square() for o in off).sqrt() for off in _offsets(draws, lung, _CELLS))
    return (torch.stack(others).amin(dim=0) - own) / _CELL_EDGE


def _bases(draws: Draws, lung: torch.Tensor) -> torch.Tensor:
    """The part of one lung or both beyond a plane, rather below and behind, as a level (n, 1, z, y, x) that is 0 on the
    plane, higher beyond it."""
    positions = flow.voxel_coordinates(lung.shape[2:], device=lung.device)
    middle = (positions[0] * lung).sum((1, 2, 3, 4)) / lung.sum((1, 2, 3, 4)).clamp(min=1)
    either = per_sample(draws.sign(0.5)) * (positions[0] - per_sample(middle)) > 0
    ill = (lung > 0) & (either | per_sample(draws.chance(0.3)))
    towards = F.normalize(draws.normal(3) + torch.tensor([0.0, 1.0, -1.5], device=lung.device), dim=1)
    along = torch.einsum("nc,czyx->nzyx", towards, positions)[:, None]
    furthest = torch.where(ill, along, -torch.inf).amax((1, 2, 3, 4), keepdim=True)
    nearest = torch.where(ill, along, torch.inf).amin((1, 2, 3, 4), keepdim=True)
    reach = per_sample(draws.uniform(0.05, _DEEPEST)) * (furthest - nearest)
    return torch.where(ill, (along - furthest + reach) / _CELL_EDGE, -1.0)


def _offsets(draws: Draws, where: torch.Tensor, count: int) -> Iterator[list[torch.Tensor]]:
    """The offsets (n, 1, z, y, x) in voxels along each axis from places drawn in a mask `where` (n, 1, z, y, x)."""
    shape = where.shape[2:]
    places = torch.multinomial(where.flatten(1) + 1e-6, count, replacement=True, generator=draws.generator)
    axes = flow.voxel_coordinates(shape, device=where.device).flip(0)
    for place in places.unbind(1):
        yield [a - per_sample(at) for a, at in zip(axes, torch.unravel_index(place, shape), strict=True)]


def _dorsal(lung: torch.Tensor) -> torch.Tensor:
    """-1 at the front of the lungs to 1 at their back, a plane across (1, 1, 1, y, 1)."""
    return torch.linspace(-1, 1, lung.shape[3], device=lung.device)[:, None]


def _dice_loss(likely: torch.Tensor, lung: torch.Tensor, air: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """1 - soft Dice, of what is not aerated and of what is, their mean, where it is `known`."""
    losses = []
    for part in ((1 - air) * known, air * known):
        both = (likely * lung * part).sum()
        losses.append(1 - (2 * both + _UNIT) / ((likely * part).sum() + (lung * part).sum() + _UNIT))
    return sum(losses) / len(losses)
