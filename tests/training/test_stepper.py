"""One optimiser step against the same step written out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from proxdm.conditioning import make_draws
from proxdm.config import ConfigError, ModelConfig, OptimiserConfig
from proxdm.data.batches import DataStream
from proxdm.losses import Phase, losses, matching_weight
from proxdm.networks import MLPConfig, UNetConfig
from proxdm.runtime.processes import Place
from proxdm.runtime.seeds import CONDITIONS, NOISE, step_generator
from proxdm.schedules import per_sample
from proxdm.training.stepper import VANISHED, learning_rate
from runs import At, changed, stepper_of

PHASES = [Phase("l1"), Phase("proximal-matching", 2.0), Phase("proximal-matching", 0.3)]


def without_dropout(config):
    return changed(config, model={"network": replace(config.model.network, dropout=0.0)})


def weights(stepper):
    return {key: value.clone() for key, value in stepper.model.network.state_dict().items()}


@pytest.fixture(autouse=True)
def same_random_state():
    with torch.random.fork_rng(devices=[]):
        yield


def by_hand(config, pictures, phases, micro=None):
    """The same training in plain torch: one batch, no accumulation, no fused kernels."""
    reference = stepper_of(config, pictures)
    model, training = reference.model, config.training
    optimizer = torch.optim.AdamW(model.parameters(), eps=config.optimiser.eps, fused=False)
    stream = DataStream(pictures, seed=training.seed, flip=config.data.flip)
    draws, sde = make_draws(config.conditioning, model.schedule), model.schedule
    found = []
    for step, phase in enumerate(phases):
        x0 = stream.batch(step, training.batch_size)
        c = draws.draw(training.batch_size, step_generator(training.seed, CONDITIONS, step))
        generator = step_generator(training.seed, NOISE, step)
        count = 1 if config.model.kind == "score" else 2
        noise = torch.randn(count, training.batch_size, *config.model.shape, generator=generator)
        x_t = sde.perturb(x0, c.t, noise[0])
        model.train()
        if count == 1:
            prediction, target = model(x_t, c.t), noise[0]
        else:
            root = per_sample(c.lam.sqrt(), x_t)
            y = x_t + root * noise[1]
            prox = y - root * model(y, c.t, c.lam)
            prediction, target = (y - prox) / root, noise[1]
        each = losses(prediction, target, phase)
        optimizer.zero_grad()
        each.loss.mean().backward()
        clip = config.optimiser.clip
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf") if clip is None else clip)
        rate = config.optimiser.l1_lr if phase.loss == "l1" else config.optimiser.lr
        rate = (rate or config.optimiser.lr) * min(1, (step + 1) / max(1, config.optimiser.warmup))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        share = 0.0 if phase.zeta is None else (matching_weight(each.mse, phase.zeta) < VANISHED).float().mean().item()
        found.append((each.loss.mean().item(), each.mse.mean().item(), share, norm.item()))
    return weights(reference), found


@pytest.mark.parametrize("micro", [None, 8, 3, 1])
@pytest.mark.parametrize("kind", ["prox", "score"])
def test_steps_are_those_written_out_by_hand(kind, micro, prox_config, score_config, pictures):
    config = without_dropout(prox_config if kind == "prox" else score_config)
    # A large eps: the first steps of Adam are the signs of the gradients, rounding errors of tiny ones included.
    config = changed(config, optimiser={"eps": 1e-3})
    phases = PHASES if kind == "prox" else [Phase("mse")] * 3
    expected, found = by_hand(config, pictures, phases)
    stepper = stepper_of(changed(config, training={"micro_batch": micro}), pictures)
    windows = []
    for step, phase in enumerate(phases):
        stepper.step(step, phase)
        windows.append(stepper.collect())
    for key, value in weights(stepper).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-6)
    for window, numbers in zip(windows, found, strict=True):
        assert window.steps == 1
        assert (window.loss, window.mse, window.vanished, window.grad_norm) == pytest.approx(numbers, rel=1e-4)
    if kind == "prox":
        assert 0 < windows[2].vanished <= 1, "zeta = 0.3 is small enough here for the share to be seen"


def test_windows_are_means_over_their_steps(prox_config, pictures):
    one, three = (stepper_of(without_dropout(prox_config), pictures) for _ in range(2))
    singles = []
    for step in range(3):
        one.step(step, PHASES[1])
        singles.append(one.collect())
        three.step(step, PHASES[1])
    window = three.collect()
    assert window.steps == 3
    assert window.loss == pytest.approx(sum(w.loss for w in singles) / 3, rel=1e-12)
    assert window.grad_norm == pytest.approx(sum(w.grad_norm for w in singles) / 3, rel=1e-12)
    assert three.collect().steps == 0


def test_dropout_depends_on_seed_step_and_process_only(prox_config, pictures):
    def loss_of(step, rank=0, before=0):
        stepper = stepper_of(prox_config, pictures)
        stepper.step(0, PHASES[0])  # at first the blocks end in zeros, and dropout has no effect
        stepper.collect()
        # The same data and draws for every step and rank, so that dropout alone is left.
        drawn, x0 = stepper._randomness(0, slice(0, 8)), stepper.stream.batch(0, 8)
        stepper._randomness = lambda step, rows: drawn
        stepper.stream.batch = lambda *arguments, **names: x0
        stepper.place = Place(torch.device("cpu"), rank, 1)
        torch.randn(before)
        stepper.step(step, PHASES[0])
        return stepper.collect().loss

    assert loss_of(5) == loss_of(5, before=17)
    assert loss_of(5) != loss_of(6)
    assert loss_of(5) != loss_of(5, rank=1)


@pytest.mark.parametrize("value, fused", [(math.nan, True), (math.inf, True), (1e25, True), (math.nan, False)])
def test_steps_that_are_not_finite_leave_weights_and_optimizer_alone(value, fused, score_config, pictures):
    """1e25 has a finite gradient here, but its square overflows: the loss is infinite."""
    stepper = stepper_of(without_dropout(score_config), pictures)
    if not fused:
        stepper.optimizer = torch.optim.AdamW(stepper.model.parameters(), fused=False)
    stepper.predict = At(score_config, lambda prediction: prediction * value, 1, 2, 4)
    for step in range(5):
        before, moments = weights(stepper), {k: v.clone() for k, v in stepper.optimizer_state().items()}
        stepper.step(step, Phase("mse"))
        same = all(torch.equal(value, before[key]) for key, value in weights(stepper).items())
        assert same == (step in (1, 2, 4))
        if same:
            assert all(torch.equal(value, moments[key]) for key, value in stepper.optimizer_state().items())
    window = stepper.collect()
    assert (window.steps, window.skipped, window.longest, window.first) == (2, 3, 2, 4)
    assert all(torch.isfinite(torch.tensor([window.loss, window.mse, window.grad_norm])))
    # The row goes on across a collection.
    stepper.predict.at = {5, 6}
    stepper.step(5, Phase("mse"))
    window = stepper.collect()
    assert (window.steps, window.skipped, window.longest, window.first) == (0, 4, 2, 4)


def test_first_weights_are_those_of_the_seed(score_config, pictures):
    torch.manual_seed(1)
    one = weights(stepper_of(score_config, pictures))
    torch.manual_seed(2)
    two = weights(stepper_of(score_config, pictures))
    other = weights(stepper_of(changed(score_config, training={"seed": 9}), pictures))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("option", ["bf16", "channels_last", pytest.param("compile", marks=pytest.mark.slow)])
def test_options_change_the_arithmetic_only(option, prox_config, pictures):
    """The loss of the first steps stays what it is in plain float32, to the precision of the arithmetic."""
    if option == "compile":
        config = without_dropout(prox_config)
    else:
        network = UNetConfig(1, 8, (1, 2), (1,), 1, 0.0, conditioning="time-lam")
        config = replace(prox_config, model=ModelConfig("prox", (1, 4, 4), network))
    plain = stepper_of(config, pictures)
    other = stepper_of(changed(config, training={option: True}), pictures)
    assert plain.model.network.state_dict().keys() == other.model.network.state_dict().keys()
    for step in range(2):
        plain.step(step, PHASES[0])
        other.step(step, PHASES[0])
        tolerance = 2e-2 if option == "bf16" else 1e-4
        a, b = plain.collect(), other.collect()
        assert b.loss == pytest.approx(a.loss, rel=tolerance)
        assert b.grad_norm == pytest.approx(a.grad_norm, rel=5 * tolerance)
    assert all(value.dtype == torch.float32 for value in other.model.network.state_dict().values())


def test_data_and_model_must_fit(score_config, pictures):
    wrong = replace(score_config, model=ModelConfig("score", (1, 2, 2), MLPConfig(4, 8, 1)))
    with pytest.raises(ConfigError, match=r"have shape \(1, 4, 4\), but model.shape = \(1, 2, 2\)"):
        stepper_of(wrong, pictures)
    with pytest.raises(ConfigError, match="batch_size = 8 cannot be shared evenly by 3 processes"):
        stepper_of(score_config, pictures, Place(torch.device("cpu"), 0, 3))


def test_every_phase_has_its_rate():
    config = OptimiserConfig(lr=1e-5, l1_lr=1e-4)
    assert [learning_rate(config, phase, 7, 100) for phase in PHASES] == [1e-4, 1e-5, 1e-5]
    assert learning_rate(OptimiserConfig(lr=1e-5), Phase("l1"), 7, 100) == 1e-5


def test_schedules_of_the_learning_rate():
    mse = Phase("mse")
    cosine = OptimiserConfig(lr=1.0, schedule="cosine", warmup=10)
    assert learning_rate(cosine, mse, 4, 100) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.045)) / 2)
    assert learning_rate(cosine, mse, 49, 100) == pytest.approx((1 + math.cos(math.pi * 0.495)) / 2)
    assert learning_rate(cosine, mse, 99, 100) == learning_rate(cosine, mse, 500, 100) == 0.01
    falling = OptimiserConfig(lr=1.0, schedule="inverse-sqrt", decay_from=50)
    assert [learning_rate(falling, mse, step, 100) for step in (0, 49, 199)] == [1.0, 1.0, 0.5]
    with pytest.raises(ConfigError, match=r"optimiser.schedule = 'linear' must be one of 'constant'"):
        OptimiserConfig(schedule="linear")
    with pytest.raises(ConfigError, match=r"optimiser.decay_from = 0 must be at least 1"):
        OptimiserConfig(decay_from=0)
