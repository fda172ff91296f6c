"""After channels are gone: fit the weights that remain, so that the decoder makes what it made before.

Pruning takes inputs away from every layer. What they carried is partly in the inputs that are left, because channels
are correlated; a least-squares fit of each remaining weight on the voice's own activations moves it there (channel
reconstruction: He et al. 2017, https://arxiv.org/abs/1707.06168). Layers are fitted in the order in which they run,
on what the *pruned* decoder feeds them, so each also corrects what went wrong before it. The last convolutions of a
stage's residual blocks are fitted together, on the sum that leaves the stage.

Nothing is trained: the fit is exact and takes a minute. Loud and quiet moments count alike, because each moment's
error is weighed by the inverse of its level: a plain fit cares for loud vowels and leaves noise in the pauses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttsopt_lib.networks.hifigan import HifiGanDecoder, ResBlock1, ResBlock2

RIDGE = 1e-4  # of the mean power of a feature: keeps a fit on correlated channels from exploding
QUIET = 0.03  # of the mean power: moments below it count no more than this
Kept = Mapping[str, Tensor]
Moments = tuple[Tensor, Tensor, Tensor]  # of an utterance: features [in, time], targets [out, time], weights [time]


def _least_squares(utterances: Iterable[Moments]) -> tuple[Tensor, Tensor]:
    """Weights [out, in] and biases [out] that make targets of features; one utterance is in memory at a time."""
    gram, cross = torch.zeros(()), torch.zeros(())
    for features, target, weight in utterances:
        features = torch.cat([features, features.new_ones(1, features.shape[1])])
        weighted = features * weight
        gram, cross = gram + (weighted @ features.T).double(), cross + (weighted @ target.T).double()
    diagonal = gram.diagonal()
    ridge = torch.full_like(diagonal, RIDGE * float(diagonal[:-1].mean()))
    ridge[-1] = 0.0  # the bias is free
    solution = torch.linalg.solve(gram + torch.diag(ridge), cross).T.float()
    return solution[:, :-1], solution[:, -1]


def unfolded(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """What a convolution's weight [out, in, kernel] meets, from its input [in, time]: [in * kernel, time]."""
    (kernel,), (dilation,), (padding,) = conv.kernel_size, conv.dilation, (int(conv.padding[0]),)
    padded = F.pad(x, (padding, padding))
    length = padded.shape[1] - dilation * (kernel - 1)
    return torch.stack([padded[:, k * dilation : k * dilation + length] for k in range(kernel)], 1).flatten(0, 1)


def level_weights(x: Tensor) -> Tensor:
    """One weight per moment of activations [channels, time]: the inverse of its power, smoothed over a few moments."""
    power = x.square().mean(0)
    power = F.avg_pool1d(power[None], 33, 1, 16, count_include_pad=False)[0]
    return 1.0 / (power + QUIET * power.mean())


@torch.no_grad()
def refit_decoder(
    student: HifiGanDecoder,
    teacher: HifiGanDecoder,
    kept: Kept,
    latents: Sequence[Tensor],
    speakers: Sequence[Tensor | None],
) -> None:
    """Fit a pruned decoder's weights to its teacher's activations, in place.

    Args:
        student: the pruned decoder.
        teacher: the whole one.
        kept: layer name -> which of the teacher's output channels that layer of the student still makes.
        latents: of whole utterances, [1, latent_channels, frames] each: half a minute in all is enough.
        speakers: their speaker embeddings, [1, speaker_channels, 1] each; None where the voice has one speaker.
    """
    pre_s, pre_t = student.conv_pre, teacher.conv_pre
    ours = [pre_s(z) for z in latents]  # its input is whole: what is left of it is exact
    theirs = [pre_t(z) for z in latents]
    if speakers[0] is not None:
        ours = [x + student.cond(g) for x, g in zip(ours, speakers, strict=True)]
        theirs = [x + teacher.cond(g) for x, g in zip(theirs, speakers, strict=True)]
    slope = teacher.config.slope
    per_stage = len(teacher.resblocks) // len(teacher.ups)
    for stage, (up_s, up_t) in enumerate(zip(student.ups, teacher.ups, strict=True)):
        assert isinstance(up_s, nn.ConvTranspose1d)
        ours = [F.leaky_relu(x, slope) for x in ours]
        wanted = [up_t(F.leaky_relu(x, slope)) for x in theirs]
        channels = kept[f"ups.{stage}"]
        _fit_upsampling(up_s, ours, [t[:, channels] for t in wanted])
        ours = [up_s(x) for x in ours]
        names = [f"resblocks.{stage * per_stage + number}" for number in range(per_stage)]
        blocks = [(student.get_submodule(name), teacher.get_submodule(name)) for name in names]
        ours, theirs = _fit_blocks(blocks, names, kept, channels, ours, wanted, slope)
    ours = [F.leaky_relu(x) for x in ours]
    wanted = [teacher.conv_post(F.leaky_relu(x)) for x in theirs]
    _fit_conv(student.conv_post, ours, wanted, judged_by=wanted)


