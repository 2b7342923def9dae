"""Data: known sets, folders and archives of images, arrays, latents, tensors and datasets of any `(n, *)` shape.

Images are kept as uint8 and converted in one place, :mod:`proxdm.data.images`. :func:`load_data` turns any source into
:class:`ImageData`, and :class:`DataStream` turns those into training batches whose order is a function of (seed, step).
"""

from proxdm.data.batches import DataStream
from proxdm.data.images import ImageData, iterate
from proxdm.data.known import DATASETS, KnownData, cache_folder, download
from proxdm.data.load import DataConfig, Flip, load_data
from proxdm.errors import DataError
from proxdm.pixels import to_model_range, to_uint8

__all__ = [
    "DATASETS",
    "DataConfig",
    "DataError",
    "DataStream",
    "Flip",
    "ImageData",
    "KnownData",
    "cache_folder",
    "download",
    "iterate",
    "load_data",
    "to_model_range",
    "to_uint8",
]
