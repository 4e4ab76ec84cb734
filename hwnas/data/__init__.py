"""Images: where they come from, how they are checked, split, prepared and served."""

from hwnas.data.batches import Augment, Batch, Images, MiniBatch, batches
from hwnas.data.dataset import ImageData, SourceData
from hwnas.data.decode import Channels, decode
from hwnas.data.digits import digits
from hwnas.data.fashion_mnist import fashion_mnist
from hwnas.data.image_folder import image_folder
from hwnas.data.labelled_files import Damaged
from hwnas.data.parquet import parquet
from hwnas.data.preprocessing import Preprocessing
from hwnas.data.source import SOURCES, DataSource
from hwnas.data.split import Part, Splits, split

__all__ = [
    "SOURCES",
    "Augment",
    "Batch",
    "Channels",
    "Damaged",
    "DataSource",
    "ImageData",
    "Images",
    "MiniBatch",
    "Part",
    "Preprocessing",
    "SourceData",
    "Splits",
    "batches",
    "decode",
    "digits",
    "fashion_mnist",
    "image_folder",
    "parquet",
    "split",
]
