"""Models out: our networks as models of diffusers, and our models as pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import torch
from diffusers import (
    ConfigMixin,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    ImagePipelineOutput,
    ModelMixin,
    UNet2DModel,
)
from diffusers.configuration_utils import register_to_config
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor

from proxdm.checkpoints.portable import model_config
from proxdm.config import ModelConfig, from_json, to_json
from proxdm.generation import default_sampler, default_steps
from proxdm.integrations.diffusers.meaning import PREDICTIONS, DiffusersError, time_of
from proxdm.integrations.diffusers.scheduler import ProxMultistepScheduler
from proxdm.models import LearnedModel, ScoreModel
from proxdm.networks import UNetConfig
from proxdm.operators import offers
from proxdm.samplers import sample
from proxdm.samplers.external import TABLE, betas_of
from proxdm.schedules import Flow, VariancePreserving


class NetworkModel(ModelMixin, ConfigMixin):
    """Any network of ours as a model of diffusers: `model(x, timestep).sample`; of prox networks `model(x, t, lam)`.

    Args:
        description: JSON of the model's :class:`~proxdm.config.ModelConfig`.
        in_channels: Channels of a sample.
        out_channels: The same.
        sample_size: Height and width of a sample.
    """

    @register_to_config
    def __init__(
        self, description: str, in_channels: int = 3, out_channels: int = 3, sample_size: tuple[int, int] = (32, 32)
    ) -> None:
        super().__init__()
        self.model: LearnedModel = from_json(description, ModelConfig).build()

    def forward(
        self,
        sample: Tensor,
        timestep: Any,
        lam: Any = None,
        return_dict: bool = True,
        class_labels: Tensor | None = None,
    ) -> Any:
        """Return the output of the network at a timestep, in the meaning that the scheduler's configuration has.

        `class_labels` `(B,)` are those of a model of classes; None, or their number, is any.
        """
        index = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(len(sample))
        model: Any = self.model
        t = time_of(model.schedule, index, TABLE)
        if lam is not None:
            out = model.prox(sample, t, lam, class_labels)
        elif PREDICTIONS[_prediction_type(model)] == model.parametrisation.name:
            out = model(sample, t, class_labels)
        else:
            out = model.epsilon(sample, t, class_labels)
        return UNet2DOutput(sample=out) if return_dict else (out,)


class ProxPipeline(DiffusionPipeline):
    """A prox model as a pipeline: `pipe(batch_size=4, num_inference_steps=5).images`."""

    def __init__(self, network: NetworkModel) -> None:
        super().__init__()
        self.register_modules(network=network)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: torch.Generator | None = None,
        num_inference_steps: int | None = None,
        sampler: str | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        classes: int | str | Sequence[int | str] = (),
        guidance_scale: float = 1.0,
    ) -> Any:
        """Draw pictures.

        Args:
            batch_size: How many.
            generator: Of all random numbers.
            num_inference_steps: N; by default what the model is sampled with.
            sampler: Text of a sampler; by default what the model was trained for.
            output_type: `pil`, `np` `(n, H, W, C)` or `pt` `(n, C, H, W)`, both in [0, 1].
            return_dict: Whether as an object with `images`, or a tuple.
            classes: Of a model of classes, names or numbers, in turn.
            guidance_scale: w of classifier-free guidance; 1 is none.
        """
        model, config = self.network.model, self.network.model.config
        x = sample(
            model,
            sampler or default_sampler(config),
            num_inference_steps or default_steps(config),
            (batch_size, *config.shape),
            generator=generator,
            classes=classes,
            guidance=guidance_scale,
        )
        images = VaeImageProcessor().postprocess(x, output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)


def to_diffusers(model: LearnedModel) -> Any:
    """Return a model as one of diffusers: a `UNet2DModel` where its network is one, else a :class:`NetworkModel`.

    A `UNet2DModel` has the same outputs: the angles of its sinusoids begin one timestep later, which the first layer of
    its embedding takes up.

    Raises:
        DiffusersError: The model has no configuration of pictures.
    """
    described = None if model.config is None else model_config(model.config)
    if described is None or len(described.shape) != 3:
        raise DiffusersError("only models of pictures (C, H, W) with a configuration become models of diffusers")
    if _is_unet2d(model):
        return _unet2d(model, described).eval()
    channels, *size = described.shape
    out = NetworkModel(to_json(described), channels, channels, tuple(size))
    out.model.network.load_state_dict(model.network.state_dict())
    return out.to(model.device).eval()


def to_pipeline(model: LearnedModel, prior: Any = None) -> Any:
    """Return a model as a pipeline that `save_pretrained` writes and `from_pretrained` reads.

    A score model becomes a `DDPMPipeline`, with the scheduler :class:`ProxMultistepScheduler` where it has a prior;
    others a :class:`ProxPipeline`. Both are read back where `proxdm` is installed.

    Args:
        model: The model.
        prior: A prior instead of the model's own.

    Raises:
        DiffusersError: The model is of no pictures, or its schedule is neither variance-preserving nor a flow.
    """
    network, prior = to_diffusers(model), prior or model.prior
    if not offers(model, "denoiser"):
        return ProxPipeline(network)
    schedule, config = model.schedule, {"num_train_timesteps": TABLE, "prediction_type": _prediction_type(model)}
    if isinstance(schedule, VariancePreserving):
        config["trained_betas"] = betas_of(schedule)
    elif config["prediction_type"] != "flow_prediction":
        raise DiffusersError(
            f"{schedule} with predictions of {model.parametrisation.name} is neither variance-preserving nor a "
            "rectified flow with predictions of flow, as the pipelines of diffusers are"
        )
    if prior is None and not isinstance(schedule, Flow):
        return DDPMPipeline(network, DDPMScheduler(**config, clip_sample=False, timestep_spacing="trailing"))
    scheduler = ProxMultistepScheduler.from_config(config, prior=prior)
    # The pipeline's own class makes a DDPMScheduler of nothing: it takes any scheduler.
    return scheduler.attach(DDPMPipeline(network, scheduler))


def _prediction_type(model: LearnedModel) -> str:
    """Return what a score model is said to predict: the noise, where schedulers with its schedule do not know more."""
    known = ["flow_prediction"] if isinstance(model.schedule, Flow) else ["epsilon", "sample", "v_prediction"]
    return next((name for name in known if PREDICTIONS[name] == model.parametrisation.name), "epsilon")


def _is_unet2d(model: LearnedModel) -> bool:
    """Return whether a network has the form of a UNet2DModel: patches, bypasses and uneven groups it has not."""
    config = getattr(model.network, "config", None)
    return (
        isinstance(model, ScoreModel)
        and isinstance(config, UNetConfig)
        and config.patch == 1
        and not config.classes
        and config.width % 32 == 0
        and not isinstance(model.schedule, Flow)
        and PREDICTIONS[_prediction_type(model)] == model.parametrisation.name
    )


def _unet2d(model: LearnedModel, described: ModelConfig) -> Any:
    """Return a UNet2DModel with the weights of a network."""
    config: Any = model.network.config
    levels = range(len(config.mult))
    out = UNet2DModel(
        sample_size=described.shape[1] if described.shape[1] == described.shape[2] else tuple(described.shape[1:]),
        in_channels=config.channels,
        out_channels=config.channels,
        flip_sin_to_cos=False,
        freq_shift=1,
        block_out_channels=tuple(config.width * factor for factor in config.mult),
        layers_per_block=config.num_res_blocks,
        down_block_types=tuple("AttnDownBlock2D" if i in config.attention else "DownBlock2D" for i in levels),
        up_block_types=tuple("AttnUpBlock2D" if i in config.attention else "UpBlock2D" for i in reversed(levels)),
        attention_head_dim=None,
        dropout=config.dropout,
    )
    layers, state = _layers(config), {}
    for ours, value in model.network.state_dict().items():
        layer, kind = ours.rsplit(".", 1)
        linear = ".attention." in layer and value.ndim == 4  # 1x1 convolutions are linear layers there
        state[f"{layers[layer]}.{kind}"] = value.flatten(1) if linear else value
    # Index i is the time (i + 1)/T: sin(w (i + 1)) and cos(w (i + 1)) are a rotation of sin(w i) and cos(w i).
    key = "time_embedding.linear_1.weight"
    half = config.width // 2
    w = torch.exp(torch.arange(half, dtype=torch.float64) * (-torch.log(torch.tensor(10000.0)).double() / (half - 1)))
    sines, cosines = state[key].double().split(half, 1)
    state[key] = torch.cat([sines * w.cos() - cosines * w.sin(), sines * w.sin() + cosines * w.cos()], 1).float()
    out.load_state_dict(state)
    return out.to(model.device)


def _layers(config: UNetConfig) -> dict[str, str]:
    """Return the names of a UNet2DModel's layers by ours."""
    pairs = {"head": "conv_in", "tail.0": "conv_norm_out", "tail.2": "conv_out"}
    pairs |= {"embedding.time.hidden": "time_embedding.linear_1", "embedding.time.out": "time_embedding.linear_2"}
    pairs |= _block("middle.0", "mid_block", 0, True) | _block("middle.1", "mid_block", 1, False)
    down = list(range(len(config.mult)))
    for way, levels, blocks in (("down", down, config.num_res_blocks), ("up", down[::-1], config.num_res_blocks + 1)):
        place = count()
        for number, level in enumerate(levels):
            theirs = f"{way}_blocks.{number}"
            for block in range(blocks):
                pairs |= _block(f"{way}.{next(place)}", theirs, block, level in config.attention)
            if level != levels[-1]:
                pairs[f"{way}.{next(place)}.conv"] = f"{theirs}.{way}samplers.0.conv"
    return pairs


def _block(ours: str, theirs: str, number: int, attention: bool) -> dict[str, str]:
    """Return the names of the layers of a residual block, and of the attention behind it."""
    resnet, attend = f"{theirs}.resnets.{number}", f"{theirs}.attentions.{number}"
    layers = {"norm1": "norm1", "conv1": "conv1", "condition": "time_emb_proj", "norm2": "norm2", "conv2": "conv2"}
    pairs = {f"{ours}.{key}": f"{resnet}.{value}" for key, value in {**layers, "shortcut": "conv_shortcut"}.items()}
    if attention:
        inside = {"norm": "group_norm", "query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out.0"}
        pairs |= {f"{ours}.attention.{key}": f"{attend}.{value}" for key, value in inside.items()}
    return pairs
