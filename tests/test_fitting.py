"""Priors of trained models: what they are fitted to, where they are kept, what samplers make of them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from proxdm import GaussianMixture, TimeGrid, load, sample
from proxdm.checkpoints.load import Opened
from proxdm.checkpoints.portable import save_model
from proxdm.data.images import ImageData
from proxdm.data.load import DataConfig, load_data
from proxdm.evaluation import EvaluationPlan, evaluate
from proxdm.fitting import PriorPlan, fit_model_prior, held_images, in_words
from proxdm.generation import SamplePlan, choose_method, generate
from proxdm.priors import GainCurve, GaussianPrior, PriorError, fit_prior, save_prior
from proxdm.training import train_config
from runs import changed
from tiny_models import PROX, SCORE, random_model

CURVE = GainCurve((0.5, 1.0, 2.0, 4.0), (0.6, 0.8, 0.9, 1.0), 64, str(SCORE.model.schedule))


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


@pytest.fixture(scope="module")
def prior(digits):
    return dataclasses.replace(fit_prior(digits.images, 4, 16, 8, data="digits"), curve=CURVE)


@pytest.fixture
def score(prior):
    model = random_model(SCORE)
    model.prior = prior
    return model


def test_a_prior_is_fitted_to_the_data_of_the_training(score, digits):
    prior = fit_model_prior(score, plan=PriorPlan(components=2, directions=8, rank=4))
    assert (prior.facts.data, prior.facts.count, prior.components) == ("digits", 100, 2)
    assert prior.curve.schedule == str(score.schedule)
    assert "starts at ratio" in in_words(prior)
    other = fit_model_prior(score, ImageData(digits.images[:60], "digits"), PriorPlan(components=1))
    assert isinstance(other, GaussianPrior)
    assert other.facts.count == 60


def test_a_prior_of_the_models_own_samples(score):
    prior = fit_model_prior(score, plan=PriorPlan(samples=70, components=1, directions=5))
    assert (prior.facts.data, prior.facts.count) == ("samples of tiny", 70)
    prox = fit_model_prior(random_model(PROX), plan=PriorPlan(samples=70, components=1))
    assert prox.curve is None
    with pytest.raises(ValueError, match=r"--samples = 5 and --data = x"):
        PriorPlan(samples=5, data="x")


def test_multistep_takes_the_stored_prior_and_others_only_when_asked(score, prior):
    shape = (3, 1, 8, 8)
    by_default = sample(score, "multistep", 2, shape, seed=0)
    assert torch.equal(by_default, sample(score, "multistep", 2, shape, seed=0, prior=prior))
    assert not torch.equal(by_default, sample(score, "multistep", 2, shape, seed=0, prior=False))
    plain = sample(score, "ddim", 2, shape, seed=0)
    assert torch.equal(plain, sample(score, "ddim", 2, shape, seed=0, prior=False))
    assert not torch.equal(plain, sample(score, "ddim", 2, shape, seed=0, prior=True))
    grid = TimeGrid.uniform(10).below(0.5)
    assert sample(random_model(PROX), "prox-hybrid", grid=grid, shape=shape, seed=0, prior=prior).shape == shape


def test_the_start_is_found_for_a_prior_that_has_none(digits):
    """On the pictures that it has held, once for a model; it is that of the gain curve."""
    model, prior = random_model(SCORE), fit_prior(digits.images, 2, 8, 4)
    assert prior.curve is None
    assert len(prior.held) == 89
    x = sample(model, "multistep", 2, (2, 1, 8, 8), seed=0, prior=prior)
    assert torch.equal(x, sample(model, "multistep", 2, (2, 1, 8, 8), seed=0, prior=prior))
    with pytest.raises(PriorError, match="start="):
        sample(model, "multistep", 2, (2, 1, 8, 8), prior=dataclasses.replace(prior, held=None))
    assert sample(model, "multistep", 1, (2, 1, 8, 8), prior=prior, start=1.5).shape == (2, 1, 8, 8)


def test_a_start_is_not_that_of_a_model_that_is_gone(digits):
    """Plain functions are models for one call each: their curves are not mixed up, whatever their ids are."""
    prior, shape = fit_prior(digits.images, 2, 8, 4), (2, 1, 8, 8)

    def call(function):
        return sample(function, "multistep", 2, shape, schedule=SCORE.model.schedule, prior=prior, seed=0)

    expected = call(lambda x, t: 0.9 * x)
    for scale in (0.1, 0.5, 0.0):
        call(lambda x, t, scale=scale: scale * x)
    assert torch.equal(call(lambda x, t: 0.9 * x), expected)


def test_what_cannot_be_is_refused_in_one_line(score, prior, digits):
    shape = (2, 1, 8, 8)
    other = changed(prior, curve={"schedule": "VE(sigma_max=80.0)"})
    late = {"grid": TimeGrid.uniform(2), "prior": True, "start": 0.01}
    cases = [
        (PriorError, r"VE\(sigma_max=80.0\)", lambda: sample(score, "multistep", 2, shape, prior=other)),
        (PriorError, r"\(1, 8, 8\)", lambda: sample(score, "multistep", 2, (2, 1, 4, 4))),
        (ValueError, "start = 2 needs a prior", lambda: sample(score, "ddim", 2, shape, start=2.0)),
        (ValueError, r"start = 1e\+06 must lie in \(0, 15", lambda: sample(score, "multistep", 2, shape, start=1e6)),
        (ValueError, "steps = 0 must be a whole number", lambda: sample(score, "multistep", 0, shape)),
        (PriorError, "no prior of its own", lambda: sample(random_model(SCORE), "ddim", 2, shape, prior=True)),
        (ValueError, r"uniform\(2\) starts at or below", lambda: sample(score, "ddim", None, shape, **late)),
    ]
    for kind, words, call in cases:
        with pytest.raises(kind, match=words):
            call()
    model = random_model(SCORE)
    model.prior = changed(prior, facts={"data": "mnist"})
    with pytest.raises(PriorError, match=r"fitted to mnist.*trained on digits"):
        choose_method(model, "multistep")


def test_the_model_file_carries_its_prior(score, tmp_path):
    path = save_model(score, tmp_path / "model.safetensors", overwrite=True)
    back = load(path)
    assert (back.prior.facts, back.prior.curve) == (score.prior.facts, score.prior.curve)
    shape = (2, 1, 8, 8)
    assert torch.equal(sample(back, "multistep", 2, shape, seed=1), sample(score, "multistep", 2, shape, seed=1))


def test_a_run_ends_with_a_prior(tmp_path):
    config = changed(SCORE, training={"steps": 2, "batch_size": 4}, logging={"preview_every": 0})
    train_config(config, tmp_path / "run", progress=False)
    prior = load(tmp_path / "run").prior
    assert (prior.facts.data, prior.facts.count) == ("digits", 100)
    assert prior.curve is not None
    train_config(changed(config, logging={"prior": False}), tmp_path / "other", progress=False)
    assert load(tmp_path / "other").prior is None


def test_prox_networks_start_at_a_knot(prior, tmp_path):
    model = random_model(PROX)
    with pytest.raises(PriorError, match=r"prox-hybrid needs a start.*--start"):
        choose_method(model, prior=str(save_prior(prior, tmp_path / "p.safetensors")))
    said = []
    plan = SamplePlan(samples=3, steps=10, prior=str(tmp_path / "p.safetensors"), start=1.5)
    record = generate(Opened(model, "raw"), plan, say=said.append).record
    assert record["grid"].startswith("uniform(10).below(")
    assert record["steps"] == record["nfe"] < 10
    assert record["prior"]["components"] == 4
    assert not said


def test_an_evaluation_says_what_it_started_from(score, tmp_path):
    plan = EvaluationPlan(("multistep", "dpm++2m"), (2,), 40, ("fid", "copying"), features="pixels", held="digits")
    rows = evaluate(Opened(score, "raw"), plan, out=tmp_path).rows
    assert rows[0].prior["images"] == 1797
    assert rows[1].prior is None
    assert "prior" not in rows[1].record()
    assert 0 <= rows[0].metrics["copy_share"] <= 1
    again = evaluate(Opened(score, "raw"), plan, out=tmp_path)
    assert again.reused == 2
    other = dataclasses.replace(plan, samplers=("multistep",), prior="none")
    assert evaluate(Opened(score, "raw"), other, out=tmp_path).reused == 0


def test_held_pictures_are_the_test_part_of_a_known_set():
    assert held_images(DataConfig("digits")) is None
    assert held_images("words") is None


def test_a_gaussian_mixture_takes_a_prior_too(generator):
    """Any model with a denoiser: here an exact one, in two dimensions."""
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    model = GaussianMixture(means, 0.1)
    x = means[torch.arange(2000) % 2] + 0.1 * torch.randn(2000, 2, generator=generator, dtype=torch.float64)
    out = sample(model, "multistep", 2, (500, 2), prior=fit_prior(x, 2, 2, 1), seed=0)
    assert float(out.std(0)[0]) == pytest.approx(1.0, abs=0.05)
