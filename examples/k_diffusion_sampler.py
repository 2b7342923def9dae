"""Our sampler in k-diffusion's hands: any of its denoisers, its contract, one function."""

import torch

import proxdm
from proxdm.imaging import grid, save_png
from proxdm.integrations.k_diffusion import get_sigmas_prox, sample_prox_multistep
from proxdm.pixels import to_uint8

model = proxdm.load("digits")


def denoiser(x, sigma):  # what k_diffusion.external wraps: x = x_0 + sigma z in, denoised samples out
    t = model.schedule.time_of_ratio(sigma)
    return model.denoise(x * model.schedule.alpha(t).float().reshape(-1, 1, 1, 1), t)


sigmas = get_sigmas_prox(2, model.prior, sigma_max=80.0)
noise = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
samples = sample_prox_multistep(denoiser, noise * sigmas[0], sigmas, prior=model.prior)
save_png(grid(to_uint8(samples)), __import__("pathlib").Path("digits.png"))
