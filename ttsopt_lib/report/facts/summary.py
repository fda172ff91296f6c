"""From records to `Summary`: every number of the report is derived here, and only here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ttsopt_lib.code_hash import git_state
from ttsopt_lib.evaluate.anchors import ANCHORS
from ttsopt_lib.evaluate.intelligibility import character_error_rate
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.base import RecordError, now, read_record
from ttsopt_lib.records.device import DeviceRecord
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.quality import NotScored, QualityRecord, QualityRow, RatingsRow
from ttsopt_lib.records.variant import PeerRecord, SensitivityRecord, VariantRecord
from ttsopt_lib.report.error_rates import WORDS, rates_of
from ttsopt_lib.report.estimates import ZERO
from ttsopt_lib.report.facts import verdict
from ttsopt_lib.report.facts.advice import advice
from ttsopt_lib.report.facts.confirmation import choosing, held_out, on_further_sentences, original_beside, references
from ttsopt_lib.report.facts.first_sound import first_sound
from ttsopt_lib.report.facts.imports import further_devices, import_summary, of_this_study, other_files, why_not_judged
from ttsopt_lib.report.facts.paired_rows import character_errors, paired_summary, rate_summary, with_tests, word_errors
from ttsopt_lib.report.facts.peers import summarize_peers
from ttsopt_lib.report.facts.students import students
from ttsopt_lib.report.facts.timing_rows import summarize_device
from ttsopt_lib.report.facts.web import web_summary
from ttsopt_lib.report.schema import (
    ComparisonSummary,
    Decided,
    DeviceSummary,
    Estimate,
    Facts,
    HumanMos,
    PredictedMos,
    PredictorSummary,
    QualitySummary,
    SensitivitySummary,
    StepSummary,
    Summary,
    VariantSummary,
)
from ttsopt_lib.statistics.crossed import CrossedMean
from ttsopt_lib.statistics.intervals import mean_interval, paired_change
from ttsopt_lib.statistics.significance import holm
from ttsopt_lib.statistics.stopping import LEVEL
from ttsopt_lib.study import ORIGINAL, Device, SentenceRange, Stage, Study
from ttsopt_lib.voices.adapters.declared import declaration_beside
from ttsopt_lib.voices.piper import packaged_voice
from ttsopt_lib.voices.text import TextError, read_sentences

__all__ = ["Summary", "confirmed", "known_damage", "summarize"]


def summarize(study: Study, devices: Sequence[Device], folder: StudyFolder) -> Summary:
    """Everything the report says, from the records in `folder`: what was measured, what is chosen, what to do next.

    A device without a record, and quality without one, are "not measured". Raises `RecordError` where a
    variant of the study was not made: a report about voices that do not exist would be none.
    """
    facts = measured_facts(study, devices, folder)
    choices = [verdict.choose(facts, device) for device in facts.measured_devices]
    chosen = {choice.device: choice.variant for choice in choices}
    decided = Decided(
        **dict(facts),
        optimized={device.device: chosen.get(device.device) for device in facts.devices},
        choices=choices,
        verdict=verdict.verdict(facts, choices),
    )
    return Summary(**dict(decided), advice=advice(decided))


def measured_facts(study: Study, devices: Sequence[Device], folder: StudyFolder) -> Facts:
    """What was measured, with its intervals and tests. Raises as `summarize`."""
    variants = [read_record(folder.variant_record(name), VariantRecord, "optimize") for name in study.variant_names]
    by_name = {variant.name: variant for variant in variants}
    quality, quality_reason = _quality_record(folder, by_name)
    device_rows, judged = _devices(study, [*devices, *further_devices(devices, folder)], folder, by_name)
    system = next((device.system for device in device_rows if device.judged), None)
    commit, dirty = git_state()
    notes = {variant.name: variant.note for variant in study.variants}
    declaration = declaration_beside(folder.model(ORIGINAL))
    encoder, margin = quality.speaker_encoder, abs(study.targets.predicted_mos_change)
    anchors = with_tests(known_damage(study, quality), quality, margin)
    other_noise = scored(quality, [quality.other_noise] if quality.other_noise else [])
    return Facts(
        stage=_stage(quality, list(judged.values())),
        study=study.name,
        voice=_voice_name(study),
        created=now(),
        commit=commit,
        dirty=dirty,
        system=system,
        baseline=ORIGINAL,
        targets=study.targets,
        variants=[variant_summary(record, variants[0], notes.get(record.name, "")) for record in variants],
        devices=device_rows,
        quality=_quality(study, quality),
        anchors=anchors,
        title=study.title,
        predictors=_predictors(study, quality, anchors),
        source_sha256=variants[0].source_sha256,
        licence_chain=list(study.voice.licence_chain or (declaration.licence_chain if declaration else ())),
        model=declaration.name if declaration else None,
        asr=quality.asr,
        asr_reason=quality.asr_reason,
        asr_language=None if quality_reason else quality.asr_language,
        asr_against=quality.asr_against,
        ratings_reason=ratings_reason(quality),
        ratings_spread=quality.ratings_spread,
        ratings_unknown_files=quality.ratings_unknown_files,
        ratings_left_out=quality.ratings_left_out,
        comparisons=_comparisons(quality),
        screened_raters=len(quality.screened),
        screened=quality.screened,
        quality_reason=quality_reason,
        quality_created=quality.created or None,
        evaluation_sentences=len(quality.sentences),
        evaluation_sentences_available=_available(study, study.sentences.evaluation),
        confirmation_sentences_available=_available(study, study.sentences.confirmation),
        wer_sentences=len(quality.words) or study.evaluate.wer_sentences,
        paired_sentences=_compared_sentences(quality),
        timing_sentences=sum(len(texts) for texts in study.sentences.timing.values()),
        listening=list(study.sentences.listening),
        sensitivity=_sensitivity(study, folder),
        other_noise=with_tests(other_noise, quality, margin),
        confirmation=[row for row in confirmed(quality) if row.variant in study.variant_names],
        confirmation_sentences=len(quality.confirmation_sentences),
        unavailable_predictors=quality.unavailable,
        not_scored=quality.not_scored,
        speaker_encoder=f"{encoder.label} {encoder.version}" if encoder else None,
        speaker_reason=quality.speaker_reason,
        pitch_reason=quality.pitch_reason,
        missing_symbols=quality.missing_symbols,
        texts=quality.texts,
        language_doubts=quality.language_doubts,
        students=students(study),
        peers=summarize_peers(study, folder, judged, scored(quality, quality.peers), variants[0].size_bytes),
        web=web_summary(folder, by_name),
    )


def _stage(quality: QualityRecord, devices: Sequence[DeviceRecord | None]) -> Stage:
    """What the records say, whoever renders them: a first look as long as one of them is."""
    measured = [record for record in devices if record and record.status == "measured"]
    return "first_look" if any(one.stage == "first_look" for one in (quality, *measured)) else "complete"


# --- variants ---------------------------------------------------------------------------------------------------


def variant_summary(record: VariantRecord, original: VariantRecord, note: str = "") -> VariantSummary:
    """A variant beside the original."""
    return VariantSummary(
        name=record.name,
        runtime="onnxruntime",
        recipe=record.recipe,
        parameters=record.parameters_stored,
        size_bytes=record.size_bytes,
        size_reduction=1 - record.size_bytes / original.size_bytes,
        coverage=record.coverage,
        note=note,
        parent=record.parent,
        parameters_nonzero=record.parameters_nonzero,
        zero_fraction=1 - record.parameters_nonzero / max(1, record.parameters_stored),
        compressed_bytes=record.compressed_bytes,
        compressed_reduction=1 - record.compressed_bytes / original.compressed_bytes,
        steps=[
            StepSummary(settings=_settings(settings), **step.model_dump(exclude={"changes_arithmetic"}))
            for step, settings in zip(record.steps, record.recipe, strict=False)
        ],
        files=record.files,
        seconds=record.seconds,
    )


def _settings(recipe_step: dict[str, Any]) -> dict[str, Any]:
    """What a step was told: without its name, and without settings that say nothing."""
    silent = {"step": ..., "reaches_nothing": "error", "clock": False, "clock_threads": 1, "weight_bits": 8}
    return {key: value for key, value in recipe_step.items() if silent.get(key) not in (..., value) and value != []}


def _sensitivity(study: Study, folder: StudyFolder) -> list[SensitivitySummary]:
    """What the searches of the study's recipes found; nothing where none has a search."""
    rows = []
    for variant in study.variants:
        path = folder.sensitivity_record(variant.name)
        if path.is_file() and any(step.searches for step in variant.recipe):
            record = read_record(path, SensitivityRecord, "optimize")
            for one in record.groups:
                rows.append(
                    SensitivitySummary(variant=variant.name, int8=one.group in record.chosen, **one.model_dump())
                )
    return rows


