"""Models of classes, from labels to guidance: closed forms where there are some, and the way through all verbs."""

import json
import math

import pytest
import torch
from torch import nn

from proxdm import VPSDE, ScoreModel, sample
from proxdm.config import Config, ConfigError, ModelConfig, from_json, to_json
from proxdm.data.images import ImageData
from proxdm.data.load import DataConfig, load_data
from proxdm.errors import DataError
from proxdm.networks import MLPConfig, UNetConfig
from proxdm.operators import Ask, label_indices, of_classes, prox_from_denoiser
from proxdm.presets import get_preset
from proxdm.priors import MixturePrior, fit_prior, load_prior, save_prior
from runs import stepper_of
from tiny_models import shaken

CENTRES = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
SCHEDULE = VPSDE()


class ThreePoints(nn.Module):
    """Three classes, each a Gaussian of standard deviation 1/2 around a point: the exact noise, labels known or not."""

    def forward(self, x, t, labels=None):
        alpha, sigma = SCHEDULE.alpha(t)[:, None], SCHEDULE.sigma(t)[:, None]
        centres, v = CENTRES.to(x), (0.25 * alpha.square() + sigma.square()).to(x)
        moved = x[:, None] - alpha[:, None].to(x) * centres
        w = torch.softmax(-moved.square().sum(2) / (2 * v), 1)
        if labels is not None:
            one = torch.nn.functional.one_hot(labels, 4)[:, :3].to(x)
            w = torch.where((labels < 3)[:, None], one, w)
        return sigma.to(x) * (w[..., None] * moved).sum(1) / v


@pytest.fixture
def points():
    model = ScoreModel(ThreePoints(), SCHEDULE)
    model.classes = ("right", "left", "top")
    return model


def test_of_a_class_are_drawn_its_samples(points):
    x = sample(points, "dpm++2m", 20, (600, 2), classes=["left", 2], seed=0)
    for number, centre in ((0, CENTRES[1]), (1, CENTRES[2])):
        torch.testing.assert_close(x[number::2].double().mean(0), centre, atol=0.1, rtol=0)
        assert float(x[number::2].std(0).mean()) == pytest.approx(0.5, abs=0.04)
    in_turn = sample(points, "dpm++2m", 20, (6, 2), seed=0)
    assert torch.equal(in_turn, sample(points, "dpm++2m", 20, (6, 2), classes=(0, 1, 2), seed=0))


def test_any_is_the_mixture_of_all(points):
    x = sample(points, "dpm++2m", 20, (3000, 2), classes="any", seed=0)
    nearest = torch.cdist(x.double(), CENTRES).argmin(1)
    assert torch.bincount(nearest).tolist() == pytest.approx([1000, 1000, 1000], abs=120)


def test_guidance_is_the_difference_of_two_evaluations(points):
    x, t = torch.randn(6, 2), torch.full((6,), 0.4)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    plain, of_any = points.denoise(x, t, labels), points.denoise(x, t)
    for w in (0.0, 1.0, 2.5):
        guided = of_classes(points, labels, w)
        torch.testing.assert_close(guided.denoise(x, t), of_any + w * (plain - of_any))
        ask = Ask(guided, "denoiser")
        ask.denoise(x, 0.4)
        assert ask.calls == (1 if w == 1 else 2)
    assert of_classes(points, None) is points
    with pytest.raises(ValueError, match="guidance = 2 is asked for, but the model knows no classes"):
        sample(ScoreModel(ThreePoints()), "ddim", 2, (1, 2), guidance=2)


def test_guidance_reaches_the_posterior_mean_of_a_score(points):
    labels = torch.tensor([0, 1])
    prox = prox_from_denoiser(of_classes(points, labels, 2.0))
    y, ask = torch.randn(2, 2), Ask(prox, "prox")
    parts = [prox_from_denoiser(of_classes(points, one)).prox(y, 0.2, 0.3) for one in (labels, torch.full((2,), 3))]
    torch.testing.assert_close(ask.prox(y, 0.2, 0.3), parts[1] + 2 * (parts[0] - parts[1]))
    assert ask.calls == 2


def test_guidance_leads_away_from_the_other_classes(points):
    far = [sample(points, "dpm++2m", 20, (300, 2), classes=[0], guidance=w, seed=0)[:, 0].mean() for w in (1.0, 3.0)]
    assert far[1] > far[0]


