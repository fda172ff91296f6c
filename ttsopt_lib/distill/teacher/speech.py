"""Teacher speech: what the later stages of a voice were given and made while it spoke a text corpus.

Kept for each utterance: the latent frames before (`z_p`) and after the flow (`z`, the decoder's input), the waveform
and the speaker. Utterances are written in shards that appear whole or not at all, so an interrupted run goes on with
the first missing shard.

The noise is drawn from (seed, line, sentence), so the same corpus, voice and seed give the same data whatever
the number of workers or interruptions, and on a GPU the same within rounding. What is not done: no recording is needed
or used, and no text is normalised beyond what the voice's phonemizer does. Sentences are spoken one by one: in a
padded batch a decoder computes on behind a sentence's end, and its last frames are others (joe's last seven, by 0.0002
of full scale). Several processes keep a GPU busy instead.
"""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs
from safetensors import safe_open
from safetensors.numpy import save_file
from tqdm.auto import tqdm

from ttsopt_lib.distill.teacher.device import CPU, in_float32, speaking_teacher, training_device
from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.files import atomic_path, file_sha256
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.voices.piper import PiperVoice, open_piper
from ttsopt_lib.voices.text import TextError, phoneme_ids, read_sentences
from ttsopt_lib.workers import cluster_workers, local_workers

SHARD_LINES = 24  # about two minutes of speech: little is lost when a run is interrupted


class TeacherDataError(TtsoptError, ValueError):
    """Teacher data that is not what was asked for. The message is one line: which folder, what would be right."""


def speak_corpus(
    voice_onnx: Path,
    corpus: Path,
    out: Path,
    hours: float,
    seed: int = 0,
    workers: int = 2,
    minutes: float | None = None,
    dask: str | None = None,
) -> list[Path]:
    """Speak lines of a corpus, in an order shuffled by the seed, until there are `hours` of speech or no more lines.

    Returns the shards in order, which are the same however many workers speak. Shards that exist are kept. With
    `minutes`, it stops after so long (two shards at least). `workers` processes speak side by side, on this machine's
    GPU where it has one, or with `dask`, the address of a scheduler, all workers of its cluster on their processors,
    which write to the same `out`.

    Raises:
        TeacherDataError: if the folder was made with another voice, corpus or seed.
        WorkerError: a process on the GPU was killed.
        ClusterError: no Dask scheduler answers at the address, or the package is missing.
    """
    voice = open_piper(voice_onnx)
    lines = read_sentences(corpus)
    order = np.random.default_rng(seed).permutation(len(lines))
    batches = [order[first : first + SHARD_LINES] for first in range(0, len(order), SHARD_LINES)]
    claim_folder(out, voice, corpus, seed)
    device = CPU if dask else training_device()

    began = time.monotonic()
    shards: list[Path] = []
    wanted, spoken = hours * 3600, 0.0
    with (
        tqdm(total=round(wanted), unit="s", desc=f"{voice.name} speaks") as bar,
        _speakers(workers, device, dask) as parallel,
    ):
        together = effective_n_jobs(-1) if dask else workers
        for first in range(0, len(batches), together):
            group = [(out / shard_name(n), batches[n]) for n in range(first, min(first + together, len(batches)))]
            missing = [
                delayed(write_shard)(
                    voice_onnx, voice.onnx_sha256, {int(number): lines[number] for number in batch}, seed, path, device
                )
                for path, batch in group
                if not path.exists()
            ]
            for _ in parallel(missing):
                pass
            for path, _ in group:
                shards.append(path)
                seconds = samples_in(path) / voice.config.sample_rate
                spoken += seconds
                bar.update(round(seconds))
                if spoken >= wanted:
                    return shards
            if minutes is not None and time.monotonic() - began > 60 * minutes and len(shards) >= 2:
                return shards
    return shards


def _speakers(workers: int, device: torch.device, dask: str | None) -> AbstractContextManager[Parallel]:
    """Processes that speak. On a GPU they end with the block, because each of them holds some of its memory."""
    if dask:
        return cluster_workers(dask)
    return Parallel(n_jobs=workers, return_as="generator") if device.type == "cpu" else local_workers(workers)


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.safetensors"


