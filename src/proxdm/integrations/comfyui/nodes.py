"""The node, and the sampler function that ComfyUI calls: k-diffusion's contract, with ComfyUI's two conventions.

Of a rectified flow `x_t = (1 - sigma) x_0 + sigma z`, sigma in (0, 1]; of all others `x = x_0 + sigma z`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from proxdm.integrations.k_diffusion import get_sigmas_prox, sample_prox_multistep
from proxdm.priors import Prior, load_prior
from proxdm.schedules import Flow


def is_flow(sampling: Any) -> bool:
    """Return whether the `model_sampling` of a model is of a rectified flow (ComfyUI's class CONST)."""
    return any(kind.__name__ == "CONST" for kind in type(sampling).__mro__)


def sample_comfyui(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Any = None,
    disable: bool | None = None,
    prior: Prior | None = None,
) -> Tensor:
    """Return samples as :func:`~proxdm.integrations.k_diffusion.sample_prox_multistep`, for ComfyUI's `KSAMPLER`.

    x is what ComfyUI's `noise_scaling` makes of the noise and an empty latent: sigma_0 z, of a flow too. Without a
    prior nothing is assumed of it, and img2img works as with any sampler.
    """
    flow = is_flow(model.inner_model.model_patcher.get_model_object("model_sampling"))
    return sample_prox_multistep(model, x, sigmas, extra_args, callback, disable, prior, flow=flow)


class SamplerProxMultistep:
    """ComfyUI node: SAMPLER and SIGMAS of few-evaluation sampling with a prior."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("SAMPLER", "SIGMAS")
    FUNCTION = "get_sampler"
    CATEGORY = "sampling/custom_sampling/samplers"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Return what the node asks for."""
        return {
            "required": {
                "model": ("MODEL",),
                "prior": ("STRING", {"default": "prior.safetensors", "tooltip": "A file of `proxdm prior fit`"}),
                "steps": ("INT", {"default": 5, "min": 1, "max": 100}),
                "start": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 1000.0,
                        "tooltip": "sigma to start from; 0: the prior's",
                    },
                ),
            }
        }

    def get_sampler(self, model: Any, prior: str, steps: int, start: float = 0.0) -> tuple[Any, Tensor]:
        """Return the sampler with its prior, and the sigmas for so many steps."""
        from comfy.samplers import KSAMPLER

        found = load_prior(prior)
        sampling = model.get_model_object("model_sampling")
        flow = is_flow(sampling)
        largest = float("inf") if flow else float(sampling.sigma_max)
        ratios = get_sigmas_prox(steps, found, min(largest, 1000.0), start or None).double()
        # Of a flow, sigma is the time at which the ratio sigma / (1 - sigma) is reached.
        sigmas = Flow().time_of_ratio(ratios) if flow else ratios
        return KSAMPLER(sample_comfyui, {"prior": found}), sigmas.to(torch.float32)


NODE_CLASS_MAPPINGS = {"SamplerProxMultistep": SamplerProxMultistep}
NODE_DISPLAY_NAME_MAPPINGS = {"SamplerProxMultistep": "Sampler: few evaluations with a prior (proxdm)"}
