"""Likelihoods and divergences in nats, each with its sums said (chapters 02, 04 and 05).

Every function takes and returns Keras tensors, so it can stand in a loss, a metric or a notebook cell. Likelihoods are
summed over the features of a sample and returned for each sample; nothing here is averaged over the batch. Half
precision becomes float32 before it is summed.
"""

import math
from typing import Any

from keras import ops

EPSILON = 1e-7  # as Keras clips probabilities: log 0 is infinite


def at_least_float32(values: Any) -> Any:
    """Return an array or tensor as a tensor of float32, or of float64 as it is: in half precision 1 - 1e-7 is 1."""
    values = ops.convert_to_tensor(values)
    return values if values.dtype == "float64" else ops.cast(values, "float32")


def bernoulli_log_likelihood(x: Any, probability: Any) -> Any:
    """Return log p(x) of independent pixels that are ink with `probability`.

    Parameters
    ----------
    x : tensor, shape (n, ...)
        Values in [0, 1]. Grey values are read as probabilities of ink, which makes this an expectation.
    probability : tensor, shape (n, ...)

    Returns
    -------
    tensor, shape (n,)
        Nats per sample, the sum over all features.
    """
    x, probability = at_least_float32(x), ops.clip(at_least_float32(probability), EPSILON, 1 - EPSILON)
    return _sum_features(x * ops.log(probability) + (1 - x) * ops.log(1 - probability))


def gaussian_log_likelihood(x: Any, mean: Any, *, scale: float = 1.0) -> Any:
    """Return log p(x) of independent features with standard deviation `scale` around `mean`.

    Parameters
    ----------
    x, mean : tensor, shape (n, ...)
    scale : float
        Standard deviation, above 0, the same for all features.

    Returns
    -------
    tensor, shape (n,)
        Nats per sample, the sum over all features.
    """
    x, mean = at_least_float32(x), at_least_float32(mean)
    return _sum_features(-0.5 * ops.square((x - mean) / scale) - math.log(scale) - 0.5 * math.log(2 * math.pi))


def gaussian_kl(mean: Any, log_variance: Any) -> Any:
    """Return KL(N(mean, variance) || N(0, 1)) of each unit, in nats.

    Parameters
    ----------
    mean, log_variance : tensor, shape (n, units)

    Returns
    -------
    tensor, shape (n, units)
        Sum over the units for the divergence of a sample.

    References
    ----------
    .. [1] D. P. Kingma and M. Welling, "Auto-encoding variational Bayes", arXiv:1312.6114, appendix B.
    """
    mean, log_variance = at_least_float32(mean), at_least_float32(log_variance)
    return 0.5 * (ops.square(mean) + ops.exp(log_variance) - 1 - log_variance)


def bernoulli_kl(rho: float, rho_hat: Any) -> Any:
    """Return KL(rho || rho_hat) between two coins, in nats: the sparsity penalty of a unit active `rho_hat` on average.

    Parameters
    ----------
    rho : float
        Wanted mean activation, in (0, 1).
    rho_hat : tensor
        Measured mean activations, of any shape.

    Returns
    -------
    tensor
        Of the shape of `rho_hat`.
    """
    rho_hat = ops.clip(at_least_float32(rho_hat), EPSILON, 1 - EPSILON)
    return rho * (math.log(rho) - ops.log(rho_hat)) + (1 - rho) * (math.log(1 - rho) - ops.log(1 - rho_hat))


def _sum_features(values: Any) -> Any:
    return ops.sum(values, axis=tuple(range(1, len(values.shape))))
