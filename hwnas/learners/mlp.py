"""A small multi-layer perceptron."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from hwnas.learners.surrogate import Floats, checked_samples


@dataclass(frozen=True)
class Mlp:
    """Two hidden layers of rectified units, trained by Adam on the squared error.

    The papers use three layers of 300 units, dropout and 2,000 epochs, which takes minutes for a tenfold cross
    validation; this one is about as slow as the other candidates together, so `Switching` leaves it out by default.

    Attributes:
        hidden: Units per hidden layer.
        epochs: Passes over the samples.
        learning_rate: Adam's step size.
        weight_decay: Weight of the squared weights.
        seed: Decides the first weights and the order of the samples.

    Example:
        >>> x = np.linspace(-1, 1, 40)[:, None]
        >>> model = Mlp().fit(x, np.abs(x.ravel()))
        >>> bool(np.abs(model.predict(x) - np.abs(x.ravel())).max() < 0.2)
        True
    """

    hidden: tuple[int, ...] = (64, 64)
    epochs: int = 100
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    seed: int = 0

    def fit(self, x: Floats, y: Floats) -> MlpModel:
        """See `Surrogate.fit`.

        Raises:
            ValueError: If the shapes do not fit or a number is not finite.
        """
        x, y = checked_samples(x, y)
        mean, scale = float(y.mean()), float(y.std()) or 1.0
        network = MLPRegressor(
            hidden_layer_sizes=self.hidden,
            alpha=self.weight_decay,
            batch_size=min(32, len(x)),
            learning_rate_init=self.learning_rate,
            max_iter=self.epochs,
            n_iter_no_change=self.epochs,
            random_state=self.seed % 2**32,  # scikit-learn takes 32 bits
        )
        with warnings.catch_warnings():
            # The number of epochs is the stopping rule; scikit-learn calls that not converged.
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(x, (y - mean) / scale)
        return MlpModel(network, mean, scale)


@dataclass(frozen=True)
class MlpModel:
    """A fitted `Mlp`."""

    network: MLPRegressor
    mean: float
    scale: float

    def predict(self, x: Floats) -> Floats:
        """The network's output for each row."""
        value: Floats = self.network.predict(np.asarray(x, dtype=np.float64))
        return self.mean + self.scale * value
