"""A cohort under fire: synthetic patients of two dates, one worker killed again and again, every row checked.

``python Testing/benchmarks/cohort.py --patients 200 --output build/cohort`` prints and leaves ``cohort.json``:

- the first `--undisturbed` patients without a cluster, in as many plain processes side by side as the cohort has
  workers: what a patient costs on this machine, and what the others must agree with;
- the same ones as an undisturbed cohort: its overhead is what it takes longer;
- all `--patients` (0: none) with a worker killed every `--kill-every` seconds: rows right, missing and doubled.

`--minutes` sets how long the last may take: fewer patients are tried, and the count says so.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from LungRecoveryLib.cohort.manifest import Patient
from LungRecoveryLib.cohort.patient import analyse_patient
from LungRecoveryLib.cohort.run import Cluster, run_cohort
from LungRecoveryLib.cohort.table import read_table
from LungRecoveryLib.images import write_image
from LungRecoveryLib.phantom import make_patient

EXTENT_MM = (308.0, 238.0, 322.0)
KINDS = ("recovering", "unchanged", "worsening")
MEASURES = ("volume_ml", "jacobian", "tissue_recovery", "mean_hu")


def make(number: int, spacing: float, folder: Path) -> Patient:
    """A synthetic patient of two dates on disk, unless it lies there already."""
    place = folder / f"p{number:03d}"
    if not (place / "truth.json").exists():
        place.mkdir(parents=True, exist_ok=True)
        size = tuple(round(extent / spacing) for extent in EXTENT_MM)
        patient = make_patient(KINDS[number % len(KINDS)], number, size, (spacing,) * 3, days=(0, 90))
        for index, visit in enumerate(patient.visits):
            write_image(visit.ct, place / f"{index}.nii.gz")
        (place / "truth.json").write_text(json.dumps(patient.truth()), encoding="utf-8")
    points = tuple({"path": str(place / f"{i}.nii.gz"), "days": 90.0 * i} for i in (0, 1))
    return Patient(f"P{number:03d}", f"p{number:03d}", KINDS[number % len(KINDS)], points)


def one_by_one(patients: list[Patient], settings: dict[str, Any], output: Path) -> list[dict[str, Any]]:
    """The records of patients analysed one after the other in this process."""
    return [analyse_patient(patient, settings, str(output)) for patient in patients]


def plain(
    patients: list[Patient], settings: dict[str, Any], output: Path, processes: int
) -> tuple[list[dict[str, Any]], float]:
    """The records of patients analysed in processes without a cluster, each its share, and the seconds it took."""
    shares = [patients[first::processes] for first in range(processes)]
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        given = [(share, settings, output / str(number)) for number, share in enumerate(shares)]
        records = pool.starmap(one_by_one, given, chunksize=1)
    return [record for share in records for record in share], time.perf_counter() - start


def workers() -> list[psutil.Process]:
    """The worker processes of the local cluster, the busiest first."""
    children = [p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
    return sorted(children, key=lambda p: -sum(p.cpu_times()[:2]))


def kill_now_and_then(every_s: float, stop: threading.Event, killed: list[int]) -> None:
    """Kill the busiest worker every so many seconds."""
    while not stop.wait(every_s):
        try:
            victim = workers()[0]
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(victim.pid)
        except (IndexError, psutil.Error, ProcessLookupError):  # between two of them
            continue


def cohort(
    patients: list[Patient], settings: dict[str, Any], output: Path, cluster: Cluster, kill_every: float | None
) -> dict[str, Any]:
    """Run a cohort, killing workers where that is wanted; returns what it took and its records."""
    stop, killed = threading.Event(), []
    killer = threading.Thread(target=kill_now_and_then, args=(kill_every or 0, stop, killed))
    start = time.perf_counter()
    if kill_every:
        killer.start()
    try:
        records = run_cohort(patients, settings, output, cluster, lambda *at: print(f"{at[1]:.0%} {at[2]}", flush=True))
    finally:
        stop.set()
        if kill_every:
            killer.join()
    return {"records": records, "seconds": time.perf_counter() - start, "killed": len(killed)}


def agrees(record: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two records of a patient hold the same numbers."""
    pairs = zip(record["timepoints"], other["timepoints"], strict=True)
    return all(
        (a[name] is None and b[name] is None) or abs(a[name] - b[name]) <= 1e-6 * max(1.0, abs(a[name]))
        for a, b in pairs
        for name in MEASURES
    )


