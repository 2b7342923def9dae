"""Data sets that `datasets` has saved to disk."""

import numpy as np
import pytest
import torch
from PIL import Image

datasets = pytest.importorskip("datasets")
from proxdm.data import images  # noqa: E402
from proxdm.data.load import DataConfig, load_data  # noqa: E402
from proxdm.errors import DataError  # noqa: E402
from proxdm.training.automatic import look  # noqa: E402

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8)


def saved(folder, sides=(8,), splits=False):
    kind = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string"), "kind": kind})
    pictures = [Image.fromarray(p).resize((sides[i % len(sides)],) * 2) for i, p in enumerate(PIXELS)]
    columns = {"image": pictures, "caption": ["x"] * 30, "kind": [i % 2 for i in range(30)]}
    made = datasets.Dataset.from_dict(columns, features=features)
    (datasets.DatasetDict({"train": made, "test": made.select(range(5))}) if splits else made).save_to_disk(folder)
    return str(folder)


def test_pictures_and_classes_are_read(tmp_path):
    data = load_data(saved(tmp_path / "animals"))
    assert torch.equal(data.images, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 1] * 15
    dogs = load_data(DataConfig(str(tmp_path / "animals"), labels=True, classes=("dog",), grey=True))
    assert dogs.images.shape == (15, 1, 8, 8)
    assert len(load_data(DataConfig(str(tmp_path / "animals"), limit=3))) == 3
    _, seen, said = look(str(tmp_path / "animals"), None, 32)
    assert (seen.shape, said) == ((3, 8, 8), "data: 30 samples of 3x8x8")


def test_splits_and_sizes(tmp_path):
    name = saved(tmp_path / "animals", sides=(8, 10), splits=True)
    assert load_data(DataConfig(name, size=8, split="test")).images.shape == (5, 3, 8, 8)
    with pytest.raises(DataError, match=r"picture 1 is 10x10, picture 0 is 8x8.*with size="):
        load_data(name)


def test_what_cannot_be_read_is_said(tmp_path):
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "words")
    with pytest.raises(DataError, match="no column of pictures; its columns are text"):
        load_data(str(tmp_path / "words"))
    name = saved(tmp_path / "animals")
    for file in (tmp_path / "animals").glob("*.arrow"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read as a data set"):
        load_data(name)


@pytest.mark.filterwarnings("ignore:.*left out 1 broken")
def test_broken_pictures_take_their_labels_along_and_large_sets_are_mapped(tmp_path, monkeypatch):
    for number in (0, 2):
        Image.fromarray(PIXELS[number]).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    features = datasets.Features({"image": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"])})
    columns = {"image": [str(tmp_path / f"{number}.png") for number in range(3)], "kind": [0, 0, 1]}
    kept = datasets.Dataset.from_dict(columns, features=features)
    kept.save_to_disk(tmp_path / "animals")
    with pytest.raises(DataError, match="cannot decode picture 1"):
        load_data(str(tmp_path / "animals"))
    data = load_data(DataConfig(str(tmp_path / "animals"), skip_broken=True))
    assert (len(data), data.labels.tolist()) == (2, [0, 1])
    monkeypatch.setattr(images, "MEMORY_LIMIT", 100)
    monkeypatch.setenv("PROXDM_DATA", str(tmp_path / "cache"))
    kept.select([0, 2]).save_to_disk(tmp_path / "whole")
    mapped = load_data(DataConfig(str(tmp_path / "whole"), size=8))
    assert mapped.memory_mapped
    assert torch.equal(mapped.images, data.images)
    assert mapped.labels.tolist() == [0, 1]
