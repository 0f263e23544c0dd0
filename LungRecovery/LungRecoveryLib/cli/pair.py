"""`lungrecovery register` and `lungrecovery evaluate`: one pair of scans."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from LungRecoveryLib.cli.common import (
    Device,
    Json,
    NoNetwork,
    Overwrite,
    Preset,
    Seed,
    Threads,
    Weights,
    chosen_weights,
    number,
    print_json,
    print_table,
    set_up,
    work,
)
from LungRecoveryLib.errors import BadInput, QualityGateFailed
from LungRecoveryLib.resources import SHIPPED_WEIGHTS

if TYPE_CHECKING:
    import SimpleITK as sitk

    from LungRecoveryLib.evaluate import LandmarkPairs


def register(
    fixed: Annotated[Path, typer.Option(help="The baseline: a file or a DICOM folder.")],
    moving: Annotated[Path, typer.Option(help="The follow-up: a file or a DICOM folder.")],
    output: Annotated[Path, typer.Option(help="The folder to make.")],
    fixed_lungs: Annotated[Path | None, typer.Option(help="The baseline's lung mask (default: segmented).")] = None,
    moving_lungs: Annotated[Path | None, typer.Option(help="The follow-up's lung mask (default: segmented).")] = None,
    task: Annotated[str, typer.Option(metavar="lung|brain", help="What is registered.")] = "lung",
    fixed_mask: Annotated[Path | None, typer.Option(help="The fixed brain (default: what is not background).")] = None,
    moving_mask: Annotated[Path | None, typer.Option(help="The moving brain.")] = None,
    fixed_labels: Annotated[Path | None, typer.Option(help="Labels of the fixed brain, for Dice.")] = None,
    moving_labels: Annotated[Path | None, typer.Option(help="The same labels of the moving brain.")] = None,
    preset: Preset = None,
    weights: Weights = None,
    no_network: NoNetwork = False,
    spacing: Annotated[
        float | None,
        typer.Option(min=0.5, max=10, help="Voxel size of registration and maps in mm (default 1.5; brains 1)."),
    ] = None,
    native_maps: Annotated[bool, typer.Option("--native-maps", help="Maps on the baseline's own voxels.")] = False,
    allow_different_patients: Annotated[
        bool, typer.Option("--allow-different-patients", help="Accept scans whose patient IDs differ.")
    ] = False,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Register one follow-up onto its baseline, or with --task brain one brain onto another.

    Leaves the transform and its inverse, the Jacobian map, the warped follow-up and measures of quality.
    """
    from LungRecoveryLib import pairs

    set_up(device, threads)
    brain_files = {"mask": (fixed_mask, moving_mask), "labels": (fixed_labels, moving_labels)}
    if task == "brain":
        if fixed_lungs or moving_lungs:
            raise BadInput("--fixed-lungs and --moving-lungs are for lungs: give --fixed-mask and --moving-mask")
        _register_brains(
            fixed, moving, output, brain_files, preset, chosen_weights(weights, no_network), spacing, overwrite, seed,
            device, threads, as_json,
        )  # fmt: skip
        return
    if task != "lung":
        raise BadInput(f"--task {task}: use lung or brain")
    if any(path for files in brain_files.values() for path in files):
        raise BadInput("masks and labels of brains need --task brain: for lungs give --fixed-lungs and --moving-lungs")
    options = pairs.PairOptions(
        preset=preset or "standard",
        weights=chosen_weights(weights, no_network) or SHIPPED_WEIGHTS,
        spacing_mm=1.5 if spacing is None else spacing,
        native_maps=native_maps,
        device=device,
        threads=threads,
        seed=seed,
        allow_different_patients=allow_different_patients,
    )
    with work() as progress:
        summary = pairs.register_pair(
            fixed, moving, output, fixed_lungs, moving_lungs, options, overwrite=overwrite, progress=progress
        )
    if as_json:
        print_json({"output": str(output.resolve()), **summary})
    else:
        quality = summary["quality"]
        similarity = f"{quality['similarity_before']:.3f} -> {quality['similarity_after']:.3f}"
        typer.echo(f"verdict: {quality['verdict']} ({' '.join(quality['reasons'])})")
        typer.echo(f"lung Dice {number(quality['lung_dice'], 3)}, similarity {similarity}")
        typer.echo(f"results: {output}")
    for warning in summary["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    if summary["quality"]["verdict"] == "fail":
        raise QualityGateFailed("the registration failed its quality gate; the results are kept and marked unreliable")


def _register_brains(
    fixed, moving, output, files, preset, weights, spacing, overwrite, seed, device, threads, as_json
) -> None:
    from LungRecoveryLib import brain_pairs

    chosen = {"preset": preset, "weights": weights, "spacing_mm": spacing}
    options = brain_pairs.BrainOptions(
        device=device, threads=threads, seed=seed, **{key: value for key, value in chosen.items() if value is not None}
    )
    with work() as progress:
        summary = brain_pairs.register_brain_pair(
            fixed, moving, output, files["mask"], files["labels"], options, overwrite, progress
        )
    for note in summary["notes"]:
        typer.echo(note, err=True)
    if as_json:
        print_json({"output": str(output.resolve()), **summary})
        return
    typer.echo(f"similarity {summary['similarity_before']:.3f} -> {summary['similarity_after']:.3f}")
    if "labels" in summary:
        before, after = (number(summary["labels"][when]["mean_dice"], 3) for when in ("before", "after"))
        typer.echo(f"mean Dice of {len(summary['labels']['after']['labels'])} labels {before} -> {after}")
    typer.echo(f"folded voxels {summary['folding_percent']:.4f} %")
    typer.echo(f"results: {output}")


def evaluate(
    transform: Annotated[
        Path | None,
        typer.Option(help="The transform from the fixed to the moving scan, or the folder of `register` or `rigid`."),
    ] = None,
    landmarks: Annotated[
        Path | None, typer.Option(help="Matching points, CSV in LPS mm: x, y, z of the fixed scan, then of the moving.")
    ] = None,
    fixed_landmarks: Annotated[
        Path | None, typer.Option(help="The fixed scan's points: CSV, Slicer markups or DIR-Lab text.")
    ] = None,
    moving_landmarks: Annotated[Path | None, typer.Option(help="The moving scan's points, in the same order.")] = None,
    fixed: Annotated[Path | None, typer.Option(help="The fixed scan; it places the voxels of DIR-Lab points.")] = None,
    moving: Annotated[
        Path | None, typer.Option(help="The moving scan; it places DIR-Lab points and gives the snapped error.")
    ] = None,
    fixed_labels: Annotated[Path | None, typer.Option(help="A label map of the fixed scan.")] = None,
    moving_labels: Annotated[Path | None, typer.Option(help="The same labels of the moving scan.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a registration by landmarks or labels.

    Landmark errors are sub-voxel and, with --moving, also snapped to its voxels; labels give Dice and HD95.
    """
    from LungRecoveryLib import evaluate as measures
    from LungRecoveryLib import images

    if (fixed_landmarks is None) != (moving_landmarks is None):
        raise BadInput("points of one scan only: give both --fixed-landmarks and --moving-landmarks")
    if (fixed_labels is None) != (moving_labels is None):
        raise BadInput("labels of one scan only: give both --fixed-labels and --moving-labels")
    if landmarks is None and fixed_landmarks is None and fixed_labels is None:
        raise BadInput("nothing to measure: give --landmarks, or points or labels of both scans")
    if landmarks is not None and fixed_landmarks is not None:
        raise BadInput("points are given twice: give either --landmarks or one file for each scan")
    loaded = _transform(transform)
    result: dict[str, Any] = {}
    pairs, snap_to = _landmarks(landmarks, fixed_landmarks, moving_landmarks, fixed, moving)
    if pairs is not None:
        result["landmarks"] = measures.target_registration_error(loaded, pairs.fixed, pairs.moving, snap_to)
    if fixed_labels is not None:
        maps = images.read_image(fixed_labels), images.read_image(moving_labels)
        result["labels"] = measures.label_overlap(*maps, loaded)
    if as_json:
        from LungRecoveryLib.results import plain

        print_json(plain(result))
        return
    if "landmarks" in result:
        _show_errors(result["landmarks"])
    if "labels" in result:
        _show_labels(result["labels"])


def _transform(path: Path | None) -> "sitk.Transform | None":
    """The transform of a file, or of the folder that `register` made."""
    import SimpleITK as sitk

    if path is None:
        return None
    if path.is_dir():
        path = path / ("transform.tfm" if (path / "transform.tfm").is_file() else "transform.h5")
    if not path.is_file():
        raise BadInput(f"{path}: does not exist; give the transform.h5 of a registration")
    try:
        return sitk.ReadTransform(str(path))
    except RuntimeError:
        raise BadInput(f"{path}: cannot be read as a transform; give an ITK transform such as transform.h5") from None


def _landmarks(
    both: Path | None, fixed: Path | None, moving: Path | None, fixed_scan: Path | None, moving_scan: Path | None
) -> "tuple[LandmarkPairs | None, Any]":
    """The matching points, and the grid to which their error is snapped (None: not)."""
    from LungRecoveryLib import evaluate as measures
    from LungRecoveryLib import images
    from LungRecoveryLib.grids import grid_of

    grids = [None if scan is None else grid_of(images.read_scan(scan).image) for scan in (fixed_scan, moving_scan)]
    if both is not None:
        return measures.read_landmarks(both), grids[1]
    if fixed is None:
        return None, None
    pairs = measures.read_landmarks(fixed, moving, *grids)
    return pairs, grids[1] or pairs.moving_grid


def _show_errors(errors: dict[str, Any]) -> None:
    header = ["landmarks, mm", "mean", "SD", "median", "p95", "max"]
    rows = [
        [name, *(number(part[key]) for key in ("mean_mm", "sd_mm", "median_mm", "p95_mm", "max_mm"))]
        for name, part in (("before", errors["initial"]), ("sub-voxel", errors), ("snapped", errors["snapped"]))
        if part is not None
    ]
    print_table(header, rows)
    typer.echo(f"{errors['count']} landmarks")


def _show_labels(overlap: dict[str, Any]) -> None:
    from LungRecoveryLib.evaluate import named_labels

    rows = [[label, number(row["dice"], 3), number(row["hd95_mm"])] for label, row in overlap["labels"].items()]
    rows.append(["mean", number(overlap["mean_dice"], 3), number(overlap["mean_hd95_mm"])])
    print_table(["label", "Dice", "HD95 mm"], rows)
    for sentence in named_labels(overlap):
        typer.echo(sentence)
