"""What the picture encoder groups: new items by the picture's part of their vectors, in the plane that shows most."""

import io

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from PIL import Image

from models.picture_encoder import PictureEncoder
from models.pictures import as_pixels
from ops.bench.cold_start.world import World

#: Thumbnails that are drawn, and how large.
DRAWN, ZOOM = 160, 0.33


@torch.inference_mode()
def group_plot(world: World, encoder: PictureEncoder) -> Figure:
    """Drawn without a display."""
    rows = np.arange(world.config.items, world.config.items + world.config.new_items)
    thumbnails = [world.items[row].thumbnail or b"" for row in rows.tolist()]
    vectors = encoder(torch.from_numpy(as_pixels(thumbnails)))[:, :-1].double()
    centred = vectors - vectors.mean(0)
    plane = (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:2].T).numpy()
    figure = Figure(figsize=(7.5, 6.5), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(plane[:, 0].min(), plane[:, 0].max()), ylim=(plane[:, 1].min(), plane[:, 1].max()))
    axes.margins(0.05)
    axes.set_xticks([])
    axes.set_yticks([])
    for place, row in enumerate(rows[:DRAWN].tolist()):
        pixels = np.asarray(Image.open(io.BytesIO(world.pictures[row])))
        axes.add_artist(AnnotationBbox(OffsetImage(pixels, zoom=ZOOM), tuple(plane[place]), frameon=False))
    axes.set_title("Items that nobody has seen, by the picture's part of their vectors")
    return figure
