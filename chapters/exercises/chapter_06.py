"""Chapter 06, latent analysis: what is asked, and the mistakes that people make."""

import numpy as np

from . import Bug, Challenge, Prediction, Write

RNG = np.random.default_rng(6)

# --- 06.1 groups of colour without a network -------------------------------------------------------------------------

on_pixels = Prediction(
    "06.1",
    [
        (0.2, "Hardly better than chance, you say: then the groups are the network's work. Run the next two cells."),
        (0.55, "Clearly fewer than on the autoencoder's plane: the network would have done a part. Run the cells."),
        (0.85, "About as many as on the autoencoder's plane. Then what did the network add to the picture? Run the "
         "cells."),
        (1.0, "More than on the autoencoder's plane: the code would have lost what the pixels know. Run the cells."),
    ],
    outside="a share is asked for, from 0 to 1: one tenth is what guessing would find.",
)  # fmt: skip

# --- 06.2 the mutual information gap ---------------------------------------------------------------------------------


def _gap(information, entropy, axis=0, second=lambda ranked: ranked[-2], divide=True):
    ranked = np.sort(information, axis=axis)
    ranked = ranked if axis == 0 else ranked.T
    return np.mean((ranked[-1] - second(ranked)) / (entropy if divide else 1))


_information = np.array([[1.5, 0.1, 0.0], [0.3, 0.9, 0.4], [0.1, 0.5, 0.7]])
_many = np.array([[0.2, 1.1, 0.6], [0.9, 0.3, 0.1], [0.4, 0.8, 1.4], [0.0, 0.2, 0.5]])
gap = Write(
    "06.2",
    _gap,
    {
        "the entropy is missing: a factor with more to know would count for more. Divide each gap by all that there "
        "is to know of its factor.": lambda information, entropy: _gap(information, entropy, divide=False),
        "you compare the factors of one unit. The gap is between the units of one factor: which axis holds them?": (
            lambda information, entropy: _gap(information[: len(entropy)], entropy, axis=1)
        ),
        "that is the best unit's share alone. A factor that two units tell equally well should have no gap.": (
            lambda information, entropy: _gap(information, entropy, second=lambda ranked: 0.0)
        ),
        "you took away the worst unit. Who is the best one's closest rival?": lambda information, entropy: _gap(
            information, entropy, second=lambda ranked: ranked[0]
        ),
        "you divided the mean gap by the mean entropy. Each factor has its own entropy: divide first, average "
        "afterwards.": lambda information, entropy: _gap(information, entropy, divide=False) / np.mean(entropy),
        "you took away the mean of the units. That shrinks when dead units are added, and a gap should not.": (
            lambda information, entropy: _gap(information, entropy, second=lambda ranked: ranked.mean(axis=0))
        ),
    },
    inputs=[(_information, np.array([3.0, 2.3, 1.1])), (_many, np.array([2.0, 1.5, 3.0]))],
    done="one number for the table. The next cell does the same by hand and by the package.",
    minutes=5,
)

# --- 06.3 break it: all the information, no score --------------------------------------------------------------------


def _bins(values):
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") * 20 // len(values)


def _nats(a, b):
    joint = np.zeros((20, 20))
    np.add.at(joint, (_bins(a), _bins(b)), 1 / len(a))
    ratio = joint / np.outer(joint.sum(axis=1), joint.sum(axis=0))
    return np.sum(joint[joint > 0] * np.log(ratio[joint > 0]))


_factors = np.random.default_rng(60).uniform(-1, 1, size=(2_000, 2))


def _mig_of(mixing):
    code = _factors @ np.asarray(mixing, dtype=float)
    return _gap(np.array([[_nats(unit, factor) for factor in _factors.T] for unit in code.T]), np.log(20))


