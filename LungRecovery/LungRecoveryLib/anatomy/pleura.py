"""The pleura behind consolidation: the lung's surface, continued from where it is seen to where it is hidden.

Consolidated lung on chest wall or diaphragm looks like the tissue beside it; no threshold shows where it ends. But the
pleura is smooth, and around the consolidation it is seen. So the signed distance to the lung's surface is continued
across the hidden part by a thin plate: firmly tied to the surface that is seen, loosely to the surface that may be a
lesion's own border, and not at all where that border lies deep inside what the loose plate says. Bone and fat
stay outside, aerated lung stays inside. Where a network says how likely each voxel is lung, it decides near the plate,
which then only keeps it from what looks like lung elsewhere; and where the network is sure of lung beyond a surface,
that surface is doubtful, too.
"""

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from ..distances import distance_to
from ..nearby import sums_nearby
from .working import Working, ball, bounding_box, components, dilate

_REACH_MM = 34.0  # how far behind a doubtful surface lung is looked for
_BAND_MM = 9.0  # how far from a surface its distance is a datum
_STEP = 3  # working voxels per node of the plate
_SHELL_MM = (3.0, 10.0)  # below the surface: free of the pleura's blur
_DENSE_HU, _DENSE_SHARE, _SHARE_SIGMA_MM = -500.0, 0.2, 4.0
_GROW_MM = 8.0
_HILUM_MM = 26.0
_FACING_MM = 6.0  # SD of the mask whose gradient tells where its surface faces
# A small and a large bump: the SDs at which its curvature and that of the surface around are measured; at most its
# radius, and the radius by which it stands out.
_BUMPS = ((6.0, 14.0, 15.0, 25.0), (10.0, 24.0, 30.0, 45.0))
_MEDIAL, _SIDEWAYS, _CAUDAL = 0.25, 0.5, 0.6
_FIRM = 10.0
_LENGTH_MM = 16.0  # the plate follows a doubtful surface at scales above this
_SLACK_MM, _FORGIVEN_MM = 1.5, 1.5
_ROUNDS, _STEPS = 6, 300
_BONE_HU, _BONE_MM = 200.0, 3.0
_FAT_HU, _FAT_BEHIND_MM, _FAT_MM = (-180.0, -40.0), 4.0, 1.0
_TISSUE_HU = (-250.0, 180.0)
# On the plate what the network gives this odds is lung, and ever more is asked for beyond it.
_ODDS, _MORE_PER_MM, _BEYOND_MM = 0.2, 0.3, 6.0
_SURE, _SURE_OPENING, _SURE_BEYOND_MM = 0.9, 1, 4.0  # where nothing but the network speaks of hidden lung
# A plate that is a little too flat makes sheets and small pieces where nothing is hidden, least of all along the ribs.
_LEAST_MM, _OPENING, _LEAST_ML = 0.5, 2, 8.0
_COSTAL_LEAST_MM, _COSTAL_OPENING, _COSTAL_LEAST_ML = 0.25, 1, 2.0
_KNOWN_LEAST_ML = 0.5  # of what the network speaks for


def hidden_lung(
    work: Working,
    lung: np.ndarray,
    airway: np.ndarray,
    forbidden: np.ndarray,
    lateral: int,
    likely: np.ndarray | None = None,
) -> np.ndarray:
    """Dense tissue between the lung as found and the pleura as it must run, (z, y, x) bool on the working grid.

    `lung` (z, y, x) bool is one lung, `airway` trachea and main bronchi (the hilum around them is left alone),
    `forbidden` what cannot be this lung, `lateral` the direction of x away from the body's middle (-1 right, 1 left).
    `likely` (z, y, x), how likely a network calls the voxels lung, decides near the pleura where it is given.
    """
    result = np.zeros(lung.shape, bool)
    window = bounding_box(lung, int(np.ceil(_REACH_MM / work.spacing)) + 3)
    part = work.part(window)
    outside = forbidden[window] | ~part.field
    known = None if likely is None else likely[window]
    result[window] = _hidden(part, lung[window], airway[window], outside, lateral, known)
    return result


