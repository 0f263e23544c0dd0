"""Run one method on one pair in a process of its own and write what was measured: ``python -m methods.run``."""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import grids
from methods import METHODS, measure, pairs
from methods.common import Pair, align_lungs


def peak_memory_gb() -> float:
    """The most memory this process has had resident, in GB.

    Linux hands ru_maxrss of the starting process on to its child, so its own high-water mark is read there.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def run(method_name: str, folder: Path, threads: int) -> dict:
    """Register the pair in `folder` and measure: seconds of computing alone, peak memory, errors, folds."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    method = METHODS[method_name]
    pair, masks_given = pairs.read(folder)
    register = method.load()
    given = pair if masks_given else Pair(pair.fixed, pair.moving, None, None)
    started = time.perf_counter()
    initial = align_lungs(pair.fixed_lungs, pair.moving_lungs) if masks_given else None
    transform = register(given, initial, threads, **method.options)
    seconds = time.perf_counter() - started
    result = {"method": method_name, "seconds": seconds, "peak_memory_gb": peak_memory_gb(), "threads": threads}
    return result | measured(transform, pair, folder)


def measured(transform: sitk.Transform, pair: Pair, folder: Path) -> dict:
    """The landmark errors, folds and Jacobian error of a transform on the pair of a folder."""
    jacobian = measure.jacobian_determinant(transform, grids.grid_of(pair.fixed))
    errors = measure.landmark_errors(transform, *pairs.read_landmarks(folder))
    if not (np.isfinite(errors).all() and np.isfinite(jacobian).all()):
        raise ValueError("the transform is not finite")
    result = {
        "errors_mm": [round(float(e), 4) for e in errors],
        "folding_percent": measure.folding_percent(jacobian, pair.fixed_lungs),
    }
    truth = pairs.read_jacobian(folder)
    if truth is not None:
        result["log_jacobian_error"] = measure.log_jacobian_error(jacobian, truth, pair.fixed_lungs)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", required=True, choices=METHODS)
    parser.add_argument("--pair", required=True, type=Path, help="folder of the prepared pair")
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--output", required=True, type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    arguments.output.write_text(json.dumps(run(arguments.method, arguments.pair, arguments.threads), indent=1))


if __name__ == "__main__":
    main()
