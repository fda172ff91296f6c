"""What the teacher's text encoder makes of a corpus: all that a student of it needs, and nothing need be spoken.

Kept for each sentence: phoneme ids, the hidden states that the teacher's duration predictor is given, and the
statistics of the prior. Written in shards that appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import string
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from ttsopt_lib.distill.teacher.device import in_float32, training_device
from ttsopt_lib.distill.teacher.speech import claim_folder, save_shard, sentences_of
from ttsopt_lib.distill.utterances import Tensors, read_columns
from ttsopt_lib.files import atomic_path
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.voices.piper import PiperVoice
from ttsopt_lib.voices.text import read_sentences

SHARD_LINES = 500
READ_TOGETHER = 32  # sentences on a GPU: about as many as it computes in the time of one
LEAST_SHARDS = 4  # the first of them is held out
LONGEST_SHORT_TEXT = 4  # words
SHORT_TEXT_ENDS = (".", ".", "!", "?", "")
POOL = 4  # how many batches of sentences are drawn to find one of similar lengths
COLUMNS = ("ids", "hidden", "mean", "log_std")


@dataclass(frozen=True)
class Sentences(Tensors):
    """A batch, padded at the end: ids and lengths int64 [B, T] and [B]; hidden, mean, log_std [B, C, T]."""

    ids: Tensor
    lengths: Tensor
    hidden: Tensor
    mean: Tensor
    log_std: Tensor


class TextData:
    """Many sentences end to end, as `read_corpus` wrote them."""

    def __init__(self, shards: list[Path]):
        *columns, self.lengths = read_columns(shards, (*COLUMNS, "phonemes"))
        self.columns: dict[str, np.ndarray] = dict(zip(COLUMNS, columns, strict=True))
        self.starts = np.cumsum(self.lengths) - self.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def sha256(self) -> str:
        """Hash of what a student is trained on."""
        digest = hashlib.sha256()
        for array in (self.lengths, *self.columns.values()):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def batch(self, rng: np.random.Generator, size: int) -> Sentences:
        """Random sentences of similar lengths, so that little of a batch is padding."""
        drawn = rng.choice(len(self), min(len(self), POOL * size), replace=False)
        drawn = drawn[np.argsort(self.lengths[drawn], kind="stable")]
        first = int(rng.integers(0, max(1, len(drawn) - size + 1)))
        return self.sentences(drawn[first : first + size])

    def sentences(self, chosen: np.ndarray) -> Sentences:
        """The sentences of these numbers."""
        starts, lengths = self.starts[chosen], self.lengths[chosen]
        stretches = [slice(start, start + length) for start, length in zip(starts, lengths, strict=True)]

        def padded(name: str) -> Tensor:
            rows = [torch.from_numpy(self.columns[name][stretch].astype(np.float32)) for stretch in stretches]
            return pad_sequence(rows, batch_first=True)

        return Sentences(
            padded("ids").long(),
            torch.from_numpy(lengths.astype(np.int64)),
            *(padded(name).transpose(1, 2).contiguous() for name in ("hidden", "mean", "log_std")),
        )


def read_corpus(
    voice: PiperVoice,
    teacher: StagedVits,
    corpus: Path,
    out: Path,
    lines: int,
    seed: int,
    short_texts: float = 0.0,
    minutes: float | None = None,
) -> list[Path]:
    """Have the teacher's text encoder read `lines` lines of a corpus, in an order shuffled by the seed.

    Where PyTorch has a GPU the teacher is moved to it.

    Each shard holds some of the lines and `short_texts` times as many short texts cut from the same lines, so that
    nothing of a shard that is held out is in another. Shards that exist are kept. After so many `minutes` no further
    one is begun; how many there are is noted, so that a run goes on with the same.

    Returns:
        The shards in order, two at least where there are so many lines.

    Raises:
        TeacherDataError: if the folder was made with another voice, corpus or seed, or nothing gives phonemes.
    """
    out.mkdir(parents=True, exist_ok=True)
    claim_folder(out, voice, corpus, seed)
    teacher.to(training_device())  # here, because what is moved in inference mode can never train anything
    text = read_sentences(corpus)
    order = np.random.default_rng([seed, 1]).permutation(len(text))[:lines]
    note, asked = out / "data.json", {"lines": lines, "short_texts": short_texts}
    before = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    most = before["shards"] if asked.items() <= before.items() else None
    began, shards = time.monotonic(), []
    with tqdm(total=len(order), unit="line", desc=f"{voice.name} reads") as bar:
        size = max(1, min(SHARD_LINES, len(order) // LEAST_SHARDS))
        for first in range(0, len(order), size):
            late = minutes is not None and time.monotonic() - began > 60 * minutes and len(shards) >= 2
            if len(shards) == most or (most is None and late):
                break
            numbers = order[first : first + size]
            # What is in it is in the name: a shard that is cut otherwise when more lines are wanted is another.
            short = round(short_texts * len(numbers))
            path = out / f"text-{first // size:04d}-{len(numbers)}-{short}.safetensors"
            if not path.exists():
                chosen = [text[number] for number in numbers]
                cut = cut_short_texts(chosen, short, np.random.default_rng([seed, 2, first]))
                write_text_shard(voice, teacher, chosen + cut, path)
            shards.append(path)
            bar.update(len(numbers))
    with atomic_path(note) as partial:
        partial.write_text(json.dumps(asked | {"shards": len(shards)}) + "\n", encoding="utf-8")
    return shards


def cut_short_texts(lines: list[str], count: int, rng: np.random.Generator) -> list[str]:
    """`count` texts of one to four successive words of a line, as a voice is asked to speak them: "Yes.", "Turn left".

    Prose has almost none, and a student that never saw one speaks it too fast.
    """
    texts = []
    for number in rng.integers(len(lines), size=count):
        words = lines[number].split()
        wanted = int(rng.integers(1, LONGEST_SHORT_TEXT + 1))
        first = int(rng.integers(0, max(1, len(words) - wanted + 1)))
        text = " ".join(words[first : first + wanted]).strip(string.punctuation)
        texts.append(text[:1].upper() + text[1:] + str(rng.choice(SHORT_TEXT_ENDS)))
    return texts


def write_text_shard(voice: PiperVoice, teacher: StagedVits, lines: list[str], path: Path) -> None:
    """Encode lines and write them as one shard: arrays of all sentences end to end, with their lengths."""
    sentences = [ids for line in lines for ids in sentences_of(voice, line)]
    rows = [
        statistics | {"ids": np.asarray(ids, np.int16), "phonemes": np.asarray([len(ids)], np.int32)}
        for ids, statistics in zip(sentences, encoded(teacher, sentences), strict=True)
    ]
    save_shard(voice, rows, len(lines), path)


@torch.inference_mode()
def encoded(teacher: StagedVits, sentences: list[list[int]]) -> list[dict[str, np.ndarray]]:
    """Of each sentence `hidden`, `mean` and `log_std`, float16 [phonemes, channels].

    A processor encodes one by one, a GPU sentences of similar lengths together.
    """
    device = next(teacher.parameters()).device
    together = 1 if device.type == "cpu" else READ_TOGETHER
    order = sorted(range(len(sentences)), key=lambda number: len(sentences[number]))
    made: list[dict[str, np.ndarray]] = [{} for _ in sentences]
    for first in range(0, len(order), together):
        numbers = order[first : first + together]
        ids = pad_sequence([torch.tensor(sentences[number]) for number in numbers], batch_first=True)
        lengths = torch.tensor([len(sentences[number]) for number in numbers])
        with in_float32(device):
            hidden, mean, log_std, _ = teacher.encode(ids.to(device), lengths.to(device))
        for name, value in (("hidden", hidden), ("mean", mean), ("log_std", log_std)):
            batch = value.transpose(1, 2).half().cpu().numpy()
            for number, row in zip(numbers, batch, strict=True):
                made[number][name] = row[: len(sentences[number])]
    return made
