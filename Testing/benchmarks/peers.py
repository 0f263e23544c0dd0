"""Compare this project with its peers on the same pairs and the same machine, and print one table.

    python Testing/benchmarks/peers.py --pairs phantom real --output /tmp/peers --threads 2

Needs the extra `peers` (picsl-greedy, itk-elastix). Every method runs alone in a process of its own; what it left is
kept in the output folder, so a run that was stopped goes on where it was. The pairs are the project's phantoms (truth:
displacement and Jacobian) and the real pair of LUNGRECOVERY_TEST_DATA (truth: expert landmarks).
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "LungRecovery")]

from methods import METHODS, pairs, table  # noqa: E402


def child(arguments: list[str], threads: int) -> None:
    """Run a Python module here in a process that keeps to `threads`; raises RuntimeError with its last words."""
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    environment = os.environ | dict.fromkeys(variables, str(threads))
    environment["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    done = subprocess.run(
        [sys.executable, *arguments], cwd=HERE, env=environment, capture_output=True, encoding="utf-8", errors="replace"
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise RuntimeError(last)


def run_one(method: str, pair: str, output: Path, threads: int, again: bool) -> dict:
    """The measurements of a method on a pair, from the file they were kept in or, always with `again`, a new run."""
    kept = output / "results" / pair / f"{method}.json"
    if kept.is_file() and not again:
        result = json.loads(kept.read_text())
        if result["threads"] == threads:
            return result
    kept.parent.mkdir(parents=True, exist_ok=True)
    fresh = kept.with_suffix(".new")
    folder = output / "pairs" / pair
    child(
        [
            "-m",
            "methods.run",
            "--method",
            method,
            "--pair",
            str(folder),
            "--threads",
            str(threads),
            "--output",
            str(fresh),
        ],
        threads,
    )
    os.replace(fresh, kept)
    return json.loads(kept.read_text())


def collect(
    chosen: list[str], methods: list[str], output: Path, threads: int, again: bool = False
) -> dict[str, dict[str, dict]]:
    """Prepare the pairs, run what has not run yet, and return {pair: {method: run}}; failures are told and left out."""
    results = {}
    for pair in chosen:
        child(["-c", PREPARE, pair, str(output / "pairs" / pair)], threads)
        results[pair] = {}
        for method in methods:
            if pair.endswith("without-masks") and METHODS[method].needs_masks:
                continue
            try:
                run = results[pair][method] = run_one(method, pair, output, threads, again)
            except RuntimeError as failure:
                print(f"{pair}: {method} failed: {failure}", file=sys.stderr)
                continue
            mean = sum(run["errors_mm"]) / len(run["errors_mm"])
            print(f"{pair}: {method} {mean:.2f} mm in {run['seconds']:.1f} s", file=sys.stderr, flush=True)
    return results


# In a process of its own: what making a phantom needs shall not count as a method's memory.
PREPARE = (
    "import sys; from pathlib import Path; from methods import pairs; pairs.prepare(sys.argv[1], Path(sys.argv[2]))"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", choices=("phantom", "real"), default=["phantom", "real"])
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[101, 102], help="phantoms, two pairs a seed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True, help="folder for the pairs, the results and the table")
    parser.add_argument("--again", action="store_true", help="run anew what was kept, as after a change of a method")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    chosen = pairs.names(arguments.pairs, arguments.seeds)
    results = collect(chosen, arguments.methods, output, arguments.threads, arguments.again)
    made = table.tables(results)
    text = table.markdown(made)
    (output / "table.json").write_text(json.dumps({"threads": arguments.threads, "groups": made}, indent=1))
    (output / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
