"""The figures of notebook 00: one image as a model sees it, and a row of scanned digits."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor


def pictures(images: Tensor, sentence: str, inch: float = 1.2) -> tuple[Figure, str]:
    """Images side by side.  (n, 3, H, W), normalised or not: the darkest pixel becomes 0, the lightest 1."""
    images = images.cpu()
    low, high = images.amin(dim=(0, 2, 3), keepdim=True), images.amax(dim=(0, 2, 3), keepdim=True)
    row = ((images - low) / (high - low)).permute(2, 0, 3, 1).flatten(1, 2)  # (H, n W, 3)
    figure, axis = plt.subplots(figsize=(inch * len(images), inch))
    axis.imshow(row)
    axis.set_axis_off()
    return figure, sentence
