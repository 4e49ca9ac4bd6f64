import io
import math

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from tfae import compression, data


def drawn(seed, n, probabilities):
    return np.random.default_rng(seed).choice(len(probabilities), (n, 1), p=probabilities)


# --- the entropy coder -----------------------------------------------------------------------------------------------

SHAPES = {  # probabilities
    "fair coin": [0.5, 0.5],
    "one in a thousand": [0.999, 0.001],
    "the other one": [0.001, 0.999],
    "geometric": [0.5**k for k in range(1, 16)] + [0.5**15],
    "256 equal symbols": [1 / 256] * 256,
    "a symbol that never comes": [0.5, 0, 0.5],
}


@pytest.mark.parametrize("name", SHAPES)
def test_symbols_come_back_from_as_few_bytes_as_their_probability_allows(name):
    size = len(SHAPES[name])
    for seed, n in enumerate((1, 2, 17, 3000)):
        symbols = drawn(seed, n, SHAPES[name])
        written = compression.encode(symbols, [size])
        np.testing.assert_array_equal(compression.decode(written, n, [size]), symbols)
        assert len(written) <= compression.ideal_bits(symbols, [size]) / 8 + 2


def test_a_long_file_is_as_long_as_the_entropy_of_its_source():
    probabilities = np.array([0.7, 0.2, 0.06, 0.04])
    n = 20_000
    written = compression.encode(drawn(0, n, probabilities), [4])
    entropy = -np.sum(probabilities * np.log2(probabilities))  # 1.254 bits a symbol
    assert len(written) == pytest.approx(n * entropy / 8, rel=0.01)


def test_each_column_learns_its_own_frequencies():
    rng = np.random.default_rng(0)
    symbols = np.column_stack([np.zeros(500, int), rng.integers(0, 2, 500), np.full(500, 6)])
    written = compression.encode(symbols, [1, 2, 7])
    np.testing.assert_array_equal(compression.decode(written, 500, [1, 2, 7]), symbols)
    assert 500 / 8 < len(written) < 500 / 8 + 12  # 1 bit for the coin, next to nothing for the constants


