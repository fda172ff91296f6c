"""Which utterances an evaluation scores."""

from contextlib import contextmanager

from ttsopt_lib.evaluate import quality, scores


@contextmanager
def counted(monkeypatch, stop_at: int | None = None):
    """The names of the models that are scored, utterance by utterance; interrupted before number `stop_at`."""
    scored: list[str] = []
    real = scores.score_utterance

    def score(task, spoken=None):
        if len(scored) == stop_at:
            raise KeyboardInterrupt
        scored.append(task.anchor or task.utterance.model.parent.name)
        return real(task, spoken)

    with monkeypatch.context() as patch:
        for module in (quality, scores):  # the original's are scored there, where it speaks
            patch.setattr(module, "score_utterance", score)
        yield scored
