"""Greedy (PICSL): affine, then diffeomorphic registration by local normalised cross-correlation.

Yushkevich et al., Fast automatic segmentation of hippocampal subfields and medial temporal lobe subregions in 3 Tesla
and 7 Tesla T2-weighted MRI, Alzheimer's & Dementia 12, 2016; https://greedy.readthedocs.io
"""

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk
from picsl_greedy import Greedy3D

from methods.common import Pair, affine_from_matrix, affine_matrix, binary, windowed

# A rim around the lung tells NCC where the pleura is: 1.16 instead of 1.21 mm on the real pair.
MASK_MARGIN_MM = 3.0
_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def register(pair: Pair, initial: sitk.AffineTransform, threads: int, iterations: str = "100x50x10") -> sitk.Transform:
    """Register a pair; `iterations` are those of the deformable part at 1/4, 1/2 and full resolution."""
    images = {
        "fixed": windowed(pair.fixed),
        "moving": windowed(pair.moving),
        "mask": binary(pair.fixed_lungs, MASK_MARGIN_MM),
    }
    greedy, log = Greedy3D(), io.StringIO()
    common = f"-d 3 -V 0 -float -threads {threads} -i fixed moving -gm mask"
    with TemporaryDirectory() as folder:  # Greedy takes matrices in from files only
        start, affine = Path(folder, "start.mat"), Path(folder, "affine.mat")
        np.savetxt(start, _LPS_RAS @ affine_matrix(initial) @ _LPS_RAS)
        greedy.execute(
            f"{common} -a -dof 12 -ia {start} -m NCC 4x4x4 -n 100x50x0 -o affine", out=log, affine=None, **images
        )
        matrix = np.array(greedy["affine"])
        np.savetxt(affine, matrix)
        greedy.execute(f"{common} -it {affine} -m NCC 2x2x2 -n {iterations} -o warp", out=log, warp=None)
    warp = sitk.DisplacementFieldTransform(sitk.Cast(greedy["warp"], sitk.sitkVectorFloat64))
    # The last of a composite is applied first: the warp on the fixed image's points, then the affine part.
    return sitk.CompositeTransform([affine_from_matrix(_LPS_RAS @ matrix @ _LPS_RAS), warp])
