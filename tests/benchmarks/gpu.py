"""Models of one's own: how near a run comes to what its GPU and its CPUs could do; on a CPU, beside the library's loop.

    python -m tests.benchmarks.gpu [FOLDER ...] [--photos N] [--device cuda|cpu] [--workers N] [--json FILE]

Models have random weights, which take as long as any others, so nothing is fetched. FOLDER holds photos; see photos.py.
With `--device cpu`, the default where torch has no GPU, it is transformers_loop.py that measures. With a GPU, for the
operator `embeddings` and CLIP at the sizes of ViT-B/32 and ViT-L/14:

1. the forward pass alone in bf16, at its best batch, inputs on the GPU already; and the operator's `infer` of inputs in
   memory, 256 at a time as a run gives them to it: carried there, looked at, vectors carried back;
2. decoding alone, on all cores, no model; and decoding with `prepare`, which is what a run leaves to the CPUs;
3. a run, from listing to commit, of its own number of workers. Its speed is taken between a third and nine tenths of
   the photos: while it starts, workers prepare thousands of photos before the GPU's process has opened its model. The
   run's own figure, from the first photos to the last commit, stands beside it.

Each in processes of its own. A run is to reach 0.90 of the smaller of the two limits. It is given as many photos as the
smaller limit takes RUN_S for, unless `--photos` says how many: a few hundred files under several names each.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pinakes.cluster.connection import available_cores
from pinakes.jobs.running import LARGE_PIECE
from pinakes.operators.decode import decode, single_thread
from pinakes.operators.device import LARGEST_BATCH, DeviceOperator, Origin, best_batch
from pinakes.operators.operator import MediaFacts, Picture, available, create
from pinakes.operators.preprocessing import silent
from tests.benchmarks import transformers_loop
from tests.benchmarks.measure import Look, Looked, Team, alone, watched
from tests.benchmarks.photos import folders, link, machine, make_archive

GOAL = 0.90
PACKAGES = ("torch", "torchvision", "transformers", "ray")
#: Different files behind the names.
FILES = 400
#: How long a forward pass, or decoding, is repeated, and how long a run is to take.
FEW_S, RUN_S = 3, 20
#: Of a run's photos, from when to when its speed counts.
MIDDLE = (1 / 3, 0.9)
#: A run of this length commits as often beside its work as a long one does.
COMMIT_EVERY_S = 5
POLL_S = 0.1

#: The vision towers of openai/clip-vit-base-patch32 and openai/clip-vit-large-patch14.
SIZES: dict[str, dict[str, int]] = {
    "ViT-B/32": {
        **{"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
        **{"image_size": 224, "patch_size": 32, "projection_dim": 512},
    },
    "ViT-L/14": {
        **{"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
        **{"image_size": 224, "patch_size": 14, "projection_dim": 768},
    },
}


def make_clip(name: str, folder: Path) -> None:
    """A model of that size, saved as anyone's would be. Its tower for text, which is not used, is tiny."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    vision = SIZES[name]
    text = {"vocab_size": 514, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 4, "projection_dim": vision["projection_dim"]}
    text |= {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=vision["projection_dim"])
    torch.manual_seed(0)
    with silent():
        CLIPModel(config).to(torch.bfloat16).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)


def forward(folder: Path) -> tuple[float, int]:
    """Inputs a second of the forward pass alone, and the batch that gives most."""
    import torch
    from transformers import AutoModel

    with silent():
        network = AutoModel.from_pretrained(folder, dtype=torch.bfloat16).eval().to("cuda")
    side = network.config.vision_config.image_size
    # Not zeros: a GPU multiplies them with less power, and so quicker.
    inputs = torch.rand(LARGEST_BATCH, 3, side, side, device="cuda").to(torch.bfloat16)

    def run(size: int) -> None:
        with torch.inference_mode():
            network.get_image_features(pixel_values=inputs[:size])
        torch.cuda.synchronize()

    batch = best_batch(run)
    return batch * _repeated(lambda: run(batch)), batch


def infer(folder: Path) -> float:
    """Inputs a second of the operator, which carries them to the GPU and its vectors back."""
    operator = _embeddings(folder)
    operator.load("cuda")
    blank = Picture(np.zeros((720, 960, 3), np.uint8), MediaFacts("image", "jpeg", 960, 720, 1, 0))
    shape = operator.prepare(blank).shape
    inputs = list(np.random.default_rng(0).integers(0, 256, (LARGE_PIECE, *shape), np.uint8))
    origins = [Origin.of(blank)] * LARGE_PIECE
    operator.infer(inputs, origins)
    return LARGE_PIECE * _repeated(lambda: operator.infer(inputs, origins))


def _embeddings(folder: Path) -> DeviceOperator:
    operator = create("embeddings", {"model": str(folder)})
    operator.resolve("cuda")
    assert isinstance(operator, DeviceOperator)
    return operator


def _repeated(once: Callable[[], object]) -> float:
    """How often a second."""
    began, times = time.perf_counter(), 0
    while time.perf_counter() - began < FEW_S:
        once()
        times += 1
    return times / (time.perf_counter() - began)


def decoding() -> Look:
    """For a Team."""
    single_thread()

    def look(files: list[Path]) -> None:
        for file in files:
            decode(file.read_bytes(), name=file.name)

    return look


def preparing(folder: Path) -> Look:
    """For a Team: decode, and what the operator leaves to CPUs."""
    single_thread()
    operator = _embeddings(folder)
    operator.load_preparing()

    def look(files: list[Path]) -> None:
        for file in files:
            operator.prepare(Picture(*decode(file.read_bytes(), name=file.name)))

    return look


def run_of_ours(photos: Path, catalog: Path, options: dict[str, Any]) -> tuple[float, Looked]:
    """Its own figure, photos a second, and its middle."""
    summary, middle = watched(MIDDLE, photos, catalog, **options)
    return summary.per_s, middle


