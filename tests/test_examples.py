"""Every example runs as it stands, in an empty folder, and leaves its picture; so does a benchmark that patches."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from PIL import Image

from runs import run_python

EXAMPLES, BENCHMARKS = (Path(__file__).parents[1] / name for name in ("examples", "benchmarks"))

NEEDS = {"diffusers_pipeline": "diffusers", "k_diffusion_sampler": "torch", "onnx_sampler": "onnxruntime"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "package"), NEEDS.items())
def test_example(name, package, tmp_path):
    pytest.importorskip(package)
    run_python(tmp_path, EXAMPLES / f"{name}.py")
    pictures = list(tmp_path.glob("*.png"))
    assert len(pictures) == 1
    low, high = Image.open(pictures[0]).convert("L").getextrema()
    assert high - low > 100


@pytest.mark.slow
def test_the_benchmark_of_evaluation_finds_the_parts_that_it_times(tmp_path):
    run_python(tmp_path, BENCHMARKS / "evaluation.py", "--samples", "20", "--steps", "1", "--preset", "digits-score")


@pytest.mark.slow
def test_the_learned_prior_beats_total_variation():
    pytest.importorskip("deepinv")
    import torch

    import proxdm
    from proxdm.data import DataConfig, load_data
    from proxdm.errors import DataError
    from proxdm.pixels import to_model_range

    example = runpy.run_path(str(EXAMPLES / "inverse_problems.py"))
    try:
        truth = to_model_range(load_data(DataConfig("fashion-mnist", split="test")).images[:4])
    except DataError as error:
        pytest.skip(f"Fashion-MNIST is not on this machine: {error}")
    physics = next(iter(example["problems"](tuple(truth.shape[1:])).values()))
    truth = (truth + 1) / 2
    torch.manual_seed(1)
    y = physics(truth)
    with torch.no_grad():
        ours = example["learned"](proxdm.load("fashion-mnist"), physics, y)
        theirs = [example["total_variation"](physics, y, weight) for weight in (0.01, 0.03, 0.1)]
    assert example["psnr"](ours, truth) > max(example["psnr"](x, truth) for x in theirs) + 1