def _hidden(
    work: Working,
    lung: np.ndarray,
    airway: np.ndarray,
    outside: np.ndarray,
    lateral: int,
    likely: np.ndarray | None,
) -> np.ndarray:
    surface = lung & ~ndimage.binary_erosion(lung)
    costal, caudal = _facing(lung, work.spacing, lateral)
    bumps = surface & _bumps(lung, work.spacing) & (costal | caudal)
    allowed = surface & ~dilate(airway, _HILUM_MM / work.spacing)
    shown = dilate(_beside_consolidation(work, lung, surface) | bumps, _GROW_MM / work.spacing) & allowed
    doubtful = shown.copy()
    if likely is not None:
        doubtful |= dilate(_before_sure_lung(likely, surface, lung | outside), _GROW_MM / work.spacing) & allowed
    if not doubtful.any():
        return doubtful
    nearest = ndimage.distance_transform_edt(~surface, return_distances=False, return_indices=True)
    hidden = doubtful[tuple(nearest)]
    near = dilate(doubtful, _REACH_MM / work.spacing)
    distance = _continued(work, lung, outside, near, hidden)
    dense = (work.hu > _TISSUE_HU[0]) & (work.hu < _TISSUE_HU[1])
    possible = near & hidden & dense & ~lung & ~outside
    if likely is not None:
        asked = _ODDS * np.exp(_MORE_PER_MM * distance)
        beyond = np.where(shown[tuple(nearest)], _BEYOND_MM, _SURE_BEYOND_MM)
        known = (likely > asked * (1 - likely)) & (distance < beyond)
        return _in_thick_pieces(possible & known, lung, _OPENING, _KNOWN_LEAST_ML / work.voxel_ml)
    costal = costal[tuple(nearest)]
    anywhere = _in_thick_pieces(possible & (distance < -_LEAST_MM), lung, _OPENING, _LEAST_ML / work.voxel_ml)
    return anywhere | _in_thick_pieces(
        possible & costal & (distance < -_COSTAL_LEAST_MM), lung, _COSTAL_OPENING, _COSTAL_LEAST_ML / work.voxel_ml
    )


