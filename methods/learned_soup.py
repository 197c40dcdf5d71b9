"""Learned soup (Wortsman et al., 2022, https://arxiv.org/abs/2203.05482, appendix I)."""

from robustbench_ft.batches import Images
from robustbench_ft.method import Method, Task
from robustbench_ft.model import Classifier
from robustbench_ft.soups import INGREDIENTS, Ingredients, Mixture, MixtureLoss, fit_each
from robustbench_ft.train import Recipe, train


class LearnedSoup(Method):
    """A weighted mean of fine-tunes whose shares are learned on val by gradient descent (Wortsman et al., 2022, model soups).

    The shares are a softmax, equal at first; with them a temperature of the soup's logits is learned, and then dropped.
    ``by_layer``: each tensor has shares of its own. One ingredient is read at a time, in every step, where the released code
    holds all of them in memory.
    """

    ingredients: Ingredients = INGREDIENTS
    by_layer: bool = False
    start_counts: bool = False
    recipe: Recipe = Recipe(
        lr=0.05, weight_decay=0.0, epochs=5, batch_size=256, warmup_steps=0, schedule="constant", clip=None, augment=False
    )

    def adapt(self, start: Classifier, task: Task) -> Classifier:
        models = fit_each(self.ingredients, start, task, started=self.start_counts)
        loss = MixtureLoss(start, models)
        mixture = Mixture(len(loss.names) if self.by_layer else 1, len(models)).to(loss.device)
        val = Images(task.val, start.preprocess, augment=self.recipe.augment)
        return loss.soup(train(mixture, val, self.recipe, loss=loss, label=self.name).shares())
