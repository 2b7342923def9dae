"""Models: what a network's output means, by closed forms; errors, precision and tracing."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

import proxdm
from exact import rand
from proxdm.models import PARAMETRISATIONS, SCORE_PARAMETRISATIONS, ProxModel, ScoreModel
from proxdm.networks import MLP, MLPConfig
from proxdm.schedules import VE, VPSDE, Flow, per_sample
from tiny_models import POINTS

SDE, numbers = VPSDE(), partial(rand, seed=0)
MEAN, SIGMA = 0.3, 0.5
"""The data of the closed forms are N(MEAN, SIGMA^2 I)."""


class Constant(nn.Module):
    """A network that gives `value` everywhere and remembers what it was shown."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.shown: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor, t: Tensor, lam: Tensor | None = None) -> Tensor:
        self.shown.append((x, t) if lam is None else (x, t, lam))
        return self.value.expand(x.shape)


def prox_mlp(parametrisation: str = "epsilon") -> ProxModel:
    torch.manual_seed(0)
    return ProxModel(MLP(MLPConfig(dim=3, width=16, conditioning="time-lam")), SDE, parametrisation)


T = torch.tensor([0.0, 1e-3, 0.4, 1.0], dtype=torch.float64)
LAM = torch.tensor([1e-6, 0.02, 0.7, 3.0], dtype=torch.float64)


def test_score_coefficient_is_right_at_small_times():
    """1 - alpha_bar(1e-5) in float32 arithmetic would be 4.7 % off."""
    x, t = numbers(1, 4).float(), torch.tensor([1e-5])
    score = ScoreModel(Constant(1.0), SDE).score(x, t)
    exact = -1 / (1 - torch.exp(-torch.tensor(0.1 * 1e-5 + 19.9 * 1e-10 / 2, dtype=torch.float64))).sqrt()
    torch.testing.assert_close(score.double(), exact.expand(1, 4), rtol=1e-5, atol=0)


def test_epsilon_parametrisation_is_the_residual_of_the_paper():
    y, f = numbers(4, 3, seed=1), numbers(4, 3, seed=2)
    epsilon = PARAMETRISATIONS.find("epsilon")
    torch.testing.assert_close(epsilon.prox(SDE, y, T, LAM, f), y - LAM.sqrt()[:, None] * f, rtol=1e-14, atol=0)
    assert torch.equal(epsilon.noise(SDE, y, T, LAM, f), f)  # exactly: the loss is on the output itself
    x, z = numbers(4, 3, seed=3), numbers(4, 3, seed=4)
    assert torch.equal(epsilon.target(SDE, x, z, T, LAM), z)
    assert torch.equal(epsilon.network_input(SDE, y, T, LAM), y)
    direct = PARAMETRISATIONS.find("prox")  # is the output
    assert torch.equal(direct.prox(SDE, y, T, LAM, f), f)
    assert torch.equal(direct.target(SDE, x, z, T, LAM), x)


