"""Writes out/digit.png, a held-out image of a three. Only to have a picture; bring your own."""

import matplotlib.pyplot as plt

from minimask import data

digits = data.digits()
plt.imsave("out/digit.png", digits.test_images[digits.test_labels == 3][0, :, :, 0], vmin=0, vmax=16, cmap="gray")
