"""`proxdm sample`: the right samples, whatever the batches, in every form of output, or one line and nothing."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import proxdm
from proxdm import imaging
from proxdm.checkpoints import load as loading
from proxdm.checkpoints.load import load
from proxdm.checkpoints.portable import save_model
from proxdm.checkpoints.store import TrainingState, create_run, save_checkpoint
from proxdm.cli import main
from proxdm.conditioning import ConditioningConfig
from proxdm.config import ModelConfig
from proxdm.data.load import DataConfig
from proxdm.grids import TimeGrid
from proxdm.networks import MLPConfig, UNetConfig
from proxdm.noise import SeededNoise
from proxdm.pixels import to_uint8
from proxdm.samplers import solve
from tiny_models import NETWORK, PROX, SCORE, random_model


@pytest.fixture
def prox(tmp_path):
    return str(save_model(random_model(PROX), tmp_path / "prox.safetensors", weights="ema-0.9"))


@pytest.fixture
def score(tmp_path):
    return str(save_model(random_model(SCORE), tmp_path / "score.safetensors"))


def sample(source, *arguments):
    return main(["sample", str(source), *map(str, arguments)])


def samples_in(path):
    with np.load(path, allow_pickle=False) as found:
        return found["samples"], json.loads(str(found["metadata"]))


def expected(source, name, grid, count, seed=0):
    model = load(source)
    noise = SeededNoise(seed, range(count), model.config.model.shape)
    return to_uint8(solve(name, model, grid, noise).x).numpy()


def close(first, second):
    """The same pictures, up to the rounding of convolutions that are blocked in another way."""
    return first.shape == second.shape and np.abs(first.astype(int) - second.astype(int)).max() <= 1


def test_samples_are_those_of_the_library(prox, tmp_path):
    assert sample(prox, "--steps", 5, "-n", 4, "--seed", 3, "--out", tmp_path / "a.npz") == 0
    found, metadata = samples_in(tmp_path / "a.npz")
    assert close(found, expected(prox, "prox-hybrid", TimeGrid.uniform(5), 4, seed=3))
    assert metadata["nfe"] == metadata["steps"] == 5
    wanted = {"sampler": "prox-hybrid", "grid": "uniform(5)", "seed": 3, "weights": "ema-0.9", "preset": "tiny"}
    assert wanted.items() <= metadata.items()


def test_another_seed_gives_other_samples_and_the_same_seed_the_same_file(prox, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        sample(prox, "--steps", 5, "-n", 2, "--seed", seed, "--out", tmp_path / f"{name}.png")
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_grid_folder_and_array_hold_the_same_pictures(prox, tmp_path):
    for out in ("a.npz", "a.png", "folder"):
        sample(prox, "--steps", 5, "-n", 5, "--batch-size", 2, "--columns", 3, "--out", tmp_path / out)
    found, _ = samples_in(tmp_path / "a.npz")
    expected = imaging.grid(torch.from_numpy(found), columns=3)
    with Image.open(tmp_path / "a.png") as picture:  # with a caption below
        assert np.array_equal(np.asarray(picture)[: len(expected)], expected)
        assert picture.size[1] > len(expected)
    sample(prox, "--steps", 5, "-n", 5, "--columns", 3, "--no-caption", "--out", tmp_path / "plain.png")
    with Image.open(tmp_path / "plain.png") as picture:
        assert np.array_equal(np.asarray(picture), expected)
    names = sorted(path.name for path in (tmp_path / "folder").iterdir())
    assert names == [*(f"{i:06d}.png" for i in range(5)), "samples.json"]
    for index, name in enumerate(names[:-1]):
        with Image.open(tmp_path / "folder" / name) as picture:
            assert np.array_equal(np.asarray(picture), found[index, 0])
    metadata = imaging.read_png_metadata(tmp_path / "a.png")
    assert metadata == json.loads((tmp_path / "folder" / "samples.json").read_text())
    assert metadata["samples"] == 5


def test_an_animation_goes_from_noise_to_the_samples(prox, tmp_path):
    sample(prox, "--steps", 5, "-n", 4, "--batch-size", 3, "--out", tmp_path / "a.gif")
    sample(prox, "--steps", 5, "-n", 4, "--out", tmp_path / "a.npz")
    first = to_uint8(SeededNoise(0, range(4), (1, 8, 8)).initial())
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 6
        assert np.array_equal(np.asarray(animation.convert("L")), imaging.grid(first))
        animation.seek(5)
        last = np.asarray(animation.convert("L"))
    assert close(last, imaging.grid(torch.from_numpy(samples_in(tmp_path / "a.npz")[0])))


def test_an_animation_can_come_besides(prox, tmp_path):
    assert sample(prox, "--steps", 5, "-n", 2, "--out", tmp_path / "a.png", "--trajectory-gif") == 0
    assert sample(prox, "--steps", 5, "-n", 2, "--out", tmp_path / "folder", "--trajectory-gif") == 0
    assert (tmp_path / "a.gif").read_bytes()[:3] == b"GIF"
    assert (tmp_path / "folder" / "trajectory.gif").is_file()


def test_a_long_trajectory_is_thinned_out(prox, tmp_path):
    sample(prox, "--steps", 100, "-n", 1, "--out", tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames <= 60


def test_the_sampler_is_by_default_the_one_that_was_trained(tmp_path, capsys):
    config = dataclasses.replace(PROX, conditioning=ConditioningConfig("prox-backward", "knots", (50, 100)))
    save_model(random_model(config), tmp_path / "m.safetensors")
    # Random weights shrink what a backward step stretches, so that the samples stay finite.
    assert sample(tmp_path / "m.safetensors", "-n", 1, "--out", tmp_path / "a.npz") == 0
    metadata = samples_in(tmp_path / "a.npz")[1]
    assert (metadata["sampler"], metadata["grid"]) == ("prox-backward", "uniform(50)")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "arguments, name, grid",
    [
        ([], "multistep", TimeGrid.rho(4)),
        (["--grid", "denoising(eps=0.01)", "--sampler", "ode-euler"], "ode-euler", TimeGrid.denoising(4, 0.01)),
        (["--grid", "log-snr"], "multistep", TimeGrid.log_snr(4)),
        (["--grid", "power(rho=1.5)", "--sampler", "ddim(eta=0.5)"], "ddim(eta=0.5)", TimeGrid.power(4, 1.5)),
    ],
)
def test_samplers_and_grids_by_their_texts(score, tmp_path, arguments, name, grid):
    assert sample(score, "--steps", 4, "-n", 2, "--out", tmp_path / "a.npz", *arguments) == 0
    found, metadata = samples_in(tmp_path / "a.npz")
    assert (metadata["sampler"], metadata["grid"]) == (name, grid.name)
    assert close(found, expected(score, name, grid, 2))


def test_a_proximal_sampler_runs_on_the_posterior_mean_of_a_score_model_and_says_so(score, tmp_path, capsys):
    assert sample(score, "--steps", 4, "-n", 2, "--sampler", "prox-hybrid", "--out", tmp_path / "a.npz") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "prox-hybrid" in line
    assert "posterior mean" in line
    found, metadata = samples_in(tmp_path / "a.npz")
    assert (metadata["operator"], metadata["nfe"]) == ("posterior-mean", 4)
    model = proxdm.prox_from_denoiser(load(score))
    wanted = solve("prox-hybrid", model, TimeGrid.uniform(4), SeededNoise(0, range(2), (1, 8, 8))).x
    assert close(found, to_uint8(wanted).numpy())


def test_steps_outside_the_training_are_warned_of(prox, tmp_path, capsys):
    sample(prox, "--steps", 10, "-n", 1, "--out", tmp_path / "a.png")
    assert capsys.readouterr().err == ""
    sample(prox, "--steps", 7, "-n", 1, "--out", tmp_path / "b.png")
    (line,) = capsys.readouterr().err.splitlines()
    assert "warning: 7 of the 7 steps of prox-hybrid on uniform(7) lie outside" in line


def test_bfloat16_is_close_but_not_the_same(prox, tmp_path):
    sample(prox, "--steps", 5, "-n", 4, "--out", tmp_path / "a.npz")
    sample(prox, "--steps", 5, "-n", 4, "--out", tmp_path / "b.npz", "--bf16")
    first, second = (samples_in(tmp_path / name)[0].astype(float) for name in ("a.npz", "b.npz"))
    assert 0 < np.abs(first - second).mean() < 0.2 * np.abs(first - first.mean()).mean()


def test_a_run_gives_the_weight_set_that_is_asked_for(tmp_path):
    create_run(tmp_path / "run", PROX)
    sets = {name: random_model(PROX, i).network.state_dict() for i, name in enumerate(("raw", "ema-0.9"))}
    save_checkpoint(tmp_path / "run", PROX, TrainingState(4), sets, {"m": torch.zeros(1)})
    for weights in ("raw", "ema-0.9"):
        alone = random_model(PROX, ("raw", "ema-0.9").index(weights))
        save_model(alone, tmp_path / f"{weights}.safetensors")
        out = tmp_path / f"{weights}.npz"
        sample(tmp_path / "run", "--steps", 5, "-n", 2, "--weights", weights, "--out", out)
        wanted = expected(tmp_path / f"{weights}.safetensors", "prox-hybrid", TimeGrid.uniform(5), 2)
        assert close(samples_in(out)[0], wanted)


def test_points_go_into_an_array(tmp_path, capsys):
    config = ModelConfig("score", (2,), MLPConfig(dim=2, width=16, depth=1))
    save_model(random_model(config), tmp_path / "m.safetensors")
    assert sample(tmp_path / "m.safetensors", "--steps", 5, "-n", 6, "--out", tmp_path / "a.npz") == 0
    found, _ = samples_in(tmp_path / "a.npz")
    assert (found.shape, found.dtype) == ((6, 2), np.float32)
    assert sample(tmp_path / "m.safetensors", "--steps", 5, "--out", tmp_path / "a.png") == 2
    assert "samples of shape (2,) are no pictures" in capsys.readouterr().err


@pytest.fixture
def latent(tmp_path):
    model = ModelConfig("prox", (4, 8, 8), dataclasses.replace(NETWORK, channels=4))
    config = dataclasses.replace(PROX, model=model, data=DataConfig("latents.npy", values="raw"))
    return save_model(random_model(config), tmp_path / "latent.safetensors")


class Coder:
    """Stands for an autoencoder: three of the four channels, twice as large."""

    module = SimpleNamespace(config=SimpleNamespace(latent_channels=4))

    reduction = 2

    def decode(self, latents):
        return latents[:, 1:].repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_latents_are_decoded_into_pictures(latent, tmp_path, monkeypatch):
    monkeypatch.setattr("proxdm.data.vae.load_vae", lambda name, device: Coder())
    sample(latent, "--steps", 5, "-n", 3, "--latents", "--out", tmp_path / "z.npz")
    sample(latent, "--steps", 5, "-n", 3, "--out", tmp_path / "x.npz", "--trajectory-gif")
    latents, pictures = samples_in(tmp_path / "z.npz")[0], samples_in(tmp_path / "x.npz")[0]
    assert (latents.shape, latents.dtype) == ((3, 4, 8, 8), np.float32)
    assert np.array_equal(pictures, to_uint8(Coder().decode(torch.from_numpy(latents))).numpy())
    assert (tmp_path / "x.gif").is_file()


def test_without_the_autoencoder_latents_are_an_error(latent, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    assert sample(latent, "--steps", 5, "--out", tmp_path / "x.png") == 2
    assert "proxdm[diffusers]" in capsys.readouterr().err
    monkeypatch.setattr("proxdm.data.vae.load_vae", lambda name, device: Coder())
    monkeypatch.setattr(Coder.module.config, "latent_channels", 16)
    assert sample(latent, "--steps", 5, "--out", tmp_path / "x.png") == 2
    assert "has latents of 16 channels, and the model's have 4" in capsys.readouterr().err
    assert sample(latent, "--steps", 5, "--latents", "--out", tmp_path / "x.png") == 2
    assert not (tmp_path / "x.png").exists()


def test_official_files_can_be_sampled(shared, tmp_path, monkeypatch, capsys):
    network = UNetConfig(1, 32, (1, 2), (1,), 1, conditioning="time-lam")
    preset = dataclasses.replace(PROX, model=ModelConfig("prox", (1, 16, 16), network))
    monkeypatch.setattr(loading, "get_preset", {"small": preset}.__getitem__)
    path = shared / "golden" / "official_small_prox.pth"
    arguments = ["--steps", 5, "-n", 2, "--out", tmp_path / "a.npz"]
    assert sample(path, *arguments) == 2
    assert "--preset" in capsys.readouterr().err
    assert sample(path, *arguments, "--preset", "small") == 0
    model = loading.load_official(path, "small")
    wanted = solve("prox-hybrid", model, TimeGrid.uniform(5), SeededNoise(0, range(2), (1, 16, 16))).x
    found, metadata = samples_in(tmp_path / "a.npz")
    assert close(found, to_uint8(wanted).numpy())
    assert metadata["weights"] == "ema0.9999"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "a.jpg"], r"ends in .jpg; use .png (grid), .npz (array), .gif"),
        (["--out", "a.gif", "--trajectory-gif"], "is an animation by itself"),
        (["-n", "0"], "--samples = 0 must be at least 1"),
        (["--seed", "-1"], "--seed = -1 must be at least 0"),
        (["--columns", "0"], "--columns = 0"),
        (["--grid", "power(eps=2)"], "power has no parameter 'eps'"),
        (["--sampler", "prox-hybird"], "did you mean 'prox-hybrid'"),
        (["--sampler", "ode-euler"], "needs a model with .score"),
        (["--sampler", "prox-backward", "--steps", "3"], "gamma"),
        (["--device", "quantum"], "device = quantum cannot be used here"),
        (["--preset", "mnist-score"], "preset = 'mnist-score' is for .pth files"),
        (["--weights", "raw"], "has no weights named 'raw'; it has ema-0.9"),
        (["--latents"], "--latents is for latent models"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(prox, tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["sample", prox, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("proxdm: error: ")
    assert message in line
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("out", ["a.png", "folder"])
def test_results_are_not_overwritten_unless_told(prox, tmp_path, capsys, out):
    sample(prox, "--steps", 5, "-n", 4, "--out", tmp_path / out)
    assert sample(prox, "--steps", 5, "-n", 2, "--out", tmp_path / out) == 2
    assert "already; add --overwrite" in capsys.readouterr().err
    assert sample("nowhere", "--steps", 5, "-n", 2, "--out", tmp_path / out) == 2
    assert "there is no model 'nowhere'" in capsys.readouterr().err, "what is wrong with the model comes first"
    assert sample(prox, "--steps", 5, "-n", 2, "--out", tmp_path / out, "--overwrite") == 0
    if out == "folder":
        left = sorted(path.name for path in (tmp_path / out).iterdir())
        assert left == ["000000.png", "000001.png", "samples.json"]


def test_pictures_that_are_there_are_noticed_without_their_record(prox, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "000001.png").touch()
    assert sample(prox, "--steps", 5, "-n", 3, "--out", tmp_path / "folder") == 2
    assert "holds 000001.png already" in capsys.readouterr().err


def test_samples_that_are_not_finite_leave_nothing(tmp_path, capsys):
    model = random_model(PROX)
    torch.nn.init.constant_(model.network.head.bias, float("inf"))
    path = save_model(model, tmp_path / "m.safetensors")
    for out in ("a.png", "folder"):
        assert sample(path, "--steps", 5, "-n", 2, "--out", tmp_path / out) == 2
        assert "2 of 2 samples of prox-hybrid are not finite" in capsys.readouterr().err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "m.safetensors"]
    assert not list((tmp_path / "folder").iterdir())