@contextmanager
def gpu_memory() -> Iterator[list[int]]:
    """Bytes of the GPU's memory that are taken meanwhile beyond what was before, by whomever: the most of them."""
    import torch

    def taken() -> int:
        free, total = torch.cuda.mem_get_info(0)
        return total - free

    before, over, most = taken(), threading.Event(), [0]

    def watch() -> None:
        while not over.wait(POLL_S):
            most[0] = max(most[0], taken() - before)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def report(archive: Path, scratch: Path, photos: int | None, workers: int | None, console: Console) -> dict[str, Any]:
    """Measure, print, and give the figures."""
    cores = available_cores()
    files = sorted(archive.iterdir())
    models = {name: scratch / name.replace("/", "-") for name in SIZES}
    for name, folder in models.items():
        alone(cores, make_clip, name, folder)
    with Team(cores, decoding) as team:
        decoded = team.look_for(FEW_S, files)
    with Team(cores, preparing, next(iter(models.values()))) as team:  # the same of both models
        prepared = team.look_for(FEW_S, files)
    found: dict[str, dict[str, Any]] = {}
    for name, folder in models.items():
        per_s, batch = alone(cores, forward, folder)
        limits = [min(per_s, cpus.per_s) for cpus in (decoded, prepared)]
        many = photos or int(RUN_S * limits[1])
        link(archive, many, scratch / "photos" / folder.name)
        options = {"operators": {"embeddings": {"model": str(folder)}}, "device": "cuda", "workers": workers}
        options["commit_every_s"] = COMMIT_EVERY_S
        inferred = alone(cores, infer, folder)
        with gpu_memory() as most:
            whole, middle = alone(
                cores, run_of_ours, scratch / "photos" / folder.name, scratch / "catalogs" / folder.name, options
            )
        found[name] = {
            "forward_per_s": per_s,
            "forward_batch": batch,
            "infer_per_s": inferred,
            "decode_per_s": decoded.per_s,
            "decode_cpu_ms": decoded.cpu_ms,
            "prepare_per_s": prepared.per_s,
            "prepare_cpu_ms": prepared.cpu_ms,
            "photos": many,
            "run_per_s": middle.per_s,
            "run_cpu_ms": middle.cpu_ms,
            "run_to_last_commit_per_s": whole,
            "of_forward_or_decode": middle.per_s / limits[0],
            "of_forward_or_prepare": middle.per_s / limits[1],
            "gpu_gb": most[0] / 1e9,
        }
    console.print(_table(found, cores))
    return {"goal": GOAL, "cores": cores, "models": found}


def _table(found: dict[str, dict[str, Any]], cores: int) -> Table:
    table = Table("photos/s", *found, title=f"embeddings on a GPU, {cores} cores", title_justify="left")
    for words, form, key in (
        ("1. forward pass alone", "{:,.0f}", "forward_per_s"),
        ("   at a batch of", "{}", "forward_batch"),
        ("   `infer` of inputs in memory", "{:,.0f}", "infer_per_s"),
        ("2. decoding alone, all cores", "{:,.0f}", "decode_per_s"),
        ("   ms of CPU a photo", "{:.2f}", "decode_cpu_ms"),
        ("   decoding and `prepare`, all cores", "{:,.0f}", "prepare_per_s"),
        ("   ms of CPU a photo", "{:.2f}", "prepare_cpu_ms"),
        ("3. run, in its middle", "{:,.0f}", "run_per_s"),
        ("   ms of CPU a photo, every process", "{:.2f}", "run_cpu_ms"),
        ("   from the first photos to the last commit", "{:,.0f}", "run_to_last_commit_per_s"),
        ("   photos that it looked at", "{:,}", "photos"),
        ("   GPU memory at most, GB", "{:.1f}", "gpu_gb"),
        (f"run / smaller of 1 and decoding (goal {GOAL:.2f})", "{:.2f}", "of_forward_or_decode"),
        (f"run / smaller of 1 and decoding with `prepare` (goal {GOAL:.2f})", "{:.2f}", "of_forward_or_prepare"),
    ):
        table.add_row(words, *(form.format(one[key]) for one in found.values()))
    return table


def main() -> None:
    if "embeddings" not in available():
        raise SystemExit(
            "pinakes is here but not installed, so nobody knows its operators (they are entry points of its "
            "distribution): pip install -e '.[torch]', or put its wheel on PYTHONPATH with its .dist-info"
        )
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="*", type=Path)
    parser.add_argument("--photos", type=int)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, help="on a CPU the cores that are used; one for each that there is")
    parser.add_argument("--json", type=Path, help="file that the figures go to")
    arguments = parser.parse_intermixed_args()  # folders may stand behind options
    console = Console(width=120)
    on_gpu = arguments.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch finds no GPU here, or is a build without CUDA")
    sources = folders(arguments.folder)
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "archive"
        different = min(arguments.photos or FILES, FILES) if on_gpu else arguments.photos or transformers_loop.PHOTOS
        about = {
            "machine": machine() + (f"; {torch.cuda.get_device_name(0)}" if on_gpu else ""),
            "versions": {name: version(name) for name in PACKAGES if find_spec(name)},
            "photos": make_archive(sources, different, archive),
        }
        versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
        print(about["machine"], versions, about["photos"], sep="\n", flush=True)
        if on_gpu:
            figures = report(archive, Path(scratch), arguments.photos, arguments.workers, console)
        else:
            cores = arguments.workers or available_cores()
            figures = transformers_loop.report(archive, Path(scratch), cores, console)
    if arguments.json:
        arguments.json.write_text(json.dumps({**about, **figures}, indent=1))


if __name__ == "__main__":
    main()
