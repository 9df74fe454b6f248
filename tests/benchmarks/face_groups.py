"""How well and how fast faces are put into groups: pairwise precision and recall, by threshold.

    python -m tests.benchmarks.face_groups [--vectors 10000] [--thresholds .45,.5,.55]

Once on the photos of PINAKES_EVAL/faces, if it is there (every face of the public figures; who else is in them is left
out), and once on so many drawn faces (identities.py), where two of five people have two faces or more. Precision: of
the pairs in one group, the share that is one person's; recall: of the pairs of one person, the share in one group.
"""

import argparse
import os
import time

import numpy as np

from pinakes.catalog.grouping import group, pairwise
from pinakes.operators.decode import single_thread
from tests.benchmarks.face_sources import Reader, public_figures
from tests.benchmarks.identities import People


def measure(vectors: np.ndarray, truth: np.ndarray, thresholds: list[float]) -> None:
    """A line for each threshold."""
    for threshold in thresholds:
        began = time.perf_counter()
        groups = group(vectors, threshold)
        seconds = time.perf_counter() - began
        precision, recall = pairwise(groups, truth)
        print(
            f"  from {threshold:g} on: precision {precision:.4f}, recall {recall:.4f}, {groups.max() + 1:,} groups of "
            f"{len(np.unique(truth)):,} people, {seconds:.1f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=10_000)
    parser.add_argument("--thresholds", default=".45,.5,.55,.6")
    asked = parser.parse_args()
    thresholds = [float(text) for text in asked.thresholds.split(",")]
    if os.environ.get("PINAKES_EVAL"):
        single_thread()
        faces = public_figures(Reader())
        print(f"PINAKES_EVAL/faces: {len(faces)} faces")
        _, truth = np.unique([face.who for face in faces], return_inverse=True)
        measure(np.stack([face.vector for face in faces]), truth, thresholds)
    random = np.random.default_rng(0)
    vectors, owners = People.draw(asked.vectors, 128, random).faces(random)
    print(f"{asked.vectors:,} drawn faces of 128 numbers")
    measure(vectors, owners, thresholds)


if __name__ == "__main__":
    main()
