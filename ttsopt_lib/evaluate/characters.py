"""Character error rate: how much of the spelling a recognizer gets wrong when it listens to a variant.

It is made from what the record keeps anyway, the sentences and what was heard, so nothing is scored for it. The text is
compared as for the word error rate (:func:`~ttsopt_lib.evaluate.intelligibility.normalize_english`). A word that is
heard nearly right costs a whole word there and a character or two here: the finer figure of the two.
"""

from __future__ import annotations

from collections.abc import Sequence

from ttsopt_lib.evaluate.intelligibility import normalize_english


def spoken_characters(sentence: str) -> int:
    """How many characters a sentence has, as they are compared: the spaces between words are among them."""
    return len(normalize_english(sentence))


def character_errors(sentence: str, hypothesis: str) -> int:
    """Characters substituted, deleted and inserted between a sentence and what was heard; 0 for one without words."""
    import jiwer

    reference = normalize_english(sentence)
    if not reference:  # another script, signs only
        return 0
    found = jiwer.process_characters(reference, normalize_english(hypothesis))
    return found.substitutions + found.deletions + found.insertions


def character_error_rate(sentences: Sequence[str], hypotheses: Sequence[str]) -> float | None:
    """Errors per character spoken, over all sentences together; None without characters."""
    characters = sum(spoken_characters(sentence) for sentence in sentences)
    errors = (character_errors(sentence, heard) for sentence, heard in zip(sentences, hypotheses, strict=True))
    return sum(errors) / characters if characters else None
