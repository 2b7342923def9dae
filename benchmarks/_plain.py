r"""The plain competitor: sampling and training of the same networks, written in the obvious way.

Eager float32, attention by explicit matrices, images converted from NumPy in every step, AdamW without fused or grouped
kernels, averages in a Python loop over the parameters, and `loss.item()` in every step. The schedule is written out
again here, independently of the package: `beta(t) = 0.1 + 19.9 t`, `B(s, t) = (beta(s) + beta(t)) (t - s) / 2`,
`alpha_bar = exp(-B(0, t))`; prox networks predict the noise, `prox = y - sqrt(lam) F`.

Each of the package's measures can be switched on by itself (:class:`Measures`), to see what it gives.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from proxdm.config import Config
from proxdm.networks.unet import SelfAttention


class PlainAttention(nn.Module):
    """Self-attention over pixels with the matrix of weights written out; takes the weights of the package's."""

    def __init__(self, attention: SelfAttention) -> None:
        super().__init__()
        self.norm, self.out = attention.norm, attention.out
        self.query, self.key, self.value = attention.query, attention.key, attention.value

    def forward(self, x: Tensor) -> Tensor:
        """Return `x + out(softmax(q k^T / sqrt(C)) v)`."""
        b, c, h, w = x.shape
        y = self.norm(x)
        q = self.query(y).reshape(b, c, h * w).permute(0, 2, 1)
        k = self.key(y).reshape(b, c, h * w)
        v = self.value(y).reshape(b, c, h * w)
        weights = torch.softmax(torch.bmm(q, k) * c**-0.5, dim=-1)
        mixed = torch.bmm(v, weights.permute(0, 2, 1)).reshape(b, c, h, w)
        return x + self.out(mixed)


def written_out(network: nn.Module) -> nn.Module:
    """Return a network with the very parameters of another, whose attention is written out."""
    twin = copy.deepcopy(network, {id(p): p for p in network.parameters()})
    for block in list(twin.modules()):
        for name, child in list(block.named_children()):
            if isinstance(child, SelfAttention):
                setattr(block, name, PlainAttention(child))
    return twin


def beta(t):
    """Return `0.1 + 19.9 t`."""
    return 0.1 + 19.9 * t


def beta_integral(s, t):
    """Return the integral of beta from s to t."""
    return (beta(s) + beta(t)) * (t - s) / 2


def plain_sample(network: nn.Module, shape: tuple[int, ...], steps: int, prox: bool, generator: torch.Generator):
    """Return samples by `steps` hybrid proximal steps, or by denoising Euler-Maruyama (eps = 1e-3)."""
    x = torch.randn(shape, generator=generator)
    times = np.linspace(1, 0, steps + 1) if prox else np.append(np.linspace(1, 1e-3, steps), 0)
    with torch.no_grad():
        for i in range(steps):
            t, s = times[i], times[i + 1]
            if prox:
                gamma = beta_integral(s, t)
                y = (1 + gamma / 2) * x + np.sqrt(gamma) * torch.randn(shape, generator=generator)
                lam = torch.full((shape[0],), float(gamma))
                x = y - np.sqrt(gamma) * network(y, torch.full((shape[0],), float(s)), lam)
            else:
                gamma = beta(t) * (t - s)
                score = -network(x, torch.full((shape[0],), float(t))) / np.sqrt(1 - np.exp(-beta_integral(0, t)))
                x = (1 + gamma / 2) * x + gamma * score
                if i < steps - 1:
                    x = x + np.sqrt(gamma) * torch.randn(shape, generator=generator)
    return x


@dataclass(frozen=True)
class Measures:
    """What the plain training loop takes over from the package: nothing, by default."""

    attention: bool = False
    data: bool = False
    optimizer: bool = False
    averages: bool = False
    no_item: bool = False


NOTHING = Measures()


@dataclass(frozen=True)
class Batch:
    """Everything random in a training step: images, times, weights (prox only) and one or two noises."""

    images: Tensor
    t: Tensor
    lam: Tensor | None
    noise: list[Tensor]


class PlainTraining:
    """The plain training loop of a preset: l1 loss for prox models (their first phase), squared error for score models.

    Args:
        config: The run.
        network: Initial weights; a copy is trained.
        images: Training images `(n, C, H, W)`, uint8.
    """

    def __init__(self, config: Config, network: nn.Module, images: np.ndarray) -> None:
        self.config = config
        self.prox = config.model.kind == "prox"
        self.network = copy.deepcopy(network)
        self.plain = written_out(self.network)
        self.parameters = list(self.network.parameters())
        rate = config.optimiser.lr
        self.optimizer = torch.optim.AdamW(self.parameters, rate, foreach=False)
        self.fused = torch.optim.AdamW(self.parameters, rate, fused=True)
        self.averages = [p.detach().clone() for p in self.parameters]
        self.images, self.tensor = images, torch.from_numpy(images)
        self.rng = np.random.default_rng(0)
        self.loss, self.norm = 0.0, 0.0

    def draw(self, measures: Measures) -> Batch:
        """Return the next batch."""
        size = self.config.training.batch_size
        index = self.rng.integers(len(self.images), size=size)
        if measures.data:
            x0 = self.tensor[torch.from_numpy(index)].float().div_(127.5).sub_(1)
        else:
            x0 = torch.tensor(np.stack([self.images[i].astype(np.float32) / 127.5 - 1 for i in index]))
        if self.config.data.flip == "random":
            flip = torch.tensor(self.rng.random(size) < 0.5)
            x0 = torch.where(flip[:, None, None, None], x0.flip(-1), x0)
        noise = [torch.randn(x0.shape) for _ in range(2 if self.prox else 1)]
        if not self.prox:
            return Batch(x0, torch.tensor(self.rng.random(size)), None, noise)
        n = self.rng.choice(self.config.conditioning.steps, size=size)
        s = self.rng.integers(n) / n
        return Batch(x0, torch.tensor(s), torch.tensor(beta_integral(s, s + 1 / n)), noise)

    def step(self, measures: Measures = NOTHING) -> None:
        """Take one optimiser step."""
        self.step_on(self.draw(measures), measures)

    def step_on(self, batch: Batch, measures: Measures = NOTHING) -> None:
        """Take one optimiser step on a given batch."""
        network = self.network if measures.attention else self.plain
        optimizer = self.fused if measures.optimizer else self.optimizer
        network.train()
        alpha_bar = torch.exp(-beta_integral(0, batch.t))[:, None, None, None]
        x = (alpha_bar.sqrt() * batch.images + (1 - alpha_bar).sqrt() * batch.noise[0]).float()
        if batch.lam is not None:
            x = x + batch.lam.sqrt().float()[:, None, None, None] * batch.noise[1]
            prediction = network(x, batch.t.float(), batch.lam.float())
            loss = (prediction - batch.noise[1]).abs().mean()
        else:
            prediction = network(x, batch.t.float())
            loss = (prediction - batch.noise[0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        norm = None
        if self.config.optimiser.clip is not None:
            norm = nn.utils.clip_grad_norm_(self.parameters, self.config.optimiser.clip, foreach=False)
        optimizer.step()
        self._average(measures)
        if not measures.no_item:
            self.loss = loss.item()
            self.norm = 0.0 if norm is None else norm.item()

    @torch.no_grad()
    def _average(self, measures: Measures) -> None:
        decay = self.config.training.ema[0]
        if measures.averages:
            torch._foreach_lerp_(self.averages, self.parameters, 1 - decay)
            return
        for average, parameter in zip(self.averages, self.parameters, strict=True):
            average.mul_(decay).add_(parameter, alpha=1 - decay)
