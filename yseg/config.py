"""The experiment as dataclasses: every knob once, with its meaning, unit and check.

A config is plain data: it is built by a file under `configs/`, changed by `--config.GROUP.NAME=VALUE`, checked by `check`, and
written as `config.json` into the workdir (`yseg.config_json`). Nothing in here touches a file or a device.
"""

import dataclasses

from yseg.knobs import InputError, check_knobs, knob, knobs, may_be_empty, required

__all__ = [
    "IGNORED", "JOINT", "LOCAL", "MATCHED", "METHODS", "NONE", "OBEYED", "ONLY", "SECTION", "SELF_TRAINING", "STATISTICS",
    "TUNING_RATE", "TUNING_STEPS", "VOLUME", "Adaptation", "Augmentation", "Domain", "Experiment", "Inference", "InputError",
    "Loss", "Model", "Optimizer", "Record", "ResolvedExperiment", "Sampling", "SelfTraining", "TargetLabels", "check", "knobs",
    "labelled_domain", "level_weights", "may_be_empty", "no_augmentation", "quick", "required", "statistics_name",
    "strong_augmentation", "weight_of"]

STATISTICS = ("training", "target", "mixed")  # of batch normalisation, see Model.batch_statistics
# Each is the record METHOD of the module of that name in yseg/methods/.
METHODS = ("ft", "mmd", "coral", "dann", "ynet", "self_training")
SELF_TRAINING = "self_training"
MATCHED = "matched"  # instead of a number: a threshold from the source's share of foreground, see yseg.trained.threshold
VOLUME, SECTION, LOCAL = "volume", "section", "local"  # see Sampling.normalization
OBEYED, IGNORED = "obeyed", "ignored"  # see Domain.metadata
NONE, JOINT, ONLY = "none", "joint", "only"  # see TargetLabels.use
# Of a fine-tuning. Chosen by cross-validation on the target's training labels: from Y-Net on EPFL to VNC and 15 % of them, the
# IoU was 0.59 with 200 steps at the paper's rate of 1e-4, 0.66 with 600; 0.66 with 200 at 1e-3, 0.70 with 600.
TUNING_STEPS, TUNING_RATE = 600, 1e-3


@dataclasses.dataclass
class Domain:
    """One volume, what its labels mean, and which part of it is used for what."""

    dataset: str = knob("", "a name in yseg.volumes.catalog; fills image, labels, pixel_size_nm and foreground if they are empty")
    image: str = knob("", "the image volume: a path or URL, see yseg.volumes.volume")
    labels: str = knob("", "the label volume of the same shape; empty = no labels")
    pixel_size_nm: float = knob(0.0, "size of a pixel in y and x, in nm; 0 = as the image's file says", at_least=0)
    section_nm: float = knob(0.0, "distance of neighbouring sections, in nm; 0 = as the image's file says, or else as is seen in"
                             " the image", at_least=0)
    metadata: str = knob(OBEYED, "what the image's file says of its pixel size and distance of sections: obeyed = it must not"
                         " differ from what is given here", choices=(OBEYED, IGNORED))
    channel: int | None = knob(None, "which channel of the image; empty = it must have one", at_least=0)
    foreground: str = knob("", "which label values are foreground: '>0', '>=128', '==1,5'; 'classes' = values are class indices")
    unlabelled: str = knob("", "which label values mean 'not labelled', written as in foreground; empty = none")
    mask: str = knob("", "where there is tissue: a volume of the image's shape that is not 0 there; nodata=VALUE = where the"
                     " image is not this grey level; border = within the frame of one grey level of each section; empty ="
                     " everywhere")
    nan: str = knob("error", "what pixels of the image are that are not finite: an error, or unlabelled = without tissue",
                    choices=("error", "unlabelled"))
    split_axis: str = knob("x", "axis along which train | validation | test follow each other", choices=("z", "y", "x"))
    validation_fraction: float = knob(0.0, "share of the axis kept for validation", at_least=0, below=1)
    test_fraction: float = knob(0.0, "share at the end of the axis kept for testing", at_least=0, below=1)


