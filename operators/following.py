"""Following: which boxes of a video's sampled frames are of one person, or one face.

From sampled frame to sampled frame its box goes to where it was last seen, moved on by its speed (the prediction of
SORT, Bewley and others, 2016, without a filter), is compared there with the boxes of the frame, and those pairs are
taken that fit best together, over all. As in ByteTrack (Zhang and others, 2022) boxes with little confidence may go on
with a track, after the others, but begin none.

Samples lie a second apart, in which a person walks out of the box that they were in: so it is not overlap that counts
but distance, in units of the box's own size, and the longer the time, the more of it. Faces are compared by their
vectors too, where there are any, and people by those of their faces.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pinakes.operators.assignment import assigned

#: Whoever is seen again within the first of these times is still followed; or in the very next sampled frame, where
#: that comes later, but within the second: of frames further apart nothing says that it is the same person. At 1 frame
#: a second so one frame may be missed. Half a second more than two: samples are not evenly spaced.
GAP_MS = 2500
LONGEST_GAP_MS = 10_000

#: The cosine of two SFace vectors from which on OpenCV takes them for one person's, and that under which two faces in
#: one place are taken for two people's. Of 57 pairs of two people in photos the highest cosine was .28; a face that
#: turns or moves may fall as low, so that between the two its place decides as well.
SAME_FACE = 0.363
OTHER_FACE = 0.1

#: How soon a speed is forgotten, in seconds: boxes of frames close together shake.
SPEED_MEMORY = 0.5


@dataclass(frozen=True, slots=True)
class Reach:
    """How far off its predicted place a box may be, in sizes (the root of its area): at once, and more a second.

    It grows no further after GAP_MS. A box whose size is another is allowed less, see LARGEST_CHANGE.
    """

    at_once: float
    a_second: float


#: A person's box has a size of about a metre, a face's of a fifth.
PERSON_REACH = Reach(0.75, 2)
FACE_REACH = Reach(1, 4)

#: What it costs at most, of the 1 that is too much, that a face is where it is, when it is in the box of the person
#: whose face it was: at 1 frame a second the face of someone who walks is seven of its sizes further on.
CARRIED = 0.5

#: A box whose size is so many times larger or smaller is another's. Who comes into the picture grows quickly: in the
#: film that this was tried on a box's area became 3.5 times what it was within a tenth of a second.
LARGEST_CHANGE = 8


@dataclass(frozen=True, slots=True)
class Moments:
    """The sampled frames of a video."""

    ms: np.ndarray  # (n,) int64: their times, ascending
    shot: np.ndarray  # (n,) int64: the number of the shot they are in
    aspect: float  # the picture's width over its height


@dataclass(frozen=True, slots=True)
class Seen:
    """Boxes of one kind in a video, a row a box, in order of time and the most confident of a frame first."""

    frame: np.ndarray  # (n,) int64: position in the sampled frames
    box: np.ndarray  # (n, 4) float64: left, top, width, height, ratios of the upright picture
    confidence: np.ndarray  # (n,) float32
    ids: pa.Array  # (n,) of strings; null of people
    vector: np.ndarray  # (n,) int64: row of `vectors`, -1 where there is none
    body: np.ndarray  # (n,) int64: of a face the track of the person whose box it is in, -1 if in none; -1 of people
    vectors: np.ndarray  # (v, d) float32 of length 1, but the last, which is 0

    def take(self, rows: np.ndarray) -> "Seen":
        """Those rows, in that order."""
        return Seen(
            self.frame[rows],
            self.box[rows],
            self.confidence[rows],
            self.ids.take(pa.array(rows)),
            self.vector[rows],
            self.body[rows],
            self.vectors,
        )

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        """(m, d) float32, 0 where there is none."""
        found: np.ndarray = self.vectors[self.vector[rows]]
        return found

    def frames(self) -> list[slice]:
        """The rows of every frame that has any."""
        first = np.flatnonzero(np.diff(self.frame, prepend=-1))
        return [slice(*ends) for ends in zip(first.tolist(), [*first[1:].tolist(), len(self.frame)], strict=False)]


def follow(seen: Seen, moments: Moments, reach: Reach, begins: float) -> np.ndarray:
    """(n,) int64: the number of the track that each box is of, in the order in which they begin; -1 if of none.

    Boxes of less confidence than `begins` begin none.
    """
    track = np.full(len(seen.frame), -1)
    paths = _Paths(seen, moments, reach)
    alive = np.zeros(0, np.int64)
    for rows in seen.frames():
        here = int(seen.frame[rows.start])
        free = alive = alive[paths.may_go_on(alive, here)]
        every = np.arange(rows.start, rows.stop)
        strong = seen.confidence[rows] >= begins
        for boxes in (every[strong], every[~strong]):
            if len(boxes) and len(free):
                old, new = assigned(paths.costs(free, boxes))
                track[boxes[new]] = free[old]
                paths.go_on(free[old], boxes[new])
                free = np.delete(free, old)
        fresh = every[strong & (track[rows] < 0)]
        track[fresh] = paths.begin(fresh)
        alive = np.concatenate([alive, track[fresh]])
    return track


class _Paths:
    """Of every track so far where it was last seen, its speed, and what its faces have in common."""

    def __init__(self, seen: Seen, moments: Moments, reach: Reach) -> None:
        self._seen, self._moments, self._reach = seen, moments, reach
        # Of each box, in units of the picture's height: (n, 2) and (n,).
        self._centre = (seen.box[:, :2] + seen.box[:, 2:] / 2) * [moments.aspect, 1]
        self._size = np.sqrt(seen.box[:, 2] * seen.box[:, 3] * moments.aspect)
        # Of each track; there are at most as many as boxes.
        self._count = 0
        self._last = np.zeros(len(seen.frame), np.int64)  # row of the box
        self._speed = np.zeros((len(seen.frame), 2))  # picture heights a second
        self._sum = np.zeros((len(seen.frame), seen.vectors.shape[1]), np.float32)  # of vectors

    def may_go_on(self, tracks: np.ndarray, frame: int) -> np.ndarray:
        """(n,) bool: whether those tracks may in that frame, by its time and shot."""
        before = self._seen.frame[self._last[tracks]]
        elapsed = self._moments.ms[frame] - self._moments.ms[before]
        near = (elapsed <= GAP_MS) | ((frame - before == 1) & (elapsed <= LONGEST_GAP_MS))
        may: np.ndarray = near & (self._moments.shot[before] == self._moments.shot[frame])
        return may

    def begin(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of new tracks, one of each of those boxes."""
        tracks = np.arange(self._count, self._count + len(rows))
        self._count += len(rows)
        self._last[tracks], self._sum[tracks] = rows, self._seen.vectors_of(rows)
        return tracks

    def go_on(self, tracks: np.ndarray, rows: np.ndarray) -> None:
        """Each of those tracks to that box."""
        was = self._last[tracks]
        seconds = self._elapsed(tracks, rows[:1])[:, None] / 1000
        kept = np.exp(-seconds / SPEED_MEMORY)
        speed = (self._centre[rows] - self._centre[was]) / seconds
        self._speed[tracks] = kept * self._speed[tracks] + (1 - kept) * speed
        self._last[tracks] = rows
        self._sum[tracks] += self._seen.vectors_of(rows)

    def costs(self, tracks: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(tracks, boxes) of one frame: 0 where a box is just as expected, 1 and more where it is another's."""
        was = self._last[tracks]
        seconds = np.minimum(self._elapsed(tracks, rows[:1]), GAP_MS)[:, None] / 1000
        here, there = self._centre[rows], self._centre[was]
        off = 0.75 * _apart(there + self._speed[tracks] * seconds, here) + 0.25 * _apart(there, here)
        size, new_size = self._size[was][:, None], self._size[rows]
        cost = off / ((size + new_size) / 2) / (self._reach.at_once + self._reach.a_second * seconds)
        cost += np.abs(np.log(new_size / size)) / np.log(LARGEST_CHANGE)
        body = self._seen.body[rows]
        carried = (self._seen.body[was][:, None] == body) & (body >= 0)
        cost = np.where(carried, np.minimum(cost, CARRIED), cost)
        return self._with_vectors(cost, tracks, rows)

    def _with_vectors(self, cost: np.ndarray, tracks: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Where both sides have a vector: the mean of the cost by place, and of one that is 1 at SAME_FACE.

        So a good likeness makes up for a long way. Infinite where it is another's face.
        """
        sums, vectors = self._sum[tracks], self._seen.vectors_of(rows)
        if not vectors.any() or not sums.any():
            return cost
        length = np.linalg.norm(sums, axis=1)[:, None]
        latest = self._seen.vectors_of(self._last[tracks])
        cosine = np.maximum(sums @ vectors.T / np.where(length > 0, length, 1), latest @ vectors.T)
        known = (length > 0) & vectors.any(axis=1)
        both = (cost + (1 - cosine) / (1 - SAME_FACE)) / 2
        return np.where(known, np.where(cosine < OTHER_FACE, np.inf, both), cost)

    def _elapsed(self, tracks: np.ndarray, row: np.ndarray) -> np.ndarray:
        """(n,) int64: milliseconds since those tracks were last seen, at the frame of that row."""
        ms, frame = self._moments.ms, self._seen.frame
        elapsed: np.ndarray = ms[frame[row]] - ms[frame[self._last[tracks]]]
        return elapsed


def _apart(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n, m): distances."""
    distances: np.ndarray = np.hypot(some[:, None, 0] - others[:, 0], some[:, None, 1] - others[:, 1])
    return distances
