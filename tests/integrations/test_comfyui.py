"""The ComfyUI node against a stand-in of the calls that it makes: ComfyUI itself is not on PyPI.

Stood in for are `comfy.samplers.KSAMPLER(function, extra_options)`, its call `function(model, x, sigmas, extra_args=,
callback=, disable=, **extra_options)`, `MODEL.get_model_object("model_sampling")`, and `model_sampling` with
`sigma_max` and the class CONST of rectified flows.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import proxdm
from proxdm.noise import GivenNoise
from proxdm.priors import save_prior
from proxdm.schedules import VE, Flow
from tiny_models import random_prior


class EPS:
    sigma_max = torch.tensor(14.6)


class CONST:
    sigma_max = torch.tensor(1.0)


class KSAMPLER:
    def __init__(self, sampler_function, extra_options=None):
        self.function, self.options = sampler_function, extra_options or {}

    def sample(self, denoise, sigmas, noise):
        x = sigmas[0] * noise  # of an empty latent, whatever the model
        return self.function(denoise, x, sigmas, extra_args={}, callback=None, disable=True, **self.options)


@pytest.fixture
def nodes(monkeypatch):
    """The node folder as ComfyUI imports it: by its path."""
    samplers = SimpleNamespace(KSAMPLER=KSAMPLER)
    monkeypatch.setitem(sys.modules, "comfy", SimpleNamespace(samplers=samplers))
    monkeypatch.setitem(sys.modules, "comfy.samplers", samplers)
    folder = Path(proxdm.__file__).parent / "integrations" / "comfyui"
    spec = importlib.util.spec_from_file_location("custom_nodes.proxdm", folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.NODE_CLASS_MAPPINGS


@pytest.mark.parametrize("sampling", [EPS, CONST])
@pytest.mark.parametrize("steps", [1, 3])
def test_it_draws_what_our_sampler_draws(nodes, tmp_path, sampling, steps):
    schedule = Flow() if sampling is CONST else VE(14.6)
    prior = random_prior((4, 4, 4), schedule=schedule)
    save_prior(prior, tmp_path / "prior.safetensors")
    patcher = SimpleNamespace(get_model_object={"model_sampling": sampling()}.__getitem__)
    node = nodes["SamplerProxMultistep"]()
    sampler, sigmas = node.get_sampler(patcher, str(tmp_path / "prior.safetensors"), steps)
    assert sigmas.dtype == torch.float32
    assert len(sigmas) == steps + 1
    noise = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(2))

    def denoise(x, sigma):
        return torch.tanh(x / (0.3 + sigma.reshape(-1, 1, 1, 1)))

    def ours(x, t):
        return denoise(x, schedule.sigma(t).to(x))

    x = proxdm.sample(ours, "multistep", steps, schedule=schedule, prior=prior, noise=GivenNoise(noise))
    torch.testing.assert_close(sampler.sample(denoise, sigmas, noise), x, rtol=1e-3, atol=1e-4)


def test_node_says_what_it_needs(nodes):
    kind = nodes["SamplerProxMultistep"]
    assert kind.RETURN_TYPES == ("SAMPLER", "SIGMAS")
    assert set(kind.INPUT_TYPES()["required"]) == {"model", "prior", "steps", "start"}
    assert callable(getattr(kind, kind.FUNCTION))
