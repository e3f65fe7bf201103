"""Find out whether the labels or the encoder's state cause the errors of one stream of many utterances.

    python export/tools/stream_causes.py MODEL --corpus-dir DIR --part PART [--spec SPEC] [--pause 1.5]

All utterances of the part are decoded in torch by greedy search four times: as one stream with digital
silence after each; with the label context set back to that of a new stream where an utterance begins; with
the encoder's state set back there; and with both, as fresh starts. Prints the word error rates as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from todm.data.features import make_extractor
from todm.data.part_audio import load_part_audio
from todm.data.tokenizer import Tokenizer
from todm.decode.greedy import UNK
from todm.decode.streaming import make_configured_view
from todm.decode.wer import compute_wer, make_utterances
from todm.errors import UserError
from todm.inference.torch_model import compute_host_features
from todm.model_dir import load_plain
from todm.nn.transducer import Transducer
from todm.runtime.constants import BLANK_ID, FRAME_SHIFT_MS, SAMPLE_RATE


@torch.inference_mode()
def main() -> int:
    """Print the word error rates; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path, help="supernet or streaming subnet")
    parser.add_argument("--spec", help="streaming spec of a supernet, such as max-streaming")
    parser.add_argument("--corpus-dir", type=Path, required=True, help="folder in LibriSpeech's layout")
    parser.add_argument("--part", required=True, help="part of the corpus")
    parser.add_argument(
        "--pause", type=float, default=1.5, help="seconds of silence after an utterance (1.5)"
    )
    args = parser.parse_args()
    net, config, folder = load_plain(args.model, args.spec)
    chunks = make_configured_view(net, config)
    if chunks is None:
        raise UserError(f"{args.model}: is an offline net; give a streaming one")
    ids, texts, utterances = load_part_audio(args.corpus_dir, args.part)
    pause = np.zeros(round(args.pause * SAMPLE_RATE), np.float32)
    pieces = [np.concatenate((samples, pause)) for samples in utterances]
    frame = round(net.subsampling_factor * FRAME_SHIFT_MS * SAMPLE_RATE / 1000)
    begins = {int(begin) // frame for begin in np.cumsum([0, *map(len, pieces)])[:-1]}
    extractor = make_extractor()

    def encode(samples: np.ndarray) -> Tensor:
        feats = torch.from_numpy(compute_host_features(samples, chunks, extractor))
        return net.encode(feats[None], torch.tensor([len(feats)]))[0]

    stream = encode(np.concatenate(pieces))
    alone = [encode(piece) for piece in pieces]
    starts = set(np.cumsum([0, *(out.shape[1] for out in alone)])[:-1].tolist())
    joined = torch.cat(alone, dim=1)
    tokenizer = Tokenizer.load(folder)
    decoded = {
        "nothing": decode(net, stream, ()),
        "labels": decode(net, stream, begins),
        "encoder": decode(net, joined, ()),
        "both": decode(net, joined, starts),
    }
    whole = " ".join(texts)
    print(
        json.dumps(
            {
                name: compute_wer(make_utterances(["stream"], [whole], [tokenizer.decode(labels)])).wer
                for name, labels in decoded.items()
            }
            | {"utterances": len(ids), "pause": args.pause}
        )
    )
    return 0


def decode(net: Transducer, encoder_out: Tensor, resets: Collection[int]) -> list[int]:
    """Greedy search over (1, T', J); the context is that of a new stream at the frames `resets`."""
    context = net.predictor.start(1)
    predictor_out, labels = net.predict_step(context), []
    for t in range(encoder_out.shape[1]):
        if t in resets:
            context = net.predictor.start(1)
            predictor_out = net.predict_step(context)
        label = int(net.join(encoder_out[:, t], predictor_out).argmax())
        if label not in (BLANK_ID, UNK):
            labels.append(label)
            context = torch.cat((context[:, 1:], torch.tensor([[label]])), dim=1)
            predictor_out = net.predict_step(context)
    return labels


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"stream_causes.py: {error}", file=sys.stderr)
        sys.exit(2)
