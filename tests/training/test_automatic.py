"""A configuration for any pictures: what is read from them, what follows from the budget, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import proxdm
from proxdm.cli import main
from proxdm.config import ConfigError, ModelConfig
from proxdm.errors import DataError
from proxdm.networks import MLPConfig
from proxdm.networks.embeddings import retold
from proxdm.presets import get_preset
from proxdm.training.automatic import _of_length, configure, look, mirrors, seconds_of
from proxdm.training.loop import start_from


def folder(path, count=40, sizes=(20, 40), grey=False, lean=0):
    """Pictures of mixed sizes: noise, brighter by `lean` on the right."""
    path.mkdir()
    draws = np.random.default_rng(0)
    for i in range(count):
        height, width = draws.integers(sizes[0], sizes[1] + 1, 2)
        pixels = draws.integers(0, 150, (height, width, 3))
        pixels[:, width // 2 :] += lean
        if grey:
            pixels = pixels[..., :1].repeat(3, 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path / f"{i}.png")
    return path


@pytest.mark.parametrize(
    ("text", "seconds"), [("30min", 1800), ("8h", 28800), ("90s", 90), ("1.5h", 5400), ("2 d", 172800), ("5m", 300)]
)
def test_budgets(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "soon", "1s", "-3h", "3 weeks"])
def test_what_is_no_budget(text):
    with pytest.raises(ConfigError, match="30min"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("sizes", "wanted", "side"), [((40, 60), None, 32), ((20, 30), None, 16), ((5, 9), None, 8), ((40, 60), 24, 24)]
)
def test_side_is_what_half_of_the_pictures_have(tmp_path, sizes, wanted, side):
    config, data, said = look(str(folder(tmp_path / "p", sizes=sizes)), wanted, 32)
    assert config.size == side
    assert data.shape == (3, side, side)
    assert "40 pictures" in said


def test_grey_pictures_in_colour_files_are_grey(tmp_path):
    config, data, _ = look(str(folder(tmp_path / "p", grey=True)), None, 32)
    assert config.grey
    assert data.shape[0] == 1


@pytest.mark.parametrize(("lean", "symmetric"), [(0, True), (60, False)])
def test_flips_are_read_from_the_mean_picture(tmp_path, lean, symmetric):
    _, data, _ = look(str(folder(tmp_path / "p", count=100, lean=lean)), None, 32)
    assert mirrors(data) == symmetric


def test_more_budget_means_more_steps_and_no_narrower_network(tmp_path):
    path = str(folder(tmp_path / "p", sizes=(8, 12)))
    short, long = (configure(path, budget).config for budget in ("30s", "12h"))
    assert long.model.network.width >= short.model.network.width
    assert long.training.steps > short.training.steps
    assert short.data.size == 8


@pytest.mark.parametrize(("seconds", "taken"), [(60, 0.01), (120, 1.4), (600, 1.4), (10, 3.0)])
def test_a_budget_is_used_and_kept_where_it_allows_some_steps(seconds, taken):
    config, _ = _of_length(get_preset("digits-score"), seconds, taken, torch.device("cpu"))
    steps = config.training.steps
    assert steps == 50 if seconds == 10 else 0.8 * seconds < steps * taken <= seconds


def test_known_data_and_points_work_too():
    chosen = configure("digits", "60s")
    assert chosen.config.model.shape == (1, 8, 8)
    points = configure("datasaurus-dino", "60s")
    assert points.config.model.shape == (2,)
    assert any("--budget" in line for line in points.lines)


@pytest.mark.slow
def test_two_commands_from_a_folder_to_pictures(tmp_path, monkeypatch, capsys, succeeds):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "pics", sizes=(8, 20))
    error = succeeds("train", "pics", "--budget", "10s", "--training.steps", "40", "--logging.preview-every", "0").err
    for words in ("40 pictures", "flips:", "network:", "steps:", "--size"):
        assert words in error
    shown = succeeds("sample", "runs/pics").out
    assert "5 evaluations each" in shown
    assert Image.open("samples.png").size[0] > 200
    assert proxdm.load("runs/pics").prior is not None
    # Going on: the configuration is the run's, not one of today's timing.
    succeeds("train pics --out runs/b --budget 10s --training.steps 10 --init runs/pics --dry-run")
    assert main(["train", "pics", "--budget", "10s"]) == 2
    assert "runs/pics" in capsys.readouterr().err


BOX = [
    ((32, 50), False, "cifar10"),
    ((32, 50), True, "fashion-mnist"),
    ((8, 12), True, "digits"),
    ((8, 12), False, None),
]


@pytest.mark.parametrize(("sizes", "grey", "start"), BOX)
def test_a_model_in_the_box_is_gone_on_from(tmp_path, sizes, grey, start):
    path = str(folder(tmp_path / "p", count=20, sizes=sizes, grey=grey))
    chosen = configure(path, "10s")
    assert chosen.init == start
    said = [line for line in chosen.lines if line.startswith("weights: ")]
    assert len(said) == (start is not None)
    if start is not None:
        assert "--init none" in said[0]
        assert chosen.config.model == replace(box_model(start), classes=(), network=chosen.config.model.network)
        start_from(chosen.config.model.build(), start)  # its network, without classes
    assert configure(path, "10s", init="none").init is None


def box_model(name):
    config = proxdm.load(name).config
    return getattr(config, "model", config)


def test_a_model_that_is_named_says_size_colours_and_network(tmp_path):
    path = str(folder(tmp_path / "p", sizes=(40, 60)))
    chosen = configure(path, "10s", init="digits")
    assert (chosen.config.data.size, chosen.config.data.grey) == (8, True)
    assert chosen.config.model == box_model("digits")
    with pytest.raises(ConfigError, match=r"--init digits is a model of samples of 1x8x8.* 1x16x16"):
        configure(path, "10s", 16, init="digits")
    with pytest.raises(ConfigError, match="score model"):
        configure(path, "10s", init=prox_model(tmp_path))


def prox_model(path):
    model = ModelConfig("prox", (2,), MLPConfig(2, 8, 1, conditioning="time-lam"), "prox").build()
    model.save_pretrained(path / "model")
    return str(path / "model")


def test_long_trainings_begin_with_a_wider_network(tmp_path):
    assert configure(str(folder(tmp_path / "p", sizes=(8, 12), grey=True)), "100d").init is None


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("after", [0, 4])
@pytest.mark.parametrize("conditioning", ["time", "time-lam"])
def test_other_classes_begin_as_no_class(before, after, conditioning):
    config = MLPConfig(2, 8, 1, conditioning=conditioning, classes=before)
    conditions = 1 if conditioning == "time" else 2
    old, new = config.build((2,), conditions), replace(config, classes=after).build((2,), conditions)
    new.load_state_dict(retold(old.state_dict(), after))
    inputs = torch.randn(5, 2), *torch.rand(conditions, 5)
    for labels in (None, *([torch.arange(5) % after] if after else [])):
        torch.testing.assert_close(new(*inputs, **({} if labels is None else {"labels": labels})), old(*inputs))


def test_another_network_than_the_one_in_the_box(tmp_path, monkeypatch, succeeds):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "p", count=20, sizes=(8, 12), grey=True)
    error = succeeds("train p --budget 10s --model.network.width 8 --training.steps 2 --dry-run").err
    assert "those of digits" in error
    assert "new ones after all" in error


def test_weights_to_start_from():
    model, other = proxdm.load("digits"), proxdm.load("digits")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    start_from(other, "digits")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    with pytest.raises(ConfigError, match="another network"):
        start_from(other, "fashion-mnist")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("train few", "20 are the least"),
        ("train pics --budget soon", "30min"),
        ("train pics --size 7", "multiple of 4"),
        ("train digits-score --budget 1h", "--training.steps"),
        ("train nowhere", "nowhere"),
        ("train nowhere --budget 1h", "'nowhere' is neither data"),
        ("train --budget 1h", "name the data"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, refused, options, words):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "pics")
    folder(tmp_path / "few", count=3)
    assert words in refused(options)
    assert not (tmp_path / "runs").exists()


def test_a_folder_without_readable_pictures(tmp_path):
    (tmp_path / "p").mkdir()
    for i in range(30):
        (tmp_path / "p" / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="can be decoded"):
        look(str(tmp_path / "p"), None, 32)
