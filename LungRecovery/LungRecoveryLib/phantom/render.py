"""Making a scan: every voxel is traced back to the baseline's tissue, tubes are painted where they have moved to."""

from dataclasses import dataclass

import numpy as np
import torch

from ..grids import Grid
from ..progress import Progress, no_progress
from .acquisition import Scanner, acquire
from .body import Anatomy
from .chest import lobe_of
from .frames import slabs
from .lattice import HIGH, LOW
from .lesions import Stage, correlated_noise, diseased_density, lesion_shares
from .motion import Coordinates, Motion
from .soft import BLOOD, FAT, SKIN
from .tree import move, paint
from .vasculature import Tubes

TILE, TILE_MM = 96, 1.5
ABNORMAL_HU = (-700.0, 100.0)
VESSEL_SHARE = 0.25


@dataclass
class Material:
    """The tissue at the baseline: anatomy, tubes, `texture` (3, n, n, n), a periodic tile of fine detail, and
    `levels` (3, z, y, x) of the lesions on the anatomy's lattice. `blood_hu` is higher with contrast medium."""

    anatomy: Anatomy
    tubes: Tubes
    texture: np.ndarray
    levels: np.ndarray
    blood_hu: float = BLOOD

    def maps(self) -> torch.Tensor:
        """The anatomy's maps and the lesions' levels, (1, c, z, y, x)."""
        maps = torch.from_numpy(np.concatenate([self.anatomy.data, self.levels]))[None]
        soft_hu = maps[:, self.anatomy.CHANNELS.index("soft_hu")]
        soft_hu[soft_hu == BLOOD] = self.blood_hu
        return maps


@dataclass
class Rendered:
    """Arrays (z, y, x) on the visit's grid; their meaning is that of the fields of the same name in a Visit."""

    ct: np.ndarray
    lungs: np.ndarray
    lobes: np.ndarray
    airways: np.ndarray
    vessels: np.ndarray
    lesions: np.ndarray
    abnormal: np.ndarray


def make_texture(rng: np.random.Generator) -> np.ndarray:
    """The periodic tile of detail: parenchymal grain, slow mottling, and a net of thin lines (0 to 1)."""
    shape = (TILE, TILE, TILE)
    grain = correlated_noise(rng, shape, 0.9)
    mottle = correlated_noise(rng, shape, 4.0)
    net = np.exp(-((correlated_noise(rng, shape, 2.2) / 0.30) ** 2))
    return np.stack([grain, mottle, net]).astype(np.float32)


def normal_density(y: np.ndarray, expired: float) -> np.ndarray:
    """Density (HU + 1000) of healthy lung at the baseline: heavier at the back of a patient on the back.

    `y` mm in the patient frame; `expired` how far (mm) the diaphragm stands above full inspiration.
    """
    back = np.clip((y + 85.0) / 150.0, 0.0, 1.0)
    return (118.0 + 72.0 * back) * (1.0 + expired / 150.0)


