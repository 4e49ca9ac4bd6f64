"""Projections, clusters, neighbours and dimension against closed forms; walks through the code, decoded in one call."""

import sys

import keras
import numpy as np
import pytest
import scipy.spatial
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score

from tfae import latent, models, text
from tfae.alphabet import Alphabet

RNG = np.random.default_rng(0)
CENTRES = np.array([[0, 0, 0, 0], [20, 0, 0, 0], [0, 20, 0, 0]])
LABELS = np.arange(150) % 3
CLOUDS = CENTRES[LABELS] + RNG.normal(size=(150, 4))  # three classes far apart
STATE = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_draws_in_any_order():
    RNG.bit_generator.state = STATE


# --- projections -----------------------------------------------------------------------------------------------------


def test_pca_is_the_rotation_of_largest_variance():
    projection = latent.project(CLOUDS, labels=LABELS, k=5)
    _, _, axes = np.linalg.svd(CLOUDS - CLOUDS.mean(axis=0))
    by_hand = (CLOUDS - CLOUDS.mean(axis=0)) @ axes[:2].T
    np.testing.assert_allclose(np.abs(projection.points), np.abs(by_hand), atol=1e-4)
    assert projection.points.dtype == "float32" and projection.method == "pca" and projection.k == 5
    assert projection.trustworthiness == pytest.approx(trustworthiness(CLOUDS, by_hand, n_neighbors=5), abs=1e-6)
    assert projection.neighbour_accuracy == projection.code_neighbour_accuracy == 1


def test_a_plane_in_a_long_code_is_projected_without_loss():
    plane = RNG.normal(size=(200, 2)) @ RNG.normal(size=(2, 30))
    assert latent.project(plane).trustworthiness == 1


def test_neighbour_accuracy_leaves_each_point_out():
    """A pair of classes that alternate on a line: every nearest neighbour is of the other class."""
    line = np.column_stack([np.arange(20.0), np.zeros(20)])
    projection = latent.project(line, size=1, labels=np.arange(20) % 2, k=1)
    assert projection.neighbour_accuracy == projection.code_neighbour_accuracy == 0
    line[10:] += 100
    classes_of_ten = latent.project(line, size=1, labels=["a"] * 10 + ["b"] * 10, k=3)
    assert classes_of_ten.neighbour_accuracy == 1


def test_a_projection_that_hides_a_class_says_so():
    z = RNG.normal(size=(300, 3)) * [5, 5, 0.5]
    labels = (z[:, 2] > 0).astype(int)
    z[:, 2] += 3 * labels
    projection = latent.project(z, labels=labels)
    assert projection.neighbour_accuracy < 0.7 < 0.9 < projection.code_neighbour_accuracy


def test_tsne_keeps_neighbours_and_repeats_itself():
    z, options = CLOUDS[:60], {"k": 5, "seed": 1, "perplexity": 10, "max_iter": 250}
    first = latent.project(z, "tsne", labels=LABELS[:60], **options)
    again = latent.project(z, "tsne", **options)
    assert first.points.shape == (60, 2) and first.trustworthiness > 0.8 and first.neighbour_accuracy > 0.95
    np.testing.assert_array_equal(first.points, again.points)
    assert again.neighbour_accuracy is None and again.code_neighbour_accuracy is None


def test_many_points_are_scored_on_some_of_them():
    z = RNG.normal(size=(5000, 3))
    projection = latent.project(z, seed=3)
    every = trustworthiness(z[:2500], projection.points[:2500], n_neighbors=10)
    assert projection.trustworthiness == pytest.approx(every, abs=0.02)
    assert projection.trustworthiness == latent.project(z, seed=3).trustworthiness


def test_umap_is_asked_for_by_name_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)  # importing it fails, installed or not
    with pytest.raises(ImportError, match="pip install umap-learn"):
        latent.project(CLOUDS, "umap")


