"""What an operator is: its settings, its models, the tables it fills, `load`, and a pure `look`.

An operator is one file in this folder, or in anyone's package, and one line under the entry-point group
`pinakes.operators`. It imports neither the pipeline nor the catalogue.
"""

import hashlib
import json
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from pinakes.operators import models
from pinakes.operators.errors import ConfigError

ENTRY_POINTS = "pinakes.operators"

#: The rule by which bytes become the canonical picture; part of every fingerprint. See decode.py.
DECODE_RULE = "dct-area-960/2"

#: The rule by which a frame of a video becomes the canonical picture; part of every fingerprint for videos. See
#: video.py.
FRAME_RULE = "area-960/1"


def described(name: str, kind: pa.DataType, description: str) -> pa.Field:
    """A column of a table, whose metadata says what it means and in which unit."""
    return pa.field(name, kind, metadata={"description": description})


#: A box as ratios of the upright picture, the origin at its top left.
BOX = pa.struct(
    [
        pa.field("left", pa.float32(), nullable=False),
        pa.field("top", pa.float32(), nullable=False),
        pa.field("width", pa.float32(), nullable=False),
        pa.field("height", pa.float32(), nullable=False),
    ]
)

#: A point as ratios of the upright picture.
POINT = pa.struct([pa.field("x", pa.float32(), nullable=False), pa.field("y", pa.float32(), nullable=False)])

#: The columns of the table `embeddings`, which every operator that makes vectors fills.
EMBEDDINGS = pa.schema(
    [
        pa.field("subject", pa.string(), nullable=False, metadata={"description": "what it is of: face or image"}),
        pa.field(
            "subject_id", pa.string(), nullable=False, metadata={"description": "face_id of a face, else item_key"}
        ),
        pa.field(
            "vector",
            pa.list_(pa.float32()),
            nullable=False,
            metadata={"description": "of length 1; compare by cosine, and only with vectors of the same model"},
        ),
    ],
    metadata={"description": "a vector of a face, or of a picture as a whole"},
)