@dataclasses.dataclass
class Sampling:
    """How patches are cut from the working grid, the common pixel grid of both domains."""

    working_pixel_size_nm: float = knob(10.0, "pixel size of the grid on which the network works, in nm", above=0)
    normalization: str = knob(VOLUME, "what grey levels are z-scored by: mean and deviation of the volume, of each section, or"
                              " local = of what lies around", choices=(VOLUME, SECTION, LOCAL))
    local_nm: float = knob(640.0, "deviation of the Gaussian window of normalization=local, in nm", above=0)
    patch_size: int = knob(96, "side of the square patches, in working pixels", at_least=1)
    batch_size: int = knob(4, "patches a step of each domain, over all devices together; devices among which it cannot be"
                           " divided stay idle", at_least=1)
    reader: str = knob("auto", "resident = volumes in memory, streaming = read as needed, auto = by resident_limit_gib",
                       choices=("auto", "resident", "streaming"))
    steps_at_once: int = knob(1, "training steps in one call of the devices, for one training with volumes in memory, at most"
                              " record.log_every; more than 1 may pay on an accelerator and is slow on a CPU", at_least=1)
    resident_limit_gib: float = knob(4.0, "largest size of both working volumes for a resident reader, in GiB", at_least=0)


@dataclasses.dataclass
class Augmentation:
    """Random transforms of a training patch; each sample draws its own. Intensities are z-scored before."""

    rotate: bool = knob(True, "rotate by a multiple of 90 degrees")
    flip: bool = knob(True, "mirror in y and in x, each with probability 1/2")
    elastic_probability: float = knob(0.3, "share of the samples that are deformed", at_least=0, at_most=1)
    elastic_pixels: float = knob(4.0, "standard deviation of the deformation at its control points, in pixels", at_least=0)
    elastic_spacing: int = knob(24, "distance of the control points, in pixels", at_least=2)
    zoom: float = knob(0.0, "largest |log| of the factor by which a patch is enlarged", at_least=0)
    brightness: float = knob(0.3, "largest offset, in standard deviations of the volume", at_least=0)
    contrast: float = knob(0.4, "largest |log| of the contrast factor", at_least=0)
    gamma: float = knob(0.5, "largest |log| of the exponent", at_least=0)
    blur_probability: float = knob(0.3, "share of the samples that are blurred", at_least=0, at_most=1)
    blur_pixels: float = knob(1.5, "largest sigma of the Gaussian blur, in pixels", at_least=0)
    sharpen_probability: float = knob(0.3, "share of the samples that are sharpened by an unsharp mask", at_least=0, at_most=1)
    sharpen_amount: float = knob(1.5, "largest weight of the unsharp mask", at_least=0)
    noise_probability: float = knob(0.5, "share of the samples that get Gaussian noise", at_least=0, at_most=1)
    noise: float = knob(0.3, "largest standard deviation of the noise, in standard deviations of the volume", at_least=0)


def strong_augmentation() -> Augmentation:
    """The Augmentation for domains that differ in contrast, sharpness and noise: about twice the default changes of grey levels.

    Chosen on VNC to EPFL: a source-only network of 1000 steps had an IoU of 0.49 on six sections of EPFL's training part with
    the target's batch statistics and 0.45 with the source's; with this augmentation 0.50 and 0.49 (one seed).
    """
    return Augmentation(brightness=0.6, contrast=0.7, gamma=0.8, blur_probability=0.5, blur_pixels=2.0, sharpen_amount=2.5,
                        noise=0.6)


def no_augmentation() -> Augmentation:
    """The Augmentation that leaves every patch as it is."""
    return Augmentation(rotate=False, flip=False, elastic_probability=0.0, zoom=0.0, brightness=0.0, contrast=0.0, gamma=0.0,
                        blur_probability=0.0, sharpen_probability=0.0, noise_probability=0.0)


