"""The faces of a photo that is asked with, in a search or beside another photo: as a run would find them.

The photo is decoded and looked at as in a run, so a photo that is in an archive has there, at the same place, a face
whose similarity with its own is 1 but for rounding. Its faces' ids are made from its content: the same bytes have the
same ids, whatever the file is called and wherever it lies. They are other ids than in a catalogue, where they are made
from the item's uri and version.

Importing this is quick. The first question opens the models, which takes about a second, and keeps them open (some
100 MB) for the next ones of this process.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pinakes.jobs.errors import SpecError

if TYPE_CHECKING:
    import numpy as np

    from pinakes.operators.operator import Operator, Picture

Report = Callable[[str], None]

#: By model, the operator that makes its vectors, open.
_open: dict[str, "Operator"] = {}


@dataclass(frozen=True, eq=False)
class QueryFace:
    """A face of a photo that is asked with. `box` is in ratios of the upright picture."""

    uri: str
    content_id: str  # a hash of the file, as in the catalogue
    frame_ms: int | None  # of a frame of a video
    face_id: str  # 32 hex digits, from the content; see above
    box: Mapping[str, float]  # left, top, width, height
    confidence: float  # the detector's score, 0 to 1
    pose: Mapping[str, float] | None  # roll, yaw, pitch in degrees; None where the operator does not say it
    quality: Mapping[str, float] | None  # brightness, sharpness, 0 to 1; likewise
    vector: "np.ndarray"  # (128,) float32 of length 1; other models have other lengths
    media_width: int  # pixels, of the original turned upright
    media_height: int

    @property
    def described(self) -> dict[str, Any]:
        """What the quality filter asks of a face."""
        names = ("box", "confidence", "pose", "quality", "media_width", "media_height")
        return {name: getattr(self, name) for name in names}

    def as_dict(self) -> dict[str, Any]:
        """For a script, without the vector."""
        names = ("face_id", "box", "confidence", "pose", "quality")
        frame = {} if self.frame_ms is None else {"frame_ms": self.frame_ms}
        return {**frame, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, eq=False)
class Compared:
    """A face of the second photo, and how like the first photo's it is, 0 to 1; None where that has no face."""

    face: QueryFace
    similarity: float | None

    def as_dict(self) -> dict[str, Any]:
        return {"similarity": self.similarity, **self.face.as_dict()}


