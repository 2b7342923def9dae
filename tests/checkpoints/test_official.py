"""Official checkpoints: golden equality of networks, operators and samplers; every way a file can be wrong."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import proxdm
from proxdm.checkpoints.official import build_official, infer_network, read_official
from proxdm.config import ModelConfig
from proxdm.errors import CheckpointError
from proxdm.models import LearnedModel
from proxdm.networks import UNet, UNetConfig, parameter_count
from proxdm.presets import get_preset

SCORE = UNetConfig(channels=1, width=32, mult=(1, 2), attention=(1,), num_res_blocks=1)
KINDS = {"score": SCORE, "prox": replace(SCORE, conditioning="time-lam")}


def described(network: UNetConfig) -> ModelConfig:
    kind = "score" if network.conditioning == "time" else "prox"
    return ModelConfig(kind, (network.channels, 16, 16), network)


def golden(shared: Path, kind: str) -> dict[str, torch.Tensor]:
    with np.load(shared / "golden" / f"official_small_{kind}.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def golden_path(shared: Path, kind: str) -> Path:
    return shared / "golden" / f"official_small_{kind}.pth"


@pytest.fixture(scope="module")
def models(shared: Path) -> dict[str, LearnedModel]:
    return {kind: build_official(golden_path(shared, kind), described(one)) for kind, one in KINDS.items()}


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.abs().max())


@torch.no_grad()
def test_networks_equal_the_official_ones(shared, models):
    (score, prox), g = models.values(), golden(shared, "score")
    assert relative(score.epsilon(g["x"], g["t"]), g["epsilon"]) < 1e-5
    assert relative(score.score(g["x"], g["t"]), g["score"]) < 1e-4  # theirs takes 1 - alpha_bar in float32
    g = golden(shared, "prox")
    assert relative(prox(g["x"], g["t"], g["lam"]), g["epsilon"]) < 1e-5
    assert relative(prox.prox(g["x"], g["t"], g["lam"]), g["prox"]) < 1e-5
    assert (score.training, prox.training) == (False, False)


@pytest.mark.parametrize(
    "model_name, method, sampler, steps, seed",
    [
        *(("score", "euler_maruyama", "euler-maruyama", n, 1) for n in (5, 10)),
        *(("score", "euler_maruyama_eps", "euler-maruyama", n, 1) for n in (5, 10)),
        *(("score", "ode_euler_eps", "ode-euler", n, 1) for n in (5, 10)),
        *(("prox", "euler_maruyama_hybrid", "prox-hybrid", n, 11) for n in (5, 10)),
        *(("prox", "euler_maruyama_backward", "prox-backward", n, 11) for n in (20, 50)),
    ],
)
def test_samples_equal_the_official_ones(shared, models, model_name, method, sampler, steps, seed):
    model, g = models[model_name], golden(shared, model_name)
    states, generator = [], torch.Generator().manual_seed(seed)
    grid = proxdm.TimeGrid.uniform(steps, t_end=1e-3) if method == "euler_maruyama" else None
    proxdm.sample(model, sampler, steps, (4, 1, 16, 16), generator=generator, grid=grid, callback=states.append)
    assert torch.equal(states[0].x, g[f"{method}_N{steps}_x_T"])
    if f"{method}_N{steps}_first" in g:
        assert relative(states[1].x, g[f"{method}_N{steps}_first"]) < 1e-4
    assert relative(states[-1].x, g[f"{method}_N{steps}_final"]) < 1e-4
    assert states[-1].nfe == steps


@pytest.mark.parametrize("kind, config", KINDS.items())
def test_files_say_what_they_hold(shared, kind, config):
    info = read_official(golden_path(shared, kind))
    assert (info.network, info.kind, info.parameters) == (config, kind, parameter_count(UNet(config)))
    assert list(info.weight_sets) == ["model", "ema0.9999"]
    assert str(info).startswith(f"a {kind} network of {info.parameters:,} parameters (1 channels, U-Net of width 32")


# From here on the files are made here, so that the tests run without the golden arrays.


def official_name(ours: str) -> str:
    """The inverse of the key map, written apart from it."""
    theirs = re.sub(r"^embedding\.lam", "lamb_embedding.embedding_mlp", ours)
    theirs = re.sub(r"^embedding\.time", "time_embedding.embedding_mlp", theirs)
    if theirs == ours:
        theirs = "unet." + re.sub(r"^(down|middle|up)\.", r"\1blocks.", ours)
    for mine, other in (
        ("mlp.hidden", "mlp.0"),
        ("mlp.out", "mlp.2"),
        (".attention.norm", ".attn.group_norm"),
        (".attention.query", ".attn.proj_q"),
        (".attention.key", ".attn.proj_k"),
        (".attention.value", ".attn.proj_v"),
        (".attention.out", ".attn.proj"),
        (".norm1", ".block1.0"),
        (".conv1", ".block1.2"),
        (".norm2", ".block2.0"),
        (".conv2", ".block2.3"),
        (".condition", ".temb_proj.1"),
    ):
        theirs = theirs.replace(mine, other)
    return "model." + re.sub(r"\.conv\.", ".main.", theirs)


TINY = UNetConfig(channels=1, width=4, mult=(1, 2), attention=(0,), num_res_blocks=2, conditioning="time-lam")


def official_content(config: UNetConfig = TINY, seed: int = 0) -> dict[str, object]:
    torch.manual_seed(seed)
    last, ema = ({official_name(k): v for k, v in UNet(config).state_dict().items()} for _ in range(2))
    more = {"optimizer_state_dict": {}, "train_losses": [1.0]}
    return {"model_state_dict": last, "ema0.9999_model_state_dict": ema, **more}


def write(path: Path, content: object, **options: bool) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("new_format", [True, False])
def test_both_formats_of_torch_are_read(tmp_path, new_format):
    content = official_content()
    for weights, key in (("ema0.9999", "ema0.9999_model_state_dict"), ("model", "model_state_dict")):
        path = write(tmp_path / f"{weights}.pth", content, _use_new_zipfile_serialization=new_format)
        model = build_official(path, described(TINY), weights)
        path.write_bytes(bytes(path.stat().st_size))  # the model does not hang on the file
        for name, value in model.network.state_dict().items():
            assert torch.equal(value, content[key][official_name(name)])


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        UNetConfig(channels=3, width=6, mult=(1, 2, 2, 2), attention=(1,), num_res_blocks=2),
        UNetConfig(channels=4, width=4, mult=(1, 2, 4, 4), attention=(1, 2, 3), out_channels=8),
        UNetConfig(channels=1, width=4, mult=(2,), attention=(), num_res_blocks=1),
    ],
)
def test_architecture_is_read_off_the_shapes(config):
    assert infer_network(UNet(config).state_dict()) == config


@pytest.mark.parametrize(
    "change, difference",
    [
        ({"width": 8}, r"embedding.time.hidden.weight is \(8, 4\) in the file and \(16, 8\) in the network"),
        ({"conditioning": "time"}, r"embedding.time.hidden.weight is \(8, 4\) in the file and \(16, 4\)"),
        ({"channels": 3}, r"head.weight is \(4, 1, 3, 3\) in the file and \(4, 3, 3, 3\) in the network"),
        ({"attention": ()}, r"the file's down.0.attention.norm.weight \(4,\) is not in the network"),
        ({"attention": (0, 1)}, r"the network's down.3.attention.norm.weight \(8,\) is not in the file"),
    ],
)
def test_wrong_architecture_is_an_error_that_says_what_the_file_holds(tmp_path, change, difference):
    path = write(tmp_path / "a.pth", official_content())
    holds = r"holds a prox network of .* \(1 channels, U-Net of width 4, multipliers 1-2, attention on levels 0"
    with pytest.raises(CheckpointError, match=f"a.pth does not fit the model: {difference}.*{holds}") as caught:
        build_official(path, described(replace(TINY, **change)))
    assert "\n" not in str(caught.value)


def test_wrong_preset_is_an_error_that_names_those_that_fit(tmp_path):
    network = get_preset("digits-prox-hybrid").model.network
    path = write(tmp_path / "a.pth", official_content(network))
    with pytest.raises(CheckpointError, match=r"which fits .*digits-prox-hybrid, digits-prox-backward$"):
        build_official(path, get_preset("digits-score").model)
    assert build_official(path, get_preset("digits-prox-backward").model).parametrisation.name == "epsilon"


@pytest.mark.parametrize("new_format", [True, False])
def test_missing_and_truncated_files_are_errors(tmp_path, new_format):
    whole = write(tmp_path / "a.pth", official_content(), _use_new_zipfile_serialization=new_format).read_bytes()
    path = tmp_path / "cut.pth"
    for missing in (path, tmp_path):
        with pytest.raises(CheckpointError, match=f"there is no file {missing}"):
            read_official(missing)
    for kept in (0.0, 0.01, 0.5, 0.99):
        path.write_bytes(whole[: int(kept * len(whole))])
        with pytest.raises(CheckpointError, match=r"cut.pth .*(cut short|damaged|not a PyTorch checkpoint)"):
            read_official(path)


def test_one_flipped_bit_is_an_error(tmp_path):
    content = official_content()
    path = write(tmp_path / "a.pth", content)
    marker = next(iter(content["model_state_dict"].values())).numpy().tobytes()
    raw = bytearray(path.read_bytes())
    raw[raw.index(marker) + 5] ^= 1
    path.write_bytes(raw)
    assert torch.load(path, weights_only=True)  # torch itself does not notice
    with pytest.raises(CheckpointError, match=r"a.pth is damaged .checksum of .* is wrong.; download it again"):
        read_official(path)


def test_other_files_are_errors(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images/1.txt", "hello")
    for content in (path.read_bytes(), b"not a checkpoint\n" * 20, b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK nonsense"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"a.pth .*not a PyTorch checkpoint"):
            read_official(path)


class Foreign:
    """Unpickled without care, it makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("way", ["new", "old", "pickle 2", "pickle 5"])
