"""The whole job with its source, its catalogue or both in a bucket of a real S3 server."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from s3fs import S3FileSystem

from pinakes.jobs import fetch
from pinakes.jobs.errors import SourceError
from pinakes.jobs.look import Looker
from pinakes.jobs.rows import WORK
from pinakes.jobs.source_watch import DOUBTFUL, SourceWatch
from pinakes.operators.operator import create
from tests.cluster.nodes import FREE, NEVER_S, Gate, cluster, wait
from tests.jobs.command import PINAKES, here, pinakes
from tests.jobs.photos import write_photos
from tests.jobs.small_run import LIMITS, small_jpeg
from tests.s3 import Bucket, environment

PHOTOS = 12


@pytest.fixture(scope="module")
def ray(s3_server: str) -> Iterator[dict[str, str]]:
    """The environment of runs that find a Ray running, whose workers reach the server."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(s3_server).items():
            patch.setenv(name, value)
        with cluster() as made:
            yield {"RAY_ADDRESS": made.address}


def run(source: object, catalog: object, ray: dict[str, str], code: int = 0) -> dict[str, object]:
    """What `run` says of a job with one worker and the operator `media`."""
    return said(
        pinakes("run", source, "--catalog", catalog, "--operators", "media", "--workers", 1, "--json", **ray), code
    )


