"""Random numbers that are the same for ever: on every platform, in every process, for every batch size.

An image is a pure function of (task, split, index). We get there by hashing instead of drawing from a stream:
splitmix64 turns any 64-bit counter into 64 well mixed bits, so image 7 does not care whether images 0 to 6 were
drawn. (numpy.random promises no such stability between versions, and Python's hash() differs from process to process.)
"""

from __future__ import annotations

import zlib

import numpy as np

STEP = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: the increment of splitmix64


def splitmix64(state: np.ndarray) -> np.ndarray:
    """Mix every 64-bit state into 64 bits that look random (Steele, Lea, Flood 2014); unsigned overflow is wanted."""
    z = state + STEP
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Draws:
    """The random numbers of a batch of n images; each call uses up one slot of every image."""

    def __init__(self, keys: np.ndarray):
        self.keys, self.slot = keys, 0

    @classmethod
    def of(cls, task: str, split: str, indices: np.ndarray) -> Draws:
        """Keys (n,): the high 32 bits name task and split, the low 32 the image, so no two splits share a key."""
        seed = np.uint64(zlib.crc32(f"{task}/{split}".encode())) << np.uint64(32)
        return cls(splitmix64(seed + np.asarray(indices, dtype=np.uint64)))

    def only(self, chosen: np.ndarray) -> Draws:
        """Fresh numbers for some of the images, whatever the others use."""
        return Draws(splitmix64(self.keys[chosen]))

    def bits(self, m: int) -> np.ndarray:
        """(n, m) uint64."""
        self.slot += 1
        start = splitmix64(self.keys + np.asarray([self.slot], dtype=np.uint64) * STEP)
        return splitmix64(start[:, None] + np.arange(m, dtype=np.uint64) * STEP)

    def __call__(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """(n, 1, 1) float32 uniform in [low, high), ready to broadcast over pixels."""
        u = (self.bits(1) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        return (low + (high - low) * u)[:, :, None]

    def pick(self, k: int) -> np.ndarray:
        """(n,) integers in [0, k)."""
        return (self()[:, 0, 0] * k).astype(np.int64)

    def sign(self) -> np.ndarray:
        """(n, 1, 1): -1 or 1."""
        return np.where(self() < 0.5, np.float32(-1), np.float32(1))

    def pixels(self, size: int) -> np.ndarray:
        """(n, 3, size, size) float32 uniform in [-1, 1): each 64-bit hash serves four values."""
        halves = self.bits(3 * size * size // 4).astype("<u8").view("<u2")
        return halves.reshape(-1, 3, size, size).astype(np.float32) * np.float32(2.0**-15) - 1