def test_foreign_objects_are_not_executed(tmp_path, way):
    proof, path = tmp_path / "executed", tmp_path / "a.pth"
    content = {"model_state_dict": Foreign(proof)}
    if way.startswith("pickle"):
        path.write_bytes(pickle.dumps(content, protocol=int(way[-1])))
    else:
        write(path, content, _use_new_zipfile_serialization=way == "new")
    # torch's restricted reader knows protocol 2 only, in which it writes itself, and stops earlier in others.
    refused = r"holds an object .*mkdir.*nothing of it was executed"
    with pytest.raises(CheckpointError, match="not a PyTorch" if way == "pickle 5" else refused) as caught:
        read_official(path)
    assert not proof.exists()
    assert "weights_only" not in str(caught.value)  # torch's advice to switch the protection off is not passed on


@pytest.mark.parametrize(
    "content, message",
    [
        ([1, 2], "holds a list, not a dict of weights"),
        ({}, r"has no weights .* its keys are nothing"),
        ({"state": 1, "epoch": 2}, r"no weights \(a key that ends in model_state_dict\); its keys are state, epoch"),
        ({"model_state_dict": [1]}, "model_state_dict should map names to tensors"),
        ({"model_state_dict": {"a": 1}}, "model_state_dict should map names to tensors"),
        ({"model_state_dict": {}}, "not one of the paper's checkpoints, a DDPM U-Net: .*'head.weight'"),
        ({"model_state_dict": {"fc.weight": torch.zeros(2)}}, "not one of the paper's .* U-Net: .*'head.weight'"),
    ],
)
def test_other_contents_are_errors(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message):
        read_official(write(tmp_path / "a.pth", content))


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("model.unet.middleblocks.1.block1.2.bias", None, r"network's middle.1.conv1.bias \(8,\) is not in the file"),
        ("model.unet.label_embedding.weight", (10, 4), r"label_embedding.weight \(10, 4\) is not in the network"),
        ("model.unet.tail.0.bias", (5,), r"tail.0.bias is \(5,\) in the file and \(4,\) in the network"),
        ("head.weight", (4, 1, 3, 3), "two parameters that become head.weight, the second is head.weight"),
    ],
)
def test_networks_that_are_nearly_right_are_errors(tmp_path, key, value, message):
    content = official_content()
    weights = content["model_state_dict"]
    if value is None:
        del weights[key]
    else:
        weights[key] = torch.zeros(value)
    with pytest.raises(CheckpointError, match=message):
        read_official(write(tmp_path / "a.pth", content))
