"""Models in: the network of a pipeline of diffusers, with its noise schedule, as a model of ours.

Every sampler, every verb and the priors work on it: `proxdm sample hf:FOLDER --steps 5`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from proxdm.checkpoints import hub
from proxdm.checkpoints.load import Opened
from proxdm.checkpoints.portable import read_grids
from proxdm.checkpoints.store import GRIDS_FILE, PRIOR_FILE
from proxdm.config import ModelConfig
from proxdm.errors import one_line
from proxdm.integrations.diffusers.export import NetworkModel
from proxdm.integrations.diffusers.meaning import DiffusersError, index_of, prediction_of, schedule_of
from proxdm.models import ScoreModel
from proxdm.networks import ExternalNetwork
from proxdm.priors import load_prior
from proxdm.schedules import Schedule

NETWORKS = ("unet", "transformer")
AUTOENCODERS = ("vae", "vqvae")

CONDITIONS = {
    "cross_attention_dim": "encoder_hidden_states",
    "num_class_embeds": "class_labels",
    "class_embed_type": "class_labels",
}
"""What a network is to be told if its configuration has a value."""

Denoise = Callable[..., Any]
"""`(x, timestep, **condition) -> output`, a tensor or something with the attribute `sample`."""


class Conditioned(nn.Module):
    """A network of diffusers as `(x, t) -> F`, under a condition and with guidance.

    `F = F_0 + guidance (F_c - F_0)`, F_0 under the condition `unconditional` (Ho and Salimans 2022); F_c alone without.
    The arguments are those of :func:`from_denoiser`, and the length T of the table of timesteps.
    """

    def __init__(
        self,
        denoiser: Denoise,
        schedule: Schedule,
        length: int,
        condition: Mapping[str, Any] | None,
        unconditional: Mapping[str, Any] | None,
        guidance: float,
    ) -> None:
        super().__init__()
        if guidance != 1 and unconditional is None:
            raise DiffusersError(f"guidance = {guidance:g} needs what it leads away from: unconditional=")
        self.denoiser, self.schedule, self.length = denoiser, schedule, length
        self.condition, self.unconditional, self.guidance = condition or {}, unconditional, guidance
        self.classes, self.knows_any = 0, True

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the output for x `(B, C, *)` at times `(B,)`, its first C channels: the rest are learned variances.

        `labels` `(B,)` are classes, of a network that is told of them; their number, or None, is any.
        """
        if self.classes and (labels is None or not self.knows_any):
            labels = torch.full((len(x),), self.classes, device=x.device) if labels is None else labels
            if not self.knows_any and bool((labels == self.classes).any()):
                raise DiffusersError("the network was not trained without a class: leave `any` and guidance out")
        told = {} if labels is None else {"class_labels": labels}
        out = self._call(x, t, {**self.condition, **told})
        if self.unconditional is None or self.guidance == 1:
            return out
        without = self._call(x, t, self.unconditional)
        return without + self.guidance * (out - without)

    def _call(self, x: Tensor, t: Tensor, condition: Mapping[str, Any]) -> Tensor:
        given = {
            key: value.to(x.device).expand(len(x), *value.shape[1:]) if isinstance(value, Tensor) else value
            for key, value in condition.items()
        }
        out = self.denoiser(x, index_of(self.schedule, t, self.length), **given)
        tensor: Tensor = out if isinstance(out, Tensor) else out.sample
        return tensor[:, : x.shape[1]]


def load(
    source: str | Path,
    *,
    scheduler: Any = None,
    condition: Mapping[str, Any] | None = None,
    unconditional: Mapping[str, Any] | None = None,
    guidance: float = 1.0,
    device: str | torch.device = "cpu",
) -> ScoreModel:
    """Return the network of a pipeline as a score model, in evaluation mode, with its own prior if it has one.

    Args:
        source: The folder of a saved pipeline (`model_index.json`) or network (`config.json`), or a repository on the
            hub, `owner/name[@revision]`. Weights are read from safetensors only.
        scheduler: The scheduler that the network was trained with, if there is none beside it: a scheduler, or its
            configuration.
        condition: What the network is told at every call, by argument, such as `{"encoder_hidden_states": embedding}`;
            batches of 1 are repeated. Without one a network of classes is a model of classes: `sample(classes=...)`.
        unconditional: The same, without the condition, for guidance.
        guidance: `F_0 + guidance (F_c - F_0)`.
        device: Where it goes.

    Raises:
        DiffusersError: There is no such network, it asks for a condition that is not given, or the scheduler is none
            with a table of betas or a rectified flow.
        HubError: The repository cannot be had.
    """
    folder = _folder(str(source))
    parts = _read(folder / "model_index.json") or {}
    part = next((name for name in NETWORKS if name in parts), "")
    network = _network(folder / part, parts.get(part))
    for place in (folder / "scheduler", folder):
        scheduler = _read(place / "scheduler_config.json") if scheduler is None else scheduler
    if scheduler is None:
        raise DiffusersError(f"{source} has no scheduler: name the one it was trained with, scheduler=DDPMScheduler()")
    config = network.config
    classes, knows_any = ((), True) if condition else _classes(network, parts)
    told = {*(condition or ()), *(("class_labels",) if classes else ())}
    if missing := [wanted for key, wanted in CONDITIONS.items() if config.get(key) is not None and wanted not in told]:
        raise DiffusersError(
            f"the network is conditional: give condition={{'{missing[0]}': tensor}} to load, with unconditional= for "
            "guidance"
        )
    channels, size = int(config.in_channels), getattr(config, "sample_size", None)
    if size is None:
        raise DiffusersError(f"the network of {source} does not say its sample_size; use from_denoiser(shape=...)")
    if config.get("out_channels", channels) not in (channels, 2 * channels):
        raise DiffusersError(f"the network of {source} takes {channels} channels and gives {config.out_channels}")
    shape = (channels, *((size, size) if isinstance(size, int) else size))
    model = from_denoiser(network, scheduler, shape, condition, unconditional, guidance).to(device).eval()
    assert isinstance(model.network, Conditioned)
    model.classes, model.network.classes, model.network.knows_any = classes, len(classes), knows_any
    coder = next((name for name in AUTOENCODERS if name in parts and parts[name][0]), None)
    model.vae = None if coder is None else str(folder / coder)
    for path in (folder / PRIOR_FILE, folder / "scheduler" / PRIOR_FILE):
        if model.prior is None and path.is_file():
            prior = load_prior(path)  # its gains are in ratios, whatever the table of the network's betas
            curve = None if prior.curve is None else replace(prior.curve, schedule=str(model.schedule))
            model.prior = replace(prior, curve=curve)
    if (path := folder / GRIDS_FILE).is_file():
        model.grids = read_grids(path.read_text(encoding="utf-8"), path)
    return model


