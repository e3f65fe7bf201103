"""Check that an offline encoder is exact, and linear in time and memory, for 1 to 10 minutes of audio.

    python export/tools/long_audio.py BUNDLE SUBNET [--minutes 1 2 5 10] [--out FILE]

Each length runs in a subprocess on random features. The output is compared with torch's convolution by FFT
over the whole length. Exit code 1 if they differ by more than a thousandth of the largest value, or if an
additional minute takes more than 1.5 times the memory or time of a minute between the two shortest lengths.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from todm.errors import UserError
from todm.model_dir import load_subnet
from todm.nn import mhssm
from todm.nn.ssm import convolve_fft
from todm.nn.transducer import Transducer
from todm.runtime.bundle import open_bundle
from todm.runtime.constants import NUM_MEL_BINS
from todm.runtime.machine import peak_rss_mb, rss_mb

FRAMES_PER_MINUTE = 6000
ALLOWED_DIFFERENCE = 1e-3
ALLOWED_GROWTH = 1.5


def main() -> int:
    """Print a line per length; returns 0 if the encoder is exact and linear."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path, help="offline ONNX folder")
    parser.add_argument("subnet", type=Path, help="subnet that it was exported from")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 2, 5, 10], help="lengths (1 2 5 10)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything as JSON")
    args = parser.parse_args()
    net, _ = load_subnet(args.subnet)
    if net.spec.mode != "offline" or open_bundle(args.bundle).mode != "offline":
        raise UserError(f"{args.bundle}: a streaming encoder takes chunks; give an offline bundle")
    rows = []
    for minutes in sorted(set(args.minutes)):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            out, seconds, megabytes = pool.apply(run_encoder, (args.bundle, minutes))
        wanted = encode_by_fft(net, make_features(minutes))
        difference = float(np.abs(out - wanted).max() / np.abs(wanted).max())
        rows.append({"minutes": minutes, "seconds": seconds, "mb": megabytes, "difference": difference})
        print(
            f"{minutes:5.1f} min  {seconds / minutes:7.3f} s and {megabytes / minutes:7.1f} MB per minute"
            f"  differs from FFT by {difference:.1e} of the largest value",
            flush=True,
        )
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")
    exact = all(row["difference"] <= ALLOWED_DIFFERENCE for row in rows)
    return 0 if exact and all(is_linear(rows, key) for key in ("seconds", "mb")) else 1


def is_linear(rows: list[dict[str, float]], key: str) -> bool:
    """Whether the cost of an additional minute does not grow; fixed costs are ignored."""
    costs = [(b[key] - a[key]) / (b["minutes"] - a["minutes"]) for a, b in pairwise(rows)]
    return all(cost <= ALLOWED_GROWTH * costs[0] for cost in costs)


def make_features(minutes: float) -> np.ndarray:
    """Random features (1, T, 80) in the range of log-mel energies."""
    rng = np.random.default_rng(0)
    feats = rng.standard_normal((1, round(minutes * FRAMES_PER_MINUTE), NUM_MEL_BINS), dtype=np.float32)
    return feats * np.float32(3.0) - np.float32(7.0)


def run_encoder(folder: Path, minutes: float) -> tuple[np.ndarray, float, float]:
    """Encode random features: output (1, T', J), seconds, and additional memory, 2^20 bytes."""
    bundle = open_bundle(folder)
    feats = make_features(minutes)
    bundle.encode(feats[:, :100], np.array([100]))
    before = rss_mb() or 0.0
    start = time.perf_counter()
    out, _ = bundle.encode(feats, np.array([feats.shape[1]]))
    return out, time.perf_counter() - start, (peak_rss_mb() or 0.0) - before


@torch.inference_mode()
def encode_by_fft(net: Transducer, feats: np.ndarray) -> np.ndarray:
    """Output of the net with every SSM computed by `convolve_fft`; layers are called in order."""
    layers = iter(net.encoder_layers)

    def convolve(u: torch.Tensor, operators: object, *, num_forward: int) -> torch.Tensor:
        return convolve_fft(u.float(), next(layers).mhssm.ssm.coefficients(), num_forward=num_forward)

    with mock.patch.object(mhssm, "apply_ssm", convolve):
        out, _ = net.encode(torch.from_numpy(feats), torch.tensor([feats.shape[1]]))
    return out.numpy()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"long_audio.py: {error}", file=sys.stderr)
        sys.exit(2)