@pytest.mark.parametrize("conditioning", ["time", "time-lam"])
@pytest.mark.parametrize(
    "kind, size",
    [(UNetConfig, {"channels": 1, "width": 12, "mult": (1,), "attention": ()}), (MLPConfig, {"dim": 16, "width": 8})],
)
def test_networks_know_of_classes(kind, size, conditioning):
    torch.manual_seed(0)
    network = kind(**size, conditioning=conditioning, classes=3).build((1, 4, 4), 1 + (conditioning == "time-lam"))
    shaken(network, std=0.3)
    x, numbers = torch.randn(2, 1, 4, 4), [torch.rand(2) for _ in range(1 + (conditioning == "time-lam"))]
    told = [network(x, *numbers, labels=torch.tensor([c, c])) for c in range(4)]
    assert all(not torch.allclose(told[c], told[3]) for c in range(3))
    torch.testing.assert_close(network(x, *numbers), told[3])
    plain = kind(**size, conditioning=conditioning).build((1, 4, 4), len(numbers))
    with pytest.raises(ValueError, match="knows no classes"):
        plain(x, *numbers, labels=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="classes = 1 must be 0"):
        kind(**size, classes=1)


def test_labels_of_samples():
    names = ("cat", "dog", "7")
    assert label_indices(names, (), range(2, 6)).tolist() == [2, 0, 1, 2]
    assert label_indices(names, ("dog", "any"), range(3)).tolist() == [1, 3, 1]
    assert label_indices(names, (0, "7"), range(2)).tolist() == [0, 2]  # a name goes before a number
    assert label_indices((), (), range(2)) is None
    with pytest.raises(ValueError, match=r"no class 'dgo' \(did you mean 'dog'\?\); the classes are cat, dog, 7"):
        label_indices(names, ("dgo",), range(2))
    with pytest.raises(ValueError, match="the model knows no classes"):
        label_indices((), ("dog",), range(2))
    with pytest.raises(ValueError, match="guidance = inf must be finite"):
        of_classes(ScoreModel(ThreePoints()), torch.tensor([0]), math.inf)


def test_data_have_labels(tmp_path):
    data = load_data(DataConfig("digits", labels=True, limit=100))
    assert data.classes == tuple("0123456789")
    sevens = load_data(DataConfig("digits", labels=True, classes=("7",), limit=100))
    assert torch.equal(sevens.images, data.images[data.labels == 7])
    assert sevens.preprocessing.endswith("; of 7")
    with pytest.raises(DataError, match="set labels as well"):
        DataConfig("digits", classes=("7",))
    with pytest.raises(DataError, match="there is no class 'seven'"):
        load_data(DataConfig("digits", labels=True, classes=("seven",)))
    with pytest.raises(DataError, match="2 samples have 3 labels"):
        ImageData(torch.zeros(2, 3), "few", labels=torch.zeros(3, dtype=torch.long))
    pairs = [(torch.rand(2), 1), (torch.rand(2), 0), (torch.rand(2), 1)]
    found = load_data(type("Pairs", (torch.utils.data.Dataset,), {
        "__len__": lambda self: 3, "__getitem__": lambda self, i: pairs[i], "classes": ["a", "b"],
    })())  # fmt: skip
    assert (found.labels.tolist(), found.classes) == ([1, 0, 1], ("a", "b"))


def two_clusters(n=400):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    x = torch.randn(n, 6, generator=generator) * torch.tensor([0.1, 0.2, 0.3, 0.1, 0.1, 0.1])
    return x + torch.where(labels == 0, 1.0, -1.0)[:, None], labels