def claim_folder(out: Path, voice: PiperVoice, corpus: Path, seed: int) -> None:
    """Note in the folder what its data is made from. Raises `TeacherDataError` where it is something else."""
    origin = {
        "voice": voice.onnx_sha256,
        "corpus": file_sha256(corpus),
        "seed": seed,
        "shard_utterances": SHARD_LINES,
    }
    note = out / "origin.json"
    if note.exists():
        there = json.loads(note.read_text(encoding="utf-8"))
        other = [key for key in origin if there.get(key) != origin[key]]
        if other:
            raise TeacherDataError(
                f"{out}: holds teacher data of another {' and '.join(other)}; name another folder, or delete this one"
            )
        return
    with atomic_path(note) as partial:
        partial.write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")


# Once per worker process: loading a voice costs as much as a sentence. By its hash: a cluster's workers outlive a file.
_loaded: dict[tuple[Path, str, torch.device], tuple[PiperVoice, StagedVits]] = {}


def write_shard(
    voice_onnx: Path,
    sha256: str,
    lines: dict[int, str],
    seed: int,
    path: Path,
    device: torch.device = CPU,
) -> None:
    """Speak numbered lines and write them as one shard: arrays of all utterances end to end, with their lengths."""
    if (voice_onnx, sha256, device) not in _loaded:
        voice = open_piper(voice_onnx)
        if voice.onnx_sha256 != sha256:
            raise TeacherDataError(f"{voice_onnx}: is another voice for this worker than for the one who asks")
        _loaded[voice_onnx, sha256, device] = (voice, speaking_teacher(voice, device))
    voice, network = _loaded[voice_onnx, sha256, device]
    utterances = [
        speak(voice, network, ids, np.random.default_rng([seed, number, part]))
        for number, line in lines.items()
        for part, ids in enumerate(sentences_of(voice, line))
    ]
    save_shard(voice, utterances, len(lines), path)


def sentences_of(voice: PiperVoice, line: str) -> list[list[int]]:
    """Phoneme ids of each sentence; none where a line says nothing: dots, or digits in another script."""
    try:
        return phoneme_ids(voice.config, line)
    except TextError:
        return []


def save_shard(voice: PiperVoice, rows: list[dict[str, np.ndarray]], lines: int, path: Path) -> None:
    """Write what was made of so many lines, end to end. Raises `TeacherDataError` where that is nothing."""
    if not rows:
        raise TeacherDataError(
            f"{voice.name}: {lines} lines of the corpus give no phonemes at all; is it in the voice's language?"
        )
    # safetensors writes memory as it lies, and a transposed array does not lie as its shape says.
    joined = {key: np.ascontiguousarray(np.concatenate([row[key] for row in rows])) for key in rows[0]}
    with atomic_path(path) as partial:
        save_file(joined, partial)


@torch.inference_mode()
def speak(voice: PiperVoice, network: StagedVits, ids: list[int], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One utterance at the voice's own noise scales: the latents and samples, one row per frame or sample.

    Flow and decoder may be on a GPU (`speaking_teacher`); everything before them is computed by the processor.
    """
    noise_scale, length_scale, noise_w = voice.config.inference.scales
    speaker = int(rng.integers(voice.config.num_speakers)) if network.speaker_embedding is not None else 0
    g = network.speaker(torch.tensor([speaker]))
    hidden, mean, log_std, mask = network.encode(torch.tensor([ids]), torch.tensor([len(ids)]))
    noise = torch.from_numpy(rng.standard_normal((1, 2, len(ids)), dtype=np.float32))
    durations = network.durations(hidden, mask, noise, length_scale, noise_w, g)
    frame_mean, frame_log_std, frame_mask = network.expand(mean, log_std, durations)
    noise = torch.from_numpy(rng.standard_normal(tuple(frame_mean.shape), dtype=np.float32))
    z_p = frame_mean + noise * frame_log_std.exp() * noise_scale
    device = next(network.decoder.parameters()).device
    with in_float32(device):
        g_there = None if g is None else g.to(device)
        z = network.flow_inverse(z_p.to(device), frame_mask.to(device), g_there)
        samples = network.decode(z, g_there)[0, 0].cpu().numpy()

    def rows(tensor: torch.Tensor) -> np.ndarray:
        return tensor[0].T.cpu().numpy().astype(np.float16)

    return {
        "z_p": rows(z_p),
        "z": rows(z),
        "audio": np.clip(np.round(samples * 32767), -32767, 32767).astype(np.int16),
        "frames": np.asarray([z.shape[-1]], np.int32),
        "speaker": np.asarray([speaker], np.int32),
    }


def samples_in(path: Path) -> int:
    """Samples of speech in a shard, without reading them."""
    with safe_open(path, framework="numpy") as shard:
        return shard.get_slice("audio").get_shape()[0]