@pytest.mark.parametrize("entry", SCORE_PARAMETRISATIONS.values(), ids=lambda entry: entry.name)
@pytest.mark.parametrize("schedule", [SDE, VE(3.0), Flow()], ids=lambda schedule: type(schedule).__name__)
def test_score_parametrisations_say_the_same(entry, schedule):
    """`x = alpha D + sigma eps` for every output; the exact output gives x_0 and the noise back, whatever it means."""
    x0, z, f = (numbers(3, 5, seed=seed) for seed in (1, 2, 3))
    t = torch.tensor([0.03, 0.4, 0.9], dtype=torch.float64)
    alpha, sigma = (function(t)[:, None] for function in (schedule.alpha, schedule.sigma))
    x = schedule.perturb(x0, t, z)
    denoised, epsilon = entry.denoised(schedule, x, t, f), entry.epsilon(schedule, x, t, f)
    torch.testing.assert_close(alpha * denoised + sigma * epsilon, x, rtol=1e-9, atol=1e-9)
    exact = entry.target(schedule, x0, x, t)
    torch.testing.assert_close(entry.denoised(schedule, x, t, exact), x0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(entry.epsilon(schedule, x, t, exact), z, rtol=1e-9, atol=1e-9)
    meaning = {"epsilon": z, "v": alpha * z - sigma * x0, "x0": x0, "flow": z - x0}
    if entry.name in meaning:
        torch.testing.assert_close(exact, meaning[entry.name], rtol=1e-9, atol=1e-9)


def test_edm_preconditioning_is_karras_table_one():
    s, x, f = 1.7, numbers(2, 3), numbers(2, 3, seed=1)
    ve, edm, t = VE(10.0), SCORE_PARAMETRISATIONS.find("edm"), 0.17
    skip, out, inner = 0.25 / (s**2 + 0.25), s * 0.5 / (s**2 + 0.25) ** 0.5, 1 / (s**2 + 0.25) ** 0.5
    torch.testing.assert_close(edm.denoised(ve, x, t, f), skip * x + out * f)
    torch.testing.assert_close(edm.network_input(ve, x, t), inner * x)


def test_noise_predictions_cost_no_arithmetic():
    """With `epsilon` the network's output is the noise, the very tensor: nothing is multiplied by 1 or added to 0."""
    f, x = numbers(2, 3), numbers(2, 3, seed=1)
    entry = SCORE_PARAMETRISATIONS.find("epsilon")
    assert entry.epsilon(SDE, x, 0.3, f) is f
    assert entry.network_input(SDE, x, 0.3) is x


@pytest.mark.parametrize("entry", PARAMETRISATIONS.values(), ids=lambda entry: entry.name)
@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 1, 2, 2)])
def test_noise_and_prox_say_the_same_and_the_target_gives_both(entry, shape):
    x, z, f = (numbers(*shape, seed=seed) for seed in (3, 4, 2))
    root = per_sample(LAM.sqrt(), x)
    y = x + root * z
    rebuilt = y - root * entry.noise(SDE, y, T, LAM, f)
    torch.testing.assert_close(rebuilt, entry.prox(SDE, y, T, LAM, f), rtol=1e-12, atol=1e-12)
    f = entry.target(SDE, x, z, T, LAM)
    torch.testing.assert_close(entry.prox(SDE, y, T, LAM, f), x, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(entry.noise(SDE, y, T, LAM, f), z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("entry", PARAMETRISATIONS.values(), ids=lambda entry: entry.name)
def test_model_with_the_exact_output_is_the_prox_of_a_gaussian(entry):
    """prox(y) = (v y + lam m_t) / (v + lam) for p_t = N(m_t, v): the model gives it if the network does."""
    y = numbers(4, 6, seed=5)
    v, m = SDE.variance(T, SIGMA)[:, None], (SDE.alpha_bar(T).sqrt() * MEAN)[:, None]
    expected = (v * y + LAM[:, None] * m) / (v + LAM[:, None])

    class Optimal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.anchor = nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, x: Tensor, t: Tensor, lam: Tensor) -> Tensor:
            seen = torch.as_tensor(entry.coefficients(SDE, t, lam).inner)
            own = x / per_sample(seen, x)  # the network undoes the input scaling
            prox = (SDE.variance(t, SIGMA)[:, None] * own + lam[:, None] * m) / (v + lam[:, None])
            return entry.target(SDE, prox, (own - prox) / lam.sqrt()[:, None], t, lam)

    model = ProxModel(Optimal(), SDE, entry)
    torch.testing.assert_close(model.prox(y, T, LAM), expected, rtol=1e-9, atol=1e-12)


def test_forward_is_the_raw_output():
    x = numbers(4, 3).float()
    network = MLP(MLPConfig(dim=3, width=8))
    torch.testing.assert_close(ScoreModel(network, SDE)(x, T), network(x, T.float()), rtol=0, atol=0)
    model = prox_mlp("prox")
    torch.testing.assert_close(model(x, T, LAM), model.network(x, T.float(), LAM.float()), rtol=0, atol=0)
    torch.testing.assert_close(model.prox(x, T, LAM), model(x, T, LAM), rtol=0, atol=0)


@pytest.mark.parametrize("t, lam", [(0.4, 0.7), (torch.tensor(0.4), 0.7), (torch.full((5,), 0.4), torch.tensor([0.7]))])
def test_numbers_and_batches_of_conditions_agree(t, lam):
    x, network = numbers(5, 2).float(), Constant(0.2)
    model = ProxModel(network, SDE)
    torch.testing.assert_close(model.prox(x, t, lam), x - 0.7**0.5 * 0.2)
    _, shown_t, shown_lam = network.shown[0]
    torch.testing.assert_close(shown_t, torch.full((5,), 0.4))
    torch.testing.assert_close(shown_lam, torch.full((5,), 0.7))
    score = ScoreModel(Constant(0.2), SDE)
    torch.testing.assert_close(score.score(x, t), torch.full_like(x, float(-0.2 / SDE.noise_variance(0.4).sqrt())))
    torch.testing.assert_close(score.epsilon(x, t), torch.full_like(x, 0.2))


@pytest.mark.parametrize("shape", [(2,), (5, 1)])
def test_conditions_of_another_batch_are_errors(shape):
    with pytest.raises(ValueError, match=r"t and lam must be numbers or have shape \(5,\), got"):
        ScoreModel(Constant(), SDE).epsilon(numbers(5, 2), torch.full(shape, 0.5))


@pytest.mark.parametrize("lam", [0.0, -1.0, float("nan"), float("inf"), torch.tensor([0.1, -0.2])])
def test_weights_that_are_not_positive_are_errors(lam):
    with pytest.raises(ValueError, match=r"lam = .* must be positive and finite"):
        ProxModel(Constant(), SDE).prox(numbers(2, 2), 0.5, lam)


@pytest.mark.parametrize("t", [0.0, float("nan"), torch.tensor([0.5, 0.0])])
def test_score_at_time_zero_is_an_error(t):
    with pytest.raises(ValueError, match=r"t = .* must be positive and finite: .* end the grid at a small eps"):
        ScoreModel(Constant(), SDE).score(numbers(2, 2), t)


def test_unknown_parametrisations_are_errors_that_list_the_known():
    with pytest.raises(ValueError, match=r"'eps'.*epsilon, prox"):
        ProxModel(Constant(), SDE, "eps")


def test_samplers_take_models():
    generator = torch.Generator().manual_seed(3)
    x_T = torch.randn((6, 2), generator=torch.Generator().manual_seed(3))
    out = proxdm.sample(ProxModel(Constant(), SDE), "prox-ode", 4, (6, 2), generator=generator)
    scale = torch.ones((), dtype=torch.float64)  # a prox that is the identity leaves the drift
    for t, s in proxdm.TimeGrid.uniform(4).pairs():
        scale = scale * (1 + SDE.beta_integral(s, t) / 2)
    torch.testing.assert_close(out, x_T * scale.float(), rtol=1e-5, atol=1e-5)
    with pytest.raises(proxdm.errors.OperatorError, match="ProxModel has none"):
        proxdm.sample(ProxModel(Constant(), SDE), "ode-euler", 4, (6, 2))
    with pytest.raises(proxdm.errors.OperatorError, match="ScoreModel has none"):
        proxdm.sample(ScoreModel(Constant(), SDE), "prox-ode", 4, (6, 2))


def test_device_dtype_and_configuration():
    model = ProxModel(MLP(MLPConfig(width=8, conditioning="time-lam")), config={"name": "x"})
    assert (model.device, model.dtype, model.config) == (torch.device("cpu"), torch.float32, {"name": "x"})
    assert model.double().dtype == torch.float64
    assert model.to("meta").device.type == "meta"
    assert model.schedule == VPSDE()
    assert "x" not in model.state_dict()


@pytest.mark.parametrize("inner", [torch.bfloat16, torch.float64])
def test_samples_keep_their_type_whatever_the_networks(inner):
    plain, other = prox_mlp(), prox_mlp().to(inner)
    x = numbers(4, 3).float()
    out = other.prox(x, T, LAM)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, plain.prox(x, T, LAM), rtol=0.05, atol=0.05)