def _voice_name(study: Study) -> str:
    """The voice's own name: of its file, also where a package ships it."""
    source = study.voice
    if source.package:
        return packaged_voice(source.package).stem
    if source.kokoro:
        return f"Kokoro, {source.kokoro.style.stem}"
    if source.huggingface:
        return source.huggingface.name
    return Path(source.path or source.declared or study.name).stem


# --- devices ----------------------------------------------------------------------------------------------------


def _devices(
    study: Study, devices: Sequence[Device], folder: StudyFolder, variants: Mapping[str, VariantRecord]
) -> tuple[list[DeviceSummary], dict[str, DeviceRecord | None]]:
    """Every device, and the records of those that are judged."""
    not_streamed = {name: one.not_streamed for name, one in variants.items() if one.not_streamed}
    rows, judged = [], {}
    for device in devices:
        record = _device_record(device, folder, study)
        row = summarize_device(device, record)
        row.imported, row.doubts = import_summary(record, variants), why_not_judged(record, study, variants)
        whole = record and record.status == "measured" and record.stage == "complete"
        if record and whole and record.kind not in verdict.NOT_STREAMED:
            row.first_sound = first_sound(record.first_sound, not_streamed)
        rows.append(row)
        if row.judged:
            judged[device.name] = record
    return rows, judged


