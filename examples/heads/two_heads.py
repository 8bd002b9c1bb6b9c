"""One net that answers two questions: which digit is it (a class), and how much ink is there (a number).

python two_heads.py FOLDER trains it, keeps it in FOLDER as `minimask train` would, and, given again after it was
stopped, goes on where it was.
"""

import signal
import sys
from pathlib import Path

import numpy as np

from minimask import data, losses, mask, mishaps, nn, optimizers, runs, schedules, train
from minimask.log import Lines

folder, epochs = Path(sys.argv[1]), 30


def targets(images, labels):
    """(n, 2): the number of the class, and the mean of the pixels, 0 to 2."""
    return np.stack([labels, images.mean(axis=(1, 2, 3)) / 8], axis=1)


# In a file, where the commands find it again; and an image to ask the net about.
digits, file = data.digits(), folder.with_name("digits.npz")
folder.parent.mkdir(parents=True, exist_ok=True)
np.savez(file, x_train=digits.train_images, y_train=targets(digits.train_images, digits.train_labels),
         x_test=digits.test_images, y_test=targets(digits.test_images, digits.test_labels),
         classes=[*"0123456789", "ink"])
np.save(folder.with_name("digit.npy"), digits.test_images[0])
both = data.from_npz(file, preprocess="feature")  # image by image would take the ink away

rng = np.random.default_rng(0)
rule = mask.SignedSupermask(tau=0.05)
net = nn.Sequential([nn.Flatten(), nn.Dense(64, 100, rule, rng), nn.ELU(), nn.Dense(100, 11, rule, rng)],
                    both.input_shape)  # ten outputs for the class, one for the ink, of one layer
heads = losses.Heads([("cross-entropy", 10), ("mse", 1)], weights=[1, 2])


def ink_off_by(outputs, wanted):
    """The metric: how far the second head is off, in the mean."""
    return float(np.abs(outputs[:, 10] - wanted[:, 1]).mean())


adam = optimizers.Adam(net.parameters(), 0.01, schedule=schedules.Cosine(epochs * 12))
checkpoint, log = folder.with_suffix(".npz"), folder.with_suffix(".jsonl")
with mishaps.signals_end_it() as ear:  # SIGTERM as Ctrl-C: the step is finished and the checkpoint written
    try:
        record = train.fit(net, both, adam, epochs, rng, loss=heads, metric=ink_off_by, test_loss=True,
                           checkpoint=checkpoint, resume=checkpoint.exists(),
                           listeners=[Lines(log, resumed=checkpoint.exists())])
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here")
        sys.exit(128 + (ear.number or signal.SIGINT))
runs.save(net, record, folder, both, name="two-heads", seed=0, overwrite=True)
last = record["epochs"][-1]
print(f"{last['test_accuracy']:.1%} of the digits right, ink off by {last['test_metric']:.3f}, "
      f"{net.weights_left():.1%} of the weights left")
