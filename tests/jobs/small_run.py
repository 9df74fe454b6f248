"""A run in this process: the real plan, the real operators, the real commits, and no Ray. And pictures to run it on."""

import json
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from pinakes.catalog import Catalog
from pinakes.catalog.catalog import new_run_id
from pinakes.jobs.finish import Finisher
from pinakes.jobs.listing import Listing, source_url
from pinakes.jobs.look import Limits, Looker
from pinakes.jobs.pipeline import Chunk
from pinakes.jobs.planning import PlanSummary, make_plan, plan_folder, video_fingerprints, write_windows
from pinakes.jobs.rows import result_tables
from pinakes.jobs.summary import RunSummary
from pinakes.operators import models
from pinakes.operators.decode import single_thread
from pinakes.operators.operator import Operator, Sampling, create

LIMITS = Limits(max_pixels=300_000_000, max_bytes=512_000_000)


@cache
def loaded(*names: str) -> Mapping[str, Operator]:
    """Those operators with their default settings, their models fetched and open."""
    single_thread()
    operators = {name: create(name) for name in names}
    models.pull_all(model for operator in operators.values() for model in operator.model_names())
    for operator in operators.values():
        operator.load()
    return operators


@cache
def stop_sign() -> bytes:
    """A JPEG, 720 x 480: a stop sign before the sky, drawn; both models know it."""
    sky = np.linspace((90, 150, 230), (210, 225, 240), 480)[:, None, :]
    image = Image.fromarray(np.broadcast_to(sky, (480, 720, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 400, 720, 480), fill=(95, 100, 70))
    draw.rectangle((352, 180, 368, 450), fill=(120, 120, 120))
    draw.regular_polygon((360, 170, 128), 8, rotation=22.5, fill="white")
    draw.regular_polygon((360, 170, 118), 8, rotation=22.5, fill=(190, 20, 30))
    draw.text((360, 170), "STOP", fill="white", anchor="mm", font_size=76)
    return jpeg(image)


def jpeg(image: Image.Image, **settings: Any) -> bytes:
    out = BytesIO()
    image.save(out, "JPEG", quality=90, **settings)
    return out.getvalue()


def small_jpeg(seed: int = 0) -> bytes:
    """A JPEG, 48 x 32; no two seeds give the same bytes."""
    noise = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    return jpeg(Image.fromarray(noise).resize((48, 32)))


def small_run(
    source: Path,
    url: Path,
    operators: Mapping[str, Operator] | None = None,
    *,
    failed_only: bool = False,
    sampling: Sampling = "1fps",
) -> PlanSummary:
    """Look at what is due in the source and commit it. The operators are loaded; `media` alone when not given."""
    operators = operators or {"media": create("media")}
    videos = video_fingerprints(operators, sampling)
    catalog = Catalog(str(url), create=True)
    catalog.finish()
    run_id = new_run_id()
    run = dict.fromkeys(("spec", "versions"), "{}")
    prints = {
        name: {"model": one.model, "fingerprint": one.fingerprint, "video_fingerprint": videos.get(name)}
        for name, one in operators.items()
    }
    run["operators"] = json.dumps(prints)
    run |= {"run_id": run_id, "job": "small", "source": source_url(str(source)), "host": "here"}
    catalog.record_run({**run, "status": "started"})
    with make_plan(
        Listing(str(source)), run["source"], operators, catalog, sampling=sampling, failed_only=failed_only
    ) as plan:
        tables = result_tables(operators, videos=plan.summary.videos > 0)
        log = catalog.commit_log(run_id, tables, plan.since)
        finisher = Finisher(
            catalog, log, operators, videos, sampling, RunSummary(run_id, "finished", str(url), plan.summary)
        )
        looker = Looker(operators, LIMITS, lambda positions: None, sampling=sampling)

        def look(chunks: list[Chunk]) -> None:
            for chunk in chunks:
                work = pq.ParquetFile(chunk.file.removeprefix("file://")).read_row_group(chunk.row_group)
                for _, rows in looker.look(work):
                    rows, _ = finisher.take(rows)
                    finisher.committed([(log.commit(rows), rows["ledger"])])

        chunks = plan.write_chunks(catalog, run_id, workers=1)
        look(chunks)
        if finisher.windows:
            look(write_windows(catalog, run_id, finisher.windows, len(chunks)))
        finisher.finish_left()
        catalog.storage.remove_folder(plan_folder(run_id))
    catalog.record_run({**run, "status": "finished", "items": plan.summary.due})
    return plan.summary