def _device_record(device: Device, folder: StudyFolder, study: Study) -> DeviceRecord | None:
    path = folder.device_record(device.name)
    return of_this_study(read_record(path, DeviceRecord, "measure"), study) if path.is_file() else None


# --- quality ----------------------------------------------------------------------------------------------------


def _quality_record(folder: StudyFolder, variants: Mapping[str, VariantRecord]) -> tuple[QualityRecord, str | None]:
    """The record of today's voices, and None; a record of nothing, and the reason, where nothing was evaluated."""
    if not folder.quality_record.is_file():
        return _nothing_scored("the voices were not evaluated yet (ttsopt evaluate)")
    record = read_record(folder.quality_record, QualityRecord, "evaluate")
    if not any(row.variant == ORIGINAL for row in record.rows):
        raise RecordError(f"{folder.quality_record}: no scores of the original; run 'ttsopt evaluate' again")
    scored = {row.variant: row for row in (*record.confirmation, *record.rows)}
    others = other_files([(name, row.model_sha256) for name, row in scored.items()], variants)
    if ORIGINAL in others:
        return _nothing_scored("the original's voice file is another than was scored (ttsopt evaluate)")
    scored |= {row.variant: row for row in record.peers}
    reasons = dict.fromkeys(others, "its voice file is another than was scored; run 'ttsopt evaluate' again")
    reasons |= {
        row.variant: "made anew since it was scored (ttsopt evaluate --peers)"
        for row in record.peers
        if row.model_sha256 and _made_anew(folder, row)
    }
    heard = {*variants, *ANCHORS} - {*reasons}
    comparisons = [row for row in record.comparisons if row.variant in heard]
    ratings = record.ratings and [row for row in record.ratings if row.variant in heard]
    record = record.model_copy(update={"comparisons": comparisons, "ratings": ratings})
    if not reasons:
        return record, None
    changes = {
        part: [row for row in getattr(record, part) if row.variant not in reasons]
        for part in ("rows", "confirmation", "peers")
    }
    not_scored = [NotScored(variant=name, key=scored[name].key, reason=reason) for name, reason in reasons.items()]
    return record.model_copy(update={**changes, "not_scored": [*record.not_scored, *not_scored]}), None