def said(done: "subprocess.CompletedProcess[str]", code: int = 0) -> Any:
    """The answer of a command, which must end with that exit code."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "\x1b" not in done.stderr, "colours are for terminals"
    return json.loads(done.stdout)


def refused(*words: object, **environment: str) -> str:
    """The one line that a command says before it ends with exit code 1."""
    # Made with the credentials of before.
    S3FileSystem.clear_instance_cache()
    done = here(*words, **environment)
    S3FileSystem.clear_instance_cache()
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr, "colours are for terminals"
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith(("listing", "starting"))]
    return line


def sql(catalog: str, query: str) -> list[dict[str, object]]:
    done = here("sql", query, "--catalog", catalog, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def put_photos(bucket: Bucket, count: int) -> list[str]:
    return [bucket.put(f"archive/{number:04d}.jpg", small_jpeg(number)) for number in range(count)]


@pytest.mark.timeout(3 * NEVER_S)
def test_from_bucket_to_bucket(s3: Bucket, ray: dict[str, str]) -> None:
    uris = put_photos(s3, PHOTOS)
    archive, catalog = f"{s3.url}/archive", f"{s3.url}/catalog"

    assert (run(archive, catalog, ray)["status"], run(archive, catalog, ray)["items"]) == ("finished", 0)

    # A changed object and a key that is not there cost one look each, and the other objects none.
    s3.put("archive/0003.jpg", small_jpeg(1003))
    missing = f"{s3.url}/late/picture.jpg"
    lines = [*({"source-ref": uri} for uri in uris), {"source-ref": missing, "version": "7"}]
    manifest = s3.put("list.jsonl", "\n".join(map(json.dumps, lines)).encode())
    plan = said(here("plan", manifest, "--catalog", catalog, "--operators", "media", "--json"))
    assert {name: plan[name] for name in ("new", "changed", "done", "due")} == {
        "new": 1,
        "changed": 1,
        "done": PHOTOS - 1,
        "due": 2,
    }
    assert run(manifest, catalog, ray, 3)["errors"] == {"not_found": 1}

    # Where the object came after all, what failed is looked at again, and nothing else.
    s3.put("late/picture.jpg", small_jpeg(7))
    again = said(pinakes("retry", "--catalog", catalog, "--workers", 1, "--json", **ray))
    assert (again["items"], again["looks"]) == (1, {"media": {"ok": 1}})

    looks = "SELECT uri, attempt, status, error_code FROM ledger WHERE uri IN (?, ?) ORDER BY uri, n"
    looks = looks.replace("?", "'{}'").format(uris[3], missing)
    ok = {"attempt": 1, "status": "ok", "error_code": None}
    assert sql(catalog, looks) == [
        {"uri": uris[3], **ok},
        {"uri": uris[3], **ok},
        {"uri": missing, **ok, "status": "failed", "error_code": "not_found"},
        {"uri": missing, **ok, "attempt": 2},
    ]
    assert sql(catalog, "SELECT count(*) AS looks, max(attempt) AS most FROM ledger") == [
        {"looks": PHOTOS + 3, "most": 2}
    ]

    status = said(here("status", "--catalog", catalog, "--json"))
    assert [one["status"] for one in status["runs"]] == ["finished"] * 4
    assert status["failures"] == []

    # Other engines need nothing of ours.
    table = DeltaTable(f"{catalog}/media", storage_options={"aws_allow_http": "true"}).to_pyarrow_table()
    assert table.num_rows == PHOTOS + 2
    assert set(table["uri"].to_pylist()) == {*uris, missing}
    ours = sql(catalog, "SELECT uri, width, height, size, etag FROM media ORDER BY ALL")
    theirs = table.select(["uri", "width", "height", "size", "etag"]).sort_by(
        [("uri", "ascending"), ("etag", "ascending")]
    )
    assert sorted(map(str, ours)) == sorted(map(str, theirs.to_pylist()))
    head = s3.client.head_object(Bucket=s3.name, Key="archive/0003.jpg")
    newest = sql(catalog, f"SELECT size, etag FROM latest_media WHERE uri = '{uris[3]}'")
    assert newest == [{"size": head["ContentLength"], "etag": head["ETag"].strip('"')}]
    # What a run needs only while it runs does not stay.
    kept = s3.client.list_objects_v2(Bucket=s3.name, Prefix="catalog/_pinakes/")["Contents"]
    assert [one["Key"] for one in kept] == ["catalog/_pinakes/catalog.json"]


@pytest.mark.timeout(3 * NEVER_S)
def test_two_runs_at_once_on_a_catalogue_in_a_bucket(
    s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = 3 * FREE
    write_photos(tmp_path / "archive", photos)
    gate = Gate(tmp_path)
    for name in ("PYTHONPATH", "NODES_GATE"):
        monkeypatch.setenv(name, gate.environment[name])
    catalog = f"{s3.url}/catalog"
    (tmp_path / "job.yaml").write_text(
        json.dumps({"source": "archive", "catalog": catalog, "operators": ["nodes"], "workers": 1, "commit_every_s": 1})
    )

    command = [str(PINAKES), "run", str(tmp_path / "job.yaml"), "--json"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        # Both make the catalogue, both plan to look at everything, and both have some in hand before either can end.
        wait(lambda: len(gate.waiting()) == 2, runs[0], "both runs are half way")
        gate.open()
        told = [json.loads(one.communicate(timeout=NEVER_S)[0]) for one in runs]
    finally:
        for one in runs:
            one.kill()
            one.wait()

    assert [one.returncode for one in runs] == [0, 0]
    assert [one["status"] for one in told] == ["finished", "finished"]
    assert sum(one["done_by_others"] for one in told) > 0
    looks = sql(
        catalog,
        "SELECT operator, count(*) AS looks, count(DISTINCT uri) AS items, max(attempt) AS attempts "
        "FROM ledger WHERE status = 'ok' GROUP BY ALL ORDER BY operator",
    )
    once = {"looks": photos, "items": photos, "attempts": 1}
    assert looks == [{"operator": "media", **once}, {"operator": "nodes", **once}]
    rows = sql(catalog, "SELECT count(*) AS rows, count(DISTINCT uri) AS items FROM nodes")
    assert rows == [{"rows": photos, "items": photos}]


@contextmanager
def enforcing(s3: Bucket) -> Iterator[dict[str, str]]:
    """The server checks rights; yields the environment of a user who may list the bucket and not read from it."""

    def check(after: str) -> None:
        urlopen(Request(f"{s3.endpoint}/moto-api/reset-auth", after.encode(), {"Content-Type": "text/plain"})).close()

    iam = boto3.session.Session().client("iam", endpoint_url=s3.endpoint)
    iam.create_user(UserName=s3.name)
    may = {"Effect": "Allow", "Action": ["s3:List*", "s3:HeadBucket", "s3:GetBucket*"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may]})
    iam.put_user_policy(UserName=s3.name, PolicyName="list", PolicyDocument=policy)
    key = iam.create_access_key(UserName=s3.name)["AccessKey"]
    check("0")
    try:
        yield {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    finally:
        check("inf")


@pytest.mark.timeout(3 * NEVER_S)
def test_a_user_who_may_list_and_not_read_leaves_no_failed_rows(
    s3: Bucket, tmp_path: Path, ray: dict[str, str]
) -> None:
    uris = put_photos(s3, DOUBTFUL + 10)
    catalog = str(tmp_path / "catalog")
    words = ("run", s3.url, "--catalog", catalog, "--operators", "media", "--workers", 1)

    with enforcing(s3) as lister:
        # With a Ray of its own: the workers have what rights it has.
        done = pinakes(*words, **lister)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Traceback" not in done.stderr
        (line,) = [one for one in done.stderr.splitlines() if one.startswith("pinakes: ")]
        assert line.startswith(f"pinakes: {s3.url} cannot be read")
        assert "Access Denied" in line
        assert "check credentials" in line
    assert sql(catalog, "FROM ledger") == []
    assert [row["status"] for row in sql(catalog, "SELECT status FROM runs ORDER BY recorded_at")] == [
        "started",
        "failed",
    ]

    # With the right credentials everything is still to do, and no retry is needed.
    assert run(s3.url, catalog, ray)["looks"] == {"media": {"ok": len(uris)}}
    assert run(s3.url, catalog, ray)["items"] == 0


def test_what_is_wrong_with_a_whole_bucket_is_one_line_and_no_catalogue(s3: Bucket, tmp_path: Path) -> None:
    (uri,) = put_photos(s3, 1)
    write_photos(tmp_path / "archive", 1)
    nowhere = "s3://no-such-bucket-here"
    unknown = {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN000000000"}
    keyless = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    unanswered = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}

    def of_source(source: str, **environment: str) -> str:
        line = refused("run", source, "--catalog", tmp_path / "catalog", "--operators", "media", **environment)
        assert source in line
        return line

    def of_catalog(catalog: str, **environment: str) -> str:
        line = refused("run", tmp_path / "archive", "--catalog", catalog, "--operators", "media", **environment)
        assert catalog in line
        return line

    assert "bucket does not exist" in of_source(f"{nowhere}/archive")
    assert "no such bucket" in of_catalog(f"{nowhere}/catalog")
    assert "credentials" in of_source(f"{s3.url}/archive", **keyless)
    assert "credentials" in of_catalog(f"{s3.url}/catalog", **keyless)
    assert "AWS_ENDPOINT_URL" in of_source(f"{s3.url}/archive", **unanswered)
    assert "AWS_ENDPOINT_URL" in of_catalog(f"{s3.url}/catalog", **unanswered)
    with enforcing(s3):
        assert "AWS_SECRET_ACCESS_KEY" in of_source(f"{s3.url}/archive", **unknown)
        assert "AWS_SECRET_ACCESS_KEY" in of_catalog(f"{s3.url}/catalog", **unknown)

    assert not (tmp_path / "catalog").exists()
    assert [one["Key"] for one in s3.client.list_objects_v2(Bucket=s3.name)["Contents"]] == [uri.split("/", 3)[3]]


def test_a_bucket_that_goes_away_is_told_from_objects_that_do(s3: Bucket) -> None:
    fetch._filesystem.cache_clear()  # it keeps the credentials of another test's server
    uris = put_photos(s3, DOUBTFUL + 4)
    work: list[dict[str, Any]] = [
        {
            "uri": uri,
            "item_key": str(number),
            "operators": ["media"],
            "fingerprints": ["0"],
            "attempts": [1],
            "is_video": False,
        }
        for number, uri in enumerate(uris)
    ]
    looker = Looker({"media": create("media")}, LIMITS, lambda positions: None)

    def ledger(items: list[dict[str, Any]]) -> pa.Table:
        looked = [rows["ledger"] for _, rows in looker.look(pa.Table.from_pylist(items, schema=WORK))]
        return pa.concat_tables(looked)

    watch = SourceWatch(s3.url, LIMITS.max_bytes, readable=None)
    watch.check(ledger(work[:2]))
    for uri in uris[2:]:
        s3.client.delete_object(Bucket=s3.name, Key=uri.split("/", 3)[3])
    gone = ledger(work[2:])
    assert set(gone["error_code"].to_pylist()) == {"not_found"}
    # Many objects are gone, and the bucket is there.
    watch.check(gone)
    SourceWatch(s3.url, LIMITS.max_bytes, readable=uris[0]).check(gone)

    for uri in uris[:2]:
        s3.client.delete_object(Bucket=s3.name, Key=uri.split("/", 3)[3])
    s3.client.delete_bucket(Bucket=s3.name)
    with pytest.raises(SourceError, match=f"{s3.url} cannot be read: .* credentials and connection"):
        watch.check(ledger(work[2:]))


def test_the_source_and_the_catalogue_may_be_apart(s3: Bucket, tmp_path: Path) -> None:
    """Planned only; that a run reads from one and writes to the other is seen above, both ways."""
    put_photos(s3, 3)
    write_photos(tmp_path / "archive", 2)
    for source, catalog, items in (
        (f"{s3.url}/archive/*.jpg", tmp_path / "catalog", 3),
        (tmp_path / "archive", f"{s3.url}/catalog", 2),
    ):
        plan = said(here("plan", source, "--catalog", catalog, "--operators", "media", "--json"))
        assert (plan["new"], plan["due"]) == (items, items)
    assert not (tmp_path / "catalog").exists()
    assert "CommonPrefixes" not in s3.client.list_objects_v2(Bucket=s3.name, Prefix="catalog", Delimiter="/")
