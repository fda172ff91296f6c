"""Where the files of a study lie: `reports/<name>/` in the project folder."""

from __future__ import annotations

from pathlib import Path

from ttsopt_lib.paths import project_root
from ttsopt_lib.study import Study


class StudyFolder:
    """The files of one study: `reports/<name>/` in the project folder."""

    def __init__(self, study: Study, reports: Path | None = None):
        self.path = (reports or project_root() / "reports") / study.name

    def removable(self) -> list[Path]:
        """What a study wrote, except its training, which is hours of work, and whose voice that is."""
        kept = [self.training, self.voice_record] if self.training.exists() else []
        return [path for path in self.path.glob("*") if path not in kept]

    def variant(self, name: str) -> Path:
        """Folder of a variant: model.onnx, model.onnx.json, variant.json, audio/."""
        return self.path / "variants" / name

    def model(self, name: str) -> Path:
        """The deployable voice of a variant."""
        return self.variant(name) / "model.onnx"

    def variant_record(self, name: str) -> Path:
        return self.variant(name) / "variant.json"

    def peer(self, name: str) -> Path:
        """Folder of a peer, something that a user would pick instead: peer.json, and a model where one is made."""
        return self.path / "peers" / name

    def peer_record(self, name: str) -> Path:
        return self.peer(name) / "peer.json"

    def sensitivity_record(self, variant: str) -> Path:
        """What the search of a variant's recipe found; there only where the recipe has one."""
        return self.path / "records" / "sensitivity" / f"{variant}.json"

    @property
    def training(self) -> Path:
        """Run folder of the study's trainings: what students are made from."""
        return self.path / "training"

    @property
    def voice_record(self) -> Path:
        """Which voice file the folder belongs to, where `--voice` named it."""
        return self.path / "voice.json"

    def device_record(self, name: str) -> Path:
        return self.path / "records" / "devices" / f"{name}.json"

    def unfinished(self, device: str) -> Path:
        """Folder of the blocks of an interrupted measurement on this machine, from which it goes on."""
        return self.path / "records" / "devices" / "unfinished" / device

    @property
    def quality_record(self) -> Path:
        return self.path / "records" / "quality.json"

    @property
    def score_store(self) -> Path:
        """What every utterance scored, from which the quality record is made."""
        return self.path / "records" / "scores.jsonl"

    @property
    def ratings(self) -> Path:
        """Listeners' ratings that `ttsopt ratings` collected, with the variants' names in them."""
        return self.path / "records" / "ratings.csv"

    @property
    def listening(self) -> Path:
        """The listening test's page and audio: what is served, and nothing that tells variants apart."""
        return self.path / "listening"

    @property
    def listening_key(self) -> Path:
        """Which variant each of the listening test's clips is. Never in the folder that is served."""
        return self.path / "records" / "listening_key.json"

    @property
    def web(self) -> Path:
        """The web page with the study's voices: what is served."""
        return self.path / "web"

    @property
    def received(self) -> Path:
        """Records of measurements that pages sent back to `ttsopt web --serve`. Never in the folder that is served."""
        return self.path / "records" / "received"

    def audio(self, name: str) -> Path:
        """Folder of the report's listening examples of a variant: 0.wav, 1.wav ... as `sentences.listening`."""
        return self.variant(name) / "audio"

    @property
    def notebooks(self) -> Path:
        return self.path / "notebooks"

    @property
    def tables(self) -> Path:
        return self.path / "tables"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def rendered(self) -> Path:
        """What the last report was made from, so that an unchanged one is not rendered again."""
        return self.path / "cache" / "rendered.json"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def html(self) -> Path:
        return self.path / "report.html"

    @property
    def pdf(self) -> Path:
        return self.path / "report.pdf"