def _made_anew(folder: StudyFolder, row: QualityRow) -> bool:
    """Whether a peer was made again since it spoke. One that was scored elsewhere has no record here."""
    path = folder.peer_record(row.variant)
    return path.is_file() and read_record(path, PeerRecord, "measure --peers").key != row.model_sha256


def _nothing_scored(reason: str) -> tuple[QualityRecord, str]:
    nothing = QualityRecord(
        key="", created="", sentences=[], predictors=[], rows=[], anchors=[], ratings=None, asr=None,
        asr_reason=reason, ratings_reason=reason, speaker_reason=reason, pitch_reason=reason,
    )  # fmt: skip
    return nothing, reason


def ratings_reason(record: QualityRecord) -> str | None:
    """Why there is no mean opinion score, and whose ratings do not count."""
    screened = "; ".join(rater.words for rater in record.screened)
    return "; ".join(filter(None, (record.ratings_reason, screened and f"screened out: {screened}"))) or None


def _predictors(study: Study, record: QualityRecord, anchors: list[QualitySummary]) -> list[PredictorSummary]:
    found = []
    for predictor in record.predictors:
        rows = [row for row in anchors if row.predictor == predictor.name]
        missed = [row.variant for row in rows if row.predicted_mos.finding != "worse"]
        found.append(
            PredictorSummary(
                **predictor.model_dump(),
                primary=predictor.name == study.evaluate.primary,
                orders_anchors=not missed if rows else None,
                missed_anchors=missed,
            )
        )
    return found


def _quality(study: Study, record: QualityRecord) -> list[QualitySummary]:
    """The study's voices, with their tests and with what listeners cannot tell apart."""
    by_name = {row.variant: row for row in record.rows}
    rows = scored(record, [by_name[name] for name in study.variant_names if name in by_name])
    equivalent = _equivalence(record, abs(study.targets.mos_change))
    for row in rows:
        if row.human_mos and row.variant in equivalent:
            row.human_mos.equivalence_p = equivalent[row.variant]
    return with_tests(rows, record, abs(study.targets.predicted_mos_change))


def known_damage(study: Study, record: QualityRecord) -> list[QualitySummary]:
    """The anchors: the original with known damage, then the variants that are naive static int8, by predictor."""
    naive = {variant.name for variant in study.variants if variant.is_naive_int8}
    return scored(record, [*record.anchors, *(row for row in record.rows if row.variant in naive)])


def confirmed(record: QualityRecord) -> list[QualitySummary]:
    """The original and what was confirmed, on further sentences alone; none of them chose anything."""
    further = on_further_sentences(record)
    rows = scored(further, further.rows) if further else []
    for row in rows:
        mos = row.predicted_mos
        mos.change_choosing, mos.change_held_out, mos.sentences_held_out = None, mos.change, row.sentences
    return rows


def scored(record: QualityRecord, rows: list[QualityRow]) -> list[QualitySummary]:
    """One summary per row and predictor, each change paired by sentence with the original's."""
    ratings, rates = {row.variant: row for row in record.ratings or []}, rates_of(record)
    asked = max((len(row.audio_seconds) for row in record.rows), default=0)
    found = []
    for row in rows:
        itself, original = row.variant == ORIGINAL, original_beside(row, record)
        level = LEVEL if row.stopped else 0.95
        paired = paired_summary(row, original)
        similarity = paired.speaker_similarity if paired else None
        wer, cer = (rate_summary(count, row, original, record) for count in (word_errors, character_errors))
        for predictor in (p.name for p in record.predictors if p.name in row.scores):
            scores, baseline = row.scores[predictor], original.scores[predictor]
            mean, kept = _mean(scores), held_out(record, row, predictor)
            found.append(
                QualitySummary(
                    variant=row.variant,
                    predictor=predictor,
                    sentences=len(scores),
                    predicted_mos=PredictedMos(
                        value=mean.value,
                        ci=mean.ci,
                        change=ZERO if itself else _change(scores, baseline, level),
                        change_choosing=ZERO if itself else _change(*choosing(record, row, predictor), level),
                        change_held_out=ZERO if itself else _change(*kept, level),
                        sentences_held_out=len(kept[0]),
                        level=level,
                    ),
                    wer=row.wer if rates is WORDS else None,
                    speaker_similarity=similarity.value if similarity else None,
                    human_mos=_human(ratings.get(row.variant)),
                    level_above_8khz_db=_mean(row.level_above_8khz_db) if row.level_above_8khz_db else None,
                    level_above_8khz_change_db=ZERO
                    if itself and row.level_above_8khz_db
                    else _change(row.level_above_8khz_db, original.level_above_8khz_db),
                    speech_seconds=sum(row.audio_seconds),
                    wer_figures=wer if rates is WORDS else None,
                    cer=None if rates.relative else _character_error_rate(row, record),
                    cer_figures=None if rates.relative else cer,
                    relative_wer=wer if rates.relative else None,
                    relative_cer=cer if rates.relative else None,
                    paired=paired,
                    fewer=len(row.audio_seconds) < asked,
                )
            )
    return found