@dataclasses.dataclass
class Model:
    """The U-Net: encoder levels, a bottleneck, a decoder with skips."""

    levels: int = knob(3, "number of 2x2 poolings", at_least=1, at_most=7)
    features: int = knob(16, "feature maps at full resolution; doubled at every level", at_least=1)
    classes: int = knob(2, "number of classes; 2 = background and foreground", at_least=2)
    sections: int = knob(1, "neighbouring sections given as input channels (odd); the middle one is segmented", at_least=1)
    normalization: str = knob("batch", "normalisation layer", choices=("batch", "instance", "group", "none"))
    groups: int = knob(8, "groups of the group normalisation", at_least=1)
    dropout: float = knob(0.0, "share of the feature maps dropped at the end of each block", at_least=0, below=1)
    activation: str = knob("relu", "activation function", choices=("relu", "leaky_relu", "elu", "gelu", "silu"))
    residual: bool = knob(False, "add a block's input to its output")
    compute_dtype: str = knob("float32", "type of activations; parameters, statistics and losses stay float32",
                              choices=("float32", "bfloat16"))
    rematerialise: bool = knob(False, "compute a block's activations again for its gradient instead of keeping them: less memory"
                               " for large patches on an accelerator, more time; no effect on a CPU, whose compiler undoes it")
    batch_pass: str = knob("apart", "source and target go through batch normalisation apart or jointly in training",
                           choices=("apart", "joint"))
    batch_statistics: str = knob("target", "whose statistics batch normalisation uses on the target: training = those of"
                                 " what was trained on (source means the same), target = estimated on target images"
                                 " (AdaBN), mixed = half of each", choices=(*STATISTICS, "source"))


@dataclasses.dataclass
class Loss:
    """The segmentation loss."""

    name: str = knob("cross_entropy", "segmentation loss",
                     choices=("cross_entropy", "focal", "jaccard_cross_entropy", "soft_dice", "soft_jaccard", "tversky"))
    class_weights: tuple[float, ...] = knob((), "weight of each class; empty = all 1", at_least=0)
    focal_gamma: float = knob(2.0, "exponent of the focal loss", at_least=0)
    tversky_alpha: float = knob(0.3, "weight of false positives in the Tversky loss", at_least=0)
    tversky_beta: float = knob(0.7, "weight of false negatives in the Tversky loss", at_least=0)


@dataclasses.dataclass
class Adaptation:
    """What a method adds to the segmentation loss. A weight that is not given is the method's own default."""

    weight: float | None = knob(None, "lambda of MMD, CORAL or DANN: the sum of the level weights", at_least=0)
    level_weights: tuple[float, ...] = knob((), "relative weight of each encoder level, full resolution first; empty = doubling"
                                            " from level to level (scaled to sum to 1)", at_least=0)
    pixels: int = knob(64, "feature pixels sampled per image and level", at_least=2)
    bandwidths: tuple[float, ...] = knob((0.25, 0.5, 1.0, 2.0, 4.0), "MMD: kernel bandwidths as multiples of the median"
                                         " distance", above=0)
    hidden: int = knob(64, "DANN: width of the domain classifiers' hidden layers", at_least=1)
    reversal_gamma: float = knob(10.0, "DANN: steepness of Ganin's schedule of the reversal; 0 = at full strength at once",
                                 at_least=0)
    reconstruction_source: float | None = knob(None, "Y-Net: lambda_r of the source", at_least=0)
    reconstruction_target: float | None = knob(None, "Y-Net: lambda_r of the target", at_least=0)
    reconstruction_loss: str = knob("squared", "Y-Net: squared or absolute error", choices=("squared", "absolute"))


