"""Weights on the pairs of a manifest: measures of every case and method, tables, figures, in one folder."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from LungRecoveryLib import RESEARCH_USE_ONLY, __version__
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.files import atomic_directory, atomic_write_json, atomic_write_text
from LungRecoveryLib.grids import grid_of, isotropic_grid
from LungRecoveryLib.progress import Progress, no_progress, part
from LungRecoveryLib.registration.register import Registration, choose_device
from LungRecoveryLib.registration.register import register as register_pair
from LungRecoveryLib.registration.weights import NO_NETWORK
from LungRecoveryLib.results import plain
from LungRecoveryLib.timepoints import about

from ..datasets.manifest import Manifest, Row
from ..datasets.samples import Scan, pair_name, read_row
from ..memory import PeakMemory
from . import charts
from .measures import HIGHER_IS_BETTER, MEASURES, Measures, Truth, after, before
from .pictures import Pictures, save_overlay

BEFORE, NETWORK, REFINED, WITHOUT = "before", "network", "refined", "without network"
STATISTICS = ("mean", "sd", "median", "worst", "count")
_PREVIEW = "preview"
# What cases are ranked by, the first that every case has, and what the chart of the cases calls it.
_RANKED = {
    "tre_mm": "landmark error",
    "field_mm": "error of the displacement",
    "label_hd95_mm": "HD95 of the labels",
    "lung_hd95_mm": "HD95 of the lungs",
}
_SHOWN = {"tre_mm": "TRE {:.2f} mm", "field_mm": "error {:.2f} mm", "lung_dice": "Dice {:.3f}", "ssim": "SSIM {:.3f}"}


@dataclass(eq=False)
class _Case:
    """A pair's measures by method, and pictures of it."""

    name: str
    pictures: Pictures
    measures: dict[str, Measures] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def evaluate(
    weights: str | Path,
    manifest: Manifest,
    split: str,
    output: str | Path,
    spacing_mm: float = 1.5,
    device: str = "auto",
    preset: str = "standard",
    refine: bool = True,
    progress: Progress = no_progress,
    *,
    mode: str = "baseline",
    without_network: bool = False,
    training_run: str | Path | None = None,
    threads: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    register: Callable[..., Registration] = register_pair,
) -> dict:
    """Register every pair of a split and leave tables and figures in the folder `output`, whole or not at all.

    Parameters: `weights` as `registration.register.register` takes them (a .safetensors file, the name of shipped ones,
    or "none"); the working grid's `spacing_mm`; the `preset` of refinement, which is measured beside the network alone
    unless `refine` is off; `mode` of the pairs (see `Manifest.pairs`); `without_network`: also refine from rest, for
    comparison; `training_run`: a folder with the log whose curves are drawn; `overwrite` an earlier evaluation.

    Leaves cases.csv (a row a case and method), summary.csv (mean, SD, median, worst and count of every measure),
    evaluation.json, and the figures cases.png, overlay_worst.png, overlay_median.png, overlay_best.png and curves.png.
    The measures are those of `measures.MEASURES`. Returns what evaluation.json holds. Raises BadInput for a split
    without pairs, scans that cannot be used and whatever `register` refuses.
    """
    methods = _methods(str(weights), preset, refine, without_network)
    pairs = manifest.pairs(split, mode)
    if not pairs:
        raise BadInput(f"{manifest.path}: its split {split} has no pair to evaluate; choose another split or mode")
    curves = None if training_run is None else charts.read_curves(Path(training_run))
    inputs = [manifest.path] + [file for pair in pairs for row in pair for file in row.files.values()]
    settings = {"device": device, "threads": threads, "seed": seed, "spacing_mm": spacing_mm}
    with atomic_directory(output, overwrite, inputs) as folder:
        cases, used = [], {}
        for number, pair in enumerate(pairs):
            report = part(progress, number / len(pairs), (number + 1) / len(pairs), f"{pair_name(*pair)}: ")
            cases.append(_case(pair, methods, settings, register, number == 0, used, report))
        summary = _summaries(cases, [BEFORE, *methods])
        content = _about(manifest, split, mode, settings, used, cases, summary)
        _write_tables(folder, cases, summary)
        _write_figures(folder, cases, content, curves)
        atomic_write_json(folder / "evaluation.json", content)
    progress("done", 1.0)
    return content


def _methods(weights: str, preset: str, refine: bool, without_network: bool) -> dict[str, tuple[str, str]]:
    """What is compared, by name: (preset, weights)."""
    if weights == NO_NETWORK:
        return {WITHOUT: (preset, NO_NETWORK)}
    methods = {NETWORK: (_PREVIEW, weights)}
    if refine and preset != _PREVIEW:
        methods[REFINED] = (preset, weights)
    if without_network:
        methods[WITHOUT] = (preset, NO_NETWORK)
    return methods


