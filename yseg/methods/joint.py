"""Joint training: what labelled patches of the target add to any method, from the first step on."""

from yseg.methods.method import MethodLoss
from yseg.methods.parts import JOINT_DROPOUT, apply_part, sample_keys, segmentation_term


def with_target_labels(loss: MethodLoss) -> MethodLoss:
    """The loss of a method plus the segmentation loss of labelled target patches.

    Roels et al. 2019 found such joint training to limit the network and fine-tune instead. The patches are normalised by the
    statistics of their batch and leave the running ones alone, whatever `config.model.batch_pass` says of the others.
    """
    def joint(variables, batch, key, *, progress, context):
        of_method, (metrics, statistics) = loss(variables, batch, key, progress=progress, context=context)
        keys = sample_keys(key, JOINT_DROPOUT, batch.index)
        activations, own = apply_part(context, variables, variables["batch_stats"], "encode", inputs=batch.joint, keys=keys)
        of_target, _ = segmentation_term(context, variables, own, activations=activations, labels=batch.joint_labels, keys=keys)
        return of_method + of_target, ({**metrics, "segmentation_target": of_target}, statistics)

    return joint
