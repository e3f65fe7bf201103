"""Every setting of a run, typed and frozen: what the YAML files in ``recipes/`` spell out.

Nothing here imports torch, so that the command line answers at once. A resolved `Config` is written
into the run folder and into every checkpoint; later commands read it from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Mode = Literal["offline", "streaming"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which parts of the corpus are used, and how they become batches.

    Args:
        train_parts: folders of the corpus to train on, for example ``train-clean-5``.
        dev_parts: folders for validation, search and the quantisation guard.
        test_parts: folders that only stage 9 (decode) looks at; may be empty.
        token_type: how a text is cut into pieces: sentencepiece's ``unigram``, ``bpe`` or
            ``word``. Whole words
            suit a small closed vocabulary; one that training never saw is then ``<unk>``.
        vocab_size: number of pieces at most, blank, ``<sos/eos>`` and ``<unk>`` included.
        speed_factors: copies of the training audio at these speeds (1.0 is the original).
        store_features: keep log-mel features on disk (True) or compute them on the fly (False).
        max_duration: seconds of audio in one training batch at most, padding included.
        num_buckets: duration buckets of the sampler.
        sortagrad: the first epoch goes from the shortest utterances to the longest (SortaGrad, Amodei et
            al., arXiv 1512.02595): what is said alone shows a small corpus's net where in the audio it is.
        min_utterance: seconds; shorter training utterances are dropped and counted.
        max_utterance: seconds; longer training utterances are dropped and counted.
        shar_dir: train from the shards there (`todm.data.shar`) instead of from single files: a folder, which
            ``todm prepare`` fills, a URL, or ``pipe:`` and a command that writes the file ``{}``; or empty.
        shar_utterances: utterances in one shard; a run needs a shard for each loading process of each rank.
        shar_buffer: utterances among which a reader of shards shuffles and finds those of like duration; each
            loading process holds so many in memory, features or compressed audio.
        num_workers: processes that load batches; 0 loads in the training process.
        num_jobs: processes that compute features in ``todm prepare``.
    """

    train_parts: tuple[str, ...] = ("train-clean-5",)
    dev_parts: tuple[str, ...] = ("dev-clean-2",)
    test_parts: tuple[str, ...] = ()
    token_type: Literal["unigram", "bpe", "word"] = "unigram"
    vocab_size: int = 500
    speed_factors: tuple[float, ...] = (0.9, 1.0, 1.1)
    store_features: bool = True
    max_duration: float = 200.0
    num_buckets: int = 10
    sortagrad: bool = False
    min_utterance: float = 0.3
    max_utterance: float = 30.0
    shar_dir: str = ""
    shar_utterances: int = 1000
    shar_buffer: int = 2000
    num_workers: int = 1
    num_jobs: int = 2

    @property
    def writes_shards(self) -> bool:
        """Whether `shar_dir` is a path, where ``todm prepare`` writes shards, not something far away."""
        return bool(self.shar_dir) and not self.shar_dir.startswith("pipe:") and "://" not in self.shar_dir


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Distortions of log-mel features in training, drawn anew for every utterance.

    Args:
        tempo: every utterance is stretched in time by up to this fraction.
        join_prob: share of batches whose utterances are joined in pairs, a pause between them: a stream that
            goes on after an utterance carries the state that it left behind.
        join_pause_frames: frames of that pause at most, uniform from 0.
        freq_warp: vocal-tract-length perturbation; the mel axis is stretched by up to this fraction.
        gain_db: level change, uniform in plus or minus this many decibels.
        tilt_db: spectral tilt from the lowest to the highest bin, uniform in plus or minus decibels.
        ripple_db: slow ripples over the mel axis, four of them, each uniform in plus or minus this.
        noise_prob: share of utterances that get stationary coloured noise.
        noise_snr_db: signal-to-noise ratio of that noise, uniform between the two, decibels.
        time_masks: number of SpecAugment time masks.
        time_mask_frames: frames covered by one time mask at most.
        time_mask_ratio: share of an utterance's frames that time masks cover together at most.
        freq_masks: number of SpecAugment frequency masks.
        freq_mask_bins: mel bins covered by one frequency mask at most.
        tail_frames: frames of digital silence appended to an utterance at most, uniform from 0: what a
            streaming host appends when the audio ends.
        warmup_steps: batches over which the strength of all this rises from 0, after the diagonal start.
    """

    tempo: float = 0.0
    join_prob: float = 0.0
    join_pause_frames: int = 150
    freq_warp: float = 0.1
    gain_db: float = 6.0
    tilt_db: float = 6.0
    ripple_db: float = 0.0
    noise_prob: float = 0.3
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    time_masks: int = 10
    time_mask_frames: int = 100
    time_mask_ratio: float = 0.15
    freq_masks: int = 2
    freq_mask_bins: int = 27
    tail_frames: int = 40
    warmup_steps: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The supernet's fixed dimensions (what is elastic stands in `SpaceConfig`).

    Args:
        num_layers: encoder layers of the whole supernet.
        d_model: encoder width D.
        num_heads: SSM heads H, a multiple of 4: half of the head pairs run forward, half backward.
        head_dim: channels of one head.
        state_dim: conjugate pairs S of one channel's state.
        subsampling_factor: 4 (a frame every 40 ms) or 8 (every 80 ms).
        subsampling_channels: channels of the 2-D convolutions in front of the encoder.
        predictor_dim: width of the stateless predictor.
        context_size: labels that the predictor sees.
        joiner_dim: width J of the joiner.
        ffn_gate: multiplies the hidden units of the feed-forward by sigmoid(alpha z + beta), z being their
            pre-activation: standout's keep probability (Ba & Frey, NIPS 2013), which the dropout policy
            ``standout`` samples from. ``tied``: alpha and beta as given; ``learned``: each unit has its own
            and begins with those; ``none``.
        ffn_gate_scale: alpha.
        ffn_gate_bias: beta; the larger, the more is kept.
    """

    num_layers: int = 6
    d_model: int = 144
    num_heads: int = 8
    head_dim: int = 32
    state_dim: int = 8
    subsampling_factor: Literal[4, 8] = 4
    subsampling_channels: int = 32
    predictor_dim: int = 128
    context_size: int = 2
    joiner_dim: int = 128
    ffn_gate: Literal["none", "tied", "learned"] = "none"
    ffn_gate_scale: float = 1.0
    ffn_gate_bias: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    """What is elastic: depth, feed-forward width per layer, and direction.

    Args:
        depths: numbers of encoder layers that a subnet may run, ascending.
        widths: widths that a layer may run at, by dimension name (``ffn_dim``: hidden units of the
            feed-forward); ascending, the last is the full width.
        modes: ``offline`` runs all SSM heads, ``streaming`` the forward ones only.
    """

    depths: tuple[int, ...] = (4, 5, 6)
    widths: dict[str, tuple[int, ...]] = field(default_factory=lambda: {"ffn_dim": (192, 320, 448, 576)})
    modes: tuple[Mode, ...] = ("offline", "streaming")


