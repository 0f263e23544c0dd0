"""What is true of a synthetic patient, as plain numbers."""

import numpy as np

from ..grids import grid_of, to_array

COMPLETE, PARTIAL, CLEAR_SHARE, MEASURABLE_SHARE = 0.85, 0.50, 0.02, 0.01


def truth(patient) -> dict:
    """The truth of every visit.

    Per visit: `lung_volume_ml`, `right_volume_ml`, `left_volume_ml`; `jacobian_score` and
    `jacobian_score_normalized`, the shares of the baseline's lung voxels whose true Jacobian (divided by its mean) lies
    in 0.8..1.2; `mean_jacobian`; `abnormal_share`, the share of the lung whose noise-free density lies in -700..+100
    HU because of a lesion; `tissue_recovery` = 1 - A_t / A_0 (None where A_0 < 1 %); `class` (complete, partial,
    persistent; None for the baseline), by the tissue recovery where defined, else by the Jacobian score;
    `mean_landmark_motion_mm`.
    """
    baseline = patient.visits[0]
    first = _abnormal_share(baseline)
    lungs = to_array(baseline.lungs) > 0
    visits = []
    for number, visit in enumerate(patient.visits):
        jacobian = to_array(visit.jacobian)[lungs]
        mean = float(jacobian.mean()) if jacobian.size else 1.0
        share = _abnormal_share(visit)
        recovery = 1.0 - share / first if first >= MEASURABLE_SHARE else None
        score = _unchanged(jacobian)
        labels = to_array(visit.lungs)
        ml = grid_of(visit.lungs).voxel_ml
        motion = np.linalg.norm(visit.landmarks - baseline.landmarks, axis=1)
        visits.append(
            {
                "label": visit.label,
                "days": visit.days,
                "lung_volume_ml": float((labels > 0).sum() * ml),
                "right_volume_ml": float((labels == 1).sum() * ml),
                "left_volume_ml": float((labels == 2).sum() * ml),
                "mean_jacobian": mean,
                "jacobian_score": score,
                "jacobian_score_normalized": _unchanged(jacobian / mean),
                "abnormal_share": share,
                "tissue_recovery": recovery,
                "class": None if number == 0 else _classify(recovery, score, share),
                "mean_landmark_motion_mm": float(motion.mean()) if motion.size else None,
            }
        )
    return {"kind": patient.kind, "seed": patient.seed, "visits": visits}


def _abnormal_share(visit) -> float:
    lungs = to_array(visit.lungs) > 0
    return float((to_array(visit.abnormal) > 0)[lungs].mean()) if lungs.any() else 0.0


def _unchanged(jacobian: np.ndarray) -> float:
    return float(((jacobian >= 0.8) & (jacobian <= 1.2)).mean()) if jacobian.size else 0.0


def _classify(recovery: float | None, score: float, share: float) -> str:
    value = score if recovery is None else recovery
    if value >= COMPLETE and share < CLEAR_SHARE:
        return "complete"
    return "partial" if value >= PARTIAL else "persistent"