@dataclasses.dataclass
class Optimizer:
    """The optimiser and the length of the training."""

    name: str = knob("adam", "optimiser", choices=("adam", "sgd"))
    steps: int = knob(1200, "training steps", at_least=0)
    learning_rate: float = knob(1e-3, "peak learning rate", above=0)
    schedule: str = knob("cosine", "learning rate over time", choices=("constant", "exponential", "cosine"))
    warmup_steps: int = knob(50, "steps of linear warm-up", at_least=0)
    decay_rate: float = knob(0.9, "exponential: factor per decay_steps", above=0, at_most=1)
    decay_steps: int = knob(100, "exponential: steps between two decays", at_least=1)
    momentum: float = knob(0.9, "momentum of sgd", at_least=0, below=1)
    weight_decay: float = knob(0.0, "weight decay, decoupled from the gradient (AdamW)", at_least=0)
    clip_norm: float = knob(0.0, "largest global norm of the gradient; 0 = no clipping", at_least=0)


@dataclasses.dataclass
class TargetLabels:
    """Which labels of the target are trained on, if any. `launch.finetune` sets it for a fine-tuning."""

    use: str = knob(NONE, "none = no label of the target is read in training; joint = from the first step on, beside those of the"
                    " source; only = instead of the source's: a fine-tuning of `start`, or an oracle",
                    choices=(NONE, JOINT, ONLY))
    fraction: float = knob(0.15, "share of the target's training box whose labels are used; of listed boxes, what is reported",
                            at_least=0, at_most=1)
    boxes: tuple[str, ...] = knob((), "the parts of the target whose labels are used, each z0:z1,y0:y1,x0:x1 in voxels; empty ="
                                  " chosen by fraction and seed")
    start: str = knob("", "only: workdir of the run whose network is trained further; empty = from scratch")
    fraction_before: float = knob(0.0, "share of the target's labels, beyond these, that the network of `start` was trained on",
                                  at_least=0, at_most=1)


@dataclasses.dataclass
class SelfTraining:
    """The second stage of method self_training: pseudo-labels of the target, by the average of the network's own parameters."""

    start: str = knob("", "workdir of the run whose network is adapted; empty = `first` is trained before, in the same workdir")
    first: str = knob("ft", "method of the first stage", choices=tuple(name for name in METHODS if name != SELF_TRAINING))
    steps: int = knob(2400, "training steps of the second stage", at_least=0)
    learning_rate: float = knob(1e-3, "peak learning rate of the second stage", above=0)
    zoom: float = knob(0.2, "`augmentation.zoom` of the second stage", at_least=0)
    average: float = knob(0.99, "decay of the moving average of the parameters, which makes pseudo-labels and is the result",
                          at_least=0, below=1)
    renew_every: int = knob(300, "steps between two renewals of the pseudo-labels", at_least=1)
    memory: float = knob(0.5, "share of the former probabilities in renewed ones", at_least=0, below=1)
    doubt: float = knob(2.0, "an object that is this multiple as doubtful as the typical one is background in pseudo-labels, and"
                        " from half way there on left open, if objects that are more certain make up the source's share of"
                        " foreground already", at_least=1)
    margin: float = knob(1.5, "the most probable voxels, up to this multiple of what the network calls foreground, are left open"
                         " if they are objects of their own", at_least=1)
    threshold_shift: float = knob(0.1, "how far `inference.threshold` is raised at most, if the adapted network calls over a"
                                  " tenth more foreground than the source has, towards that at which it calls as much",
                                  at_least=0, at_most=0.5)


@dataclasses.dataclass
class Record:
    """What is written during training, and how often."""

    log_every: int = knob(20, "steps between two lines of metrics", at_least=1)
    validate_every: int = knob(500, "steps between two validations on the source validation box; 0 = only at the end", at_least=0)
    checkpoint_every: int = knob(250, "steps between two checkpoints", at_least=1)
    keep_checkpoints: int = knob(2, "how many of the last checkpoints are kept", at_least=1)
    images: int = knob(3, "patches of each domain in the panels of report/", at_least=0)


