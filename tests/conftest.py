"""What several test files share."""

import os

import numpy as np
import pytest

import tfae  # noqa: F401  first of all: it keeps TensorFlow's start-up notes out of the test report


@pytest.fixture
def images():
    """256 blurred random images in [0, 1]: cheap, and not all alike."""
    coarse = np.random.default_rng(0).random((256, 7, 7, 1))
    return np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2).astype("float32")


@pytest.fixture
def real_data():
    """The directory of MNIST and Fashion-MNIST, for tests that need them."""
    directory = os.environ.get("TFAE_DATA_DIR")
    if not directory:
        pytest.skip("TFAE_DATA_DIR does not name a directory with mnist.npz and fashion-mnist/")
    return directory
