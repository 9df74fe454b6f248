"""The rules of the house that no linter knows: who may import whom, how long a file is, what lies at the top."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("jobs", "operators", "catalog", "cluster")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
#: Where the name that is imported is not the name of the distribution, or comes with another.
DISTRIBUTION = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "botocore": "s3fs",
    "boto3": "moto",
    "pi_heif": "pi-heif",
    "pillow_heif": "pillow-heif",
    "onnxruntime": "onnxruntime-gpu",
    "faiss": "faiss-cpu",
    "grpc": "pymilvus",
    "milvus_lite": "milvus-lite",
    "nbformat": "nbclient",
}
#: Of the extras `torch` and `cuda`.
EXTRA = {"torch", "transformers", "huggingface_hub", "safetensors", "scipy", "sentencepiece", "onnxruntime"}
AT_THE_TOP = {
    *PACKAGES,
    *("tests", "notebooks", ".ci", ".gitignore", "pyproject.toml", "Makefile"),
    *("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"),
}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside."""
    return imports_of(ast.parse(path.read_text()))


def imports_of(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import of {node.module}"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def test_dependencies_point_one_way() -> None:
    seen = 0
    for path in SOURCES:
        package = path.relative_to(ROOT).parts[0]
        for module in imports(path):
            first, _, rest = module.partition(".")
            assert first not in PACKAGES, f"{path}: {module}"
            if first == "pinakes":
                seen += 1
                assert package == "jobs" or rest.startswith(f"{package}."), f"{path} imports {module}"
    assert seen > 50


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=! ]", requirement)[0] for requirement in requirements}

    extras = project["optional-dependencies"]
    declared = names(project["dependencies"]) | names(extras["torch"]) | names(extras["cuda"])
    in_tests = declared | names(extras["dev"]) | names(extras["benchmark"]) | names(extras["notebooks"])
    for paths, known in ((SOURCES, declared), (TESTS, in_tests)):
        for path in paths:
            for module in imports(path):
                first = module.partition(".")[0]
                if first in sys.stdlib_module_names or first in ("pinakes", "tests"):
                    continue
                assert DISTRIBUTION.get(first, first) in known, f"{path} imports {first}"


def test_what_not_everyone_installs_is_imported_where_it_is_used() -> None:
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        at_the_top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        for module in imports_of(ast.Module(at_the_top, [])):
            assert module.partition(".")[0] not in EXTRA, f"{path} imports {module} at its top"


def test_no_file_is_longer_than_one_reads_at_once() -> None:
    for path in [*SOURCES, *TESTS]:
        assert len(path.read_text().splitlines()) <= 400, path


def test_every_module_says_what_it_is_for() -> None:
    for path in SOURCES:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_the_top_holds_what_one_looks_for() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split("/")[0] for line in listed.splitlines()} <= AT_THE_TOP


def test_every_package_of_the_wheel_is_there_and_every_operator_can_be_created() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(pyproject["tool"]["setuptools"]["packages"]) == {f"pinakes.{package}" for package in PACKAGES}
    for name, place in pyproject["project"]["entry-points"]["pinakes.operators"].items():
        module, _, attribute = place.partition(":")
        tree = ast.parse((ROOT / (module.removeprefix("pinakes.").replace(".", "/") + ".py")).read_text())
        (operator,) = [one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == attribute]
        assert f"name = '{name}'" in ast.unparse(operator)
