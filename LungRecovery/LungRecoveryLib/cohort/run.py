"""A cohort on Dask: a patient is a task, records come as they are finished, a second run takes up where one ended."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
from distributed import CancelledError, Client, KilledWorker, LocalCluster, as_completed

from LungRecoveryLib import RESEARCH_USE_ONLY
from LungRecoveryLib.cohort import report, table
from LungRecoveryLib.cohort.manifest import Patient
from LungRecoveryLib.cohort.patient import analyse_patient, failure
from LungRecoveryLib.errors import BadInput, Cancelled
from LungRecoveryLib.files import atomic_write_json
from LungRecoveryLib.progress import Progress, no_progress
from LungRecoveryLib.system import exclusive, processors
from LungRecoveryLib.worker import describe

SCHEMA = "lungrecovery-cohort-1"
INDEX = "cohort.json"
Task = Callable[[Patient, dict[str, Any], str], dict[str, Any]]
# Dask looks at each of its processes up to a hundred times a second, which takes 5 % of the workers' time. A patient
# takes half a minute and more: a look now and then shows as much.
_CALM = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}


@dataclass(frozen=True)
class Cluster:
    """Where patients are analysed: a scheduler that runs already, or `workers` processes of this machine.

    `retries` is how often a patient is tried again after an unexpected error, `lost_workers` how many workers may die
    under one patient before it is given up. `memory` is each local worker's limit, for instance "6 GB".
    """

    scheduler: str | None = None
    workers: int | None = None
    memory: str = "auto"
    retries: int = 1
    lost_workers: int = 10
    timeout_s: float = 20.0


def run_cohort(
    patients: list[Patient],
    settings: Mapping[str, Any],
    output: Path,
    cluster: Cluster,
    progress: Progress = no_progress,
    announce: Callable[[str], None] | None = None,
    task: Task = analyse_patient,
) -> list[dict[str, Any]]:
    """Analyse every patient with the same settings (of a job); returns their records, in the order they came.

    Leaves `patients/<folder>` for each, `patients.csv`, `cohort.json` and `report.html` in `output`. Patients finished
    before with the same inputs and settings are not analysed again. `announce` is told the dashboard's address; `task`
    is what a worker does for a patient.

    Raises BadInput where another run writes there, the settings are wrong or the scheduler cannot be reached or is
    lost; what was finished stays.
    """
    output = Path(output)
    _check_output(output)
    settings = dict(settings)
    records: list[dict[str, Any]] = []
    with exclusive(output / ".lock", f"{output}: another run writes into it; wait for it or give another folder"):
        atomic_write_json(output / INDEX, {"schema": SCHEMA, "notice": RESEARCH_USE_ONLY, "settings": settings})
        with table.Table(output) as rows, _client(cluster, settings) as client:
            if announce is not None:
                announce(client.dashboard_link)
            for record in _records(client, patients, settings, output, cluster, task):
                rows.add(record)
                records.append(record)
                progress("cohort", len(records) / len(patients), f"{record['patient']}: {record['status']}")
        report.write(records, output)
    return records


def _check_output(output: Path) -> None:
    """Make the folder; raises BadInput where it cannot be written or holds anything but an earlier run."""
    if output.exists() and (not output.is_dir() or (any(output.iterdir()) and not (output / INDEX).is_file())):
        raise BadInput(f"{output}: holds files that are no cohort's; give another --output")
    try:
        (output / "patients").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{output}: cannot be written ({error.strerror}); give a writable --output") from error


@contextmanager
def _client(cluster: Cluster, settings: dict[str, Any]) -> Iterator[Client]:
    """A client of the scheduler that was named, or of a local cluster that ends with the block."""
    environment = dict(dask.config.get("distributed.nanny.pre-spawn-environ"))
    # Dask has its workers give memory back at once. Arrays then come from the system anew each time, and clearing
    # their pages took a quarter of the time of two workers.
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)
    options = {
        "distributed.nanny.pre-spawn-environ": environment,
        # A worker is given the next patient when it is free, so that its death takes no waiting patients with it.
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.scheduler.allowed-failures": cluster.lost_workers,
        # A worker that starts slowly, on a busy machine, must not be given up: the cohort would wait for ever.
        "distributed.deploy.lost-worker-timeout": "1 hour",
        "distributed.comm.timeouts.connect": f"{cluster.timeout_s}s",
        **_CALM,
    }
    with dask.config.set(options):
        if cluster.scheduler:
            try:
                client = Client(cluster.scheduler, timeout=cluster.timeout_s)
            except (OSError, ValueError) as error:
                raise BadInput(f"--scheduler {cluster.scheduler}: does not answer; start it first") from error
            with client:
                yield client
            return
        workers = cluster.workers or max(1, processors() // 2)
        settings.setdefault("threads", max(1, processors() // workers))
        try:
            local = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=cluster.memory,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            )
        except ValueError as error:
            raise BadInput(f"--memory {cluster.memory}: {error}; write it like 6GB") from error
        with local, Client(local) as client:
            yield client


def _records(
    client: Client, patients: list[Patient], settings: dict[str, Any], output: Path, cluster: Cluster, task: Task
) -> Iterator[dict[str, Any]]:
    """The patients' records as they are finished."""
    futures = {
        client.submit(task, patient, settings, str(output.resolve()), pure=False, retries=cluster.retries): patient
        for patient in patients
    }
    for future in as_completed(futures):
        patient = futures[future]
        try:
            record = future.result()  # waits again where the worker died before it handed on what it had
        except CancelledError as error:
            raise BadInput(
                "the scheduler was lost; start it and run the command again: finished patients are kept"
            ) from error
        except Cancelled:
            raise
        except Exception as error:
            base = {"patient": patient.name, "group": patient.group, "folder": patient.folder}
            record = {**base, **failure(*_told(error, cluster))}
        yield record
        future.release()


def _told(error: BaseException, cluster: Cluster) -> tuple[int, str]:
    """The exit code and the sentence for an error that ended a patient's task."""
    if isinstance(error, KilledWorker):
        return 4, (
            f"{cluster.lost_workers + 1} workers ended while they analysed this patient, for want of memory or by a "
            "crash: give workers more memory, or a coarser --spacing"
        )
    return describe(error)
