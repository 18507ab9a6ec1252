"""The embedded sentences: two for every embedded class, which name it and fit the embedded model."""

import json

import pytest

from cocoop.backbones import Backbone, load_backbone
from cocoop.data import DATASETS, open_dataset
from cocoop.utils.assets import asset

EMOJI = [name for name in DATASETS.names() if name.startswith("emoji/")]
TEXT = asset("descriptions/emoji.json").read_text(encoding="utf-8")
SENTENCES: dict[str, list[str]] = json.loads(TEXT)


@pytest.fixture(scope="module")
def clip() -> Backbone:
    return load_backbone("tiny-clip", device="cpu")


@pytest.mark.parametrize("dataset", EMOJI)
def test_every_class_has_two_sentences_that_fit_the_context(dataset: str, clip: Backbone) -> None:
    for name in open_dataset(dataset).class_names:
        assert len(SENTENCES[name]) == 2
        for sentence in SENTENCES[name]:
            assert len(clip.tokenize(sentence)) <= clip.context_length == 32


def test_there_are_no_others() -> None:
    assert len(EMOJI) == 8
    assert set(SENTENCES) == {name for dataset in EMOJI for name in open_dataset(dataset).class_names}


def test_no_two_sentences_are_the_same() -> None:
    sentences = [sentence.casefold() for pair in SENTENCES.values() for sentence in pair]
    assert len(set(sentences)) == len(sentences)


def test_sentences_are_short_and_name_their_class() -> None:
    for name, pair in SENTENCES.items():
        for sentence in pair:
            assert name in sentence.lower()
            assert 6 <= len(sentence.split()) <= 14, sentence
            assert sentence[0].isupper() or sentence[0].isdigit(), sentence
            assert sentence.endswith(".")
            assert sentence.isascii()
            assert sentence.isprintable()


def test_a_line_for_every_class_in_order() -> None:
    lines = TEXT.splitlines()
    assert len(lines) == len(SENTENCES) + 2
    assert list(SENTENCES) == sorted(SENTENCES)
