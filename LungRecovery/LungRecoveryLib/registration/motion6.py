"""Rigid maps of space: six parameters, 4x4 matrices in LPS and RAS, and the rotation nearest to an affine map.

A rigid map is a `SimpleITK.Euler3DTransform` from fixed to moving points, LPS mm.
"""

import numpy as np
import SimpleITK as sitk

from ..errors import BadInput

# LPS and RAS differ by the sign of x and y.
_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A map that squeezes a direction to less than this share of another keeps no rotation to speak of.
_FLAT = 1e-3


def rigid(rotation: np.ndarray, centre: np.ndarray, translation: np.ndarray) -> sitk.Euler3DTransform:
    """The map p -> R (p - centre) + centre + translation of a rotation (3, 3), LPS mm."""
    transform = sitk.Euler3DTransform()
    transform.SetCenter(np.asarray(centre, float).tolist())
    transform.SetMatrix(np.asarray(rotation, float).ravel().tolist(), 1e-6)
    transform.SetTranslation(np.asarray(translation, float).tolist())
    return transform


def rotation_of(vector: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) about a vector (3,) by its length in radians."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(vector).as_matrix()


def matrix_4x4(transform: sitk.Transform) -> np.ndarray:
    """The 4x4 matrix of a linear transform, from fixed to moving points in LPS mm.

    Raises BadInput for a transform that is not linear.
    """
    columns = [transform.TransformPoint(tuple(p)) for p in (np.zeros(3), *np.eye(3))]
    offset = np.array(columns[0])
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([np.array(c) - offset for c in columns[1:]], axis=1)
    matrix[:3, 3] = offset
    probe = np.array([37.0, -91.0, 53.0])
    if not transform.IsLinear() or not np.allclose(
        transform.TransformPoint(tuple(probe)), matrix[:3, :3] @ probe + offset, atol=1e-4
    ):
        raise BadInput("the transform is not linear: give a rigid or affine one")
    return matrix


def in_ras(matrix_lps: np.ndarray) -> np.ndarray:
    """A 4x4 matrix between LPS points as one between RAS points, and the other way round."""
    return _LPS_RAS @ matrix_lps @ _LPS_RAS


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) nearest to a matrix: its orthogonal polar factor, so that scaling and shear are gone.

    Raises BadInput for a matrix that mirrors or flattens space, which no rotation is near to. Source: Higham, SIAM
    Journal on Scientific and Statistical Computing 1986, by the singular value decomposition.
    """
    left, sizes, right = np.linalg.svd(np.asarray(matrix, float))
    if np.linalg.det(matrix) <= 0 or sizes[-1] < _FLAT * sizes[0]:
        raise BadInput("the transform mirrors or flattens space: give one that a rotation is near to")
    return left @ right


def nearest_rigid(transform: sitk.Transform, centre: np.ndarray) -> sitk.Euler3DTransform:
    """The rigid map with the rotation nearest to a linear transform that takes `centre` (LPS mm) where it does."""
    matrix = matrix_4x4(transform)
    moved = matrix[:3, :3] @ centre + matrix[:3, 3]
    return rigid(nearest_rotation(matrix[:3, :3]), centre, moved - centre)


def parameters(transform: sitk.Euler3DTransform) -> dict:
    """The six parameters as JSON values: degrees about LPS x, y and z (the rotation is Rz Rx Ry, as ITK's), mm along
    them, and the centre of the rotation."""
    angles = (transform.GetAngleX(), transform.GetAngleY(), transform.GetAngleZ())
    return {
        "rotation_degrees": [float(a) for a in np.degrees(angles)],
        "translation_mm": [float(t) for t in transform.GetTranslation()],
        "centre_mm": [float(c) for c in transform.GetCenter()],
    }


def text(matrix: np.ndarray) -> str:
    """A 4x4 matrix as four lines of four numbers."""
    return "".join(" ".join(f"{value:.12g}" for value in row) + "\n" for row in matrix)
