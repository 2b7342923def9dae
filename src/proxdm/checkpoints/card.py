"""The model card: a README for a repository on the hub, written from the configuration of the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath

from proxdm.checkpoints.describe import describe_draws, describe_network
from proxdm.checkpoints.load import Found, default_sampler, default_steps, fitting_samplers
from proxdm.checkpoints.portable import model_config
from proxdm.config import Config, ModelConfig, to_json

_DATASETS = {"mnist": "ylecun/mnist", "fashion-mnist": "zalando-datasets/fashion_mnist", "cifar10": "uoft-cs/cifar10"}

CITATION = """@inproceedings{fang2025beyond,
  title     = {Beyond Scores: Proximal Diffusion Models},
  author    = {Fang, Zhenghan and D{\\'i}az, Mateo and Buchanan, Sam and Sulam, Jeremias},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2025},
  note      = {arXiv:2507.08956}
}"""
"""BibTeX entry of the paper."""


@dataclass(frozen=True)
class CardOptions:
    """What a card cannot know from the configuration.

    Attributes:
        repo_id: The repository, `owner/name`.
        license: Identifier of the weights' licence, e.g. `apache-2.0`; None says that it is not stated.
        picture: File name of a picture of samples in the repository, if there is one.
    """

    repo_id: str
    license: str | None = None
    picture: str | None = None


def model_card(found: Found, options: CardOptions) -> str:
    """Return the card as Markdown with a YAML header.

    Args:
        found: The model.
        options: Name, licence, picture.
    """
    config = public_config(found.config)
    sections = [
        _header(config, options),
        f"# {options.repo_id.partition('/')[2]}",
        _summary(config),
        None if options.picture is None else f"![Samples]({options.picture})",
        _use(config, options.repo_id),
        "## Model\n\n" + _table(_model_rows(found)),
        _training(found, config, options),
        f"<details><summary>The whole configuration</summary>\n\n```json\n{to_json(config)}```\n\n</details>",
        f"## Citation\n\n```bibtex\n{CITATION}\n```",
    ]
    return "\n\n".join(section for section in sections if section is not None) + "\n"


def public_config(config: Config | ModelConfig) -> Config | ModelConfig:
    """Return a configuration without the folders of the machine it was used on."""
    if not isinstance(config, Config):
        return config
    return replace(config, data=replace(config.data, name=PurePath(config.data.name).name, root=None))


def _header(config: Config | ModelConfig, options: CardOptions) -> str:
    from huggingface_hub import ModelCardData

    data = config.data.name if isinstance(config, Config) else None
    card = ModelCardData(
        library_name="proxdm",
        license=options.license or "unknown",
        pipeline_tag="unconditional-image-generation" if len(model_config(config).shape) == 3 else None,
        datasets=[_DATASETS[data]] if data in _DATASETS else None,
        tags=["diffusion", f"{model_config(config).kind}-model", "proximal-operator", "arxiv:2507.08956"],
    )
    return f"---\n{card.to_yaml().strip()}\n---"


def _summary(config: Config | ModelConfig) -> str:
    kind = model_config(config).kind
    what = (
        "A proximal diffusion model: a network that gives the proximal operator of `-lam log p_t`, the diffused "
        "density of the data, at every time `t` and weight `lam` of a backward step"
        if kind == "prox"
        else "A score model: a network that predicts the noise in diffused data at every time `t`"
    )
    data = f", trained on {config.data.name}" if isinstance(config, Config) else ""
    return f"{what}{data}. Made with `proxdm`; method: [arXiv 2507.08956](https://arxiv.org/abs/2507.08956)."


def _use(config: Config | ModelConfig, repo_id: str) -> str:
    steps, rule = default_steps(config), default_sampler(config).name
    shape = ", ".join(map(str, (16, *model_config(config).shape)))
    latent = (
        "\n\nThe samples are latents of an autoencoder; `proxdm sample` decodes them into pictures."
        if len(model_config(config).shape) == 3 and model_config(config).shape[0] not in (1, 3)
        else ""
    )
    return f"""## Use

```bash
pip install proxdm
proxdm sample {repo_id} --sampler {rule} --steps {steps}
```

```python
import proxdm
import torch

model = proxdm.load("{repo_id}")
generator = torch.Generator().manual_seed(0)
x = proxdm.sample(model, sampler="{rule}", steps={steps}, shape=({shape}), generator=generator)
```

Samplers that take this model: {", ".join(fitting_samplers(model_config(config).kind))}.{latent}"""


def _model_rows(found: Found) -> list[tuple[str, str]]:
    model = model_config(found.config)
    return [
        ("kind", model.kind),
        ("parameters", f"{found.file.parameters:,}"),
        ("weights", found.weights),
        ("shape of a sample", " x ".join(map(str, model.shape))),
        ("network", describe_network(model.network)),
        ("parametrisation", model.parametrisation),
        ("forward process", f"variance preserving, beta from {model.beta_min:g} to {model.beta_max:g}"),
    ]


def _training_rows(found: Found, config: Config) -> list[tuple[str, str]]:
    loss, optimiser, train = config.objective, config.optimiser, config.training
    objective = [f"{loss.loss} on {loss.target}"]
    if loss.zetas:
        objective.append(f"{loss.l1_steps:,} steps of l1, then zeta = {', '.join(f'{zeta:g}' for zeta in loss.zetas)}")
    flips = [] if config.data.flip == "none" else [f"{config.data.flip} flips"]
    warmup = [f"warm-up {optimiser.warmup:,} steps"] if optimiser.warmup else []
    steps = f"{train.steps:,}" if found.file.step is None else f"{found.file.step:,} of {train.steps:,}"
    return [
        ("preset", config.preset),
        ("data", ", ".join([config.data.name, *flips])),
        ("objective", "; ".join(objective)),
        ("trained at", describe_draws(config)),
        ("optimiser", ", ".join([f"AdamW, learning rate {optimiser.lr:g}", *warmup])),
        ("steps", steps),
        ("batch size", str(train.batch_size)),
        ("seed", str(train.seed)),
    ]


def _training(found: Found, config: Config | ModelConfig, options: CardOptions) -> str | None:
    """Return how the weights came about; those of others were not trained with our configuration."""
    if found.file.origin is not None:
        unlicensed = "" if options.license else " Their authors state no licence: ask them before you pass them on."
        return f"## Origin\n\nThese weights were converted from {found.file.origin}.{unlicensed}"
    if not isinstance(config, Config):
        return None
    return "## Training\n\n" + _table(_training_rows(found, config))


def _table(rows: list[tuple[str, str]]) -> str:
    cells = [(key, value.replace("|", "\\|")) for key, value in rows]
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in cells)])
