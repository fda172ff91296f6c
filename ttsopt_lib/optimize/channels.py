"""Structured pruning: whole channels leave a voice, so that it has less to multiply on any kernel.

1. Which channels can only go together is read off the network as it runs (`torch_pruning`'s dependency graph; Fang et
   al. 2023, https://arxiv.org/abs/2301.12900): a decoder's stage is one set, because its residual blocks are summed.
2. What a channel is worth is the Fisher information of the spectral loss about it (Theis et al. 2018,
   https://arxiv.org/abs/1801.05787): the squares of activation times gradient, summed, while the voice speaks and
   its own waveform, slightly disturbed, is what it is compared with. Much may hang on a small weight.
3. Widths are solved for: least damage of all those that remove the asked share of multiply-accumulates or
   parameters. A share of channels is not that share, because a layer loses inputs and outputs.
4. The weights that remain are fitted anew (`refit`, decoder only). What that leaves to do is training (`finetune`).

Not pruned: what a stage hands to the next, the attention (its heads share one width) and the duration predictor.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from ttsopt_lib.distill.decoder_speed import macs_per_frame
from ttsopt_lib.distill.losses import spectral_loss
from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.networks.coupling import Coupling
from ttsopt_lib.networks.hifigan import HifiGanConfig, HifiGanDecoder
from ttsopt_lib.networks.text_encoder import FeedForward
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.optimize.calibration import Feed
from ttsopt_lib.optimize.refit import refit_decoder
from ttsopt_lib.step_settings import PruneStructured

WEIGHTED = (nn.Conv1d, nn.ConvTranspose1d, nn.Linear)
JUDGED = 6  # utterances that tell what a channel is worth
REFITTED = 8  # utterances that the remaining weights are fitted to
LOUDER, NOISE = 0.02, 1e-3  # how the waveform is disturbed, where undisturbed the loss would have no gradient
SHORTEST = 8  # frames: any length does to see how a network is wired


class PruningError(TtsoptError, ValueError):
    """A voice or an amount that cannot be pruned so. The message says what would be right."""


@dataclass
class Channels:
    """Channels that exist in several layers at once: where number c goes, it goes everywhere.

    Attributes:
        graph, layer, function: what `torch_pruning` removes them by.
        count: how many there are.
        outputs: for each layer that makes them, which of its output channels each of them is, [count, 1 or 2].
        inputs: for each layer that reads them, how many of its input channels each of them is.
        damage: what each is worth, [count].
    """

    graph: tp.DependencyGraph
    layer: Any
    function: Any
    count: int
    outputs: dict[nn.Module, Tensor]
    inputs: dict[nn.Module, int]
    damage: Tensor = field(default_factory=lambda: torch.zeros(0))


@dataclass(frozen=True)
class Pruned:
    """What was removed.

    Attributes:
        widths: layer name -> (channels before, channels now), where they differ.
        macs, parameters: fractions of the pruned stages' that are gone.
    """

    widths: dict[str, tuple[int, int]]
    macs: float
    parameters: float


def prune_structured(model: StagedVits, step: PruneStructured, feeds: Sequence[Feed]) -> Pruned:
    """Remove channels from the stages of a voice, in place, and fit what remains of its decoder.

    Args:
        model: the voice, with its own decoder.
        step: which stages, how much of what, and the multiple that channel counts are rounded to.
        feeds: calibration utterances.

    Raises:
        PruningError: the decoder is a student, or so much cannot be removed.
    """
    if "decoder" in step.stages and not isinstance(model.decoder, HifiGanDecoder):
        raise PruningError(
            "prune_structured: the decoder is no HiFi-GAN; put the step before distill, or prune other stages"
        )
    width: dict[nn.Module, int] = {}  # that is asked for, of the layers that decide it
    if step.decoder_widths is not None:
        assert isinstance(model.decoder, HifiGanDecoder)
        refuse_widths(model.decoder, step)
        width = dict(zip((model.decoder.conv_pre, *model.decoder.ups), step.decoder_widths, strict=True))
    whole = copy.deepcopy(model.decoder)
    stages = [getattr(model, stage) for stage in step.stages]
    names: dict[nn.Module, str] = {x: name for name, x in model.named_modules() if isinstance(x, WEIGHTED)}
    layers: list[nn.Module] = [x for stage in stages for x in stage.modules() if isinstance(x, WEIGHTED)]
    before = {layer: _sizes(layer)[1] for layer in layers}
    gradients = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(True)  # the graph is read off the gradients' functions
    sets = [channels for stage in stages for channels in channel_sets(stage)]
    moments = times_multiplied(model, feeds[0], layers)
    judge_channels(model, feeds[:JUDGED], sets)
    counts = _Counts(layers, moments, sum(p.numel() for stage in stages for p in stage.parameters()))
    if width:
        gone = [next((one.count - width[layer] for layer in one.outputs if layer in width), 0) for one in sets]
    else:
        gone = choose_widths(sets, counts, step.amount, step.of, step.round_to)
    kept: dict[str, Tensor] = {}
    for channels, number in zip(sets, gone, strict=True):
        if not number:
            continue
        lost = channels.damage.argsort(stable=True)[:number]
        for layer, indices in channels.outputs.items():
            stays = torch.ones(_sizes(layer)[1], dtype=torch.bool)
            stays[indices[lost].flatten()] = False
            kept[names[layer].partition(".")[2]] = stays.nonzero().flatten()
        channels.graph.get_pruning_group(channels.layer, channels.function, lost.tolist()).prune()
    for parameter, needed in zip(model.parameters(), gradients, strict=True):
        parameter.requires_grad_(needed)
    if isinstance(model.decoder, HifiGanDecoder) and isinstance(whole, HifiGanDecoder) and "decoder" in step.stages:
        for name, layer in whole.named_modules():
            if isinstance(layer, WEIGHTED):
                kept.setdefault(name, torch.arange(_sizes(layer)[1]))
        spoken = [latents(model, feed, number) for number, feed in enumerate(feeds[:REFITTED])]
        refit_decoder(model.decoder, whole, kept, [z for z, _ in spoken], [g for _, g in spoken])
    widths = {names[layer]: (old, _sizes(layer)[1]) for layer, old in before.items() if old != _sizes(layer)[1]}
    return Pruned(widths, counts.share("macs", sets, gone), counts.share("parameters", sets, gone))


# --- which channels go together ---------------------------------------------------------------------------------


def channel_sets(stage: nn.Module) -> list[Channels]:
    """The sets of channels that can be removed from a stage: decoder, flow or text encoder."""
    found = []
    for part, example, fixed in _parts(stage):
        graph = tp.DependencyGraph().build_dependency(part, example_inputs=example)
        for group in graph.get_all_groups(ignored_layers=fixed, root_module_types=list(WEIGHTED)):
            found.append(_channels(graph, group))
    return found


def _parts(stage: nn.Module) -> Iterable[tuple[nn.Module, tuple, list[nn.Module]]]:
    """The modules of a stage that are pruned one by one, an input of each, and the layers whose outputs must stay."""
    if isinstance(stage, HifiGanDecoder):
        speaker = (torch.zeros(1, stage.config.speaker_channels, 1),) if stage.config.speaker_channels else ()
        yield stage, (torch.zeros(1, stage.conv_pre.in_channels, SHORTEST), *speaker), [stage.conv_post]
        return
    for module in stage.modules():
        if isinstance(module, Coupling):
            latent = torch.zeros(1, module.pre.in_channels + module.post.out_channels, SHORTEST)
            cond = getattr(module.enc, "cond_layer", None)
            speaker = () if cond is None else (torch.zeros(1, cond.in_channels, 1),)
            yield module, (latent, torch.ones(1, 1, SHORTEST), *speaker), [module.post]
        elif isinstance(module, FeedForward):
            x = torch.zeros(1, SHORTEST, module.conv_1.in_channels)
            yield module, (x, torch.ones(1, 1, SHORTEST)), [module.conv_2]


def _channels(graph: tp.DependencyGraph, group: tp.Group) -> Channels:
    """A set from a group of layers: its members as the layer counts them that has the fewest (a gate has two each)."""
    members = [(d, indices) for d, indices in group if isinstance(d.target.module, WEIGHTED)]
    dependency, indices = min(members, key=lambda member: len(member[1]))
    count = len(indices)
    layer, function = dependency.target.module, dependency.handler
    outputs: dict[nn.Module, list[list[int]]] = {}
    inputs: dict[nn.Module, int] = {}
    for channel in range(count):
        for d, own in graph.get_pruning_group(layer, function, [channel]):
            module = d.target.module
            if not isinstance(module, WEIGHTED):
                continue
            if graph.is_out_channel_pruning_fn(d.handler):
                rows = outputs.setdefault(module, [])
                if len(rows) == channel:
                    rows.append([])
                rows[channel].extend(i for i in own if i not in rows[channel])
            elif channel == 0:
                inputs[module] = len(own)
    return Channels(graph, layer, function, count, {m: torch.tensor(rows) for m, rows in outputs.items()}, inputs)


# --- what a channel is worth ------------------------------------------------------------------------------------


def judge_channels(model: StagedVits, feeds: Sequence[Feed], sets: Sequence[Channels]) -> None:
    """Fill in the `damage` of every channel: Fisher information of the spectral loss, summed over utterances."""
    for channels in sets:
        channels.damage = torch.zeros(channels.count)
    made: list[tuple[nn.Module, Tensor]] = []

    def keep(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        if output.requires_grad:
            output.retain_grad()
            made.append((layer, output))

    hooks = [layer.register_forward_hook(keep) for layer in {layer for one in sets for layer in one.outputs}]
    try:
        for number, feed in enumerate(feeds):
            made.clear()
            waveform = model.decode(*latents(model, feed, number, gradients=True))[:, 0]
            draw = torch.Generator().manual_seed(number)
            disturbed = waveform * (1 + LOUDER) + NOISE * torch.randn(waveform.shape, generator=draw)
            terms = spectral_loss(disturbed, waveform.detach(), shift=0.5)
            (terms["log_magnitude"] + terms["convergence"] + 0.5 * terms["complex"]).backward()
            worth: dict[nn.Module, Tensor] = {}
            for layer, output in made:
                if output.grad is None:
                    continue
                axes = (0, 1) if isinstance(layer, nn.Linear) else (0, 2)
                worth[layer] = (output.detach() * output.grad).square().sum(axes)
            for channels in sets:
                for layer, indices in channels.outputs.items():
                    if layer in worth:
                        channels.damage += worth[layer][indices].sum(1)
            model.zero_grad(set_to_none=True)
    finally:
        for hook in hooks:
            hook.remove()


def latents(model: StagedVits, feed: Feed, seed: int, gradients: bool = False) -> tuple[Tensor, Tensor | None]:
    """What the decoder is given for one utterance, [1, latent_channels, frames], and the speaker's embedding."""
    given = _given(feed)
    with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(gradients):
        torch.manual_seed(seed)
        return model.latent(*given, durations=_durations(model, *given))


