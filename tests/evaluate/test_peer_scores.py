"""Peers speak the evaluation sentences and are scored like variants, the original's noise where that can be told."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_study import changed

from ttsopt_lib.evaluate import peers
from ttsopt_lib.evaluate.peers import PeerUtterance, as_peer, speak_peer
from ttsopt_lib.evaluate.quality import current_evaluation, evaluate_study
from ttsopt_lib.evaluate.speak import EVALUATION, speak, utterances
from ttsopt_lib.records.base import now, write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import PeerRecord
from ttsopt_lib.study import ORIGINAL, PeerName
from ttsopt_lib.voices.session import RuntimeFailure


def make_ready(folder: StudyFolder, name: PeerName) -> PeerRecord:
    """A peer that speaks with the original's file, or with its own."""
    record = PeerRecord(
        key=f"key-{name}", name=name, status="ready", reason=None, versions={}, model=None, files={}, size_bytes=1,
        seconds=0, created=now(),
    )  # fmt: skip
    write_record(folder.peer_record(name), record)
    return record


@pytest.fixture
def spoken_by(study, joe, real_folder) -> Callable[[PeerName, str], tuple[np.ndarray, np.ndarray, int]]:
    """A sentence by the original and by a peer, and the peer's sampling rate."""

    def spoken(name: PeerName, text: str):
        original = utterances(study, joe, [text], "tests", EVALUATION)
        (asked,) = as_peer(name, make_ready(real_folder, name), real_folder, original, [text])
        assert isinstance(asked, PeerUtterance)
        return speak(original[0]), speak_peer(asked), asked.sample_rate

    return spoken


@pytest.mark.slow
def test_openvino_is_given_the_noise_of_the_variants(spoken_by):
    original, peer, rate = spoken_by("openvino-fp32", "Yes.")
    assert rate == 22050 and len(peer) == len(original)
    difference = original.astype(float) - peer
    assert np.sqrt(np.mean(difference**2)) < 0.01 * np.sqrt(np.mean(original.astype(float) ** 2))


@pytest.mark.parametrize("name, rate", [("piper-tts", 22050), ("hibari-tts", 24000)])
def test_peers_with_an_api_of_their_own_speak_the_text(name, rate, spoken_by):
    original, peer, own_rate = spoken_by(name, "The door is open.")
    assert own_rate == rate and len(peer) / rate == pytest.approx(len(original) / 22050, rel=0.5)
    assert 0.2 < np.std(peer) / np.std(original) < 5, "no normalization of the loudness"


def test_a_peer_that_is_silent_is_named(spoken_by, monkeypatch):
    monkeypatch.setattr(peers, "_open", lambda *_: lambda utterance: np.zeros(0))
    with pytest.raises(RuntimeFailure, match="piper-tts gives no samples"):
        spoken_by("piper-tts", "Yes.")


def broken(*_):
    raise ValueError("no such\n  layer")


@pytest.mark.parametrize(
    ("opener", "words"), [(broken, "cannot be opened: no such layer"), (lambda *_: broken, "cannot speak it: no such")]
)
def test_whatever_a_peer_raises_is_its_words_in_one_line(spoken_by, monkeypatch, opener, words):
    monkeypatch.setattr(peers, "_open", opener)
    with pytest.raises(RuntimeFailure, match=f"^piper-tts {words}"):
        spoken_by("piper-tts", "Yes.")


@pytest.mark.slow
def test_a_peer_that_cannot_speak_one_sentence_is_not_scored_and_the_rest_is(study, folder, scored, monkeypatch):
    make_ready(folder, "piper-tts")
    monkeypatch.setattr(peers, "_open", lambda *_: broken)
    asked = changed(study, measure={"peers": ("piper-tts",)})
    record = evaluate_study(asked, folder, processes=1)
    (failed,) = record.not_scored
    assert failed.variant == "piper-tts" and failed.reason.startswith("sentence 1 ('")
    assert "piper-tts cannot speak it: no such layer" in failed.reason
    assert record.peers == [] and record.rows == scored.rows and current_evaluation(asked, folder) == record


@pytest.mark.slow
def test_peers_are_scored_beside_the_variants_and_stay_there(study, folder, scored):
    make_ready(folder, "hibari-tts")
    asked = changed(study, measure={"peers": ("hibari-tts",)})
    assert current_evaluation(asked, folder) is None
    record = evaluate_study(asked, folder, processes=1)
    assert [row.variant for row in record.peers] == ["hibari-tts"] and record.rows == scored.rows
    assert [row.variant for row in record.rows] == [ORIGINAL, "fp32"]
    assert len(record.peers[0].scores["dnsmos_p808"]) == 2 and min(record.peers[0].scores["dnsmos_p808"]) > 2
    assert current_evaluation(asked, folder) == current_evaluation(study, folder) == record
    assert evaluate_study(study, folder, again=False, processes=1).peers == record.peers
    assert Path(folder.quality_record).is_file()


@pytest.mark.slow
def test_a_first_look_keeps_peers_that_are_scored(study, folder):
    make_ready(folder, "hibari-tts")
    looked = study.model_copy(update={"few_sentences": 1, "stage": "first_look"})
    asked = changed(looked, measure={"peers": ("hibari-tts",)})
    record = evaluate_study(asked, folder, processes=1)
    assert [len(row.audio_seconds) for row in record.peers] == [1]
    folder.quality_record.unlink()
    assert [row.variant for row in evaluate_study(looked, folder, processes=1).peers] == ["hibari-tts"]
