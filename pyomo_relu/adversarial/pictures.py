"""Pictures of inputs; Matplotlib is imported when the first one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyomo_relu.base.lazy import check_matplotlib


def image_shape(size: int, shape: Sequence[int] | None = None) -> tuple[int, int]:
    """The (height, width) of a flat image; a square one if no shape is given."""
    if shape is not None:
        found = tuple(int(s) for s in shape if int(s) != 1)
        found = found if len(found) == 2 else (found + (1, 1))[:2]
        if found[0] * found[1] != size:
            raise ValueError(
                f"an image of shape {tuple(shape)} doesn't hold {size} pixels."
            )
        return found[0], found[1]
    side = int(round(size**0.5))
    return (side, side) if side * side == size else (1, size)


def image_grid(
    images: Sequence[np.ndarray],
    path: str | Path | None = None,
    *,
    titles: Sequence[str] | None = None,
    shape: Sequence[int] | None = None,
    columns: int = 5,
    limits: tuple[float, float] | None = None,
    differences: Sequence[int] = (),
) -> Any:
    """Draw flat images side by side.

    Parameters
    ----------
    images : sequence of (n,) arrays
    path : str or Path, optional
        Where to save the picture.
    titles : sequence of str, optional
    shape : (height, width), optional
        Square if left out.
    columns : int
    limits : (float, float), optional
        Black and white; the range of all images if left out.
    differences : sequence of int
        Which images are differences: drawn in red and blue around 0.

    Returns
    -------
    matplotlib.figure.Figure
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    images = [np.asarray(i, dtype=float).reshape(-1) for i in images]
    plain = [i for k, i in enumerate(images) if k not in differences]
    if limits is None and plain:
        limits = (min(i.min() for i in plain), max(i.max() for i in plain))
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.0 * columns, 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for k, (ax, image) in enumerate(zip(axes, images)):
        picture = image.reshape(image_shape(image.size, shape))
        _draw(ax, picture, None if k in differences else limits)
    for ax, title in zip(axes[: len(images)], titles or ()):
        ax.set_title(title, fontsize=9)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _draw(ax: Any, picture: np.ndarray, limits: tuple[float, float] | None) -> None:
    """A picture between its limits, or a difference around 0."""
    reach = max(abs(picture).max(), 1e-12)
    low, high = limits or (-reach, reach)
    ax.imshow(picture, cmap="gray" if limits else "RdBu_r", vmin=low, vmax=high)
