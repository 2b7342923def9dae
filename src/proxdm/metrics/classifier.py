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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from proxdm.data.batches import DataStream
from proxdm.data.images import ImageData, iterate
from proxdm.data.labels import labelled, load_labels
from proxdm.data.load import DataConfig, Flip, load_data
from proxdm.metrics.inception import FeatureError
from proxdm.runtime.seeds import WEIGHTS, derived_seed, step_generator

DIM = 128
"""Number of features."""

LEAST = 10
"""Images that every class must have for training."""

EPOCHS, MOST_STEPS = 50, 3000
"""Length of a training that names none: epochs, and the limit of its steps."""

HELD_OUT = 5
"""One in so many images is held out for the accuracy where a data set has no test split."""

_WIDTH = 32
_LAST_SIDE = 4
_WARMUP = 0.05
_SHIFT = 0x73686966  # tag of the random shifts, as those of proxdm.runtime.seeds
_HELD_OUT_SEED = 0
_BATCH = 256
_NO_TEST_SPLIT = ("digits",)
_MIRRORED = ("fashion-mnist", "cifar10")


@dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier is trained.

    Attributes:
        steps: Optimiser steps; None is 50 epochs, but 3,000 steps at most.
        batch_size: Images of a step.
        lr: Largest learning rate, after a warm-up and before a cosine.
        weight_decay: AdamW's decoupled weight decay.
        flip: Horizontal flips; None is random where that keeps the classes (fashion-mnist, cifar10), else none.
        seed: Seed of initial weights, order and augmentation; on one CPU, with the same number of threads, it decides
            every bit of the weights.
        bf16: Train in bfloat16 autocast; features are always taken in float32.
    """

    steps: int | None = None
    batch_size: int = 128
    lr: float = 3e-3
    weight_decay: float = 0.02
    flip: Flip | None = None
    seed: int = 0
    bf16: bool = False

    def __post_init__(self) -> None:
        """Reject values out of range.

        Raises:
            ValueError: One is.
        """
        for name, least in {"steps": 1, "batch_size": 2, "seed": 0}.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name} = {value} must be at least {least}")
        if not 0 < self.lr < math.inf or not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"lr = {self.lr} must be above 0 and weight_decay = {self.weight_decay} at least 0")

    def resolved(self, name: str, count: int) -> ClassifierConfig:
        """Return it with the steps and flips that it has on a data set of this name and number of images."""
        steps = min(MOST_STEPS, math.ceil(EPOCHS * count / self.batch_size)) if self.steps is None else self.steps
        return replace(self, steps=steps, flip=self.flip or ("random" if name in _MIRRORED else "none"))


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images and their classes.

    Attributes:
        images: n images.
        labels: int64 `(n,)`.
        names: Names of the classes.
    """

    images: ImageData
    labels: Tensor
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that there is one label for each image."""
        if len(self.images) != len(self.labels):
            raise FeatureError(
                f"{self.images.name}: {len(self.images)} images have {len(self.labels)} labels; get both files again"
            )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Tensor, note: str) -> LabelledImages:
        """Return the images of these numbers, with a note in their preprocessing."""
        words = f"{self.images.preprocessing}; {note}"
        images = replace(self.images, images=self.images.images[index], preprocessing=words, memory_mapped=False)
        return replace(self, images=images, labels=self.labels[index])


class ImageClassifier(nn.Module):
    """The network of this module.

    Args:
        channels: 1 or 3.
        side: Height and width of the images, at least 4.
        classes: Number of classes.
    """

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        kernel, stride = (5, 2) if side >= 32 else (3, 1)
        side = math.ceil(side / stride)
        widths = [_WIDTH, 2 * _WIDTH, DIM]
        layers: list[nn.Module] = []
        before = channels
        for stage in range(max(len(widths), 1 + math.ceil(math.log2(side / _LAST_SIDE)))):
            if stage and side > _LAST_SIDE:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                side = math.ceil(side / 2)
            width = widths[min(stage, len(widths) - 1)]
            layers += [*_convolution(before, width, kernel, stride), *_convolution(width, width, 3, 1)]
            before, kernel, stride = width, 3, 1
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(before, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return features `(B, DIM)` of images `(B, C, S, S)` in [-1, 1]."""
        found: Tensor = self.body(x).mean((2, 3))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(B, classes)` of images `(B, C, S, S)` in [-1, 1]."""
        logits: Tensor = self.head(self.features(x))
        return logits


def load_labelled(config: DataConfig) -> tuple[LabelledImages, LabelledImages]:
    """Return the images to train on, and those to take the accuracy on.

    The latter are the test split of a known data set; of digits and of folders, which have none, they are one in
    :data:`HELD_OUT`, chosen at random and always the same.

    Raises:
        DataError: The data or their labels are not there, or there are none.
        FeatureError: They cannot be classified: one class, too few images of a class, not square, not grey or RGB.
    """
    labels = load_labels(config)
    whole = LabelledImages(load_data(config), labels.values, labels.names)
    _check(whole, LEAST + LEAST // HELD_OUT)
    if config.name in labelled() and config.name not in _NO_TEST_SPLIT:
        other = replace(config, split="test")
        return whole, LabelledImages(load_data(other), load_labels(other).values, labels.names)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(_HELD_OUT_SEED))
    count = len(whole) // HELD_OUT
    held, kept = order[:count].sort().values, order[count:].sort().values
    train = whole.take(kept, f"without a random 1/{HELD_OUT}")
    _check(train, LEAST)
    return train, whole.take(held, f"a random 1/{HELD_OUT}")


def train_classifier(
    data: LabelledImages,
    config: ClassifierConfig | None = None,
    *,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> ImageClassifier:
    """Train a classifier.

    Args:
        data: Images and classes.
        config: How; None is the default.
        device: Where.
        progress: Show a progress bar where there is a terminal.

    Returns:
        The network in evaluation mode, on `device`.

    Raises:
        FeatureError: The data cannot be classified, or the loss is no longer finite.
    """
    from tqdm import trange

    _check(data, 1)
    config, device = (config or ClassifierConfig()).resolved(data.images.name, len(data)), torch.device(device)
    steps, flip = config.steps or 0, config.flip or "none"
    channels, side, _ = data.images.shape
    with torch.random.fork_rng([]):
        torch.manual_seed(derived_seed(config.seed, WEIGHTS))
        network = ImageClassifier(channels, side, len(data.names))
    # Channels last is a tenth to a quarter faster on CPUs too, and the same arithmetic.
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    stream = DataStream(data.images, seed=config.seed, flip=flip, device=device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    with trange(steps, desc="classifier", unit="step", disable=None if progress else True) as bar:
        for step in bar:
            for group in optimiser.param_groups:
                group["lr"] = config.lr * _rate((step + 0.5) / steps)
            index, _ = stream.draw(step * config.batch_size, config.batch_size)
            images = _shifted(stream.batch(step, config.batch_size), step_generator(config.seed, _SHIFT, step))
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bf16):
                logits = network(images.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), data.labels[index].to(device))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if step % 50 == 0 or step == steps - 1:
                if not math.isfinite(value := float(loss.detach())):
                    raise FeatureError(
                        f"the loss is {value} at step {step}; lower lr = {config.lr:g}, or leave bf16 out"
                    )
                bar.set_postfix(loss=f"{value:.3f}", refresh=False)
    return network.eval()


def accuracy(network: ImageClassifier, data: LabelledImages) -> float:
    """Return the share of images, from 0 to 1, whose class gets the largest logit of a network in evaluation mode."""
    device = network.head.weight.device
    with torch.inference_mode():
        found = [network(batch).argmax(1).cpu() for batch in iterate(data.images, _BATCH, device=device)]
    return float((torch.cat(found) == data.labels).double().mean())


def feature_module(network: ImageClassifier) -> nn.Module:
    """Return a module `(B, C, S, S)` in [-1, 1] to `(B, DIM)`: :meth:`ImageClassifier.features` as after training.

    It is on the CPU, in evaluation mode, has no batch normalisation, and TorchScript compiles it.
    """
    return _Features(network).cpu().to(memory_format=torch.contiguous_format).eval()


class _Features(nn.Module):
    """The body of a classifier up to its features, batch normalisation folded into the convolutions."""

    def __init__(self, network: ImageClassifier) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for layer in network.body:
            if isinstance(layer, nn.BatchNorm2d):  # it follows a convolution
                layer = fuse_conv_bn_eval(cast(nn.Conv2d, layers.pop()).eval(), layer.eval())
            layers.append(layer)
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3))  # type: ignore[no-any-return]


def _convolution(before: int, width: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(before, width, kernel, stride, kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.SiLU()


def _rate(part: float) -> float:
    """Return the learning rate over its largest value when `part` of the steps, in (0, 1), is done."""
    return min(1.0, part / _WARMUP) * (1 + math.cos(math.pi * part)) / 2


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


def _check(data: LabelledImages, least: int) -> None:
    images, name = data.images, data.images.name
    channels, height, width = images.shape
    if images.latent or channels not in (1, 3):
        raise FeatureError(f"{name} holds arrays of {channels} channels; a classifier takes grey or RGB images")
    if height != width or height < _LAST_SIDE:
        raise FeatureError(
            f"{name} has images {width}x{height}; a classifier takes square ones, {_LAST_SIDE}x{_LAST_SIDE} and "
            "larger: give a size to cut and resize to"
        )
    if len(data.names) < 2:
        raise FeatureError(f"{name} has one class, {data.names[0]!r}; a classifier needs 2 at least")
    counts = torch.bincount(data.labels, minlength=len(data.names))
    if int(counts.min()) < least:
        rarest = data.names[int(counts.argmin())]
        raise FeatureError(
            f"{name} has {int(counts.min())} images of the class {rarest!r}, a classifier needs {least} of each; add "
            "some or remove the class"
        )


def about(data: LabelledImages, test: LabelledImages, config: ClassifierConfig, found: float) -> Mapping[str, Any]:
    """Return what a feature file says of its classifier: data, test accuracy and training, in plain types."""
    return {
        "dataset": data.images.name,
        "preprocessing": data.images.preprocessing,
        "classes": list(data.names),
        "images": len(data),
        "test_images": len(test),
        "test_accuracy": found,
        **asdict(config.resolved(data.images.name, len(data))),
    }
