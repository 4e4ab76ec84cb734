import numpy as np
from sklearn.datasets import load_digits

from hwnas.data import digits


def test_digits_are_those_of_scikit_learn() -> None:
    data, bunch = digits(), load_digits()
    assert np.array_equal(data.labels, bunch.target)
    assert data.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    pixels = np.asarray(data.images)[:, :, :, 0]
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert np.array_equal(np.round(pixels / 255 * 16), bunch.images)
    assert data.counts()["8"] == 174
