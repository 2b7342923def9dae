"""Sampler out: `multistep` with its prior as a scheduler of diffusers, for any pipeline.

pipe.scheduler = ProxMultistepScheduler.from_config(pipe.scheduler.config, prior=prior)
pipe(num_inference_steps=3)
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor

from proxdm.checkpoints.store import PRIOR_FILE
from proxdm.grids import TimeGrid
from proxdm.integrations.diffusers.meaning import DiffusersError, index_of, prediction_of, schedule_of, time_of
from proxdm.models import SCORE_PARAMETRISATIONS
from proxdm.operators import Ask, FunctionModel
from proxdm.priors import Prior, load_prior, save_prior
from proxdm.samplers import find_sampler
from proxdm.samplers.base import choose_grid, start_of

_HOOKS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""What :meth:`ProxMultistepScheduler.attach` has registered, by network."""


class _Timesteps(Tensor):
    """Timesteps that say the first one again where a pipeline has spent it on noise (see :meth:`attach`)."""

    scheduler: ProxMultistepScheduler | None = None

    def __iter__(self) -> Iterator[Tensor]:
        for value in self.as_subclass(Tensor).unbind():
            yield value
            if self.scheduler is not None and self.scheduler._again:
                self.scheduler._again = False
                yield value


class ProxMultistepScheduler(SchedulerMixin, ConfigMixin):
    """The sampler `multistep` (:class:`proxdm.samplers.multistep.Multistep`) in a pipeline of diffusers.

    With a prior, samples begin at the ratio where the network begins to be better than it: the noise of the pipeline
    becomes a warm start when it is first shown to `scale_model_input`, and the first step has a history. Without one it
    is DPM-Solver++(2M) on the grid `rho`. Samples are not clipped.

    Pipelines that do not call `scale_model_input` (DDPMPipeline) show the network the noise itself first. That answer
    is not used, the pipeline is given its first timestep once more, and a warning says so; :meth:`attach` saves the
    evaluation. img2img (`set_begin_index`, or samples of :meth:`add_noise`) starts where the pipeline says.

    Args:
        num_train_timesteps: T.
        beta_start: First beta.
        beta_end: Last beta.
        beta_schedule: Family of betas: `linear`, `scaled_linear`, `squaredcos_cap_v2`, ...
        trained_betas: The betas themselves instead.
        prediction_type: What the network predicts: `epsilon`, `sample`, `v_prediction` or `flow_prediction`.
        rescale_betas_zero_snr: Whether the betas end in zero signal.
        start: Ratio sigma / alpha to start from, with a prior; by default what its gain curve says.
        prior: The prior; kept beside the configuration in `prior.safetensors`.

    Raises:
        DiffusersError: The configuration has no table of betas and is of no rectified flow.
    """

    order = 1
    _compatibles: ClassVar[list[str]] = []
    ignore_for_config: ClassVar[list[str]] = ["prior"]

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: list[float] | None = None,
        prediction_type: str = "epsilon",
        rescale_betas_zero_snr: bool = False,
        start: float | None = None,
        prior: Prior | None = None,
    ) -> None:
        self.schedule = schedule_of(self.config)
        self.parametrisation = SCORE_PARAMETRISATIONS.find(prediction_of(self.config))
        self.sampler = find_sampler("multistep")
        self.prior = prior
        self.init_noise_sigma = 1.0
        self.timesteps = torch.arange(num_train_timesteps - 1, -1, -1, dtype=torch.float32)

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """Return the scheduler of the configuration of any scheduler, with `prior=`."""
        prior = kwargs.pop("prior", None)
        if config is not None and prediction_of(config) == "flow":
            kwargs["prediction_type"] = "flow_prediction"
        made = super().from_config(config, return_unused_kwargs=return_unused_kwargs, **kwargs)
        (made[0] if return_unused_kwargs else made).prior = prior
        return made

    @classmethod
    def from_pretrained(cls, path: Any, subfolder: str | None = None, **kwargs: Any) -> Any:
        """Return the scheduler of a folder, or of a repository on the hub, with the prior beside its configuration."""
        if kwargs.get("prior") is None:
            name = f"{subfolder}/{PRIOR_FILE}" if subfolder else PRIOR_FILE
            file = Path(path, name) if Path(path).is_dir() else _fetched(str(path), name, kwargs)
            kwargs["prior"] = load_prior(file) if file is not None and file.is_file() else None
        return super().from_pretrained(path, subfolder=subfolder, **kwargs)

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration, and the prior beside it."""
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        if self.prior is not None:  # before what may push the folder
            save_prior(self.prior, Path(save_directory) / PRIOR_FILE, overwrite=True)
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def attach(self, pipe: Any) -> Any:
        """Put the scheduler into a pipeline, so that the first evaluation counts even if it never asks for its input.

        Returns the pipeline.
        """
        pipe.scheduler = self
        if "scale_model_input" not in inspect.getsource(type(pipe).__call__):
            network = getattr(pipe, "unet", None) or pipe.transformer

            def shown(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
                if pipe.scheduler is not self or len(args) < 2:
                    return None
                return self.scale_model_input(*args[:2]), *args[1:]

            if (earlier := _HOOKS.pop(network, None)) is not None:  # two of them would warm up twice
                earlier.remove()
            _HOOKS[network] = network.register_forward_pre_hook(shown)
        return pipe

    def set_timesteps(self, num_inference_steps: int, device: Any = None, **more: Any) -> None:
        """Choose the times of N = `num_inference_steps` evaluations.

        Raises:
            DiffusersError: Timesteps or sigmas of the caller's own are given.
            PriorError: The prior does not say where to start.
        """
        if wrong := [name for name, value in more.items() if value is not None and name != "mu"]:
            raise DiffusersError(
                f"{type(self).__name__} has times of its own: leave {wrong[0]} out, and give num_inference_steps"
            )
        self.num_inference_steps = num_inference_steps
        self.grid: TimeGrid = choose_grid(
            self.sampler, self.schedule, num_inference_steps, prior=self.prior, start=self.config.start
        )
        indices = index_of(self.schedule, self.grid.times[:-1], self.config.num_train_timesteps)
        timesteps: Any = indices.to(device=device, dtype=torch.float32).as_subclass(_Timesteps)
        timesteps.scheduler = self
        self.timesteps = timesteps
        self.step_index: int | None = None  # the step that comes next; None before the first
        self.begin_index: int | None = None  # where to start, if the pipeline says
        self._carry: Any = None
        self._again = False
        # What the pipeline holds: noise, noise whose warm start the network was shown, or samples on their way.
        self._holds: Literal["noise", "shown", "samples"] = "samples" if self.prior is None else "noise"

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Start at that timestep, as img2img does."""
        self.begin_index = begin_index
        if begin_index:
            self._holds = "samples"

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """Return what the network is to be shown: the warm start of the first noise, later the samples themselves."""
        if self._holds == "samples":
            return sample
        self._holds = "shown"
        return self._warmed(sample)

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Any = None,
        return_dict: bool = True,
        **unused: Any,
    ) -> Any:
        """Return the samples at the next time.

        Args:
            model_output: Of the network, `(B, C, *)`; learned variances behind it are left out.
            timestep: The current one.
            sample: The current samples, or at the first step the noise of the pipeline.
            generator: Of noise; there is none.
            return_dict: Whether as a :class:`SchedulerOutput`, or a tuple.
            unused: What some pipelines give to every scheduler.
        """
        if self._holds == "noise":
            warnings.warn(
                "this pipeline shows the network the first noise before the scheduler can make a warm start of it: its "
                "first evaluation is taken again; scheduler.attach(pipe) saves it",
                stacklevel=2,
            )
            self._holds, self._again = "samples", True
            x = self._warmed(sample)
        else:
            if self._holds == "shown":
                self._holds, sample = "samples", self._warmed(sample)
            x = self._stepped(model_output[:, : sample.shape[1]].float(), timestep, sample.float()).to(sample.dtype)
        return SchedulerOutput(prev_sample=x) if return_dict else (x,)

    def _stepped(self, output: Tensor, timestep: Any, x: Tensor) -> Tensor:
        """Return the samples after the step from a timestep, by the network's output there."""
        index = self.step_index
        if index is None:  # where the pipeline says to begin, else at the nearest timestep
            nearest = int((self.timesteps.as_subclass(Tensor).cpu() - float(timestep)).abs().argmin())
            index = nearest if self.begin_index is None else self.begin_index
        t, s = self.grid.times[index : index + 2].tolist()
        answer = self.parametrisation.denoised(self.schedule, x, t, output)
        ask = Ask(FunctionModel(self.schedule, denoise=lambda x, t: answer), "denoiser", self.prior)
        if self.step_index is None:
            self._carry = self.sampler.init(ask, x, TimeGrid(self.grid.times[index:], self.grid.name))
        x, self._carry = self.sampler.step(ask, x, t, s, lambda: torch.zeros_like(x), self._carry)
        self.step_index = index + 1
        return x

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return `alpha x_0 + sigma z` at timesteps `(B,)`."""
        self._holds = "samples"
        times = time_of(self.schedule, timesteps.as_subclass(Tensor), self.config.num_train_timesteps)
        return self.schedule.perturb(original_samples, times, noise)

    def __len__(self) -> int:
        return int(self.config.num_train_timesteps)

    def _warmed(self, noise: Tensor) -> Tensor:
        """Return the warm start of the noise at the first time."""
        self.prior = None if self.prior is None else self.prior.to(noise.device)
        return start_of(self.schedule, float(self.grid.times[0]), noise.float(), self.prior).to(noise.dtype)


def _fetched(repo: str, name: str, options: dict[str, Any]) -> Path | None:
    """Return a file of a repository on the hub; None if it has none of that name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    known = {key: options[key] for key in ("revision", "cache_dir", "token", "local_files_only") if key in options}
    try:
        return Path(hf_hub_download(repo, name, **known))
    except (EntryNotFoundError, OSError, ValueError):  # the configuration, which is read next, says what is wrong
        return None
