"""Fixtures of the metrics: random Inception weights of a sensible scale, and real pictures."""

from __future__ import annotations

import pytest
import torch
from pytorch_fid import inception

from proxdm.metrics.inception import fid_inception


@pytest.fixture(scope="session")
def inception_state() -> dict[str, torch.Tensor]:
    """A random state dict of the FID Inception network in the layout of the published file, classifier included.

    He's initialisation and random batch statistics, so that features are of order one and all parameters matter.
    """
    generator = torch.Generator().manual_seed(7)

    def random(name: str, like: torch.Tensor) -> torch.Tensor:
        if name.endswith("conv.weight"):
            return torch.randn(like.shape, generator=generator) * (2 / like[0].numel()) ** 0.5
        if name.endswith(("bn.weight", "running_var")):
            return torch.rand(like.shape, generator=generator) + 0.5
        return 0.1 * torch.randn(like.shape, generator=generator)

    state = {
        name: random(name, tensor)
        for name, tensor in fid_inception().state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    return {**state, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}


@pytest.fixture(scope="session")
def inception_file(inception_state, tmp_path_factory):
    """The random weights in a file."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(inception_state, path)
    return path


@pytest.fixture(scope="session")
def pytorch_fid_network(inception_state):
    """pytorch-fid's own network with the random weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *args, **kwargs: inception_state)
        return inception.InceptionV3([3]).eval()


@pytest.fixture(scope="session")
def cifar_pictures(shared) -> torch.Tensor:
    """Real CIFAR-10 pictures, uint8 `(8, 3, 32, 32)`."""
    from proxdm.data import DataConfig, load_data

    return load_data(DataConfig(str(shared / "data" / "cifar10-test-jpeg" / "test.tar"), limit=8)).images
