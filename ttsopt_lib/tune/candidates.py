"""The recipes that a tuning tries, in rising order of risk, and the study that they are variants of.

Nothing is assumed of the voice: a recipe that it refuses is left out with its reason, and the recipes after it do
without the step that was refused.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from ttsopt_lib.errors import StudyError
from ttsopt_lib.params import check, read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.tune import Asks
from ttsopt_lib.study import PredictorName, Study
from ttsopt_lib.text_files import parsed_yaml
from ttsopt_lib.voices.adapters.declaration import is_declaration
from ttsopt_lib.voices.text import TextError, read_sentences

NAME = "tune"  # of the study, and of its folder below the one that is written to
SENTENCES = Path("params/sentences/harvard.txt")  # in English
CALIBRATION, EVALUATION, FURTHER = 32, 24, 96  # sentences at most
FEWEST = 8  # sentences of a file
BUDGETS_DB = (0.1, 0.4, 0.75, 1.2)  # of `quantize_mixed`: 0.1 suits Kokoro, 0.75 Piper (docs/notes/optimizing.md)
FEW_BITS = (6, 4)  # of a weight, where a file has to be smaller than 8 make it

WEIGHTS: dict[str, Any] = {"step": "quantize_weights"}
DEQUANTIZE: dict[str, Any] = {"step": "dequantize"}
REARRANGE: dict[str, Any] = {"step": "rearrange_decoder"}

Recipes = dict[str, list[dict[str, Any]]]


class Parts(NamedTuple):
    """How many sentences of a file are for what: for evaluating the first, then further ones, the last to calibrate."""

    evaluation: int
    further: int
    calibration: int


def parts_of(total: int) -> Parts:
    """The parts of a file with so many sentences; no sentence is in two of them."""
    calibration = min(CALIBRATION, total // 4)
    evaluation = min(EVALUATION, total - calibration)
    return Parts(evaluation, min(FURTHER, total - calibration - evaluation), calibration)


def stored_in_int8(vits: bool, integers: bool) -> Recipes:
    """The first candidates: int8 in the file, and the arithmetic of the voice itself, or float32 in its place.

    Args:
        vits: whether the voice is one; else there is no decoder to rearrange.
        integers: whether it computes in integers; else its arithmetic is float32 already.
    """
    rearranged = {"rearranged-int8-weights": [REARRANGE, WEIGHTS]} if vits else {}
    turned = {"float-int8-weights": [DEQUANTIZE, WEIGHTS]} if integers else {}
    return {"int8-weights": [WEIGHTS], **rearranged, **turned}


def first_steps(made: Collection[str]) -> list[dict[str, Any]]:
    """What other recipes begin with, by which of the first candidates the voice took."""
    if "float-int8-weights" in made:
        return [DEQUANTIZE]
    return [REARRANGE] if "rearranged-int8-weights" in made else []


def computed_in_int8(asks: Asks, before: list[dict[str, Any]], device: str | None = None) -> Recipes:
    """Int8 arithmetic where it is harmless and the machine is faster with it, for a rising budget.

    Args:
        asks: whose number of threads the clock takes.
        before: steps that each of them begins with.
        device: that measures, by its name in params/ or its file; None: this machine.
    """
    # a file goes to many processors, and 7 bits sound the same on all
    clock = {"clock": True, "clock_threads": asks.threads, "weight_bits": 7}
    clock |= {"clock_device": device} if device else {}
    return {
        f"int8-mixed-{budget:g}": [*before, {"step": "quantize_mixed", "budget_db": budget, **clock}]
        for budget in BUDGETS_DB
    }


def in_few_bits(before: list[dict[str, Any]]) -> Recipes:
    """Weights of fewer than 8 bits, packed."""
    return {f"int{bits}-weights": [*before, {**WEIGHTS, "bits": bits}, {"step": "pack"}] for bits in FEW_BITS}


def tuning_study(
    voice: Path, recipes: Recipes, asks: Asks, sentences: Path | None, predictor: PredictorName = "distillmos"
) -> Study:
    """A study with these recipes as its variants.

    Args:
        voice: the `.onnx` file, the YAML file that declares one, or a study's, whose voice it is.
        recipes: name -> steps.
        asks: whose loss is the study's target.
        sentences: a file with one a line; None for English ones that ship.
        predictor: of MOS.

    Raises:
        StudyError: the file cannot be read or holds too few sentences.
    """
    file = sentences.absolute() if sentences else SENTENCES
    try:
        texts = read_sentences(resolve(file))
    except TextError as error:
        raise StudyError(f"--sentences {error}") from None
    if len(texts) < FEWEST:
        raise StudyError(
            f"--sentences {file}: holds {len(texts)} sentences; give {FEWEST} or more, better "
            f"{CALIBRATION + EVALUATION + FURTHER}"
        )
    parts = parts_of(len(texts))
    values = {
        "name": NAME,
        "title": f"Tuning of {voice.name}",
        "voice": _voice_in(voice),
        "language": None if sentences else "en",
        "variants": [{"name": name, "recipe": recipe} for name, recipe in recipes.items()],
        "sentences": {
            "evaluation": {"file": file, "count": parts.evaluation},
            "calibration": {"file": file, "start": len(texts) - parts.calibration, "count": parts.calibration},
            "timing": {"short": texts[:1]},
            "listening": texts[:1],
        },
        "targets": {"predicted_mos_change": -asks.max_loss},
        "evaluate": {
            "predictors": [predictor],
            "primary": predictor,
            "wer_sentences": 0,
            "paired_sentences": 2,
            "stop_decided": False,
        },
        "stage": "first_look",  # so that no score of an earlier run is forgotten
    }
    return check(Study, values, "tune")


def _voice_in(file: Path) -> dict[str, Any]:
    """What a study says of the voice in a file. Raises `StudyError` where that is another study's, and not sound."""
    if not is_declaration(file):
        return {"path": os.path.abspath(file)}
    try:
        keys = list(parsed_yaml(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, TypeError):
        keys = []  # whoever reads it as a declaration says so
    if keys != ["study"]:
        return {"declared": os.path.abspath(file)}
    asked = read_study(file).voice
    if asked.huggingface:
        raise StudyError(
            f"{file}: its voice is a Hugging Face folder: run 'ttsopt optimize {file} --variant original' and tune the "
            "model.onnx that this makes"
        )
    return asked.model_dump(mode="json", exclude_defaults=True)


def confirming(study: Study, names: list[str]) -> Study | None:
    """The study whose variants of these names speak further sentences; None where the file holds none."""
    asked = study.sentences.evaluation
    further = parts_of(len(read_sentences(resolve(asked.file)))).further
    if further < FEWEST:
        return None
    confirmation = asked.model_copy(update={"start": asked.start + asked.count, "count": further})
    return study.model_copy(
        update={
            "sentences": study.sentences.model_copy(update={"confirmation": confirmation}),
            "evaluate": study.evaluate.model_copy(update={"confirmed": tuple(names)}),
        }
    )
