"""How well faces are told apart: false matches and false non-matches by threshold, and what makes a face too poor.

    python -m tests.benchmarks.face_accuracy [--strangers FOLDER ...] [--film FILE[=NAME,NAME] ...] [--quality]
                                             [--output curve.png] [--json]

Faces are found and compared as in a job with its default settings. Always: the 20 photos of 6 public figures in
PINAKES_EVAL/faces (do all pairs of the same person lie above all others, and which do not?), and strangers: every face
in the photos of PINAKES_EVAL/coco and imagenet, each taken for another person. More strangers in each FOLDER, of which
none may be in another photo, nor be one of the six: what is as alike as the same photo is left out, and told. Of each
FILE, faces followed by their place at 2 frames a second: pairs a second or more apart in one track are one person's.
With names (from left to right, such as biden,obama) they are compared with the photos of the six as well.

Every rate is given for the faces that pass the limits of indexing (catalog/face_quality.py) and for all. Where nothing
was counted, and beside all counts, stands the rate that is not exceeded with 95 % certainty if pairs were independent
(3 / n for none); they share faces, so that it is the least that one should reckon with. FMR beyond the pairs that there
are is extrapolated: above .3 the share of strangers falls exponentially.

`--quality` makes good faces poorer step by step (faces of 120 pixels and more, in the photos of the six and of the
folders) and tells when the same person is no longer found and strangers come near each other.
"""

import argparse
import json
import math
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from pinakes.operators.decode import single_thread
from tests.benchmarks.face_curve import draw
from tests.benchmarks.face_degrading import make_poorer
from tests.benchmarks.face_sources import Face, Reader, evaluation, film, public_figures, strangers

THRESHOLDS = (0.3, 0.363, 0.4, 0.45, 0.5, 0.55, 0.6)

#: From here on the share of strangers is taken to fall exponentially.
TAIL = 0.3

Pair = tuple[Face, Face]


def pairs(faces: Sequence[Face], others: Sequence[Face] | None = None) -> list[Pair]:
    """All pairs that say something.

    A photo with itself says nothing, nor do frames of a film less than a second apart. Two tracks of a film are two
    people where they are seen at once, or have names.
    """
    found = combinations(faces, 2) if others is None else product(faces, others)
    return [pair for pair in found if _says_something(*pair)]


def _says_something(one: Face, other: Face) -> bool:
    if one.who == other.who:
        apart = one.source != other.source or abs(one.ms - other.ms) >= 1000
        return apart and not one.made_from & other.made_from
    return one.source != other.source or one.ms == other.ms or "#" not in one.who + other.who


def similarity(pair: Pair) -> float:
    """Cosine, below 0 said as 0: the scale of every search."""
    return max(0.0, float(pair[0].vector @ pair[1].vector))


def at_most(count: int, of: int) -> float:
    """The rate that gives `count` or fewer of so many with a chance of 5 % (Poisson); 3 / `of` for none."""
    low, high = 0.0, 10.0 + 3 * count
    for _ in range(60):
        mean = (low + high) / 2
        terms = [k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(count + 1)]
        low, high = (mean, high) if sum(map(math.exp, terms)) > 0.05 else (low, mean)
    return min(1.0, high / of)


def rates(name: str, found: Sequence[Pair]) -> dict[str, Any]:
    """Pairs of one person and of two, and how many are on the wrong side of each threshold."""
    same = np.array([similarity(pair) for pair in found if pair[0].who == pair[1].who])
    different = np.array([similarity(pair) for pair in found if pair[0].who != pair[1].who])
    facts: dict[str, Any] = {"data": name}
    for kind, values, wrong in (("same", same, np.less), ("different", different, np.greater_equal)):
        counts = {threshold: int(wrong(values, threshold).sum()) for threshold in THRESHOLDS}
        facts[kind] = {
            "pairs": len(values),
            "lowest": float(values.min()) if len(values) else None,
            "median": float(np.median(values)) if len(values) else None,
            "highest": float(values.max()) if len(values) else None,
            "wrong": counts,
            "at_most": {threshold: at_most(count, len(values)) for threshold, count in counts.items() if len(values)},
        }
    return facts


def extrapolated(different: np.ndarray, threshold: float) -> float:
    """The share of strangers' pairs above a threshold, by the exponential that fits what lies above TAIL."""
    tail = different[different > TAIL]
    if not len(tail):
        return 0.0
    return len(tail) / len(different) * math.exp(-(threshold - TAIL) / float(np.mean(tail - TAIL)))


def confused(figures: Sequence[Face]) -> tuple[str, list[str]]:
    """Whether same-person pairs all lie above different-person pairs, and those that do not."""
    known = sorted(((similarity(pair), pair) for pair in pairs(figures)), key=lambda one: one[0])
    same = [(value, pair) for value, pair in known if pair[0].who == pair[1].who]
    different = [(value, pair) for value, pair in known if pair[0].who != pair[1].who]
    lowest, highest = same[0][0], different[-1][0]
    wrong = [one for one in same if one[0] <= highest] + [one for one in different if one[0] >= lowest]
    verdict = (
        f"{len(same)} pairs of the same person from {lowest:.3f} to {same[-1][0]:.3f}, {len(different)} of different "
        f"ones up to {highest:.3f}: " + ("some overlap" if wrong else "every one above every other")
    )
    return verdict, [f"{value:.3f}  {a.who} {a.source} - {b.who} {b.source}" for value, (a, b) in wrong]


