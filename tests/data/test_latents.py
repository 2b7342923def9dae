"""Files of latents: against the autoencoder itself, interrupted and taken up, never overwritten."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from proxdm.data import DataConfig, DataError, ImageData, load_data, to_model_range
from proxdm.data.latents import encode_pictures, read_latents, read_stamp
from proxdm.data.vae import LatentCoder, load_vae
from proxdm.errors import OutputError
from proxdm.imaging import save_pictures
from proxdm.noise import sample_generator

diffusers = pytest.importorskip("diffusers", exc_type=ImportError)


@pytest.fixture(scope="module")
def vae_folder(tmp_path_factory):
    """A tiny autoencoder with random weights: 16x16 RGB to 4x4x4 and back."""
    torch.manual_seed(0)
    module = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 16), down_block_types=("DownEncoderBlock2D",) * 3, norm_num_groups=4, sample_size=16,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, scaling_factor=0.5, shift_factor=0.125,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("vae")
    module.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def coder(vae_folder):
    return load_vae(str(vae_folder))


@pytest.fixture
def data(generator):
    pixels = torch.randint(0, 256, (7, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return ImageData(pixels, "random", preprocessing="none")


def test_coder_is_the_autoencoder_with_its_scaling(coder, data, generator):
    x = to_model_range(data.images)
    with torch.no_grad():
        dist = coder.module.encode(x).latent_dist
    torch.testing.assert_close(coder.encode(x), (dist.mean - 0.125) * 0.5)
    z = torch.randn(dist.mean.shape, generator=generator)
    torch.testing.assert_close(coder.encode(x, z), (dist.mean + dist.std * z - 0.125) * 0.5)
    with torch.no_grad():
        expected = coder.module.decode(dist.mean).sample
    for batch_size in (3, 16):
        decoded = coder.decode(coder.encode(x), batch_size=batch_size)
        torch.testing.assert_close(decoded, expected, rtol=1e-4, atol=1e-5)
    assert coder.latent_shape(16, 24) == (4, 4, 6)
    assert coder.reduction == 4


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("mode", ["mean", "sample"])
def test_file_equals_direct_encoding(tmp_path, coder, data, mode, mirrored):
    out = tmp_path / "sub" / "z.npy"
    encoded = encode_pictures(data, out, coder, mode=mode, seed=9, mirrored=mirrored, batch_size=3)
    rows = [torch.randn(4, 4, 4, generator=sample_generator(9, i)) for i in range(14 if mirrored else 7)]
    x = to_model_range(data.images)
    x = torch.cat([x, x.flip(-1)]) if mirrored else x
    expected = coder.encode(x, torch.stack(rows) if mode == "sample" else None)
    torch.testing.assert_close(encoded.images, expected, rtol=1e-4, atol=1e-5)
    assert encoded.latent
    assert encoded.memory_mapped
    assert encoded.name == "random"
    assert f"latents of {coder.name} ({mode}, factor 0.5)" in encoded.preprocessing
    assert {path.name for path in out.parent.iterdir()} == {"z.npy", "z.npy.json"}
    assert torch.equal(load_data(str(out)).images, encoded.images)
    assert load_data(DataConfig("z.npy", root=str(out.parent), limit=2)).latent


def test_folder_gives_the_same_as_memory(tmp_path, coder, data):
    folder = tmp_path / "pictures"
    folder.mkdir()
    save_pictures(data.images, folder)
    from_folder = encode_pictures(folder, tmp_path / "a.npy", coder, size=16, batch_size=2)
    from_memory = encode_pictures(data, tmp_path / "b.npy", coder, batch_size=2)
    assert torch.equal(from_folder.images, from_memory.images)
    assert from_folder.name == "pictures"
    (folder / "000003.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"cannot decode 000003\.png"):
        encode_pictures(folder, tmp_path / "c.npy", coder, size=16)
    assert not (tmp_path / "c.npy").exists()


def test_interrupted_encoding_goes_on_where_it_stopped(tmp_path, coder, data):
    whole = encode_pictures(data, tmp_path / "whole.npy", coder, mode="sample", mirrored=True, batch_size=2)
    out = tmp_path / "z.npy"
    calls = []

    class Failing(LatentCoder):
        def encode(self, images, noise=None):
            calls.append(len(images))
            if len(calls) == 6:
                raise KeyboardInterrupt
            return super().encode(images, noise)

    failing = Failing(coder.module, coder.name)
    with pytest.raises(KeyboardInterrupt):
        encode_pictures(data, out, failing, mode="sample", mirrored=True, batch_size=2)
    assert not out.exists()
    with pytest.raises(OutputError, match=r"z.npy.partial was made with other settings \(mode 'sample' instead of 'm"):
        encode_pictures(data, out, coder, mirrored=True)
    done = encode_pictures(data, out, failing, mode="sample", mirrored=True, batch_size=2)
    assert torch.equal(done.images, whole.images)
    assert sum(calls) == 14 + 2  # every row once, and the batch that failed
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith("z")} == {"z.npy", "z.npy.json"}


def test_finished_file_is_reused_and_never_overwritten(tmp_path, coder, data, vae_folder):
    out = tmp_path / "z.npy"
    first = encode_pictures(data, out, coder)
    time = out.stat().st_mtime_ns
    assert torch.equal(encode_pictures(data, out, coder).images, first.images)
    assert out.stat().st_mtime_ns == time
    with pytest.raises(OutputError, match=r"made with other settings \(mode 'mean' instead of 'sample'\); delete it"):
        encode_pictures(data, out, coder, mode="sample")
    with pytest.raises(OutputError, match=r"other settings \(names "):
        encode_pictures(ImageData(255 - data.images, "random", preprocessing="none"), out, coder)
    other = load_vae(str(vae_folder))
    with torch.no_grad():
        other.module.encoder.conv_in.bias.add_(1)
    with pytest.raises(OutputError, match=r"other settings \(weights "):
        encode_pictures(data, out, other)
    np.save(tmp_path / "foreign.npy", np.zeros(3))
    with pytest.raises(OutputError, match=r"foreign.npy exists and has no stamp beside it"):
        encode_pictures(data, tmp_path / "foreign.npy", coder)


def test_stamps_are_complete_and_broken_ones_are_refused(tmp_path, coder, data):
    out, beside = tmp_path / "z.npy", tmp_path / "z.npy.json"
    encode_pictures(data, out, coder, seed=4)
    stamp = read_stamp(out)
    assert (stamp.images, stamp.shape, stamp.seed, stamp.scaling_factor, stamp.shift) == (7, (4, 4, 4), 4, 0.5, 0.125)
    assert stamp.weights == coder.weights_digest()
    assert read_stamp(tmp_path / "other.npy") is None
    good = beside.read_text()
    for content, message in [
        ("{", "is not a stamp of latents"),
        ("[]", "is not a stamp of latents"),
        ("{}", "is not a stamp of latents"),
        (good.replace("latents-1", "latents-9"), "format 'proxdm-latents-9', not proxdm-latents-1"),
        (json.dumps({**json.loads(good), "surprise": 1}), "surprise"),
    ]:
        beside.write_text(content)
        with pytest.raises(DataError, match=message):
            read_latents(out)
    beside.write_text(good.replace('"images": 7', '"images": 8'))
    with pytest.raises(DataError, match=r"holds \(7, 4, 4, 4\), not what its stamp says"):
        read_latents(out)
    beside.unlink()
    with pytest.raises(DataError, match=r"z.npy has no stamp z.npy.json beside it"):
        read_latents(out)


def test_partial_file_that_does_not_fit_its_notes(tmp_path, coder, data, monkeypatch):
    monkeypatch.setattr(LatentCoder, "encode", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        encode_pictures(data, tmp_path / "z.npy", coder)
    np.save(tmp_path / "short.npy", np.zeros((2, 4, 4, 4), np.float32))
    (tmp_path / "short.npy").rename(tmp_path / "z.npy.partial")
    with pytest.raises(DataError, match=r"z.npy.partial does not fit z.npy.partial.json; delete both"):
        encode_pictures(data, tmp_path / "z.npy", coder)


def test_input_errors(tmp_path, coder, data):
    with pytest.raises(DataError, match=r"pictures of 18x16 do not fit .*: give a size= that is a multiple of 4"):
        coder.latent_shape(16, 18)
    grey = ImageData(data.images[:, :1], "grey")
    with pytest.raises(DataError, match=r"takes RGB pictures, .*\(1, 16, 16\)"):
        encode_pictures(grey, tmp_path / "z.npy", coder)
    with pytest.raises(DataError, match=r"must end in .npy, and batch_size = 0"):
        encode_pictures(data, tmp_path / "z.npy", coder, batch_size=0)
    with pytest.raises(DataError, match=r"must end in .npy"):
        encode_pictures(data, tmp_path / "z.npz", coder)
    with pytest.raises(DataError, match="size="):
        encode_pictures(tmp_path, tmp_path / "z.npy", coder)
    with pytest.raises(DataError, match="latents that are not finite; use dtype float32"):
        coder.encode(torch.full((1, 3, 16, 16), torch.nan))


def test_loading_errors(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"the autoencoder .* cannot be loaded: ") as error:
        load_vae(str(tmp_path))
    assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(DataError, match=r'need diffusers \(.*\): pip install "proxdm\[diffusers\]"'):
        load_vae("x")
