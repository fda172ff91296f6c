"""Short sentences for a teacher to speak and read: pieces of a corpus' own prose, of 4 to 10 words each.

Prose has long sentences, and people ask voices for short ones. A line is cut at its punctuation and at words that join
clauses; a piece that ends in a word that leaves it open ("the", "with") is left out. The words are English; prose of
other languages is cut at its punctuation alone. What is not done: no piece is checked to be grammatical, since a voice
speaks it all the same.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

from ttsopt_lib.errors import StudyError
from ttsopt_lib.files import atomic_path
from ttsopt_lib.voices.text import read_sentences

SHORTEST, LONGEST = 4, 10  # words
CUTS = re.compile(r'[,;:()"“”—–]|\s-\s|\b(?:and|but|that|which|who|where|when|because|for|while|if|as)\b')
AROUND = " .!?'’‘_*"
OPEN_END = re.compile(
    "the|a|an|of|to|in|by|with|and|or|at|from|his|her|their|my|your|its|was|is|were|had|not|on|be|been|has|have|very|"
    "so|no|he|she|i|it|they|we|you"
)
ENDS = "....?!"  # two of three sentences are told, the others asked or called out
SEED = 7  # of the corpus that the students of joe were trained on


def short_sentences(lines: Sequence[str], count: int, seed: int = SEED) -> list[str]:
    """Sentences cut from lines of prose, each once: `count`, or all there are.

    The seed decides their order, and what each of them ends with."""
    chance = random.Random(seed)
    found = set()
    for line in lines:
        for piece in CUTS.split(line):
            words = piece.strip(AROUND).split()
            if SHORTEST <= len(words) <= LONGEST and not OPEN_END.fullmatch(words[-1].lower()):
                text = " ".join(words)
                found.add(text[:1].upper() + text[1:] + chance.choice(ENDS))
    shuffled = sorted(found)  # a set has no order of its own
    chance.shuffle(shuffled)
    return shuffled[:count]


def with_short_sentences(corpus: Path, count: int, target: Path) -> Path:
    """Write the lines of a corpus and so many short sentences cut from them to `target`, one a line; returns it.

    Raises:
        StudyError: if the corpus gives fewer short sentences.
        TextError: if the corpus cannot be read.
    """
    lines = read_sentences(corpus)
    short = short_sentences(lines, count)
    if len(short) < count:
        raise StudyError(
            f"training.short_sentences: {count} cannot be cut from {corpus}, only {len(short)}; ask for fewer"
        )
    with atomic_path(target) as partial:
        partial.write_bytes("".join(f"{line}\n" for line in (*lines, *short)).encode())
    return target
