"""The pipeline that Daft's guide to class UDFs leads to, with our operators: one pool of instances for each."""

from collections.abc import Iterator

from pinakes.operators.operator import create
from tests.benchmarks.measure import Work
from tests.benchmarks.peers import Look, row_type

#: Left to itself, Daft gives the whole of a small archive to one instance as one batch, and a core has nothing to do.
BATCH = 16


def daft_udfs(work: Work) -> Iterator[None]:
    """`from_glob_path`, Daft's own download and decoding, a UDF class for each operator, `write_parquet`.

    As many instances of each class as there are cores; whether they are threads or processes is left to Daft.
    """
    import daft
    from daft import DataType, col
    from daft.functions import decode_image, download

    yield
    photos = daft.from_glob_path(f"{work.folder}/*.jpg")
    photos = photos.with_column("image", decode_image(download(col("path")), mode="RGB"))
    for name, settings in work.operators.items():
        rows = DataType.from_arrow_type(row_type(create(name, settings).tables))

        @daft.cls(max_concurrency=work.workers)
        class LookInDaft(Look):
            @daft.method.batch(return_dtype=rows, batch_size=BATCH)
            def look(self, images: daft.Series, paths: daft.Series):  # type: ignore[no-untyped-def]
                return self.rows(images.to_pylist(), paths.to_pylist())

        photos = photos.with_column(name, LookInDaft(name, settings).look(col("image"), col("path")))
    photos.exclude("image").write_parquet(str(work.out))
    yield
