"""The configuration, one dataclass per concern, composed at the root.

This module is the only home of an option: its default, unit, range and help text stand here
once, and `configs/base.yaml`, the command line and the error messages are derived from it.
Names that users know from the original vid2vid keep their spelling (`ngf`, `n_frames_G`, `num_D`).
"""

import re
from dataclasses import dataclass, field
from typing import Any

from vid2vid_dist.errors import UserError
from vid2vid_dist.untrusted import is_path_within, shown


def opt(default: Any, help: str, *, unit: str = "", low: float | None = None,
        high: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A configuration field: default, one-line help, unit, inclusive range or allowed words."""
    metadata = {"help": help, "unit": unit, "low": low, "high": high, "choices": choices}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class DataConfig:
    """Which shards are read and how a frame becomes a tensor (spec: data)."""

    shards: str = opt("data/shards/toy_street", "folder written by `vid2vid-shards`, with train/ and test/ inside; or where it was copied to: s3://, gs:// or https://")
    cache: str = opt("", "folder of this node for what was fetched of shards elsewhere, shared by its ranks and runs; empty = one in TMPDIR or /tmp")
    cache_gb: float = opt(20.0, "size of that folder, from which the frames go that were not read for longest", unit="GB", low=0, high=1e6)
    task: str = opt("street", "what is turned into video, a file of vid2vid_dist/data/tasks: street = label maps or pictures, face = landmarks, pose = bodies")
    label_nc: int = opt(35, "number of label classes; 0 = the input is an RGB image", low=0, high=256)
    input_nc: int = opt(3, "channels of one input frame when label_nc is 0: 3 = RGB, 15 or 1 = face, 6 or 3 = pose", low=1, high=64)
    use_instance: bool = opt(False, "add the edges between instances as one more input channel (needs label_nc > 0)")
    resize_or_crop: str = opt("scaleWidth", "geometry of a frame, as in the original", choices=(
        "none", "resize", "scaleWidth", "scaleHeight", "randomScaleWidth", "randomScaleHeight", "crop",
        "scaledCrop", "resize_and_crop", "scaleWidth_and_crop", "scaleHeight_and_crop",
        "randomScaleWidth_and_crop", "randomScaleHeight_and_crop", "scaleWidth_and_scaledCrop",
        "scaleHeight_and_scaledCrop", "randomScaleWidth_and_scaledCrop", "randomScaleHeight_and_scaledCrop"))
    loadSize: int = opt(512, "size that frames are scaled to", unit="pixels", low=8, high=16384)
    fineSize: int = opt(512, "size of a crop; lower end of a random scale", unit="pixels", low=8, high=16384)
    no_flip: bool = opt(False, "never mirror a clip (otherwise half of the clips are)")
    no_dist_map: bool = opt(False, "face: the edge map alone (input_nc 1), without the distance to each of 14 edges")
    no_canny_edge: bool = opt(False, "face: no edges of the background in the edge map; the real frame is not read for it")
    random_scale_points: bool = opt(False, "face, at generation: another face with the same expression, by the original's fixed factors")
    densepose_only: bool = opt(False, "pose: no OpenPose (input_nc 3)")
    openpose_only: bool = opt(False, "pose: no DensePose (input_nc 3)")
    random_drop_prob: float = opt(0.05, "pose, in training: probability that a limb, hand, face or body part is left out", low=0, high=1)
    remove_face_labels: bool = opt(False, "pose, in training: no DensePose parts of the head, noise on the head's points")
    basic_point_only: bool = opt(False, "pose: OpenPose's limbs alone, without head, hands and face")
    max_t_step: int = opt(1, "largest spacing between the frames of a clip", unit="frames", low=1, high=1000)
    shuffle: bool = opt(True, "draw the clips of an epoch in a random order (a function of seed and epoch)")
    max_videos: int = opt(0, "use only the first videos; 0 = all", low=0)
    max_faults: int = opt(0, "unreadable frames that are left out with the rest of the clips of their step, before the run stops; 0 = stop at the first", low=0)
    workers: int = opt(2, "per rank, decoding ahead of the training: threads, processes where the task draws in Python (face, pose); 0 = decode when it waits", low=0, high=128)


@dataclass
class GeneratorConfig:
    """The coarse-to-fine frame generator (paper section 3; spec: networks 2-4)."""

    netG: str = opt("composite", "composite makes videos; global and local make single images, which videos begin with", choices=("composite", "global", "local"))
    n_frames_G: int = opt(3, "label frames that one generated frame sees (itself and its past)", unit="frames", low=2, high=16)
    n_scales_spatial: int = opt(1, "networks in the spatial pyramid; scale 0 is the coarsest", low=1, high=6)
    ngf: int = opt(128, "channels after the first convolution of scale 0, halved per finer scale", low=2, high=1024)
    n_blocks: int = opt(9, "residual blocks of scale 0", low=2, high=64)
    n_blocks_local: int = opt(3, "residual blocks of each finer scale", low=1, high=64)
    n_downsample_G: int = opt(3, "stride-2 convolutions of scale 0", low=1, high=6)
    n_local_enhancers: int = opt(1, "finer networks of netG=local, each for a doubling of the size", low=1, high=4)
    norm: str = opt("batch", "normalisation of all networks, always by the statistics of the forward at hand; spade = batch, in decoders and residual trunks of netG=composite scaled and shifted by the labels", choices=("batch", "instance", "spade"))
    spectral_norm: bool = opt(False, "divide every kernel but those of the last layers by its largest singular value (netG=composite)")
    fg: bool = opt(False, "a separate branch for foreground objects (needs label_nc > 0)")
    fg_labels: list[int] = opt([26], "label ids of the foreground (26 = car in Cityscapes)")
    no_flow: bool = opt(False, "synthesise every pixel: no flow, no warp, no flow losses")
    no_first_img: bool = opt(False, "start a clip from nothing instead of from real first frames")
    style_nc: int = opt(0, "numbers per region that say how it looks, read off the real frames by an encoder; 0 = one look (needs label maps, or faces)", low=0, high=64)

    @property
    def has_branches(self) -> bool:
        """Whether labels, past frames and flow have networks of their own; a single-image network is one piece."""
        return self.netG == "composite"

    @property
    def is_modulated(self) -> bool:
        """Whether norm layers behind the encoders read the labels."""
        return self.norm == "spade"

    def warps(self, n_seen: int) -> bool:
        """Whether frames of a chunk that follows so many frames of its clip blend in the one before."""
        return not (self.no_flow or (self.no_first_img and n_seen == 0))


@dataclass
class DiscriminatorConfig:
    """Image, temporal and face patch discriminators (spec: networks 7)."""

    ndf: int = opt(64, "channels after the first convolution (at most 64 are used)", low=1, high=1024)
    num_D: int = opt(2, "patch scales of each discriminator", low=1, high=8)
    n_layers_D: int = opt(3, "layers of a patch discriminator", low=1, high=8)
    n_frames_D: int = opt(3, "frames that a temporal discriminator sees", unit="frames", low=2, high=8)
    n_scales_temporal: int = opt(2, "temporal discriminators; scale s sees every n_frames_D**s-th frame", low=0, high=5)
    sparse_D: bool = opt(False, "temporal groups over every n_frames_D**s-th frame of the clip without overlap")
    add_face_disc: bool = opt(False, "one more discriminator on the face region (body pose input)")
    face_marker: str = opt("densepose", "what marks the head in the input: DensePose's part index, or the colour of OpenPose's neck", choices=("densepose", "openpose"))
    augment: str = opt("none", "what happens to real and generated frames alike before they are judged: diff = colours, place and a hole, drawn per clip and step; adaptive = each of them as often as keeps a discriminator from knowing the real frames by heart", choices=("none", "diff", "adaptive"))
    spectral_norm: bool = opt(False, "divide every kernel by its largest singular value")
    frames_per_pass: int = opt(0, "frames that the image discriminator normalises together; 0 = the chunk", unit="frames", low=0, high=256)
    groups_per_pass: int = opt(0, "groups that a temporal discriminator normalises together; 0 = those of the chunk", low=0, high=256)


@dataclass
class LossConfig:
    """Weights and kinds of the loss terms (spec: losses 3)."""

    gan_mode: str = opt("ls", "ls = least squares (all published results); hinge; logistic = cross entropy, its generator's side not saturating", choices=("ls", "hinge", "logistic"))
    r1_gamma: float = opt(0.0, "weight of R1, half the squared gradient of a discriminator's score to the colours of real frames; 0 = none", low=0)
    r1_every: int = opt(16, "steps from one R1 to the next, which counts as many times", unit="steps", low=1, high=1000)
    lambda_feat: float = opt(10.0, "weight of feature matching and of the perceptual loss", low=0)
    lambda_F: float = opt(10.0, "weight of the flow loss", low=0)
    lambda_T: float = opt(10.0, "weight of the warp losses", low=0)
    no_ganFeat: bool = opt(False, "no feature matching")
    no_vgg: bool = opt(False, "no perceptual loss; otherwise vgg_weights is needed")
    vgg_weights: str = opt("", "torchvision VGG19 ImageNet weights (.pth file)")


@dataclass
class FlowConfig:
    """The frozen network that gives reference optical flow (spec: losses 2)."""

    network: str = opt("dis", "dis = OpenCV, needs no weights; raft_* = torchvision, more exact; none = where no loss reads it", choices=("dis", "raft_small", "raft_large", "none"))
    weights: str = opt("", "torchvision RAFT weights (.pth file), needed by raft_*")


@dataclass
class OptimConfig:
    """Optimisers and number format (spec: losses 7)."""

    lr: float = opt(2e-4, "learning rate at the start", low=0, high=1)
    lr_scaling: str = opt("none", "how the learning rate grows with the clips per step: none; linear = lr x clips; sqrt = lr x their root. lr is then that of one clip per step", choices=("none", "linear", "sqrt"))
    warmup_steps: int = opt(0, "first steps over which the learning rate of every role rises evenly to its value; 0 = none", unit="steps", low=0)
    beta1: float = opt(0.5, "Adam's first decay", low=0, high=0.9999)
    TTUR: bool = opt(False, "two time scales: lr/2 for the generator, lr*2 for the discriminators, beta1 0")
    precision: str = opt("fp32", "number format of weights and activations; fp64 needs backend plain", choices=("fp32", "bf16", "fp64"))
    backend: str = opt("zero", "zero = DeepSpeed ZeRO; plain = torch.optim, for verification", choices=("zero", "plain"))
    zero_stage: int = opt(1, "what a rank gets of summed gradients: 1 = all, 2 = those of its optimiser shard, for half the traffic", low=1, high=3)
    offload: bool = opt(False, "keep optimiser state and master weights in the host's memory; needs backend zero")
    checkpoint_activations: bool = opt(False, "generator: recompute activations in the backward pass instead of keeping them; a third more arithmetic")
    channels_last: bool = opt(False, "generator: channels-last memory layout of activations, which tensor cores prefer")
    label_conv: str = opt("auto", "first convolution over label maps: gather = look ids up, dense = multiply one-hot planes; auto = gather on CPUs", choices=("auto", "gather", "dense"))
    compile: str = opt("off", "tasks = what tasks call of the networks is compiled (torch.compile), once for every shape that it sees; the first steps wait for it. Made for GPUs, slower on CPUs", choices=("off", "tasks"))
    clip_norm: float = opt(0.0, "longest gradient of a role, over all its tensors and ranks; a longer one is scaled down to it; 0 = any", low=0)
    max_nonfinite: int = opt(0, "steps left out because a loss or gradient is not finite, before the run stops; 0 = stop at the first", unit="steps", low=0)
    ema_decay: float = opt(0.0, "decay per step of the averaged generator, which validates, generates and is exported, after a warm-up; 0 = none", low=0, high=0.99999)


@dataclass
class ScheduleConfig:
    """How long, and how the clips grow (spec: training_schedule)."""

    niter: int = opt(10, "epochs at the full learning rate", unit="epochs", low=1)
    niter_decay: int = opt(10, "epochs over which the learning rate falls towards 0", unit="epochs", low=0)
    niter_step: int = opt(5, "epochs between doublings of the clip length", unit="epochs", low=1)
    niter_fix_global: int = opt(0, "first epochs in which only the finest scale is trained", unit="epochs", low=0)
    n_frames_total: int = opt(30, "generated frames of a clip at the start", unit="frames", low=1)
    n_generator_slots: int = opt(1, "frame slots of a chunk that may lie on different ranks (the original's generator GPUs)", low=1, high=256)
    max_frames_per_rank: int = opt(1, "upper limit of the frames per slot; a chunk is slots x frames per slot", unit="frames", low=1, high=256)
    max_frames_backpropagate: int = opt(1, "upper limit of the frames that a gradient runs back through", unit="frames", low=1, high=256)


@dataclass
class ParallelConfig:
    """How the clips of a step are spread (design: engine)."""

    clips_per_step: int = opt(0, "clips that a step averages over, on however many ranks; 0 = batch_size per rank", unit="clips", low=0, high=65536)
    placement: str = opt("data_parallel", "who does what: data_parallel, colocated, split, split:G+D (numbers of ranks), auto, or a table like generator=0-3,others=4-7")
    timeout: float = opt(10.0, "a rank that waits longer for another ends the run", unit="minutes", low=0.05, high=1440)
    pipelines: int = opt(0, "replicas of the placement, which share the ranks; 0 = choose", low=0)
    batch_size: int = opt(1, "clips per lane that are normalised together (the original's batchSize on one GPU)", unit="clips", low=1, high=256)
    source_size: list[int] = opt([], "width and height of the videos that this is made for: plans are made for them before there are shards; [] = unknown", unit="pixels")

    def n_lanes(self, n_ranks: int) -> int:
        """Lanes of a step, all ranks together."""
        return self.clips_per_step // self.batch_size or n_ranks


@dataclass
class RunConfig:
    """Where a run lives, when it saves, what it starts from."""

    name: str = opt("toy_street", "name of the run; its folder is root/name")
    root: str = opt("runs", "folder of all runs")
    seed: int = opt(0, "seed of weights and data order", low=0, high=2**31 - 1)
    device: str = opt("auto", "auto = a GPU per rank if there is one", choices=("auto", "cpu", "cuda"))
    max_steps: int = opt(0, "stop after this many optimiser steps; 0 = when the epochs are done", unit="steps", low=0)
    load_pretrain: str = opt("", "run folder or checkpoint that the weights are initialised from (coarse-to-fine); only its safetensors are read")
    save_every_steps: int = opt(1000, "checkpoint interval; 0 = off", unit="steps", low=0)
    save_every_minutes: float = opt(30.0, "checkpoint interval; 0 = off", unit="minutes", low=0)
    time_limit: float = opt(0.0, "save and stop after this time, to be resumed by the next start; 0 = never", unit="minutes", low=0)
    time_margin: float = opt(2.0, "save and stop this long before a Slurm job ends", unit="minutes", low=0)
    probe_step: str = opt("auto", "when training starts, run the largest step to come without its update, to see whether it fits; auto = on GPUs", choices=("auto", "on", "off"))
    keep_last: int = opt(3, "checkpoints that are kept", low=1)
    keep_every_steps: int = opt(0, "checkpoints at multiples of this are never removed; 0 = none", unit="steps", low=0)


@dataclass
class MonitorConfig:
    """What is logged while a run is going."""

    log_every: int = opt(10, "console line and metrics interval", unit="steps", low=1)
    pictures_every: int = opt(100, "interval of sample pictures and of the frames and figures of validation clips; 0 = off", unit="steps", low=0)
    tensorboard: bool = opt(True, "write TensorBoard events")
    wandb: str = opt("", "project at Weights & Biases that all figures go to as well, beside metrics.jsonl; empty = none")
    mlflow: str = opt("", "experiment of MLflow that all figures go to as well; empty = none")
    trace_steps: str = opt("", "steps to record in runs/NAME/traces, like 10-12; empty = none")


@dataclass
class Config:
    """Everything that one run depends on."""

    data: DataConfig = field(default_factory=DataConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    run: RunConfig = field(default_factory=RunConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)

    @property
    def label_channels(self) -> int:
        """Channels of one encoded input frame: classes (or image channels) plus the instance edges."""
        return (self.data.label_nc or self.data.input_nc) + int(self.data.use_instance)

    def check(self) -> None:
        """Refuse combinations that cannot work, with the fix in the words. Ranges are checked on loading, and what
        depends on the task when its data is opened (`data.tasks.registry.check_task`)."""
        data, gen, disc, optim = self.data, self.generator, self.discriminator, self.optim
        if len(self.parallel.source_size) not in (0, 2) or not all(8 <= n <= 16384 for n in self.parallel.source_size):
            raise UserError(f"parallel.source_size={shown(self.parallel.source_size)} must be a width and a height in 8..16384")
        if data.use_instance and data.label_nc == 0:
            raise UserError("data.use_instance needs label maps: set data.label_nc > 0 or data.use_instance=false")
        if "randomScale" in data.resize_or_crop and data.fineSize > data.loadSize:
            raise UserError(f"data.fineSize={data.fineSize} is above data.loadSize={data.loadSize}: set it lower, a random "
                            "scale lies between them")
        if gen.fg and data.label_nc == 0:
            raise UserError("generator.fg needs label maps: set data.label_nc > 0 or generator.fg=false")
        if gen.fg and not all(0 <= i < data.label_nc for i in gen.fg_labels):
            raise UserError(f"generator.fg_labels {shown(gen.fg_labels)}: ids must lie in 0..{data.label_nc - 1} (data.label_nc): name those of your foreground, or set generator.fg=false")
        if gen.fg and not gen.fg_labels:
            raise UserError("generator.fg needs at least one id in generator.fg_labels")
        if gen.netG != "composite":
            _check_single_image(gen)
        if self.flow.network == "none" and (disc.n_scales_temporal or self.loss.lambda_T or not gen.no_flow):
            raise UserError("flow.network=none: temporal discriminators, warp losses and predicted flow need it: set "
                            "discriminator.n_scales_temporal=0, loss.lambda_T=0, generator.no_flow=true, or flow.network=dis")
        divisor = 2 ** (gen.n_scales_spatial - 1) * (2 if gen.fg and gen.n_downsample_G > 2 else 1)
        if gen.ngf % divisor:
            raise UserError(f"generator.ngf={gen.ngf} must be divisible by {divisor} "
                            f"(halved per finer scale{', and again for the foreground branch' if gen.fg else ''})")
        if optim.precision == "fp64" and optim.backend != "plain":
            raise UserError("optim.precision=fp64 needs optim.backend=plain: ZeRO keeps fp32 master weights")
        if optim.precision == "bf16" and optim.backend == "plain":
            raise UserError("optim.precision=bf16 needs optim.backend=zero: it keeps the fp32 master weights")
        if optim.offload and optim.backend == "plain":
            raise UserError("optim.offload needs optim.backend=zero: DeepSpeed does it")
        if optim.zero_stage == 3:
            raise UserError("optim.zero_stage=3 gathers weights from all ranks in every forward: ranks that wait for each "
                            "other's frames would deadlock. Use 2; the generators are small beside their activations")
        if optim.compile == "tasks" and self.loss.r1_gamma:
            raise UserError("optim.compile=tasks: loss.r1_gamma takes gradients of gradients, which compiled code does not "
                            "have: set loss.r1_gamma=0 or optim.compile=off")
        if optim.compile == "tasks" and optim.label_conv == "gather":
            raise UserError("optim.compile=tasks: how much optim.label_conv=gather does depends on the labels, which "
                            "cannot be compiled: set optim.label_conv=auto or optim.compile=off")
        if disc.add_face_disc and data.label_nc:
            raise UserError("discriminator.add_face_disc needs body pose input: set data.label_nc=0")
        if disc.add_face_disc and data.fineSize < 32:
            raise UserError(f"data.fineSize={data.fineSize}: the face crop is a quarter of it, at least 8 pixels; "
                            "set data.fineSize >= 32")
        if self.parallel.clips_per_step % self.parallel.batch_size:
            raise UserError(f"parallel.clips_per_step={self.parallel.clips_per_step} must be a multiple of "
                            f"parallel.batch_size={self.parallel.batch_size}: whole lanes of clips run together")
        steps = re.fullmatch(r"([0-9]{1,12})(?:-([0-9]{1,12}))?|", self.monitor.trace_steps)
        if steps is None or (steps[2] and int(steps[1]) > int(steps[2])):
            raise UserError(f"monitor.trace_steps={shown(self.monitor.trace_steps)}: write a step or a range like 10-12")
        if not is_path_within(self.run.name):
            raise UserError(f"run.name={shown(self.run.name)} must name a folder of its own below run.root")
        if self.schedule.n_frames_total < self.schedule.n_generator_slots:
            raise UserError(f"schedule.n_frames_total={self.schedule.n_frames_total} is less than "
                            f"schedule.n_generator_slots={self.schedule.n_generator_slots}: set it to as many, "
                            "else a slot has no frame")


def _check_single_image(gen: GeneratorConfig) -> None:
    """Single-image generators see the labels of one frame, have nothing before it, and kernels and norm layers of one kind."""
    wanted = {"spectral_norm": False, "no_flow": True, "no_first_img": True, "fg": False, "n_scales_spatial": 1, "norm": "instance"}
    wrong = [f"generator.{name}={str(value).lower()}" for name, value in wanted.items() if getattr(gen, name) != value]
    if gen.style_nc and gen.netG == "local":
        raise UserError("generator.style_nc: of the single-image generators only generator.netG=global knows looks")
    if wrong:
        raise UserError(f"generator.netG={gen.netG} makes single images: set {', '.join(wrong)} "
                        "(see configs/single_image)")