def test_umap_gets_size_seed_and_options(monkeypatch):
    class UMAP:
        def __init__(self, **options):
            assert options == {"n_components": 3, "random_state": 4, "n_jobs": 1, "min_dist": 0.5}

        def fit_transform(self, z):
            return z[:, :3]

    monkeypatch.setitem(sys.modules, "umap", type(sys)("umap"))
    monkeypatch.setattr(sys.modules["umap"], "UMAP", UMAP, raising=False)
    projection = latent.project(CLOUDS, "umap", size=3, seed=4, min_dist=0.5)
    assert projection.points.shape == (150, 3) and projection.method == "umap"


@pytest.mark.parametrize(
    ("z", "options", "message"),
    [
        (CLOUDS, {"method": "lda"}, "unknown projection 'lda'; the known ones are pca, tsne, umap"),
        (CLOUDS, {"size": 5}, "size is 5; 150 codes of 4 units"),
        (CLOUDS, {"size": 0}, "size is 0"),
        (CLOUDS[:20], {"k": 10}, "k is 10 and 20 of the 20 codes are scored"),
        (
            np.repeat(CLOUDS, 20, axis=0),
            {"k": 1000},
            "k is 1000 and 2000 of the 3000 codes are scored; k .* fewer than half",
        ),
        (CLOUDS[:30], {"method": "tsne"}, "perplexity is 30 and there are 30 codes; .* such as 7.5"),
        (CLOUDS, {"labels": LABELS[:3]}, r"labels have shape \(3,\) and there are 150 codes"),
        (CLOUDS, {"seed": 0.5}, "seed is 0.5"),
        (np.ones((50, 3)), {}, "all 50 codes are equal"),
        (np.full((50, 3), np.nan), {}, "z holds 150 values that are NaN"),
        (CLOUDS[:, 0], {}, r"z has shape \(150,\); it must be codes \(n, units\)"),
        (CLOUDS[:0], {}, "z is empty"),
    ],
)
def test_projections_refuse_what_they_cannot_show(z, options, message):
    with pytest.raises(ValueError, match=message):
        latent.project(z, **options)


# --- clusters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", latent.CLUSTERINGS)
def test_clouds_far_apart_are_found_and_counted(method):
    found = latent.cluster(CLOUDS, method, labels=LABELS, max_clusters=6)
    kept = found.labels >= 0
    assert found.n_clusters == 3 and found.method == method
    assert len(set(zip(found.labels[kept], LABELS[kept], strict=True))) == 3  # a cluster is a class
    assert found.silhouette > 0.8 and found.ari > 0.7 and found.nmi > 0.7
    unlabelled = latent.cluster(CLOUDS, method, max_clusters=6)
    np.testing.assert_array_equal(found.labels, unlabelled.labels)  # true labels change nothing but ari and nmi
    assert unlabelled.ari is None and unlabelled.nmi is None
    if method == "hdbscan":
        assert found.scores == {} and found.noise == np.mean(~kept) < 0.3
    else:
        assert found.ari == found.nmi == 1 and found.noise == 0
        best = max if method == "kmeans" else min
        assert best(found.scores, key=found.scores.get) == 3
        assert list(found.scores) == list(range(2 if method == "kmeans" else 1, 7))


def test_one_cloud_is_one_cluster_to_a_mixture_and_has_no_silhouette():
    cloud = RNG.normal(size=(400, 2))
    found = latent.cluster(cloud, "gaussian_mixture", max_clusters=4)
    assert found.n_clusters == 1 and np.isnan(found.silhouette) and np.isfinite(list(found.scores.values())).all()
    assert np.isnan(latent.cluster(cloud, n_clusters=1).silhouette)


def test_noise_is_counted_and_has_no_silhouette():
    found = latent.cluster(
        np.vstack([CLOUDS, 200 * RNG.normal(size=(15, 4))]), "hdbscan", labels=np.append(LABELS, [3] * 15)
    )
    kept = found.labels >= 0
    assert found.n_clusters == 3 and found.noise == np.mean(~kept) and not kept[150:].any() and kept[:150].all()
    assert found.silhouette == pytest.approx(silhouette_score(CLOUDS, LABELS))
    assert found.ari == found.nmi == 1  # noise stands as a cluster of its own


