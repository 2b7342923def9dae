r"""Small image classifiers, trained in minutes on a CPU, whose penultimate layer serves as features.

The Inception network of the FID has seen colour photographs; on grey 28x28 digits or clothes its features say little,
and its weights are a download. There, a Fréchet distance on the features of a classifier trained on the data set itself
tells more. Numbers of different classifiers cannot be compared, so that statistics carry the SHA-256 of the file.

The network takes images `(B, C, S, S)` in [-1, 1]: two convolutions a stage, each with batch normalisation (arXiv
1502.03167) and SiLU; from stage to stage the side halves by max pooling, down to 4x4 or less, and the width grows from
32 to 128; images of 32x32 and larger are halved by the first convolution already. The means over the pixels of the
last stage, `(B, 128)`, are the features; one linear layer makes logits of them. It is trained by AdamW on the cross
entropy, with a linear warm-up and a cosine down to 0, on images shifted at random and, where that keeps the class,
mirrored. Labels are not smoothed: that presses each class to a point (Müller et al. 2019, arXiv 1906.02629), while
samples should be told apart within their class too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from proxdm.data.batches import DataStream
from proxdm.data.images import ImageData, iterate
from proxdm.data.load import DataConfig, Flip, load_data, load_labels, test_part
from proxdm.errors import check_at_least
from proxdm.metrics.inception import FeatureError
from proxdm.runtime.seeds import WEIGHTS, derived_seed, step_generator

WIDTHS = (32, 64, 128)  # of the stages; the last is the number of features
LEAST = 12  # images that every class must have
EPOCHS, MOST_STEPS = 50, 3000  # of a training that names no steps
HELD_OUT = 5  # one in so many images is held out for the accuracy where a data set has no test split
_LAST_SIDE = 4
_WARMUP = 0.05
_SHIFT = 0x73686966  # tag of the random shifts, as those of proxdm.runtime.seeds
_MIRRORED = ("fashion-mnist", "cifar10")


@dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier is trained."""

    steps: int | None = None  # Optimiser steps; None is 50 epochs, but 3,000 steps at most.
    batch_size: int = 128  # Images of a step.
    lr: float = 3e-3  # Largest learning rate, after a warm-up and before a cosine.
    weight_decay: float = 0.02  # AdamW's decoupled weight decay.
    # Horizontal flips; None is random where that keeps the classes (fashion-mnist, cifar10), else none.
    flip: Flip | None = None
    # Seed of initial weights, order and augmentation; on one CPU, with the same number of threads, it decides every bit
    # of the weights.
    seed: int = 0
    bf16: bool = False  # Train in bfloat16 autocast; features are always taken in float32.

    def __post_init__(self) -> None:
        """Reject values out of range."""
        check_at_least(self, steps=1, batch_size=2, seed=0)
        if not 0 < self.lr < math.inf or not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"lr = {self.lr} must be above 0 and weight_decay = {self.weight_decay} at least 0")

    def resolved(self, name: str, count: int) -> ClassifierConfig:
        """Return it with the steps and flips that it has on a data set of this name and number of images."""
        steps = min(MOST_STEPS, math.ceil(EPOCHS * count / self.batch_size)) if self.steps is None else self.steps
        return replace(self, steps=steps, flip=self.flip or ("random" if name in _MIRRORED else "none"))


class ImageClassifier(nn.Module):
    """The network of this module, for images of `side` 4 or larger: its `features`, and logits of `classes` classes."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        kernel, stride = (5, 2) if side >= 32 else (3, 1)
        side = math.ceil(side / stride)
        layers: list[nn.Module] = []
        before = channels
        for stage in range(max(len(WIDTHS), 1 + math.ceil(math.log2(side / _LAST_SIDE)))):
            if stage and side > _LAST_SIDE:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                side = math.ceil(side / 2)
            width = WIDTHS[min(stage, len(WIDTHS) - 1)]
            layers += [*_convolution(before, width, kernel, stride), *_convolution(width, width, 3, 1)]
            before, kernel, stride = width, 3, 1
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(B, classes)` of images `(B, C, S, S)` in [-1, 1]."""
        return self.head(self.features(x))  # type: ignore[no-any-return]


def load_labelled(config: DataConfig) -> tuple[ImageData, ImageData]:
    """Return the images to train on, and those to take the accuracy on, both with labels.

    The latter are the test split of a known data set; of digits and of folders, which have none, they are one in
    :data:`HELD_OUT`, chosen at random and always the same.
    """

    def load(config: DataConfig) -> ImageData:
        labels = load_labels(config)  # first: it says what has none
        return replace(load_data(config), labels=labels.values, classes=labels.names)

    whole = load(config)
    _checked_labels(whole, LEAST)
    if test_part(config) is not None:
        return whole, load(replace(config, split="test"))
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    held, share = len(whole) // HELD_OUT, f"a random 1/{HELD_OUT}"
    rest = whole.take(order[held:].sort().values, f"{whole.preprocessing}; without {share}")
    return rest, whole.take(order[:held].sort().values, f"{whole.preprocessing}; {share}")


