"""Teacher data in memory, and the random segments of it that a student trains on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ttsopt_lib.errors import TtsoptError


class SegmentError(TtsoptError, ValueError):
    """Teacher data that has no segment of the length asked for. The message says what would help."""


@dataclass(frozen=True)
class Tensors:
    """Tensors that go together, field by field."""

    def share(self, rank: int, processes: int) -> Self:
        """Of a batch every `processes`-th entry, from number `rank` on."""
        return type(self)(*(part[rank::processes] for part in self._parts()))

    def to(self, device: torch.device) -> Self:
        """The same on a device. Nothing waits for what is in pinned memory to be there: what comes after it does."""
        return type(self)(*(part.to(device, non_blocking=True) for part in self._parts()))

    def pinned(self) -> Self:
        """A copy in memory that a GPU reads by itself; each part lies there as it does here, without gaps."""
        parts = [torch.empty_like(part, pin_memory=True).copy_(part) for part in self._parts()]
        return type(self)(*parts)

    def _parts(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]


@dataclass(frozen=True)
class Segments(Tensors):
    """A batch: latents before and after the flow [B, C, T], samples and how far each can be trusted [B, T * hop], and
    speakers [B]."""

    z_p: Tensor
    z: Tensor
    samples: Tensor
    trust: Tensor
    speakers: Tensor


@dataclass(frozen=True)
class Utterance(Tensors):
    """A whole utterance: latents before and after the flow [1, C, T], samples [T * hop], speaker [1]."""

    z_p: Tensor
    z: Tensor
    samples: Tensor
    speaker: Tensor


class Utterances:
    """Many utterances end to end: latents `z_p` and `z` [frames, C] float16 and `audio` [frames * hop] int16."""

    def __init__(self, shards: list[Path]):
        self.z_p, self.z, self.audio, self.frames, self.speaker = read_columns(
            shards, ("z_p", "z", "audio", "frames", "speaker")
        )
        self.hop = len(self.audio) // len(self.z)
        self.starts = np.cumsum(self.frames) - self.frames

    def __len__(self) -> int:
        return len(self.frames)

    def sha256(self) -> str:
        """Hash of what a student is trained on."""
        digest = hashlib.sha256()
        for array in (self.frames, self.z, self.audio):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def latent_variance(self) -> float:
        """The decoder's latents' mean standard deviation, squared; from some of the frames."""
        some = self.z[:: max(1, len(self.z) // 20_000)].astype(np.float32)
        return float(torch.from_numpy(some).std(0).mean() ** 2)

    def utterance(self, index: int) -> Utterance:
        """One whole utterance as float32."""
        start, end = int(self.starts[index]), int(self.starts[index] + self.frames[index])

        def latents(frames: np.ndarray) -> Tensor:
            return torch.from_numpy(frames[start:end].astype(np.float32)).T.unsqueeze(0).contiguous()

        samples = torch.from_numpy(self.audio[start * self.hop : end * self.hop].astype(np.float32) / 32767)
        speaker = torch.tensor([int(self.speaker[index])])
        return Utterance(latents(self.z_p), latents(self.z), samples, speaker)

    def batch(self, rng: np.random.Generator, size: int, frames: int, margin: int) -> Segments:
        """Random segments of `frames` frames.

        Trust is 0 within `margin` frames of a cut edge, where the student lacks the context that the teacher
        had, and rises to 1 over the last of them; at the true start and end of an utterance it is 1, so a
        student learns how speech begins and ends.

        Raises:
            SegmentError: if no utterance is that long.
        """
        usable = np.flatnonzero(self.frames >= frames)
        if not len(usable):
            raise SegmentError(
                f"no utterance of the teacher data has {frames} frames: speak longer sentences or ask for shorter "
                "segments (segment_frames)"
            )
        # A longer utterance holds more segments; the margin on both sides draws ends as often as middles.
        weight = self.frames[usable] - frames + 2 * margin
        chosen = rng.choice(usable, size, p=weight / weight.sum())
        z_p, z = (np.empty((size, frames, self.z.shape[1]), np.float32) for _ in range(2))
        samples = np.empty((size, frames * self.hop), np.float32)
        trust = np.ones((size, frames * self.hop), np.float32)
        rise = np.concatenate([np.zeros((margin - 1) * self.hop), np.linspace(0, 1, self.hop)]).astype(np.float32)
        for row, index in enumerate(chosen):
            room = int(self.frames[index]) - frames
            offset = int(np.clip(rng.integers(-margin, room + margin + 1), 0, room))
            start = int(self.starts[index]) + offset
            z_p[row], z[row] = (latents[start : start + frames] for latents in (self.z_p, self.z))
            samples[row] = self.audio[start * self.hop : (start + frames) * self.hop]
            if offset > 0:
                trust[row, : len(rise)] = rise
            if offset < room:
                trust[row, -len(rise) :] = rise[::-1]
        return Segments(
            torch.from_numpy(z_p).transpose(1, 2),
            torch.from_numpy(z).transpose(1, 2),
            torch.from_numpy(samples / 32767),
            torch.from_numpy(trust),
            torch.from_numpy(self.speaker[chosen].astype(np.int64)),
        )


def read_columns(shards: list[Path], names: Sequence[str]) -> list[np.ndarray]:
    """Arrays of all shards end to end, in the order of the names; one at a time: hours of speech are gigabytes."""
    columns = []
    for name in names:
        parts = []
        for path in shards:
            with safe_open(path, framework="numpy") as shard:
                parts.append(shard.get_tensor(name))
        columns.append(np.concatenate(parts))
    return columns


def latent_error(made: Tensor, batch: Segments, variance: float) -> Tensor:
    """Squared error of latents [B, C, T] against the teacher's over their variance; cut edges count as they can be
    trusted."""
    hop = batch.samples.shape[1] // batch.z.shape[2]
    trust = batch.trust[:, None, ::hop]
    return ((made.float() - batch.z) * trust).square().mean() / trust.mean() / variance