def test_a_number_of_clusters_without_a_silhouette_is_not_chosen():
    """Two clusters are the cloud and one code far from it, which is not among the 2,000 that are scored."""
    z = CENTRES[np.arange(6000) % 3] + RNG.normal(size=(6000, 4))
    scored = latent._some(6001, 0)
    z = np.insert(z, next(i for i in range(6001) if i not in scored), 1e6, axis=0)
    found = latent.cluster(z, max_clusters=5)
    assert np.isnan(found.scores[2]) and found.n_clusters == 4 and found.silhouette > 0.7
    with pytest.raises(ValueError, match="no number of clusters from 2 to 2 has a silhouette"):
        latent.cluster(z, max_clusters=2)
    assert latent.cluster(z, n_clusters=2).n_clusters == 2


def test_all_noise_is_no_cluster():
    found = latent.cluster(RNG.random((40, 8)), "hdbscan", min_cluster_size=20)
    assert found.n_clusters == 0 and found.noise == 1 and np.isnan(found.silhouette)


def test_silhouette_by_hand():
    """Two pairs on a line: a = 1, and b = 9.5 or 10.5 on average."""
    found = latent.cluster(np.array([[0.0], [1], [10], [11]]), n_clusters=2)
    assert found.silhouette == pytest.approx(((10.5 - 1) / 10.5 + (9.5 - 1) / 9.5) / 2)
    assert found.scores == {2: found.silhouette}


def test_many_codes_are_scored_on_some_of_them():
    z = CENTRES[np.arange(6000) % 3] + 3 * RNG.normal(size=(6000, 4))
    found = latent.cluster(z, n_clusters=3)
    some = latent.cluster(z[:1500], n_clusters=3)
    assert found.silhouette == pytest.approx(some.silhouette, abs=0.02)


@pytest.mark.parametrize(
    ("z", "options", "message"),
    [
        (CLOUDS, {"method": "dbscan"}, "unknown clustering 'dbscan'"),
        (CLOUDS, {"method": "hdbscan", "n_clusters": 3}, "n_clusters is 3; HDBSCAN finds the number itself"),
        (
            np.eye(3),
            {"method": "hdbscan"},
            "HDBSCAN's min_cluster_size is 5 and there are 3 codes; give more codes, or a",
        ),
        (np.eye(6), {"method": "hdbscan", "min_samples": 9}, "HDBSCAN's min_samples is 9 and there are 6 codes"),
        (CLOUDS, {"n_clusters": 151}, "n_clusters is 151 and there are 150 different codes"),
        (CLOUDS, {"n_clusters": 2.5}, "n_clusters is 2.5"),
        (CLOUDS, {"max_clusters": 1}, "no number of clusters to choose: it is at least 2"),
        (np.ones((50, 3)), {}, "1 of the 50 codes are different"),
        (CLOUDS, {"labels": LABELS[:3]}, "labels have shape"),
        (np.full((50, 3), np.inf), {}, "NaN or infinite"),
    ],
)
def test_clusterings_refuse_what_they_cannot_split(z, options, message):
    with pytest.raises(ValueError, match=message):
        latent.cluster(z, **options)


# --- neighbours and dimension ----------------------------------------------------------------------------------------


def test_neighbours_are_those_of_all_distances():
    z, queries = RNG.normal(size=(300, 20)) + 100, RNG.normal(size=(7, 20)) + 100
    found = latent.neighbours(z, queries, k=5)
    every = scipy.spatial.distance.cdist(queries, z)
    np.testing.assert_array_equal(found.indices, np.argsort(every, axis=1)[:, :5])
    np.testing.assert_allclose(found.distances, np.sort(every, axis=1)[:, :5], rtol=1e-12)
    itself = latent.neighbours(z, z, k=1)
    np.testing.assert_array_equal(itself.indices[:, 0], np.arange(300))
    assert (itself.distances == 0).all()


