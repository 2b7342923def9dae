"""From a run to a repository on the hub: the portable model, its configuration and a card written from it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from proxdm.checkpoints import hub
from proxdm.checkpoints.load import Found, build, find
from proxdm.checkpoints.portable import CONFIG_FILE, MODEL_FILE, model_config, save_model
from proxdm.config import Config, ModelConfig, to_json
from proxdm.describe import in_words, model_facts, training_facts
from proxdm.errors import CheckpointError
from proxdm.generation import WARM_STEPS

CARD_FILE = "README.md"
PICTURE_FILE = "samples.png"

_DATASETS = {"mnist": "ylecun/mnist", "fashion-mnist": "zalando-datasets/fashion_mnist", "cifar10": "uoft-cs/cifar10"}


@dataclass(frozen=True)
class Published:
    """What was put on the hub, or would be."""

    url: str | None  # Address of the commit; None if nothing was sent
    weights: str  # Weight set that was published
    sizes: Mapping[str, int]  # Bytes of every file, by name
    card: str  # The model card


def push(
    source: str | Path,
    repo_id: str,
    weights: str | None = None,
    *,
    license: str | None = None,  # noqa: A002 - the hub's own word
    private: bool | None = None,
    message: str = "Upload a proxdm model",
    replace_card: bool = False,
    dry_run: bool = False,
) -> Published:
    """Put a model into a repository on the Hugging Face Hub, from where :func:`proxdm.load` loads it.

    One commit with `model.safetensors` (which carries its configuration), `config.json` and a model card; of a run
    also its latest preview of samples. Needs credentials: `hf auth login`, or `HF_TOKEN`.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    repo = hub.parse_repo_id(repo_id)
    if repo is None:
        raise CheckpointError(f"{repo_id!r} is not the name of a repository on the hub; it must read owner/name")
    found = find(source, weights)
    found = replace(found, config=public_config(found.config))
    model = build(found)
    with tempfile.TemporaryDirectory(prefix="proxdm-") as name:
        folder, url = Path(name), None
        save_model(model, folder, weights=found.weights, step=found.file.step, origin=found.file.origin)
        files = {name: folder / name for name in (MODEL_FILE, CONFIG_FILE, CARD_FILE)}
        previews = () if found.run is None else found.run.glob("previews/*.png")
        if (picture := max(previews, default=None)) is not None:
            files[PICTURE_FILE] = picture
        card = model_card(found, repo.name, license, picture=picture is not None)
        files[CARD_FILE].write_text(card, encoding="utf-8")
        if not dry_run:
            api = HfApi()
            with hub.explained(repo, MODEL_FILE, writing=True):
                api.create_repo(repo.name, private=private, exist_ok=True)
                if not replace_card and api.file_exists(repo.name, CARD_FILE, revision=repo.revision):
                    del files[CARD_FILE]
                added = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
                url = api.create_commit(repo.name, added, commit_message=message, revision=repo.revision).commit_url
        return Published(url, found.weights, {name: path.stat().st_size for name, path in files.items()}, card)


def public_config(config: Config | ModelConfig) -> Config | ModelConfig:
    """Return a configuration without the folders of the machine it was used on."""
    if not isinstance(config, Config):
        return config
    data = replace(config.data, name=PurePath(config.data.name).name, root=None)
    return replace(config, data=data, imports=tuple(PurePath(module).name for module in config.imports))


def model_card(found: Found, repo: str, license: str | None = None, *, picture: bool = False) -> str:  # noqa: A002
    """Return the card of a model, Markdown with a YAML header."""
    from huggingface_hub import ModelCard, ModelCardData

    config, origin, facts = found.config, found.file.origin, model_facts(found)
    model = model_config(config)
    pictures = len(model.shape) == 3
    data = config.data.name if isinstance(config, Config) else None
    header = ModelCardData(
        library_name="proxdm",
        license=license or "unknown",
        pipeline_tag="unconditional-image-generation" if pictures else None,
        datasets=[_DATASETS[data]] if data in _DATASETS else None,
        tags=["diffusion", f"{model.kind}-model", "proximal-operator", "arxiv:2507.08956"],
    )
    tables = {"Model": in_words(facts)}
    if isinstance(config, Config) and origin is None:  # weights of others were not trained with our configuration
        tables["Training"] = in_words(training_facts(found))
    card = ModelCard.from_template(
        header,
        template_path=str(Path(__file__).with_name("card.md.j2")),
        repo=repo,
        kind=model.kind,
        data=data,
        picture=PICTURE_FILE if picture else None,
        rule=facts["default_sampler"],
        steps=WARM_STEPS if facts["prior"] else facts["default_steps"],
        shape=(16, *model.shape),
        latents=pictures and model.shape[0] not in (1, 3),
        tables=tables,
        origin=origin,
        license=license,
        config=to_json(config),
    )
    return str(card)
