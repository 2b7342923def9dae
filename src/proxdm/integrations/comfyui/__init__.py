"""Nodes for ComfyUI: put this folder, or a link to it, into `custom_nodes`; `proxdm` must be installed there.

`SamplerProxMultistep` gives a SAMPLER and the SIGMAS to use it with, for `SamplerCustom`. The prior is a file of
`proxdm prior fit`, made of latents of the model. ComfyUI calls k-diffusion's samplers and hands them denoised samples,
so that models of epsilon, v and rectified-flow type are alike but for one thing: of a rectified flow
`x_t = (1 - sigma) x_0 + sigma z`, sigma in (0, 1]; of all others `x = x_0 + sigma z`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from proxdm.integrations.k_diffusion import get_sigmas_prox, sample_prox_multistep
from proxdm.priors import load_prior
from proxdm.schedules import Flow


class SamplerProxMultistep:
    """ComfyUI node: SAMPLER and SIGMAS of few-evaluation sampling with a prior."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("SAMPLER", "SIGMAS")
    FUNCTION = "get_sampler"
    CATEGORY = "sampling/custom_sampling/samplers"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Return what the node asks for."""
        start = {"default": 0.0, "min": 0.0, "max": 1000.0, "tooltip": "sigma to start from; 0: the prior's"}
        return {
            "required": {
                "model": ("MODEL",),
                "prior": ("STRING", {"default": "prior.safetensors", "tooltip": "A file of `proxdm prior fit`"}),
                "steps": ("INT", {"default": 5, "min": 1, "max": 100}),
                "start": ("FLOAT", start),
            }
        }

    def get_sampler(self, model: Any, prior: str, steps: int, start: float = 0.0) -> tuple[Any, Tensor]:
        """Return the sampler with its prior, and the sigmas for so many steps."""
        from comfy.samplers import KSAMPLER

        found, sampling = load_prior(prior), model.get_model_object("model_sampling")
        flow = any(kind.__name__ == "CONST" for kind in type(sampling).__mro__)  # ComfyUI's class of rectified flows
        largest = 1000.0 if flow else min(float(sampling.sigma_max), 1000.0)
        ratios = get_sigmas_prox(steps, found, largest, start or None).double()
        # Of a flow, sigma is the time at which the ratio sigma / (1 - sigma) is reached.
        sigmas = Flow().time_of_ratio(ratios) if flow else ratios
        return KSAMPLER(sample_prox_multistep, {"prior": found, "flow": flow}), sigmas.float()


NODE_CLASS_MAPPINGS = {"SamplerProxMultistep": SamplerProxMultistep}
NODE_DISPLAY_NAME_MAPPINGS = {"SamplerProxMultistep": "Sampler: few evaluations with a prior (proxdm)"}