@pytest.mark.parametrize("dimension", [1, 2, 4])
@pytest.mark.parametrize("draw", [RNG.normal, RNG.random])
def test_dimension_of_a_flat_manifold_in_a_long_code(dimension, draw):
    flat = draw(size=(2000, dimension)) @ np.linalg.qr(RNG.normal(size=(25, dimension)))[0].T
    local = latent.intrinsic_dimension(flat, k=20)
    assert local.shape == (2000,) and 1 / np.mean(1 / local) == pytest.approx(dimension, rel=0.1)
    assert local.mean() > 1 / np.mean(1 / local)


def test_dimension_by_hand():
    """Distances 1, 2 and 4 to the others: 1 / mean(ln 4, ln 2)."""
    z = np.array([[0.0], [1], [-2], [4]])
    assert latent.intrinsic_dimension(z, k=3)[0] == pytest.approx(2 / (np.log(4) + np.log(2)))


def test_neighbours_and_dimension_refuse_bad_input():
    with pytest.raises(ValueError, match="queries have 3 units and z has 4"):
        latent.neighbours(CLOUDS, CLOUDS[:, :3], k=2)
    with pytest.raises(ValueError, match="k is 151 and there are 150 codes"):
        latent.neighbours(CLOUDS, CLOUDS, k=151)
    with pytest.raises(ValueError, match="queries holds 1 values that are NaN"):
        latent.neighbours(CLOUDS, [[0, 0, 0, np.nan]], k=1)
    with pytest.raises(ValueError, match="only 150 of the 155 codes are different"):
        latent.intrinsic_dimension(np.vstack([CLOUDS, CLOUDS[:5]]))
    for k in (1, 150):
        with pytest.raises(ValueError, match=f"k is {k} and there are 150 codes; k must be from 2 to 149"):
            latent.intrinsic_dimension(CLOUDS, k=k)
    turned = np.linalg.qr(RNG.normal(size=(25, 25)))[0]  # the same distances but for rounding
    for corners in (np.eye(25), turned):
        with pytest.raises(ValueError, match="of 25 codes the 20 nearest others are all equally far"):
            latent.intrinsic_dimension(corners)


# --- walks through the code ------------------------------------------------------------------------------------------


class Recorder:
    """A decoder that returns its codes as 2x2 images, and counts how often it is asked."""

    calls = 0

    def decode(self, z):
        self.calls += 1
        assert z.dtype == "float32"
        return z.reshape(-1, 2, 2)


def test_traverse_changes_one_unit_and_decodes_once():
    recorder, z = Recorder(), CLOUDS[:3]
    decoded = latent.traverse(recorder, z, 2, [-1, 0, 5])
    assert decoded.shape == (3, 3, 2, 2) and recorder.calls == 1
    expected = np.repeat(z[:, np.newaxis], 3, axis=1)
    expected[:, :, 2] = [-1, 0, 5]
    np.testing.assert_allclose(decoded.reshape(3, 3, 4), expected, rtol=1e-6)


