"""The cluster: what TF_CONFIG says, workers that meet, a cluster on this machine, and one that is killed."""

import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tfae import distribute
from tfae.cluster import Cluster, ClusterError, run_cluster

ADDRESSES = ["10.0.0.1:2222", "10.0.0.2:2222"]


def config(cluster=None, job="worker", index=0):
    return json.dumps({"cluster": cluster or {"worker": ADDRESSES}, "task": {"type": job, "index": index}})


# --- TF_CONFIG -------------------------------------------------------------------------------------------------------


def test_tf_config_names_the_workers_with_the_chief_first(monkeypatch):
    assert Cluster.from_json(config(index=1)) == Cluster(tuple(ADDRESSES), 1)
    split = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    assert Cluster.from_json(config(split, "chief")) == Cluster(("a:1", "b:1", "c:1"), 0)
    assert Cluster.from_json(config(split, "worker", 1)) == Cluster(("a:1", "b:1", "c:1"), 2)
    for unset in ("", "{}"):
        monkeypatch.setenv("TF_CONFIG", unset)
        assert Cluster.from_environment() is None and distribute.is_chief()
    monkeypatch.setenv("TF_CONFIG", config(index=1))
    assert not distribute.is_chief()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worker 0", "TF_CONFIG is not JSON"),
        ("[]", "TF_CONFIG has no 'cluster'"),
        ('{"task": {"type": "worker", "index": 0}}', "TF_CONFIG has no 'cluster'"),
        (json.dumps({"cluster": {"worker": ADDRESSES}}), "TF_CONFIG has no 'task'"),
        (config({"worker": ADDRESSES, "ps": ["c:1"]}), "names the jobs ps; the known ones are chief, worker"),
        (config({"worker": "a:1"}), "must list the addresses"),
        (config({"chief": ["a:1", "b:1"]}, "chief"), "at most one chief"),
        (config({"worker": ["a:1", "b"]}), "the address 'b'; it must be 'host:port'"),
        (config({"worker": ["a:1", "b:99999"]}), "the address 'b:99999'"),
        (config({"chief": ["a:1"], "worker": ["a:1"]}), "names a:1 twice"),
        (config(index=2), "this is worker 2, and the cluster has 2 of job 'worker'; .* from 0 to 1"),
        (config(index="0"), "this is worker '0'"),
        (config(job="chief"), "this is a 'chief', and the cluster has 2 of job 'worker'"),
    ],
)
def test_a_malformed_tf_config_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Cluster.from_json(text)


def test_a_strategy_says_what_it_cannot_do(monkeypatch):
    with pytest.raises(ValueError, match="devices is 0"):
        distribute.strategy(0)
    with pytest.raises(ValueError, match="timeout is -1"):
        distribute.strategy(timeout=-1)
    monkeypatch.setenv("TF_CONFIG", config())
    with pytest.raises(ValueError, match="devices is 2 and TF_CONFIG names 2 workers"):
        distribute.strategy(2)
    monkeypatch.setenv("TF_CONFIG", config({"worker": ["a:1"]}))
    assert distribute.strategy().num_replicas_in_sync == 1  # a cluster of one


# --- workers that meet -----------------------------------------------------------------------------------------------


def free(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return tuple(addresses)


def meet(*clusters, timeout=10.0):
    """What comes of it, for each of the clusters: None or an error."""
    with ThreadPoolExecutor(len(clusters)) as pool:
        meetings = [pool.submit(cluster.meet, timeout) for cluster in clusters]
        return [meeting.exception() for meeting in meetings]


def test_workers_meet_though_one_is_late_and_strangers_knock():
    addresses = free(3)

    def knock():
        time.sleep(0.5)
        with socket.create_connection(("127.0.0.1", int(addresses[0].split(":")[1]))) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")

    stranger = threading.Thread(target=knock)
    late = threading.Timer(1.0, lambda: results.extend(meet(Cluster(addresses, 2))))
    results = []
    stranger.start(), late.start()
    assert meet(Cluster(addresses, 0), Cluster(addresses, 1)) == [None, None]
    stranger.join(), late.join()
    assert results == [None]


def test_who_is_missing_is_named_with_its_address():
    addresses = free(3)
    first, second = meet(Cluster(addresses, 0), Cluster(addresses, 1), timeout=1.0)
    for error in (first, second):
        assert isinstance(error, TimeoutError) and f"worker 2 at {addresses[2]}: " in str(error)
        assert "refused" in str(error) and "firewall" in str(error) and "waited 1 s" in str(error)
    assert addresses[1] not in str(first)


def test_workers_with_different_clusters_or_one_index_are_refused():
    addresses = free(2)
    errors = meet(Cluster(addresses, 0), Cluster((*addresses, "c:1"), 1), timeout=3.0)
    assert any("different clusters" in str(error) for error in errors)
    addresses = free(3)
    errors = meet(Cluster(addresses, 0), Cluster((addresses[0], addresses[2], addresses[1]), 2), timeout=3.0)
    assert any("different clusters" in str(error) for error in errors)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        mine = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=r"cannot use port .* earlier run"):
            Cluster((mine, "127.0.0.1:1"), 0).meet(1.0)


