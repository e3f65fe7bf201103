"""Names of all files and folders of a run, of its data and of a model folder.

::

    EXP/
      config.yaml                  settings of the training
      data/                        `DataFolder`: manifests, features, tokenizer
      checkpoints/step-00000410.pt
      train/                       metrics.jsonl, train.log, finished.json, one log per process
      tensorboard/
      supernet/                    `ModelFolder` of the averaged supernet
      search/                      pareto.json, cache.jsonl, compare.json
      subnets/NAME/                `ModelFolder` of an extracted subnet
      fine-tune/NAME/              run folder of a fine-tuned subnet
      bundles/NAME/                ONNX bundle (names of its files: `todm.runtime`), manifest.json
      decode/NAME/PART.json        word error rate, and PART.errors.txt with the alignments
      bench/NAME.json              speed of a bundle, and bench.png
      devices/DEVICE.json          latency table of a device, and DEVICE/ with its measurements
      report/                      index.html, ladder.json
      commands.txt                 commands of `todm run`
      .done/NUMBER.json            finished stages, with what they read, and fingerprints.json

This package builds and finds paths; it neither reads nor creates files.
"""

from todm.layout.checkpoints import CHECKPOINT_PATTERN, checkpoint_path, checkpoint_step, find_checkpoints
from todm.layout.data import DataFolder
from todm.layout.model import LangFolder, ModelFolder
from todm.layout.run import BenchFolder, DeviceFolder, RunFolder, alignments_path

__all__ = [
    "CHECKPOINT_PATTERN",
    "BenchFolder",
    "DataFolder",
    "DeviceFolder",
    "LangFolder",
    "ModelFolder",
    "RunFolder",
    "alignments_path",
    "checkpoint_path",
    "checkpoint_step",
    "find_checkpoints",
]