def test_the_linear_way_is_a_straight_line_with_both_ends():
    recorder = Recorder()
    decoded = latent.interpolate(recorder, CLOUDS[:3], CLOUDS[3:6], steps=5)
    assert decoded.shape == (3, 5, 2, 2) and recorder.calls == 1
    expected = np.swapaxes(np.linspace(CLOUDS[:3], CLOUDS[3:6], 5), 0, 1)
    np.testing.assert_allclose(decoded.reshape(3, 5, 4), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(latent.interpolate(recorder, CLOUDS[:1], CLOUDS[3:4], steps=5)[0], decoded[0])


def test_the_spherical_way_turns_evenly_and_keeps_the_length():
    a, b = np.array([[3.0, 0, 0, 0]]), np.array([[0, 3.0, 0, 0]])
    way = latent.interpolate(Recorder(), a, b, "spherical", steps=4).reshape(4, 4)
    angles = np.radians([0, 30, 60, 90])
    np.testing.assert_allclose(way[:, :2], 3 * np.column_stack([np.cos(angles), np.sin(angles)]), atol=1e-6)
    straight = latent.interpolate(Recorder(), a, b, steps=3).reshape(3, 4)
    assert np.linalg.norm(straight[1]) == pytest.approx(3 / np.sqrt(2))


def test_the_spherical_way_between_parallel_codes_is_straight():
    a = np.array([[1.0, 2, 3, 4]])
    for b in (a, 3 * a, a + 1e-9):
        way = latent.interpolate(Recorder(), a, b, "spherical", steps=5).reshape(5, 4)
        np.testing.assert_allclose(way, np.linspace(a[0], b[0], 5), rtol=1e-5)


def test_opposite_codes_and_zero_have_no_spherical_way():
    a = np.array([[1.0, 2, 3, 4]])
    with pytest.raises(ValueError, match="opposite"):
        latent.interpolate(Recorder(), a, -2 * a, kind="spherical")
    with pytest.raises(ValueError, match="a code is 0 and has no direction"):
        latent.interpolate(Recorder(), np.vstack([a, a]), np.vstack([a, 0 * a]), kind="spherical")
    assert latent.interpolate(Recorder(), a, -a, steps=3)[0, 1].max() == 0


def test_autoencoders_keras_models_and_functions_decode_alike():
    autoencoder = models.dense_autoencoder((8, 8, 1), 3, hidden=(4,), seed=0)
    z = RNG.normal(size=(2, 3))
    decoded = latent.traverse(autoencoder, z, 0, [0, 1, 2])
    assert decoded.shape == (2, 3, 8, 8, 1) and isinstance(decoded, np.ndarray)
    np.testing.assert_array_equal(latent.traverse(autoencoder.decoder, z, 0, [0, 1, 2]), decoded)
    np.testing.assert_array_equal(latent.traverse(lambda codes: autoencoder.decode(codes), z, 0, [0, 1, 2]), decoded)
    np.testing.assert_allclose(decoded[0, 1], autoencoder.decode([[1, z[0, 1], z[0, 2]]])[0], rtol=1e-5)
    assert isinstance(autoencoder.decoder, keras.Model)
    for decoder in (autoencoder, autoencoder.decoder):
        with pytest.raises(ValueError, match=r"z has shape \(6, 4\); this model takes \(n, 3\)"):
            latent.traverse(decoder, np.zeros((2, 4)), 0, [0, 1, 2])


class AlwaysNoisy(keras.Model):
    """A decoder whose author made training the default."""

    def call(self, z, training=True):
        return z + 1000.0 if training else 2 * z


def test_a_decoder_runs_as_outside_training():
    z = np.ones((2, 3))
    for decoder in (AlwaysNoisy(), AlwaysNoisy().call, keras.Sequential([keras.Input((3,)), AlwaysNoisy()])):
        np.testing.assert_allclose(latent.traverse(decoder, z, 1, [5])[:, 0], [[2, 10, 2]] * 2)


def small_parts(outputs=3):
    encoder, decoder = models.dense_encoder((6,), outputs, (4,), seed=0), models.dense_decoder((6,), 3, (4,), seed=1)
    return {"encoder": encoder, "decoder": decoder}


VARIANTS = {
    "denoising": lambda: models.DenoisingAutoencoder(**small_parts()),
    "tied": lambda: models.TiedAutoencoder(models.dense_encoder((6,), 3, (4,), seed=0)),
    "k-sparse": lambda: models.KSparseAutoencoder(**small_parts(), k=1),
    "sparse": lambda: models.SparseAutoencoder(**small_parts()),
    "contractive": lambda: models.ContractiveAutoencoder(**small_parts()),
    "variational": lambda: models.VariationalAutoencoder(**small_parts(6)),
    "text": lambda: text.text_autoencoder(Alphabet(characters="ab", length=4), 3, filters=2, units=3, seed=0),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_decodes_its_walk_code_by_code(name):
    """By hand: each code of the walk through the bare decoder, alone."""
    model = VARIANTS[name]()
    z = RNG.normal(size=(2, 3)).astype("float32")
    walk = latent.traverse(model, z, 1, [-1, 2])
    for i, j in np.ndindex(2, 2):
        code = np.array([[z[i, 0], (-1, 2)[j], z[i, 2]]], "float32")
        np.testing.assert_allclose(walk[i, j], model.decoder(code)[0], atol=1e-6)
    way = latent.interpolate(model, z[:1], z[1:], steps=3)
    np.testing.assert_allclose(way[0, 1], model.decoder((z[:1] + z[1:]) / 2)[0], atol=1e-6)


def test_a_conditional_autoencoder_is_asked_for_a_class():
    model = models.ConditionalVariationalAutoencoder(
        models.dense_encoder((6,), 6, seed=0), models.dense_decoder((6,), 5, seed=1), n_classes=2
    )
    for call in (
        lambda: latent.traverse(model, np.zeros((2, 3)), 0, [0]),
        lambda: latent.interpolate(model, np.zeros((2, 3)), np.ones((2, 3))),
    ):
        with pytest.raises(ValueError, match=r"together with a class; choose it by cvae.for_class\(label\)"):
            call()
    walk = latent.traverse(lambda z: model.decode(z, labels=1), np.zeros((2, 3)), 0, [0])
    np.testing.assert_allclose(walk[0, 0], model.decoder(np.array([[0, 0, 0, 0, 1.0]]))[0], atol=1e-6)


def test_walks_refuse_what_they_cannot_decode():
    for unit in (4, -1, 1.0, True):
        with pytest.raises(ValueError, match=f"unit is {unit}; the codes have units 0 to 3"):
            latent.traverse(Recorder(), CLOUDS, unit, [0])
    for values in ([], 3.0, [np.nan]):
        with pytest.raises(ValueError, match="values must be a sequence of finite numbers"):
            latent.traverse(Recorder(), CLOUDS, 0, values)
    with pytest.raises(ValueError, match="'decoder' cannot decode"):
        latent.traverse("decoder", CLOUDS, 0, [0])
    for a, b, options, message in (
        (CLOUDS[0], CLOUDS[:2], {}, r"a has shape \(4,\) and b has shape \(2, 4\)"),
        (CLOUDS[:1], CLOUDS[1:2], {"steps": 1}, "steps is 1"),
        (CLOUDS[:1], CLOUDS[1:2], {"kind": "cubic"}, "unknown interpolation 'cubic'"),
        (CLOUDS[:1], CLOUDS[1:2] * np.nan, {}, "b holds 4 values that are NaN"),
        (1.0, 2.0, {}, r"a has shape \(\)"),
        (CLOUDS[0], CLOUDS[1], {}, r"give codes \(n, units\) to both, a single one as a\[np.newaxis\]"),
    ):
        with pytest.raises(ValueError, match=message):
            latent.interpolate(Recorder(), a, b, **options)
    with pytest.raises(ValueError, match=r"broken returns NaN or infinity: 4 of 8 values"):
        latent.traverse(broken, CLOUDS[:2], 0, [0])
    with pytest.raises(ValueError, match=r"<lambda> returns shape \(4,\) for 2 codes"):
        latent.traverse(lambda z: z.mean(axis=0), CLOUDS[:2], 0, [0])


def broken(z):
    return np.where(np.arange(4) < 2, np.nan, z)


# --- two codes of the same samples -----------------------------------------------------------------------------------


def two_codes(n=200):
    """Codes of 4 and 3 units that share two directions."""
    shared = RNG.normal(size=(n, 2))
    mix = RNG.normal(size=(4, 4))
    return np.column_stack([shared, RNG.normal(size=(n, 2))]) @ mix, np.column_stack([shared, RNG.normal(size=n)])


def slow_cka(a, b):
    """From the Gram matrices of the samples, with the centring matrix: Kornblith et al., equations 2 to 4."""
    centre = np.eye(len(a)) - 1 / len(a)

    def hsic(p, q):
        return np.trace(p @ p.T @ centre @ q @ q.T @ centre)

    return hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b))


