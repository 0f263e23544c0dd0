"""The training objective: how well a prediction aligns a batch of pairs, how regular it is, how near the known truth.

A batch is a dictionary of tensors (n, ...) as `datasets.samples` describes; fields are in voxels. Every term is
a mean over the batch, smaller is better, in float32.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.registration import flow, losses
from LungRecoveryLib.registration.networks import Prediction, Pyramid, integrated, kl_divergence
from LungRecoveryLib.registration.rigid_network import matching_loss


@dataclass(frozen=True)
class Weights:
    """Weights of the terms; a term of weight 0 is not computed.

    ncc, mse, ssim, mind, nmi: similarity of the warped moving image inside the fixed mask. bending, diffusion: of the
    velocity (of the displacement where a network has none). jacobian: folding. dice: overlap of warped labels, or of
    the masks where there are no labels. kl: the probabilistic prior. displacement: distance from the true
    displacement at every stage, in voxels. landmarks: distance of landmark pairs, in voxels. likelihood: how well the
    predicted variance tells the error of the displacement. matching: how surely a rigid network finds tissue again.
    """

    ncc: float = 1.0
    mse: float = 0.0
    ssim: float = 0.0
    mind: float = 0.0
    nmi: float = 0.0
    bending: float = 3.0
    diffusion: float = 0.0
    jacobian: float = 0.1
    dice: float = 0.5
    kl: float = 0.0
    kl_precision: float = 10.0
    displacement: float = 0.0
    landmarks: float = 0.0
    likelihood: float = 0.0
    matching: float = 0.0
    stage_decay: float = 0.7


class Objective:
    """Sum of weighted terms for a batch and the network's prediction."""

    def __init__(self, weights: Weights):
        self.weights = weights

    def __call__(self, batch: dict, prediction: Prediction, network) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss and its unweighted terms, detached, by name. Raises BadInput where no term applies."""
        terms = dict(self._terms(batch, prediction, network))
        if not terms:
            raise BadInput("Nothing is asked of the network: give model.objective a weight that the pairs can answer.")
        weights = asdict(self.weights)
        loss = sum(weights[name] * value for name, value in terms.items())
        return loss, {name: value.detach() for name, value in terms.items()}

    def _terms(self, batch, prediction, network):
        w = self.weights
        fixed, mask = batch["fixed"], batch["fixed_mask"].float()
        field = prediction.displacement
        identity = flow.voxel_coordinates(tuple(field.shape[2:]), device=field.device)
        similarities = {"ncc": _ncc, "mse": losses.mean_squared_error, "ssim": losses.ssim, "mind": losses.mind}
        similarities["nmi"] = losses.nmi
        wanted = [name for name in similarities if getattr(w, name)]
        if wanted:
            warped = flow.warp(batch["moving"], identity + field)
            for name in wanted:
                yield name, similarities[name](warped, fixed, mask)
        velocity = field if prediction.velocity is None else prediction.velocity / prediction.spacing
        if w.bending:
            yield "bending", losses.bending_energy(velocity)
        if w.diffusion:
            yield "diffusion", losses.diffusion(velocity)
        if w.jacobian:
            yield "jacobian", losses.folding_penalty(field)
        if w.dice:
            yield "dice", dice_loss(batch, identity + field)
        if w.kl and prediction.log_variance is not None:
            # The variance is that of voxels, like the prediction's velocity; the prior is about nodes.
            log_variance = prediction.log_variance - 2 * math.log(prediction.spacing)
            yield "kl", kl_divergence(velocity, log_variance, w.kl_precision)
        if w.displacement:
            yield "displacement", displacement_loss(batch, prediction, network, w.stage_decay)
        if w.landmarks and "fixed_points" in batch:
            errors = landmark_errors(batch, field)
            yield "landmarks", errors.sum() / max(1, len(errors))
        if w.likelihood and prediction.log_variance is not None:
            yield "likelihood", likelihood_loss(batch, prediction)
        if w.matching and prediction.descriptions is not None:
            yield "matching", matching_loss(prediction.descriptions, batch["displacement"].float(), batch["truth"])


def _ncc(warped: torch.Tensor, fixed: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return losses.Lncc(fixed, mask)(warped)


def dice_loss(batch: dict, coordinates: torch.Tensor) -> torch.Tensor:
    """1 - mean soft Dice of the fixed labels and the warped moving ones; of the masks where there are no labels."""
    if "fixed_labels" in batch:
        highest = max(1, int(max(batch["fixed_labels"].max(), batch["moving_labels"].max())))
        labels = torch.arange(1, highest + 1, device=batch["fixed"].device)[:, None, None, None]
        fixed, moving = ((batch[key] == labels).float() for key in ("fixed_labels", "moving_labels"))
    else:
        fixed, moving = batch["fixed_mask"].float(), batch["moving_mask"].float()
    warped = flow.warp(moving, coordinates)
    both, total = (fixed * warped).sum((2, 3, 4)), (fixed + warped).sum((2, 3, 4))
    there = total > 0
    # Labels that neither scan shows do not count; where there is none at all nothing can be better.
    dice = torch.where(there, 2 * both / total.clamp(min=1e-6), 0.0).sum() / there.sum().clamp(min=1)
    return torch.where(there.any(), 1 - dice, 0.0)


def displacement_loss(batch: dict, prediction: Prediction, network, decay: float) -> torch.Tensor:
    """Mean distance in voxels from the true displacement where it is known, over all stages.

    The last stage counts 1, each before it `decay` times less than the one after.
    """
    truth, known = batch["displacement"].float(), batch["truth"].float()
    if not isinstance(network, Pyramid):
        fields = [stage for stage, _ in prediction.stages] or [prediction.displacement]
        weights = [decay**number for number in range(len(fields))][::-1]
        distances = [_masked_distance(stage, truth, known) for stage in fields]
        return sum(w * d for w, d in zip(weights, distances, strict=True)) / sum(weights)
    total = weights = 0.0
    pooled = {}
    for number, (velocity, spacing) in enumerate(reversed(prediction.stages)):
        if spacing not in pooled:
            pooled[spacing] = _pooled(truth, known, spacing, velocity.shape[2:])
        weight = decay**number
        moved = integrated(velocity, spacing, network.levels[-1].int_steps)
        total = total + weight * _masked_distance(moved, *pooled[spacing])
        weights += weight
    return total / weights


def _pooled(truth, known, spacing, shape) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean true displacement of each cell and the share of the cell where it is known."""
    even = [side for n, old in zip(shape[::-1], truth.shape[:1:-1], strict=True) for side in (0, n * spacing - old)]
    share = F.avg_pool3d(F.pad(known, even), spacing)
    mean = F.avg_pool3d(F.pad(truth * known, even), spacing) / share.clamp(min=1e-6)
    return mean, share * (share > 0.25)


