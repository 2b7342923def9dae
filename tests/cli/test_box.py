"""Models in the box: they are whole, small, load by name, draw, and nothing is ever written into the package."""

from __future__ import annotations

import json

import pytest
import torch

import proxdm
from proxdm.checkpoints.load import BOX


def test_there_are_some_each_small_with_a_card():
    assert set(BOX) >= {"digits", "fashion-mnist"}
    card = (next(iter(BOX.values())).parent / "README.md").read_text()
    for name, path in BOX.items():
        assert path.stat().st_size < (8e6 if name == "cifar10" else 3e6)
        assert f"| `{name}` |" in card


@pytest.mark.parametrize("name", sorted(BOX))
def test_every_verb_knows_them_and_two_evaluations_draw_pictures(name, tmp_path, succeeds):
    assert "model in the box" in succeeds(f"info {name}").out
    assert "starts:" in succeeds(f"prior show {name}").out
    assert "2 evaluations each" in succeeds(f"sample {name} --steps 2 -n 16 --out {tmp_path}/a.npz").out
    model = proxdm.load(name)
    x = proxdm.sample(model, "multistep", 2, (64, *model.config.model.shape), seed=0)
    # Pictures: about half of the pixels of digits and garments are background, and nothing is far outside.
    assert x.abs().max() < 2
    background = 0.01 if model.config.model.shape[0] == 3 else 0.2
    assert ((x < -0.9).float().mean() > background) & (x.std() > 0.3)


def test_a_file_or_folder_of_that_name_comes_first():
    model = proxdm.load("digits")
    with torch.no_grad():
        next(model.parameters()).zero_()
    model.save_pretrained("digits")
    assert not next(proxdm.load("digits").parameters()).any()


@pytest.mark.parametrize("command", ["prior fit digits --overwrite", "tune digits --steps 2"])
def test_the_package_is_not_written_to(command, refused):
    before = BOX["digits"].read_bytes()
    assert "--out" in refused(command)
    assert BOX["digits"].read_bytes() == before


def test_unknown_names_list_the_box(refused):
    assert "in the box (cifar10, digits, fashion-mnist-classes, fashion-mnist)" in refused("sample digit")


def test_mosaic(succeeds, refused):
    command = "mosaic digits --steps 1 2 --count 3 --sampler multistep dpm++2m prox-backward"
    out, err = succeeds(command)
    assert out.split() == ["mosaic.png,", "mosaic.svg"]
    assert "prox-backward at N = 1 is left out" in err  # gamma must be below 2
    assert "exists already" in refused(command)
    refused("mosaic digits --out a.gif")


@pytest.mark.slow
def test_demo_is_one_page_without_anything_from_elsewhere(tmp_path, succeeds, refused):
    succeeds("demo")
    page = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 6
    assert "http" not in page.split("base64", 1)[0]
    assert json.loads((tmp_path / "demo" / "toy" / "results.json").read_text())
    refused("demo")
