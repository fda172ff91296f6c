"""The GPU's path as far as a machine without one goes: modes, buckets, clocks, plans, and what nvidia-smi says."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from timed_study import study_of
from torch import Tensor, nn

from ttsopt_lib.errors import StudyError
from ttsopt_lib.measure import devices
from ttsopt_lib.measure.machine import nvidia
from ttsopt_lib.measure.plan import PlannedRow, plan_rows, torch_recipe
from ttsopt_lib.measure.process import MeasureError, Worker
from ttsopt_lib.measure.runtimes.onnx_runtime import CONVOLUTION
from ttsopt_lib.measure.runtimes.stopwatch import DeviceEvents, WallClock
from ttsopt_lib.measure.runtimes.torch_runtime import open_pytorch
from ttsopt_lib.measure.session import gpu_warnings
from ttsopt_lib.networks.gpu_modes import BUCKET, InHalf, Replayed, in_mode
from ttsopt_lib.networks.istft import IstftDecoder, IstftDecoderConfig
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.optimize.torch_build import build_torch
from ttsopt_lib.params import check
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.step_settings import Distill
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, Device, Study
from ttsopt_lib.voices.piper import load_piper, open_piper

GPU = check(
    Device,
    {"name": "gpu", "label": "GPU", "kind": "gpu", "pytorch": ["fp32", "fp16", "fp16-graphs"]},
    "gpu",
)
NOT_LOADED = (
    "\x1b[1;31m2026-11-28 12:00:00 [E:onnxruntime:Default, provider_bridge_ort.cc:2251 TryGetProviderInfo_CUDA] "
    "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:1844 onnxruntime::Provider& "
    "onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library "
    "libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file: "
    "No such file or directory\x1b[m\n"
)
FAR = {"kind": "gpu", "runner": "ssh", "host": "far"}
SCALES = [0.667, 1.0, 0.0]
IDS = np.array([1, 5, 0, 6, 0, 7, 0, 2] * 4, dtype=np.int64)


def small_student() -> IstftDecoder:
    torch.manual_seed(0)
    return IstftDecoder(IstftDecoderConfig(latent_channels=24, channels=32, inner_channels=48, blocks=2)).eval()


@torch.inference_mode()
def test_a_replayed_decoder_says_the_same_at_every_length():
    decoder = small_student()
    captures = []

    def capture(run: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """What a CUDA graph does, without one: the same computation again, into the same memory."""
        captures.append(1)
        audio = run().clone()

        def replay() -> None:
            audio.copy_(run())

        return audio, replay

    replayed = Replayed(decoder, hop_length=256, capture=capture)
    for frames in (BUCKET - 9, 20, BUCKET, BUCKET + 1, 30):  # a shorter text after a longer one must not hear it
        z = torch.randn(1, 24, frames)
        audio, plain = replayed(z), decoder(z)
        assert audio.shape == plain.shape == (1, 1, frames * 256)
        seen = 256 * max(0, frames - 14)  # behind it the end of the text is in the field of view
        torch.testing.assert_close(audio[..., :seen], plain[..., :seen], atol=1e-5, rtol=1e-4)
    assert len(captures) == 2, "one capture for each bucket"
    kept = replayed(torch.randn(1, 24, 10))
    again = kept.clone()
    replayed(torch.randn(1, 24, 10))
    assert torch.equal(kept, again), "the audio was overwritten by the next replay"


@torch.inference_mode()
def test_half_precision_keeps_the_head_and_the_neighbours_in_single():
    decoder = small_student()
    z = torch.randn(1, 24, 40)
    plain = decoder(z)
    half = InHalf(decoder)
    audio = half(z, None)
    assert decoder.conv_pre.weight.dtype == torch.float16 and decoder.head.projection.weight.dtype == torch.float32
    assert audio.dtype == torch.float32 and torch.isfinite(audio).all()
    assert (audio - plain).std() < 0.02 * plain.std()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fp32", "fp16"])
def test_every_mode_speaks_the_same_durations(mode: str, medium_voice: Path):
    row = PlannedRow(variant=ORIGINAL, runtime="pytorch", threads=1, model=medium_voice, mode=mode)  # type: ignore[arg-type]
    speak = open_pytorch(row.model_dump(mode="json"), SCALES, None)
    plain = load_piper(open_piper(medium_voice)).eval()
    with torch.inference_mode():
        expected = plain(torch.from_numpy(IDS)[None], torch.tensor([IDS.size]), torch.tensor(SCALES)).numel()
    assert speak(IDS).size == expected


@pytest.mark.slow
@torch.inference_mode()
def test_students_speak_in_half_precision_and_from_captures(joe: Path):
    """All students of the published voice, without noise; a capture computes anew what a CUDA graph replays."""

    def capture(run: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        audio = run().clone()
        return audio, lambda: audio.copy_(run())  # type: ignore[return-value]

    def students() -> StagedVits:
        student = resolve(Path("models/en_US-joe-medium/students"))
        return build_torch([Distill(step="distill", student=student)], joe).eval()

    given = torch.from_numpy(IDS)[None], torch.tensor([IDS.size]), torch.tensor([0.0, 1.0, 0.0])
    plain = students()(*given)
    half = in_mode(students(), "fp16")
    assert isinstance(half.flow, InHalf) and isinstance(half.decoder, InHalf)
    assert (half(*given) - plain).norm() < 0.01 * plain.norm()  # 51 dB below was seen of a sentence
    for model in (students(), half):
        expected = model(*given)
        model.decoder = Replayed(model.decoder, model.hop_length, capture)
        audio = model(*given)
        assert audio.shape == expected.shape == plain.shape
        assert (audio - expected).norm() < 0.02 * expected.norm()


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [small_student(), None], ids=["istft", "hifigan"])
@torch.inference_mode()
def test_decoders_compile_without_a_break_in_the_graph(decoder: nn.Module | None, medium_voice: Path):
    network = decoder or load_piper(open_piper(medium_voice)).eval().decoder
    compiled = torch.compile(network, backend="eager", fullgraph=True, dynamic=False)
    z = torch.randn(1, 24, BUCKET)
    torch.testing.assert_close(compiled(z), network(z), atol=1e-5, rtol=1e-4)
    half = InHalf(network)
    compiled = torch.compile(half, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(z, None), half(z, None), atol=1e-3, rtol=1e-2)


@pytest.mark.slow
def test_nothing_of_a_voice_stays_behind_when_it_moves_to_another_device(
    medium_voice: Path, monkeypatch: pytest.MonkeyPatch
):
    """The device "meta" has shapes and no numbers: an operation with a tensor on the processor fails there."""
    model = in_mode(load_piper(open_piper(medium_voice)).eval(), "fp32").to("meta")
    frames, symbols = 50, 32
    with torch.inference_mode():
        ids, lengths = torch.zeros(1, symbols, dtype=torch.int64, device="meta"), torch.ones(1, device="meta")
        hidden, mean, log_std, mask = model.encode(ids, lengths)
        durations = model.durations(hidden, mask, None, torch.ones((), device="meta"), torch.ones((), device="meta"))
        assert durations.device.type == mean.device.type == log_std.device.type == "meta"
        latent = torch.zeros(1, mean.shape[1], frames, device="meta")
        z = model.flow_inverse(latent, torch.ones(1, 1, frames, device="meta"))
        assert model.decode(z).device.type == "meta"
        monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which "meta" does not know
        assert small_student().to("meta")(latent).device.type == "meta"


class FakeEvent:
    """An event of a GPU whose clock goes on by 2 ms with each record."""

    now = 0.0

    def __init__(self, enable_timing: bool):
        assert enable_timing
        self.done = False

    def record(self) -> None:
        FakeEvent.now += 2.0
        self.at = FakeEvent.now

    def synchronize(self) -> None:
        self.done = True

    def elapsed_time(self, end: "FakeEvent") -> float:
        assert end.done, "asked before the work was done"
        return end.at - self.at


def test_device_events_wait_for_the_work_and_count_in_seconds():
    waits = []

    class Cuda:
        Event = FakeEvent

        @staticmethod
        def synchronize() -> None:
            waits.append(1)

    watch = DeviceEvents(Cuda)
    watch.start()
    assert waits == [1], "an earlier run's work would be counted"
    assert watch.seconds() == pytest.approx(0.002)
    assert (watch.name, WallClock.name) == ("device events", "wall")


def gpu_study() -> Study:
    values = study_of("plain", "pruned", "int8").model_dump(mode="json")
    values["variants"] = [
        {"name": "plain", "recipe": []},
        {"name": "pruned", "recipe": [{"step": "prune_magnitude", "amount": 0.3}, {"step": "quantize_weights"}]},
        {"name": "int8", "recipe": [{"step": "quantize_static", "operators": ["Conv"]}]},
    ]
    return check(Study, values, "study")


def test_pytorch_on_a_gpu_has_every_mode_of_the_networks_that_differ(tmp_path: Path):
    study, folder = gpu_study(), StudyFolder(study_of("plain"), tmp_path)
    rows = plan_rows(study, GPU, folder, {}, "cuda", ("pytorch",))
    assert [(row.variant, row.mode) for row in rows] == [
        (ORIGINAL, "fp32"),
        ("pruned", "fp32"),
        (ORIGINAL_COPY, "fp32"),
        (ORIGINAL, "fp16"),
        ("pruned", "fp16"),
        (ORIGINAL, "fp16-graphs"),
        ("pruned", "fp16-graphs"),
    ]
    assert {row.runtime for row in rows} == {"pytorch"} and {row.accelerator for row in rows} == {"cuda"}
    assert [row.optional for row in rows] == [False, True, True, True, True, True, True]
    assert torch_recipe(study, "int8") == (), "integer products are left out, and what is left is the original"
    assert [step["step"] for step in torch_recipe(study, "pruned")] == ["prune_magnitude"]
    both = plan_rows(study, GPU, folder, {}, "cuda")
    assert [row.variant for row in both if row.runtime == "onnxruntime"] == [*study.variant_names, ORIGINAL_COPY]
    named = study.model_copy(update={"measure": study.measure.model_copy(update={"more_threads": ("int8",)})})
    wanted = GPU.model_copy(update={"onnxruntime": ("plain", "buckets")})
    beyond = [(row.variant, row.mode) for row in plan_rows(named, wanted, folder, {}, "cuda") if row.mode != "fp32"]
    assert beyond == [(ORIGINAL, "buckets"), ("int8", "buckets"), (ORIGINAL, "fp16"), (ORIGINAL, "fp16-graphs")]
    assert [row.variant for row in both if not row.optional] == [ORIGINAL, ORIGINAL], "what fails is left out"


@pytest.mark.parametrize(
    "values, message",
    [
        ({"kind": "cpu", "pytorch": ["fp32"]}, "only for kind: gpu"),
        ({"kind": "gpu", "pytorch": ["fp16"]}, "must begin with fp32"),
        ({"kind": "gpu", "pytorch": ["fp32", "fp32"]}, "no mode twice"),
        ({"kind": "cpu", "onnxruntime": ["plain", "buckets"]}, "only for kind: gpu"),
        ({"kind": "gpu", "onnxruntime": ["buckets"]}, "plain rows are the baseline"),
        ({**FAR, "onnxruntime": ["plain", "buckets"]}, "only for runner: local"),
        ({**FAR, "pytorch": ["fp32"]}, "only for runner: local"),
    ],
)
def test_modes_that_cannot_be_compared_are_refused(values: dict, message: str):
    with pytest.raises(StudyError, match=message):
        check(Device, {"name": "gpu", "label": "GPU", **values}, "gpu")


def test_a_gpu_is_measured_by_whatever_runtime_reaches_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nvidia, "gpu_names", lambda: ["NVIDIA T4"])
    monkeypatch.setattr(devices, "why_not_on_gpu", lambda ask: None)
    found = devices.probe(GPU)
    assert found.reason is None and "pytorch" in found.runtimes and found.accelerator_name == "NVIDIA T4"
    assert "onnxruntime" in found.runtimes or "onnxruntime-gpu" in found.notes[0]


def test_a_runtime_that_lists_a_gpu_and_cannot_compute_there_leaves_it_to_the_other(monkeypatch: pytest.MonkeyPatch):
    """As where cuDNN is missing for ONNX Runtime, or PyTorch was built before the GPU was."""
    monkeypatch.setattr(nvidia, "gpu_names", lambda: ["NVIDIA T4"])
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    why = {devices.ASK_ONNXRUNTIME: "no libcudnn.so.9", devices.ASK_TORCH: None}
    monkeypatch.setattr(devices, "why_not_on_gpu", why.get)
    found = devices.probe(GPU)
    assert found.reason is None and found.runtimes == ("pytorch",) and "no libcudnn.so.9" in found.notes[0]
    why = {devices.ASK_ONNXRUNTIME: None, devices.ASK_TORCH: "no kernel image"}
    monkeypatch.setattr(devices, "why_not_on_gpu", why.get)
    found = devices.probe(GPU)
    assert found.reason is None and found.runtimes == ("onnxruntime",) and "no kernel image" in found.notes[0]
    monkeypatch.setattr(devices, "why_not_on_gpu", lambda ask: "it is lost")
    reason = devices.probe(GPU).reason
    assert reason and reason.count("it is lost") == 2


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_what_a_runtime_says_of_a_gpu_is_its_own_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # of one that is not there
    assert "fell back to the CPU" in (devices.why_not_on_gpu(devices.ASK_ONNXRUNTIME) or "")
    said = devices.why_not_on_gpu("raise RuntimeError('CUDA error: \\nno kernel image')")
    assert said == "CUDA error: no kernel image"
    said = devices.why_not_on_gpu("raise RuntimeError('CUDA failure 100: no device ; GPU=0 ; hostname=mine')")
    assert said == "CUDA failure 100: no device"
    said = devices.why_not_on_gpu(f"sys.stderr.write({NOT_LOADED!r}); raise RuntimeError('it fell back to the CPU')")
    assert said == NOT_LOADED.partition(" : FAIL : ")[2].removesuffix("\x1b[m\n")
    assert devices.why_not_on_gpu("pass") is None
    assert devices.why_not_on_gpu("__import__('os').abort()") == "exit code -6"


def test_a_gpu_is_tried_with_a_convolution_which_needs_cudnn():
    """ONNX Runtime computes other operators without it."""
    (node,) = onnx.load_from_string(CONVOLUTION).graph.node
    assert node.op_type == "Conv"
    session = onnxruntime.InferenceSession(CONVOLUTION, providers=["CPUExecutionProvider"])
    assert np.array(session.run(None, {"x": np.full((1, 1, 1), 2.0, np.float32)})[0]).tolist() == [[[4.0]]]


@pytest.mark.parametrize(("accelerator", "blamed"), [("cuda", False), (None, True)])
def test_what_fails_on_a_gpu_is_not_blamed_on_the_file(accelerator, blamed: bool, monkeypatch: pytest.MonkeyPatch):
    worker = Worker.__new__(Worker)
    worker.row = PlannedRow(
        variant="pruned", runtime="onnxruntime", threads=1, model=Path("pruned.onnx"), accelerator=accelerator
    )
    monkeypatch.setattr(worker, "_read_line", lambda: b'{"error": "out of memory", "no_speech": false}')
    with pytest.raises(MeasureError, match="out of memory") as error:
        worker.wait()
    assert ("ttsopt optimize" in str(error.value)) is blamed


def test_what_nvidia_smi_says_is_read_and_what_it_does_not_is_unknown():
    line = "NVIDIA H100 80GB HBM3, 550.54.15, P0, 1980, 2619, 1980, 312.45, 700.00, 47, 81559, 0x0000000000000024"
    gpu = nvidia.parse_gpu(line)
    assert gpu is not None and gpu.name == "NVIDIA H100 80GB HBM3" and gpu.driver == "550.54.15"
    assert (gpu.clock_mhz, gpu.memory_clock_mhz, gpu.power_w, gpu.temperature_c) == (1980, 2619, 312.45, 47)
    assert gpu.held_back == ["power limit", "temperature, by software"]
    silent = nvidia.parse_gpu("Tesla T4, 470.1, P8, 300, 405, 1590, [N/A], [Not Supported], 33, 15360")
    assert silent is not None and silent.power_w is None and silent.power_limit_w is None and silent.held_back is None
    assert nvidia.parse_gpu("") is None


@pytest.mark.parametrize("power, reasons", [("ERR!", "0x0"), ("70.1", "Active")])
def test_what_cannot_be_read_of_a_gpu_is_unknown_and_ends_nothing(power, reasons, monkeypatch: pytest.MonkeyPatch):
    def ask(*fields: str) -> str:
        line = f"Tesla T4, 470.1, P0, 585, 5000, 1590, {power}, 70.0, 81, 15360"
        return line if fields[-1] == "memory.total" else f"{line}, {reasons}"

    monkeypatch.setattr(nvidia, "_ask", ask)
    found = nvidia.look_at_gpu()
    assert (found is None) if power == "ERR!" else (found is not None and found.held_back is None)


def test_a_gpu_that_was_held_back_is_a_warning_with_or_without_its_clock():
    held = nvidia.parse_gpu("Tesla T4, 470.1, P0, 585, 5000, 1590, 70.1, 70.0, 81, 15360, 0x0000000000000004")
    silent = nvidia.parse_gpu("Tesla T4, 470.1, P0, [N/A], 5000, [N/A], 70.1, 70.0, 81, 15360, 0x0000000000000004")
    assert silent is not None and silent.clock_mhz is None
    (plain,), (clocked,) = gpu_warnings(silent), gpu_warnings(held)
    assert "(power limit)" in plain and "MHz" not in plain
    assert clocked.startswith(plain) and clocked.endswith(" 585 MHz")
