"""Chapter 05, variational: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Challenge, Prediction, Write

RNG = np.random.default_rng(5)

# --- 05.1 draw a code ------------------------------------------------------------------------------------------------

draw = Write(
    "05.1",
    lambda mean, log_variance, noise: mean + np.exp(log_variance / 2) * noise,
    {
        "the noise is multiplied by the *variance*. What is the standard deviation, if the logarithm of its square is "
        "given?": lambda mean, log_variance, noise: mean + np.exp(log_variance) * noise,
        "the log-variance is used as if it were the standard deviation. It may be negative: could that be a spread?": (
            lambda mean, log_variance, noise: mean + log_variance * noise
        ),
        "half of the log-variance is the *logarithm* of the standard deviation. One step is missing.": (
            lambda mean, log_variance, noise: mean + log_variance / 2 * noise
        ),
        "the spread is added and not multiplied: all codes have a cloud of the same width, in another place.": (
            lambda mean, log_variance, noise: mean + np.exp(log_variance / 2) + noise
        ),
        "that is the middle of the cloud: without noise nothing is drawn.": lambda mean, log_variance, noise: mean,
        "the sign of the log-variance is turned round: a sure code is spread widest.": (
            lambda mean, log_variance, noise: mean + np.exp(-log_variance / 2) * noise
        ),
    },
    inputs=[tuple(RNG.normal(size=(3, 4, 2))), tuple(RNG.normal(size=(3, 2, 5)))],
    done="the draw is a function of mean and log-variance now, and a gradient can pass.",
    minutes=3,
)

# --- 05.2 a hole behind a perfect mean and spread --------------------------------------------------------------------

_CUTS = (-0.67449, 0.0, 0.67449)  # a quarter of a standard normal lies between two neighbours, and beyond either end


def _unbacked(z):
    cells = 4 * np.digitize(z[:, 1], _CUTS) + np.digitize(z[:, 0], _CUTS)
    return float(np.maximum(len(z) / 16 - np.bincount(cells, minlength=16), 0).sum() / len(z))


def _holes(z):
    share = _unbacked(np.asarray(z))
    more = "" if share >= 0.5 else " Can you leave whole cells empty, and still have the spread of 1?"
    return share, f"mean and spread are the prior's, and {share:.0%} of its mass is not backed by codes.{more}"


_corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]] * 250)
_draws = RNG.normal(size=(5_000, 2))
_angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
_ring = 2**0.5 * np.stack([np.cos(_angles), np.sin(_angles)], axis=1)
hollow = Challenge(
    "05.2",
    _holes,
    {
        "at least 100 codes of two numbers each are asked for: a table of two columns.": (
            lambda z: np.ndim(z) != 2 or np.shape(z)[1] != 2 or len(z) < 100,
            (np.zeros((50, 2)),),
        ),
        "the mean of each unit should be 0, to within 0.05: as it stands, the mean alone gives the codes away.": (
            (lambda z: bool(np.abs(np.mean(z, axis=0)).max() > 0.05), (_corners + 0.1,))
        ),
        "the spread of each unit, its standard deviation, should be 1 to within 0.05: as it stands, the spread alone "
        "gives the codes away.": (lambda z: bool(np.abs(np.std(z, axis=0) - 1).max() > 0.05), (1.1 * _corners,)),
        "these codes fill the prior as well as draws of it do. Must codes with the right mean and spread be normal?": (
            (lambda z: _unbacked(np.asarray(z)) < 0.1, (_draws,))
        ),
    },
    passes=0.5,
    enough=(_corners,),
    not_enough=(_ring,),
    stars=2,
    minutes=5,
)

# --- 05.3 what is left of sixteen units? -----------------------------------------------------------------------------

still_active = Prediction(
    "05.3",
    [
        (3, "Hardly any: a mean is more than a matter of units for you. Run the cell."),
        (8, "Up to half of them. Which of the two terms has become the cheaper one? Run the cell."),
        (15, "Most of them. One term was divided by 784 and the other by 16: which weighs more now? Run the cell."),
        (16, "All of them: as if sum or mean did not matter. It does not, as long as both terms are divided by the "
         "same number. Are they? Run the cell."),
    ],
    outside="a number of units is asked for, from 0 to 16.",
)  # fmt: skip

# --- 05.4 beta by scale ----------------------------------------------------------------------------------------------

beta_of_scale = Write(
    "05.4",
    lambda scale, error: (scale / error) ** 2,
    {
        "not squared: in the log-likelihood, does σ stand as it is?": lambda scale, error: scale / error,
        "upside down: a scale larger than the true error trusts the pixels *less*. Does the divergence then weigh more "
        "or less?": lambda scale, error: (error / scale) ** 2,
        "that is the beta relative to scale 1. The pixels have an error of their own.": lambda scale, error: (
            0.0 * error + scale**2
        ),
        "that is the beta of an honest scale: relative to scale 1, not to the scale in use.": lambda scale, error: (
            0.0 * scale + error**2
        ),
        "there is a 2 too many: it stands in both log-likelihoods.": lambda scale, error: (scale / error) ** 2 / 2,
    },
    inputs=[(1.0, 0.2), (0.5, 0.1), (2.0, 3.0)],
    done="25 for scale 1 and an error of 0.2. Does the rate show it?",
    minutes=10,
)

# --- 05.5 find the bug: a copied loss --------------------------------------------------------------------------------


def _bound(of_pixels, of_units):
    """Return a program for the negative bound, from how it adds up pixels and units."""

    def negative_elbo(x, x_hat, mean, log_variance):
        entropy = -(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat))
        return of_pixels(entropy) + of_units(-0.5 * (1 + log_variance - mean**2 - np.exp(log_variance)))

    return negative_elbo


def _sums(values):
    return np.mean(np.sum(values, axis=tuple(range(1, values.ndim))))


def _codes(n, k):
    return RNG.normal(size=(n, k)), RNG.normal(size=(n, k))


negative_elbo = Bug(
    "05.5",
    _bound(lambda e: np.mean(e) * 28, np.mean),
    _bound(_sums, _sums),
    {
        "the pixels are summed now, the units still averaged. How many times too cheap is the divergence?": _bound(
            _sums, np.mean
        ),
        "the units are summed now, the pixels still averaged. By how much is the likelihood too small?": _bound(
            lambda e: np.mean(e) * 28, _sums
        ),
        "both are means now. They are divided by different numbers: by which?": _bound(np.mean, np.mean),
        "right for 28 × 28 pixels only. Let the images say how many pixels they have.": _bound(
            lambda e: np.mean(e) * 784, _sums
        ),
        "you summed over the images as well: the loss would grow with the batch.": _bound(np.sum, np.sum),
        "the divergence has the wrong sign: it would pay the encoder for leaving the prior.": _bound(
            _sums, lambda kl: -_sums(kl)
        ),
    },
    inputs=[
        (RNG.random((3, 6, 5, 1)), RNG.uniform(0.1, 0.9, (3, 6, 5, 1)), *_codes(3, 2)),
        (RNG.random((2, 4, 4, 1)), RNG.uniform(0.1, 0.9, (2, 4, 4, 1)), *_codes(2, 7)),
    ],
    done="summed over pixels and units, averaged over images: nats per sample, and beta is 1.",
    stars=2,
    minutes=10,
)

# --- 05.6 the tighter bound ------------------------------------------------------------------------------------------


def _naive(log_weights):
    with np.errstate(divide="ignore"):
        return np.log(np.mean(np.exp(log_weights), axis=1))


def _log_sum(log_weights):
    return np.logaddexp.reduce(log_weights, axis=1)


tighter_bound = Write(
    "05.6",
    lambda log_weights: _log_sum(log_weights) - np.log(log_weights.shape[1]),
    {
        "minus infinity: e to the power of −800 is 0 for a computer. What could you take out of all weights before the "
        "exponential, and give back behind the logarithm?": _naive,
        "you averaged the *logarithms*: that is the ELBO again, however many samples there are.": lambda log_weights: (
            log_weights.mean(axis=1)
        ),
        "too high, by the same amount for all images: you summed the weights, and their mean is asked for.": _log_sum,
        "that is the best sample alone. The others count as well, if only a little.": lambda log_weights: (
            log_weights.max(axis=1)
        ),
        "one number for the whole batch: every image has a bound of its own.": lambda log_weights: (
            np.logaddexp.reduce(log_weights, axis=None) - np.log(log_weights.size)
        ),
        "too low: you divided the logarithm of the sum by K. Divide inside the logarithm.": lambda log_weights: (
            _log_sum(log_weights) / log_weights.shape[1]
        ),
    },
    inputs=[(3 * RNG.normal(size=(4, 3)) - 800,), (3 * RNG.normal(size=(2, 5)) - 2,)],
    tolerance=1e-6,
    done="now train on it.",
    stars=2,
    minutes=15,
)

# --- 05.7 does annealing win? ----------------------------------------------------------------------------------------

own_objective = Write(
    "05.7",
    lambda elbo, rate, beta: elbo - (beta - 1) * rate,
    {
        "the ELBO has charged for the rate once already. How often is it left to pay?": lambda elbo, rate, beta: (
            elbo - beta * rate
        ),
        "with this sign a code is *paid* for its rate.": lambda elbo, rate, beta: elbo + (beta - 1) * rate,
        "that is the ELBO, which only the run at β = 1 was asked to maximise.": lambda elbo, rate, beta: (
            elbo + 0.0 * rate * beta
        ),
        "beta weighs the divergence alone, and the ELBO has the likelihood in it as well.": lambda elbo, rate, beta: (
            beta * elbo + 0.0 * rate
        ),
        "that is the loss: what is maximised has the other sign.": lambda elbo, rate, beta: -(elbo - (beta - 1) * rate),
        "that is the likelihood alone, without any price.": lambda elbo, rate, beta: elbo + rate + 0.0 * beta,
    },
    inputs=[(-158.0, 4.29, 4.0), (-140.0, 13.4, 1.0), (-120.0, 30.0, 0.5)],
    done="both runs are judged by what they were asked for.",
    stars=3,
    minutes=20,
)

# --- 05.8 free bits --------------------------------------------------------------------------------------------------

_kl = RNG.gamma(1.0, size=(5, 4))
free_bits = Write(
    "05.8",
    lambda kl, free: np.maximum(kl, free).sum(axis=1),
    {
        "that is a ceiling: units that say much would get everything above it for nothing.": lambda kl, free: (
            np.minimum(kl, free).sum(axis=1)
        ),
        "its gradient is right and its value too low by a constant: you subtract what is free. The formula takes the "
        "larger of the two.": lambda kl, free: np.maximum(kl - free, 0).sum(axis=1),
        "you compare the *sum* with what one unit has free. One unit may then spend for all, and the others fall "
        "silent.": lambda kl, free: np.maximum(kl.sum(axis=1), free),
        "you share the free nats out among all units: one unit may spend them all, and the others fall silent.": (
            lambda kl, free: np.maximum(kl.sum(axis=1), kl.shape[1] * free)
        ),
        "the price is a sum over units, as the divergence is; you averaged.": lambda kl, free: np.maximum(
            kl, free
        ).mean(axis=1),
        "one number for the batch: you averaged over the images before you compared, as Kingma and others do. Here "
        "each image pays for itself.": lambda kl, free: np.maximum(kl.mean(axis=0), free).sum(),
        "that is a price for each unit, summed over images: the other axis.": lambda kl, free: np.maximum(kl, free).sum(
            axis=0
        ),
    },
    inputs=[(_kl, 0.5), (0.1 * _kl, 0.3), (_kl[:2], 2.0)],
    done="a unit that says less than its share pays no less, so it may as well say something.",
    stars=2,
    minutes=10,
)
