"""How fast is training on data that do not fit in memory, and how much memory does it take?

    python benchmarks/streaming.py [--images 2000000] [--folder DIRECTORY]

Writes images of 28x28 bytes as records (1.6 GB on disk, deleted at the end), drops them from the system's cache where
that is possible, and trains the 784-128-64-32 autoencoder on all of them once, batch 256. The same images are also
written as TFRecord, read through tf.data with as many images to shuffle among, and as HDF5, read batch by batch in a
random order, without shuffling inside: neither has a checksum for every byte, which records have (TFRecord has its
own, of each image). Two more processes train the same model, compiled with the same arguments, on images in memory: one
through tf.data, as streaming does, and one on arrays, for which `fit` has a faster way. They take turns, a tenth of the
images each; those whose turn it is not are stopped, threads and all, so that nothing is read ahead. So the ratios mean
something on a busy machine too; the rates do not. About twelve minutes on two free cores.

Bars: peak memory of the streaming process under 1.5 GB, and at least 0.95 of the rate in memory.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TURNS, BATCH_SIZE, STEPS = 10, 256, 32  # steps of a program
SHUFFLED = 42_000  # TFRecord's images: as many as are in eight shards of records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2_000_000)
    parser.add_argument("--folder", help="where the records are written for a while; default: the system's")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--records", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:  # one of the processes that do the work
        return globals()[arguments.part](arguments.records, arguments.images)
    if not hasattr(signal, "SIGSTOP"):
        raise SystemExit("skipped: this system cannot stop a process and let it go on")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        compare(arguments.images, str(Path(folder, "records")))


def compare(images: int, folder: str) -> None:
    """Write, train in turns and print."""
    command = [sys.executable, __file__, "--images", str(images), "--records", folder, "--part"]
    subprocess.run([*command, "write"], check=True)
    parts = {
        "streaming": "stream", "TFRecord": "tfrecord", "HDF5": "hdf5", "memory, tf.data": "dataset",
        "memory, arrays": "arrays",
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    processes = {
        name: subprocess.Popen([*command, part], stdout=subprocess.PIPE, text=True, start_new_session=True)
        for name, part in parts.items()
    }  # in sessions of their own: a shell that ends lets all that it has stopped go on
    told = {}
    try:
        for process in processes.values():
            wait_until_stopped(process)  # before its first step
        for turn in range(TURNS):
            for name, process in processes.items():
                process.send_signal(signal.SIGCONT)
                told[name] = json.loads(process.stdout.readline())
                seconds[name].append(told[name]["seconds"])
                if turn < TURNS - 1:
                    wait_until_stopped(process)
            now = "   ".join(f"{name} {of_a_turn(images) / taken[-1]:,.0f}" for name, taken in seconds.items())
            print(f"turn {turn + 1:2d} of {TURNS}, images a second:   {now}", flush=True)
    finally:
        for process in processes.values():
            process.kill()  # one that is stopped would stay for ever
            process.wait()
    print("\nwithout the first turn, which compiles:")
    medians = {}
    for name, taken in seconds.items():
        ratios = [b / a for a, b in zip(seconds["streaming"][1:], taken[1:], strict=True)]
        medians[name] = statistics.median(ratios)
        print(
            f"{name:<16}{of_a_turn(images) / statistics.median(taken[1:]):>9,.0f} images a second (median)"
            f"   streaming reaches {medians[name]:.2f} of it ({min(ratios):.2f} to {max(ratios):.2f})"
            f"   last loss {told[name]['loss']:.4f}"
        )
    peak = told["streaming"]["peak"]
    print(f"peak memory of the streaming process: {peak / 1e9:.2f} GB, for {images * 784 / 1e9:.2f} GB on disk")
    print(f"under 1.5 GB: {peak < 1.5e9}; at least 0.95 of the rate in memory: through tf.data "
          f"{medians['memory, tf.data'] >= 0.95}, on arrays {medians['memory, arrays'] >= 0.95}")  # fmt: skip


def wait_until_stopped(process: subprocess.Popen) -> None:
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        raise SystemExit(f"a part of the benchmark ended early, with status {status}")


# --- the processes ---------------------------------------------------------------------------------------------------


def images_in_parts(images: int):
    """Yield strokes, 10,000 at a time, shifted and shuffled anew each time."""
    from tfae import data

    import numpy as np

    x = (data.load("strokes").x_train[..., 0] * 255).round().astype("uint8")
    rng = np.random.default_rng(0)
    for done in range(0, images, len(x)):
        yield np.roll(rng.permutation(x), rng.integers(-3, 4, 2), axis=(1, 2))[: images - done, ..., np.newaxis]


def write(folder: str, images: int) -> None:
    from tfae import records

    import h5py
    import tensorflow as tf

    start = time.monotonic()
    records.write(folder, images_in_parts(images))
    print(f"records written in {time.monotonic() - start:.0f} s", flush=True)
    start = time.monotonic()
    for number, part in enumerate(images_in_parts(images)):
        with tf.io.TFRecordWriter(f"{folder}/{number:04d}.tfrecord") as file:
            for image in part:
                file.write(image.tobytes())
    print(f"TFRecord written in {time.monotonic() - start:.0f} s", flush=True)
    start = time.monotonic()
    with h5py.File(f"{folder}/images.h5", "w") as file:
        x = file.create_dataset("x", (images, 28, 28, 1), "uint8", chunks=(BATCH_SIZE, 28, 28, 1))
        done = 0
        for part in images_in_parts(images):
            x[done : done + len(part)] = part
            done += len(part)
    print(f"HDF5 written in {time.monotonic() - start:.0f} s", flush=True)
    for file in Path(folder).iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def stream(folder: str, images: int) -> None:
    from tfae import records

    train(records.read(folder, BATCH_SIZE), images)


def tfrecord(folder: str, images: int) -> None:
    import tensorflow as tf

    def decoded(content):
        pixels = tf.io.decode_raw(content, tf.uint8, fixed_length=784)
        return tf.reshape(tf.cast(pixels, tf.float32) / 255, (-1, 28, 28, 1))

    files = tf.data.Dataset.list_files(f"{folder}/*.tfrecord", shuffle=True, seed=0)
    content = files.interleave(tf.data.TFRecordDataset, cycle_length=2, num_parallel_calls=2).shuffle(SHUFFLED, seed=0)
    batches = content.batch(BATCH_SIZE, drop_remainder=True).map(decoded, num_parallel_calls=2).prefetch(2)
    train(batches.repeat(), images)


def hdf5(folder: str, images: int) -> None:
    import h5py
    import keras

    class Batches(keras.utils.PyDataset):
        """One batch after the other, out of an open file."""

        def __init__(self) -> None:
            super().__init__(workers=1)
            self.x = h5py.File(f"{folder}/images.h5")["x"]

        def __len__(self) -> int:
            return images // BATCH_SIZE

        def __getitem__(self, i: int):
            x = self.x[i * BATCH_SIZE : (i + 1) * BATCH_SIZE].astype("float32") / 255
            return x, x

    train(Batches(), images, shuffle=True)


def dataset(folder: str, images: int) -> None:
    from tfae import training

    train(training.Resume("unused").batches(in_memory(images), batch_size=BATCH_SIZE).repeat(), images)


def arrays(folder: str, images: int) -> None:
    train(in_memory(images), images)


def in_memory(images: int):
    """Return the images of one turn."""
    import numpy as np

    return np.concatenate(list(images_in_parts(of_a_turn(images)))).astype("float32") / 255


def of_a_turn(images: int) -> int:
    """Return how many images are trained on in a turn: whole programs, since Keras finishes one that it has begun."""
    return images // TURNS // (BATCH_SIZE * STEPS) * BATCH_SIZE * STEPS


def train(x, images: int, shuffle: bool = False) -> None:
    """Train for as many epochs as there are turns, and stop before each of them until it is our turn."""
    from tfae import models

    import keras
    import numpy as np

    class Turns(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            os.kill(os.getpid(), signal.SIGSTOP)
            self.start = time.monotonic()

        def on_epoch_end(self, epoch, logs=None):
            told = {"seconds": time.monotonic() - self.start, "loss": logs["loss"], "peak": peak_memory()}
            print(json.dumps(told), flush=True)

    model = models.dense_autoencoder((28, 28, 1), 32, seed=0)
    model.compile("adam", "mse", jit_compile=True, steps_per_execution=STEPS)
    steps = of_a_turn(images) // BATCH_SIZE
    options = (
        {"batch_size": BATCH_SIZE} if isinstance(x, np.ndarray) else {"steps_per_epoch": steps, "shuffle": shuffle}
    )
    model.fit(x, epochs=TURNS, verbose=0, callbacks=[Turns()], **options)


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    try:
        text = Path("/proc/self/status").read_text()
        return int(text.split("VmHWM:")[1].split()[0]) * 1024  # getrusage counts what the parent held, too
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
