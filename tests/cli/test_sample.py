"""`proxdm sample`: the right samples, whatever the batches, in every form of output, or one line and nothing."""

from __future__ import annotations

import dataclasses
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import proxdm
from archives import png_metadata
from proxdm import imaging
from proxdm.checkpoints import load as loading
from proxdm.checkpoints.load import load
from proxdm.checkpoints.portable import save_model
from proxdm.checkpoints.store import TrainingState, create_run, save_checkpoint
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
def prox(here):
    return save_model(random_model(PROX), "prox.safetensors", weights="ema-0.9")


@pytest.fixture
def score(here):
    return save_model(random_model(SCORE), "score.safetensors")


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


def test_samples_are_those_of_the_library(prox, succeeds):
    succeeds(f"sample {prox} --steps 5 -n 4 --seed 3 --out a.npz")
    found, metadata = samples_in("a.npz")
    assert close(found, expected(prox, "prox-hybrid", TimeGrid.uniform(5), 4, seed=3))
    assert metadata["nfe"] == metadata["steps"] == 5
    wanted = {"sampler": "prox-hybrid", "grid": "uniform(5)", "seed": 3, "weights": "ema-0.9", "preset": "tiny"}
    assert wanted.items() <= metadata.items()


def test_another_seed_gives_other_samples_and_the_same_seed_the_same_file(prox, here, succeeds):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        succeeds(f"sample {prox} --steps 5 -n 2 --seed {seed} --out {name}.png")
    a, b, c = ((here / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_grid_folder_and_array_hold_the_same_pictures(prox, here, succeeds):
    for out in ("a.npz", "a.png", "folder", "plain.png --no-caption"):
        succeeds(f"sample {prox} --steps 5 -n 5 --batch-size 2 --columns 3 --out {out}")
    found, _ = samples_in("a.npz")
    expected = imaging.grid(torch.from_numpy(found), columns=3)
    captioned, plain = (np.asarray(Image.open(name)) for name in ("a.png", "plain.png"))
    assert np.array_equal(captioned[: len(expected)], expected)
    assert len(captioned) > len(expected)
    assert np.array_equal(plain, expected)
    names = sorted(path.name for path in (here / "folder").iterdir())
    assert names == [*(f"{i:06d}.png" for i in range(5)), "samples.json"]
    for index, name in enumerate(names[:-1]):
        assert np.array_equal(np.asarray(Image.open(here / "folder" / name)), found[index, 0])
    metadata = png_metadata(here / "a.png")
    assert metadata == json.loads((here / "folder" / "samples.json").read_text())
    assert metadata["samples"] == 5


def test_an_animation_goes_from_noise_to_the_samples(prox, succeeds):
    succeeds(f"sample {prox} --steps 5 -n 4 --batch-size 3 --out a.gif")
    succeeds(f"sample {prox} --steps 5 -n 4 --out a.npz")
    first = to_uint8(SeededNoise(0, range(4), (1, 8, 8)).initial())
    with Image.open("a.gif") as animation:
        assert animation.n_frames == 6
        assert np.array_equal(np.asarray(animation.convert("L")), imaging.grid(first))
        animation.seek(5)
        last = np.asarray(animation.convert("L"))
    assert close(last, imaging.grid(torch.from_numpy(samples_in("a.npz")[0])))


def test_an_animation_can_come_besides_and_a_long_one_is_thinned_out(prox, here, succeeds):
    for out in ("a.png", "folder"):
        succeeds(f"sample {prox} --steps 5 -n 2 --out {out} --trajectory-gif")
    assert (here / "a.gif").read_bytes()[:3] == b"GIF"
    assert (here / "folder" / "trajectory.gif").is_file()
    succeeds(f"sample {prox} --steps 100 -n 1 --out long.gif")
    assert Image.open("long.gif").n_frames <= 60


def test_the_sampler_is_by_default_the_one_that_was_trained(succeeds):
    config = dataclasses.replace(PROX, conditioning=ConditioningConfig("prox-backward", "knots", (50, 100)))
    save_model(random_model(config), "m.safetensors")
    # Random weights shrink what a backward step stretches, so that the samples stay finite.
    assert succeeds("sample m.safetensors -n 1 --out a.npz").err == ""
    metadata = samples_in("a.npz")[1]
    assert (metadata["sampler"], metadata["grid"]) == ("prox-backward", "uniform(50)")


@pytest.mark.parametrize(
    "options, name, grid",
    [
        ("", "multistep", TimeGrid.rho(4)),
        ("--grid denoising(eps=0.01) --sampler ode-euler", "ode-euler", TimeGrid.denoising(4, 0.01)),
        ("--grid log-snr", "multistep", TimeGrid.log_snr(4)),
        ("--grid power(rho=1.5) --sampler ddim(eta=0.5)", "ddim(eta=0.5)", TimeGrid.power(4, 1.5)),
    ],
)
def test_samplers_and_grids_by_their_texts(score, succeeds, options, name, grid):
    succeeds(f"sample {score} --steps 4 -n 2 --out a.npz {options}")
    found, metadata = samples_in("a.npz")
    assert (metadata["sampler"], metadata["grid"]) == (name, grid.name)
    assert close(found, expected(score, name, grid, 2))


def test_a_proximal_sampler_runs_on_the_posterior_mean_of_a_score_model_and_says_so(score, succeeds):
    (line,) = succeeds(f"sample {score} --steps 4 -n 2 --sampler prox-hybrid --out a.npz").err.splitlines()
    assert "prox-hybrid" in line
    assert "posterior mean" in line
    found, metadata = samples_in("a.npz")
    assert (metadata["operator"], metadata["nfe"]) == ("posterior-mean", 4)
    model = proxdm.prox_from_denoiser(load(score))
    wanted = solve("prox-hybrid", model, TimeGrid.uniform(4), SeededNoise(0, range(2), (1, 8, 8))).x
    assert close(found, to_uint8(wanted).numpy())


def test_steps_outside_the_training_are_warned_of(prox, succeeds):
    assert succeeds(f"sample {prox} --steps 10 -n 1 --out a.png").err == ""
    (line,) = succeeds(f"sample {prox} --steps 7 -n 1 --out b.png").err.splitlines()
    assert "warning: 7 of the 7 steps of prox-hybrid on uniform(7) lie outside" in line


def test_bfloat16_is_close_but_not_the_same(prox, succeeds):
    for out in ("a.npz", "b.npz --bf16"):
        succeeds(f"sample {prox} --steps 5 -n 4 --out {out}")
    first, second = (samples_in(name)[0].astype(float) for name in ("a.npz", "b.npz"))
    assert 0 < np.abs(first - second).mean() < 0.2 * np.abs(first - first.mean()).mean()


def test_a_run_gives_the_weight_set_that_is_asked_for(here, succeeds):
    create_run(here / "run", PROX)
    models = {name: random_model(PROX, i) for i, name in enumerate(("raw", "ema-0.9"))}
    sets = {name: model.network.state_dict() for name, model in models.items()}
    save_checkpoint(here / "run", PROX, TrainingState(4), sets, {"m": torch.zeros(1)})
    for name, model in models.items():
        succeeds(f"sample run --steps 5 -n 2 --weights {name} --out {name}.npz")
        alone = save_model(model, f"{name}.safetensors")
        assert close(samples_in(f"{name}.npz")[0], expected(alone, "prox-hybrid", TimeGrid.uniform(5), 2))


def test_points_go_into_an_array_or_are_drawn(succeeds, refused):
    config = ModelConfig("score", (2,), MLPConfig(dim=2, width=16, depth=1))
    save_model(random_model(config), "m.safetensors")
    succeeds("sample m.safetensors --steps 5 -n 6 --out a.npz")
    found, _ = samples_in("a.npz")
    assert (found.shape, found.dtype) == ((6, 2), np.float32)
    succeeds("sample m.safetensors --steps 5 -n 6 --out a.png --no-caption")
    with Image.open("a.png") as picture:
        assert np.array_equal(np.asarray(picture), imaging.grid(torch.from_numpy(found)))
    config = dataclasses.replace(config, shape=(3,), network=dataclasses.replace(config.network, dim=3))
    save_model(random_model(config), "space.safetensors")
    assert "samples of shape (3,) are neither" in refused("sample space.safetensors --steps 5 --out b.png")


@pytest.fixture
def latent(here):
    model = ModelConfig("prox", (4, 8, 8), dataclasses.replace(NETWORK, channels=4))
    config = dataclasses.replace(PROX, model=model, data=DataConfig("latents.npy", values="raw"))
    return save_model(random_model(config), "latent.safetensors")


class Coder:
    """Stands for an autoencoder: three of the four channels, twice as large."""

    module = SimpleNamespace(config=SimpleNamespace(latent_channels=4))

    reduction = 2

    def decode(self, latents):
        return latents[:, 1:].repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_latents_are_decoded_into_pictures(latent, here, monkeypatch, succeeds):
    monkeypatch.setattr("proxdm.data.vae.load_vae", lambda name, device: Coder())
    succeeds(f"sample {latent} --steps 5 -n 3 --latents --out z.npz")
    succeeds(f"sample {latent} --steps 5 -n 3 --out x.npz --trajectory-gif")
    latents, pictures = samples_in("z.npz")[0], samples_in("x.npz")[0]
    assert (latents.shape, latents.dtype) == ((3, 4, 8, 8), np.float32)
    assert np.array_equal(pictures, to_uint8(Coder().decode(torch.from_numpy(latents))).numpy())
    assert (here / "x.gif").is_file()


def test_without_the_autoencoder_latents_are_an_error(latent, here, monkeypatch, refused):
    command = f"sample {latent} --steps 5 --out x.png"
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert "proxdm[diffusers]" in refused(command)
    monkeypatch.setattr("proxdm.data.vae.load_vae", lambda name, device: Coder())
    monkeypatch.setattr(Coder.module.config, "latent_channels", 16)
    assert "has latents of 16 channels, and the model's have 4" in refused(command)
    refused(f"{command} --latents")
    assert not (here / "x.png").exists()


def test_official_files_can_be_sampled(shared, monkeypatch, succeeds, refused):
    network = UNetConfig(1, 32, (1, 2), (1,), 1, conditioning="time-lam")
    preset = dataclasses.replace(PROX, model=ModelConfig("prox", (1, 16, 16), network))
    monkeypatch.setattr(loading, "get_preset", {"small": preset}.__getitem__)
    path = shared / "golden" / "official_small_prox.pth"
    command = ["sample", path, "--steps", 5, "-n", 2, "--out", "a.npz"]
    assert "--preset" in refused(*command)
    succeeds(*command, "--preset", "small")
    model = loading.load_official(path, "small")
    wanted = solve("prox-hybrid", model, TimeGrid.uniform(5), SeededNoise(0, range(2), (1, 16, 16))).x
    found, metadata = samples_in("a.npz")
    assert close(found, to_uint8(wanted).numpy())
    assert metadata["weights"] == "ema0.9999"


@pytest.mark.parametrize(
    "options, message",
    [
        ("--out a.jpg", r"ends in .jpg; use .png (grid), .npz (array), .gif"),
        ("--out a.gif --trajectory-gif", "is an animation by itself"),
        ("-n 0", "--samples = 0 must be at least 1"),
        ("--seed -1", "--seed = -1 must be at least 0"),
        ("--columns 0", "--columns = 0"),
        ("--grid power(eps=2)", "power has no parameter 'eps'"),
        ("--sampler prox-hybird", "did you mean 'prox-hybrid'"),
        ("--sampler ode-euler", "needs a model with .score"),
        ("--sampler prox-backward --steps 3", "gamma"),
        ("--device quantum", "device = quantum cannot be used here"),
        ("--preset mnist-score", "preset = 'mnist-score' is for .pth files"),
        ("--weights raw", "has no weights named 'raw'; it has ema-0.9"),
        ("--latents", "--latents is for latent models"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(prox, here, refused, options, message):
    assert message in refused(f"sample {prox} {options}")
    assert list(here.iterdir()) == [here / prox]


@pytest.mark.parametrize("out", ["a.png", "folder"])
def test_results_are_not_overwritten_unless_told(prox, here, succeeds, refused, out):
    succeeds(f"sample {prox} --steps 5 -n 4 --out {out}")
    again = f"--steps 5 -n 2 --out {out}"
    assert "already; overwrite it (--overwrite)" in refused(f"sample {prox} {again}")
    assert "there is no model 'nowhere'" in refused(f"sample nowhere {again}"), "the model comes first"
    succeeds(f"sample {prox} {again} --overwrite")
    if out == "folder":
        left = sorted(path.name for path in (here / out).iterdir())
        assert left == ["000000.png", "000001.png", "samples.json"]


def test_pictures_that_are_there_are_noticed_without_their_record(prox, here, refused):
    (here / "folder").mkdir()
    (here / "folder" / "000001.png").touch()
    assert "000001.png exists already" in refused(f"sample {prox} --steps 5 -n 3 --out folder")


def test_samples_that_are_not_finite_leave_nothing(here, refused):
    model = random_model(PROX)
    torch.nn.init.constant_(model.network.head.bias, float("inf"))
    save_model(model, "m.safetensors")
    for out in ("a.png", "folder"):
        said = refused(f"sample m.safetensors --steps 5 -n 2 --out {out}")
        assert "2 of 2 samples of prox-hybrid are not finite" in said
    assert sorted(path.name for path in here.rglob("*")) == ["folder", "m.safetensors"]