def _given(feed: Feed) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """An utterance as the network takes it: ids, lengths, scales, and speakers where it has some."""
    ids, lengths, scales = (torch.from_numpy(feed[name]) for name in ("input", "input_lengths", "scales"))
    return ids, lengths, scales, torch.from_numpy(feed["sid"]) if "sid" in feed else None


@torch.no_grad()
def _durations(model: StagedVits, ids: Tensor, lengths: Tensor, scales: Tensor, sid: Tensor | None) -> Tensor:
    hidden, _, _, mask = model.encode(ids, lengths)
    return model.durations(hidden, mask, None, scales[1], scales[2], model.speaker(sid))


# --- how many of them go ----------------------------------------------------------------------------------------


class _Counts:
    """Multiply-accumulates and parameters of some layers, as a function of how many channels are gone."""

    def __init__(self, layers: Sequence[nn.Module], moments: dict[nn.Module, int], parameters: int):
        self.moments, self.parameters = moments, parameters
        # of the layers before anything goes: channels in and out, and taps (a matrix has one)
        self.shapes = {layer: (*_sizes(layer), getattr(layer, "kernel_size", (1,))[0]) for layer in layers}

    def left(self, of: str, sets: Sequence[Channels], gone: Sequence[int]) -> float:
        fewer_in: dict[nn.Module, int] = {}
        fewer_out: dict[nn.Module, int] = {}
        for channels, number in zip(sets, gone, strict=True):
            for layer, each in channels.inputs.items():
                fewer_in[layer] = fewer_in.get(layer, 0) + each * number
            for layer, indices in channels.outputs.items():
                fewer_out[layer] = fewer_out.get(layer, 0) + indices.shape[1] * number
        total = 0
        for layer, (channels_in, channels_out, kernel) in self.shapes.items():
            weights = (channels_in - fewer_in.get(layer, 0)) * (channels_out - fewer_out.get(layer, 0)) * kernel
            total += weights * (self.moments[layer] if of == "macs" else 1)
        return total

    def share(self, of: str, sets: Sequence[Channels], gone: Sequence[int]) -> float:
        """The fraction that is gone."""
        whole = self.left(of, sets, [0] * len(sets))
        lost = whole - self.left(of, sets, gone)
        return lost / max(whole if of == "macs" else self.parameters, 1)