@dataclass(frozen=True, kw_only=True)
class SandwichConfig:
    """Which specs one training step runs besides the max net.

    Args:
        num_corners: how many of the other corners (smallest and largest spec of each mode) are students of
            a step; they take turns.
        num_random: random specs among the students of a step.
        num_students: how many of these really run in a step, in turn; 0 runs them all. Small nets share every
            weight with the largest, which learns in each step: they may need fewer passes of their own.
        student_interval: students run in one step of so many, the largest net alone in the others; with two
            modes, streaming nets are all students.
    """

    num_corners: int = 1
    num_random: int = 1
    num_students: int = 0
    student_interval: int = 1


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The transducer loss (pruned RNN-T, Kuang et al., arXiv 2206.13236).

    Args:
        backend: ``native`` (pruned, PyTorch), ``k2`` (pruned) or ``torchaudio`` (full lattice).
        prune_range: symbols per frame S that the full joiner runs on.
        lm_scale: share of the label-only model in the smoothed loss, 0 to 1.
        am_scale: share of the audio-only model in the smoothed loss, 0 to 1.
        path_power: 1 for the likelihood; above it, a label's probability is drawn together into one frame
            (`todm.losses.native`). Not during the diagonal start; for ``native`` only.
        pruned_scales: weight of the transducer loss at the start and at the end of the warm-up.
        simple_scales: weights of the smoothed loss, likewise.
        warmup_steps: batches over which these weights move, linearly, after the diagonal start.
        alignment_warmup_steps: batches at the beginning in which only the largest net of each
            mode runs, without
            augmentation or dropout, and the labels are held near the line that spreads them evenly over the
            utterance. A transducer whose encoder sees all of it can stay for hours on a plateau where it
            says the right number of labels, anywhere, without knowing which; near the line it cannot.
        alignment_warmup_range: symbols per frame then. The smoothed loss learns beside it, the
            encoder left alone.
        alignment_warmup_delay: encoder frames by which that line lags behind; as much silence is
            appended then.
            Without it a label finds its place in the middle of what is said, and stays there: too soon for a
            streaming net, which is then left to guess how a word ends.
        alignment_warmup_label_context_dropout: share of the label positions, 0 to 1, at which the
            joiner does not see the
            labels before, during the diagonal start. Where labels predict each other well (letters of a few
            words), 1 leaves it to the encoder to tell them apart; where the same label often comes twice, it
            teaches to swallow the second.
        streaming_delay: encoder frames by which streaming nets say a label later than the offline max net, in
            the lattice, its band and its teaching. For a space with both modes; every utterance is lengthened
            by as much silence.
        label_context_dropout: the same as `alignment_warmup_label_context_dropout` after the
            start, below 1. Greedy search then
            gets over a label that it missed: what comes next can be heard without it.
    """

    backend: Literal["native", "k2", "torchaudio"] = "native"
    prune_range: int = 5
    lm_scale: float = 0.25
    am_scale: float = 0.0
    path_power: float = 1.0
    pruned_scales: tuple[float, float] = (0.1, 1.0)
    simple_scales: tuple[float, float] = (1.0, 0.5)
    warmup_steps: int = 2000
    alignment_warmup_steps: int = 0
    alignment_warmup_range: int = 3
    alignment_warmup_delay: int = 0
    alignment_warmup_label_context_dropout: float = 0.0
    streaming_delay: int = 0
    label_context_dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """In-place distillation from the max net (AlphaNet, Wang et al., arXiv 2102.07954).

    Args:
        lattice: what is compared at each lattice node: ``full`` vocabulary, ``collapsed`` (label,
            blank, rest) or ``none``.
        objective: students train on the divergence alone, or on the RNN-T loss as well.
        weight: weight of the divergence, per valid lattice node and scaled to a sum over frames.
        alpha_min: the negative branch of the adaptive alpha divergence.
        alpha_max: the positive branch.
        ratio_clip: clip of the importance ratio.
        across_modes: whether the offline max net teaches streaming nets as well. It says a label before
            they can have heard it; where labels are short and follow each other closely, they then learn
            from the labels alone with more success.
        warmup_steps: batches over which the weight rises from 0.
    """

    lattice: Literal["full", "collapsed", "none"] = "full"
    objective: Literal["distill_only", "distill_plus_rnnt"] = "distill_plus_rnnt"
    weight: float = 1.0
    alpha_min: float = -1.0
    alpha_max: float = 1.0
    ratio_clip: float = 5.0
    across_modes: bool = True
    warmup_steps: int = 500


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """Two dropout views of each utterance (`todm.losses.contrastive`), before training with labels or in it.

    Without dropout the two views are the same: then this teaches nothing but to keep utterances apart.

    Args:
        steps: batches at the beginning in which only the largest net of each mode runs, on InfoNCE alone;
            what comes after them (the diagonal start, warm-ups) comes so much later.
        weight: of the same term for the max net while it is trained with labels, per utterance. It costs a
            second pass of its encoder.
        temperature: of the similarities.
    """

    steps: int = 0
    weight: float = 0.0
    temperature: float = 0.05


@dataclass(frozen=True, kw_only=True)
class DropoutScheduleConfig:
    """A multiplier of the dropout policy's strength.

    Args:
        name: a name registered in `todm.dropout.schedules`: ``constant``, ``linear``, ``exponential``,
            ``curriculum``, ``reversed_curriculum`` or ``validation``.
        last: exponential: the multiplier at the end of the run, above 0.
        growth: curriculum and its reverse: how fast the multiplier rises; 10 / T per step (Morerio et al.).
        rise: validation: factor after a validation whose loss is no better than the best one, at least 1.
        fall: validation: factor after one that is the best so far, above 0 and at most 1.
        least: validation: lowest multiplier.
        most: validation: highest multiplier.
    """

    name: str = "constant"
    last: float = 0.1
    growth: float = 10.0
    rise: float = 1.25
    fall: float = 0.9
    least: float = 0.1
    most: float = 3.0


@dataclass(frozen=True, kw_only=True)
class ReweightedConfig:
    """Dropout of feed-forward weights as adaptive sparsity (LeJeune et al., arXiv 2106.07769).

    A weight is kept with a = eta / (eta + strength); eta comes from its size and the penalty.

    Args:
        penalty: a name registered in `todm.dropout.penalties`: ``l1``, ``lp``, ``log_sum``, ``log2_sum``,
            ``mcp``, ``scad`` or ``standout``.
        strength: lambda at full width, above 0; its scale is that of the penalty's eta.
        exponent: p of ``lp``, 0 to 2.
        epsilon: of ``log_sum`` and ``log2_sum``, above 0.
        concavity: of ``mcp`` (above 0) and ``scad`` (above 1); their penalty is flat beyond this many lambda.
        tolerance: after training, weights with a below this become exact zeros, 0 to below 1. In training,
            what is kept is scaled up by 1 / tolerance at most.
        units: whole hidden units by the root mean square of their out-weights, in place of single weights:
            what vanishes then makes a net smaller on any device.
    """

    penalty: str = "log_sum"
    strength: float = 1e-4
    exponent: float = 0.5
    epsilon: float = 1e-3
    concavity: float = 3.0
    tolerance: float = 0.1
    units: bool = False


@dataclass(frozen=True, kw_only=True)
class MixedConfig:
    """Features before and after channel dropout, mixed (Xu et al., arXiv 2506.12738).

    Args:
        weight: w in w x + (1 - w) ChannelDropout(x), 0 to 1, of a layer that is not switched off yet.
        until: share of the run behind its start (above 0, to 1) over which the layers are switched to w = 1,
            front to back.
    """

    weight: float = 0.3
    until: float = 2 / 3


@dataclass(frozen=True, kw_only=True)
class DropoutConfig:
    """Adaptive dropout: the policy, its strength at full width and how that changes over the run.

    Args:
        policy: a name registered in `todm.dropout`, for example ``subnet_scaled``.
        rate: drop probability at full width, 0 to below 1; for ``mixed`` that of its channels.
        schedule: what the policy's strength is multiplied by as training goes on.
        reweighted: settings of the policy of that name.
        mixed: settings of the policy of that name.
    """

    policy: str = "subnet_scaled"
    rate: float = 0.1
    schedule: DropoutScheduleConfig = field(default_factory=DropoutScheduleConfig)
    reweighted: ReweightedConfig = field(default_factory=ReweightedConfig)
    mixed: MixedConfig = field(default_factory=MixedConfig)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser and learning-rate schedule.

    Args:
        name: ``scaled_adam`` (Zipformer, Yao et al., arXiv 2310.11230) or ``adamw``.
        lr: base learning rate; 0.045 suits ScaledAdam, 1e-3 AdamW.
        ssm_lr: learning rate of the SSM's own parameters, which always run plain Adam.
        betas: decay of the first and second moment.
        weight_decay: AdamW only.
        clipping_scale: gradients above this multiple of the recent median norm are scaled down.
        schedule: ``eden`` or ``cosine``.
        lr_batches: Eden's time constant in batches.
        lr_epochs: Eden's time constant in epochs.
        warmup_batches: batches of linear warm-up.
        final_lr: cosine only: last learning rate as a share of the base.
    """

    name: Literal["scaled_adam", "adamw"] = "scaled_adam"
    lr: float = 0.045
    ssm_lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clipping_scale: float = 2.0
    schedule: Literal["eden", "cosine"] = "eden"
    lr_batches: float = 7500.0
    lr_epochs: float = 3.5
    warmup_batches: int = 500
    final_lr: float = 0.02