def test_a_prior_of_classes_is_the_prior_of_each(tmp_path):
    x, labels = two_clusters()
    prior = fit_prior(x, 2, 6, 5, labels=labels)
    assert isinstance(prior, MixturePrior)
    assert sorted(prior.groups.tolist()) == [0, 1]
    assert "shared by 2 classes" in prior.facts.rule
    noisy = x[:40] + torch.randn(40, 6)
    told = prior.given(labels[:40])
    for label in (0, 1):
        rows = labels[:40] == label
        alone = prior.of_class(label)
        fitted = x[labels == label].mean(0).double()
        assert alone.components == 1
        torch.testing.assert_close(told.denoise(noisy, 1.0)[rows], alone.denoise(noisy[rows], 1.0))
        torch.testing.assert_close(told.flow(noisy, 3.0, 0.5)[rows], alone.flow(noisy[rows], 3.0, 0.5))
        torch.testing.assert_close(alone.centres[0] @ alone.basis.T + alone.mean, fitted, atol=0.05, rtol=0)
    torch.testing.assert_close(prior.given(torch.full((40,), 2)).denoise(noisy, 1.0), prior.denoise(noisy, 1.0))
    assert prior.given(None) is prior
    again = load_prior(save_prior(prior, tmp_path / "prior.safetensors"))
    torch.testing.assert_close(again.given(labels[:40]).denoise(noisy, 1.0), told.denoise(noisy, 1.0))
    with pytest.raises(ValueError, match="for 40 samples of known classes, and these are 3"):
        told.denoise(noisy[:3], 1.0)
    with pytest.raises(ValueError, match="400 pictures have 3 labels"):
        fit_prior(x, labels=labels[:3])
    assert torch.equal(prior.held_labels, labels[19::20])
    assert torch.equal(prior.held, x[19::20])


def of_digits(**training) -> Config:
    config = get_preset("digits-score").of_classes(tuple("0123456789"))
    text = json.loads(to_json(config))
    text["training"] |= {"steps": 4, "batch_size": 32, **training}
    return from_json(json.dumps(text))


def test_labels_are_left_out_as_often_as_asked():
    for share, expected in ((0.0, 0), (0.5, 0.5)):
        config = of_digits(label_dropout=share, batch_size=800)
        stepper = stepper_of(config, load_data(config.data))
        labels = stepper._labels(0, slice(0, 800))
        assert float((labels == 10).double().mean()) == pytest.approx(expected, abs=0.06)
        index, _ = stepper.stream.draw(0, 800)
        halves = [stepper.stream.labels(0, 800, rank=rank, world_size=2) for rank in (0, 1)]
        assert torch.equal(torch.cat(halves), stepper.stream.labels(0, 800))
        kept = labels != 10
        assert torch.equal(labels[kept], load_data(config.data).labels[index][kept])


def test_a_model_of_classes_wants_data_of_them():
    with pytest.raises(ConfigError, match="have none that are known"):
        stepper_of(of_digits(), load_data("digits"))
    with pytest.raises(ConfigError, match=r"model.classes names 2 classes, model.network.classes = 0"):
        ModelConfig(classes=("a", "b"))
    with pytest.raises(ConfigError, match="label_dropout = 1"):
        of_digits(label_dropout=1.0)


def test_from_labels_to_pictures(tmp_path, monkeypatch, succeeds, refused):
    monkeypatch.chdir(tmp_path)
    flags = "--training.steps 8 --training.batch-size 16 --logging.preview-every 4"
    succeeds(f"train digits-score --labels --out run {flags}")
    drawn = succeeds("sample run --class 3 5 --guidance 2 -n 4 --steps 2 -o a.npz").out
    assert "4 evaluations each" in drawn
    plan = "evaluate run --features pixels --steps 2 -n 40 --out found"
    assert "multistep guidance 1.5" in succeeds(f"{plan} --metrics accuracy --guidance 1.5").out
    succeeds(f"{plan} --metrics accuracy")
    assert "ddim 9, guidance 1" in succeeds(f"{plan} --each-class --sampler ddim").out
    succeeds(f"{plan} --class any --sampler heun")
    rows = [json.loads(line) for line in (tmp_path / "found/results.jsonl").read_text().splitlines()]
    assert [(row.get("classes"), row["guidance"], row["nfe"]) for row in rows[:3]] == [
        (None, 1.5, 4), (None, 1.0, 2), (["0"], 1.0, 2)
    ]  # fmt: skip
    assert [row["reference"]["n"] for row in rows[2:4]] == [178, 182]
    assert "classes           0, 1, 2," in succeeds("info run").out
    succeeds(f"train digits-score --out plain {flags}")
    for wrong, said in {
        "sample run --class shirt": "there is no class 'shirt'",
        "sample plain --class 3": "the model knows no classes",
        "fid digits digits --metrics accuracy": "--metrics accuracy needs a model",
        "sample plain --guidance 2": "guidance = 2 is asked for, but the model knows no classes",
        "evaluate plain --each-class": "the model plain knows no classes",
        "evaluate plain --metrics accuracy --features pixels -n 40": "the model knows none",
        "train dino-score --labels": "datasaurus-dino has no labels",
    }.items():
        assert said in refused(wrong)
