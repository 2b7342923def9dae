"""Pictures as people have them: links, endings, pages, bit depths, malformed EXIF, archives of other systems."""

from __future__ import annotations

import io
import struct
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from proxdm.data import DataConfig, DataError, load_data
from proxdm.data.load import load_labels
from proxdm.data.pictures import decode


def picture(seed=0, size=(8, 8)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def encoded(image, kind="PNG", **more):
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def read(path, **more):
    """The pictures, and what is said of them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_data(DataConfig(str(path), **more))
    return data, [str(one.message) for one in caught if "proxdm" in one.filename or str(path) in str(one.message)]


def test_linked_folders_are_read_once(tmp_path):
    for name in ("data/cats", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(2):
            picture(i).save(tmp_path / name / f"{i}.png")
    (tmp_path / "data" / "dogs").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "cats" / "round").symlink_to(tmp_path / "data")
    assert len(read(tmp_path / "data")[0]) == 4
    assert load_labels(DataConfig(str(tmp_path / "data"))).names == ("cats", "dogs")


def test_every_usual_ending_is_read_and_others_are_counted(tmp_path):
    picture().save(tmp_path / "a.png")
    for name in ("b.jfif", "c.jpe", "d.JPG"):
        (tmp_path / name).write_bytes(encoded(picture(), "JPEG"))
    for name in ("labels.csv", "notes.txt", "more.txt"):
        (tmp_path / name).write_text("x")
    data, said = read(tmp_path)
    assert len(data) == 4
    assert said == [f"{tmp_path}: left out 3 other files (.txt 2, .csv 1)"]


def test_archives_of_other_systems(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("cats\\0.png", "dogs\\0.png", "__MACOSX\\x.png"):
            archive.writestr(name, encoded(picture()))
    assert load_labels(DataConfig(str(tmp_path / "a.zip"))).names == ("cats", "dogs")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        content = encoded(picture())
        member = tarfile.TarInfo("0.png")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        for name, kind in (("1.png", tarfile.SYMTYPE), ("2.png", tarfile.LNKTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "0.png"
            archive.addfile(link)
    assert len(read(tmp_path / "a.tar")[0]) == 3
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "nowhere.png"
        archive.addfile(link)
    with pytest.raises(DataError, match=r"cannot decode 1\.png"):
        read(tmp_path / "b.tar")


@pytest.mark.parametrize("top, said", [(255, True), (4095, True), (65535, False)])
def test_sixteen_bits_that_are_not_used_are_said(tmp_path, top, said):
    values = np.linspace(0, top, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    lines = read(tmp_path, grey=True)[1]
    assert bool(lines) == said
    assert not said or f"no value above {top}" in lines[0]


def test_of_several_pages_the_first_is_taken_and_said(tmp_path):
    picture(1).save(tmp_path / "a.tif", save_all=True, append_images=[picture(2), picture(3)])
    data, said = read(tmp_path)
    assert np.array_equal(data.images[0].permute(1, 2, 0).numpy(), np.asarray(picture(1)))
    assert said == [f"{tmp_path}: of 1 pictures with several pages or frames the first was taken"]


def exif(*entries):
    body = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + struct.pack("<I", 0)


UPRIGHT = (0x112, 3, 1, struct.pack("<HH", 6, 0))


@pytest.mark.parametrize(
    "entries",
    [
        (UPRIGHT,),
        (UPRIGHT, (0x11A, 3, 1, struct.pack("<HH", 72, 0)), (0x128, 2, 2, b"2\0\0\0")),
        (UPRIGHT, (0x111, 9, 1, struct.pack("<i", -5))),
    ],
    ids=["good", "a wrong type", "a negative offset"],
)
def test_malformed_exif_costs_no_picture(entries):
    turned = decode(encoded(picture(size=(12, 8)), "JPEG", exif=exif(*entries)))
    assert turned.shape == (3, 12, 8)


def test_long_texts_of_a_png_cost_no_picture():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 4_000_000, zip=True)
    assert decode(encoded(picture(), pnginfo=info)).shape == (3, 8, 8)


def test_one_colour_picture_is_not_many_grey_ones(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(DataError, match=r"16x16x3: one colour picture.*array\[None\]"):
        load_data(DataConfig(str(tmp_path / "a.npy")))
    np.save(tmp_path / "b.npy", {"mu": 1}, allow_pickle=True)
    with pytest.raises(DataError, match=r"\.npz with mu and sigma"):
        load_data(DataConfig(str(tmp_path / "b.npy")))
