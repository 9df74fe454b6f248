"""Which index a collection gets, and what a user may say about it."""

import pytest

from pinakes.catalog.index_choice import LITE_LIMIT, Index, bytes_per_vector, choose


def test_lite_is_exact_and_says_when_it_has_too_many():
    assert choose(LITE_LIMIT, 128, lite=True).type == "FLAT"
    assert "use a Milvus server" not in choose(LITE_LIMIT, 128, lite=True).why
    assert "use a Milvus server" in choose(LITE_LIMIT + 1, 128, lite=True).why


def test_a_server_gets_a_graph_and_is_told_its_memory():
    index = choose(20_000_000, 128, lite=False)
    assert (index.type, set(index.build), set(index.search)) == ("HNSW", {"M", "efConstruction"}, {"ef"})
    assert f"{20e6 * bytes_per_vector(index, 128) / 1e9:.1f} GB" in index.why


def test_a_search_among_many_looks_further():
    few, many = (choose(faces, 128, lite=False) for faces in (1000, 1_000_000))
    assert few.build == many.build
    assert few.search["ef"] < many.search["ef"]


def test_the_settings_win():
    index = choose(5, 128, False, {"type": "hnsw", "M": 48, "ef": 300})
    assert (index.type, index.build["M"], index.search) == ("HNSW", 48, {"ef": 300})
    assert index.build["efConstruction"] == choose(5, 128, False).build["efConstruction"]
    assert choose(5, 128, False, {"ef": 99}).search == {"ef": 99}
    assert choose(5, 128, True, {"type": "IVF_SQ8"}).build.keys() == {"nlist"}


@pytest.mark.parametrize(
    ("lite", "settings", "said"),
    [
        (False, {"type": "ANNOY"}, r"no index 'ANNOY'; there are: FLAT, .*DISKANN"),
        (True, {"type": "DISKANN"}, r"no index 'DISKANN' in Milvus Lite; there are: FLAT"),
        (False, {"type": "HNSW", "nlist": 5}, r"HNSW has no parameter 'nlist'; it has: M, efConstruction, ef"),
        (True, {"type": "FLAT", "ef": 5}, r"FLAT has no parameter 'ef'; it has: none"),
        (False, {"M": 1}, r"M of an index HNSW is a whole number from 2 to 2048, not 1"),
        (False, {"M": "many"}, r"not 'many'"),
        (False, {"type": "HNSW_SQ", "sq_type": "SQ2"}, r"one of SQ6, SQ8"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(lite, settings, said):
    with pytest.raises(ValueError, match=said):
        choose(1000, 128, lite, settings)


def test_bytes_of_a_vector():
    def size(kind, **build):
        return bytes_per_vector(Index(kind, build, {}, ""), 128)

    assert size("FLAT") == 512
    assert size("IVF_SQ8") == 136
    assert 512 + 256 < size("HNSW", M=32) < 512 + 256 + 32
    assert size("HNSW", M=32) - size("HNSW_SQ", M=32) == 3 * 128
