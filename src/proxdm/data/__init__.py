"""Data: the Datasaurus point sets, image data sets, folders of images, arrays and latents.

What a model sees lies in [-1, 1] (latents excepted); images are kept as uint8 and converted in one place,
:mod:`proxdm.data.images`. :func:`load_data` turns a :class:`DataConfig` into :class:`ImageData`, and
:class:`DataStream` turns those into training batches whose order is a function of (seed, step).
"""

from proxdm.data.batches import DataStream
from proxdm.data.errors import DataError
from proxdm.data.images import DataStats, ImageData, iterate, to_model_range, to_uint8, training_stats
from proxdm.data.known import KNOWN, cache_folder, download
from proxdm.data.load import DataConfig, Flip, load_data

__all__ = [
    "KNOWN",
    "DataConfig",
    "DataError",
    "DataStats",
    "DataStream",
    "Flip",
    "ImageData",
    "cache_folder",
    "download",
    "iterate",
    "load_data",
    "to_model_range",
    "to_uint8",
    "training_stats",
]