def from_denoiser(
    denoiser: Denoise,
    scheduler: Any,
    shape: tuple[int, ...],
    condition: Mapping[str, Any] | None = None,
    unconditional: Mapping[str, Any] | None = None,
    guidance: float = 1.0,
) -> ScoreModel:
    """Return any network or callable `(x, timestep, **condition)` as a score model.

    Args:
        denoiser: Returns a tensor like x, or something whose `sample` it is.
        scheduler: Of its training, or the configuration of one: betas, `prediction_type`, number of timesteps.
        shape: Of a sample.
        condition: Keyword arguments of every call.
        unconditional: The same for guidance.
        guidance: Its weight.

    Raises:
        DiffusersError: The scheduler has no table of betas and is no rectified flow; guidance without `unconditional`.
    """
    config = {"_class_name": type(scheduler).__name__, **getattr(scheduler, "config", scheduler)}
    schedule, length = schedule_of(config), int(config.get("num_train_timesteps", 1000))
    kind, meaning = type(denoiser).__name__, prediction_of(config)
    network = Conditioned(denoiser, schedule, length, condition, unconditional, guidance)
    described = ModelConfig("score", tuple(shape), ExternalNetwork(f"diffusers.{kind}"), meaning, schedule)
    return ScoreModel(network, schedule, meaning, described)


def open_pipeline(source: str, weights: str | None, preset: str | None, device: str | torch.device) -> Opened:
    """Return the model of a source `hf:FOLDER` or `hf:owner/name`, for the verbs."""
    if weights is not None or preset is not None:
        raise DiffusersError(f"hf:{source} has one set of weights and no preset: leave --weights and --preset out")
    return Opened(load(source, device=device), "diffusers")


def _folder(source: str) -> Path:
    """Return the folder of a pipeline, downloaded if it is one on the hub."""
    if (path := Path(source)).is_dir():
        return path
    if (repo := hub.parse_repo_id(source)) is None:
        raise DiffusersError(f"there is no folder {source}, and it is not the name of a repository (owner/name)")
    from huggingface_hub import snapshot_download

    # The network, its autoencoder and what we keep beside them; no text encoders, no second copies.
    parts = (*(f"{part}/" for part in (*NETWORKS, *AUTOENCODERS)), "")
    patterns = ["*.json", *(f"{part}diffusion_pytorch_model*.safetensors" for part in parts), f"*{PRIOR_FILE}"]
    leave = ["*.fp16.*", "*.non_ema.*", "text_encoder*", "tokenizer*", "safety_checker*", "image_encoder*"]
    with hub.explained(repo, "model_index.json"):
        found = snapshot_download(repo.name, revision=repo.revision, allow_patterns=patterns, ignore_patterns=leave)
    return Path(found)


def _read(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None if there is no file."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DiffusersError(f"{path} cannot be read: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise DiffusersError(f"{path} is not a configuration of diffusers")
    return found


def _network(folder: Path, named: list[str] | None) -> Any:
    """Return the network in a folder, of the class that the pipeline or the network itself names."""
    name = named[1] if named else (_read(folder / "config.json") or {}).get("_class_name")
    kind = NetworkModel if name == NetworkModel.__name__ else getattr(diffusers, str(name), None)
    if kind is None:
        raise DiffusersError(f"{folder} holds no network of diffusers (class {name or 'unknown'})")
    try:
        return kind.from_pretrained(folder, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise DiffusersError(f"the network in {folder} cannot be loaded: {one_line(error)}") from error


def _classes(network: Any, parts: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """Return the names of the classes that a network is told of, none of others, and whether it knows of no class.

    A transformer (DiT) has a row more than classes for that; a `UNet2DModel` has none.
    """
    own: tuple[str, ...] = getattr(getattr(network, "model", None), "classes", ())
    if own:
        return own, True
    config = network.config
    count, knows_any = config.get("num_embeds_ada_norm"), True
    if count is None:
        count, knows_any = config.get("num_class_embeds"), False
    names: Mapping[str, str] = parts.get("id2label") or {}
    return tuple(str(names.get(str(i), i)) for i in range(count or 0)), knows_any
