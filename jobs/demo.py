"""`make demo`: real photos from the package index, the main job over them, and a few questions to what it wrote."""

import sys
from pathlib import Path

from pinakes.catalog import Catalog
from pinakes.jobs import running
from pinakes.jobs.cli import guarded
from pinakes.jobs.demo_photos import fetch
from pinakes.jobs.printing import err, grid, out, print_run
from pinakes.jobs.progress import Progress

QUESTIONS = {
    "What is the archive about? Photos by category of their labels": """
        SELECT category, count(DISTINCT uri) AS photos,
               string_agg(DISTINCT name, ', ' ORDER BY name)[:70] AS labels
        FROM (SELECT uri, name, unnest(categories) AS category FROM latest_labels WHERE confidence > 0.3)
        GROUP BY category ORDER BY photos DESC, category LIMIT 8
    """,
    "Where are people, how many, and how much of the picture is the largest?": """
        SELECT parse_filename(uri) AS photo, count(*) AS people,
               round(max(box.width * box.height), 2) AS largest, round(max(confidence), 2) AS confidence
        FROM latest_objects WHERE name = 'person' AND confidence > 0.5
        GROUP BY uri ORDER BY people DESC, photo LIMIT 8
    """,
    "Which animals, by the label model and by the detector, and how far do they agree?": """
        SELECT parse_filename(uri) AS photo,
               (SELECT string_agg(name || ' ' || round(confidence, 2), ', ' ORDER BY confidence DESC)
                FROM latest_labels WHERE uri = media.uri AND list_contains(ancestors, 'animal')) AS labels,
               (SELECT string_agg(name || ' ' || round(confidence, 2), ', ' ORDER BY confidence DESC)
                FROM latest_objects WHERE uri = media.uri AND list_contains(ancestors, 'animal')) AS objects,
               format || ' ' || width || 'x' || height AS file
        FROM latest_media AS media WHERE labels IS NOT NULL OR objects IS NOT NULL ORDER BY photo
    """,
}


def demo(folder: Path) -> None:
    """Fill `folder` with photos and a catalogue of them, and print what came out. Raises what `run` raises."""
    progress = Progress(err)
    archive, place = folder / "archive", folder / "catalog"
    fetch(archive, progress.say)
    summary = running.run(archive, catalog=place, progress=progress)
    print_run(summary)
    catalog = Catalog(str(place))
    out.print()
    out.print(grid("tables", [{"table": str(place / one.name), "rows": one.rows} for one in catalog.table_status()]))
    for question, query in QUESTIONS.items():
        answer = catalog.sql(query)
        out.print()
        out.print(grid(question, answer.to_pylist(), answer.column_names))
    out.print(
        f'\nAsk your own:    .venv/bin/pinakes sql --catalog {place} "SELECT * FROM latest_labels LIMIT 5"\n'
        f"Run it again:    .venv/bin/pinakes run {archive} --catalog {place}    (it looks at nothing twice)",
        highlight=False,
        markup=False,
    )


if __name__ == "__main__":
    sys.exit(guarded(lambda: demo(Path(sys.argv[1]))))
