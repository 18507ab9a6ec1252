"""The loss of a batch and its gradient, over groups of images where that keeps activations in memory."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cocoop.methods import Method
from cocoop.methods._hooks import Output, WithGradientRule, WithImage, WithLoss, WithSearch
from cocoop.training import multilabel
from cocoop.training.candidates import Candidates, Change
from cocoop.training.classifier import Classifier
from cocoop.training.samples import Truth


def losses(
    classifier: Classifier, fimg: Float[Tensor, "b *n d"], labels: Truth
) -> dict[str, Float[Tensor, ""]]:
    """Return the terms of the loss by name: the method's own, or cross-entropy alone.

    Where an image may have several classes, it is the binary one of each class.
    """
    return _losses(classifier.method, classifier.output(fimg), labels)


def _losses(
    method: Method, out: Output, labels: Truth, shift: Change | None = None
) -> dict[str, Float[Tensor, ""]]:
    if isinstance(method, WithLoss):
        return method.loss(out, labels)
    logits = shift(out.logits, labels) if shift else out.logits
    if labels.is_floating_point():
        return {"binary cross-entropy": multilabel.loss(logits, labels)}
    return {"cross-entropy": F.cross_entropy(logits, labels)}


def descend(
    some: Candidates, state: Float[Tensor, "b *n d"], labels: Truth, share: float
) -> dict[str, Float[Tensor, ""]]:
    """Put the gradients of all that is learned in place, and return the terms of the loss by name.

    Where every image has contexts of its own and the loss is a mean over images, the forward and backward
    pass of as many as fit into memory are done before those of the next, and nothing is computed twice. The
    context vectors themselves are computed once, of the whole batch.

    Args:
        some: the classes that are compared.
        state: image features, or what images are at the method's cut.
        labels: the class of each, among these.
        share: of the batch that these images are; losses and gradients are scaled by it.
    """
    classifier, method = some.classifier, some.classifier.method
    fimg = classifier.see(state)
    count = len(fimg)
    size = classifier.encode_text.images_at_once(count) if count > 1 and _is_mean(method) else count
    contexts = classifier.contexts(fimg)
    if size >= count:
        terms = _losses(method, classifier.pair(fimg, classifier.encode(contexts)), labels, some.shift)
        return dict(zip(terms, backward(method, terms, share), strict=True))
    leaf = contexts.detach().requires_grad_()
    sums: dict[str, Tensor] = {}
    for images, own, each in zip(leaf.split(size), fimg.split(size), labels.split(size), strict=True):
        terms = _losses(method, classifier.pair(own, classifier.encode(images)), each, some.shift)
        values = backward(method, terms, share * len(each) / count)
        sums = {name: sums.get(name, 0) + value for name, value in zip(terms, values, strict=True)}
    contexts.backward(leaf.grad)
    return sums


def backward(method: Method, terms: Mapping[str, Tensor], share: float) -> Float[Tensor, " t"]:
    """Put the gradients of all that is learned in place, and return the terms.

    Args:
        method: whose parameters they are; it may combine the gradients of its terms by a rule of its own.
        terms: of the loss.
        share: of the batch that this process has; its losses and gradients are scaled by it.
    """
    values = torch.stack(list(terms.values()))
    if not isinstance(method, WithGradientRule):
        (values.sum() * share).backward()
        return values.detach() * share
    learned = [parameter for parameter in method.parameters() if parameter.requires_grad]
    each = [torch.autograd.grad(term * share, learned, retain_graph=True) for term in terms.values()]
    for parameter, *gradients in zip(learned, *each, strict=True):
        parameter.grad = method.combine(gradients)
    return values.detach() * share


def _is_mean(method: Method) -> bool:
    """Whether the loss of a batch is the mean of its images' losses, each with contexts of its own."""
    own = isinstance(method, WithLoss | WithGradientRule | WithSearch)
    alone = not isinstance(method, WithImage)  # gradients of the tower go through the whole batch at once
    return method.facts.conditional and alone and (method.facts.by_image or not own)
