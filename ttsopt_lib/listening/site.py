"""The step 'listen': a folder with one page, its audio and nothing that tells the variants apart.

Served is `reports/<study>/listening/`; the key that maps clips to variants is written beside, never into it. The
page reads what it plays from `test.js`, a script and no JSON, because a page opened as a file may not fetch.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from shutil import copyfile
from typing import Any

from ttsopt_lib.code_hash import code_digest
from ttsopt_lib.errors import StudyError
from ttsopt_lib.evaluate.anchors import LOWPASS
from ttsopt_lib.evaluate.keys import voice_key
from ttsopt_lib.files import atomic_folder, content_key, file_sha256
from ttsopt_lib.listening.clips import ClipWriter, Sounds, speak_all
from ttsopt_lib.listening.key import ListeningKey
from ttsopt_lib.listening.orders import rating_order, shuffled, swapped, with_traps
from ttsopt_lib.records.base import now, read_if_current, write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, ListeningTest, Study

# ITU-T P.800: Annex B (ACR, listening quality) and Annex E (CCR), best first.
LABELS = {
    "acr": {5: "Excellent", 4: "Good", 3: "Fair", 2: "Poor", 1: "Bad"},
    "ccr": {
        3: "Much better",
        2: "Better",
        1: "Slightly better",
        0: "About the same",
        -1: "Slightly worse",
        -2: "Worse",
        -3: "Much worse",
    },
}
TRAP_ANSWERS = {"acr": (2, 5, 1, 4), "ccr": (3, -3, 2, -2)}  # taken in turn
PAGE = Path(__file__).parent / "page"
PAGE_FILES = ("index.html", "style.css", "page.js")


def make_listening_test(study: Study, folder: StudyFolder) -> tuple[dict[str, int], bool]:
    """Make the folder of the listening test, or leave it where nothing that it was made from has changed.

    An earlier test's key is moved aside, never lost: ratings that were given in it can still be read with it.

    Returns:
        How many trials each test has for one rater, traps among them; and whether it was made now.

    Raises:
        RecordError: a variant's model is not there yet.
        StudyError: fewer evaluation sentences than the test asks for, or none to compare with.
    """
    asked = study.listening_test
    names = study.heard_names
    if len(names) < 2:
        none = "variants: the study has none beside the original, so there is nothing to compare"
        empty = "listening_test.variants: is empty; leave the key out, and all variants of the study are heard"
        raise StudyError(none if asked.variants is None else empty)
    if asked.sentences > study.sentences.evaluation.count:
        raise StudyError(
            f"listening_test.sentences: {asked.sentences} is more than "
            f"the {study.sentences.evaluation.count} evaluation sentences"
        )
    voices = {name: voice_key(study, folder, name) for name in names}
    content = content_key(
        asked,
        study.sentences,
        study.evaluate.seed,
        study.title,
        list(voices.items()),
        code_digest("ttsopt_lib.listening"),
        [file_sha256(PAGE / name) for name in PAGE_FILES],
    )
    trials = {
        test: asked.sentences * _conditions(test, len(names) - 1) + (asked.traps if test in TRAP_ANSWERS else 0)
        for test in asked.tests
    }
    done = read_if_current(folder.listening_key, ListeningKey, content)
    if done and all((folder.listening / "audio" / f"{name}.wav").is_file() for name in done.clips):
        return trials, False
    sounds = speak_all(study, folder, trap_answers(asked))
    key = write_site(folder.listening, sounds, asked, content, voices)
    if folder.listening_key.is_file():
        old = folder.listening_key
        old.rename(old.with_name(f"listening_key.{now().replace(':', '')}.{secrets.token_hex(2)}.json"))
    write_record(folder.listening_key, key)
    return trials, True


def trap_answers(asked: ListeningTest) -> dict[str, list[tuple[int, str]]]:
    """Test -> (score, spoken label) of every trap question."""
    found: dict[str, list[tuple[int, str]]] = {}
    for test in asked.tests:
        if test in TRAP_ANSWERS:
            scores = [TRAP_ANSWERS[test][number % 4] for number in range(asked.traps)]
            found[test] = [(score, LABELS[test][score].lower()) for score in scores]
    return found


def write_site(
    target: Path, sounds: Sounds, asked: ListeningTest, content: str = "", voices: dict[str, str] | None = None
) -> ListeningKey:
    """Write the page, its audio and its data to `target`, whole or not at all; gives the key.

    `content` is the hash of what it is made from, `voices` that of each variant.
    """
    variants = [name for name in sounds.spoken if name not in (ORIGINAL, LOWPASS)]
    sentence_names = {secrets.token_hex(3): number for number in range(len(sounds.texts))}
    everything = [clip for clips in sounds.spoken.values() for clip in clips]
    everything += [clip for traps in sounds.traps.values() for _, clip in traps] + list(sounds.practice.values())
    with atomic_folder(target) as folder:
        (folder / "audio").mkdir()
        writer = ClipWriter(folder / "audio", sounds.sample_rate, everything)
        page = _Page(sounds, asked, writer, variants, list(sentence_names))
        data = page.data()
        for name in PAGE_FILES:
            copyfile(PAGE / name, folder / name)
        script = "window.LISTENING_TEST = " + json.dumps(data, separators=(",", ":"), ensure_ascii=False) + ";\n"
        (folder / "test.js").write_text(script, encoding="utf-8")
    return ListeningKey(
        key=content,
        created=now(),
        test_id=data["id"],
        target_lufs=round(writer.target, 2),
        sentences={name: str(number) for name, number in sentence_names.items()},
        texts={str(number): text for number, text in enumerate(sounds.texts)},
        voices=voices or {},
        clips=writer.clips,
    )


class _Page:
    """What test.js says: trials as lists of clip names, and for every rater the order of the trials."""

    def __init__(
        self, sounds: Sounds, asked: ListeningTest, writer: ClipWriter, variants: list[str], sentences: list[str]
    ):
        self.sounds, self.asked, self.writer = sounds, asked, writer
        self.variants, self.sentences = _drawn(variants), sentences
        self.heard = _drawn([ORIGINAL, *variants])  # a condition's number tells no more than a clip's name
        self.trials: list[dict[str, Any]] = []

    def data(self) -> dict[str, Any]:
        orders: list[list[list[int]]] = [[] for _ in range(self.asked.raters)]
        for test in self.asked.tests:
            trials, traps = self._trials(test)
            for rater in range(self.asked.raters):
                orders[rater] += with_traps(trials(rater), traps, self.asked.seed, rater, 99)
        trials, orders = _hidden(self.trials, orders)
        example = self.sounds.practice[ORIGINAL]
        return {
            "id": secrets.token_hex(4),
            "postUrl": self.asked.post_url,
            "tests": list(self.asked.tests),
            "labels": {test: list(labels.items()) for test, labels in LABELS.items()},
            "volume": self.writer.write("sound", example),
            "ears": [self.writer.write("sound", example, side=side) for side in (0, 1)],
            "practice": {test: self._practice(test) for test in self.asked.tests},
            "trials": trials,
            "orders": orders,
        }

    def _trials(self, test: str):
        """A function from the rater to the order of the trials, and the trap trials."""
        conditions = _conditions(test, len(self.variants))
        first = len(self.trials)
        for number, sentence in enumerate(self.sentences):
            for condition in range(conditions):
                self.trials.append({"test": test, "sentence": sentence, **self._clips(test, number, condition)})
        traps = []
        for score, clip in self.sounds.traps.get(test, []):
            count = 2 if test == "ccr" else 1
            traps.append([len(self.trials), *range(count)])
            name = secrets.token_hex(3)
            clips = [self.writer.write("trap", clip, test, name, trap=score) for _ in range(count)]
            self.trials.append({"test": test, "sentence": name, "clips": clips})

        def order(rater: int) -> list[list[int]]:
            pairs = rating_order(rater, len(self.sentences), conditions, self.asked.seed)
            return [[first + s * conditions + c, *self._inside(test, rater, s, c)] for s, c in pairs]

        return order, traps

    def _inside(self, test: str, rater: int, sentence: int, condition: int) -> list[int]:
        """In which order one trial's clips are offered."""
        if test == "ccr":  # clip 0 is the reference, clip 1 the variant
            return [1, 0] if swapped(rater, sentence, condition) else [0, 1]
        return shuffled(len(self.variants) + 2, self.asked.seed, rater, sentence) if test == "mushra" else [0]

    def _clips(self, test: str, number: int, condition: int) -> dict[str, Any]:
        sentence, spoken = str(number), self.sounds.spoken

        def write(variant: str, reference: bool = False) -> str:
            use = "reference" if reference else "rated"
            return self.writer.write(use, spoken[variant][number], test, sentence, variant)

        if test == "acr":
            return {"clips": [write(self.heard[condition])]}
        if test == "ccr":
            return {"clips": [write(ORIGINAL), write(self.variants[condition])]}
        rated = [write(name) for name in (ORIGINAL, *self.variants, LOWPASS)]
        return {"reference": write(ORIGINAL, reference=True), "clips": rated}

    def _practice(self, test: str) -> list[dict[str, Any]]:
        """Examples that are not counted: they show the range of what is to come."""
        good, *worse = self.sounds.practice
        wanted = {
            "acr": [[good], *([name] for name in worse)],
            "ccr": [[good, worse[0]], [worse[1], good]],
            "mushra": [[worse[1], good, worse[0]]],
        }[test]
        trials = []
        for names in wanted:
            clips = [
                self.writer.write("practice", self.sounds.practice[name], test, "practice", name) for name in names
            ]
            trial: dict[str, Any] = {"test": test, "sentence": "practice", "clips": clips}
            if test == "mushra":
                trial["reference"] = self.writer.write("practice", self.sounds.practice[good], test, "practice", good)
            trials.append(trial)
        return trials


def _conditions(test: str, variants: int) -> int:
    """In how many trials a rater hears each sentence."""
    return {"acr": variants + 1, "ccr": variants, "mushra": 1}[test]


def _drawn(names: list[str]) -> list[str]:
    """The names in an order that nobody can know."""
    return secrets.SystemRandom().sample(names, len(names))


def _hidden(
    trials: list[dict[str, Any]], orders: list[list[list[int]]]
) -> tuple[list[dict[str, Any]], list[list[list[int]]]]:
    """The same trials and orders with trials, and the clips of each, at places that tell nothing of what they are."""
    randomness = secrets.SystemRandom()
    places = randomness.sample(range(len(trials)), len(trials))  # old number -> new number
    clips = [randomness.sample(range(len(t["clips"])), len(t["clips"])) for t in trials]
    found: list[dict[str, Any]] = [{} for _ in trials]
    for old, trial in enumerate(trials):
        moved = [""] * len(trial["clips"])
        for before, after in enumerate(clips[old]):
            moved[after] = trial["clips"][before]
        found[places[old]] = {**trial, "clips": moved}
    return found, [
        [[places[trial], *(clips[trial][clip] for clip in inside)] for trial, *inside in order] for order in orders
    ]