@dataclass(frozen=True, eq=False)
class Comparison:
    """The largest face of one photo against every face of another, the most alike first."""

    source: str
    target: str
    threshold: float
    source_face: QueryFace | None  # None: there is no face in the first photo
    source_faces: int  # faces in it, of which that is the largest
    matches: tuple[Compared, ...]  # of at least that similarity
    unmatched: tuple[Compared, ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it for a script, without vectors."""
        return {
            "source": self.source,
            "target": self.target,
            "threshold": self.threshold,
            "source_face": self.source_face and self.source_face.as_dict(),
            "source_faces": self.source_faces,
            "matches": [one.as_dict() for one in self.matches],
            "unmatched": [one.as_dict() for one in self.unmatched],
        }


def faces_in(
    url: str, model: str, report: Report = lambda message: None, *, at_ms: int | None = None
) -> list[QueryFace]:
    """The faces of a photo, anywhere fsspec reaches, with their vectors, the largest first; none is an empty list.

    `model` is that of the vectors that they are to be compared with, as in `embeddings`. Of a video `at_ms` says which
    frame. Models that lack are fetched, and `report` is told.

    Raises SpecError when no operator here makes vectors of that model, or for a video without a time; MediaError when
    the photo cannot be fetched or decoded; SourceError, ModelError, ConfigError.
    """
    from pinakes.jobs.listing import source_url

    operator = _opened(model, report)
    url = source_url(url)
    picture = _picture(url, at_ms)
    rows = operator.look([picture])
    vectors = {row["subject_id"]: row["vector"] for row in rows["embeddings"].to_pylist() if row["subject"] == "face"}
    found = [
        _face(url, picture, row, vectors[row["face_id"]])
        for row in rows["faces"].to_pylist()
        if row["face_id"] in vectors
    ]
    # All boxes are ratios of one picture, so that the largest has the largest product; ties as they came.
    return sorted(found, key=lambda face: -face.box["width"] * face.box["height"])


def compare(
    source: str, target: str, model: str, threshold: float, report: Report = lambda message: None
) -> Comparison:
    """The largest face of one photo against every face of another.

    A match has at least the similarity `threshold`. Raises what `faces_in` raises.
    """
    asked, others = (faces_in(url, model, report) for url in (source, target))
    face = asked[0] if asked else None
    compared = [Compared(other, None if face is None else similarity(face.vector, other.vector)) for other in others]
    compared.sort(key=lambda one: -(one.similarity or 0))
    matches = [one for one in compared if one.similarity is not None and one.similarity >= threshold]
    from pinakes.jobs.listing import source_url

    return Comparison(
        source=source_url(source),
        target=source_url(target),
        threshold=threshold,
        source_face=face,
        source_faces=len(asked),
        matches=tuple(matches),
        unmatched=tuple(compared[len(matches) :]),
    )


def similarity(one: "np.ndarray", other: "np.ndarray") -> float:
    """How like two vectors of length 1 are: their cosine, and 0 where that is less."""
    return min(max(float(one @ other), 0.0), 1.0)


def makers() -> dict[str, str]:
    """The models whose vectors of faces this installation makes with its settings' defaults; by model the operator."""
    from pinakes.operators.operator import by_default, create

    operators = [create(name) for name in by_default()]
    return {
        one.model: one.name
        for one in operators
        if {"faces", "embeddings"} <= set(one.tables) and "image" in one.media_types and one.sees == "pictures"
    }


def _opened(model: str, report: Report) -> "Operator":
    """The operator that makes vectors of that model, with its models open. Raises SpecError, ModelError."""
    from pinakes.jobs.show import load
    from pinakes.operators.operator import create

    if model not in _open:
        known = makers()
        if model not in known:
            there = ", ".join(sorted(known)) or "none"
            raise SpecError(
                f"the vectors are of the model {model}, which this installation does not make (it has: {there})"
            )
        operator = create(known[model])
        load([operator], report)
        _open[model] = operator
    return _open[model]


def _picture(url: str, at_ms: int | None) -> "Picture":
    """As a run decodes it, its content's hash for its key."""
    from hashlib import blake2b

    from pinakes.jobs.show import LIMITS, fetched
    from pinakes.jobs.stills import is_video
    from pinakes.operators.decode import decode, single_thread
    from pinakes.operators.operator import Picture

    single_thread()
    if is_video(url):
        return _frame(url, at_ms)
    if at_ms is not None:
        raise SpecError(f"{url} is one picture: a time chooses a frame of a video")
    data = fetched(url)
    pixels, facts = decode(data, name=url, max_pixels=LIMITS.max_pixels)
    return Picture(pixels, facts, item_key=blake2b(data, digest_size=16).hexdigest())


def _frame(url: str, at_ms: int | None) -> "Picture":
    from pinakes.jobs.fetch import opened
    from pinakes.jobs.show import LIMITS
    from pinakes.jobs.stills import clock, frame_at, length_ms, opened_video
    from pinakes.jobs.watch import video_content_id
    from pinakes.operators.operator import Picture

    if at_ms is None:
        raise SpecError(f"{url} is a video: say at which time its frame is the photo")
    with opened_video(url, LIMITS.max_pixels) as video:
        if at_ms > (length := length_ms(video)):
            raise SpecError(f"{url} is {clock(length)} long: there is no frame at {clock(at_ms)}")
        frame = frame_at(video, at_ms)
        with opened(url) as (source, size):
            key = video_content_id(source, size)
        assert frame.pixels is not None
        return Picture(frame.pixels, video.facts, item_key=key, frame_ms=frame.frame_ms)


def _face(url: str, picture: "Picture", row: Mapping[str, Any], vector: list[float]) -> QueryFace:
    import numpy as np

    return QueryFace(
        uri=url,
        content_id=picture.item_key,
        frame_ms=picture.frame_ms,
        face_id=row["face_id"],
        box=row["box"],
        confidence=row["confidence"],
        pose=row.get("pose"),
        quality=row.get("quality"),
        vector=np.asarray(vector, np.float32),
        media_width=picture.facts.width,
        media_height=picture.facts.height,
    )
