"""What several methods are made of."""

DATASET = "dataset"  # in place of a template: the dataset's own


def own_template(text: str, template: str) -> str:
    """Return a template, or the dataset's own in place of "dataset"."""
    return template if text == DATASET else text