@dataclass(frozen=True, kw_only=True)
class CollapseConfig:
    """When a run has collapsed, and what is done then (`todm.train.collapse`).

    Args:
        window: steps over which the losses of the largest and smallest nets are averaged; 0 looks at none.
        factor: a window that is this many times worse than the best one, for two windows, is a collapse.
        lr_scale: what the learning rate is multiplied by when the run goes back to before it.
        max_rollbacks: after so many the run is given up.
    """

    window: int = 200
    factor: float = 2.0
    lr_scale: float = 0.5
    max_rollbacks: int = 5


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training run.

    Args:
        num_epochs: passes over the training cuts (speed copies included).
        max_steps: stop after this many batches; 0 means no limit.
        seed: of initialisation, drawn specs, dropout, augmentation and the sampler.
        device: ``cpu``, ``cuda`` or ``auto``, a GPU if there is one for each process of the machine.
        num_threads: CPU threads of one process; 0 leaves torch's choice.
        num_processes: processes on this machine that train together, each on batches of its own, so that a
            step sees this many times ``data.max_duration``. More machines: start with torchrun.
        log_interval: batches between log lines.
        precision: ``bfloat16`` computes the products of the linear layers and convolutions in it (autocast);
            weights, gradients, SSM, losses and divergences stay float32.
        grad_accum_steps: a batch runs in this many parts, one after the other, and their gradients add up to
            one update: memory for a part is enough.
        scan_batches: before the first step, this many of the largest batches run once to see whether they fit
            into memory; 0 for none.
        valid_interval: batches between validations besides those at epoch ends; 0 for no others, -1 for none
            at all.
        valid_average: validations hear the running average of the weights, as the run's users will, once
            there is one.
        valid_blank_penalty: nats that validations take from blank's logit, for a run whose nets will be
            calibrated (`calibrate_utterances`) or decoded with a penalty.
        save_interval: batches between checkpoints besides those at epoch ends; 0 for none.
        keep_checkpoints: checkpoints to keep, newest first; 0 keeps all.
        average_period: batches between updates of the running average of the weights.
        calibrate_utterances: training utterances on which ``todm average`` sets the bias of blank, see
            `todm.train.calibrate`; 0 leaves it as it was learnt.
        average_from: share of the run (0 to 1) at which the running average starts.
        average_window: batches that it reaches back, older weights fading exponentially; 0 for the plain
            mean since its start.
        resume: ``auto`` continues the newest checkpoint in the run folder, ``never`` starts anew,
            anything else is the path of a checkpoint.
    """

    num_epochs: int = 30
    max_steps: int = 0
    seed: int = 42
    device: str = "auto"
    num_threads: int = 0
    num_processes: int = 1
    log_interval: int = 50
    precision: Literal["float32", "bfloat16"] = "float32"
    grad_accum_steps: int = 1
    scan_batches: int = 0
    valid_interval: int = 0
    valid_average: bool = False
    valid_blank_penalty: float = 0.0
    save_interval: int = 0
    keep_checkpoints: int = 3
    average_period: int = 20
    calibrate_utterances: int = 0
    average_from: float = 0.7
    average_window: int = 0
    resume: str = "auto"
    sandwich: SandwichConfig = field(default_factory=SandwichConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    collapse: CollapseConfig = field(default_factory=CollapseConfig)


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """NSGA-II over specs, within limits.

    Args:
        objectives: what spans the front, less is better, the most important first: ``wer``, ``params``,
            ``macs`` (per second of audio), ``size`` (of the ONNX files), ``state`` (bytes of a stream), and
            ``rtf on DEVICE`` and ``latency on DEVICE`` (95th percentile of a call) for a device that
            ``todm latency`` measured.
        limits: what a spec must keep to, such as ``rtf <= 0.1 on pi4`` or ``size <= 2 MB``.
        precision: ``fp32`` decodes in torch; ``int8`` and ``fp16`` decode the exported files, and sizes and
            speeds are theirs.
        evaluations: specs evaluated at most, over all modes and budgets together.
        population: specs per generation.
        num_utterances: dev utterances a spec is judged on; 0 takes all.
        seed: of the sampler and of the choice of utterances.
        workers: processes that evaluate; the front does not depend on it.
        sizes: specs chosen from the front of each mode: the knee, and more, spread from end to end.
        proxy_utterances: dev utterances whose transducer loss screens children; 0 for no screen.
        proxy_correlation: rank correlation with the WER from which on it does.
    """

    objectives: tuple[str, ...] = ("wer", "params")
    limits: tuple[str, ...] = ()
    precision: Literal["fp32", "int8", "fp16"] = "fp32"
    evaluations: int = 60
    population: int = 12
    num_utterances: int = 0
    seed: int = 1
    workers: int = 1
    sizes: int = 1
    proxy_utterances: int = 0
    proxy_correlation: float = 0.7


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """ONNX folders.

    Args:
        chunk_ms: audio that a streaming encoder takes per call, milliseconds, a multiple of the
            encoder's frame period.
        opset: ONNX operator set, 18 to 26.
        int8: also write quantised files.
        quantization: ``dynamic`` finds the scales of a layer's input anew in every call, ``static`` fixes
            them beforehand from speech (QDQ), which then has to be given.
        per_channel: one scale for each output of a weight instead of one for the whole.
        reduce_range: 7-bit weights, for x86 processors without VNNI.
        exclude: matrix products to leave in float, such as ``layer0.ffn.in_proj.matmul``.
        calibration_utterances: how many the static scales come from.
        guard_absolute: points of WER by which int8 may be worse than float where it is measured, at least 0.
        guard_relative: the same in percent of float's WER, at least 0; the larger of the two counts.
        fp16: also write files with weights in half precision.
    """

    chunk_ms: int = 320
    opset: int = 18
    int8: bool = True
    quantization: Literal["dynamic", "static"] = "dynamic"
    per_channel: bool = True
    reduce_range: bool = False
    exclude: tuple[str, ...] = ()
    calibration_utterances: int = 16
    guard_absolute: float = 0.2
    guard_relative: float = 3.0
    fp16: bool = False


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run, from corpus to device."""

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values (dict, list, str, number), ready for YAML or JSON."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
