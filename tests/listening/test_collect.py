import csv

import pytest
from small_study import changed, study_values
from tone_test import VARIANTS, make

from ttsopt_lib.errors import StudyError
from ttsopt_lib.evaluate.keys import present_voices
from ttsopt_lib.evaluate.ratings.file import COLUMNS, RatingsError, read_ratings
from ttsopt_lib.listening.collect import collect_ratings
from ttsopt_lib.records.base import write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study

STUDY = Study.model_validate(study_values("tones", variants=[{"name": name} for name in VARIANTS]))


@pytest.fixture
def folder(tmp_path):
    return StudyFolder(STUDY, tmp_path)


@pytest.fixture
def key(folder):
    key = make(folder.listening, tests=("acr", "ccr", "mushra")).key
    write_record(folder.listening_key, key)
    return key


def sent(path, key, rater: str, score=lambda clip: 4, change=lambda row: row):
    """A file as the page makes it: every ACR clip, and every CCR pair with the original second."""
    sentences = {number: name for name, number in key.sentences.items()}
    rows = []
    for name, clip in key.clips.items():
        if clip.use == "rated" and clip.test == "acr":
            rows.append(["acr", sentences[clip.sentence], name, "", rater, score(clip), "2.5", ""])
        elif clip.use == "trap" and clip.test == "acr":
            rows.append(["acr", "abc", name, "", rater, clip.trap, "2.5", ""])
        elif clip.use == "rated" and clip.test == "ccr" and clip.variant != "original":
            other = next(
                n
                for n, c in key.clips.items()
                if (c.test, c.sentence, c.variant, c.use) == ("ccr", clip.sentence, "original", "rated")
            )
            rows.append(["ccr", sentences[clip.sentence], other, name, rater, 1, "2.5", ""])
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(change(row) for row in rows)
    return path


def test_clips_become_variants_and_the_sentences_their_numbers(folder, key, tmp_path):
    scores = {"original": 5, "fp32": 5, "int8": 3}
    files = [sent(tmp_path / f"{r}.csv", key, r, lambda clip: scores[clip.variant]) for r in ("1-a", "2-b")]
    ratings, rated = collect_ratings(files, STUDY, folder)
    assert rated.rows is not None
    assert {row.variant: row.mean for row in rated.rows} == scores
    assert {row.variant: row.mean for row in rated.comparisons} == {"fp32": -1, "int8": -1}
    assert {r.sentence for r in ratings if r.test == "acr" and r.trap is None} == {"0", "1", "2"}
    assert read_ratings(folder.ratings, STUDY.variant_names) == ratings
    again, _ = collect_ratings([folder.ratings], STUDY, folder)  # a file with names is read as it is
    assert again == ratings


def test_ratings_of_a_voice_that_was_made_anew_since_are_left_out_and_named(folder, key, tmp_path):
    for name in STUDY.variant_names:
        model = folder.model(name)
        model.parent.mkdir(parents=True)
        model.write_bytes(name.encode())
        model.with_name(model.name + ".json").write_text("{}")
    write_record(folder.listening_key, key.model_copy(update={"voices": present_voices(STUDY, folder)}))
    files = [sent(tmp_path / f"{r}.csv", key, r) for r in ("1-a", "2-b")]
    _, heard = collect_ratings(files, STUDY, folder)
    assert not heard.left_out and not heard.unknown_files
    assert heard.rows is not None and [row.variant for row in heard.rows] == ["original", "fp32", "int8"]

    write_record(folder.listening_key, key)  # an older one, which does not say what was heard
    _, unknown = collect_ratings(files, STUDY, folder)
    assert unknown.unknown_files == len(unknown.kept) > 0

    write_record(folder.listening_key, key.model_copy(update={"voices": present_voices(STUDY, folder)}))
    collect_ratings(files, STUDY, folder)
    folder.model("int8").write_bytes(b"made anew")
    for given in (files, [folder.ratings]):  # the collected file knows what was heard, without the key
        _, rated = collect_ratings(given, STUDY, folder)
        assert len(heard.kept) == len(rated.kept) + 12
        assert rated.rows is not None and [row.variant for row in rated.rows] == ["original", "fp32"]
        assert [row.variant for row in rated.comparisons] == ["fp32"]
        (left_out,) = rated.left_out
        assert left_out.startswith("int8 (12 ratings): what was heard was made before today's file of int8")


def test_a_wrong_answer_to_a_trap_that_only_the_key_knows_screens_a_rater_out(folder, key, tmp_path):
    good = [sent(tmp_path / f"{r}.csv", key, r) for r in ("1-a", "2-b")]
    traps = [name for name, clip in key.clips.items() if clip.use == "trap"]
    wrong = lambda row: [*row[:5], 3, *row[6:]] if row[2] in traps else row  # noqa: E731
    bad = sent(tmp_path / "bad.csv", key, "3-c", lambda clip: 1, wrong)
    _, rated = collect_ratings([*good, bad], STUDY, folder)
    assert [one.rater for one in rated.screened] == ["3-c"]
    assert rated.rows is not None and [row.mean for row in rated.rows] == [4, 4, 4]


def test_bad_rows_of_every_file_are_named_and_nothing_is_written(folder, key, tmp_path):
    unknown = sent(tmp_path / "a.csv", key, "1-a", change=lambda row: [*row[:2], "feedbeef", *row[3:]])
    twice = sent(tmp_path / "b.csv", key, "2-b")
    copy = sent(tmp_path / "c.csv", key, "2-b", lambda clip: 3)
    moved = sent(tmp_path / "d.csv", key, "4-d", change=lambda row: [row[0], "000000", *row[2:]])
    with pytest.raises(RatingsError) as caught:
        collect_ratings([unknown, twice, copy, moved], STUDY, folder)
    message = str(caught.value)
    for file, wrong, known in (
        ("a.csv:2:", "'feedbeef'", "original, fp32, int8"),
        ("c.csv:2:", "'2-b'", f"{twice}:2"),
        ("d.csv:2:", "'000000'", "clip"),
    ):
        said = message[message.index(file) :].splitlines()[0]
        assert wrong in said and known in said
    assert not folder.ratings.exists()


def test_a_file_that_arrived_twice_counts_once(folder, key, tmp_path):
    files = [sent(tmp_path / f"{name}.csv", key, name) for name in ("1-a", "2-b")]
    once = collect_ratings(files, STUDY, folder)
    copy = sent(tmp_path / "1-a (1).csv", key, "1-a")
    assert collect_ratings([*files, copy, files[1]], STUDY, folder) == once


def test_a_study_with_a_ratings_file_of_its_own_says_so(folder, tmp_path):
    own = changed(STUDY, evaluate={"ratings": tmp_path / "own.csv"})
    with pytest.raises(StudyError, match="evaluate.ratings: the study names"):
        collect_ratings([], own, folder)
