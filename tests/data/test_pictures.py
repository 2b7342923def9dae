"""Folders, tars and zips of pictures: order, fitting, broken ones, and real pictures."""

from __future__ import annotations

import io
import re
import struct
import tarfile
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from archives import add, encoded, packed
from proxdm.data import DataConfig, images, load_data
from proxdm.data.archives import is_archive
from proxdm.data.batches import DataStream
from proxdm.data.load import load_labels
from proxdm.data.pictures import decode, open_pictures, read_pictures
from proxdm.errors import DataError

NAMES = ("b/2.png", "a.PNG", "b/10.png", "c/deep/er/x.bmp", "z.webp")
"""Written in this order; sorted: a.PNG, b/10.png, b/2.png, c/deep/er/x.bmp, z.webp."""


ARRAYS = dict(zip(NAMES, np.random.default_rng(0).integers(0, 256, (5, 6, 8, 3), np.uint8), strict=True))


def pixels(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def expected(names=NAMES):
    return np.stack([ARRAYS[name].transpose(2, 0, 1) for name in sorted(names)])


@pytest.fixture
def contents():
    """Pictures as bytes by their names, with things that are not pictures among them."""
    others = ("notes.txt", ".hidden.png", "b/._2.png", "__MACOSX/a.png", ".git/a.png")
    made = {name: encoded(array, name[-4:].strip(".").lower(), lossless=True) for name, array in ARRAYS.items()}
    return made | dict.fromkeys(others, b"not a picture")


@pytest.mark.parametrize("source", ["folder", "x.zip", "x.tar", "x.tgz", "x.tar.xz"])
def test_every_source_gives_the_same_sorted_images(tmp_path, contents, source):
    data = read_pictures(packed(tmp_path / source, contents))
    np.testing.assert_array_equal(data.images.numpy(), expected())
    assert data.name == source
    assert data.preprocessing == "RGB uint8, as stored, 8x6"


def test_names_are_sorted_and_read_in_place_order(tmp_path, contents):
    with open_pictures(packed(tmp_path / "x.tar", contents)) as pictures:
        assert pictures.names == tuple(f"./{name}" for name in sorted(NAMES))
        stored = sorted(zip(pictures.places, pictures.names, strict=True))
        assert [name.removeprefix("./") for _, name in stored] == list(NAMES)


def test_limit_takes_the_first_sorted(tmp_path, contents):
    folder = packed(tmp_path / "folder", contents)
    whole, part = read_pictures(folder), read_pictures(folder, limit=2)
    np.testing.assert_array_equal(part.images, whole.images[:2])
    assert len(read_pictures(folder, limit=99)) == 5


def test_size_cuts_the_centre_and_uses_lanczos():
    array = np.random.default_rng(0).integers(0, 256, (10, 16, 3), dtype=np.uint8)
    square = Image.fromarray(array[:, 3:13])
    expected = np.asarray(square.resize((4, 4), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(encoded(array), size=4), expected)
    tall = decode(encoded(array.transpose(1, 0, 2)), size=10)
    np.testing.assert_array_equal(tall, array.transpose(1, 0, 2)[3:13].transpose(2, 0, 1))
    np.testing.assert_array_equal(decode(encoded(array[:, :10]), size=10), array[:, :10].transpose(2, 0, 1))


def test_grey_is_luma():
    array = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    luma = array @ np.array([0.299, 0.587, 0.114])
    grey = decode(encoded(array), grey=True)
    assert grey.shape == (1, 5, 5)
    assert np.abs(grey[0] - luma).max() <= 1
    single = decode(encoded(array[..., 0]))
    np.testing.assert_array_equal(single, np.stack([array[..., 0]] * 3))


def test_transparent_pictures_lie_on_white():
    array = np.zeros((2, 2, 4), np.uint8)
    array[..., 0] = 100
    array[0, :, 3] = 255
    np.testing.assert_array_equal(decode(encoded(array))[:, 0], [[100] * 2, [0] * 2, [0] * 2])
    np.testing.assert_array_equal(decode(encoded(array))[:, 1], np.full((3, 2), 255))
    palette = Image.fromarray(np.zeros((2, 2), np.uint8), "P")
    palette.putpalette([10, 20, 30])
    stream = io.BytesIO()
    palette.save(stream, "png", transparency=0)
    assert (decode(stream.getvalue()) == 255).all()


def test_sixteen_bits_are_scaled_not_clipped():
    wide = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert decode(encoded(wide), grey=True).tolist() == [[[0, 1, 128, 255]]]


def test_different_sizes_need_a_size(tmp_path):
    packed(tmp_path, {"a.png": encoded(np.zeros((6, 8, 3), np.uint8)), "b.png": encoded(np.zeros((6, 9, 3), np.uint8))})
    with pytest.raises(DataError, match=r"b.png is 9x6, a.png is 8x6 \(width x height\); cut and resize .* with size="):
        read_pictures(tmp_path)
    assert read_pictures(tmp_path, size=4).shape == (3, 4, 4)


@pytest.mark.parametrize("source", ["folder", "x.zip", "x.tar"])
@pytest.mark.parametrize(
    "damage", [lambda good: good[: len(good) // 2], lambda good: b"", lambda good: b"<html>", lambda good: good[:40]]
)
def test_broken_picture_is_named_or_left_out(tmp_path, contents, source, damage):
    contents["b/10.png"] = damage(contents["b/10.png"])
    path = packed(tmp_path / source, contents)
    with pytest.raises(DataError, match=r"cannot decode (\./)?b/10.png \(.+\); repair or remove it.*skip_broken"):
        read_pictures(path)
    with pytest.warns(UserWarning, match=r"left out 1 broken of 5 pictures, the first is (\./)?b/10.png"):
        data = read_pictures(path, skip_broken=True)
    np.testing.assert_array_equal(data.images.numpy(), expected(set(NAMES) - {"b/10.png"}))


def test_picture_broken_inside_a_zip(tmp_path, contents):
    path = packed(tmp_path / "x.zip", contents)
    content = contents["z.webp"]
    path.write_bytes(path.read_bytes().replace(content, content[:30] + b"!" + content[31:]))
    with pytest.raises(DataError, match=r"cannot decode z.webp \(Bad CRC-32"):
        read_pictures(path)


def test_all_broken_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"junk")
    with pytest.raises(DataError, match="none of the 1 pictures can be decoded"):
        read_pictures(tmp_path, skip_broken=True)


def test_bombs_and_floating_point_pictures_are_refused(monkeypatch):
    with pytest.raises(DataError, match="floating-point pixels have no known range"):
        decode(encoded(np.zeros((3, 3), np.float32), "tiff"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match="decompression bomb"):
        decode(encoded(np.zeros((9, 9, 3), np.uint8)))


def test_nothing_there(tmp_path):
    empty = packed(tmp_path / "empty", {"notes.txt": b""})
    with pytest.raises(DataError, match=re.escape(f"there are no pictures under {empty}; looked for .png, .jpg")):
        read_pictures(empty)
    with pytest.raises(DataError, match=re.escape(f"there is no folder or archive {tmp_path / 'nowhere'}")):
        read_pictures(tmp_path / "nowhere")
    with pytest.raises(DataError, match="neither a folder nor an archive"):
        read_pictures(empty / "notes.txt")
    with pytest.raises(DataError, match=r"there are no pictures under .*x.zip"):
        read_pictures(packed(tmp_path / "x.zip", {"notes.txt": b""}))


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz", "x.tar.xz", "cut.tgz"])
def test_broken_archive(tmp_path, contents, name):
    path = packed(tmp_path / name, contents)
    path.write_bytes(path.read_bytes()[:-300] if name == "cut.tgz" else b"this is no archive" * 100)
    with pytest.raises(DataError, match=r"\w+\.t?\w+.* is a broken archive \(.*\); make or download it again"):
        read_pictures(path)


def test_memory_limit(tmp_path, contents, monkeypatch):
    folder = packed(tmp_path / "folder", contents)
    monkeypatch.setattr(images, "MEMORY_LIMIT", 5 * 3 * 48 - 1)
    with pytest.raises(DataError, match=r"folder: 5 samples of .* need .* GiB, the limit is .* take a smaller size="):
        read_pictures(folder)
    assert len(read_pictures(folder, limit=4)) == 4


def test_more_than_memory_holds_is_decoded_once_to_disk(tmp_path, contents, monkeypatch, capsys):
    monkeypatch.setenv("PROXDM_DATA", str(tmp_path / "cache"))
    folder = packed(tmp_path / "folder", contents)
    in_memory = read_pictures(folder, size=4)
    monkeypatch.setattr(images, "MEMORY_LIMIT", 5 * 3 * 16 - 1)
    mapped = read_pictures(folder, size=4)
    assert mapped.memory_mapped
    assert not in_memory.memory_mapped
    assert torch.equal(mapped.images, in_memory.images)
    assert mapped.preprocessing == in_memory.preprocessing
    assert "decoded once to" in capsys.readouterr().err
    (file,) = (tmp_path / "cache" / "decoded").iterdir()
    made = file.stat().st_mtime_ns
    mapped.images.zero_()  # of a copy on write
    assert torch.equal(read_pictures(folder, size=4).images, in_memory.images)
    assert file.stat().st_mtime_ns == made
    assert capsys.readouterr().err == ""
    assert len(DataStream(mapped, seed=0).batch(0, 3)) == 3
    for file in folder.rglob("*.*"):  # other pictures, for all that is known
        file.touch()
    read_pictures(folder, size=4)
    assert len(list((tmp_path / "cache" / "decoded").iterdir())) == 2
    with monkeypatch.context() as broken:
        broken.setattr("proxdm.data.pictures.decode", lambda *given, **more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            read_pictures(folder, size=5)
    assert len(list((tmp_path / "cache" / "decoded").iterdir())) == 2  # nothing half done is left
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=10))
    with pytest.raises(DataError, match=r"has 9\.31e-09; make room, name another folder \(PROXDM_DATA\)"):
        read_pictures(folder, size=5)


def test_archive_names(tmp_path):
    names = ("a.tar", "A.ZIP", "a.tar.gz", "a.npz", "a")
    assert [name for name in names if is_archive(tmp_path / name)] == list(names[:3])


# ---- pictures as people have them: links, endings, pages, bit depths, archives of other systems ----


def read(path, **more):
    """The pictures, and what is said of them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_data(DataConfig(str(path), **more))
    return data, [str(one.message) for one in caught if "proxdm" in one.filename or str(path) in str(one.message)]


def test_linked_folders_are_read_once(tmp_path):
    for name in ("data/cats", "elsewhere"):
        packed(tmp_path / name, {f"{i}.png": encoded(pixels()) for i in range(2)})
    (tmp_path / "data" / "dogs").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "cats" / "round").symlink_to(tmp_path / "data")
    assert len(read(tmp_path / "data")[0]) == 4
    assert load_labels(DataConfig(str(tmp_path / "data"))).names == ("cats", "dogs")


def test_every_usual_ending_is_read_and_others_are_counted(tmp_path):
    jpegs, others = ("b.jfif", "c.jpe", "d.JPG"), ("labels.csv", "notes.txt", "more.txt")
    contents = dict.fromkeys(jpegs, encoded(pixels(), "JPEG")) | dict.fromkeys(others, b"x")
    packed(tmp_path, {"a.png": encoded(pixels()), **contents})
    data, said = read(tmp_path)
    assert len(data) == 4
    assert said == [f"{tmp_path}: left out 3 other files (.txt 2, .csv 1)"]


def test_archives_of_other_systems(tmp_path):
    packed(tmp_path / "a.zip", dict.fromkeys(("cats\\0.png", "dogs\\0.png", "__MACOSX\\x.png"), encoded(pixels())))
    assert load_labels(DataConfig(str(tmp_path / "a.zip"))).names == ("cats", "dogs")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        add(archive, "0.png", encoded(pixels()))
        for name, kind in (("1.png", tarfile.SYMTYPE), ("2.png", tarfile.LNKTYPE)):
            add(archive, name, link="0.png", kind=kind)
    assert len(read(tmp_path / "a.tar")[0]) == 3
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        add(archive, "1.png", link="nowhere.png")
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
    first, *others = (Image.fromarray(pixels(seed)) for seed in (1, 2, 3))
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    data, said = read(tmp_path)
    assert np.array_equal(data.images[0].permute(1, 2, 0).numpy(), pixels(1))
    assert said == [f"{tmp_path}: of 1 pictures with several pages or frames the first was taken"]


def exif(*entries):
    body = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + struct.pack("<I", 0)


UPRIGHT = (0x112, 3, 1, struct.pack("<HH", 6, 0))  # rotate by 90 degrees clockwise to view


@pytest.mark.parametrize(
    "entries",
    [
        (UPRIGHT,),
        (UPRIGHT, (0x11A, 3, 1, struct.pack("<HH", 72, 0)), (0x128, 2, 2, b"2\0\0\0")),
        (UPRIGHT, (0x111, 9, 1, struct.pack("<i", -5))),
    ],
    ids=["good", "a wrong type", "a negative offset"],
)
def test_exif_orientation_is_followed_and_malformed_exif_costs_no_picture(entries):
    array = np.zeros((4, 8, 3), np.uint8)
    array[:, :4] = 255
    picture = decode(encoded(array, "png", exif=exif(*entries)))
    assert picture.shape == (3, 8, 4)
    assert (picture[:, :4] == 255).all()
    assert (picture[:, 4:] == 0).all()


def test_long_texts_of_a_png_cost_no_picture():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 4_000_000, zip=True)
    assert decode(encoded(pixels(), pnginfo=info)).shape == (3, 8, 8)


def test_real_cifar_pictures(shared):
    """The CIFAR-10 test set as JPEGs in ten folders: 10,000 of 32x32, in sorted order."""
    path = shared / "data" / "cifar10-test-jpeg" / "test.tar"
    data = read_pictures(path)
    assert data.images.shape == (10_000, 3, 32, 32)
    with tarfile.open(path) as tar:
        names = sorted(name for name in tar.getnames() if name.endswith(".jpg"))
        for index in (0, 1, 4321, 9999):
            stream = tar.extractfile(names[index])
            expected = np.asarray(Image.open(stream).convert("RGB")).transpose(2, 0, 1)
            np.testing.assert_array_equal(data.images[index].numpy(), expected)
    assert read_pictures(path, size=16, grey=True, limit=7).images.shape == (7, 1, 16, 16)