def _masked_distance(field: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    distance = ((field - truth).square().sum(1, keepdim=True) + 1e-4).sqrt()
    return (distance * known).sum() / known.sum().clamp(min=1e-6)


def landmark_errors(batch: dict, field: torch.Tensor) -> torch.Tensor:
    """Distances in voxels of the moved fixed landmarks from the moving ones, absent ones left out: (k,)."""
    points = batch["fixed_points"]
    there = ~(torch.isnan(points).any(-1) | torch.isnan(batch["moving_points"]).any(-1))
    coordinates = points.nan_to_num().permute(0, 2, 1)[:, :, :, None, None]
    moved = points.nan_to_num() + flow.warp(field, coordinates)[..., 0, 0].permute(0, 2, 1)
    return ((moved - batch["moving_points"].nan_to_num()).square().sum(-1) + 1e-4).sqrt()[there]


def likelihood_loss(batch: dict, prediction: Prediction) -> torch.Tensor:
    """Negative log-likelihood of the displacement's error under the predicted variance, the error held fixed.

    It teaches the variance alone; what is predicted for the mean is left to the other terms.
    """
    spacing = prediction.spacing
    shape = prediction.log_variance.shape[2:]
    truth, known = _pooled(batch["displacement"].float(), batch["truth"].float(), spacing, shape)
    found, _ = _pooled(prediction.displacement.detach(), torch.ones_like(batch["truth"].float()), spacing, shape)
    log_variance = prediction.log_variance.clamp(-12, 8)
    density = 0.5 * ((found - truth).square() * (-log_variance).exp() + log_variance)
    return (density * known).sum() / (3 * known.sum().clamp(min=1e-6))
