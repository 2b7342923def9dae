"""Every reader of foreign bytes, on files that were damaged at random: an error of ours in one line, or a result.

PROXDM_FUZZ=10000 pytest tests/test_foreign_bytes.py takes so many files a reader; by default few.
"""

from __future__ import annotations

import json
import os
import random
import time
import tracemalloc
import warnings
from contextlib import suppress

import numpy as np
import pytest
import torch

from archives import encoded, packed
from proxdm import load
from proxdm.checkpoints.official import read_official
from proxdm.checkpoints.portable import save_model
from proxdm.config import Config, from_json, to_json
from proxdm.data.arrays import read_array
from proxdm.data.known import read_idx
from proxdm.data.pictures import read_pictures
from proxdm.errors import ProxdmError
from proxdm.metrics.statistics import ReferenceStatistics
from proxdm.priors import fit_prior, load_prior, save_prior
from proxdm.runtime.files import JsonLines
from tiny_models import PROX, random_model

COUNT = int(os.environ.get("PROXDM_FUZZ", "60"))
SECONDS, BYTES = 20.0, 2**29
"""What one file may take: far above what is usual, far below a hang or a bomb."""


def idx(path):
    path.write_bytes(bytes([0, 0, 8, 3]) + np.array([5, 4, 3], ">u4").tobytes() + bytes(60))


PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


def archive(path):
    packed(path, {f"{i}.png": encoded(PIXELS) for i in range(3)})


def pth(path):
    torch.save({"model_state_dict": {"model.unet.head.weight": torch.zeros(8, 1, 3, 3)}, "train_losses": [1.0]}, path)


def lines(path):
    path.write_text(json.dumps({"a": 1}) + "\n" + json.dumps({"b": [1, 2]}) + "\n")


def read_config(path):
    return from_json(path.read_text("utf-8", "replace"), Config)


READERS = {
    "idx": ("images-idx3-ubyte", idx, lambda path: read_idx(path, 3)),
    "npy": ("a.npy", lambda path: np.save(path, PIXELS[None].astype(np.float32) / 255), read_array),
    "npz": ("a.npz", lambda path: np.savez(path, images=PIXELS[None]), read_array),
    "zip": ("a.zip", archive, lambda path: read_pictures(path, skip_broken=True)),
    "tar": ("a.tar", archive, lambda path: read_pictures(path, skip_broken=True)),
    "statistics": ("s.npz", lambda path: np.savez(path, mu=np.zeros(4), sigma=np.eye(4)), ReferenceStatistics.load),
    "pth": ("a.pth", pth, read_official),
    "model": ("m.safetensors", lambda path: save_model(random_model(PROX), path), load),
    "prior": ("p.safetensors", lambda path: save_prior(fit_prior(torch.rand(100, 6), 1, 2), path), load_prior),
    "config": ("c.json", lambda path: path.write_text(to_json(PROX)), read_config),
    "jsonlines": ("r.jsonl", lines, lambda path: JsonLines(path).records()),
}  # fmt: skip


def damaged(content, rng):
    """The bytes cut short, flipped, overwritten, repeated or with other ones in between."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at, kind = rng.randrange(len(data) or 1), rng.randrange(6)
        if kind == 0:
            del data[at:]
        elif kind == 1 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            data[at : at + rng.randrange(9)] = rng.randbytes(rng.randrange(9))
        elif kind == 3:
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        elif kind == 4:
            data[at:at] = data[: rng.randrange(64)]
        else:
            del data[at : at + rng.randrange(64)]
    return bytes(data)


@pytest.mark.parametrize("kind", list(READERS))
def test_damaged_files_are_refused_in_one_line_or_read(kind, tmp_path):
    name, make, read = READERS[kind]
    path, rng = tmp_path / name, random.Random(kind)
    make(path)
    whole = path.read_bytes()
    if kind != "pth":  # of the authors' files only a large one would be whole
        read(path)
    for number in range(COUNT):
        path.write_bytes(damaged(whole, rng))
        started = time.perf_counter()
        tracemalloc.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with suppress(ProxdmError):
                read(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.perf_counter() - started < SECONDS, (kind, number)
        assert peak < BYTES, (kind, number)
