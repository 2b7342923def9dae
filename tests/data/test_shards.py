"""Folders of tar archives as webdataset writes them: one set, with a class beside every picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archives import encoded, packed
from proxdm.data import images
from proxdm.data.archives import shards_of
from proxdm.data.load import DataConfig, load_data
from proxdm.errors import DataError
from proxdm.training.automatic import look

PIXELS = np.random.default_rng(0).integers(0, 256, (25, 8, 8, 3), np.uint8)


def shards(folder, classes="0 10 2"):
    """Shards of ten samples: a picture, its class, a caption."""
    folder.mkdir()
    names = classes.split()
    for start in range(0, len(PIXELS), 10):
        files = {}
        for i, picture in enumerate(PIXELS[start : start + 10], start):
            files |= {f"{i:05d}.png": encoded(picture), f"{i:05d}.txt": b"a caption"}
            if names:
                files[f"{i:05d}.cls"] = names[i % len(names)].encode()
        packed(folder / f"shard-{start // 10:06d}.tar", files)
    return folder


@pytest.mark.filterwarnings("ignore:.*left out 25 other files")
def test_shards_are_one_set_with_classes(tmp_path, monkeypatch):
    name = str(shards(tmp_path / "set"))
    data = load_data(DataConfig(name, labels=True))
    assert torch.equal(data.images, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert data.classes == ("0", "2", "10")
    assert data.labels.tolist() == ([0, 2, 1] * 9)[:25]
    tens = load_data(DataConfig(name, labels=True, classes=("10",), grey=True))
    assert tens.images.shape == (8, 1, 8, 8)
    config, seen, said = look(name, None, 32, labels=True)
    assert (config.size, seen.shape, seen.classes) == (8, (3, 8, 8), data.classes)
    assert said.startswith("data: 25 pictures")
    monkeypatch.setattr(images, "MEMORY_LIMIT", 100)  # then they are decoded once to a file
    monkeypatch.setenv("PROXDM_DATA", str(tmp_path / "cache"))
    mapped = load_data(DataConfig(name, size=8))
    assert mapped.memory_mapped
    assert torch.equal(mapped.images, data.images)
    assert torch.equal(mapped.labels, data.labels)


@pytest.mark.filterwarnings("ignore:.*left out")
def test_classes_in_words_and_none(tmp_path):
    words = load_data(DataConfig(str(shards(tmp_path / "a", "dog cat")), labels=True))
    assert words.classes == ("cat", "dog")
    assert words.labels.tolist() == ([1, 0] * 13)[:25]
    bare = shards(tmp_path / "b", "")
    assert load_data(str(bare)).labels is None
    with pytest.raises(DataError, match="no labels"):
        load_data(DataConfig(str(bare), labels=True))


def test_what_is_no_folder_of_shards(tmp_path):
    folder = shards(tmp_path / "set")
    for name in ("README.md", "meta.json"):
        (folder / name).write_bytes(b"{}")
    assert len(shards_of(folder)) == 3
    (folder / "picture.png").write_bytes(encoded(PIXELS[0]))
    assert shards_of(folder) == []
    assert shards_of(tmp_path) == []


def test_a_broken_shard_is_named(tmp_path):
    folder = shards(tmp_path / "set")
    path = folder / "shard-000001.tar"
    path.write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match=r"shard-000001\.tar is a broken archive"):
        load_data(str(folder))


@pytest.mark.filterwarnings("ignore:.*left out")
def test_what_webdataset_writes_is_read(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    (tmp_path / "set").mkdir()
    with webdataset.ShardWriter(str(tmp_path / "set" / "%06d.tar"), maxcount=10, verbose=0) as sink:
        for i, pixels in enumerate(PIXELS):
            sink.write({"__key__": f"{i:05d}", "png": pixels, "cls": i % 3, "json": {"at": i}})
    data = load_data(DataConfig(str(tmp_path / "set"), labels=True))
    assert torch.equal(data.images, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert data.labels.tolist() == ([0, 1, 2] * 9)[:25]
