"""The pipeline that Ray Data's guide to batch inference leads to, with our operators: one pool of actors for each."""

import logging
import os
from collections.abc import Iterator

import pyarrow as pa

from tests.benchmarks.measure import Work
from tests.benchmarks.peers import Look


class LookInRay(Look):
    """A class for `map_batches`: adds the operator's rows to the batch."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        images = batch["image"].combine_chunks().to_numpy(zero_copy_only=False)
        return batch.append_column(self.operator.name, self.rows(images, batch["path"].to_pylist()))


def ray_data(work: Work) -> Iterator[None]:
    """`read_images`, for each operator a pool of as many actors as there are cores, `write_parquet`.

    An actor asks for one CPU unless told otherwise: two pools would fill two cores on paper, and nothing could ever be
    read or written. So the pools share half of the cores on paper, and every process takes what the system gives it.
    Reading asks for the same as the first pool, so that Ray runs both in one process, as it does when nothing is asked
    for. Batches are Arrow's, which spares copies of every image in every pool, and as large as the blocks come, which
    was no slower than a fixed size.
    """
    os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    import ray

    ray.init(num_cpus=work.workers, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    yield
    cpus = 0.5 / len(work.operators)
    photos = ray.data.read_images(str(work.folder), include_paths=True, mode="RGB", num_cpus=cpus)
    for name, settings in work.operators.items():
        photos = photos.map_batches(
            LookInRay,
            fn_constructor_args=(name, settings),
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=work.workers),
            num_cpus=cpus,
        )
    photos.drop_columns(["image"]).write_parquet(str(work.out))
    yield
    ray.shutdown()
