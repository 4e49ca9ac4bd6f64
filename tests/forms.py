"""The forms in which somebody may write down the same chain of layers."""

import keras


class Subclassed(keras.Model):
    """Nothing is built before the first call."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


def functional(parts, shape):
    x = inputs = keras.Input(shape)
    for part in parts:
        x = part(x)
    return keras.Model(inputs, x)