@dataclasses.dataclass
class Inference:
    """Tiled segmentation."""

    tile_size: int = knob(640, "largest side of a tile with its halo, in working pixels", at_least=16)
    overlap: int = knob(16, "width over which neighbouring tiles are blended, in working pixels", at_least=0)
    batch_size: int = knob(1, "tiles segmented at once on each device", at_least=1)
    threshold: float = knob(0.5, "foreground probability from which a pixel is foreground", at_least=0, at_most=1)
    depth_nm: float = knob(40.0, "probabilities are averaged over neighbouring sections, by a Gaussian of this deviation in nm;"
                           " how far apart sections are is seen in the image; 0 = every section by itself", at_least=0)
    plausible_objects: bool = knob(False, "components of a section that look like none of the source, and of which the network"
                                   " is not sure, are background; needs two classes")
    test_time_augmentation: bool = knob(False, "average the probabilities of a tile over its eight rotations and mirror images;"
                                        " eight times the time")


@dataclasses.dataclass
class Experiment:
    """A whole experiment: two domains, a method, and how it is trained and applied."""

    name: str = knob("experiment", "a name for tables and figures")
    method: str = knob("ft", "how the network is adapted", choices=METHODS)
    seed: int = knob(0, "seed of initialisation, patches, augmentation and dropout", at_least=0)
    data_dir: str = knob("", "folder of the data sets in yseg.volumes.catalog")
    source: Domain = dataclasses.field(default_factory=Domain)
    target: Domain = dataclasses.field(default_factory=Domain)
    target_labels: TargetLabels = dataclasses.field(default_factory=TargetLabels)
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    model: Model = dataclasses.field(default_factory=Model)
    loss: Loss = dataclasses.field(default_factory=Loss)
    adaptation: Adaptation = dataclasses.field(default_factory=Adaptation)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    self_training: SelfTraining = dataclasses.field(default_factory=SelfTraining)
    record: Record = dataclasses.field(default_factory=Record)
    inference: Inference = dataclasses.field(default_factory=Inference)


def check(config: "Experiment") -> None:
    """Raise InputError, naming the flag, the value and what is allowed, if any knob or combination is invalid."""
    check_knobs(config)
    model, adaptation = config.model, config.adaptation
    factor = 2**model.levels
    if config.sampling.patch_size % factor:
        raise InputError(f"--config.sampling.patch_size={config.sampling.patch_size}: must be a multiple of {factor}"
                         f" (2 to the power of --config.model.levels={model.levels})")
    if model.sections % 2 == 0:
        raise InputError(f"--config.model.sections={model.sections}: must be odd")
    if model.normalization == "group" and model.features % model.groups:
        raise InputError(f"--config.model.groups={model.groups}: must divide --config.model.features={model.features}")
    if config.loss.class_weights and len(config.loss.class_weights) != model.classes:
        raise InputError(f"--config.loss.class_weights={tuple(config.loss.class_weights)}: must have"
                         f" --config.model.classes={model.classes} entries")
    if not adaptation.bandwidths:
        raise InputError("--config.adaptation.bandwidths=(): must be numbers above 0, such as '(0.5, 1, 2)'")
    if config.loss.class_weights and not sum(config.loss.class_weights):
        raise InputError(f"--config.loss.class_weights={tuple(config.loss.class_weights)}: must not all be 0")
    if config.loss.name == "tversky" and not config.loss.tversky_alpha + config.loss.tversky_beta:
        raise InputError("--config.loss.tversky_alpha=0: must be above 0 with --config.loss.tversky_beta=0")
    if adaptation.level_weights and (len(adaptation.level_weights) != model.levels + 1 or not sum(adaptation.level_weights)):
        raise InputError(f"--config.adaptation.level_weights={tuple(adaptation.level_weights)}: must have {model.levels + 1}"
                         " entries (levels and bottleneck), not all 0")
    _check_target_labels(config)
    _check_self_training(config)
    if config.sampling.steps_at_once > min(config.record.log_every, max(config.optimizer.steps, 1)):
        raise InputError(f"--config.sampling.steps_at_once={config.sampling.steps_at_once}: must be at most"
                         f" --config.record.log_every={config.record.log_every} and --config.optimizer.steps="
                         f"{config.optimizer.steps}, as a line of metrics ends a call")
    if config.sampling.steps_at_once > 1 and config.sampling.reader == "streaming":
        raise InputError(f"--config.sampling.steps_at_once={config.sampling.steps_at_once}: must be 1 with"
                         " --config.sampling.reader=streaming, which reads every step anew")
    for name in ("source", "target"):
        domain = getattr(config, name)
        if domain.validation_fraction + domain.test_fraction >= 1:
            raise InputError(f"--config.{name}.test_fraction={domain.test_fraction}: with"
                             f" --config.{name}.validation_fraction={domain.validation_fraction} nothing is left to train on")


