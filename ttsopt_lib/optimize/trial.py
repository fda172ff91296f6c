"""A declared model speaks one sentence before any variant is made of it.

What a declaration says can be right word by word and still give no speech: ids that the graph does not have, a vocoder
that returns nothing, a spectrum in place of sound. That is no variant's fault, and should not come out in an hour.
"""

from __future__ import annotations

import numpy as np

from ttsopt_lib.evaluate.speak import why_no_speech
from ttsopt_lib.optimize.calibration import calibration_texts
from ttsopt_lib.study import Study
from ttsopt_lib.voices.adapters.declared import DeclaredModel
from ttsopt_lib.voices.onnx_file import VoiceError
from ttsopt_lib.voices.session import RuntimeFailure
from ttsopt_lib.voices.source import source_declaration, source_model, source_name

LOUDEST = 100.0  # where full scale is 1, nothing is: such samples are steps of 16 bits
SAME = 1e-3  # of full scale: a vocoder that computes with several threads may round differently


def try_declared(study: Study) -> None:
    """Let the study's model speak its first calibration sentence, if it is a declared one.

    Raises:
        VoiceError: one line with the declaration's file: it does not speak, and why.
        TextError: the sentence gives no ids.
    """
    if source_declaration(study) is None:
        return
    model = source_model(study)
    assert isinstance(model, DeclaredModel)
    text = calibration_texts(study.sentences.calibration)[0]
    ids = model.utterance_ids(text)
    try:
        speaker = model.open()
        audio = speaker.speak(ids)[0]
        wrong = _why_not(audio, model)
        if not wrong and model.vocoder and not _same(audio, speaker.speak(ids)[0]):
            wrong = f"other samples each time; let the vocoder {model.vocoder} draw its noise from a fixed seed"
    except (RuntimeFailure, VoiceError) as error:
        raise VoiceError(f"{source_name(study)}: the model cannot speak {text[:60]!r}: {error}") from None
    if wrong:
        raise VoiceError(f"{source_name(study)}: of {text[:60]!r} the model makes {wrong}")


def _why_not(audio: np.ndarray, model: DeclaredModel) -> str | None:
    """What the audio is where it is no speech; None for speech."""
    wrong = why_no_speech(audio, model.sample_rate)
    if wrong:
        at_work = f"the vocoder {model.vocoder}" if model.vocoder else "what the keys inputs, ids and audio say"
        return f"{wrong}; correct {at_work}"
    peak = float(np.abs(audio).max())
    if peak > LOUDEST:
        return f"samples of up to {peak:.0f}, where 1 is full scale; divide them (by 32768, say) in a vocoder"
    return None


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=0, atol=SAME))
