"""What is trained: a registration network on batches of pairs, as a LightningModule."""

from dataclasses import dataclass, field, replace

import lightning
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from LungRecoveryLib.errors import BadInput, LungRecoveryError
from LungRecoveryLib.registration import flow
from LungRecoveryLib.registration.networks import Prediction, Pyramid, build_network
from LungRecoveryLib.registration.unet import UNet
from LungRecoveryLib.registration.weights import load_weights

from .augmentation import Augmentation
from .objective import Objective, Weights, landmark_errors
from .phases import Phase, Schedule, check_phases, coarsened
from .sums import Sums
from .synthetic import Synthesis, synthetic_pair

# Lengths of an augmentation, in voxels.
_AUGMENTATION_LENGTHS = (
    "translation",
    "elastic",
    "difference_translation",
    "motion",
    "elastic_spacing",
    "fine_motion",
    "fine_spacing",
)


@dataclass(frozen=True)
class Optimisation:
    """AdamW with linear warm-up over the share `warmup` of each phase and a cosine down to `final` of the rate.

    `fused`: AdamW as one kernel, for CUDA.
    """

    rate: float = 1e-3
    weight_decay: float = 1e-5
    warmup: float = 0.03
    final: float = 0.01
    fused: bool = False


@dataclass(frozen=True)
class Randomness:
    """Augmentation of every batch, and the share of pairs that are made synthetic: the moving scan replaced by the
    fixed one under a known deformation, with lesions that come or go."""

    augmentation: Augmentation = field(default_factory=Augmentation)
    synthesis: Synthesis = field(default_factory=Synthesis)
    synthetic_share: float = 0.0

    def on_grid(self, spacing_mm: float, factor: int) -> "Randomness":
        """The same for samples of voxels of `spacing_mm`, `factor` times coarser than those that it was made for."""
        lengths = {name: getattr(self.augmentation, name) / factor for name in _AUGMENTATION_LENGTHS}
        return replace(
            self,
            augmentation=replace(self.augmentation, **lengths),
            synthesis=replace(self.synthesis, spacing_mm=spacing_mm * factor),
        )


