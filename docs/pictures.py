"""Make the pictures that the README shows: ``python docs/pictures.py``, on data that ships with nn.

The picture of the page needs Chromium, its driver and the extra ``browser``.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

import nn
import tinygrad_np as tg

HERE = Path(__file__).parent


def network() -> tg.Drawing:
    """A 4-5-3 network on six plants, two of each kind, after its backward pass."""
    flowers = nn.datasets.iris()
    rows = np.arange(0, 150, 25)
    x, t = flowers.x[rows].astype(np.float32), flowers.y[rows]
    first, second = nn.Dense(4, 5, rng=0), nn.Dense(5, 3, rng=1)
    W1, b1, W2, b2 = first.W, first.b, second.W, second.b
    z1 = tg.linear(x, W1, b1)
    h = tg.relu(z1)
    z2 = tg.linear(h, W2, b2)
    loss = tg.softmax_cross_entropy(z2, t)
    loss.backward()
    return tg.draw(loss, names=locals())


def photograph(drawing: tg.Drawing, path: Path, steps: int) -> None:
    """Open the step-through page, step forward, and take a picture of it."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "graph.html")
        drawing.save(page)
        options = webdriver.ChromeOptions()
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1280,930",
        ):
            options.add_argument(argument)
        with webdriver.Chrome(options=options) as browser:
            browser.get(page.as_uri())
            for _ in range(steps):
                browser.find_element("tag name", "body").send_keys("\ue014")  # the right arrow key
                time.sleep(0.2)
            time.sleep(1)  # until it has stopped moving
            browser.save_screenshot(str(path))


if __name__ == "__main__":
    network().save(HERE / "graph.png")
    photograph(network(), HERE / "page.png", steps=6)
