import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfae import losses

RNG = np.random.default_rng(0)


def test_bernoulli_log_likelihood_is_scipys_summed_over_features():
    x, p = RNG.integers(0, 2, (5, 3, 4)).astype("float64"), RNG.uniform(0.05, 0.95, (5, 3, 4))
    expected = scipy.stats.bernoulli.logpmf(x, p).sum(axis=(1, 2))
    np.testing.assert_allclose(losses.bernoulli_log_likelihood(x, p), expected, rtol=1e-12)


def test_bernoulli_log_likelihood_of_a_sure_mistake_is_finite():
    value = np.asarray(losses.bernoulli_log_likelihood(tf.ones((1, 1)), tf.zeros((1, 1))))
    np.testing.assert_allclose(value, np.log(1e-7), rtol=1e-3)


def test_gaussian_log_likelihood_is_scipys_summed_over_features():
    x, mean = RNG.normal(size=(5, 7)), RNG.normal(size=(5, 7))
    expected = scipy.stats.norm.logpdf(x, mean, scale=0.3).sum(axis=1)
    np.testing.assert_allclose(losses.gaussian_log_likelihood(x, mean, scale=0.3), expected, rtol=1e-12)


def test_gaussian_kl_agrees_with_monte_carlo_within_its_standard_error():
    mean, log_variance = np.array([[0.5, -2.0, 0.0]]), np.array([[-1.0, 0.7, 0.0]])
    closed = np.asarray(losses.gaussian_kl(mean, log_variance))[0]
    scale = np.exp(log_variance / 2)
    z = mean + scale * RNG.normal(size=(200_000, 3))
    log_ratio = scipy.stats.norm.logpdf(z, mean, scale) - scipy.stats.norm.logpdf(z)
    standard_error = log_ratio.std(axis=0) / np.sqrt(len(z))
    assert (np.abs(log_ratio.mean(axis=0) - closed) <= 3 * standard_error + 1e-12).all()
    assert closed[2] == 0


@pytest.mark.parametrize("rho", [0.05, 0.5])
def test_bernoulli_kl_is_the_closed_form(rho):
    rho_hat = np.array([0.01, 0.05, 0.3, 0.9])
    expected = [scipy.stats.entropy([rho, 1 - rho], [q, 1 - q]) for q in rho_hat]
    np.testing.assert_allclose(losses.bernoulli_kl(rho, rho_hat), expected, atol=1e-12)
