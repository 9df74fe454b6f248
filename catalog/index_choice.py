"""Which index Milvus makes of a collection, with which parameters, and why; and what it takes in memory.

The figures are of tests/benchmarks/faces.py, on vectors drawn like those of real faces.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Faces above which Milvus Lite stops being sensible: it goes through every row at every search, which takes 0.1 s at
#: that many (0.3 s beside much other work), and a gigabyte of memory.
LITE_LIMIT = 100_000

#: Of each type: the words of its building, and of a search in it, with least and most where Milvus has such.
_BUILD: dict[str, dict[str, tuple[int, int] | tuple[str, ...]]] = {
    "FLAT": {},
    "IVF_FLAT": {"nlist": (1, 65_536)},
    "IVF_SQ8": {"nlist": (1, 65_536)},
    "HNSW": {"M": (2, 2048), "efConstruction": (1, 32_768)},
    "HNSW_SQ": {"M": (2, 2048), "efConstruction": (1, 32_768), "sq_type": ("SQ6", "SQ8", "BF16", "FP16")},
    "DISKANN": {},
}
_SEARCH: dict[str, dict[str, tuple[int, int]]] = {
    "FLAT": {},
    "IVF_FLAT": {"nprobe": (1, 65_536)},
    "IVF_SQ8": {"nprobe": (1, 65_536)},
    "HNSW": {"ef": (1, 32_768)},
    "HNSW_SQ": {"ef": (1, 32_768)},
    "DISKANN": {"search_list": (1, 65_535)},
}
#: What Milvus Lite 3 has.
_LITE = ("FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW", "HNSW_SQ")

#: What is not said in the settings. A server 2.3 takes M from 4 to 64, and efConstruction up to 512.
_HNSW_BUILD = {"M": 32, "efConstruction": 200}
#: Up to so many faces, and above. Of the ten nearest (128 dimensions, the M above) a search finds .990 of 100,000 with
#: an ef of 256; of 1,000,000 .945 with 256, .976 with 512, .987 with 768, .990 with 1024. Of those that are the person
#: looked for, it finds .997 and more with any of these. A larger ef costs time only.
_EF = ((100_000, 256), (None, 1024))
_NLIST = 4096
_NPROBE = 256
_SEARCH_LIST = 256


@dataclass(frozen=True)
class Index:
    """An index of Milvus: its type, the parameters of its building and of a search in it, and why it is that."""

    type: str
    build: dict[str, Any]
    search: dict[str, Any]
    why: str


def choose(faces: int, dimensions: int, lite: bool, settings: Mapping[str, Any] | None = None) -> Index:
    """The index for so many faces, in Milvus Lite or on a server. `settings` name another, and any of its parameters.

    `search` depends on the number too, and may be chosen anew as a collection grows: the index stays as it was built.
    The settings are as in {"type": "HNSW", "M": 48, "ef": 300}; what they do not say is as usual. Raises ValueError,
    with what there is, for a type or a parameter that there is not.
    """
    if settings:
        return _chosen_by_hand(dict(settings), lite, _ef(faces))
    if lite:
        why = "exact; of 100,000 faces an HNSW index in Milvus Lite missed 1 in 20, for a quarter less time"
        if faces > LITE_LIMIT:
            why += (
                f". {faces:,} faces are many for Milvus Lite, which looks at each of them for every search: with more "
                f"than {LITE_LIMIT:,} a search takes a tenth of a second and longer; use a Milvus server"
            )
        return Index("FLAT", {}, {}, why)
    index = Index("HNSW", dict(_HNSW_BUILD), {"ef": _ef(faces)}, "")
    memory = _size(faces * bytes_per_vector(index, dimensions))
    why = f"quick, and misses few; takes about {memory} of the server's memory for {faces:,} faces"
    return Index(index.type, index.build, index.search, why)


def bytes_per_vector(index: Index, dimensions: int) -> float:
    """Bytes of a server's memory that the index takes for a vector; the columns beside it are more.

    Computed from how the index is laid out: numbers of 4 bytes, or of 1 where they are quantised; an HNSW graph has 2 M
    links of 4 bytes on its ground floor, and 1 of M vectors is on a higher one with M links each; an id of 8 bytes, or
    where it lies. DISKANN keeps codes of an eighth and a cache of a tenth of the vectors in memory, the rest on disk.
    """
    numbers = 4.0 * dimensions
    if index.type in ("IVF_SQ8", "HNSW_SQ"):
        numbers *= {"SQ6": 6 / 32, "BF16": 0.5, "FP16": 0.5}.get(index.build.get("sq_type", ""), 0.25)
    if index.type.startswith("HNSW"):
        links = int(index.build.get("M", _HNSW_BUILD["M"]))
        return numbers + 4 * (2 * links + 1) + 4 * (links + 1) / (links - 1) + 16
    if index.type == "DISKANN":
        return numbers * (0.125 + 0.1)
    return numbers + (8 if index.type.startswith("IVF") else 0)


def _ef(faces: int) -> int:
    return next(ef for most, ef in _EF if most is None or faces <= most)


def _chosen_by_hand(settings: dict[str, Any], lite: bool, ef: int) -> Index:
    there = _LITE if lite else tuple(_BUILD)
    name = str(settings.pop("type", "FLAT" if lite else "HNSW")).upper()
    if name not in there:
        raise ValueError(f"no index {name!r}{' in Milvus Lite' if lite else ''}; there are: {', '.join(there)}")
    known = {**_BUILD[name], **_SEARCH[name]}
    for word, value in settings.items():
        if word not in known:
            raise ValueError(f"an index {name} has no parameter {word!r}; it has: {', '.join(known) or 'none'}")
        _check(name, word, value, known[word])
    usual: dict[str, Any] = {"nlist": _NLIST, "nprobe": _NPROBE, "ef": ef, "search_list": _SEARCH_LIST, **_HNSW_BUILD}
    usual["sq_type"] = "SQ8"
    given = {word: settings.get(word, usual[word]) for word in known}
    build = {word: value for word, value in given.items() if word in _BUILD[name]}
    search = {word: value for word, value in given.items() if word in _SEARCH[name]}
    return Index(name, build, search, "chosen in the settings")


def _check(name: str, word: str, value: Any, allowed: tuple[int, int] | tuple[str, ...]) -> None:
    first, *_, last = allowed
    if isinstance(first, str):
        if value not in allowed:
            raise ValueError(f"{word} of an index {name} is one of {', '.join(map(str, allowed))}, not {value!r}")
    elif not isinstance(value, int) or isinstance(value, bool) or not first <= value <= int(last):
        raise ValueError(f"{word} of an index {name} is a whole number from {first} to {last}, not {value!r}")


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
