"""Make the graphs of the live page: eight samplers of the box's garments that share one file of numbers.

python docs/live.py docs/_static/live
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import onnx
from onnx.external_data_helper import set_external_data

from proxdm.cli import main as proxdm

COUNTS = (1, 2, 3, 5)
LEAST = 1024
"""Bytes of an array from which it goes to the shared file."""


def export(path: Path, method: str, steps: int) -> None:
    """Write one sampler as a graph of its own."""
    flags = ["--sampler", "dpm++2m", "--prior", "none"] if method == "dpm" else []
    if method == "dpm" and steps > 1:
        flags += ["--grid", "tuned"]
    if status := proxdm(["export", "fashion-mnist", "--to", "onnx", "--steps", str(steps), "--out", str(path), *flags]):
        raise SystemExit(status)


def main(out: Path) -> None:
    """Write `ours-N.onnx`, `dpm-N.onnx` and `weights.bin`."""
    out.mkdir(parents=True, exist_ok=True)
    shared, places = bytearray(), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, method, steps in ((f"{m}-{n}", m, n) for m in ("ours", "dpm") for n in COUNTS):
            export(Path(folder, f"{name}.onnx"), method, steps)
            model = onnx.load(Path(folder, f"{name}.onnx"))
            for tensor in model.graph.initializer:
                if len(content := tensor.raw_data) < LEAST:
                    continue
                if content not in places:
                    shared.extend(bytes(-len(shared) % 64))
                    places[content] = len(shared)
                    shared.extend(content)
                set_external_data(tensor, "weights.bin", places[content], len(content))
                tensor.ClearField("raw_data")
            (out / f"{name}.onnx").write_bytes(model.SerializeToString())
    (out / "weights.bin").write_bytes(shared)
    print(f"{out}: {sum(path.stat().st_size for path in out.glob('*.onnx')) / 1e6:.1f} + {len(shared) / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