def _fit_blocks(
    blocks: list, names: list[str], kept: Kept, channels: Tensor, ours: list[Tensor], theirs: list[Tensor], slope: float
) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """Fit a stage's residual blocks; returns what leaves the stage, in the pruned decoder and in the whole one."""
    inputs_s: list[list[Tensor]] = []  # of each block's last convolution, before its activation
    states_s: list[list[Tensor]] = []  # what that convolution adds to
    totals: list[Tensor] = [torch.zeros_like(x) for x in theirs]
    lasts: list[nn.Conv1d] = []
    for (block_s, block_t), name in zip(blocks, names, strict=True):
        hs, ht = list(ours), list(theirs)
        steps = _steps(block_s, block_t, name)
        for number, (inner, outer, inner_name) in enumerate(steps):
            last = number == len(steps) - 1
            base = hs
            into_s, into_t = [F.leaky_relu(h, slope) for h in hs], [F.leaky_relu(h, slope) for h in ht]
            if inner is not None:
                made = [inner[1](x) for x in into_t]
                _fit_conv(inner[0], into_s, [m[:, kept[inner_name]] for m in made])
                into_s = [F.leaky_relu(inner[0](x), slope) for x in into_s]
                into_t = [F.leaky_relu(m, slope) for m in made]
            ht = [h + outer[1](x) for h, x in zip(ht, into_t, strict=True)]
            if last:
                lasts.append(outer[0])
                inputs_s.append(into_s)
                states_s.append(base)
            else:
                targets = [t[:, channels] - h for t, h in zip(ht, base, strict=True)]
                _fit_conv(outer[0], into_s, targets)
                hs = [h + outer[0](x) for h, x in zip(base, into_s, strict=True)]
        totals = [total + h for total, h in zip(totals, ht, strict=True)]

    def moments() -> Iterator[Moments]:
        for index, total in enumerate(totals):
            state = torch.stack([states[index] for states in states_s]).sum(0)
            features = torch.cat([unfolded(x[index][0], conv) for x, conv in zip(inputs_s, lasts, strict=True)])
            yield features, (total[:, channels] - state)[0], level_weights(total[0])

    weight, bias = _least_squares(moments())
    parts = weight.split([conv.in_channels * conv.kernel_size[0] for conv in lasts], dim=1)
    for conv, part in zip(lasts, parts, strict=True):
        conv.weight.copy_(part.reshape(conv.weight.shape))
        if conv.bias is not None:
            conv.bias.copy_(bias / len(lasts))
    made = []
    for index in range(len(ours)):
        each = [states[index] + conv(x[index]) for states, x, conv in zip(states_s, inputs_s, lasts, strict=True)]
        made.append(torch.stack(each).mean(0))
    return made, [total / len(blocks) for total in totals]


def _steps(block_s: nn.Module, block_t: nn.Module, name: str) -> list[tuple]:
    """(inner convolution or None, the one that adds to the residual, the inner one's name) of both decoders."""
    if isinstance(block_s, ResBlock1) and isinstance(block_t, ResBlock1):
        layers = zip(block_s.convs1, block_t.convs1, block_s.convs2, block_t.convs2, strict=True)
        return [((a, b), (c, d), f"{name}.convs1.{number}") for number, (a, b, c, d) in enumerate(layers)]
    assert isinstance(block_s, ResBlock2) and isinstance(block_t, ResBlock2)
    return [(None, outer, "") for outer in zip(block_s.convs, block_t.convs, strict=True)]


def _fit_conv(
    conv: nn.Conv1d, inputs: list[Tensor], targets: list[Tensor], judged_by: list[Tensor] | None = None
) -> None:
    """Fit one convolution; moments count by the level of `judged_by`, which is that of the inputs unless given."""
    weight, bias = _least_squares(
        (unfolded(x[0], conv), t[0], level_weights(level[0]))
        for x, t, level in zip(inputs, targets, judged_by or inputs, strict=True)
    )
    conv.weight.copy_(weight.view_as(conv.weight))
    if conv.bias is not None:
        conv.bias.copy_(bias)


def _fit_upsampling(up: nn.ConvTranspose1d, inputs: list[Tensor], targets: list[Tensor]) -> None:
    """One fit for each phase of the output, on as many inputs as the kernel reaches; the phases share one bias."""
    (stride,), (kernel,), (cut,) = up.stride, up.kernel_size, (int(up.padding[0]),)
    if kernel % stride:
        return  # phases of unequal length: what pruning left is good enough to train from
    taps = kernel // stride

    def moments() -> Iterator[Moments]:
        for x, t in zip(inputs, targets, strict=True):
            x, t = x[0], t[0]
            size = x.shape[1] + taps - 1
            padded = F.pad(x, (taps - 1, taps - 1))
            features = torch.stack([padded[:, taps - 1 - k : taps - 1 - k + size] for k in range(taps)], 1)
            whole = F.pad(t, (cut, size * stride - cut - t.shape[1]))
            phases = whole.reshape(t.shape[0], size, stride).transpose(1, 2).flatten(0, 1)
            weight = level_weights(F.pad(x, (0, taps - 1)))
            ends = -(-cut // stride)  # not all phases of the ends are in the output
            weight[:ends] = 0.0
            weight[len(weight) - ends :] = 0.0
            yield features.flatten(0, 1), phases, weight

    weight, bias = _least_squares(moments())
    channels = up.out_channels
    up.weight.copy_(weight.view(channels, stride, up.in_channels, taps).permute(2, 0, 3, 1).reshape(up.weight.shape))
    if up.bias is not None:
        up.bias.copy_(bias.view(channels, stride).mean(1))
