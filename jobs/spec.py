"""The job: what to look at, with which operators, where to keep what they saw."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pinakes.catalog.face_quality import QualityLimits
from pinakes.cluster.placement import Placement
from pinakes.jobs.errors import SpecError
from pinakes.operators.operator import Sampling


class VideoSpec(BaseModel):
    """Which frames of a video are looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample: Sampling = Field(default="1fps", description="1fps, 2fps, keyframes or every-frame")


class FacesSpec(BaseModel):
    """A collection of faces that is loaded with what the job commits."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    collection: str = Field(min_length=1, description="its name; it is made if there is none")
    where: str | None = Field(default=None, description="SQL that a face must meet to be in it")
    milvus: str | None = Field(default=None, description="URI of a Milvus server; Milvus Lite when not given")
    quality: QualityLimits = Field(default=QualityLimits(), description="which faces are too poor to be in it")
    index: dict[str, Any] = Field(default={}, description="type and parameters in Milvus; by size when not given")


class BudgetSpec(BaseModel):
    """What one run may look at, or cost: it stops there, and the next run goes on, with the same budget again.

    Either `usd`, or `images`, `video_minutes` or both. With `images` alone no video is looked at, and the reverse.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    usd: float | None = Field(default=None, gt=0, description="US dollars, by the tariff")
    tariff: str | None = Field(default=None, min_length=1, description="name or file of a tariff; own when not given")
    images: int | None = Field(default=None, ge=1, description="stills, at most")
    video_minutes: float | None = Field(default=None, gt=0, description="minutes of video")

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        units = self.images is not None or self.video_minutes is not None
        if units == (self.usd is not None):
            raise ValueError("give usd, or images, video_minutes or both")
        if self.tariff is not None and units:
            raise ValueError("tariff goes with usd")
        return self


class JobSpec(BaseModel):
    """A job as its YAML file spells it. Only `operators` and `video` can change an answer, and `device` where they
    leave their precision to it; the rest is where and how.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: str = Field(min_length=1, description="fsspec URL, path, glob or manifest")
    catalog: str = Field(min_length=1, description="folder or bucket prefix of the catalogue")
    name: str = Field(default="", description="shown by `pinakes status`; the source when not given")
    operators: dict[str, dict[str, Any]] | None = Field(
        default=None, description="operators and their settings; every one that needs none when not given"
    )
    video: VideoSpec = Field(default=VideoSpec(), description="how videos are looked at")
    faces: FacesSpec | None = Field(default=None, description="the collection that faces are loaded into")
    budget: BudgetSpec | None = Field(default=None, description="where one run stops; at the end of its work if none")
    workers: int | None = Field(default=None, ge=1, description="processes that look; one per free core when not given")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="what models of one's own run on: a GPU if there is one, or what is said here"
    )
    placement: Placement = Field(
        default="auto",
        description="operators on GPUs: together in one process a GPU, or fan-out, each in its own; auto by what fits",
    )
    time_limit_s: float = Field(default=120, gt=0, description="seconds that one operator may take over one picture")
    commit_every_s: float = Field(default=30, gt=0, description="the most work, in seconds, that a kill loses")
    worker_memory_gb: float | None = Field(
        default=None, gt=0, description="memory that one process may take; its share of the node's when not given"
    )
    max_megapixels: float = Field(
        default=300, gt=0, le=1000, description="larger pictures are refused before they are decoded"
    )
    max_megabytes: float = Field(default=512, gt=0, description="larger files are not fetched")

    @field_validator("operators", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        """`[labels, objects]` and `{labels: }` mean the same as `{labels: {}}`."""
        if isinstance(value, Sequence) and not isinstance(value, str):
            return {str(name): {} for name in value}
        if isinstance(value, Mapping):
            return {name: settings or {} for name, settings in value.items()}
        return value

    @property
    def job(self) -> str:
        return self.name or self.source

    @property
    def max_pixels(self) -> int:
        return int(self.max_megapixels * 1e6)

    @property
    def max_bytes(self) -> int:
        return int(self.max_megabytes * 1e6)


def make_spec(**fields: Any) -> JobSpec:
    """A job from its fields. Raises SpecError with one line that says which field is wrong."""
    try:
        return JobSpec.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise SpecError(_first(error)) from None


def read_spec(path: str | Path, **overrides: Any) -> JobSpec:
    """A job from a YAML file; its relative paths are from the file's folder. Raises SpecError."""
    path = Path(path)
    try:
        fields = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise SpecError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise SpecError(f"{path}: a job is a list of `name: value`, at least `source:` and `catalog:`")
    folder = path.parent.resolve()
    for field in ("source", "catalog"):
        _from_folder(fields, field, folder)
    if isinstance(budget := fields.get("budget"), dict) and str(budget.get("tariff")).endswith(".toml"):
        _from_folder(budget, "tariff", folder)
    for settings in fields["operators"].values() if isinstance(fields.get("operators"), dict) else ():
        # A model may also be an id of the hub, a vocabulary one of our own.
        for field in ("model", "vocabulary") if isinstance(settings, dict) else ():
            if (folder / Path(str(settings.get(field) or "/")).expanduser()).exists():
                _from_folder(settings, field, folder)
    fields.update({name: value for name, value in overrides.items() if value is not None})
    try:
        return JobSpec.model_validate(fields)
    except ValidationError as error:
        raise SpecError(f"{path}: {_first(error)}") from None


def _from_folder(fields: dict[str, Any], field: str, folder: Path) -> None:
    """Make a relative path one from that folder."""
    if isinstance(fields.get(field), str) and fields[field] and "://" not in fields[field]:
        fields[field] = str(folder / Path(fields[field]).expanduser())


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {said} (a job has: {', '.join(JobSpec.model_fields)})"