def told(facts: dict[str, Any]) -> str:
    """A data set's rates: for each kind of pair how many are on the wrong side of each threshold."""
    lines = [facts["data"]]
    for kind, word, end in (("same", "below", "lowest"), ("different", "at or above", "highest")):
        one = facts[kind]
        if one["pairs"]:
            lines.append(
                f"  {kind}: {one['pairs']} pairs, median {one['median']:.2f}, {end} {one[end]:.3f}\n"
                f"    {word:12}" + "".join(f"{threshold:9.3g}" for threshold in one["wrong"]) + "\n"
                f"    {'pairs':12}" + "".join(f"{count:9}" for count in one["wrong"].values()) + "\n"
                f"    {'rate':12}" + "".join(f"{count / one['pairs']:9.1e}" for count in one["wrong"].values()) + "\n"
                f"    {'at most':12}" + "".join(f"{rate:9.1e}" for rate in one["at_most"].values())
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strangers", type=Path, nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--film", nargs="*", default=[], metavar="FILE[=NAME,NAME]")
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    single_thread()
    reader = Reader()
    figures = public_figures(reader)
    if arguments.quality:
        make_poorer(reader, figures, arguments.strangers)
        return
    verdict, wrong = confused(figures)
    folders = [evaluation("coco"), evaluation("imagenet"), *arguments.strangers]
    unknown, copies = strangers(reader, folders)
    films = []
    for word in arguments.film or [str(file) for file in sorted(evaluation("video").glob("*.mp4"))]:
        name, _, people = word.partition("=")
        films.append(film(reader, Path(name), people.split(",") if people else []))
    names = ", ".join(folder.name for folder in folders)
    sets: list[tuple[str, list[Pair]]] = [
        ("photos of public figures (PINAKES_EVAL/faces)", pairs(figures)),
        (f"strangers in photos ({names})", pairs(unknown)),
        ("public figures against strangers", pairs(figures, unknown)),
    ]
    known = {face.who for face in figures}
    for one in films:
        if one:
            sets.append((f"film {Path(one[0].source).name}", pairs(one)))
        if {face.who for face in one} & known:
            sets.append((f"film {Path(one[0].source).name} against photos of public figures", pairs(one, figures)))
    report = said(sets, verdict, wrong, copies)
    photographed = [pair for _, found in sets[:3] for pair in passing(found)]
    same = [similarity(pair) for pair in photographed if pair[0].who == pair[1].who]
    filmed = [similarity(pair) for _, found in sets[3:] for pair in passing(found) if pair[0].who == pair[1].who]
    different = np.array([similarity(pair) for pair in photographed if pair[0].who != pair[1].who])
    report["false_matches"] = {
        threshold: {
            "counted": float(np.mean(different >= threshold)),
            "at_most": at_most(int((different >= threshold).sum()), len(different)),
            "extrapolated": extrapolated(different, threshold),
        }
        for threshold in THRESHOLDS
    }
    print(json.dumps(report, indent=1) if arguments.json else in_words(report))
    if arguments.output:
        people = len({face.who for face in unknown if not face.left_out}) + len(known)
        shown = ", ".join(dict.fromkeys(Path(one[0].source).name for one in films if one))
        data = (
            f"same person: {len(same)} pairs of photos (PINAKES_EVAL/faces, {len(known)} people) and {len(filmed)} "
            f"with films ({shown}); strangers: {len(different)} pairs of {people} people ({names}, and those against "
            "PINAKES_EVAL/faces)"
        )
        draw(
            arguments.output,
            same,
            filmed,
            different,
            lambda at: extrapolated(different, at),
            data,
            reader.operator.model,
        )


def passing(found: Sequence[Pair]) -> list[Pair]:
    """The pairs of which both faces would be indexed."""
    return [pair for pair in found if not pair[0].left_out and not pair[1].left_out]


def said(
    sets: Sequence[tuple[str, list[Pair]]], verdict: str, wrong: Sequence[str], copies: Sequence[tuple[float, str, str]]
) -> dict[str, Any]:
    return {
        "evaluation": verdict,
        "not_in_order": list(wrong),
        "taken_for_copies": [f"{value:.2f}  {one} - {other}" for value, one, other in copies],
        "within_limits": [rates(name, passing(found)) for name, found in sets],
        "all_faces": [rates(name, found) for name, found in sets],
    }


def in_words(report: dict[str, Any]) -> str:
    return "\n".join(
        [
            report["evaluation"],
            *report["not_in_order"],
            f"\nleft out as the same photo again: {len(report['taken_for_copies'])}",
            *report["taken_for_copies"],
            "\nfaces within the limits of indexing",
            *map(told, report["within_limits"]),
            "\nall faces",
            *map(told, report["all_faces"]),
            "\nall strangers in photos, within the limits: share at or above; and what that is in a million faces",
            f"  {'':6}{'counted':>10}{'at most':>10}{'extrapolated':>14}",
            *(
                f"  {at:<6.3g}{one['counted']:10.1e}{one['at_most']:10.1e}{one['extrapolated']:14.1e}   "
                f"{one['extrapolated'] * 1e6:.0f} to {one['at_most'] * 1e6:.0f}"
                for at, one in report["false_matches"].items()
            ),
        ]
    )


if __name__ == "__main__":
    main()
