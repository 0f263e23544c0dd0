"""Data sets: their layouts on disk, one manifest for all, and their pairs as samples."""

from pathlib import Path

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.progress import Progress, no_progress

from . import bimcv, covid_ct_plus, dirlab, folder, learn2reg, oasis, phantoms, stoic, synthetic
from .layout import Layout, make_folder
from .manifest import Manifest, Row, is_json, read_manifest, write_manifest
from .splits import split_by_patient

__all__ = ["LAYOUTS", "Layout", "Manifest", "Row", "prepare", "read_manifest", "split_by_patient", "write_manifest"]

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        stoic.LAYOUT,
        bimcv.LAYOUT,
        covid_ct_plus.LAYOUT,
        dirlab.LAYOUT_4DCT,
        dirlab.LAYOUT_COPDGENE,
        learn2reg.LAYOUT,
        oasis.LAYOUT,
        phantoms.LAYOUT,
        folder.LAYOUT,
        synthetic.LAYOUT,
    )
}


def prepare(name: str, root: Path, output: Path | None = None, progress: Progress = no_progress, **options) -> Manifest:
    """Check a data set in the folder `root` (or make it there) and write its manifest, `root`/manifest.csv by default.

    Converted files go beside the manifest. `options` are those of the layout, see :attr:`Layout.options`. Raises
    BadInput for a data set that is not known or not whole.
    """
    if name not in LAYOUTS:
        raise BadInput(f"there is no data set {name!r}; choose one of {', '.join(sorted(LAYOUTS))}")
    root = Path(root)
    path = Path(output) if output is not None else root / "manifest.csv"
    is_json(path)  # a name that cannot be is told before the work
    LAYOUTS[name].check_root(root)
    make_folder(path.parent)
    rows = LAYOUTS[name].rows(root, path.parent, progress, **options)
    return write_manifest(rows, path)
