"""Short sentences cut from prose: what is cut, what is left out, and that the same corpus gives the same file."""

import hashlib
from pathlib import Path

import pytest

from ttsopt_lib.distill.teacher.short_sentences import short_sentences, with_short_sentences
from ttsopt_lib.errors import StudyError
from ttsopt_lib.params import read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.voices.text import read_sentences

LINE = "“The old boat lay still,” he said, and nobody saw the lamp on the hill because it was very dark."


def words(sentences: list[str]) -> list[str]:
    return sorted(sentence.rstrip(".!?") for sentence in sentences)


def test_a_line_is_cut_where_its_phrases_end() -> None:
    # "he said" is too short
    assert words(short_sentences([LINE], 9)) == [
        "It was very dark",
        "Nobody saw the lamp on the hill",
        "The old boat lay still",
    ]


@pytest.mark.parametrize("line", ["He put the lamp on the", "One two three", " ".join("abcdefghijk"), "of, the, and"])
def test_pieces_that_are_left_open_or_are_of_another_length_are_left_out(line: str) -> None:
    assert short_sentences([line], 9) == []


def test_a_piece_is_taken_once_for_each_of_its_ends() -> None:
    many = short_sentences(["The lamp was still red."] * 200, 99)
    assert sorted(many) == [f"The lamp was still red{end}" for end in "!.?"]


def test_the_order_is_the_seed_s() -> None:
    lines = [f"The lamp of house {number} was red." for number in range(40)]
    assert short_sentences(lines, 40) == short_sentences(lines, 40)
    assert short_sentences(lines, 40) != short_sentences(lines, 40, seed=8)
    assert short_sentences(lines, 3) == short_sentences(lines, 40)[:3]


def test_the_default_study_s_corpus_is_the_one_that_joe_s_students_were_trained_on(tmp_path: Path) -> None:
    plan = read_study(resolve(Path("params/joe.yaml"))).training
    assert plan and plan.short_sentences
    corpus = with_short_sentences(resolve(plan.corpus), plan.short_sentences, tmp_path / "run" / "corpus.txt")
    sha256 = hashlib.sha256(corpus.read_bytes()).hexdigest()
    assert sha256 == "2d6522dca74d9dac85b483ced2a8e2a993177bc8ef5e1eda9ff39694a9baf3dc"
    assert read_sentences(corpus)[: -plan.short_sentences] == read_sentences(resolve(plan.corpus))


def test_a_corpus_that_gives_too_few_is_named(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(LINE, encoding="utf-8")
    with pytest.raises(StudyError, match=r"short_sentences: 12 cannot be cut from .*corpus\.txt, only 3"):
        with_short_sentences(corpus, 12, tmp_path / "target.txt")
    assert not (tmp_path / "target.txt").exists()
