"""What guidance gives and takes: class accuracy, precision, recall and distance of a model of classes, by w.

    python benchmarks/guidance.py --features features.pt

Baseline: w = 1, the class alone; every other w costs two evaluations a step. Prints the table, and the accuracy of real
pictures that neither the features nor the discriminant were fitted to.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from proxdm.cli.tables import table
from proxdm.data.load import DataConfig, load_data
from proxdm.evaluation import EvaluationPlan, evaluate
from proxdm.metrics.discriminant import accuracy
from proxdm.metrics.features import load_extractor
from proxdm.plotting import style

METRICS = ("fid", "precision-recall", "accuracy")


def real_accuracy(features: str, data: str) -> float:
    """Return the share of real test pictures whose class the discriminant of the training pictures finds."""
    parts = []
    for split in ("train", "test"):
        known = load_data(DataConfig(data, split=split, labels=True))
        extractor = load_extractor(features, known.shape)
        rows = torch.cat([extractor(batch).cpu() for batch in known.images.split(256)])
        parts.append((rows, known.labels))
    return accuracy(parts[1], parts[0])[0]


def draw(found: dict[tuple[int, float], dict[str, float]], path: Path) -> None:
    """Draw precision against recall, a curve for every N, points named by w."""
    with style.drawing(6.0, 4.2) as figure:
        axes = figure.add_axes((0.11, 0.14, 0.86, 0.76))
        counts = sorted({n for n, _ in found})
        for n, mark in zip(counts, "os^D", strict=False):
            row = {w: one for (k, w), one in found.items() if k == n}
            axes.plot([one["recall"] for one in row.values()], [one["precision"] for one in row.values()], f"{mark}-",
                      markersize=4, linewidth=1, label=f"N = {n}")  # fmt: skip
            if n == counts[-1]:
                for w, one in row.items():
                    axes.annotate(f"w = {w:g}", (one["recall"], one["precision"]), xytext=(5, 4), fontsize=8,
                                  textcoords="offset points")  # fmt: skip
        axes.set_xlabel("recall: how much of the data is covered")
        axes.set_ylabel("precision: how many samples look real")
        axes.legend(frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fashion-mnist-classes")
    parser.add_argument("--features", required=True)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--steps", type=int, nargs="+", default=[2, 3, 5])
    parser.add_argument("--guidance", type=float, nargs="+", default=[1, 1.5, 2, 3, 5])
    parser.add_argument("--figure", type=Path, default=Path("docs/images/guidance.png"))
    options = parser.parse_args()
    found = {}
    for w in options.guidance:
        plan = EvaluationPlan(steps=tuple(options.steps), samples=options.samples, metrics=METRICS, guidance=w,
                              features=options.features)  # fmt: skip
        for row in evaluate(options.model, plan, say=print).rows:
            found[row.steps, w] = {**row.metrics, "nfe": row.nfe}
    names = list(next(iter(found.values())))
    rows = [[str(n), f"{w:g}", *(f"{found[n, w][name]:.4g}" for name in names)] for n, w in sorted(found)]
    print(table(["N", "w", *names], rows))
    print(f"real test pictures: accuracy {real_accuracy(options.features, 'fashion-mnist'):.4f}")
    draw(found, options.figure)


if __name__ == "__main__":
    main()
