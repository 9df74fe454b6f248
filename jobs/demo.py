"""`make demo`: real photos from the package index, the main job over them, a contact sheet, a few questions to what it
wrote."""

import sys
from pathlib import Path

from pinakes.catalog import Catalog
from pinakes.jobs import running
from pinakes.jobs.cli import guarded
from pinakes.jobs.demo_photos import fetch
from pinakes.jobs.printing import err, grid, out, print_run
from pinakes.jobs.progress import Progress
from pinakes.jobs.sheet import contact_sheet
from pinakes.jobs.show import save

#: Pictures on the contact sheet: all that there are.
SHEET = 60

QUESTIONS = {
    "What is the archive about? Photos by category of their labels": """
        SELECT category, count(DISTINCT uri) AS photos,
               string_agg(DISTINCT name, ', ' ORDER BY name)[:70] AS labels
        FROM (SELECT uri, name, unnest(categories) AS category FROM latest_labels WHERE confidence > 0.3)
        GROUP BY category ORDER BY photos DESC, category LIMIT 8
    """,
    "Who is in the pictures, and what stands written there? Objects, faces and text together": """
        SELECT parse_filename(uri) AS photo, people, faces, round(largest, 3) AS largest_face, says
        FROM (SELECT uri FROM latest_media)
        LEFT JOIN (SELECT uri, count(*) AS people FROM latest_objects WHERE name = 'person' GROUP BY uri) USING (uri)
        LEFT JOIN (SELECT uri, count(*) AS faces, max(box.width * box.height) AS largest
                   FROM latest_faces GROUP BY uri) USING (uri)
        LEFT JOIN (SELECT uri, string_agg(text, ' / ' ORDER BY text_id)[:60] AS says
                   FROM latest_texts WHERE kind = 'line' GROUP BY uri) USING (uri)
        WHERE faces > 0 OR (people > 0 AND says IS NOT NULL)
        ORDER BY faces DESC NULLS LAST, photo LIMIT 12
    """,
    "What can be read? The longest lines": """
        SELECT text, round(confidence, 2) AS confidence, parse_filename(uri) AS photo
        FROM latest_texts WHERE kind = 'line' ORDER BY length(text) DESC, text LIMIT 8
    """,
    "Which colour rules most pictures, and how bright and sharp are they?": """
        SELECT dominant_colors[1].simplified_name AS colour, count(*) AS photos,
               round(avg(brightness), 2) AS brightness, round(avg(sharpness), 2) AS sharpness
        FROM latest_properties GROUP BY colour ORDER BY photos DESC, colour
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
    sheet = contact_sheet(catalog, count=SHEET)
    if sheet is not None:
        save(sheet.image, folder / "sheet.png")
        out.print(f"\nLook at them:    {folder / 'sheet.png'}", highlight=False, markup=False)
    out.print(
        f'Ask your own:    .venv/bin/pinakes sql --catalog {place} "SELECT * FROM latest_labels LIMIT 5"\n'
        f"Run it again:    .venv/bin/pinakes run {archive} --catalog {place}    (it looks at nothing twice)",
        highlight=False,
        markup=False,
    )


if __name__ == "__main__":
    sys.exit(guarded(lambda: demo(Path(sys.argv[1]))))