def slow_overlap(a, b, k):
    distances = [scipy.spatial.distance.cdist(z, z) for z in (a, b)]
    near = [np.argsort(d + np.diag(np.full(len(d), np.inf)), axis=1)[:, :k] for d in distances]
    return np.mean([len(set(p) & set(q)) / k for p, q in zip(*near, strict=True)])


def test_agreement_is_that_of_slower_formulas():
    a, b = two_codes()
    found = latent.agreement(a, b, k=7)
    assert found.cka == pytest.approx(slow_cka(a, b), rel=1e-10) and 0.1 < found.cka < 0.9
    padded = np.column_stack([b, np.zeros(len(b))])  # scipy wants codes of one length
    assert found.procrustes == pytest.approx(scipy.spatial.procrustes(a, padded)[2], rel=1e-10)
    assert found.neighbour_overlap == pytest.approx(slow_overlap(a, b, 7))
    assert found.chance_overlap == 7 / 199 and found.k == 7
    back = latent.agreement(b, a, k=7)
    assert back.cka == pytest.approx(found.cka) and back.procrustes == pytest.approx(found.procrustes)


def test_agreement_does_not_see_how_a_code_is_turned_scaled_moved_and_ordered():
    a, b = two_codes()
    turn = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    before = latent.agreement(a, b)
    for changed in (a @ turn, -3 * a + [5, 0, 1, -100], a[:, [2, 0, 3, 1]], np.column_stack([a, np.full(200, 7.0)])):
        after = latent.agreement(changed, b)
        assert after.cka == pytest.approx(before.cka) and after.procrustes == pytest.approx(before.procrustes)
        assert after.neighbour_overlap == before.neighbour_overlap
        itself = latent.agreement(changed, a)
        assert itself.cka == pytest.approx(1) and itself.procrustes == pytest.approx(0, abs=1e-9)
        assert itself.neighbour_overlap == 1
    stretched = latent.agreement(a * [100, 1, 1, 1], a)
    assert stretched.cka < 0.99 and stretched.procrustes > 0.1 and stretched.neighbour_overlap < 0.8