def _scored(mixing):
    value = _mig_of(mixing)
    message = f"the MIG fell to {value:.2f}, and a linear model still reads both factors exactly"
    if value > 0.1:
        message = f"the MIG is {value:.2f}. All information is there, but one unit still tells more than the others"
    return 1 - value, f"{message}."


spoil = Challenge(
    "06.3",
    _scored,
    {
        "that is no table of two rows, one for each unit of the perfect code: `code @ mixing` would not work.": (
            (lambda mixing: np.ndim(mixing) != 2 or len(mixing) != 2, (np.eye(3),))
        ),
        "one unit alone has no second best, so the score is not defined. And can one number carry two factors?": (
            (lambda mixing: np.shape(mixing)[1] < 2, ([[1], [1]],))
        ),
        "information is lost: from this code the two factors cannot be computed. Noise or silence would lower any "
        "score, and deserve it. Is your matrix invertible?": (
            lambda mixing: (
                np.linalg.svd(np.asarray(mixing, dtype=float), compute_uv=False)[1] < 1e-3 * np.max(np.abs(mixing))
            ),
            ([[1, 1], [1, 1]],),
        ),
        "a swap, a sign or another scale of the units: each factor still has a unit of its own, and the MIG does not "
        "change.": (
            lambda mixing: np.shape(mixing)[1] == 2 and np.all(np.count_nonzero(np.abs(mixing) > 1e-9, axis=0) == 1),
            ([[0, -2], [1, 0]],),
        ),
    },
    passes=0.9,
    enough=([[1, 1], [1, -1]],),
    not_enough=([[1, 0], [0.3, 1]],),
    stars=2,
    minutes=5,
)

# --- 06.4 a turned code ----------------------------------------------------------------------------------------------

changes = Write(
    "06.4",
    lambda: (False, False, True),
    {
        "everything changes, you say. Neighbours and clusters are made of distances: what does a rotation do to the "
        "distance of two codes?": lambda: (True, True, True),
        "nothing changes, you say. One of the three looks at single units: what happens to a unit when a code is "
        "turned?": lambda: (False, False, False),
        "the neighbours are right. k-means compares distances as they do: why should it see a turn?": lambda: (
            False,
            True,
            True,
        ),
        "k-means is right. Neighbours are found by distances too: why should they see a turn?": lambda: (
            True,
            False,
            True,
        ),
        "it is the other way round. Which of the three needs distances alone, and which needs the axes?": lambda: (
            True,
            True,
            False,
        ),
        "the ARI is the one that you let change. k-means needs distances alone: what does it know of the axes?": (
            lambda: (False, True, False)
        ),
        "the neighbours are the ones that you let change. They need distances alone: what do they know of the "
        "axes?": lambda: (True, False, False),
    },
    done="a rotation keeps all distances, so only scores that look at single units can change.",
    minutes=5,
)

# --- 06.5 find the bug: how many clusters? ---------------------------------------------------------------------------


def _plane_of(code):
    return np.round(3 * code[:, :2])


def _count(points):
    return len(np.unique(np.round(points), axis=0))


clusters_found = Bug(
    "06.5",
    lambda code, noise, plane_of, count: (count(plane_of(code)), count(noise)),
    lambda code, noise, plane_of, count: (count(code), count(plane_of(noise))),
    {
        "the first number is right. The second should say what the colleague's way finds where there is nothing, and "
        "that way led through a picture.": lambda code, noise, plane_of, count: (count(code), count(noise)),
        "the second number is right, and it should worry you about the first: what was clustered there?": (
            lambda code, noise, plane_of, count: (count(plane_of(code)), count(plane_of(noise)))
        ),
        "these are the right numbers in the wrong order: that of the code comes first.": (
            lambda code, noise, plane_of, count: (count(plane_of(noise)), count(code))
        ),
        "the first number still comes from the noise. It should be about the code itself.": (
            lambda code, noise, plane_of, count: (count(noise), count(plane_of(noise)))
        ),
    },
    inputs=[
        (RNG.normal(size=(30, 4)), 0.5 * RNG.normal(size=(30, 4)), _plane_of, _count),
        (0.4 * RNG.normal(size=(20, 3)), RNG.normal(size=(20, 3)), _plane_of, _count),
    ],
    done="the code was clustered, and beside it stands what the colleague's way finds in noise.",
    minutes=10,
)

