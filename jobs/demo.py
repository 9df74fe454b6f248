"""`make demo`: real photos and films from the package index, the main job over them, contact sheets, a few questions to
what it wrote, a search for a face, and the bill."""

import sys
from pathlib import Path

from pinakes.catalog import Catalog
from pinakes.catalog.costs import compare, consumption
from pinakes.catalog.face_loading import index
from pinakes.catalog.tariffs import load, names
from pinakes.jobs import running
from pinakes.jobs.cli import guarded
from pinakes.jobs.cost_cli import print_compared
from pinakes.jobs.demo_media import fetch
from pinakes.jobs.face_search import draw, print_found, search
from pinakes.jobs.printing import err, grid, out, print_run
from pinakes.jobs.progress import Progress
from pinakes.jobs.sheet import contact_sheet
from pinakes.jobs.show import save
from pinakes.jobs.show_video import show_video

#: Pictures on the contact sheet: all that there are.
SHEET = 60

#: The film that has a sheet of its own, how many frames that has, and who looks at them.
FILM, FRAMES, LOOKING = "films/statement-at-the-white-house.mp4", 12, ("faces", "objects", "text")
#: And the time at which its people are looked for.
AT_MS = 1000

QUESTIONS = {
    "What is the archive about? Photos and films by category of their labels": """
        SELECT category, count(DISTINCT uri) AS items,
               string_agg(DISTINCT name, ', ' ORDER BY name)[:70] AS labels
        FROM (SELECT uri, name, unnest(categories) AS category FROM latest_labels WHERE confidence > 0.3)
        GROUP BY category ORDER BY items DESC, category LIMIT 8
    """,
    "Who is in the photos, and what stands written there? Objects, faces and text together": """
        SELECT parse_filename(uri) AS photo, people, faces, round(largest, 3) AS largest_face, says
        FROM (SELECT uri FROM latest_media WHERE media_type = 'image')
        LEFT JOIN (SELECT uri, count(*) AS people FROM latest_objects WHERE name = 'person' GROUP BY uri) USING (uri)
        LEFT JOIN (SELECT uri, count(*) AS faces, max(box.width * box.height) AS largest
                   FROM latest_faces GROUP BY uri) USING (uri)
        LEFT JOIN (SELECT uri, string_agg(text, ' / ' ORDER BY text_id)[:60] AS says
                   FROM latest_texts WHERE kind = 'line' GROUP BY uri) USING (uri)
        WHERE faces > 0 OR (people > 0 AND says IS NOT NULL)
        ORDER BY faces DESC NULLS LAST, photo LIMIT 12
    """,
    "What happens in the films, by the second? Shots, tracks, labels and text": """
        SELECT parse_filename(uri) AS film, round(start_ms / 1000, 1) AS begins, round(end_ms / 1000, 1) AS ends, what
        FROM (SELECT uri, start_ms, end_ms, 1 AS place, 'shot ' || (index + 1) AS what
              FROM latest_segments WHERE kind = 'shot'
              UNION ALL
              SELECT uri, start_ms, end_ms, 2, kind || ', in ' || frames || ' frames'
              FROM latest_tracks WHERE frames > 1
              UNION ALL
              SELECT uri, start_ms, end_ms, 3, name FROM latest_spans WHERE frames > 1
              UNION ALL
              SELECT uri, min(frame_ms), max(frame_ms), 4, '"' || text || '"'
              FROM latest_texts WHERE kind = 'line' AND frame_ms IS NOT NULL GROUP BY uri, text HAVING count(*) > 1)
        ORDER BY film, begins, place, what LIMIT 20
    """,
    "What can be read? The longest lines": """
        SELECT text, round(max(confidence), 2) AS confidence, parse_filename(uri) AS item
        FROM latest_texts WHERE kind = 'line' GROUP BY uri, text ORDER BY length(text) DESC, text LIMIT 8
    """,
    "Which colour rules most photos, and how bright and sharp are they?": """
        SELECT dominant_colors[1].simplified_name AS colour, count(*) AS photos,
               round(avg(brightness), 2) AS brightness, round(avg(sharpness), 2) AS sharpness
        FROM latest_properties WHERE frame_ms IS NULL GROUP BY colour ORDER BY photos DESC, colour
    """,
}


def demo(folder: Path) -> None:
    """Fill `folder` with photos, films and a catalogue of them, and print what came out. Raises what `run` raises."""
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
    index(catalog, "people", report=progress.say)
    found = search(catalog, "people", str(archive / FILM), at_ms=AT_MS, limit=3, report=progress.say)
    out.print(f"\nWhere else are the people of {FILM} after a second?", highlight=False, markup=False)
    print_found(found, draw(catalog, found, folder / "people.png"))
    out.print("\nWhat did that take, by list prices of machines, and what would others have charged for it?")
    print_compared(*compare(consumption(catalog), [load(name) for name in names()], by="month"), "month")
    sheet = contact_sheet(catalog, count=SHEET)
    if sheet is not None:
        save(sheet.image, folder / "sheet.png")
    save(show_video(archive / FILM, LOOKING, FRAMES).image, folder / "film.png")
    out.print(
        f"\nLook at them:    {folder / 'sheet.png'}, {folder / 'film.png'}, {folder / 'people.png'}\n"
        f"Find a person:   .venv/bin/pinakes faces search people PHOTO --catalog {place} --sheet found.png\n"
        f'Ask your own:    .venv/bin/pinakes sql --catalog {place} "SELECT * FROM latest_labels LIMIT 5"\n'
        f"Run it again:    .venv/bin/pinakes run {archive} --catalog {place}    (it looks at nothing twice)",
        highlight=False,
        markup=False,
    )


if __name__ == "__main__":
    sys.exit(guarded(lambda: demo(Path(sys.argv[1]))))
