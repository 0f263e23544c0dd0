"""From the measurements of single runs to the one table: means over the pairs of a group, as JSON and as Markdown."""

import numpy as np

from methods import METHODS

COLUMNS = (
    ("tre_mean_mm", "TRE mean mm", "{:.2f}"),
    ("tre_median_mm", "median", "{:.2f}"),
    ("tre_p95_mm", "p95", "{:.2f}"),
    ("tre_mean_without_outlier_mm", "mean w/o outlier", "{:.2f}"),
    ("tre_median_without_outlier_mm", "median w/o outlier", "{:.2f}"),
    ("log_jacobian_error", "mean abs log J error", "{:.3f}"),
    ("folding_percent", "folds %", "{:.4f}"),
    ("seconds", "seconds", "{:.1f}"),
    ("peak_memory_gb", "peak GB", "{:.2f}"),
)
GROUPS = {
    "phantom": "Phantoms, large motion: means over {n} pairs",
    "real": "Real pair, lung masks given",
    "real-without-masks": "Real pair, no masks given",
}


def group_of(pair: str) -> str:
    """The group of the table that a pair belongs to."""
    return "phantom" if pair.startswith("phantom") else pair


def outlier_landmark(results: list[dict]) -> int:
    """The landmark that is worst for the methods at large, by its median error: an error of the annotation."""
    registered = [r["errors_mm"] for r in results if METHODS[r["method"]].module != "start"]
    return int(np.median(registered or [r["errors_mm"] for r in results], axis=0).argmax())


def summarise(result: dict, outlier: int | None) -> dict:
    """The figures of one run; `outlier` is the landmark left out of the second mean and median."""
    errors = np.array(result["errors_mm"])
    row = {
        "tre_mean_mm": float(errors.mean()),
        "tre_median_mm": float(np.median(errors)),
        "tre_p95_mm": float(np.percentile(errors, 95)),
    }
    if outlier is not None:
        kept = np.delete(errors, outlier)
        row["tre_mean_without_outlier_mm"] = float(kept.mean())
        row["tre_median_without_outlier_mm"] = float(np.median(kept))
    keys = ("log_jacobian_error", "folding_percent", "seconds", "peak_memory_gb")
    return row | {key: result[key] for key in keys if key in result}


def tables(results: dict[str, dict[str, dict]]) -> dict[str, dict]:
    """`results` {pair: {method: run}} as {group: {"pairs": [...], "rows": {method: figures}}}.

    A method's row is the mean over its pairs, so a method that lacks a pair of the group is left out; the real pair's
    two groups share one outlier, since a landmark is wrong whatever the methods were given.
    """
    real = [run for pair, runs in results.items() if group_of(pair) != "phantom" for run in runs.values()]
    outlier = outlier_landmark(real) if real else None
    made = {}
    for group in GROUPS:
        pairs = [pair for pair in results if group_of(pair) == group]
        methods = [m for m in METHODS if pairs and all(m in results[pair] for pair in pairs)]
        if not methods:
            continue
        rows = {}
        for method in methods:
            figures = [summarise(results[pair][method], None if group == "phantom" else outlier) for pair in pairs]
            rows[method] = {key: float(np.mean([f[key] for f in figures])) for key in figures[0]}
        made[group] = {"pairs": pairs, "rows": rows}
    return made


def markdown(made: dict[str, dict]) -> str:
    """The tables as Markdown, the methods in their own order."""
    parts = []
    for group, table in made.items():
        columns = [c for c in COLUMNS if any(c[0] in row for row in table["rows"].values())]
        lines = [f"**{GROUPS[group].format(n=len(table['pairs']))}**", ""]
        lines.append("| method | " + " | ".join(title for _, title, _ in columns) + " |")
        lines.append("| --- |" + " ---: |" * len(columns))
        for method, row in table["rows"].items():
            cells = [form.format(row[key]) if key in row else "" for key, _, form in columns]
            lines.append(f"| {METHODS[method].title} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
