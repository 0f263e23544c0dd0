"""What the parts of the network are worth: each variant learns the same few steps, then registers the same pairs.

    python Testing/benchmarks/ablation.py --output build/ablation [--pairs phantom real] [--seeds 101]

Variants differ from ablation.yaml by what VARIANTS says. Each is trained by `lungrecovery-train fit`, resumed if
it was stopped; trainings and measurements are kept, so that a second call goes on. The pairs are those of peers.py.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), *(str(HERE.parents[1] / name) for name in ("LungRecovery", "LungRecoveryTraining"))]

from LungRecoveryLib.files import atomic_write_json  # noqa: E402
from LungRecoveryLib.registration.register import register  # noqa: E402
from LungRecoveryLib.resources import NO_NETWORK, SHIPPED_WEIGHTS  # noqa: E402
from LungRecoveryTrainingLib.cli import main as train  # noqa: E402
from methods import pairs, table  # noqa: E402
from methods.run import measured  # noqa: E402

COARSE = {"downsample": 2, "encoder": [32, 64, 96], "decoder": [64], "final": [64], "passes": 2, "correlation": 2}
FINE = {"downsample": 1, "encoder": [16, 32, 48, 64], "decoder": [48, 32], "final": [32], "correlation": 1}


def network(levels: list[dict], probabilistic: bool = False) -> dict:
    """The settings of a network whose levels learn together, on pairs averaged to 6 mm."""
    return {
        "architecture": {"name": "pyramid", "probabilistic": probabilistic, "levels": levels},
        "phases": [{"levels": len(levels), "train": list(range(len(levels))), "share": 1.0, "coarsened": 2}],
    }


# What ablation.yaml leaves open, for each variant.
VARIANTS = {
    "one level, one pass": network([FINE | {"passes": 1}]),
    "one level, four passes": network([FINE | {"passes": 4}]),
    "multi-level": network([COARSE, FINE | {"passes": 4}]),
    "multi-level, probabilistic": network([COARSE, FINE | {"passes": 4}], probabilistic=True)
    | {"objective": {"kl": 0.0001, "likelihood": 0.05}},
}


def trained(variant: str, folder: Path) -> Path:
    """The weights of a variant, learnt now unless they are there already."""
    logs = folder / "runs"
    found = sorted(logs.glob("lung/version_*/weights.safetensors"))
    if found:
        return found[-1]
    folder.mkdir(parents=True, exist_ok=True)
    change = folder / "variant.yaml"
    change.write_text(yaml.safe_dump({"model": VARIANTS[variant]}), encoding="utf-8")
    arguments = ["fit", "--config", "default", "--config", str(HERE / "ablation.yaml"), "--config", str(change)]
    arguments += ["--trainer.logger.init_args.save_dir", str(logs)]
    if list(logs.glob("lung/version_*/checkpoints/last.ckpt")):
        arguments += ["--ckpt_path", "last"]
    if train(arguments) != 0:
        raise SystemExit(f"{variant}: the training failed")
    return sorted(logs.glob("lung/version_*/weights.safetensors"))[-1]


def slug(variant: str) -> str:
    """A variant's name as a file's."""
    return variant.replace(", ", "-").replace(" ", "-")


def weights_of(variant: str, output: Path) -> str | Path:
    """What `register` takes as the weights of a row of the table."""
    known = {"no network": NO_NETWORK, "shipped weights": SHIPPED_WEIGHTS}
    return known[variant] if variant in known else trained(variant, output / "variants" / slug(variant))


def run(variant: str, preset: str, name: str, output: Path) -> dict:
    """The measurements of a variant on a pair, kept from an earlier call or made now."""
    kept = output / "results" / name / f"{slug(variant)}-{preset}.json"
    if not kept.is_file():
        folder = output / "pairs" / name
        pair, _ = pairs.read(folder)
        weights = weights_of(variant, output)
        started = time.process_time()
        made = register(
            pair.fixed, pair.moving, pair.fixed_lungs, pair.moving_lungs, preset=preset, device="cpu", weights=weights
        )
        seconds = time.process_time() - started
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(kept, measured(made.transform, pair, folder) | {"method": variant, "seconds": seconds})
    return json.loads(kept.read_text(encoding="utf-8"))


def rows(variants: list[str], chosen: list[str], output: Path) -> list[str]:
    """The table's lines, variant by variant: the network alone, then refined; landmark errors in mm (without the real
    pair's wrong landmark), error of log J on phantoms, folds in percent, seconds of processor time."""
    lines = ["| network | preset | " + " | ".join(chosen) + " | abs log J error | folds % | processor s |"]
    lines.append("| --- | --- |" + " ---: |" * (len(chosen) + 3))
    for variant in variants:
        for preset in ("preview", "fast", "standard"):
            if variant == "no network" and preset == "preview":
                continue
            runs = [run(variant, preset, name, output) for name in chosen]
            figures = []
            for name, made in zip(chosen, runs, strict=True):
                errors = np.array(made["errors_mm"])
                wrong = [] if table.group_of(name) == "phantom" else [int(errors.argmax())]
                figures.append(f"{np.delete(errors, wrong).mean():.2f}")
            jacobian = [made["log_jacobian_error"] for made in runs if "log_jacobian_error" in made]
            figures.append(f"{np.mean(jacobian):.3f}" if jacobian else "")
            figures.append(f"{max(made['folding_percent'] for made in runs):.4f}")
            figures.append(f"{np.mean([made['seconds'] for made in runs]):.1f}")
            lines.append(f"| {variant} | {preset} | " + " | ".join(figures) + " |")
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", choices=("phantom", "real"), default=["phantom", "real"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[101], help="phantoms, two pairs a seed")
    parser.add_argument("--output", type=Path, required=True, help="folder of the trainings, pairs and results")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    chosen = [name for name in pairs.names(arguments.pairs, arguments.seeds) if not name.endswith("without-masks")]
    for name in chosen:
        pairs.prepare(name, output / "pairs" / name)
    print("\n".join(rows(["no network", *VARIANTS, "shipped weights"], chosen, output)))


if __name__ == "__main__":
    main()
