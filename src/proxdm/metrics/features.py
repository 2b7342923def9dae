r"""Features of images, on which distances between sets of images are taken.

An extractor maps images `(B, C, H, W)` to features `(B, D)`, float32. Whatever comes in passes through
:func:`proxdm.pixels.as_kept` first, so that a number is what it would be had the images been saved as PNG.

- `pixels`: the pixels themselves in the model's range [-1, 1], D = C H W; samples that are no pictures as they are.
- `inception`: the FID's network (:mod:`proxdm.metrics.inception`), D = 2048.
- any file of a TorchScript module (`.pt`, by `torch.jit.save`) or an exported program (`.pt2`, by
  `torch.export.save`). It says what it takes in JSON, either inside the file as the extra file `proxdm.json` or
  beside it as `FILE.json`: `input_range` `[low, high]`, `channels` 1 or 3, and as it pleases `size` (else images stay
  as large as they are), `name` (else that of the file), `about` (an object of anything that people may want to know of
  it, without influence) and, beside it only, the file's `sha256`. :func:`save_module` writes such a file.

Grey images are repeated to three channels where a network takes three. Resizing is bilinear with half-pixel centres
and no antialiasing, as in pytorch-fid.
"""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxdm.config.codec import from_dict
from proxdm.errors import one_line
from proxdm.metrics.inception import SIZE, FeatureError, load_inception
from proxdm.metrics.registry import on_pixels
from proxdm.pixels import as_kept, to_model_range
from proxdm.runtime.files import replacing, sha256_of

FEATURES_HELP = "inception (the FID's network), pixels, or the file of a TorchScript (.pt) or exported (.pt2) module."
WEIGHTS_HELP = "File of the Inception weights, pt_inception-2015-12-05-6726825d.pth; by default it is downloaded once."