def test_carries_run_through_bytes_of_255():
    """Late, unlikely and large symbols push the interval's lower end over a power of 256 again and again."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(2, 6))
        symbols = size - 1 - (rng.random((150, 1)) ** 9 * size).astype(int)
        np.testing.assert_array_equal(compression.decode(compression.encode(symbols, [size]), 150, [size]), symbols)


def test_nothing_and_the_inevitable_take_no_bytes():
    assert compression.encode(np.zeros((0, 3), int), [4, 4, 4]) == b""
    assert compression.encode(np.zeros((9, 2), int), [1, 1]) == b""
    assert compression.decode(b"", 0, [4, 4, 4]).shape == (0, 3)


def test_ideal_bits_are_those_of_counting_by_hand():
    symbols = np.array([[0], [0], [1]])  # 1/2, then 2/3, then 1/4
    assert compression.ideal_bits(symbols, [2]) == pytest.approx(-math.log2(1 / 2 * 2 / 3 * 1 / 4))
    assert compression.entropy_bits(symbols) == pytest.approx(-2 * math.log2(2 / 3) - math.log2(1 / 3))
    assert compression.entropy_bits(np.array([[0, 5], [1, 5], [2, 5], [3, 5]])) == pytest.approx(8)


@pytest.mark.parametrize("symbols", [[[0], [2]], [[-1], [0]], [[0.5], [1.0]], [0, 1], [[0, 1]]])
def test_symbols_that_cannot_be_written_are_refused(symbols):
    with pytest.raises(ValueError, match="symbol"):
        compression.encode(symbols, [2])


# --- codes as bytes --------------------------------------------------------------------------------------------------


@pytest.fixture
def codes():
    return (np.random.default_rng(0).normal(size=(300, 5)) * [0, 0.1, 1, 5, 20] + [3, 0, -7, 2, 0]).astype("float32")


@pytest.mark.parametrize("step", [0.04, 0.5, 100])
def test_codes_come_back_rounded_to_the_step(codes, step):
    written = compression.compress(codes, step)
    back = compression.decompress(written)
    assert back.shape == codes.shape and back.dtype == np.float32
    np.testing.assert_allclose(back, compression.quantise(codes, step) * step, rtol=1e-6)
    assert np.abs(back - codes).max() <= 0.501 * step + 1e-5
    symbols = compression.quantise(codes, step)
    symbols = symbols - symbols.min(axis=0)
    header = 14 + 4 * 5
    assert len(written) <= header + compression.ideal_bits(symbols, (symbols.max(axis=0) + 1).tolist()) / 8 + 2


@pytest.mark.slow
def test_the_longest_code_that_can_be_written_comes_back():
    codes = np.zeros((2, 65_535), "float32")
    codes[1, -1] = 3
    np.testing.assert_array_equal(compression.decompress(compression.compress(codes, 1.0)), codes)


def test_a_wrong_or_missing_byte_is_noticed(codes):
    written = compression.compress(codes[:40], 0.5)
    for end in (0, 3, 13, 20, len(written) - 1):
        with pytest.raises(ValueError, match=f"these {end} bytes are cut short, damaged"):
            compression.decompress(written[:end])
    for place in range(0, len(written), 7):
        wrong = bytearray(written)
        wrong[place] ^= 4
        with pytest.raises(ValueError, match="damaged"):
            compression.decompress(bytes(wrong))
    with pytest.raises(ValueError, match="not made by compress"):
        compression.decompress(b"GIF89a, and some more bytes of a picture")


@pytest.mark.parametrize(
    ("z", "step", "message"),
    [
        (np.ones((3, 2)), 0, "step is 0"),
        (np.ones((3, 2)), -1.0, "step is -1"),
        (np.ones((3, 2)), math.nan, "step is nan"),
        (np.ones(3), 1.0, r"z has shape \(3,\)"),
        (np.ones((0, 2)), 1.0, "z is empty"),
        (np.array([[0.0, np.nan]]), 1.0, "z holds 1 values that are NaN"),
        (np.array([[0.0], [1.0]]), 1e-4, "a unit takes up to 10001 values"),
        (np.array([[1e6], [1e6]]), 1.0, "from 1e.06 to 1e.06 steps; at most 32767"),
        (np.array([[1e30], [1e30]]), 1.0, "Use a larger step"),
        (np.zeros((1, 65_536)), 1.0, "z has 65536 units; at most 65535 can be written"),
        (np.ones((3, 2)), 1e-60, "step is 1e-60"),
    ],
)
def test_codes_that_cannot_be_compressed_are_refused(z, step, message):
    with pytest.raises(ValueError, match=message):
        compression.compress(z, step)


# --- rate and distortion ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_rates_count_every_byte_and_measure_what_comes_out(digits):
    x_train, x = digits.x_train.reshape(-1, 64), digits.x_test[:200]
    pca = PCA(64, svd_solver="full").fit(x_train)

    def encode(images):
        return pca.transform(images.reshape(-1, 64))

    fine, coarse = compression.rates(encode, pca.inverse_transform, x, [0.2, 0.8])
    assert fine.n_bytes > coarse.n_bytes and fine.mse < coarse.mse and fine.psnr > coarse.psnr
    for rate in (fine, coarse):
        written = compression.compress(encode(x), rate.setting)
        assert rate.n_bytes == len(written) and rate.bits_per_pixel == 8 * len(written) / (200 * 8 * 8)
        by_hand = np.clip(pca.inverse_transform(compression.decompress(written)), 0, 1)
        assert rate.mse == pytest.approx(np.mean((by_hand - x.reshape(-1, 64)) ** 2))


def test_rounding_to_a_step_costs_a_twelfth_of_its_square():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 0.8, (400, 4, 4, 1))
    basis = np.linalg.qr(rng.normal(size=(16, 16)))[0]  # keeps lengths
    rates = compression.rates(lambda x: x.reshape(-1, 16) @ basis, lambda z: z @ basis.T, x, [0.02, 0.1])
    for rate in rates:
        assert rate.mse == pytest.approx(rate.setting**2 / 12, rel=0.05)
    # Where steps are small, five times the step saves log2(5) bits of each number.
    assert rates[0].bits_per_pixel - rates[1].bits_per_pixel == pytest.approx(math.log2(5), rel=0.1)


def test_psnr_is_ten_decibels_for_a_tenth_of_the_error():
    assert compression.Rate(1, 1, 1, 0.01).psnr == pytest.approx(20)
    assert compression.Rate(1, 1, 1, 0.001).psnr == pytest.approx(30)
    assert compression.Rate(1, 1, 1, 0.0).psnr == math.inf


def test_a_pixel_is_all_of_its_channels_and_nothing_lost_is_no_error():
    x = np.random.default_rng(0).integers(0, 3, (50, 2, 2, 3)) / 2
    (rate,) = compression.rates(lambda x: x.reshape(50, 12), lambda z: z.reshape(50, 2, 2, 3), x, [0.5])
    assert rate.mse == 0 and rate.psnr == math.inf
    assert rate.bits_per_pixel == 8 * rate.n_bytes / 200
    flat = compression.rates(lambda x: x, lambda z: z, x.reshape(50, 12), [0.5])[0]
    assert flat.n_bytes == rate.n_bytes and flat.bits_per_pixel == rate.bits_per_pixel / 3


def test_jpeg_gives_the_images_back_in_their_places():
    x = np.zeros((7, 10, 12, 1), "float32")
    x[np.arange(7), np.arange(7), np.arange(7)] = 1  # each image has its own dot
    best, worst = compression.jpeg_rates(x, [95, 10], columns=3)
    assert best.mse < 0.2 * x.mean() and best.n_bytes > worst.n_bytes and best.mse < worst.mse
    smooth = np.broadcast_to(np.linspace(0, 1, 12), (7, 10, 12)).astype("float32")
    (rate,) = compression.jpeg_rates(smooth, [95])
    assert rate.mse < 1e-4


def test_jpeg_of_one_image_is_pillows_file():
    """Sixteen by sixteen needs no padding; the file and its error are those of the library asked directly."""
    y, x = np.mgrid[:16, :16] / 15
    for image, channels in ((np.stack([x, y, 1 - x], axis=-1), 3), (x * y, 1)):
        pixels, file = np.rint(255 * image).astype("uint8"), io.BytesIO()
        Image.fromarray(pixels).save(file, "jpeg", quality=60, subsampling=0, optimize=True)
        (rate,) = compression.jpeg_rates(image.reshape(1, 16, 16, channels), [60])
        assert rate.n_bytes == len(file.getvalue()) and rate.bits_per_pixel == 8 * rate.n_bytes / 256
        error = np.mean((np.asarray(Image.open(file)) / 255 - image) ** 2)
        assert rate.mse == pytest.approx(error, rel=1e-4)


def test_jpeg_gives_colours_back_in_their_places():
    """Twelve flat images of different colours: no block may hold two of them, or they would bleed into each other."""
    colours = np.random.default_rng(0).random((12, 1, 1, 3))
    (rate,) = compression.jpeg_rates(np.broadcast_to(colours, (12, 10, 12, 3)), [95], columns=5)
    assert rate.mse < 2e-5


def test_jpeg_refuses_what_is_no_image_and_no_quality():
    for shape in ((2, 8, 8, 2), (2, 8)):
        with pytest.raises(ValueError, match=r"JPEG takes grey images, .* and RGB images"):
            compression.jpeg_rates(np.zeros(shape), [50])
    for quality in (0, -5, 200, 50.0):
        with pytest.raises(ValueError, match=f"quality is {quality}"):
            compression.jpeg_rates(np.zeros((2, 8, 8)), [50, quality])
    with pytest.raises(ValueError, match="3000 images, 1 side by side, make a sheet of 72000 x 24 pixels"):
        compression.jpeg_rates(np.zeros((3000, 24, 24)), [50], columns=1)


@pytest.mark.parametrize(
    "x", [np.full((2, 8, 8, 1), 2.0), np.full((2, 8, 8, 1), 200, "uint8"), np.full((2, 8, 8), -0.1)]
)
def test_images_outside_zero_and_one_are_refused(x):
    with pytest.raises(ValueError, match=r"x goes from .* images lie in \[0, 1\]: divide 8-bit images by 255"):
        compression.jpeg_rates(x, [50])
    with pytest.raises(ValueError, match=r"images lie in \[0, 1\]"):
        compression.rates(lambda x: x.reshape(2, 64), lambda z: z, x, [0.5])


def test_a_decoder_that_returns_something_else_is_named():
    x = np.random.default_rng(0).random((6, 4))
    with pytest.raises(ValueError, match=r"decode returns shape \(6, 3\) for samples of shape \(6, 4\)"):
        compression.rates(lambda x: x, lambda z: z[:, :3], x, [0.5])
    with pytest.raises(ValueError, match="decode returns NaN or infinity: 24 of 24"):
        compression.rates(lambda x: x, lambda z: z * np.nan, x, [0.5])


def points(*of_curve):
    """Rates with these bits per pixel and decibels."""
    return [compression.Rate(0, 0, bits, 10 ** (-psnr / 10)) for bits, psnr in of_curve]


def test_a_coder_that_spends_half_the_bits_at_every_quality_has_a_bd_rate_of_minus_one_half():
    reference = points((1, 30), (2, 34), (4, 37), (8, 39))
    assert compression.bd_rate(reference, reference) == 0
    half = points((4, 39), (2, 37), (0.5, 30), (1, 34))  # in any order
    assert compression.bd_rate(half, reference) == pytest.approx(-0.5)
    assert compression.bd_rate(reference, half) == pytest.approx(1)


def test_bd_rate_is_the_mean_of_logarithms_over_the_qualities_that_both_reach():
    """Both logarithms are straight lines: ln b = q / 10 and q / 5 - 3, on 30 to 40 and on 32 to 50 dB."""
    curve = points(*((math.exp(q / 10), q) for q in range(30, 41, 2)))
    reference = points(*((math.exp(q / 5 - 3), q) for q in range(32, 51, 3)))
    q = np.linspace(32, 40, 100_001)
    assert compression.bd_rate(curve, reference) == pytest.approx(math.expm1(np.mean(q / 10 - (q / 5 - 3))), rel=1e-4)


def test_bd_rate_between_points_is_within_the_points():
    """A cubic polynomial through all points, as the first programs had it, leaves a curve with a knee."""
    knee = points((1, 20), (1.01, 30), (1.02, 39), (9, 40))
    flat = points((1, 20), (1, 40))
    assert 0 < compression.bd_rate(knee, flat) < 0.12


def test_bd_rate_refuses_what_it_cannot_compare():
    good = points((1, 30), (2, 40))
    with pytest.raises(ValueError, match=r"curve has points at 30.0 dB; give two or more of different quality"):
        compression.bd_rate(points((1, 30)), good)
    with pytest.raises(ValueError, match="reference has points at no dB"):
        compression.bd_rate(good, [])
    with pytest.raises(ValueError, match="each with a loss"):
        compression.bd_rate(good, [*good, compression.Rate(0, 0, 1, 0)])
    with pytest.raises(ValueError, match=r"curve goes from 30.0 to 40.0 dB, reference from 50.0 to 60.0: no quality"):
        compression.bd_rate(good, points((1, 50), (2, 60)))