def _character_error_rate(row: QualityRow, record: QualityRecord) -> float | None:
    if not row.hypotheses:
        return None
    return character_error_rate(references(row, record), row.hypotheses, record.asr_language)


def _available(study: Study, asked: SentenceRange | None) -> int | None:
    """The most that `count` of a range can be before its file, or another range in it, is reached.

    None where there is no range, or no file that could be read.
    """
    texts = study.sentences
    if asked is None:
        return None
    try:
        end = len(read_sentences(resolve(asked.file)))
    except TextError:
        return None
    others = (texts.evaluation, texts.calibration, texts.confirmation)
    starts = [one.start for one in others if one and one.file == asked.file and one.start > asked.start]
    return max(0, min([end, *starts]) - asked.start)


def _compared_sentences(record: QualityRecord) -> int | None:
    """On how many sentences voices were compared with the original: the most, where some were decided early."""
    compared = [row.paired for row in (*record.rows, record.other_noise) if row and row.paired]
    return max((len(one.log_spectral_distance_db) for one in compared), default=None)


def _mean(scores: list[float]) -> Estimate:
    """Mean over sentences; one sentence has no interval."""
    if len(scores) < 2:
        return Estimate(value=scores[0], ci=None)
    return Estimate(**mean_interval(scores)._asdict())


def _change(scores: list[float], baseline: list[float], level: float = 0.95) -> Estimate | None:
    """Paired change; None where there is nothing to pair, or too little for an interval."""
    if len(scores) < 2 or len(scores) != len(baseline):
        return None
    return Estimate(**paired_change(scores, baseline, level)._asdict())


def _human(row: RatingsRow | None) -> HumanMos | None:
    if row is None:
        return None
    change = ZERO if row.variant == ORIGINAL else None
    if row.change is not None:
        change = Estimate(value=row.change, ci=row.change_ci)
    found = _crossed(row)
    return HumanMos(
        value=row.mean,
        ci=row.ci,
        raters=row.raters,
        ratings=row.ratings,
        change=change,
        detectable=found.detectable() if found else None,
        sentences=row.sentences,
    )


def _crossed(row: RatingsRow) -> CrossedMean | None:
    """The change of a variant's ratings with its standard error, where both are there."""
    if row.change is None or row.change_error is None or row.change_dof is None:
        return None
    return CrossedMean(row.change, row.change_error, row.change_dof)


def _equivalence(record: QualityRecord, margin: float) -> dict[str, float]:
    """For every rated variant the p-value of "listeners will not hear it", corrected for their number."""
    crossed = {row.variant: one for row in record.ratings or [] if (one := _crossed(row))}
    found = {name: p for name, one in crossed.items() if (p := one.equivalence_p(margin)) is not None}
    return dict(zip(found, holm(list(found.values())), strict=True))


def _comparisons(record: QualityRecord) -> list[ComparisonSummary]:
    rows = []
    for row in record.comparisons:
        known = row.error is not None and row.dof is not None and row.test == "ccr"
        crossed = CrossedMean(row.mean, row.error or 0.0, row.dof or 1.0)
        rows.append(
            ComparisonSummary(
                test=row.test,
                variant=row.variant,
                score=Estimate(value=row.mean, ci=row.ci),
                raters=row.raters,
                sentences=row.sentences,
                ratings=row.ratings,
                detectable=crossed.detectable() if known else None,
            )
        )
    return rows
