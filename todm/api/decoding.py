"""Decode one part of a corpus and score it."""

from __future__ import annotations

from pathlib import Path

from todm.api.results import DecodeResult
from todm.data.part_audio import load_part_audio
from todm.decode.wer import compute_wer, make_utterances, write_wer
from todm.inference import InferenceOptions, load


def decode_part(
    model: Path,
    corpus_dir: Path,
    part: str,
    out: Path,
    *,
    spec: str | None = None,
    options: InferenceOptions | None = None,
) -> DecodeResult:
    """Transcribe one part of a corpus with any model and write its word error rate.

    Args:
        model: supernet, subnet or bundle folder.
        corpus_dir: folder in LibriSpeech's layout, or its parent.
        part: folder of the corpus.
        out: JSON file; alignments go to the file of the same name ending in ``.errors.txt``.
        spec: ladder name or path of a spec.json, for a supernet only.
        options: precision, search and threads.

    Raises:
        UserError: no such model, corpus or part, or an option that does not suit the model.
    """
    options = options or InferenceOptions()
    opened = load(
        model,
        spec=spec,
        precision=options.precision,
        beam=options.beam,
        num_threads=options.num_threads,
    )
    ids, texts, samples = load_part_audio(corpus_dir, part)
    scored = make_utterances(ids, texts, [result.text for result in opened.transcribe_batch(samples)])
    result = compute_wer(scored)
    name = model.name if spec is None else f"{model.name}:{spec}"
    write_wer(out, scored, result, part=part, model=name)
    return DecodeResult(model=name, part=part, score=result, path=out)