def train_classifier(
    data: ImageData, config: ClassifierConfig, *, device: torch.device | str = "cpu", progress: bool = False
) -> ImageClassifier:
    """Return a classifier of labelled images, trained, in evaluation mode (FeatureError: the loss is infinite)."""
    from tqdm import trange

    labels = _checked_labels(data, 1)
    config, device = config.resolved(data.name, len(data)), torch.device(device)
    steps, flip = config.steps or 0, config.flip or "none"
    channels, side, _ = data.shape
    with torch.random.fork_rng([]):
        torch.manual_seed(derived_seed(config.seed, WEIGHTS))
        network = ImageClassifier(channels, side, len(data.classes))
    # Channels last is a tenth to a quarter faster on CPUs too, and the same arithmetic.
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    stream = DataStream(data, seed=config.seed, flip=flip, device=device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    with trange(steps, desc="classifier", unit="step", disable=None if progress else True) as bar:
        for step in bar:
            part = (step + 0.5) / steps
            rate = min(1.0, part / _WARMUP) * (1 + math.cos(math.pi * part)) / 2
            optimiser.param_groups[0]["lr"] = config.lr * rate
            index, _ = stream.draw(step * config.batch_size, config.batch_size)
            images = _shifted(stream.batch(step, config.batch_size), step_generator(config.seed, _SHIFT, step))
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bf16):
                logits = network(images.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), labels[index].to(device))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if step % 50 == 0 or step == steps - 1:
                if not math.isfinite(value := float(loss.detach())):
                    raise FeatureError(f"the loss is {value} at step {step}; lower lr = {config.lr:g}, or leave bf16")
                bar.set_postfix(loss=f"{value:.3f}", refresh=False)
    return network.eval()


def accuracy(network: ImageClassifier, data: ImageData) -> float:
    """Return the share of images, from 0 to 1, whose class gets the largest logit of a network in evaluation mode."""
    labels, batches = _checked_labels(data, 0), iterate(data, 256, device=network.head.weight.device)
    with torch.inference_mode():
        found = torch.cat([network(batch).argmax(1).cpu() for batch in batches])
    return float((found == labels).double().mean())


def feature_module(network: ImageClassifier) -> nn.Module:
    """Return the features of a trained network, on the CPU, with batch normalisation folded into the convolutions."""
    layers: list[nn.Module] = []
    for layer in network.features:
        if isinstance(layer, nn.BatchNorm2d):  # it follows a convolution
            layer = fuse_conv_bn_eval(cast(nn.Conv2d, layers.pop()).eval(), layer.eval())
        layers.append(layer)
    return nn.Sequential(*layers).cpu().to(memory_format=torch.contiguous_format).eval()


def _convolution(before: int, width: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(before, width, kernel, stride, kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.SiLU()


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return every image moved by its own whole pixels, up to 1/32 of the side but 1 at least, borders repeated."""
    count, _, height, width = images.shape
    rows, columns = (
        (torch.arange(side) + torch.randint(-reach, reach + 1, (count, 1), generator=generator)).clamp(0, side - 1)
        for side, reach in ((height, max(1, height // 32)), (width, max(1, width // 32)))
    )
    rows, columns, which = rows.to(images.device), columns.to(images.device), torch.arange(count, device=images.device)
    # Indices apart from each other put their dimensions first: (B, H, W, C).
    moved = images[which[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _checked_labels(data: ImageData, least: int) -> Tensor:
    """Return the labels of images that a classifier can learn, with at least so many of each class (FeatureError)."""
    name, (channels, height, width) = data.name, data.shape
    if data.labels is None:
        raise FeatureError(f"{name} has no labels; a classifier needs the class of every image")
    if data.latent or channels not in (1, 3):
        raise FeatureError(f"{name} holds arrays of {channels} channels; a classifier takes grey or RGB images")
    if height != width or height < _LAST_SIDE:
        raise FeatureError(f"{name} has images {width}x{height}; give a size to cut to, {_LAST_SIDE} at least")
    if len(data.classes) < 2:
        raise FeatureError(f"{name} has one class, {data.classes[0]!r}; a classifier needs 2 at least")
    counts = torch.bincount(data.labels, minlength=len(data.classes))
    if (few := int(counts.min())) < least:
        rarest = data.classes[int(counts.argmin())]
        raise FeatureError(f"{name} has {few} images of the class {rarest!r}, a classifier needs {least} of each")
    return data.labels