def _case(pair: tuple[Row, Row], methods, settings: dict, register, first: bool, used: dict, progress) -> _Case:
    with about(pair_name(*pair)):
        fixed, moving = _read(pair)
        truth = None if pair[1].displacement is None else Truth.read(pair[1].displacement, fixed)
        grid = isotropic_grid(grid_of(fixed.image), settings["spacing_mm"])
        case = _Case(pair_name(*pair), Pictures.of(fixed.image, fixed.mask))
        case.measures[BEFORE] = before(fixed, moving, truth, grid)
        case.pictures.add(BEFORE, moving.image)
        images = (fixed.image, moving.image, fixed.mask, moving.mask)
        where = choose_device(settings["device"])
        for number, (method, (preset, weights)) in enumerate(methods.items()):
            options = {**settings, "preset": preset, "weights": weights}
            if first:  # loads what the first call of all has to load, at an eighth of the work
                register(*images, **{**options, "spacing_mm": 2 * settings["spacing_mm"]})
            report = part(progress, number / len(methods), (number + 1) / len(methods), f"{method}: ")
            with PeakMemory(where) as memory:
                made = register(*images, **options, progress=report)
            case.measures[method] = after(fixed, moving, truth, made) | {"memory_mb": memory.mb}
            case.pictures.add(method, moving.image, made.transform)
            case.notes += [f"{case.name}, {method}: {note}" for note in made.notes]
            used[method] = {
                "preset": preset,
                "weights_sha256": made.weights_sha256,
                "device": made.device,
                "settings": made.settings,
            }
    return case


def _read(pair: tuple[Row, Row]) -> tuple[Scan, Scan]:
    scans = []
    for row in pair:
        with about(row.name):
            scans.append(read_row(row))
    return scans[0], scans[1]


# ------------------------------------------------------------------------------------------------------------- tables


def _summaries(cases: Sequence[_Case], methods: Sequence[str]) -> dict[str, dict[str, Measures]]:
    """{method: {statistic: {measure: value}}} over the cases that have the measure."""
    return {method: _statistics([case.measures[method] for case in cases]) for method in methods}


def _statistics(rows: Sequence[Measures]) -> dict[str, Measures]:
    table: dict[str, Measures] = {statistic: dict.fromkeys(MEASURES) for statistic in STATISTICS}
    for measure in MEASURES:
        values = np.array([row[measure] for row in rows if row.get(measure) is not None], float)
        table["count"][measure] = len(values)
        if len(values):
            table["mean"][measure] = float(values.mean())
            table["sd"][measure] = float(values.std(ddof=1)) if len(values) > 1 else None
            table["median"][measure] = float(np.median(values))
            table["worst"][measure] = float(values.min() if measure in HIGHER_IS_BETTER else values.max())
    return table


def _write_tables(folder: Path, cases: Sequence[_Case], summary: dict) -> None:
    rows = [[c.name, method, *_cells(m)] for c in cases for method, m in c.measures.items()]
    _write_csv(folder / "cases.csv", ["case", "method", *MEASURES], rows)
    rows = [[method, name, *_cells(m)] for method, table in summary.items() for name, m in table.items()]
    _write_csv(folder / "summary.csv", ["method", "statistic", *MEASURES], rows)


def _cells(measures: Measures) -> list[str]:
    return ["" if measures.get(name) is None else f"{measures[name]:.6g}" for name in MEASURES]


def _write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    atomic_write_text(path, text.getvalue())


def _about(manifest: Manifest, split: str, mode: str, settings: dict, used: dict, cases, summary) -> dict:
    measure, order = _ranking(cases)
    places = {"best": 0, "median": len(order) // 2, "worst": -1}
    return plain(
        {
            "notice": RESEARCH_USE_ONLY,
            "manifest": manifest.path.name,
            "split": split,
            "pairs": mode,
            "cases": len(cases),
            "settings": settings,
            "methods": used,
            "summary": summary,
            "ranked_by": measure,
            "shown": {name: cases[order[place]].name for name, place in places.items()},
            "notes": [note for case in cases for note in case.notes],
            "versions": {"lungrecovery": __version__, "torch": torch.__version__},
        }
    )


def _ranking(cases: Sequence[_Case]) -> tuple[str, list[int]]:
    """What cases are ranked by after the last method, and their numbers, best first."""
    last = [list(case.measures.values())[-1] for case in cases]
    for measure in _RANKED:
        if all(row[measure] is not None for row in last):
            return measure, sorted(range(len(cases)), key=lambda i: last[i][measure])
    return "ssim", sorted(range(len(cases)), key=lambda i: -(last[i]["ssim"] or 0.0))


# ------------------------------------------------------------------------------------------------------------ figures


def _write_figures(folder: Path, cases: Sequence[_Case], content: dict, curves) -> None:
    by_name = {case.name: case for case in cases}
    for place, name in content["shown"].items():
        case = by_name[name]
        captions = {method: _caption(measures) for method, measures in case.measures.items()}
        save_overlay(case.pictures, f"{name} ({place})", captions, folder / f"overlay_{place}.png")
    measure = content["ranked_by"] if content["ranked_by"] in _RANKED else "lung_hd95_mm"
    values = {method: [case.measures[method][measure] for case in cases] for method in content["summary"]}
    charts.save_cases([case.name for case in cases], values, _RANKED[measure], folder / "cases.png")
    if curves is not None:
        charts.save_curves(curves, folder / "curves.png")


def _caption(measures: Measures) -> str:
    shown = [form.format(measures[name]) for name, form in _SHOWN.items() if measures[name] is not None]
    return ", ".join(shown[:2])