# --- 06.6 how many dimensions does the code use? ---------------------------------------------------------------------


def _logarithms(T):
    return np.log(T[:, -1:] / T[:, :-1])


_T = np.sort(RNG.uniform(0.5, 3, size=(4, 6)), axis=1)
local_dimension = Write(
    "06.6",
    lambda T: 1 / np.mean(_logarithms(T), axis=1),
    {
        "you averaged over k neighbours, the last one with itself among them: its logarithm is 0 and counts nothing. "
        "How many terms does the sum have?": lambda T: 1 / np.mean(np.log(T[:, -1:] / T), axis=1),
        "the inverse is missing: a mean logarithm is small where there are many dimensions.": lambda T: np.mean(
            _logarithms(T), axis=1
        ),
        "negative dimensions: the quotient is upside down. Which of the two distances is the larger one?": lambda T: (
            -1 / np.mean(_logarithms(T), axis=1)
        ),
        "you averaged the inverses of single logarithms. A neighbour that lies nearly as far as the last one has a "
        "huge one: average first, invert then.": lambda T: np.mean(1 / _logarithms(T), axis=1),
        "one number for the whole batch: each sample should keep its own dimension.": lambda T: (
            1 / np.mean(_logarithms(T))
        ),
        "that is the sum over the neighbours, not the mean.": lambda T: 1 / np.sum(_logarithms(T), axis=1),
        "the logarithm here is the natural one; yours is the decimal.": lambda T: (
            np.log(10) / np.mean(_logarithms(T), axis=1)
        ),
    },
    inputs=[(_T,), (_T[:2, 1:] ** 2,)],
    done="the number of neighbours grows like the radius to this power.",
    stars=2,
    minutes=15,
)

# --- 06.7 a random direction -----------------------------------------------------------------------------------------


def _walk(code, direction, positions, unit=True, own=True, keep=True):
    u = direction / np.linalg.norm(direction) if unit else direction
    steps = positions - (code @ u if own else 0)
    return (code if keep else 0) + np.multiply.outer(steps, u)


_code, _direction, _positions = RNG.normal(size=4), 2 * RNG.normal(size=4), np.array([-1.0, 0.5, 2.0])
walk_along = Write(
    "06.7",
    _walk,
    {
        "the direction's length comes in. Make it a unit vector before you measure or move along it.": (
            lambda code, direction, positions: _walk(code, direction, positions, unit=False)
        ),
        "the code has a position along the direction already, and you added to it. How far is it from there to where "
        "you want to be?": lambda code, direction, positions: _walk(code, direction, positions, own=False),
        "the rest of the code is gone. A traversal holds everything but the direction as it was.": (
            lambda code, direction, positions: _walk(code, direction, positions, own=False, keep=False)
        ),
        "you went the other way: a code that lies too low should go up.": lambda code, direction, positions: (
            2 * code - _walk(code, direction, positions)
        ),
        "one code for each unit and not for each position: the two axes are swapped.": (
            lambda code, direction, positions: _walk(code, direction, positions).T
        ),
    },
    inputs=[(_code, _direction, _positions), (_code[:3], _direction[1:], _positions[1:])],
    done="only the position along the direction changes, as it does for a unit.",
    stars=2,
    minutes=10,
)

# --- 06.8 more beta --------------------------------------------------------------------------------------------------


def _divergence(mean, log_variance, half=0.5):
    return half * np.mean(mean**2 + np.exp(log_variance) - 1 - log_variance, axis=0)