def batch_seed(seed: int, epoch: int, batch: int, rank: int = 0) -> int:
    """The seed of what is drawn for a batch: numpy's SeedSequence of these four numbers, which it keeps from version
    to version; neither the process nor what was drawn before plays a part."""
    return int(np.random.SeedSequence([seed, epoch, batch, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class BrokenLoss(LungRecoveryError):
    """The loss or its gradient is not a number."""

    exit_code = 1


class RegistrationTask(lightning.LightningModule):
    """Trains `architecture` (see `registration.networks`) on samples of `spacing_mm`.

    Parameters: the weights of the `objective`; `phases`, the multi-level strategy; `anatomy`, for the weights' card;
    `initial`, weights whose layers those of the network begin with where they are alike (a .safetensors file or
    shipped weights' name); `mixed_precision`, the U-Nets'
    convolutions in bf16; `compile` the U-Nets; `fused_kernels`, own CUDA kernels for LNCC and integration, which change
    nothing elsewhere; `seed`, that of the run (seed_everything) where it is None.

    Randomness is drawn from (seed, epoch, batch) alone, so that a run that was killed and resumed at its last epoch
    goes on as if it had never stopped. Raises BadInput for settings that cannot be.
    """

    def __init__(
        self,
        architecture: dict,
        objective: Weights | None = None,
        optimisation: Optimisation | None = None,
        randomness: Randomness | None = None,
        phases: list[Phase] | None = None,
        spacing_mm: float = 3.0,
        anatomy: str = "lung",
        initial: str | None = None,
        mixed_precision: bool = False,
        compile: bool = False,
        fused_kernels: bool = False,
        seed: int | None = None,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.network = build_network(architecture)
        self.network.set_mixed_precision(mixed_precision)
        self.objective = Objective(objective or Weights())
        self.optimisation = optimisation or Optimisation()
        self.randomness = randomness or Randomness()
        self.phases = phases or []
        check_phases(self.phases, self.network)
        self.spacing_mm = spacing_mm
        self.fused_kernels, self.seed = fused_kernels, seed or 0
        self._compile = compile
        if initial is not None:
            self._begin_with(initial)
        self._validated = Sums()
        self._since_step: list[str] = []

    # ------------------------------------------------------------------------------------------------------- beginning

    def setup(self, stage: str) -> None:
        """Compile the U-Nets, once, where asked to: their shapes are static."""
        if self._compile:
            # Every level, phase and mode is a graph of its own for one piece of code.
            torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
            for module in self.network.modules():
                if isinstance(module, UNet):
                    module.compile(dynamic=False)
            self._compile = False

    def _begin_with(self, name: str) -> None:
        """Take from trained weights the layers that this network has, too; others begin anew."""
        own, theirs = self.network.state_dict(), load_weights(name).network.state_dict()
        same = {key: value for key, value in theirs.items() if key in own and own[key].shape == value.shape}
        if not same:
            raise BadInput(f"The weights {name} are for another architecture: they share no layer with the network.")
        self.network.load_state_dict(own | same)
        rank_zero_info(f"{len(same)} of {len(own)} tensors begin as in {name}.")

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Raises BadInput for a checkpoint of another architecture."""
        shapes = {name: value.shape for name, value in self.state_dict().items()}
        if {name: value.shape for name, value in checkpoint["state_dict"].items()} != shapes:
            raise BadInput("The checkpoint is of another architecture than model.architecture: give that of its run.")

    def configure_optimizers(self):
        """AdamW and its rate over the steps."""
        settings = self.optimisation
        optimizer = torch.optim.AdamW(
            self.network.parameters(), settings.rate, weight_decay=settings.weight_decay, fused=settings.fused
        )
        steps = self.trainer.estimated_stepping_batches
        if not 0 < steps < float("inf"):
            raise BadInput("The learning rate needs to know the training's length: set trainer.max_epochs.")
        schedule = self.schedule()
        rate = lambda step: schedule.rate(step, int(steps), settings.warmup, settings.final)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # ---------------------------------------------------------------------------------------------------------- phases

    def schedule(self) -> Schedule:
        """The phases of the training in epochs."""
        return Schedule(self.phases, self.trainer.max_epochs or 1)

    def phase(self) -> Phase | None:
        """The phase of the multi-level strategy that the present epoch belongs to; outside of training the last."""
        if not self.phases or self.trainer.state.fn != TrainerFn.FITTING:
            return replace(self.phases[-1], coarsened=1) if self.phases else None
        return self.schedule().phase(self.current_epoch)

    def in_last_phase(self) -> bool:
        """Whether the present epoch's losses may be compared with those of the end of the training."""
        schedule = self.schedule()
        return schedule.number(self.current_epoch) == len(schedule.ends) - 1

    def on_train_epoch_start(self) -> None:
        """Only what the phase names learns."""
        phase = self.phase()
        if phase:
            for number, level in enumerate(self.network.levels):
                level.requires_grad_(number in phase.train)
            if self.network.spread is not None:
                self.network.spread.requires_grad_(phase.spread)

    # ----------------------------------------------------------------------------------------------------------- steps

    def predict_batch(self, batch: dict, phase: Phase | None = None) -> Prediction:
        """The network's prediction for a batch, coarsened as the phase says, by the levels that run in it."""
        images = [batch[key].float() for key in ("fixed", "moving", "fixed_mask", "moving_mask")]
        if isinstance(self.network, Pyramid) and phase:
            return self.network(*images, levels=phase.levels, coarsened=phase.coarsened)
        return self.network(*images)

    def loss(self, batch: dict, phase: Phase | None = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The objective of a batch and its terms."""
        return self.objective(batch, self.predict_batch(batch, phase), self.network)

    def prepared(self, batch: dict, index: int, coarsening: int = 1) -> dict:
        """The batch on a coarser grid if asked for, with some pairs made synthetic, all augmented."""
        generator = torch.Generator(self.device)
        generator.manual_seed(batch_seed(self.seed, self.current_epoch, index, self.global_rank))
        with torch.no_grad():
            batch = coarsened(batch, coarsening)
            randomness = self.randomness.on_grid(self.spacing_mm, coarsening)
            if randomness.synthetic_share > 0:
                batch = synthetic_pair(batch, randomness.synthesis, generator, share=randomness.synthetic_share)
            return randomness.augmentation(batch, generator)

    def training_step(self, batch: dict, index: int) -> torch.Tensor:
        """The loss of a batch. Raises BrokenLoss where it is not a number."""
        phase, size = self.phase(), len(batch["fixed"])
        self._since_step.append(f"batch {index}{_pairs(batch)}")
        batch = self.prepared(batch, index, phase.coarsened if phase else 1)
        loss, terms = self.loss(batch, phase)
        if not torch.isfinite(loss):
            values = ", ".join(f"{name} {float(value):.3g}" for name, value in terms.items())
            raise BrokenLoss(self._broken("loss", values))
        how = {"on_step": False, "on_epoch": True, "sync_dist": True, "batch_size": size}
        self.log("train/loss", loss.detach(), prog_bar=True, **how)
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, **how)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Raises BrokenLoss where a gradient is not a number, before it can reach the weights."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        length = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(length):
            raise BrokenLoss(self._broken("gradient", f"length {float(length):.3g}"))
        self.log("train/gradient", length, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)
        self._since_step.clear()

    def _broken(self, what: str, values: str) -> str:
        checkpoint = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"
        return (
            f"The {what} of {', '.join(self._since_step)} in epoch {self.current_epoch} is not a number ({values}): "
            f"look at these pairs or lower model.optimisation.rate; {kept}."
        )

    # ------------------------------------------------------------------------------------------------------ validation

    def on_validation_epoch_start(self) -> None:
        """Nothing is counted yet."""
        self._validated = Sums()

    def validation_step(self, batch: dict, index: int) -> None:
        """Count the objective, its terms and the figures of a batch."""
        phase, size = self.phase(), len(batch["fixed"])
        coarsening = phase.coarsened if phase else 1
        batch = coarsened(batch, coarsening)
        prediction = self.predict_batch(batch, phase)
        loss, terms = self.objective(batch, prediction, self.network)
        self._validated.add({"loss": loss, **terms}, size)
        self._validated.add(self.figures(batch, prediction.displacement, coarsening), size)

    def on_validation_epoch_end(self) -> None:
        """Log the means over all pairs of all processes, which may have different ones and figures."""
        for name, mean in self._validated.over_processes().means().items():
            self.log(f"val/{name}", mean, prog_bar=name == "loss", sync_dist=True)

    def figures(self, batch: dict, displacement: torch.Tensor, coarsening: int = 1) -> dict[str, torch.Tensor]:
        """What a reader wants to know of predictions: errors in mm against known truth, folds in percent."""
        voxel_mm = self.spacing_mm * coarsening
        inside = batch["fixed_mask"] > 0
        folded = (flow.jacobian_determinant(displacement)[:, None] <= 0) & inside
        figures = {"folds_percent": 100.0 * folded.sum() / inside.sum().clamp(min=1)}
        known = batch["truth"] > 0
        if known.any():
            truth = batch["displacement"].float()
            for name, field in (("start_mm", torch.zeros_like(truth)), ("error_mm", displacement)):
                distance = (field - truth).square().sum(1, keepdim=True).sqrt()
                figures[name] = voxel_mm * distance[known].mean()
        if "fixed_points" in batch:
            errors = landmark_errors(batch, displacement)
            if len(errors):
                figures["tre_mm"] = voxel_mm * errors.mean()
        return figures


def _pairs(batch: dict) -> str:
    return f" ({', '.join(batch['pair'])})" if "pair" in batch else ""