def test_half_precision_networks_still_see_times_in_float32():
    network = Constant().to(torch.bfloat16)
    ScoreModel(network, SDE).epsilon(numbers(1, 2).bfloat16(), torch.tensor([0.123456789]))
    x, t = network.shown[0]
    assert (x.dtype, t.dtype) == (torch.bfloat16, torch.float32)
    assert abs(t.item() - 0.123456789) < 1e-8


def test_bf16_autocast_is_near_and_gives_float32():
    model, x = prox_mlp(), numbers(4, 3).float()
    plain = model.prox(x, T, LAM)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, raw = model.prox(x, T, LAM), model(x, T, LAM)
    assert mixed.dtype == raw.dtype == torch.float32
    torch.testing.assert_close(mixed, plain, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("numbers_as", ["tensors", "numbers"])
def test_traces_without_graph_breaks(numbers_as):
    prox, score = prox_mlp(), ScoreModel(MLP(MLPConfig(dim=3, width=8)), SDE)
    x = numbers(4, 3).float()
    t, lam = (T[1:2].expand(4), LAM) if numbers_as == "tensors" else (0.4, 0.7)
    for function, arguments in ((prox.prox, (x, t, lam)), (prox, (x, t, lam)), (score.score, (x, t))):
        traced = torch.compile(function, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(traced(*arguments), function(*arguments), rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_models_run_on_a_gpu():
    model = prox_mlp()
    x = numbers(4, 3).float()
    expected = model.prox(x, T, LAM)
    torch.testing.assert_close(model.cuda().prox(x.cuda(), T, LAM.cuda()).cpu(), expected, rtol=1e-3, atol=1e-3)


def test_a_preconditioned_prox_of_nothing_is_that_of_a_gaussian():
    """F = 0 gives the prox of -lam log N(0, v), v = alpha^2 / 4 + sigma^2, that is `v / (v + lam) y`."""
    model = ProxModel(Constant(), parametrisation="preconditioned")
    exact = proxdm.GaussianMixture(torch.zeros(1, 3, dtype=torch.float64), 0.5)
    y = numbers(4, 3)
    for t, lam in ((0.0, 0.1), (0.3, 2.0), (0.9, 0.01)):
        torch.testing.assert_close(model.prox(y, t, lam), exact.prox(y, t, lam), rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("error")
def test_a_prox_far_from_the_training_is_said_once():
    model = POINTS.model.build()
    model.config = POINTS
    x = torch.zeros(2, 2)
    model.prox(x, 0.5, 0.05)
    with pytest.warns(UserWarning, match=r"lam = 50, and the network was trained at lam from 0\.\d+ to"):
        model.prox(x, 0.5, 50.0)
    model.prox(x, 0.5, 50.0)
