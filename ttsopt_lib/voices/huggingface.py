"""Local Hugging Face VITS folders (facebook/mms-tts, kakao-enterprise/vits), as the same model as a Piper voice.

Weights are read from safetensors only: a pickled checkpoint can run code when it is opened.
"""

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ttsopt_lib.networks.config import VitsConfig
from ttsopt_lib.networks.hifigan import HifiGanConfig
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.text_files import read_json
from ttsopt_lib.voices.piper import VoiceConfig, VoiceError, parse_config

# Names in `transformers.VitsModel`, and the names of the same layers here.
_RENAMES = [
    (r"^text_encoder\.embed_tokens", r"text_encoder.emb"),
    (r"^text_encoder\.project", r"text_encoder.proj"),
    (r"\.layers\.(\d+)\.attention\.([qkv])_proj", r".attn_layers.\1.conv_\2"),
    (r"\.layers\.(\d+)\.attention\.out_proj", r".attn_layers.\1.conv_o"),
    (r"\.layers\.(\d+)\.attention", r".attn_layers.\1"),
    (r"\.layers\.(\d+)\.layer_norm", r".norm_layers_1.\1"),
    (r"\.layers\.(\d+)\.final_layer_norm", r".norm_layers_2.\1"),
    (r"\.layers\.(\d+)\.feed_forward", r".ffn_layers.\1"),
    (r"conv_dds\.convs_dilated", r"convs.convs_sep"),
    (r"conv_dds\.convs_pointwise", r"convs.convs_1x1"),
    (r"conv_dds\.", r"convs."),
    (r"^(flow\..*|duration_predictor\..*)conv_pre", r"\1pre"),
    (r"^(flow\..*)conv_post", r"\1post"),
    (r"^(duration_predictor\..*)conv_proj", r"\1proj"),
    (r"^(flow\..*)wavenet\.", r"\1enc."),
    (r"^decoder\.upsampler", r"decoder.ups"),
    (r"^embed_speaker", r"speaker_embedding"),
]
COPY = "copy the whole folder of the Hugging Face VITS again"
ESPEAK_VOICE = "en-us"  # by which `transformers.VitsTokenizer` makes phonemes
# Only training uses these.
_UNUSED = ("posterior_encoder.", "duration_predictor.post_", "duration_predictor.flows.1.")


