"""`proxdm stats`: reference statistics of a data set, for Fréchet distances (FID)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Fixed, OmitArgPrefixes, Positional, Suppress, arg

from proxdm.data.load import DataConfig, Flip, load_data
from proxdm.metrics.features import FEATURES_HELP, WEIGHTS_HELP, load_extractor, sides
from proxdm.metrics.statistics import check_target, compute_statistics
from proxdm.runtime.files import check_folder
from proxdm.runtime.processes import choose_device


@dataclass(frozen=True)
class Pictures(DataConfig):
    """A data set as the options of a verb that takes its pictures as they are."""

    # A known data set (digits, mnist, fashion-mnist, cifar10), or a folder or archive of pictures, or an .npy or .npz
    # file of images.
    name: Annotated[Positional[str], arg(metavar="DATASET")]
    flip: Suppress[Fixed[Flip]] = "none"


@dataclass(frozen=True)
class Stats:
    """Take features of every image of a data set and write their mean and covariance, stamped, to an .npz file.

    pytorch-fid reads the file too. Images are what training would see before flips, rounded to 8 bits.
    """

    data: OmitArgPrefixes[Pictures]
    out: Annotated[Path, arg(aliases=("-o",))]  # The .npz file to write.
    features: Annotated[str, arg(help=FEATURES_HELP)] = "inception"
    inception_weights: Annotated[Path | None, arg(help=WEIGHTS_HELP)] = None
    batch_size: int = 64  # Images at a time; has no influence on the result.
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps.
    overwrite: bool = False  # Replace what is there.


def run(options: Stats, prog: str) -> int:
    """Take the statistics, write them, and return the exit status."""
    check_target(options.out, ".npz", overwrite=options.overwrite)
    device = choose_device(options.device)
    data = load_data(options.data)
    extractor = load_extractor(options.features, data.shape, inception_weights=options.inception_weights, device=device)
    check_folder(options.out.parent, [options.out.name], overwrite=options.overwrite)
    statistics = compute_statistics(data, extractor, batch_size=options.batch_size, progress=True)
    statistics.save(options.out, overwrite=options.overwrite)
    if len(data) <= extractor.dim:
        print(
            f"{prog}: warning: {len(data)} images leave the covariance of {extractor.dim} features singular; distances "
            "to so few are far too large, 10000 and more are usual",
            file=sys.stderr,
        )
    what = f"{extractor.dim} {extractor.name} features of {len(data)} images {sides(data.shape)}"
    print(f"{options.out}: {what}, of {statistics.label}")
    return 0