def render(
    material: Material,
    motion: Motion,
    stage: Stage,
    grid: Grid,
    scanner: Scanner,
    rng: np.random.Generator,
    progress: Progress = no_progress,
) -> Rendered:
    """The scan of a patient at a visit, and the labels of its voxels."""
    fine, layers = _thin_slices(grid)
    out = {name: np.zeros(grid.shape, np.uint8) for name in ("lungs", "lobes", "lesions", "abnormal")}
    hu = np.empty(fine.shape, np.float32)
    data = material.maps()
    tile = torch.from_numpy(np.pad(material.texture, [(0, 0)] + [(0, 1)] * 3, mode="wrap"))[None]
    voxel = float(np.prod(fine.spacing)) ** (1 / 3)
    lung_tissue = _Lung(stage, material.anatomy.build.expired, voxel)
    for k, coordinates in slabs(fine, np.float32):
        if k % 16 == 0:
            progress("tissue", 0.7 * k / fine.size[2])
        tissue, jacobian, _ = motion.inverse_coordinates(coordinates)
        values = _sample(data, tissue)
        detail = _sample_tile(tile, tissue)
        scale = np.cbrt(jacobian) / voxel
        hu[k] = _body(values, scale, detail[1], _couch(motion.table_coordinates(coordinates), voxel))
        lung = values[4] * scale
        near = lung < 0.5
        if not near.any():
            continue
        spot = tuple(c[near] for c in tissue)
        air, label, abnormal = lung_tissue.at(spot, jacobian[near], values[6:, near], detail[:, near])
        share = np.clip(0.5 - lung[near], 0.0, 1.0)
        hu[k][near] = hu[k][near] * (1 - share) + air * share
        if k % layers == layers // 2:
            inside, row = share > 0.5, k // layers
            out["lungs"][row][near] = np.where(inside, np.where(spot[0] < 0, 1, 2), 0)
            out["lobes"][row][near] = np.where(inside, lobe_of(*spot, lung_tissue.expired)[0], 0)
            out["lesions"][row][near] = np.where(inside, label, 0)
            out["abnormal"][row][near] = inside & abnormal
    progress("vessels and airways", 0.7)
    airways, vessels = _tubes(hu, material, motion, fine, layers, voxel)
    out["abnormal"][(vessels > 0) | (airways > 0)] = 0
    hu = _merge(hu, layers)
    progress("scanner", 0.9)
    return Rendered(ct=acquire(hu, grid, scanner, rng), airways=airways, vessels=vessels, **out)


