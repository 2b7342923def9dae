"""`proxdm prior`: fit, show, and where it is kept."""

from __future__ import annotations

import pytest

from proxdm import load
from proxdm.checkpoints.portable import save_model
from proxdm.cli import main
from tiny_models import SCORE, random_model

SIZES = ("--components", "2", "--directions", "8", "--rank", "4")


@pytest.fixture
def model(tmp_path):
    return str(save_model(random_model(SCORE), tmp_path / "model.safetensors"))


def test_fit_stores_the_prior_with_the_model_and_show_reads_it(model, tmp_path, capsys, succeeds, refused):
    assert main(["prior", "fit", model, *SIZES, "--figure", str(tmp_path / "f" / "fit.png")]) == 0
    said = capsys.readouterr()
    assert "2 components of rank 4 in 8 directions of 95 pictures" in said.out
    assert "gains on 5 held images" in said.out
    assert "copying: not counted, digits has no part that nothing saw" in said.out
    assert f"written to {model}" in said.err
    assert load(model).prior.components == 2
    assert (tmp_path / "f" / "fit.png").stat().st_size > 10_000
    assert main(["prior", "show", model]) == 0
    assert capsys.readouterr().out in said.out
    assert "2 components of rank 4" in succeeds("info", model).out
    assert "has a prior already" in refused("prior", "fit", model, *SIZES)
    assert main(["prior", "fit", model, "--components", "1", "--overwrite"]) == 0
    said = succeeds("sample", model, "--steps", 2, "--samples", 4, "--out", tmp_path / "x.png")
    assert "by multistep on rho(2, start=" in said.out


def test_a_prior_in_a_file_of_its_own(model, tmp_path, succeeds):
    file = str(tmp_path / "prior.safetensors")
    assert main(["prior", "fit", model, *SIZES, "--out", file]) == 0
    assert load(model).prior is None
    arguments = [
        "sample",
        model,
        "--steps",
        "3",
        "--samples",
        "2",
        "--sampler",
        "ddim",
        "--out",
        str(tmp_path / "a.npz"),
    ]
    assert "by ddim on rho(3, start=" in succeeds(*arguments, "--prior", file).out
    figure = str(tmp_path / "show.png")
    assert figure in succeeds("prior", "show", file, "--figure", figure).out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("prior", "show", "MODEL"), "there is no prior in"),
        (("prior", "fit", "MODEL", "--out", "x.npz"), "x.npz must end in .safetensors"),
        (("prior", "fit", "MODEL", "--components", "99"), "components = 99 must lie between 1 and 47"),
        (("sample", "MODEL", "--prior", "own"), "no prior of its own"),
        (("sample", "MODEL", "--prior", "nowhere.safetensors"), "nowhere.safetensors cannot be read as a prior"),
        (("sample", "MODEL", "--start", "2"), "start = 2 needs a prior"),
        (("sample", "MODEL", "--steps", "0"), "--steps = 0 must be at least 1"),
    ],
)
def test_wrong_input_is_one_line(model, arguments, words, refused):
    assert words in refused(*(model if one == "MODEL" else one for one in arguments))