# --- a cluster on this machine ---------------------------------------------------------------------------------------


def who_am_i(a, b):
    import json
    import os

    task = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    return a + b + task


def one_fails(how):
    import json
    import os
    import signal
    import time

    if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("the disk is full")
    time.sleep(60)


def test_a_cluster_returns_what_each_worker_returned():
    assert run_cluster(who_am_i, 10, 20, workers=3) == [30, 31, 32]


def test_a_failure_is_shown_and_nobody_is_left_behind():
    start = time.monotonic()
    with pytest.raises(
        ClusterError, match=r"(?s)worker 0 did not end in time.*worker 1 ended.*the disk is full"
    ) as raised:
        run_cluster(one_fails, "raise", grace=0.2)
    assert raised.value.exits == [-9, 1]
    with pytest.raises(ClusterError, match="worker 1 was killed by SIGKILL"):
        run_cluster(one_fails, "kill", grace=0.2)
    with pytest.raises(ClusterError, match="worker 0 did not end in time"):
        run_cluster(one_fails, "wait", workers=1, timeout=0.5)
    assert time.monotonic() - start < 40


def test_only_functions_that_stand_alone_can_run_elsewhere():
    secret = 1

    def inside():
        return secret

    with pytest.raises(ValueError, match="takes what it needs as arguments"):
        run_cluster(inside)
    with pytest.raises(ValueError, match="takes what it needs as arguments"):
        run_cluster(lambda: 1)
    with pytest.raises(ValueError, match=r"source of .* cannot be read"):
        run_cluster(len)


# --- kill -9 ---------------------------------------------------------------------------------------------------------


def train_with_checkpoints(path, dies):
    """Train 4 epochs of 4 steps; if it `dies`, worker 1 does so in the middle of the third."""
    from tfae import distribute  # isort: skip

    strategy = distribute.strategy()
    import os
    import signal

    import keras
    import numpy as np

    from tfae import models, training

    class Die(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if dies and not distribute.is_chief() and self.model.optimizer.iterations.numpy() == 10:
                os.kill(os.getpid(), signal.SIGKILL)

    x = np.random.default_rng(0).random((61, 12, 12, 1)).astype("float32")

    def train(path):
        with strategy.scope():
            encoder = models.dense_encoder(x.shape[1:], 16, (32,), seed=1)
            model = models.VariationalAutoencoder(encoder, models.dense_decoder(x.shape[1:], 8, (32,), seed=2), seed=3)
            model.compile(keras.optimizers.Adam(1e-3))
        run = training.Resume(path, seed=0)
        batches = run.batches(x, batch_size=16)
        model.fit(batches, epochs=4, shuffle=False, verbose=0, callbacks=[run, Die()], validation_data=x[:9])
        return model.get_weights(), run.history

    resumed = train(path)
    return resumed, train(path + ".uninterrupted.npz")


@pytest.mark.slow
def test_a_killed_cluster_resumes_to_the_same_weights(tmp_path):
    path = str(tmp_path / "run.npz")
    with pytest.raises(ClusterError, match="worker 1 was killed by SIGKILL") as raised:
        run_cluster(train_with_checkpoints, path, True)
    assert raised.value.exits == [1, -9]  # the chief ended by itself
    assert "training.Resume" in raised.value.outputs[0] and "worker 1 at 127.0.0.1:" in raised.value.outputs[0]
    with np.load(path) as checkpoint:
        assert json.loads(str(checkpoint["about"]))["epochs"] == 2
    for (resumed, history), (whole, logs) in run_cluster(train_with_checkpoints, path, False):
        for a, b in zip(resumed, whole, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
        assert history.keys() == logs.keys() and len(history["loss"]) == 4
        np.testing.assert_allclose(history["val_loss"], logs["val_loss"], rtol=1e-6)
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []  # no half-written file
