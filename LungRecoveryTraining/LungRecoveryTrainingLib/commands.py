"""The commands that are not Lightning's: `prepare`, `test` and `benchmark`."""

from argparse import ArgumentError
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from LungRecoveryLib.cli.display import shown_progress
from LungRecoveryLib.resources import SHIPPED_WEIGHTS

from .arguments import PARSER, bad_argument
from .configs import config_path
from .datasets import LAYOUTS

COMMANDS = ("prepare", "test", "benchmark")


def run(arguments: list[str]) -> None:
    """Parse and run one of COMMANDS. Raises BadInput and its kin, for wrong arguments too."""
    parser = ArgumentParser(prog="lungrecovery-train", **PARSER)
    commands = parser.add_subcommands(required=True)
    prepare = ArgumentParser(
        **PARSER,
        description="Check a data set's folder, or make it, and write its manifest. "
        "Example: lungrecovery-train prepare synthetic --root my_cts --pairs 20",
    )
    commands.add_subcommand("prepare", prepare, help="make a manifest of a data set")
    commands.add_subcommand("test", _test_parser(), help="accuracy of weights on a manifest's pairs")
    commands.add_subcommand("benchmark", _benchmark_parser(), help="speed and memory of training and inference")
    _add_layouts(prepare)
    try:
        chosen = parser.parse_args(arguments)
    except ArgumentError as error:
        raise bad_argument(error, " ".join(arguments[:1])) from error
    {"prepare": _prepare, "test": _test, "benchmark": _benchmark}[chosen.subcommand](chosen[chosen.subcommand])


def _add_layouts(parser: ArgumentParser) -> None:
    """A subcommand for every layout, with the options of its `collect`."""
    layouts = parser.add_subcommands(required=True, dest="name")
    for layout in LAYOUTS.values():
        options = ArgumentParser(**PARSER, description=f"{layout.title}. {layout.download}")
        options.add_argument("--root", type=Path, required=True, help="the data set's folder")
        options.add_argument("--output", type=Path | None, help="the manifest to write (default ROOT/manifest.csv)")
        options.add_function_arguments(layout.collect, skip={"root", "output", "progress"}, sub_configs=False)
        layouts.add_subcommand(layout.name, options, help=layout.title)


def _prepare(chosen: Namespace) -> None:
    from .datasets import prepare

    options = chosen[chosen.name].as_dict()
    root, output = options.pop("root"), options.pop("output")
    with shown_progress() as progress:
        manifest = prepare(chosen.name, root, output, progress, **options)
    counts = {split: sum(row.split == split for row in manifest.rows) for split in ("train", "val", "test")}
    shown = ", ".join(f"{count} for {split}" for split, count in counts.items() if count)
    print(f"{manifest.path}: {len(manifest.rows)} scans{', ' if shown else ''}{shown}.")


def _test_parser() -> ArgumentParser:
    parser = ArgumentParser(
        **PARSER,
        description="Register every pair of a manifest's split and leave tables and figures. "
        "Example: lungrecovery-train test --manifest data/manifest.csv --output results",
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="the folder to write")
    parser.add_argument(
        "--weights", type=str, default=SHIPPED_WEIGHTS, help="a .safetensors file, or shipped weights' name"
    )
    parser.add_argument("--split", type=str, default="test", help="train, val or test")
    parser.add_argument("--mode", type=str, default="baseline", help="pairs: baseline, all, subjects or alone")
    parser.add_argument("--preset", type=str, default="standard", help="of the refinement beside the network alone")
    parser.add_argument("--without_network", type=bool, default=False, help="also refine from rest, for comparison")
    parser.add_argument("--training_run", type=Path | None, help="a run's folder whose curves are drawn")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu or cuda[:n]")
    parser.add_argument("--threads", type=int | None)
    parser.add_argument("--overwrite", type=bool, default=False, help="replace earlier results")
    return parser


def _test(chosen: Namespace) -> None:
    from .datasets import read_manifest
    from .evaluation import evaluate

    options = chosen.as_dict()
    manifest = read_manifest(options.pop("manifest"))
    with shown_progress() as progress:
        evaluate(
            options.pop("weights"), manifest, options.pop("split"), options.pop("output"), progress=progress, **options
        )
    print(f"{chosen.output}: cases.csv, summary.csv and figures.")


def _benchmark_parser() -> ArgumentParser:
    parser = ArgumentParser(
        **PARSER,
        description="Time a training step by stage and inference, beside torch VoxelMorph and MONAI's where installed. "
        "Example: lungrecovery-train benchmark --device cpu --shape [64,64,64] --batch 1",
    )
    parser.add_argument("--config", type=list[str], default=["default"], help="configs of the model, later ones win")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu or cuda[:n]")
    parser.add_argument("--shape", type=tuple[int, int, int] | None, help="voxels z, y, x")
    parser.add_argument("--batch", type=int | None)
    parser.add_argument("--output", type=Path | None, help="a JSON file for the figures")
    parser.add_argument("--peers", type=bool, default=True, help="measure other implementations too")
    return parser


def _benchmark(chosen: Namespace) -> None:
    from .benchmark import as_text, task_from
    from .benchmark import run as run_benchmark

    task = task_from([config_path(name) for name in chosen.config])
    with shown_progress() as progress:
        found = run_benchmark(
            task, chosen.device, chosen.shape, chosen.batch, chosen.output, chosen.peers, progress=progress
        )
    print(as_text(found))
