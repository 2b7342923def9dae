"""Make a model of the box: the weights of a run and its prior in half precision, in one file of under 3 MB.

    proxdm train fashion-mnist-score --training.steps 12000 --out runs/fashion-mnist
    proxdm tune runs/fashion-mnist --sampler dpm++2m ddim --steps 2 3 5 --budget 14 --features features.pt
    python benchmarks/box.py runs/fashion-mnist src/proxdm/box/fashion-mnist.safetensors

Loading makes float32 (weights) and float64 (prior) of them again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from proxdm.checkpoints.load import find, load
from proxdm.checkpoints.portable import save_model
from proxdm.publishing import public_config
from proxdm.runtime.files import digest_of


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    found, model = find(options.run), load(options.run)
    model.config = public_config(found.config)
    save_model(model, options.out, weights=found.weights, step=found.file.step, overwrite=True)
    with safe_open(options.out, framework="pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    small = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    for key, value in small.items():
        if not torch.isfinite(value.float()).all():
            raise ValueError(f"{key} does not fit half precision")
    metadata["sha256"] = digest_of(small)
    save_file(small, options.out, metadata=metadata)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB, {json.dumps(found.weights)}")


if __name__ == "__main__":
    main()
