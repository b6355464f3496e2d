"""The closing tables in the paper's form, for the console and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Row = Sequence[str]


def percent(value: float | None) -> str:
    """0.2674 -> ``26.74``; a dash for what was not measured."""
    return "-" if value is None else f"{100 * value:.2f}"


def triple(scores: dict[str, Any], metric: str) -> str:
    """``actor-action / actor / action`` of one metric; one number for plain classes."""
    if not scores:
        return "-"
    names = [metric, f"actor_{metric}", f"action_{metric}"]
    if f"action_{metric}" not in scores:
        names = [metric]
    return " / ".join(percent(scores.get(name)) for name in names)


def show(title: str, header: Row, rows: Sequence[Row], folder: Path | None = None, *, name: str = "") -> None:
    """Print a table and, given a folder, write it to ``<folder>/<name>.csv``."""
    table = Table(title=title, title_justify="left")
    for column in header:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    Console(width=max(100, console.width) if console.is_terminal else 200).print(table)  # a file is as wide as need be
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)


def table_2(annotations: Sequence[dict[str, Any]], criterion: str, folder: Path | None = None) -> None:
    """PA quality per version, on all frames and on the selected ones (Table 2)."""
    rows = []
    for entry in annotations:
        name = f"PA.v{entry['version']}"
        rivals = [key for key in entry if key.startswith("full_by_")]
        if entry["version"] > 0:
            for key in rivals:
                scores = entry[key]
                rows.append((name, f"{key.removeprefix('full_by_')}-full", str(entry["frames"]), *_quality(scores)))
        label = "init" if entry["version"] == 0 else criterion
        rows.append((name, f"{label}-full", str(entry["frames"]), *_quality(entry["full"])))
        if "selected" in entry:
            chosen = round(entry["selected_share"] * entry["frames"])
            rows.append((name, f"{label}-select", str(chosen), *_quality(entry["selected"])))
    header = ("version", "model eval", "#frames", "mIoU_GT (a.-a./actor/action)", "J")
    show("Table 2. Pseudo-annotations against the truth", header, rows, folder, name="table2")


def _quality(scores: dict[str, Any]) -> tuple[str, str]:
    return triple(scores, "miou"), percent(scores.get("jaccard"))


def table_3(
    models: Sequence[dict[str, Any]], twin: dict[str, Any], folder: Path | None = None, *, tested_on: str = "test"
) -> None:
    """Every version's model on the test set, as a share of the supervised twin (Table 3)."""
    full = twin.get("test", {})
    rows = []
    for model in models:
        test = model["test"]
        name = f"model.v{model['version']}"
        rows.append((name, triple(test, "miou"), _share(test, full), percent(test.get("jaccard"))))
    if full:
        rows.append(("supervised twin", triple(full, "miou"), "100 %", percent(full.get("jaccard"))))
    header = ("model", "mIoU_GT (a.-a./actor/action)", "share of the twin", "J")
    show(f"Table 3. Models on the {tested_on} videos", header, rows, folder, name="table3")


def _share(scores: dict[str, Any], full: dict[str, Any]) -> str:
    if not scores or not full:
        return "-"
    names = [name for name in ("miou", "actor_miou", "action_miou") if name in full]
    names = names if "action_miou" in names else ["miou"]
    return " / ".join(f"{100 * scores[name] / max(full[name], 1e-9):.1f} %" for name in names)


def table_4(models: Sequence[dict[str, Any]], twin: dict[str, Any], folder: Path | None = None) -> None:
    """Class and global accuracy (Table 4)."""
    named = [(f"model.v{model['version']}", model["test"]) for model in models[-1:]]
    if twin.get("test"):
        named.append(("supervised twin", twin["test"]))
    rows = [(name, triple(scores, "cls_acc"), triple(scores, "glo_acc")) for name, scores in named]
    show("Table 4. Accuracy", ("model", "cls_acc", "glo_acc"), rows, folder, name="table4")


def summary(results: dict[str, Any]) -> None:
    """The few figures that a person looks for first."""
    rows = [(name, str(value)) for name, value in results.items()]
    show("Summary", ("what", "value"), rows)
