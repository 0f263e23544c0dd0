"""The benchmark's report as text."""

from .timing import STAGES

_COLUMNS = (
    ("pairs/s", "pairs_per_second", "{:.3g}"),
    ("step ms", "step_ms", "{:.4g}"),
    ("inference ms", "inference_ms", "{:.4g}"),
    ("memory GB", "peak_memory_mb", "{:.2f}"),
    ("GFLOP/pair", "flops_per_pair", "{:.4g}"),
    ("GB/pair", "bytes_per_pair", "{:.4g}"),
    ("matrix %", "matrix_percent", "{:.1f}"),
    ("bandwidth %", "bandwidth_percent", "{:.1f}"),
)
_SCALES = {"peak_memory_mb": 1e-3, "flops_per_pair": 1e-9, "bytes_per_pair": 1e-9}


def as_text(report: dict) -> str:
    """The report of `run.run` as a text table, with what was not measured and why."""
    limits, versions = report["ceilings"], report["versions"]
    shape = "x".join(map(str, report["shape"]))
    lines = [
        f"{report['device']}, {shape} voxels (z y x), batch {report['batch']}",
        ", ".join(f"{name} {number}" for name, number in versions.items() if number),
        f"ceilings: bf16 {limits['bf16_tflops']:.4g} and float32 {limits['float32_tflops']:.4g} TFLOP/s, "
        f"memory {limits['bandwidth_gb_s']:.4g} GB/s",
        "",
    ]
    header = ["", *(title for title, _, _ in _COLUMNS)]
    rows = [[_name(entry), *(_cell(entry, key, form) for _, key, form in _COLUMNS)] for entry in report["measured"]]
    lines += [*_aligned([header, *rows]), ""]
    for entry in report["measured"]:
        if "stages_ms" in entry:
            stages = ", ".join(f"{name} {entry['stages_ms'].get(name, 0.0):.3g}" for name in STAGES)
            lines.append(f"{_name(entry)}, ms by stage: {stages}")
    lines += [f"{entry['name']} {entry['settings']}: {entry['note']}" for entry in report["measured"] if entry["note"]]
    lines += [f"{missing['name']}: not measured. {missing['why']}" for missing in report["missing"]]
    return "\n".join(lines) + "\n"


def _name(entry: dict) -> str:
    return f"{entry['name']} {entry['version']}, {entry['settings']}"


def _cell(entry: dict, key: str, form: str) -> str:
    value = entry.get(key)
    return "-" if value is None else form.format(value * _SCALES.get(key, 1.0))


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]
