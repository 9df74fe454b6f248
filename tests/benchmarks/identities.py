"""Vectors drawn like those of faces: identities with a few photos each, not white noise.

Measured with SFace (128 numbers) on photos of the evaluation data: two faces of one person have a cosine of .66 to .87
(18 pairs of 4 people, median .75). Strangers' cosines have a mean of .05 (186 photos) to .09 (108 others) and a
deviation of .115; 99 % are below .31 to .40. Were all directions alike, 128 dimensions would give .088: the vectors
spread over fewer, over as many as 76 alike ones. Of a model with 512 dimensions (MobileFaceNet, trained as ArcFace's
are) 99.9 % of strangers were below .27 on the same 186 photos: a deviation of .087, or 132 dimensions.

So, with all vectors of length 1:

- an identity is a common direction (the strangers' mean) and one that is drawn, from a spectrum that falls as a power
  such that strangers get that deviation;
- a face of it is sqrt(r) of the identity and sqrt(1 - r) of another such direction, r being drawn from .6 to .9 for
  each photo (light, pose, age): two faces of one person then have a cosine of .75 in the mean, .62 to .86 nine times of
  ten;
- an identity has n faces with a probability in proportion to n to the power of -2, up to 500: three of five have one.

Of 100,000 such faces the strangers' mean is .05, and 99 % of them are below .30, 99.9 % below .38.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]  # n x dimensions, each of length 1

#: Deviation of strangers' cosines, by dimensions.
DEVIATION = {128: 0.115, 512: 0.087}
STRANGERS_MEAN = 0.05
SAME = (0.6, 0.9)
LARGEST = 500
CHUNK = 50_000


@dataclass(frozen=True)
class People:
    """Identities, of which one draws faces."""

    centres: Vectors
    spectrum: Vectors  # deviation in each dimension, 1 x dimensions
    sizes: NDArray[np.int64]  # faces that each has

    @classmethod
    def draw(cls, faces: int, dimensions: int, random: np.random.Generator) -> "People":
        """As many identities as have so many faces."""
        spectrum = _spectrum(dimensions)
        chances = 1 / np.arange(1, LARGEST + 1) ** 2.0
        sizes = random.choice(np.arange(1, LARGEST + 1), size=faces, p=chances / chances.sum())
        sizes = sizes[: np.searchsorted(np.cumsum(sizes), faces) + 1]
        sizes[-1] -= sizes.sum() - faces
        return cls(_identities(len(sizes), spectrum, random), spectrum, sizes)

    def faces(self, random: np.random.Generator) -> tuple[Vectors, NDArray[np.int64]]:
        """Every face, in random order, and whose it is."""
        owners = np.repeat(np.arange(len(self.sizes)), self.sizes)
        random.shuffle(owners)
        return self.photos(owners, random), owners

    def photos(self, owners: NDArray[np.int64], random: np.random.Generator) -> Vectors:
        """A new photo of each of those."""
        found = np.empty((len(owners), self.centres.shape[1]), np.float32)
        for start in range(0, len(owners), CHUNK):
            chunk = self.centres[owners[start : start + CHUNK]]
            same = random.uniform(*SAME, size=(len(chunk), 1)).astype(np.float32)
            other = random.standard_normal(chunk.shape, np.float32) * self.spectrum
            found[start : start + CHUNK] = _unit(np.sqrt(same) * chunk + np.sqrt(1 - same) * _unit(other))
        return found

    def queries(self, count: int, random: np.random.Generator) -> tuple[Vectors, NDArray[np.int64]]:
        """New photos, and whose they are: four of five of somebody who has faces here, the others (-1) of strangers."""
        known = random.choice(len(self.sizes), count - count // 5, p=self.sizes / self.sizes.sum())
        strangers = np.arange(count // 5)
        others = People(_identities(len(strangers), self.spectrum, random), self.spectrum, np.ones_like(strangers))
        photos = np.concatenate([self.photos(known, random), others.photos(strangers, random)])
        order = random.permutation(count)
        return photos[order], np.concatenate([known, np.full_like(strangers, -1)])[order]


def _identities(count: int, spectrum: Vectors, random: np.random.Generator) -> Vectors:
    common = np.sqrt(STRANGERS_MEAN / np.mean(SAME))  # a face keeps that share of its identity
    found = np.empty((count, spectrum.shape[1]), np.float32)
    for start in range(0, count, CHUNK):
        some = _unit(random.standard_normal((min(CHUNK, count - start), spectrum.shape[1]), np.float32) * spectrum)
        some *= np.float32(np.sqrt(1 - common**2))
        some[:, -1] += np.float32(common)  # the common direction: the dimension that varies least
        found[start : start + CHUNK] = _unit(some)
    return found


def _spectrum(dimensions: int) -> Vectors:
    """Deviations that fall as a power, such that the cosine of two directions has the deviation wanted."""
    wanted = DEVIATION.get(dimensions, DEVIATION[512])
    ranks = np.arange(1, dimensions + 1)
    low, high = 0.0, 2.0
    for _ in range(50):
        power = (low + high) / 2
        variances = ranks**-power
        alike = variances.sum() ** 2 / (variances**2).sum()
        low, high = (low, power) if alike < 1 / wanted**2 else (power, high)
    found: Vectors = np.sqrt(variances / variances.sum()).astype(np.float32)[None]
    return found


def _unit(vectors: NDArray[Any]) -> Vectors:
    found: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32, copy=False)
    return found