def _check_target_labels(config):
    labels = config.target_labels
    if labels.use != ONLY and labels.start:
        raise InputError(f"--config.target_labels.start={labels.start}: must come with --config.target_labels.use={ONLY}")
    if labels.use == NONE and labels.boxes:
        raise InputError(f"--config.target_labels.boxes={tuple(labels.boxes)}: must come with --config.target_labels.use={JOINT}"
                         f" or {ONLY}")
    if labels.use == ONLY and config.method != "ft":
        raise InputError(f"--config.method={config.method}: must be ft with --config.target_labels.use={ONLY}, which means"
                         " training on labels alone")
    needed = labels.use == JOINT or (labels.use == ONLY and config.optimizer.steps)
    if needed and not labels.fraction:
        raise InputError(f"--config.target_labels.fraction=0: must be above 0 with --config.target_labels.use={labels.use}")


def _check_self_training(config):
    if config.method != SELF_TRAINING:
        return
    if config.model.classes != 2:
        raise InputError(f"--config.model.classes={config.model.classes}: must be 2 with --config.method={SELF_TRAINING}")
    if config.target_labels.use == JOINT:
        raise InputError(f"--config.target_labels.use={JOINT}: must be {NONE} with --config.method={SELF_TRAINING}")
    if config.sampling.steps_at_once > 1:
        raise InputError(f"--config.sampling.steps_at_once={config.sampling.steps_at_once}: must be 1 with"
                         f" --config.method={SELF_TRAINING}")


@dataclasses.dataclass
class ResolvedExperiment(Experiment):
    """An Experiment that has been checked and filled: nothing behind `yseg.runs.resolve.resolve`, which makes it, checks again.

    Its domains have absolute paths and what their data sets say, its method's weights are numbers, its batch statistics have
    their one name, and the boxes of the target labels that are trained on are listed.
    """


def quick(config: Experiment) -> Experiment:
    """The experiment with a third of the training steps, in both stages: to see what comes out."""
    knobs, optimizer = config.self_training, config.optimizer
    return dataclasses.replace(
        config, optimizer=dataclasses.replace(optimizer, steps=optimizer.steps // 3),
        self_training=dataclasses.replace(knobs, steps=knobs.steps // 3, renew_every=max(1, knobs.renew_every // 3)))


def statistics_name(name: str) -> str:
    """One of STATISTICS; "source", which earlier versions called the training's, is "training"."""
    return "training" if name == "source" else name


def labelled_domain(config: Experiment) -> str:
    """Whose labels are trained on: "source", or "target" in a training on labels of the target only."""
    return "target" if config.target_labels.use == ONLY else "source"


def level_weights(adaptation: Adaptation, levels: int) -> tuple[float, ...]:
    """lambda_i of each encoder level and the bottleneck, shallow to deep; they sum to lambda (Roels et al. 2019, eq. 1).

    Args:
      adaptation: Adaptation, with a weight.
      levels: of the network, without the bottleneck.
    """
    total = weight_of(adaptation, "weight")
    relative = adaptation.level_weights or [2.0**level for level in range(levels + 1)]
    return tuple(total * weight / sum(relative) for weight in relative)


def weight_of(adaptation: Adaptation, name: str) -> float:
    """A weight of a method's term; ValueError if it is not a number yet, which a ResolvedExperiment has for its method."""
    weight = getattr(adaptation, name)
    if weight is None:
        raise ValueError(f"adaptation.{name}: must be a number")
    return weight
