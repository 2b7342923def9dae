"""Inpainting, deblurring and super-resolution of garments by deepinv, with the prior of a diffusion model.

    python examples/inverse_problems.py --count 32 --out inverse.png

HQS with the learned prox beside deepinv's total variation (its weight the best of a grid, on the same pictures) and
DiffPIR with the same network. PSNR in dB.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import deepinv as dinv
import torch
from deepinv.optim import HQS, L2, PGD, TVPrior
from deepinv.sampling import DiffPIR

import proxdm
from proxdm.data import DataConfig, load_data
from proxdm.integrations.deepinv import ModelDenoiser, ProxPrior
from proxdm.pixels import to_model_range, to_uint8
from proxdm.plotting import style
from proxdm.plotting.mosaic import draw_mosaic

NOISE = 0.02


def problems(shape):
    noise = dinv.physics.GaussianNoise(NOISE)
    blur = dinv.physics.blur.gaussian_blur(sigma=(1.5, 1.5))
    # One random mask of 30 % of the pixels, the same for every picture.
    mask = (torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    return {
        "inpainting (30 % of the pixels)": dinv.physics.Inpainting(shape, mask=mask, noise_model=noise),
        "deblurring": dinv.physics.BlurFFT(shape, filter=blur, noise_model=noise),
        "super-resolution (2x)": dinv.physics.Downsampling(
            img_size=shape, factor=2, filter="bilinear", padding="circular", noise_model=noise
        ),
    }


def learned(model, physics, y, steps=20, first=0.5, last=0.01):
    """HQS: the noise level of the prox falls from `first` to `last`, one evaluation a step."""
    sigmas = torch.logspace(math.log10(first), math.log10(last), steps).tolist()
    solver = HQS(
        data_fidelity=L2(sigma=NOISE), prior=ProxPrior(model), stepsize=[s**2 for s in sigmas], g_param=[0.0] * steps,
        lambda_reg=1.0, max_iter=steps, early_stop=False,
    )  # fmt: skip
    return solver(y, physics)


def total_variation(physics, y, weight):
    norm = 1 / max(1.0, float(physics.compute_norm(torch.randn_like(physics.A_adjoint(y)[:1]), verbose=False)))
    solver = PGD(
        data_fidelity=L2(), prior=TVPrior(n_it_max=30), stepsize=norm, lambda_reg=weight, max_iter=150, early_stop=False
    )
    return solver(y, physics)


def diffpir(model, physics, y):
    torch.manual_seed(0)
    solver = DiffPIR(ModelDenoiser(model), L2(), sigma=NOISE, max_iter=50, zeta=0.3, lambda_=7.0, device="cpu")
    return solver(y, physics)


def psnr(x, truth):
    return (-10 * (x.clamp(0, 1) - truth).square().flatten(1).mean(1).log10()).mean().item()


def compare(model, truth):
    """Return PSNR and pictures by problem and method."""
    found, pictures = {}, {}
    for name, physics in problems(tuple(truth.shape[1:])).items():
        torch.manual_seed(1)
        y = physics(truth)
        with torch.no_grad():
            weights = [total_variation(physics, y, w) for w in (0.003, 0.01, 0.03, 0.1)]
            outcomes = {
                "observed": physics.A_adjoint(y).clamp(0, 1) if y.shape == truth.shape else physics.A_dagger(y),
                "total variation": max(weights, key=lambda x: psnr(x, truth)),
                "DiffPIR, 50 evaluations": diffpir(model, physics, y),
                "HQS with ProxPrior, 20": learned(model, physics, y),
                "truth": truth,
            }
        found[name] = {method: psnr(x, truth) for method, x in outcomes.items() if method != "truth"}
        pictures[name] = {method: to_uint8(2 * x[:6] - 1) for method, x in outcomes.items()}
    return found, pictures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fashion-mnist")
    parser.add_argument("--data", default="fashion-mnist", help="its test part is restored")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("inverse.png"))
    options = parser.parse_args()
    model = proxdm.load(options.model)
    images = to_model_range(load_data(DataConfig(options.data, split="test")).images[: options.count])
    found, pictures = compare(model, (images + 1) / 2)
    for name, row in found.items():
        print(f"{name:34}", "  ".join(f"{method}: {value:.2f}" for method, value in row.items()))
    names = list(pictures)
    cells = {method: {name: pictures[name][method] for name in names} for method in pictures[names[0]]}
    print(*style.save(draw_mosaic(cells), options.out.with_suffix("")))


if __name__ == "__main__":
    main()
