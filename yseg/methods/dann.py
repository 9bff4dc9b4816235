"""`dann`: a classifier at each level learns to tell the domains apart; the encoder, by the reversed gradient, prevents it.

Ganin et al., Domain-adversarial training of neural networks, JMLR 2016.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from yseg import losses
from yseg.config import Adaptation, Model, level_weights
from yseg.methods.features import compare_levels
from yseg.methods.method import Batch, Context, Method
from yseg.models import DomainClassifier


def parameters(key: PRNGKeyArray, model: Model, adaptation: Adaptation) -> dict[str, Any]:
    """{"classifiers": {"level_0": ..., ...}}: the parameters of a domain classifier for each level and the bottleneck."""
    classifier = DomainClassifier(adaptation.hidden)
    return {"classifiers": {
        f"level_{level}": classifier.init(jax.random.fold_in(key, level),
                                          jnp.zeros((1, model.features * 2**level), jnp.float32))["params"]
        for level in range(model.levels + 1)}}


def loss(variables: dict[str, Any], batch: Batch, key: PRNGKeyArray, *, progress: Float[Array, ""],
         context: Context) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Any]]:
    """Segmentation plus the domain loss of each level; arguments and results as `yseg.methods.method.MethodLoss`.

    The reversal's strength is lambda_i times Ganin's schedule, so that each classifier learns at full rate whatever the encoder
    feels of it (Ganin et al. 2016, section 5.2.2).
    """
    schedule = losses.reversal_schedule(progress, context.adaptation.reversal_gamma)
    weights = level_weights(context.adaptation, context.network.levels)
    classifier: Any = DomainClassifier(context.adaptation.hidden)

    def term(level, source, target):
        of_level = variables["params"]["classifiers"][f"level_{level}"]
        of_source, of_target = (
            classifier.apply({"params": of_level}, losses.reverse_gradient(features, weights[level] * schedule))
            for features in (source, target))
        return losses.domain_loss(of_source, of_target), {"domain_accuracy": losses.domain_accuracy(of_source, of_target)}

    return compare_levels(variables, batch, key, context=context, term=term)


# The weight: see "How the weights were chosen" in configs/README.md.
METHOD = Method("dann", "DANN", loss, weights={"weight": 1.0}, parameters=parameters,
                citations=("Ganin, Ustinova, Ajakan, Germain, Larochelle, Laviolette, Marchand, Lempitsky: Domain-adversarial"
                           " training of neural networks, JMLR 2016",))