def load_huggingface(folder: str | Path) -> StagedVits:
    """Load a local folder with `config.json` and `model.safetensors`, as `transformers` saves a VITS model.

    Raises:
        VoiceError: if a file is missing, is no VITS, or does not fit the config.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    config = _read_config(folder)
    weights_path = weights_of(folder)
    try:
        weights = load_file(weights_path)
    except SafetensorError as error:
        raise VoiceError(f"{weights_path}: not a whole safetensors file ({error}); copy it again") from error

    with torch.device("meta"):
        model = StagedVits(_shape(config, folder))
    try:
        model.load_state_dict(_renamed(_without_weight_norm(weights)), assign=True)
    except (IndexError, RuntimeError) as error:
        first = str(error).split("\n")[1:2] or [str(error)]
        raise VoiceError(
            f"{weights_path}: does not fit config.json ({first[0].strip()[:200]}); are both of one VITS model?"
        ) from error
    for norm in model.text_encoder.encoder.modules():
        if isinstance(norm, torch.nn.LayerNorm):
            norm.eps = config.layer_norm_eps
    return model.eval()


def weights_of(folder: Path) -> Path:
    """The file with the weights of a local folder. Raises `VoiceError` where there is none."""
    path = folder / "model.safetensors"
    if not path.exists():
        raise VoiceError(
            f"{path}: no such file; weights must be safetensors, because a pickled checkpoint can run code: "
            "convert it with save_pretrained(safe_serialization=True)"
        )
    return path


def piper_config_for(folder: str | Path) -> VoiceConfig:
    """The Piper config under which an exported Hugging Face voice is given the ids its own tokenizer would give.

    Character vocabularies become Piper's phoneme type `text`, phonemized ones `espeak`. Where the tokenizer puts a
    blank between all tokens, the blank is Piper's pad, and beginning and end are empty.

    Args:
        folder: with `config.json`, `vocab.json` and `tokenizer_config.json`.

    Raises:
        VoiceError: if a file is missing, or if the text needs a step that Piper does not have (uroman).
    """
    folder = Path(folder)
    config = _read_config(folder)
    vocabulary = read_json(folder / "vocab.json", VoiceError, remedy=COPY)
    tokenizer = read_json(folder / "tokenizer_config.json", VoiceError, remedy=COPY)
    if tokenizer.get("is_uroman"):
        raise VoiceError(
            f"{folder / 'tokenizer_config.json'}: key is_uroman: true, but Piper cannot romanize text with uroman; "
            "only voices whose text is spoken as written can become Piper voices"
        )
    phonemized = bool(tokenizer.get("phonemize", True))
    ids = {symbol: [number] for symbol, number in vocabulary.items() if len(symbol) == 1}
    if not phonemized and tokenizer.get("normalize", True):
        capitals = {symbol.upper(): symbol for symbol in ids}
        # Of a Turkish vocabulary's i and ı, which both have the capital I, the tokenizer takes the first.
        ids = {capital: ids[capital.lower()] for capital in capitals if capital.lower() in ids} | ids
    language = tokenizer.get("language") or ""
    if language == "ron" and "ţ" in ids:  # as the tokenizer writes Romanian
        ids |= {comma: ids[cedilla] for comma, cedilla in (("ț", "ţ"), ("Ț", "Ţ")) if cedilla in ids}
    ids |= {"_": [0] if tokenizer.get("add_blank", True) else [], "^": [], "$": []}
    raw: dict[str, Any] = {
        "audio": {"sample_rate": config.sampling_rate},
        "espeak": {"voice": ESPEAK_VOICE if phonemized else language},
        "language": {"code": language or ESPEAK_VOICE},
        "inference": {
            "noise_scale": config.noise_scale,
            "length_scale": 1.0 / config.speaking_rate,
            "noise_w": config.noise_scale_duration,
        },
        "phoneme_type": "espeak" if phonemized else "text",
        "phoneme_id_map": ids,
        "from_tokenizer": True,
        "num_symbols": config.vocab_size,
        "num_speakers": max(config.num_speakers, 1),
        "speaker_id_map": {str(n): n for n in range(config.num_speakers)} if config.num_speakers > 1 else {},
        "hop_length": math.prod(config.upsample_rates),
    }
    return parse_config(raw, folder)


def _read_config(folder: Path):
    from transformers import VitsConfig as HuggingFaceConfig

    path = folder / "config.json"
    content = read_json(path, VoiceError, remedy=COPY)
    if content.get("model_type") != "vits":
        raise VoiceError(f"{path}: key model_type: {content.get('model_type')!r}; only 'vits' models can be loaded")
    try:
        config = HuggingFaceConfig.from_dict(content)
    except Exception as error:  # transformers validates with exceptions of its own
        raise VoiceError(f"{path}: not a VITS config ({error})") from error
    if config.hidden_act != "relu" or not config.window_size:
        raise VoiceError(
            f"{path}: keys hidden_act and window_size: {config.hidden_act!r} and "
            f"{config.window_size!r}; VITS voices have 'relu' and a window of 1 or more"
        )
    return config


def _shape(config, folder: Path) -> VitsConfig:
    speakers = max(config.num_speakers, 1)
    if bool(config.speaker_embedding_size) != (speakers > 1):
        raise VoiceError(
            f"{folder / 'config.json'}: keys num_speakers ({speakers}) and speaker_embedding_size "
            f"({config.speaker_embedding_size}) disagree: a voice with one speaker has no speaker embedding"
        )
    layers = range(config.prior_encoder_num_wavenet_layers)
    return VitsConfig(
        symbols=config.vocab_size,
        speakers=speakers,
        speaker_channels=config.speaker_embedding_size,
        latent_channels=config.flow_size,
        hidden_channels=config.hidden_size,
        encoder_inner=config.ffn_dim,
        encoder_kernel=config.ffn_kernel_size,
        encoder_layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        head_channels=config.hidden_size // config.num_attention_heads,
        window=config.window_size,
        attention_bias=config.use_bias,
        flow_couplings=config.prior_encoder_num_flows,
        flow_kernel=config.wavenet_kernel_size,
        flow_dilations=tuple(config.wavenet_dilation_rate**layer for layer in layers),
        flow_channels=config.hidden_size,
        stochastic_durations=config.use_stochastic_duration_prediction,
        duration_kernel=config.duration_predictor_kernel_size,
        duration_inner=config.duration_predictor_filter_channels,
        duration_layers=config.depth_separable_num_layers,
        duration_couplings=tuple(2 * n - 1 for n in range(2, config.duration_predictor_num_flows + 1)),
        duration_bins=config.duration_predictor_flow_bins,
        duration_bound=config.duration_predictor_tail_bound,
        decoder=HifiGanConfig(
            latent_channels=config.flow_size,
            initial_channels=config.upsample_initial_channel,
            upsample_rates=tuple(config.upsample_rates),
            upsample_kernels=tuple(config.upsample_kernel_sizes),
            block_type=1,
            block_kernels=tuple(config.resblock_kernel_sizes),
            block_dilations=tuple(map(tuple, config.resblock_dilation_sizes)),
            speaker_channels=config.speaker_embedding_size,
            slope=config.leaky_relu_slope,
        ),
    )


def _without_weight_norm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Multiply every weight-normalized layer out: weight = g * v / |v|, a norm for each first index.

    Reads both spellings that PyTorch has had (`weight_g`, and `parametrizations.weight.original0`)."""
    plain = {}
    for name, value in weights.items():
        old = re.sub(r"\.parametrizations\.weight\.original([01])$", lambda m: ".weight_" + "gv"[int(m[1])], name)
        plain[old] = value.to(torch.float32)
    for layer in [name.removesuffix(".weight_g") for name in plain if name.endswith(".weight_g")]:
        if f"{layer}.weight_v" not in plain:
            continue  # the network then misses the weight
        gain, direction = plain.pop(f"{layer}.weight_g"), plain.pop(f"{layer}.weight_v")
        plain[f"{layer}.weight"] = direction * (gain / direction.flatten(1).norm(dim=1).view(-1, 1, 1))
    return plain


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in weights.items():
        if name.startswith(_UNUSED):
            continue
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        # The reference code counts the flips between couplings as flows, and the affine layer before them.
        name = re.sub(r"^(flow\.flows\.)(\d+)", lambda m: f"{m[1]}{2 * int(m[2])}", name)
        if name == "duration_predictor.flows.0.translate":
            name = "duration_predictor.flows.0.m"
        elif name == "duration_predictor.flows.0.log_scale":
            name, value = "duration_predictor.flows.0.scale", torch.exp(-value)
        else:
            name = re.sub(r"^(duration_predictor\.flows\.)(\d+)", lambda m: f"{m[1]}{2 * int(m[2]) - 1}", name)
        renamed[name] = value
    return renamed
