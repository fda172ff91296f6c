"""Where the files of a study lie: `reports/<name>/` in the project folder."""

from __future__ import annotations

from pathlib import Path

from ttsopt_lib.paths import project_root
from ttsopt_lib.study import Study


class StudyFolder:
    """The files of one study: `reports/<name>/` in the project folder.

    Attributes:
        path: the folder.
        training: run folder of the study's trainings: what students are made from.
        voice_record: which voice file the folder belongs to, where `--voice` named it.
        quality_record: what `ttsopt evaluate` scored.
        score_store: what every utterance scored, from which the quality record is made.
        ratings: listeners' ratings that `ttsopt ratings` collected, with the variants' names in them.
        listening: the listening test's page and audio: what is served, and nothing that tells variants apart.
        listening_key: which variant each of the listening test's clips is. Never in the folder that is served.
        web: the web page with the study's voices: what is served.
        received: records of measurements that pages sent back to `ttsopt web --serve`. Never in the folder that is
            served.
        rendered: what the last report was made from, so that an unchanged one is not rendered again.
        notebooks: the executed ones of all steps.
        tables, figures, summary, html, pdf: the report.
    """

    def __init__(self, study: Study, reports: Path | None = None):
        self.path = (reports or project_root() / "reports") / study.name
        records = self.path / "records"
        self.lock = self.path / ".lock"
        self.training = self.path / "training"
        self.voice_record = self.path / "voice.json"
        self.quality_record = records / "quality.json"
        self.score_store = records / "scores.jsonl"
        self.ratings = records / "ratings.csv"
        self.listening = self.path / "listening"
        self.listening_key = records / "listening_key.json"
        self.web = self.path / "web"
        self.received = records / "received"
        self.rendered = self.path / "cache" / "rendered.json"
        self.notebooks = self.path / "notebooks"
        self.tables = self.path / "tables"
        self.figures = self.path / "figures"
        self.summary = self.path / "summary.json"
        self.html = self.path / "report.html"
        self.pdf = self.path / "report.pdf"

    def removable(self) -> list[Path]:
        """What a study wrote, except its training, which is hours of work, and whose voice that is."""
        kept = [self.lock, *([self.training, self.voice_record] if self.training.exists() else [])]
        return [path for path in self.path.glob("*") if path not in kept]

    def variant(self, name: str) -> Path:
        """Folder of a variant: model.onnx, model.onnx.json, variant.json, audio/."""
        return self.path / "variants" / name

    def model(self, name: str) -> Path:
        """The deployable voice of a variant."""
        return self.variant(name) / "model.onnx"

    def variant_record(self, name: str) -> Path:
        return self.variant(name) / "variant.json"

    def audio(self, name: str) -> Path:
        """Folder of the report's listening examples of a variant: 0.wav, 1.wav ... as `sentences.listening`."""
        return self.variant(name) / "audio"

    def peer(self, name: str) -> Path:
        """Folder of a peer, something that a user would pick instead: peer.json, and a model where one is made."""
        return self.path / "peers" / name

    def peer_record(self, name: str) -> Path:
        return self.peer(name) / "peer.json"

    def sensitivity_record(self, variant: str) -> Path:
        """What the search of a variant's recipe found; there only where the recipe has one."""
        return self.path / "records" / "sensitivity" / f"{variant}.json"

    def device_record(self, name: str) -> Path:
        return self.path / "records" / "devices" / f"{name}.json"

    def unfinished(self, device: str) -> Path:
        """Folder of the blocks of an interrupted measurement on this machine, from which it goes on."""
        return self.path / "records" / "devices" / "unfinished" / device