_mean, _log_variance = RNG.normal(size=(5, 3)), RNG.uniform(-2, 1, size=(5, 3))
nats_of_units = Write(
    "06.8",
    _divergence,
    {
        "the factor of one half is missing: write the divergence of two Gaussians out again.": (
            lambda mean, log_variance: _divergence(mean, log_variance, half=1.0)
        ),
        "you used the logarithm of the variance as if it were the variance. How do you get from one to the other?": (
            lambda mean, log_variance: 0.5 * np.mean(mean**2 + log_variance - 1 - np.log(np.abs(log_variance)), axis=0)
        ),
        "you took the standard deviation for the variance: exp of *half* the log-variance is the standard "
        "deviation.": lambda mean, log_variance: (
            0.5 * np.mean(mean**2 + np.exp(log_variance / 2) - 1 - log_variance, axis=0)
        ),
        "that is the sum over the images: it grows with their number. A unit has so many nats an *image*.": (
            lambda mean, log_variance: len(mean) * _divergence(mean, log_variance)
        ),
        "one number for each image: you summed or averaged over the units and kept the images.": (
            lambda mean, log_variance: _divergence(mean.T, log_variance.T)
        ),
        "the means are left out. A unit whose variance is that of the prior can still say everything by its mean.": (
            lambda mean, log_variance: _divergence(0 * mean, log_variance)
        ),
        "the sign is turned round: a divergence is never negative.": lambda mean, log_variance: (
            -_divergence(mean, log_variance)
        ),
    },
    inputs=[(_mean, _log_variance), (_mean[:2] + 1, _log_variance[:2])],
    done="a unit that hardly leaves the prior says hardly anything, so it counts as dead.",
    stars=2,
    minutes=15,
)

# --- 06.9 a code that is right by design -----------------------------------------------------------------------------


def _axes(w):
    return np.linalg.qr(np.column_stack([w, np.eye(len(w))[:, 1:]]))[0]


def _weights(z, wanted):
    return np.linalg.lstsq(z - z.mean(axis=0), wanted - wanted.mean(), rcond=None)[0]


def _turn(Q):  # the first axis up to its sign, and whether all are orthonormal; the others are free
    Q = np.asarray(Q, dtype=float)
    first = Q[:, 0] * np.sign(Q[np.argmax(np.abs(Q[:, 0])), 0])
    return first, Q.T @ Q


_z = RNG.normal(size=(40, 3)) @ np.array([[1.0, 0.8, 0.1], [0.0, 1.0, 0.6], [0.0, 0.0, 0.5]]) + [2.0, -1.0, 3.0]
_wanted = _z @ [0.5, 1.0, -0.7] + 0.2 * RNG.normal(size=40) + 4
rotation_to = Write(
    "06.9",
    lambda z, wanted: _axes(_weights(z, wanted)),
    {
        "the first axis is right and the matrix is no rotation: its columns are not orthonormal, so distances would "
        "change.": lambda z, wanted: np.column_stack([_weights(z, wanted), np.eye(z.shape[1])[:, 1:]]),
        "you took the covariance of each unit with the property. Units that go together then count twice: which "
        "weighted *sum* of units follows best?": lambda z, wanted: _axes(
            (z - z.mean(axis=0)).T @ (wanted - np.mean(wanted))
        ),
        "neither the code nor the property is centred: the weights now have to make up for the missing constant.": (
            lambda z, wanted: _axes(np.linalg.lstsq(z, wanted, rcond=None)[0])
        ),
        "the direction is in the first row: with `z @ Q` the new units are made by the columns.": lambda z, wanted: (
            _axes(_weights(z, wanted)).T
        ),
        "the direction is in the last column, and the *first* unit should follow the property.": lambda z, wanted: (
            _axes(_weights(z, wanted))[:, ::-1]
        ),
    },
    inputs=[(_z, _wanted)],
    compared=_turn,
    done="the first axis follows the property, the others span the rest, and no distance changed.",
    stars=3,
    minutes=30,
)
