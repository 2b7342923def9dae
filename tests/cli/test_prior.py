"""`proxdm prior`: fit, show, and where it is kept."""

from __future__ import annotations

import pytest

from proxdm import load
from proxdm.checkpoints.portable import save_model
from tiny_models import SCORE, random_model

SIZES = "--components 2 --directions 8 --rank 4"


@pytest.fixture
def model():
    return save_model(random_model(SCORE), "model.safetensors")


def test_fit_stores_the_prior_with_the_model_and_show_reads_it(model, tmp_path, succeeds, refused):
    said = succeeds(f"prior fit {model} {SIZES} --figure f/fit.png")
    for words in (
        "2 components of rank 4 in 8 directions of 95 pictures",
        "gains on 5 held images",
        "copying: not counted, digits has no part that nothing saw",
    ):
        assert words in said.out
    assert f"written to {model}" in said.err
    assert load(model).prior.components == 2
    assert (tmp_path / "f" / "fit.png").stat().st_size > 10_000
    assert succeeds(f"prior show {model}").out in said.out
    assert "2 components of rank 4" in succeeds(f"info {model}").out
    assert "has a prior already" in refused(f"prior fit {model} {SIZES}")
    succeeds(f"prior fit {model} --components 1 --overwrite")
    drawn = succeeds(f"sample {model} --steps 2 --samples 4 --out x.png")
    assert "by multistep on rho(2, start=" in drawn.out


def test_a_prior_in_a_file_of_its_own(model, succeeds):
    succeeds(f"prior fit {model} {SIZES} --out prior.safetensors")
    assert load(model).prior is None
    drawn = succeeds(f"sample {model} --steps 3 --samples 2 --sampler ddim --out a.npz --prior prior.safetensors")
    assert "by ddim on rho(3, start=" in drawn.out
    assert "show.png" in succeeds("prior show prior.safetensors --figure show.png").out


@pytest.mark.parametrize(
    "command, words",
    [
        ("prior show {}", "there is no prior in"),
        ("prior fit {} --out x.npz", "x.npz must end in .safetensors"),
        ("prior fit {} --components 99", "components = 99 must lie between 1 and 47"),
        ("sample {} --prior own", "no prior of its own"),
        ("sample {} --prior nowhere.safetensors", "nowhere.safetensors cannot be read as a prior"),
        ("sample {} --start 2", "start = 2 needs a prior"),
        ("sample {} --steps 0", "--steps = 0 must be at least 1"),
    ],
)
def test_wrong_input_is_one_line(model, command, words, refused):
    assert words in refused(command.format(model))