def plausible(record: dict[str, Any], folder: Path) -> bool:
    """Whether a patient is done and its lung volumes are within 8 % of the truth."""
    if record["status"] == "failed":
        return False
    truth = json.loads((folder / record["folder"] / "truth.json").read_text(encoding="utf-8"))
    volumes = [visit["lung_volume_ml"] for visit in truth["visits"]]
    return all(abs(p["volume_ml"] / v - 1) < 0.08 for p, v in zip(record["timepoints"], volumes, strict=True))


def check(run: dict[str, Any], known: dict[str, dict[str, Any]], scans: Path, output: Path) -> dict[str, Any]:
    """What is right and wrong with a cohort's rows."""
    names = [row["patient"] for row in read_table(output)]
    return {
        "rows": len(names),
        "twice": len(names) - len(set(names)),
        "failed": [r["patient"] + ": " + r["message"] for r in run["records"] if r["status"] == "failed"],
        "right": sum(plausible(record, scans) for record in run["records"]),
        "compared_with_plain": sum(r["folder"] in known for r in run["records"]),
        "same_as_plain": sum(r["folder"] in known and agrees(r, known[r["folder"]]) for r in run["records"]),
        "left_over": [p.name for p in (output / "patients").iterdir() if p.name.startswith(".")],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--spacing", type=float, default=4.0, help="of scans and maps, mm")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill-every", type=float, default=30.0, help="seconds")
    parser.add_argument("--undisturbed", type=int, default=20, help="patients that nothing disturbs")
    parser.add_argument("--minutes", type=float, help="for the disturbed cohort; fewer patients are tried")
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--output", type=Path, default=Path("build/cohort"))
    given = parser.parse_args()
    scans = given.output / "scans"
    for name in ("plain", "undisturbed", "disturbed"):
        shutil.rmtree(given.output / name, ignore_errors=True)
    settings = {"preset": given.preset, "spacing_mm": given.spacing, "seed": 0, "threads": 1, "device": "cpu"}
    made = lambda count: [make(number, given.spacing, scans) for number in range(count)]
    calm_ones = made(given.undisturbed)
    alone, seconds = plain(calm_ones, settings, given.output / "plain", given.workers)
    known = {record["folder"]: record for record in alone}
    each = given.workers * seconds / len(calm_ones)
    print(f"without a cluster: {seconds:.1f} s, {each:.1f} s of a process a patient", flush=True)
    cluster = Cluster(workers=given.workers, memory="4GB")
    calm = cohort(calm_ones, settings, given.output / "undisturbed", cluster, None)
    overhead = 100 * (calm["seconds"] / seconds - 1)
    print(f"undisturbed: {calm['seconds']:.1f} s, {overhead:.1f} % more", flush=True)
    count = given.patients
    if given.minutes:
        count = min(count, max(1, int(given.minutes * 60 * given.workers / (2.5 * each))))
    fire = cohort(made(count), settings, given.output / "disturbed", cluster, given.kill_every) if count else None
    result = {
        "patients": count, "spacing_mm": given.spacing, "preset": given.preset, "workers": given.workers,
        "seconds_each": each, "peak_mb": max(r["peak_mb"] for r in alone),
        "disk_mb_each": sum(r["disk_mb"] for r in alone) / len(alone),
        "undisturbed": {
            "patients": len(calm_ones), "plain_seconds": seconds, "seconds": calm["seconds"],
            "overhead_percent": overhead,
            **check(calm, known, scans, given.output / "undisturbed"),
        },
    }  # fmt: skip
    if fire:
        result["disturbed"] = {
            "seconds": fire["seconds"], "killed": fire["killed"],
            **check(fire, known, scans, given.output / "disturbed"),
        }  # fmt: skip
    text = json.dumps(result, indent=1)
    (given.output / "cohort.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
