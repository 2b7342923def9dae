"""Rows of results as evaluation writes them, made up, and files of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from proxdm.evaluation.results import EvaluationRow
from proxdm.metrics.registry import METRICS
from proxdm.runtime.files import JsonLines

GRIDS = {"score": "denoising({}, eps=0.001)", "prox": "uniform({})"}


def make_row(sampler="prox-hybrid", steps=5, seed=0, *, fid=10.0, source="runs/prox", **changes):
    """A row of 256 samples with a FID (and what else `metrics` says), against the digits."""
    family = "prox" if sampler.startswith("prox") else "score"
    metrics = changes.pop("metrics", {"fid": fid})
    samples = changes.get("samples", 256)
    reference = {"name": "digits", "sha256": "d" * 64, "kind": "images", "dataset": "digits", "split": "train"}
    known = {
        "source": source,
        "preset": "digits-prox-hybrid",
        "weights": "ema-0.999",
        "digest": family[0] * 64,
        "sampler": sampler,
        "grid": GRIDS[family].format(steps),
        "steps": steps,
        "nfe": steps,
        "samples": samples,
        "seed": seed,
        "chunk": 64,
        "bf16": False,
        "features": {"name": "pixels", "dim": 64, "weights": "", "resize": "none"},
        "reference": {**reference, "n": 1797},
        "metrics": metrics,
        "used": {name: [samples, 1797] for name, one in METRICS.items() if set(one.values) & set(metrics)},
        "seconds": 2.0,
        "metric_seconds": 0.1,
        "images_per_second": samples / 2,
        "nfe_per_second": samples * steps / 2,
        "versions": {"proxdm": "0.1.0", "torch": "2.4.0", "python": "3.11.0"},
        "device": "cpu (x86_64)",
        "processes": 1,
        "finished": "2026-01-01T00:00:00+00:00",
        "picture": f"{sampler}-{steps}-seed{seed}.png",
    }
    return EvaluationRow(**{**known, **changes})


def read_rows(folder: Path) -> list[dict]:
    """Return the rows of a folder of results, as they stand in the file."""
    return JsonLines(folder / "results.jsonl").records()


def write_results(folder: Path, rows, *, pictures=True) -> Path:
    """Write results.jsonl, and a small picture for every row, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row.record()) + "\n" for row in rows)
    (folder / "results.jsonl").write_text(text, encoding="utf-8")
    if pictures:
        noise = np.random.default_rng(0).integers(0, 255, (18, 18), dtype=np.uint8)
        for name in {row.picture for row in rows if row.picture}:
            Image.fromarray(noise).save(folder / name)
    return folder
