"""What a photo costs: milliseconds of CPU for decoding and for each operator, one thread, no Ray, no tables.

    python -m tests.benchmarks.operators [FOLDER ...] [--photos 400] [--passes 3] [NAME NAME={"setting": value} ...]

NAME is an operator, with settings as JSON where they are not to be its own; every operator when none is named. The
photos are those of pipeline.py. Each pass shows every photo to every operator, in batches of the size that a run has;
of the passes, the least counts, since whatever else a machine has to do only adds. What `faces` and `text` cost depends
on how many there are of them, so the share of photos with results is told as well, and the results per photo that has
any.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np

from pinakes.jobs.watch import BATCH
from pinakes.operators.decode import decode, single_thread
from pinakes.operators.operator import Operator, Picture, available, create
from tests.benchmarks.photos import folders, for_photos, machine, make_archive

#: Photos that are looked at before the clock runs: graphs of open size are compiled, memory is taken.
WARM_UP = 2 * BATCH


def chosen(word: str) -> tuple[str, Operator]:
    """An operator of `NAME` or `NAME=JSON`, its models open, under the word itself."""
    name, _, settings = word.partition("=")
    operator = create(name, json.loads(settings) if settings else None)
    operator.load()
    return word, operator


def one_pass(files: list[Path], operators: dict[str, Operator], found: dict[str, list[int]]) -> Counter[str]:
    """CPU seconds by operator, and of `decode`; `found` takes the number of results of each photo."""
    spent: Counter[str] = Counter()
    for start in range(0, len(files), BATCH):
        data = [file.read_bytes() for file in files[start : start + BATCH]]
        began = time.process_time()
        decoded = [decode(one) for one in data]
        spent["decode"] += time.process_time() - began
        pictures = [
            Picture(pixels, facts, item_key=f"{number:032x}") for number, (pixels, facts) in enumerate(decoded, start)
        ]
        for word, operator in operators.items():
            began = time.process_time()
            results = operator.look(pictures)
            spent[word] += time.process_time() - began
            rows = results[next(iter(operator.tables))]["picture"].to_numpy()
            found.setdefault(word, []).extend(np.bincount(rows, minlength=len(pictures)).tolist())
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="FOLDER or NAME[=JSON]")
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--passes", type=int, default=3)
    arguments = parser.parse_intermixed_args()  # folders may stand behind options
    named = [word for word in arguments.words if word.partition("=")[0] in available()]
    sources = folders([Path(word) for word in arguments.words if word not in named])
    single_thread()
    operators = dict(chosen(word) for word in named or ["media", *for_photos()])
    print(f"{machine()}; OpenVINO {version('openvino')}")
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "archive"
        print(f"{make_archive(sources, arguments.photos, archive)}; from {', '.join(map(str, sources))}")
        files = sorted(archive.iterdir())
        one_pass(files[:WARM_UP], operators, {})
        found: dict[str, list[int]] = {}
        passes = [one_pass(files, operators, found) for _ in range(arguments.passes)]
    print(f"\n{'':16}  ms of CPU a photo  by pass{'':{8 * arguments.passes - 5}}photos with results  results in each")
    least = 0.0
    for word in ("decode", *operators):
        each = [1000 * one[word] / len(files) for one in passes]
        least += min(each)
        counts = found.get(word, [])[: len(files)]
        some = [count for count in counts if count]
        share = f"{len(some) / len(counts):19.0%}  {sum(some) / max(len(some), 1):15.1f}" if counts else ""
        print(f"{word:16}  {min(each):17.2f}  {' '.join(f'{one:7.2f}' for one in each)}   {share}")
    print(f"{'together':16}  {least:17.2f}")
    for word, operator in operators.items():
        print(f"{word}: {operator.model}, {operator.config.model_dump_json()}")


if __name__ == "__main__":
    main()