def choose_widths(sets: Sequence[Channels], counts: _Counts, amount: float, of: str, round_to: int) -> list[int]:
    """How many channels each set loses: least damage that removes `amount`.

    Greedy by damage for what it removes, then exchanges (one set gets its last step back, another gives one more)
    for as long as they lower the damage. Widths that remain are multiples of `round_to`, and at least that.

    Raises:
        PruningError: so much cannot be removed.
    """
    order = [torch.cat([torch.zeros(1), channels.damage.sort().values.cumsum(0)]).tolist() for channels in sets]

    def more(index: int, gone: list[int]) -> list[int] | None:
        width = sets[index].count - gone[index]
        smaller = (width - 1) // round_to * round_to
        return [*gone[:index], sets[index].count - smaller, *gone[index + 1 :]] if smaller >= round_to else None

    def damage(gone: list[int]) -> float:
        return sum(lost[number] for lost, number in zip(order, gone, strict=True))

    def removed(gone: list[int]) -> float:
        return counts.share(of, sets, gone)

    gone = [0] * len(sets)
    while removed(gone) < amount:
        options = [option for index in range(len(sets)) if (option := more(index, gone)) is not None]
        if not options:
            raise PruningError(
                f"prune_structured: only {removed(gone):.0%} of the {of} can be removed with widths in multiples of "
                f"{round_to}; ask for a smaller amount or a smaller round_to"
            )
        gone = min(options, key=lambda new: (damage(new) - damage(gone)) / max(removed(new) - removed(gone), 1e-12))
    while True:
        smaller = []
        for index in range(len(sets)):
            if not gone[index]:
                continue
            back = list(gone)
            width = sets[index].count - gone[index]
            back[index] = max(0, gone[index] - (round_to - width % round_to))
            smaller += [back] + [new for other in range(len(sets)) if other != index and (new := more(other, back))]
        smaller = [new for new in smaller if removed(new) >= amount and damage(new) < damage(gone)]
        if not smaller:
            return gone
        gone = min(smaller, key=damage)