def test_agreement_by_hand():
    """Two uncorrelated units of equal size, of which the other code holds one: s = 1/sqrt(2), alone."""
    corners = np.tile([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], (5, 1)) + 1e-9 * RNG.normal(size=(20, 2))
    found = latent.agreement(corners, corners[:, :1], k=4)
    assert found.cka == pytest.approx(1 / np.sqrt(2)) and found.procrustes == pytest.approx(0.5)


def test_codes_with_nothing_in_common_agree_by_chance():
    found = latent.agreement(RNG.normal(size=(2000, 5)), RNG.normal(size=(2000, 8)))
    assert found.cka < 0.01 and found.procrustes > 0.95
    assert found.neighbour_overlap == pytest.approx(found.chance_overlap, abs=0.005)


@pytest.mark.parametrize(
    ("a", "b", "k", "message"),
    [
        (CLOUDS, CLOUDS[:100], 10, "a has 150 codes and b has 100"),
        (CLOUDS[:8], CLOUDS[:8], 2, "there are 8 samples for 8 units"),
        (CLOUDS[:30], CLOUDS[:30], 15, "k is 15 and there are 30 codes"),
        (CLOUDS, np.ones((150, 2)), 10, "all 150 codes in b are equal"),
        (CLOUDS[:, 0], CLOUDS, 10, r"a has shape \(150,\)"),
        (CLOUDS, CLOUDS * np.nan, 10, "b holds 600 values that are NaN"),
    ],
)
def test_agreement_refuses_what_it_cannot_compare(a, b, k, message):
    with pytest.raises(ValueError, match=message):
        latent.agreement(a, b, k=k)
