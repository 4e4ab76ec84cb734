"""Handwritten digits that come with scikit-learn: real images without a download."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from hwnas.data.dataset import ImageData


def digits() -> ImageData:
    """1,797 greyscale images 8x8 of ten digits.

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), the test part, as bundled with
    scikit-learn. Its 17 grey levels are spread over 0..255.

    Example:
        >>> data = digits()
        >>> data.images.shape, data.classes[0], data.digest
        ((1797, 8, 8, 1), '0', 'dfdab4235c253c67')
    """
    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, :, :, None]
    classes = tuple(str(digit) for digit in range(10))
    return ImageData(images, bunch.target.astype(np.int64), classes, "scikit-learn digits")
