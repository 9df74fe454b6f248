"""An image classifier on a CPU: `labels` beside the loop that the transformers library itself offers.

The same model, ViT-B/32 with random weights and a thousand labels, over the same photos, five labels each:

- `transformers.pipeline("image-classification", model, batch_size=8)` over the files' paths, a process a core; it
  resizes by Pillow where torchvision is not installed;
- the operator in a bare loop in one process: decode, then look, in batches of eight; in float32 as theirs, and in bf16;
- a run of ours, from listing to commit, with a worker a core.

Every process keeps to one thread. On one core they take turns over a few photos at a time. On all of them theirs looks
at one half of the photos before each run and at the other half after it. So a machine with other work to do is about as
slow to the one as to the other, and what counts are the ratios of neighbours: their median, the least and the most; by
CPU they are steadier. The photos are few, so a run's chunks are small: in a larger archive one has up to 64 photos, and
costs less besides its looks. All of it takes about four minutes on two cores.
"""

import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pinakes.jobs.watch import BATCH
from pinakes.operators.decode import decode, single_thread
from pinakes.operators.operator import Picture, create
from pinakes.operators.preprocessing import silent
from tests.benchmarks.measure import Look, Looked, Team, alone, watched

#: Ours is to be at least as quick.
GOAL = 1.0
PHOTOS = 384
#: On one core each looks at so many photos, then it is the next one's turn; and how often.
TURN, TURNS = 2 * BATCH, 8
RUNS = 2
#: The part of a run in which all of its workers look.
MIDDLE = (0.1, 0.9)

LABELS = 1000
#: Of a picture; the library's pipeline gives as many.
BEST = 5

THEIRS, OURS, OURS_BF16, RUN = "transformers.pipeline", "operator, bare loop", "operator, bare loop, bf16", "run"


def make_classifier(folder: Path) -> None:
    """ViT-B/32, saved as anyone's would be."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    names = [f"label {number}" for number in range(LABELS)]
    config = ViTConfig(
        **{"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
        **{"image_size": 224, "patch_size": 32},
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    torch.manual_seed(0)
    with silent():
        ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil().save_pretrained(folder)


def theirs(model: Path) -> Look:
    """For a Team: the library's own loop."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(1)
    with silent():
        classify = pipeline("image-classification", model=str(model), batch_size=BATCH, device="cpu")
    return lambda files: classify([str(file) for file in files])


def ours(settings: dict[str, Any]) -> Look:
    """For a Team: the operator, without a pipeline."""
    single_thread()
    operator = create("labels", settings)
    operator.resolve("cpu")
    operator.load()

    def look(files: list[Path]) -> None:
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            operator.look([Picture(*decode(file.read_bytes(), name=file.name)) for file in batch])

    return look


def report(archive: Path, scratch: Path, workers: int, console: Console) -> dict[str, Any]:
    """Measure, print, and give the figures."""
    model = scratch / "model"
    alone(workers, make_classifier, model)
    settings = {"model": str(model), "min_confidence": 0, "max_labels": BEST}
    bf16 = {**settings, "precision": "bf16"}
    files = sorted(archive.iterdir())
    with (
        Team(workers, theirs, model) as loop,
        Team(workers, ours, settings, processes=1) as bare,
        Team(workers, ours, bf16, processes=1) as bare_bf16,
    ):
        alike = {THEIRS: loop, OURS: bare, OURS_BF16: bare_bf16}
        for team in alike.values():
            team.look(files[: workers * BATCH])  # the first batch of a process takes longer
        one: dict[str, list[Looked]] = {name: [] for name in alike}
        for turn in range(TURNS):
            some = [files[number % len(files)] for number in range(turn * TURN, (turn + 1) * TURN)]
            for name, team in alike.items():
                one[name].append(team.look(some, 1))
        every: dict[str, list[Looked]] = {THEIRS: [], RUN: []}
        for number in range(RUNS):
            options = {"operators": {"labels": settings}, "workers": workers, "device": "cpu"}
            before = loop.look(files[::2])
            every[RUN].append(alone(workers, run_of_ours, archive, scratch / f"catalog-{number}", options))
            after = loop.look(files[1::2])
            both = Looked(len(files), before.seconds + after.seconds, before.cpu_s + after.cpu_s)
            every[THEIRS].append(both)
    return {
        "goal": GOAL,
        "workers": workers,
        "one core": _table(console, "one core", one),
        "all cores": _table(console, f"{workers} cores, {len(files)} photos", every),
    }


def run_of_ours(archive: Path, catalog: Path, options: dict[str, Any]) -> Looked:
    """The middle of a run."""
    return watched(MIDDLE, archive, catalog, **options)[1]


def _table(console: Console, title: str, taken: dict[str, list[Looked]]) -> dict[str, Any]:
    """Print what each took, and how many times as quick as theirs it was: look by look."""
    title = f"{title}; times as quick as theirs, least to most, goal {GOAL}"
    table = Table("", "photos/s", "CPU ms a photo", "by wall time", "by CPU", title=title, title_justify="left")
    figures: dict[str, Any] = {}
    for name, looks in taken.items():
        pairs = list(zip(looks, taken[THEIRS], strict=True))
        figures[name] = {
            "per_s": [look.per_s for look in looks],
            "cpu_ms": [look.cpu_ms for look in looks],
            "times_theirs_by_wall": [look.per_s / other.per_s for look, other in pairs],
            "times_theirs_by_cpu": [other.cpu_ms / look.cpu_ms for look, other in pairs],
        }
        middle = {key: statistics.median(values) for key, values in figures[name].items()}
        ratios = [
            f"{middle[key]:.2f} ({min(figures[name][key]):.2f} to {max(figures[name][key]):.2f})"
            for key in ("times_theirs_by_wall", "times_theirs_by_cpu")
        ]
        table.add_row(
            name, f"{middle['per_s']:.1f}", f"{middle['cpu_ms']:.1f}", *(ratios if name != THEIRS else ("", ""))
        )
    console.print(table)
    return figures