def _beside_consolidation(work: Working, lung: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """The surface below which a fair share of the lung is nearly airless, (z, y, x) bool."""
    depth = distance_to(~lung) * work.spacing
    shell = lung & (depth > _SHELL_MM[0]) & (depth < _SHELL_MM[1])
    sigma = _SHARE_SIGMA_MM / work.spacing
    airless, all_of_it = sums_nearby(work.hu > _DENSE_HU, shell, sigma)
    return surface & (airless > _DENSE_SHARE * np.maximum(all_of_it, 1e-3))


def _before_sure_lung(likely: np.ndarray, surface: np.ndarray, settled: np.ndarray) -> np.ndarray:
    """The surface beyond which the network is sure of lung, (z, y, x) bool; `settled` is what is known to be lung or
    none."""
    sure = ndimage.binary_opening((likely > _SURE) & ~settled, ball(_SURE_OPENING))
    return surface & dilate(sure, _SURE_OPENING + 1)


def _facing(lung: np.ndarray, spacing: float, lateral: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the surface of a lung (z, y, x) bool faces the chest wall, and where the diaphragm, (z, y, x) bool each."""
    smooth = ndimage.gaussian_filter(lung.astype(np.float32), _FACING_MM / spacing)
    outward = -np.stack(np.gradient(smooth))
    outward /= np.maximum(np.linalg.norm(outward, axis=0), 1e-6)
    sideways = outward[2] * lateral
    costal = (sideways > -_MEDIAL) & ((outward[1] > 0) | (sideways > _SIDEWAYS))
    return costal, outward[0] < -_CAUDAL


def _bumps(lung: np.ndarray, spacing: float) -> np.ndarray:
    """Where something round bulges into the lung, (z, y, x) bool.

    Neither chest wall nor dome is as round as a lesion; on the mediastinum vessels are.
    """
    found = np.zeros(lung.shape, bool)
    for fine_mm, coarse_mm, radius_mm, standing_out_mm in _BUMPS:
        curvature, trend = (_curvature(lung, sigma_mm, spacing) for sigma_mm in (fine_mm, coarse_mm))
        found |= (curvature > 1 / radius_mm) & (curvature - trend > 1 / standing_out_mm)
    return found


def _curvature(lung: np.ndarray, sigma_mm: float, spacing: float) -> np.ndarray:
    """The mean curvature of a mask's surface in 1/mm, above 0 where it is hollow, (z, y, x) float32: there the mask
    smoothed by sigma is 1/2 + sigma H / sqrt(2 pi)."""
    smooth = ndimage.gaussian_filter(lung.astype(np.float32), sigma_mm / spacing, truncate=3.0)
    return (smooth - 0.5) * np.sqrt(2 * np.pi) / sigma_mm


def _continued(
    work: Working, lung: np.ndarray, outside: np.ndarray, near: np.ndarray, hidden: np.ndarray
) -> np.ndarray:
    """The signed distance (mm, below 0 inside) to the pleura, (z, y, x) float32; far outside where not `near`.

    `hidden` (z, y, x) bool are the voxels whose nearest surface is doubtful.
    """
    spacing = work.spacing
    behind = distance_to(lung) * spacing
    seen = np.where(lung, 0.5 * spacing - distance_to(~lung) * spacing, behind - 0.5 * spacing)
    fat = (work.hu > _FAT_HU[0]) & (work.hu < _FAT_HU[1]) & (behind > _FAT_BEHIND_MM)
    least = np.full(lung.shape, -np.inf, np.float32)
    least[outside | ndimage.binary_opening(fat)] = _FAT_MM
    least[(work.hu > _BONE_HU) & ~lung] = _BONE_MM
    most = np.where(lung & hidden, np.minimum(seen, -0.5 * spacing), np.inf)

    nodes = (slice(None, None, _STEP),) * 3
    domain = near[nodes]
    node_mm = _STEP * spacing
    plate = np.full(domain.shape, _REACH_MM, np.float32)
    plate[domain] = _solve(
        _second_differences(domain),
        seen[nodes][domain],
        (np.abs(seen) < _BAND_MM)[nodes][domain],
        hidden[nodes][domain],
        (least[nodes][domain], most[nodes][domain]),
        (node_mm / _LENGTH_MM) ** 4,
    )
    return ndimage.affine_transform(plate, np.full(3, 1 / _STEP), output_shape=lung.shape, order=1, mode="nearest")


def _solve(
    bends: sparse.csr_matrix,
    seen: np.ndarray,
    datum: np.ndarray,
    hidden: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    loose: float,
) -> np.ndarray:
    """The thin plate (nodes,) through the distances `seen` where they are a `datum`, within `bounds`, in mm.

    Hidden data are tied by the weight `loose`, and let go where the plate lies farther out than they do: a lesion
    never makes the lung look larger.
    """
    bending = (bends.T @ bends).tocsr()
    firm = np.where(datum & ~hidden, _FIRM, 0.0)
    tie = np.where(datum & hidden, loose, 0.0)
    least, most = bounds
    bound = np.where(np.isfinite(least), least, np.where(np.isfinite(most), most, 0.0))
    held = np.zeros(len(seen))
    plate = seen.astype(np.float64)
    for _ in range(_ROUNDS):
        matrix = bending + sparse.diags(firm + tie + held + 1e-7)
        known = (firm + tie) * seen + held * bound
        plate, _ = cg(matrix, known, x0=plate, maxiter=_STEPS, M=sparse.diags(1.0 / matrix.diagonal()))
        beyond = np.maximum(seen - plate - _SLACK_MM, 0.0)
        tie = np.where(datum & hidden, loose / (1.0 + (beyond / _FORGIVEN_MM) ** 4), 0.0)
        held = np.where((plate < least) | (plate > most), _FIRM, 0.3 * held)
    return plate


def _second_differences(domain: np.ndarray) -> sparse.csr_matrix:
    """All second differences between the nodes of a domain (z, y, x) bool; the sum of their squares is its bending."""
    number = np.full(np.add(domain.shape, 2), -1)
    number[1:-1, 1:-1, 1:-1][domain] = np.arange(domain.sum())
    nodes = np.argwhere(domain) + 1
    step = np.eye(3, dtype=int)
    blocks = []
    for a in range(3):
        for b in range(a, 3):
            if a == b:
                offsets, weights = (step[a], 0 * step[a], -step[a]), (1.0, -2.0, 1.0)
            else:
                offsets = (step[a] + step[b], -step[a] - step[b], step[a] - step[b], step[b] - step[a])
                weights = np.sqrt(2) * np.array((0.25, 0.25, -0.25, -0.25))
            columns = np.stack([number[tuple((nodes + offset).T)] for offset in offsets], axis=1)
            columns = columns[(columns >= 0).all(axis=1)]
            rows = np.repeat(np.arange(len(columns)), len(offsets))
            values = np.tile(weights, len(columns))
            blocks.append(sparse.csr_matrix((values, (rows, columns.ravel())), shape=(len(columns), len(nodes))))
    return sparse.vstack(blocks).tocsr()


def _in_thick_pieces(added: np.ndarray, lung: np.ndarray, opening: int, least: float) -> np.ndarray:
    """`added` (z, y, x) bool without thin sheets, which are the plate's own error, and without pieces of fewer than
    `least` voxels or that touch no lung."""
    joined = added | (ndimage.binary_dilation(added, iterations=opening + 1) & lung)
    added = added & dilate(ndimage.binary_opening(joined, ball(opening)) & added, 1.5)
    labels, sizes = components(added)
    touching = np.zeros(len(sizes), bool)
    touching[np.unique(labels[ndimage.binary_dilation(lung)])] = True
    return (touching & (sizes > least))[labels]