def _thin_slices(grid: Grid) -> tuple[Grid, int]:
    """The grid with each slice cut into an odd number of thinner ones, where slices are much thicker than pixels."""
    thin = max(1.4 * min(grid.spacing), 1.25)
    layers = 2 * round(0.5 * (max(grid.spacing[2] / thin, 1.0) - 1.0)) + 1
    thickness = grid.spacing[2] / layers
    origin = np.array(grid.origin) - grid.axes[:, 2] * thickness * (layers // 2)
    size = (*grid.size[:2], grid.size[2] * layers)
    return Grid(size, (*grid.spacing[:2], thickness), tuple(origin.tolist()), grid.direction), layers


def _merge(image: np.ndarray, layers: int) -> np.ndarray:
    """The mean of each `layers` slices."""
    if layers == 1:
        return image
    return image.reshape(-1, layers, *image.shape[1:]).mean(axis=1)


def _sample(data: torch.Tensor, points) -> np.ndarray:
    """Linear interpolation of maps (1, c, z, y, x) on the lattice at coordinates (x, y, z) of any shape: (c, ...)."""
    unit = [(points[i] - float(LOW[i])) * float(2.0 / (HIGH[i] - LOW[i])) - 1.0 for i in range(3)]
    return _grid_sample(data, unit)


def _sample_tile(tile: torch.Tensor, points) -> np.ndarray:
    unit = [np.mod(p * np.float32(1.0 / TILE_MM), np.float32(TILE)) * np.float32(2.0 / TILE) - 1.0 for p in points]
    return _grid_sample(tile, unit)


def _grid_sample(data: torch.Tensor, unit: list[np.ndarray]) -> np.ndarray:
    where = torch.from_numpy(np.stack(unit, axis=-1).astype(np.float32)).reshape(1, 1, 1, -1, 3)
    sampled = torch.nn.functional.grid_sample(data, where, padding_mode="border", align_corners=True)
    return sampled.numpy().reshape(data.shape[1], *unit[0].shape)


def _couch(table: Coordinates, voxel: float) -> np.ndarray:
    """HU of the air around the patient, with the curved couch: a thin shell filled with foam."""
    x, y, _ = table
    below = y - (121.0 - x * x / 1000.0)
    shell = np.clip(1.0 - np.abs(below) / voxel, 0.0, 1.0) + np.clip(1.0 - np.abs(below - 22.0) / voxel, 0.0, 1.0)
    foam = np.where((below > 0) & (below < 22.0), 45.0, 0.0)
    return -1000.0 + foam + 420.0 * shell


def _body(values: np.ndarray, scale: np.ndarray, mottle: np.ndarray, around: np.ndarray) -> np.ndarray:
    """HU of everything but the lungs: fat, denser soft tissue, bone, gas, skin and what is `around` (HU)."""
    skin, soft, bone, gas, _, soft_hu = values[:6]

    def share(distance: np.ndarray) -> np.ndarray:
        return np.clip(0.5 - distance * scale, 0.0, 1.0)

    hu = FAT + 6.0 * mottle
    hu += share(soft) * (soft_hu + 5.0 * mottle - hu)
    marrow = 160.0 + 35.0 * mottle + 620.0 * np.exp(np.minimum(bone + 1.0, 0.0) / 1.3)
    hu += share(bone) * (marrow - hu)
    hu += share(gas) * (-985.0 - hu)
    hu += share(-skin - 2.0) * (SKIN - hu)
    return around + share(skin) * (hu - around)


@dataclass(frozen=True)
class _Lung:
    """Lung tissue at a visit."""

    stage: Stage
    expired: float
    voxel: float

    def at(self, spot: Coordinates, jacobian: np.ndarray, levels: np.ndarray, detail: np.ndarray):
        """HU, lesion label and whether a lesion makes the tissue abnormal, for points (N,) of the baseline.

        `levels` (3, N) of the lesions, `detail` (3, N) of the texture.
        """
        grain, mottle, net = detail
        shares = lesion_shares(levels + 0.16 * mottle + 0.10 * grain, self.stage)
        septa = np.clip(net * 1.4 - 0.3, 0.0, 1.0)
        density = diseased_density(normal_density(spot[1], self.expired), shares, septa)
        true_hu = density / jacobian - 1000.0
        diseased = np.max(shares, axis=0) > 0.05
        abnormal = diseased & (true_hu >= ABNORMAL_HU[0]) & (true_hu <= ABNORMAL_HU[1])
        label = np.where(shares[0] > 0.5, 1, 0)
        label = np.where(shares[2] > np.maximum(0.5, shares[0]), 3, label)
        label = np.where(shares[1] > 0.5, 2, label)
        # Grain is tissue and air side by side: most in half-filled lung, little in consolidation.
        solid = np.clip(density / 950.0, 0.0, 1.0)
        density = density + (8.0 * grain + 3.0 * mottle) * (1.0 + 10.0 * solid * (1.0 - solid) ** 2)
        fissure = lobe_of(*spot, self.expired)[1]
        plate = np.clip(1.0 - fissure / self.voxel, 0.0, 1.0) * min(1.0, 0.7 / self.voxel)
        density = density + plate * 220.0
        return np.minimum(density / jacobian, 1060.0) - 1000.0, label, abnormal


def _tubes(hu: np.ndarray, material: Material, motion: Motion, grid: Grid, layers: int, voxel: float):
    """Paint the tubes into `hu`, and give the label maps of airways and vessels with each `layers` slices merged."""
    frame, tubes = _patient_frame(grid), material.tubes
    sigma = 0.35 * voxel
    arteries, veins, outer, lumen = (
        paint(move(part, motion), frame, sigma) for part in (tubes.arteries, tubes.veins, tubes.airway, tubes.lumen)
    )
    blood = np.maximum(arteries, veins)
    # A vessel never makes what is already denser (consolidation, bone) darker.
    hu += blood * np.maximum(material.blood_hu - hu, 0.0)
    hu += outer * (20.0 - hu)
    hu += lumen * (-995.0 - hu)
    arteries, veins, outer, lumen, blood = (_merge(a, layers) for a in (arteries, veins, outer, lumen, blood))
    airways = np.where(lumen > 0.5, 1, np.where(outer > 0.4, 2, 0)).astype(np.uint8)
    vessels = np.where(blood > VESSEL_SHARE, np.where(arteries >= veins, 1, 2), 0).astype(np.uint8)
    vessels[airways > 0] = 0
    return airways, vessels


def _patient_frame(grid: Grid) -> Grid:
    """The grid in the patient frame."""
    origin = np.array(grid.origin) - grid.centre
    return Grid(grid.size, grid.spacing, tuple(origin.tolist()), grid.direction)
