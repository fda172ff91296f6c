"""Make ready what a user would pick instead of our variants: `peers/<name>/` with what its maker's own tools make.

Nothing of ours goes into a peer: each tool is called with its own defaults, so that what is compared is what somebody
gets who follows that tool's manual. A peer whose package is missing, or whose tool fails, is left with the reason.
"""

from __future__ import annotations

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from tqdm.auto import tqdm

from ttsopt_lib.code_hash import code_digest
from ttsopt_lib.files import atomic_folder, content_key, file_sha256
from ttsopt_lib.measure.peers import missing_packages, versions_of
from ttsopt_lib.optimize.calibration import Feed, calibration_texts, sentence_feeds
from ttsopt_lib.optimize.export import sherpa_metadata
from ttsopt_lib.records.base import now, read_if_current, write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import PeerRecord
from ttsopt_lib.study import ORIGINAL, PeerName, Study
from ttsopt_lib.voices.adapters.model import TtsModel
from ttsopt_lib.voices.adapters.opening import open_model
from ttsopt_lib.voices.piper import VoiceConfig

ANY_MODEL: tuple[PeerName, ...] = ("ort-int8-dynamic", "ort-fp16", "hibari-tts")  # the others take Piper voices alone
CALIBRATION_SENTENCES = 8  # for NNCF, as many as our own search takes


def build_peers(study: Study, folder: StudyFolder) -> list[PeerRecord]:
    """Make the study's peers ready (`measure.peers`) and return their records; what is unchanged is left alone.

    Raises RecordError where the original is not there yet, StudyError or TextError for sentences that cannot be used.
    """
    original = folder.model(ORIGINAL)
    stale: list[PeerName] = [name for name in study.measure.peers if _current(study, folder, name) is None]
    if stale:
        voice = open_model(original)
        with tqdm(total=len(stale), desc="peers", unit="peer") as bar:
            for name in stale:
                _make(study, folder, name, voice)
                bar.update()
    return [record for name in study.measure.peers if (record := _current(study, folder, name))]


def peer_key(study: Study, folder: StudyFolder, name: PeerName) -> str:
    """Hash of everything a peer is made from: the original, packages, sentences, this code.

    Raises as `build_peers`."""
    from ttsopt_lib.evaluate.keys import voice_key  # how it is hashed is no part of what is made

    return content_key(
        name,
        voice_key(study, folder, ORIGINAL),
        versions_of(name),
        _calibration(study) if name == "openvino-int8" else None,
        code_digest("ttsopt_lib.optimize.peers"),
    )


def _calibration(study: Study) -> list[str]:
    """The sentences that NNCF sees."""
    return calibration_texts(study.sentences.calibration)[:CALIBRATION_SENTENCES]


def _current(study: Study, folder: StudyFolder, name: PeerName) -> PeerRecord | None:
    """The record on file if its peer is what would be made now."""
    record = read_if_current(folder.peer_record(name), PeerRecord, peer_key(study, folder, name))
    if record is None or not all((folder.peer(name) / file).is_file() for file in record.files):
        return None
    return record


def _make(study: Study, folder: StudyFolder, name: PeerName, voice: TtsModel) -> None:
    original, start = folder.model(ORIGINAL), time.monotonic()
    reason, size, model = missing_packages(name), None, None
    if name == "hibari-tts" and not voice.language_code.startswith("en"):
        reason = f"it speaks English alone, and the voice's language is {voice.language_code}"
    if name not in ANY_MODEL and not voice.is_vits:
        reason = f"it takes Piper voices alone, and this is {voice.kind}"
    with atomic_folder(folder.peer(name)) as target:
        if reason is None:
            feeds = []
            if name == "openvino-int8":
                feeds = sentence_feeds(voice, _calibration(study), study.voice.speaker)
            try:
                with _quiet():
                    if name in MAKERS:
                        model = MAKERS[name](original, target)
                    elif name == "sherpa-onnx":
                        model = _sherpa_onnx(original, target, voice.vits("sherpa-onnx").config)
                    elif name == "openvino-int8":
                        model = _openvino_int8(original, target, feeds)
                    elif name == "hibari-tts":
                        size = _hibari_model().stat().st_size
            except Exception as error:  # whatever a converter raises: the others go on, and the report says why
                reason = f"it could not be made: {' '.join(str(error).split())[:300] or type(error).__name__}"
        files = {} if reason else {path.name: file_sha256(path) for path in sorted(target.iterdir())}
        made = [target / file for file in files if file != "tokens.txt"]
        record = PeerRecord(
            key=peer_key(study, folder, name),
            name=name,
            status="not_available" if reason else "ready",
            reason=reason,
            versions=versions_of(name),
            model=model,
            files=files,
            size_bytes=None if reason else size or sum(path.stat().st_size for path in made or [original]),
            seconds=time.monotonic() - start,
            created=now(),
        )
        if reason:
            for path in target.iterdir():
                path.unlink()
        write_record(target / "peer.json", record)


# --- what each tool makes -----------------------------------------------------------------------------------------


def _int8_dynamic(original: Path, target: Path) -> str:
    """ConvInteger and MatMulInteger: the call that sherpa-onnx's own scripts make for its int8 voices."""
    from onnxruntime import quantization

    quantization.quantize_dynamic(original, target / "model.onnx", weight_type=quantization.QuantType.QUInt8)
    return "model.onnx"


def _float16(original: Path, target: Path) -> str:
    """Weights and arithmetic in float16; random generators and the rounding of durations stay float32."""
    from onnxruntime.transformers import float16

    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, "RandomNormalLike", "RandomNormal", "Ceil"]
    model = float16.convert_float_to_float16(onnx.load(original), keep_io_types=True, op_block_list=blocked)
    onnx.save(model, target / "model.onnx")
    return "model.onnx"


def _sherpa_onnx(original: Path, target: Path, config: VoiceConfig) -> str:
    """The original with the metadata by which sherpa-onnx knows a Piper voice, and its tokens: as its manual says."""
    if config.phoneme_type != "espeak":
        raise ValueError(f"the voice's phonemes are {config.phoneme_type}, and this peer is fed espeak's")
    model = onnx.load(original)
    onnx.helper.set_model_props(model, sherpa_metadata(config))
    onnx.save(model, target / "model.onnx")
    lines = [f"{symbol} {ids[0]}\n" for symbol, ids in config.phoneme_id_map.items()]
    (target / "tokens.txt").write_text("".join(lines), encoding="utf-8")
    return "model.onnx"


def _openvino_int8(original: Path, target: Path, feeds: list[Feed]) -> str:
    """Post-training quantization, weights and activations, saved as OpenVINO's own two files."""
    import nncf
    import openvino

    model = openvino.Core().read_model(original)
    quantized = nncf.quantize(model, nncf.Dataset(feeds), subset_size=len(feeds))
    openvino.save_model(quantized, target / "model.xml")
    return "model.xml"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The tools log, print and draw bars of their own; NNCF also averages the -inf of attention masks."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), np.errstate(all="ignore"), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            logging.disable(logging.WARNING)
            yield
        finally:
            logging.disable(before)


def _hibari_model() -> Path:
    """The model file that hibari-tts ships."""
    from hibari.voices import DEFAULT, voice_path

    return Path(voice_path(DEFAULT))


MAKERS: dict[PeerName, Callable[[Path, Path], str]] = {"ort-int8-dynamic": _int8_dynamic, "ort-fp16": _float16}
