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


def draw(found: dict[tuple[int, float], dict[str, float]], real: float, path: Path) -> None:
    """Draw accuracy, distance, precision and recall by w, a curve for every N."""
    titles = {"accuracy": "class accuracy", "fid": "Fréchet distance", "precision": "precision", "recall": "recall"}
    with style.drawing(9.6, 2.7) as figure:
        for place, (name, title) in enumerate(titles.items()):
            axes = figure.add_axes((0.05 + 0.245 * place, 0.19, 0.195, 0.66))
            for n, mark in zip(sorted({n for n, _ in found}), "os^D", strict=False):
                points = sorted((w, one[name]) for (k, w), one in found.items() if k == n)
                axes.plot(*zip(*points, strict=True), f"{mark}-", markersize=4, linewidth=1.2, label=f"N = {n}")
            if name == "accuracy":
                axes.axhline(real, color="#6b6b6b", linewidth=0.8, linestyle=":")
                axes.annotate("real pictures", (5, real), ha="right", va="bottom", fontsize=8, color="#6b6b6b")
                axes.legend(frameon=False, loc="lower right", fontsize=8, bbox_to_anchor=(1, 0.2))
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("guidance w")
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
    real = real_accuracy(options.features, "fashion-mnist")
    print(f"real test pictures: accuracy {real:.4f}")
    draw(found, real, options.figure)


if __name__ == "__main__":
    main()
