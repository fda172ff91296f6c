"""Who speaks: the one that the study asks for, else the voice's own default, else the first."""

import json
import shutil
from pathlib import Path

import pytest

from ttsopt_lib.optimize.calibration import sentence_feeds
from ttsopt_lib.params import read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.study import Study, VoiceSource
from ttsopt_lib.voices.adapters.piper import PiperModel
from ttsopt_lib.voices.piper import PiperVoice, VoiceError, open_piper, speaker_of
from ttsopt_lib.voices.source import source_model


@pytest.fixture
def defaulting(multi_speaker_voice: Path, tmp_path: Path) -> Path:
    """The voice with three speakers, of whom the last is its default."""
    path = tmp_path / "three.onnx"
    shutil.copyfile(multi_speaker_voice, path)
    config = json.loads(Path(f"{multi_speaker_voice}.json").read_text(encoding="utf-8"))
    # with a byte order mark, as editors on Windows write it
    Path(f"{path}.json").write_text(json.dumps({**config, "default_speaker_id": 2}), encoding="utf-8-sig")
    return path


def study_of(path: Path, speaker: int | None) -> Study:
    voice = VoiceSource(path=path, speaker=speaker)
    return read_study(resolve(Path("params/joe.yaml"))).model_copy(update={"voice": voice})


def test_the_default_speaks_where_nobody_is_asked_for(defaulting, multi_speaker_voice, medium_voice):
    three, plain, alone = (open_piper(path).config for path in (defaulting, multi_speaker_voice, medium_voice))
    assert [speaker_of(three, asked) for asked in (None, 0, 1, 2)] == [2, 0, 1, 2]
    assert [speaker_of(plain, asked) for asked in (None, 0, 2)] == [0, 0, 2]
    assert [speaker_of(alone, asked) for asked in (None, 0)] == [None, None]
    (feed,) = sentence_feeds(PiperModel(PiperVoice(Path("three.onnx"), three, "")), ["Yes."])
    assert feed["sid"].tolist() == [2]


@pytest.mark.parametrize(("several", "speaker", "right"), [(True, 7, "0 to 2"), (False, 3, "one speaker")])
def test_a_speaker_whom_the_voice_does_not_have_is_refused_before_any_work(
    several, speaker, right, defaulting, medium_voice
):
    path = defaulting if several else medium_voice
    with pytest.raises(VoiceError, match=rf"voice\.speaker: {speaker}, but the voice has .*{right}"):
        source_model(study_of(path, speaker))


def test_a_default_that_the_voice_does_not_have_is_named(defaulting):
    config = json.loads(Path(f"{defaulting}.json").read_text(encoding="utf-8-sig"))
    Path(f"{defaulting}.json").write_text(json.dumps({**config, "default_speaker_id": 3}), encoding="utf-8")
    with pytest.raises(VoiceError, match="default_speaker_id: 3"):
        open_piper(defaulting)