def times_multiplied(model: StagedVits, feed: Feed, layers: Sequence[nn.Module]) -> dict[nn.Module, int]:
    """How many times each layer's weights are multiplied while an utterance is spoken."""
    found = dict.fromkeys(layers, 0)

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        transposed = isinstance(layer, nn.ConvTranspose1d)
        found[layer] += inputs[0].numel() // _sizes(layer)[0] if transposed else output.numel() // _sizes(layer)[1]

    given = _given(feed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        durations = _durations(model, *given)  # before anything is counted: an utterance is encoded once
        hooks = [layer.register_forward_hook(count) for layer in layers]
        model(*given, durations=durations)
    for hook in hooks:
        hook.remove()
    return found


def _sizes(layer: nn.Module) -> tuple[int, int]:
    """Channels in and out, from the weight."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    assert isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)
    return layer.in_channels, layer.out_channels


# --- decoders of other widths -----------------------------------------------------------------------------------


def refuse_widths(decoder: HifiGanDecoder, step: PruneStructured) -> None:
    """Raises `PruningError` for `decoder_widths` that cannot be this decoder's, or that remove too little of it."""
    wanted, present = step.decoder_widths or (), decoder_widths(decoder)
    if len(wanted) != len(present) or any(new > old for new, old in zip(wanted, present, strict=True)):
        raise PruningError(f"prune_structured: decoder_widths: give {len(present)} numbers of at most {present}")
    with torch.device("meta"):  # counts, and computes nothing
        share = share_gone(copy.deepcopy(decoder).to("meta"), of_widths(decoder.config, wanted), step.of)
    if share < step.amount:
        raise PruningError(
            f"prune_structured: decoder_widths remove {share:.1%} of the {step.of}, amount asks for "
            f"{step.amount:.0%}: make them smaller, or lower 'amount'"
        )


def decoder_widths(decoder: HifiGanDecoder) -> list[int]:
    """Channels after the first convolution and each upsampling."""
    return [_sizes(layer)[1] for layer in (decoder.conv_pre, *decoder.ups)]


def share_gone(whole: HifiGanDecoder, pruned: HifiGanDecoder, of: str) -> float:
    """The fraction of the decoder's multiply-accumulates (`macs`) or `parameters` that pruning removed."""
    if of == "macs":
        before, after = (macs_per_frame(decoder, whole.config.latent_channels) for decoder in (whole, pruned))
    else:
        before, after = (sum(p.numel() for p in decoder.parameters()) for decoder in (whole, pruned))
    return 1 - after / before


def of_widths(config: HifiGanConfig, widths: Sequence[int]) -> HifiGanDecoder:
    """A decoder without values that has these channels after the first convolution and each upsampling."""
    whole = HifiGanDecoder(config)
    new = dict(zip(decoder_widths(whole), widths, strict=True))
    weights = {}
    for name, layer in whole.named_modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            into = layer.in_channels if name in ("conv_pre", "cond") else new[layer.in_channels]
            out = layer.out_channels if name == "conv_post" else new[layer.out_channels]
            shape = (into, out) if isinstance(layer, nn.ConvTranspose1d) else (out, into)
            weights[f"{name}.weight"] = torch.empty(*shape, *layer.kernel_size)
            if layer.bias is not None:
                weights[f"{name}.bias"] = torch.empty(out)
    return with_weights(config, weights)


def with_weights(config: HifiGanConfig, weights: dict[str, Tensor]) -> HifiGanDecoder:
    """A decoder of irregular widths: kernels and dilations from the config, channels from the weights themselves."""
    with torch.device("meta"):
        decoder = HifiGanDecoder(config)
    for name, layer in list(decoder.named_modules()):
        if not isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            continue
        first, second, *_ = weights[f"{name}.weight"].shape
        into, out = (first, second) if isinstance(layer, nn.ConvTranspose1d) else (second, first)
        settings = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        new = type(layer)(into, out, layer.kernel_size[0], bias=layer.bias is not None, **settings)
        decoder.set_submodule(name, new)
    decoder.load_state_dict({name: value.float() for name, value in weights.items()})
    return decoder
