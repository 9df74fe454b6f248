"""Vocabularies: files of words, and what the labels of models mean."""

import pytest

from pinakes.operators.errors import ConfigError
from pinakes.operators.wordnet import vocabulary
from pinakes.operators.words import of_model, read_words


def written(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def test_a_text_file_is_a_word_a_line_each_once(tmp_path):
    words = read_words(written(tmp_path, "words.txt", "\ufeffDog\r\n\n  a  red  barn \nDog\nčrna mačka\n"))
    assert words.names == ("Dog", "a red barn", "črna mačka")
    assert words.ancestors[0][0] == "canine"
    assert "Animals and Pets" in words.categories[0]
    assert words.ancestors[1:] == words.categories[1:] == ((), ())


def test_a_table_says_what_its_words_mean(tmp_path):
    content = 'name,categories,ancestors\n"barn, red",Farm;Old, building ; structure\ndog,,pet\n'
    words = read_words(written(tmp_path, "words.csv", content))
    assert words.names == ("barn, red", "dog")
    assert words.ancestors == (("building", "structure"), ("pet",))
    assert words.categories == (("Farm", "Old"), ("Animals and Pets",))


def test_our_own_go_by_name_and_any_place_that_fsspec_reads_will_do(tmp_path):
    assert read_words("coco").names == tuple(vocabulary("coco")["name"].to_pylist())
    assert len(read_words("imagenet").names) == 1000
    place = written(tmp_path, "words.txt", "fox\n")
    assert read_words(f"file://{place}") == read_words(place)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.txt", None, "cannot be read"),
        ("empty.txt", "\n\n", "has no words"),
        ("bytes.txt", b"\xff\xfe\x00", "is not UTF-8 text"),
        ("columns.csv", "label\nfox\n", "its columns are label"),
        ("more.csv", "name,weight\nfox,3\n", "its columns are name, weight"),
        ("ragged.csv", "name,ancestors\nfox,a,b\n", "line 2 has not as many fields"),
        ("quote.csv", 'name\n"fox\n', "line"),
        ("many.txt", "\n".join(map(str, range(100_001))), "100,001 words"),
    ],
)
def test_what_is_no_vocabulary_is_refused_in_a_line(name, content, said, tmp_path):
    place = str(tmp_path / name) if content is None else written(tmp_path, name, content)
    with pytest.raises(ConfigError, match=said) as raised:
        read_words(place)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_imagenets_labels_are_known_by_their_place():
    """As most classifiers of the hub spell them: synonyms, of which "crane" names two classes."""
    names = vocabulary("imagenet")["name"].to_pylist()
    labels = [f"{name}, another word" for name in names]
    labels[134], labels[517] = "crane", "crane"
    words = of_model(labels)
    assert words.names == tuple(labels)
    assert "bird" in words.ancestors[134]
    assert "bird" not in words.ancestors[517]
    assert words.ancestors[517]


def test_other_labels_are_known_by_their_words():
    words = of_model(["Person", "tabby, tabby cat", "N/A", "unheard of"])
    assert words.ancestors[0]
    assert "animal" in words.ancestors[1]
    assert words.ancestors[2] == words.ancestors[3] == ()


def test_the_digest_is_of_all_that_is_said(tmp_path):
    def digest(content):
        return read_words(written(tmp_path, "words.csv", content)).digest

    prints = [digest(f"name,ancestors\n{row}\n") for row in ("fox,a", "fox,b", "fox,a;b", "wolf,a", "fox,a\nwolf,")]
    assert len(set(prints)) == len(prints)
    assert digest("name,ancestors\nfox,a\n") == prints[0]
