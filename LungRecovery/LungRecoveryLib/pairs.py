"""One pair of scans, from files to a folder: what `lungrecovery register` runs."""

import json
from pathlib import Path
from typing import Any

from LungRecoveryLib import images
from LungRecoveryLib.anatomy import lungs as anatomy_lungs
from LungRecoveryLib.files import atomic_directory, atomic_write_json
from LungRecoveryLib.job import PairOptions
from LungRecoveryLib.progress import Progress, no_progress, part
from LungRecoveryLib.recovery import quality
from LungRecoveryLib.registration.register import Registration, register, write_registration
from LungRecoveryLib.results import plain
from LungRecoveryLib.system import limited_threads
from LungRecoveryLib.timepoints import Visit, about, check_overlap

_NAMES = ("fixed", "moving")


def register_pair(
    fixed: Path,
    moving: Path,
    output: Path,
    fixed_lungs: Path | None = None,
    moving_lungs: Path | None = None,
    options: PairOptions | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Register a follow-up onto its baseline and leave the folder of `write_registration`, with the quality verdict.

    Returns what `registration.json` then holds. Raises BadInput for inputs that cannot be used, before anything slow.
    """
    options = options or PairOptions()
    inputs = [path for path in (fixed, moving, fixed_lungs, moving_lungs) if path is not None]
    with limited_threads(options.threads), atomic_directory(output, overwrite, inputs) as folder:
        scans = images.read_scans(
            [fixed, moving], None, options.allow_different_patients, progress=part(progress, 0.0, 0.05)
        )
        masks = [
            None if path is None else anatomy_lungs.label_sides(images.read_mask(path, scan.image), scan.image)
            for path, scan in zip((fixed_lungs, moving_lungs), scans, strict=True)
        ]
        for i, mask in enumerate(masks):
            if mask is None:
                share = part(progress, 0.05 + 0.1 * i, 0.15 + 0.1 * i, f"{_NAMES[i]}: ")
                with about(scans[i].name):
                    masks[i] = anatomy_lungs.segment_lungs(scans[i].image, share)
        visits = [Visit(name, name, None, scan, mask) for name, scan, mask in zip(_NAMES, scans, masks, strict=True)]
        check_overlap(*visits)
        return _register(folder, visits, options, part(progress, 0.25, 1.0))


def register_visits(
    fixed: Visit, moving: Visit, options: PairOptions, progress: Progress, uncertainty: bool = False
) -> Registration:
    """Register a follow-up (moving), its lungs known, onto the baseline (fixed), with its uncertainty if asked for."""
    return register(
        fixed.scan.image,
        moving.scan.image,
        fixed.lungs,
        moving.lungs,
        preset=options.preset,
        device=options.device,
        seed=options.seed,
        spacing_mm=options.spacing_mm,
        native_maps=options.native_maps,
        weights=options.weights,
        uncertainty=uncertainty,
        progress=progress,
    )


def _register(folder: Path, visits: list[Visit], options: PairOptions, progress: Progress) -> dict[str, Any]:
    fixed, moving = visits
    result = register_visits(fixed, moving, options, part(progress, 0.0, 0.9))
    progress("quality", 0.92)
    judged = quality.assess(result, moving.lungs)
    progress("write", 0.95)
    write_registration(result, folder)
    path = folder / "registration.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    warnings = [w for visit in visits for w in visit.scan.warnings] + judged.pop("warnings") + list(result.notes)
    content |= {"quality": plain(judged), "reliable": judged["verdict"] != "fail", "warnings": warnings}
    atomic_write_json(path, content)
    progress("done", 1.0)
    return content
