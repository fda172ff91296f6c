"""While the variants speak for a listening test, a bar counts every sentence, on standard error alone."""

from types import SimpleNamespace

import numpy as np
from small_study import study_values

from ttsopt_lib.evaluate.anchors import LOWPASS
from ttsopt_lib.listening import clips
from ttsopt_lib.params import check
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, Study

TEXTS = "One is here.\nTwo are there.\nThree are nowhere.\n"


def test_every_sentence_is_counted_traps_and_the_example_too(tmp_path, monkeypatch, capsys):
    (tmp_path / "texts.txt").write_text(TEXTS)
    asked = {"tests": ["acr", "mushra"], "sentences": 3, "trap_sentence": "Say {label} {now}."}
    variants = [{"name": "fp32"}, {"name": "int8"}]
    values = study_values("heard", str(tmp_path / "texts.txt"), variants=variants, listening_test=asked)
    study = check(Study, values, "study")
    voice = SimpleNamespace(sample_rate=22050)
    monkeypatch.setattr(clips, "open_model", lambda path: voice)
    monkeypatch.setattr(clips, "utterances", lambda study, voice, texts, *_: texts)
    said = []
    monkeypatch.setattr(clips, "speak", lambda text: said.append(text) or np.full(4000, 1000, dtype=np.int16))
    sounds = clips.speak_all(study, StudyFolder(study, tmp_path), {"acr": [(2, "poor"), (5, "excellent")]})
    spoken = {name: len(waveforms) for name, waveforms in sounds.spoken.items()}
    assert spoken == {ORIGINAL: 3, "fp32": 3, "int8": 3, LOWPASS: 3}
    assert said[-2:] == ["Say poor {now}.", "Say excellent {now}."]
    drawn = capsys.readouterr()
    assert drawn.out == ""
    assert "listen: 100%" in drawn.err and "12/12" in drawn.err  # 3 voices, 3 sentences, 2 traps and an example