#: The first column of every table that `look` returns: the picture's position in the batch.
PICTURE = pa.field("picture", pa.int32(), nullable=False)


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What the container says of an item, before any pixel is decoded. Sizes are of the upright picture, in pixels."""

    media_type: str  # "image" or "video"
    format: str  # by content: jpeg, png, mp4, ...
    width: int
    height: int
    orientation: int  # EXIF, 1..8; of a video, what its rotation would be as one
    size: int  # bytes
    captured_at: datetime | None = None  # by the camera's clock; taken for UTC unless the file says its offset
    duration_ms: int | None = None  # of a video, where its container says it
    fps: float | None = None  # mean frames a second of a video
    codec: str | None = None  # of a video


@dataclass(frozen=True, slots=True)
class Picture:
    """The canonical picture of an item or of one frame: what every operator derives its own input from.

    `pixels` is (height, width, 3) uint8 RGB, upright; its long side is at least 960 where the original's is, and
    under 1920 (see decode.py). Never written to: all operators of an item share it.
    """

    pixels: np.ndarray
    facts: MediaFacts
    item_key: str = ""  # 32 hex digits over the item's uri and version: what ids of things seen in it are made from
    etag: str | None = None
    mtime: datetime | None = None
    frame_ms: int | None = None  # of a frame of a video
    keyframe: bool | None = None
    sampling: str | None = None  # by which the frame was chosen


@dataclass(frozen=True, slots=True)
class Footage:
    """Every frame of a window of a video, small, and those around it that an operator needs as context.

    All arrays have one entry a frame, in the order of presentation. `own` are the window's frames, from the first to
    before the last of that range; the others are context.
    """

    frame_ms: np.ndarray  # (n,) int64: presentation time in milliseconds
    thumbnails: np.ndarray  # (n, 27, 48, 3) uint8 RGB, not turned upright
    dark: np.ndarray  # (n,) float32: share of the pixels that are black, 0 to 1
    own: range


@dataclass(frozen=True, slots=True)
class WholeVideo:
    """A video whose windows have all been looked at: what `Operator.finish` makes its rows of."""

    item_key: str
    facts: MediaFacts
    frame_ms: np.ndarray  # (n,) int64: the sampled frames' times, ascending
    sampling: str  # 1fps, 2fps, keyframes or every-frame
    #: By table what was found in it, by this operator and those that it follows, ordered by window and time. The
    #: columns are an operator's own, and `frame_ms`, `window_start_ms` and `operator`.
    rows: Mapping[str, pa.Table]


#: Per table, the rows found: the operator's own columns behind PICTURE.
Results = Mapping[str, pa.Table]

#: Which frames of a video are looked at. At N a second: of every multiple of 1/N the first frame at or after it.
Sampling = Literal["1fps", "2fps", "keyframes", "every-frame"]

#: What models run on, where an operator has the choice.
Device = Literal["cpu", "cuda"]


class OperatorConfig(BaseModel):
    """Settings that can change an answer; all of them are part of the fingerprint."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Operator(ABC):
    """Looks at canonical pictures. A subclass sets the class variables and writes `look`, and `load` if it has a model.

    In the driver of a job it is made, `resolve`d (then its fingerprint is known) and, when there is work, told to
    `fetch`; so it travels, pickled, to the processes that look, where it is `load`ed. Raises from `look` cost the
    picture that caused them, for this operator alone.
    """

    name: ClassVar[str]
    #: Raise it when the code changes an answer: every item is then looked at again, by this operator only.
    version: ClassVar[int] = 1
    #: The tables it fills and the columns it adds to the shared ones.
    tables: ClassVar[Mapping[str, pa.Schema]]
    #: What it is for: an item of another kind is none of its business.
    media_types: ClassVar[tuple[str, ...]] = ("image", "video")
    #: What it is shown of a video: the sampled frames, as pictures; or `watch` is shown every frame, small; or what the
    #: container says, as a picture without pixels; or nothing, and `finish` makes its rows of those of others.
    sees: ClassVar[Literal["pictures", "every frame", "container", "rows"]] = "pictures"
    #: Frames before and after a window that `watch` needs.
    context_frames: ClassVar[int] = 0
    #: The tables that `finish` fills, once a video, and the columns it adds to the shared ones.
    video_tables: ClassVar[Mapping[str, pa.Schema]] = {}
    #: Operators whose rows `finish` reads beside its own, as far as they are part of the job.
    follows: ClassVar[tuple[str, ...]] = ()
    Config: ClassVar[type[OperatorConfig]] = OperatorConfig

    def __init__(self, config: OperatorConfig | None = None) -> None:
        self.config = config if config is not None else self.Config()

    @classmethod
    def for_settings(cls, settings: Mapping[str, Any]) -> "type[Operator]":
        """The class that looks with those settings: another one where a setting names another kind of model.

        Or where this machine has what runs the same model on a GPU too.
        """
        return cls

    def model_names(self) -> tuple[str, ...]:
        """The entries of the model registry that it needs, by name."""
        return ()

    def digests(self) -> list[str]:
        """Hashes of the models and word lists that its answers come from."""
        return [models.entry(name).digest for name in self.model_names()]

    def settings(self) -> dict[str, Any]:
        """The settings that can change an answer."""
        return self.config.model_dump(mode="json")

    def resolve(self, device: Device, report: models.Report = lambda line: None) -> None:  # noqa: B027 - few have to
        """Find what the settings name, and settle what depends on the device that the job runs on.

        Raises ModelError, ConfigError.
        """

    def fetch(self, device: Device, report: models.Report = lambda line: None) -> None:
        """Bring onto this machine, and work out, all that `load` needs; `device` may be used for it. ModelError."""
        models.pull_all([name for name in self.model_names() if not models.is_here(name)], report)

    def folders(self) -> Mapping[str, Mapping[str, Path]]:
        """What `fetch` left that other machines cannot fetch themselves: by a folder's name in the cache, its files."""
        return {}

    def remarks(self) -> list[str]:
        """What one should know before a run with these settings, a line each."""
        return []

    @property
    def model(self) -> str:
        """What the tables say looked: the model's name, or the operator's and its version."""
        return "+".join(self.model_names()) or f"{self.name}-{self.version}"

    def load(self) -> None:  # noqa: B027 - not every operator has something to load
        """Open the models. Called once in each process that looks."""

    def look(self, pictures: Sequence[Picture]) -> Results:
        """Results for a batch; those of one picture depend on that picture and the settings alone."""
        raise NotImplementedError(f"the operator {self.name} does not look at pictures")

    def watch(self, footage: Footage) -> Results:
        """Results for a window of a video; `picture` of a row is the frame's position in the footage."""
        raise NotImplementedError(f"the operator {self.name} does not watch footage")

    def finish(self, video: WholeVideo) -> Mapping[str, pa.Table]:
        """Of a video as a whole: rows for `video_tables`, of their columns alone. Of those rows alone, and pure."""
        return {}

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over all that can change an answer: code version, settings, weights, the decode rule."""
        parts = {
            "operator": self.name,
            "version": self.version,
            "settings": self.settings(),
            "weights": self.digests(),
            "decode": DECODE_RULE,
        }
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()

    def video_fingerprint(self, sampling: str, others: Mapping[str, "Operator"]) -> str:
        """The same for videos that are sampled so, in a job with those operators."""
        if self.sees == "container":
            return self.fingerprint
        parts = {
            "stills": self.fingerprint,
            "frames": FRAME_RULE,
            # What sees every frame answers alike, but a video with every frame in the sample is cut otherwise.
            "sampling": sampling == "every-frame" if self.sees == "every frame" else sampling,
            "follows": [others[name].video_fingerprint(sampling, others) for name in self.follows if name in others],
        }
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


@cache
def available() -> Mapping[str, Any]:
    """Every operator on this machine: its name and its entry point."""
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def by_default() -> list[str]:
    """The operators of a job that names none: those whose settings all have defaults."""
    return [
        name
        for name in sorted(available())
        if not any(field.is_required() for field in available()[name].load().Config.model_fields.values())
    ]


def create(name: str, settings: Mapping[str, Any] | None = None) -> Operator:
    """The operator of that name with those settings, its models not yet loaded.

    Raises ConfigError for an unknown operator, an unknown setting or a value out of range.
    """
    if name not in available():
        raise ConfigError(f"there is no operator {name!r}; there are: {', '.join(sorted(available()))}")
    operator_class: type[Operator] = available()[name].load().for_settings(settings or {})
    try:
        return operator_class(operator_class.Config.model_validate(dict(settings or {})))
    except ValidationError as error:
        known = ", ".join(operator_class.Config.model_fields) or "none"
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise ConfigError(f"operator {name}: {where}: {first['msg']} (its settings: {known})") from None