METADATA = "proxdm.json"  # the extra file inside a module file
Shape = tuple[int, ...]  # (C, H, W)
Network = Callable[[Tensor], Tensor]  # images as a form says to features (B, D)


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """A map from images of one shape (C, H, W) to `dim` features, and what it must say of itself in a stamp.

    `weights` is the SHA-256 of the network, empty if there is none; `resize` says in words what is done to the size;
    `function` takes uint8 images on `device`.
    """

    name: str
    dim: int
    shape: Shape
    weights: str
    resize: str
    function: Callable[[Tensor], Tensor]
    device: torch.device

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features `(B, dim)`, float32 on the extractor's device, of uint8 images or others in [-1, 1].

        It runs without gradients, in full float32 whatever autocast or TF32 setting is around it.
        """
        if tuple(images.shape[1:]) != self.shape:
            raise FeatureError(
                f"{self.name} features were set up for images {sides(self.shape)}, got a batch {sides(images.shape)}"
            )
        with _full_precision(self.device):
            return self.function(as_kept(images.detach().to(self.device))).to(torch.float32)

    @property
    def stamp(self) -> dict[str, Any]:
        """What statistics say of the features that they were taken of."""
        return {"backend": self.name, "weights": self.weights, "resize": self.resize, "shape": self.shape}


def load_extractor(
    spec: str | Path,
    shape: Shape,
    *,
    inception_weights: Path | None = None,
    device: torch.device | str = "cpu",
    metrics: Sequence[str] | None = None,
) -> FeatureExtractor:
    """Return the extractor that `spec` names (`inception`, `pixels`, or a module file), for images of one shape.

    Where it is for `metrics` that take no features, it is that of the pixels whatever is named, and no file is opened.
    """
    if metrics is not None and on_pixels(metrics):
        spec, inception_weights = "pixels", None
    device, path = torch.device(device), Path(spec).expanduser()
    if str(spec) != "pixels" and len(shape) != 3:
        raise FeatureError(
            f"{spec} features are taken of pictures (C, H, W), not of samples of shape {shape}: take these "
            "as they are, with the features pixels, or a metric that takes no features, such as w2"
        )
    if inception_weights is not None and str(spec) != "inception":
        raise FeatureError(f"Inception weights were given, but the features are {spec}; leave them out")
    if str(spec) == "pixels":
        dim = math.prod(shape)
        return FeatureExtractor("pixels", dim, shape, "", "none", lambda x: to_model_range(x).flatten(1), device)
    if str(spec) == "inception":
        network, digest = load_inception(inception_weights)
        form = InputForm("inception", (-1.0, 1.0), 3, SIZE, sha256=digest)
        return _from_network(network.to(device), form, shape, device)
    if path.suffix not in (".pt", ".pt2"):
        raise FeatureError(f"unknown features {str(spec)!r}; they are inception, pixels, or a .pt or .pt2 file")
    return _from_network(*load_module(path, device), shape, device)


@dataclass(frozen=True)
class InputForm:
    """What a network takes: the JSON of a module file, whose values are checked (FeatureError)."""

    name: str
    input_range: tuple[float, float]
    channels: int
    size: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    def __post_init__(self) -> None:
        """Check what the types do not say."""
        for fits, key, limit in (
            (self.name != "", "name", "a name of its own"),
            (self.channels in (1, 3), "channels", "1 or 3"),
            (-math.inf < self.input_range[0] < self.input_range[1] < math.inf, "input_range", "[low, high]"),
            (self.size is None or self.size >= 1, "size", "at least 1, or left out"),
        ):
            if not fits:
                raise FeatureError(f"{key} = {getattr(self, key)!r} must be {limit}")

    def prepare(self, images: Tensor) -> Tensor:
        """Return uint8 images `(B, C, H, W)` as the network takes them, float32 `(B, channels, size, size)`."""
        x = images.to(torch.float32) / 255
        if x.shape[1] < self.channels:
            x = x.expand(-1, self.channels, -1, -1)
        if self.size is not None and x.shape[2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False, antialias=False)
        low, high = self.input_range
        return x * (high - low) + low


def save_module(module: nn.Module, path: Path, form: InputForm) -> None:
    """Write a `.pt` file that :func:`load_extractor` takes; what is at `path` is replaced at once or not at all.

    The module maps images as the form says to features `(B, D)`; it is on the CPU, in evaluation mode.
    """
    metadata = {name: value for name, value in asdict(form).items() if name != "sha256" and value is not None}
    extra = {METADATA: json.dumps(metadata, indent=2, allow_nan=False)}
    # In memory first: torch writes the name of the file into it, and the temporary one would change the digest.
    content = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # exported programs load in few versions
        torch.jit.save(torch.jit.script(module), content, _extra_files=extra)
    with replacing(path) as part:
        part.write_bytes(content.getvalue())


def load_module(path: Path, device: torch.device | str = "cpu") -> tuple[Network, InputForm]:
    """Return the network of a `.pt` or `.pt2` file and what it takes, with the digest of the file."""
    if not path.is_file():
        raise FeatureError(f"there is no file {path}; features are inception, pixels, or the path of a module file")
    digest, beside, extra = sha256_of(path), path.with_name(path.name + ".json"), {METADATA: ""}
    module: Network
    try:
        if path.suffix == ".pt":
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch wants the other format
                module = torch.jit.load(path, map_location=device, _extra_files=extra).eval()  # type: ignore[no-untyped-call]
        else:
            module = torch.export.load(path, extra_files=extra).module().to(device)
    except Exception as error:  # the loaders raise whatever comes to their mind
        remedy = "write .pt with torch.jit.save and .pt2 with torch.export.save"
        raise FeatureError(f"{path} cannot be loaded as a module ({one_line(error)[:200]}); {remedy}") from error
    inside: str | bytes = extra[METADATA]
    if not inside and not beside.is_file():
        raise FeatureError(
            f'{path} does not say what it takes; put {{"input_range": [-1, 1], "channels": 3}} with its own values '
            f"into {beside.name} beside it"
        )
    source = f"{METADATA} in {path}" if inside else str(beside)
    try:
        form = from_dict({"name": path.stem, **json.loads(inside or beside.read_bytes())}, InputForm)
    except (ValueError, TypeError) as error:
        raise FeatureError(f"{source} does not say what the module takes ({one_line(error)})") from error
    if form.name in ("inception", "pixels"):
        raise FeatureError(f"{source}: name = {form.name!r} must be a name of its own")
    if form.sha256 not in ("", digest):
        raise FeatureError(f"{path} has the SHA-256 {digest[:12]}..., but {source} says {form.sha256!s:.12}...")
    return module, replace(form, sha256=digest)


def _from_network(network: Network, form: InputForm, shape: Shape, device: torch.device) -> FeatureExtractor:
    """Return the extractor of a network, whose number of features is found with one blank image."""
    if shape[0] not in (1, form.channels):
        raise FeatureError(f"{form.name} takes images of {form.channels} channels, these are {sides(shape)}")

    def function(images: Tensor) -> Tensor:
        try:
            features = network(form.prepare(images))
        except RuntimeError as error:
            batch = sides(images.shape)
            raise FeatureError(f"{form.name} fails on a batch {batch} ({one_line(error)[-200:]})") from error
        if not isinstance(features, Tensor) or features.ndim < 2 or len(features) != len(images):
            found = getattr(features, "shape", type(features).__name__)
            raise FeatureError(f"{form.name} must return a tensor (B, D) for {len(images)} images, it returns {found}")
        return features.flatten(1)

    with _full_precision(device):
        dim = function(torch.zeros(1, *shape, dtype=torch.uint8, device=device)).shape[1]
    same = form.size is None or shape[1:] == (form.size, form.size)
    resize = "none" if same else f"bilinear to {form.size}x{form.size}, half-pixel centres, no antialiasing"
    return FeatureExtractor(form.name, dim, shape, form.sha256, resize, function, device)


def sides(shape: Iterable[int]) -> str:
    """Return a shape for messages: `3x32x32`."""
    return "x".join(map(str, shape))


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Switch off gradients, autocast and, for convolutions, TF32: how the model was run has no influence."""
    cudnn = torch.backends.cudnn
    flags = {name: getattr(cudnn, name) for name in ("enabled", "benchmark", "deterministic")}
    with cudnn.flags(**flags, allow_tf32=False), torch.inference_mode(), torch.autocast(device.type, enabled=False):
        yield
