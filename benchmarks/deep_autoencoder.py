"""How well does a deep autoencoder with a code of 30 reconstruct MNIST?

    TFAE_DATA_DIR=... python benchmarks/deep_autoencoder.py [--epochs 60] [--checkpoint runs/deep.npz]

The network of Hinton and Salakhutdinov (2006), 784-1000-500-250-30 and back, trained on the 60,000 training images on
the cross-entropy; the number is the squared error per test image, summed over pixels. They report 3.00 for the network,
and 13.87 for PCA with 30 components. A run that is interrupted goes on where it was when it is started again.
The 60 epochs take about eight minutes on two cores.
"""

import argparse
import time

from tfae import data, models, training  # first of all: it keeps TensorFlow quiet

import keras
import numpy as np
from sklearn.decomposition import PCA


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--checkpoint", default="runs/deep_autoencoder.npz")
    arguments = parser.parse_args()

    dataset = data.load("mnist")
    flat_train, flat_test = (x.reshape(len(x), -1) for x in (dataset.x_train, dataset.x_test))
    pca = PCA(30, random_state=0).fit(flat_train)
    from_pca = pca.inverse_transform(pca.transform(flat_test))
    print(f"PCA, 30 components: {np.mean(np.sum((flat_test - from_pca) ** 2, axis=1)):.2f}", flush=True)

    batch_size = 500
    model = models.dense_autoencoder((28, 28, 1), 30, (1000, 500, 250), activation="elu", seed=0)
    decay = keras.optimizers.schedules.CosineDecay(1e-3, arguments.epochs * -(-len(flat_train) // batch_size))
    model.compile(keras.optimizers.Adam(decay), "binary_crossentropy", metrics=["mse"])
    run = training.Resume(arguments.checkpoint, seed=0)
    start = time.monotonic()
    model.fit(
        run.batches(dataset.x_train, batch_size=batch_size),
        epochs=arguments.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[run, training.Progress()],
    )
    for name, x in (("training", dataset.x_train), ("test", dataset.x_test)):
        print(f"squared error per {name} image: {784 * model.reconstruction_error(x).mean():.3f}")
    print(f"{(time.monotonic() - start) / 60:.1f} minutes in this session")


if __name__ == "__main__":
    main()
