"""Which utterances an evaluation scores."""

from contextlib import contextmanager

from ttsopt_lib.evaluate import scores


@contextmanager
def counted(monkeypatch, stop_at: int | None = None):
    """The names of the models that are scored, utterance by utterance; interrupted before number `stop_at`."""
    scored: list[str] = []
    real = scores.score_utterance

    def score(task):
        if len(scored) == stop_at:
            raise KeyboardInterrupt
        if task.scored:
            scored.append(task.anchor or task.utterance.model.parent.name)
        return real(task)

    with monkeypatch.context() as patch:
        patch.setattr(scores, "score_utterance", score)
        yield scored
