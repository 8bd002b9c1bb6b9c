# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quickstart: a network that only learns what to keep, hide and invert
#
# **You will build** a classifier for handwritten digits whose weights are random and stay random. Training decides
# only, weight by weight: *keep* it, *hide* it (use 0) or *invert* it (use its negative).
#
# **You will learn**
# - what a signed supermask is, and how `minimask` builds and trains one;
# - how to watch weights disappear during training, and how to read the mask that remains;
# - how to check the promises of the method for yourself: the frozen weights are untouched to the last bit, and every
#   weight in use is $0$, $w$ or $-w$;
# - how few bytes the trained network needs.
#
# **You need to know** Python, a little NumPy, and what a neural network with layers is. How gradients are computed is
# the subject of lesson 01; why a step can be trained at all, of lesson 02.
#
# **It takes** about 20 minutes to read. The computer needs less than 10 seconds (some more if it is busy), no network
# and no GPU.
#
# The method is from *Signing the Supermask: Keep, Hide, Invert* by Koster, Grothe and Rettinger (ICLR 2022,
# [arXiv:2201.13361](https://arxiv.org/abs/2201.13361)).

# %%
import io
import math

import numpy as np

import minimask
from minimask import models, ops, optim, plot, train
from minimask.mask import SignedSupermask, Trained

# %% [markdown]
# Pictures appear below their cell in a notebook. The code that draws them stands in cells of its own, which JupyterLab
# folds: click on the three dots to read it; no lesson asks you to. In a script pictures become PNG files in the folder
# that the environment variable `MINIMASK_FIGURES` names, or in a temporary folder; the lesson prints where.

# %% [markdown]
# ## 1. The data
#
# The package carries 1,797 digits of 8 by 8 pixels. 1,437 of them are for training, 360 are held out: we never train
# on those, so they tell us how well the network does on digits that it has not seen. Look at the data before you
# train on it. Always.

# %%
dataset = minimask.data.load("digits")
print("to train ", dataset.train_images.shape, dataset.train_images.dtype, "values", dataset.train_images.min(), "to",
      dataset.train_images.max())
print("held out ", dataset.test_images.shape)
print("per class", np.bincount(dataset.train_labels))

# %% jupyter={"source_hidden": true}
@plot.chart(8, 3.9, (2, 5), title=[f"label {label}" for label in range(10)], grid="", xticks=[], yticks=[])
def draw_digits(*panels):
    """Ten grey pictures of 8 x 8 pixels in two rows: the first training image of each digit, 0 to 9."""
    for label, ax in enumerate(panels):
        i = np.flatnonzero(dataset.train_labels == label)[0]
        ax.imshow(dataset.train_images[i, :, :, 0], cmap="Greys", interpolation="nearest")
    panels[0].figure.suptitle("the first digit of each class, 8 x 8 pixels", fontsize=11)


plot.show("00_digits", draw_digits)

# %% [markdown]
# Thick pens make larger numbers than thin pens, and the class should not depend on the pen. So every image is
# standardised by itself before it enters the network: mean 0 and standard deviation 1 over its own pixels,
#
# $$x \leftarrow \frac{x - \operatorname{mean}(x)}{\max(\operatorname{std}(x),\; 1/\sqrt{64})}.$$
#
# `train.fit` and `train.evaluate` do this for every batch. We call it once by hand, to see it.

# %%
x = minimask.data.standardise(dataset.train_images[:3])  # x <- (x - mean(x)) / max(std(x), 1/sqrt(64))
print("means", x.mean(axis=(1, 2, 3)).round(6), "standard deviations", x.std(axis=(1, 2, 3)).round(6))

# %% [markdown]
# ## 2. The idea in five numbers
#
# A layer has frozen weights $W$. Beside each weight lives a *score* $m$, a real number, and the score is what we train.
# A threshold $\tau$ ("tau") turns the scores into a *signed mask* $s$:
#
# $$s = \begin{cases} +1 & m > \tau \quad\text{(keep)} \\ 0 & |m| \le \tau \quad\text{(hide)} \\
# -1 & m < -\tau \quad\text{(invert)} \end{cases} \qquad\qquad W_\text{eff} = W \cdot s .$$
#
# The layer computes with $W_\text{eff}$. No weight ever gets a new absolute value.

# %%
w = np.float32([0.5, -0.5, 0.5, -0.5, 0.5])
m = np.float32([0.30, 0.02, 0.01, -0.004, -0.2])
s = ops.keep_hide_invert(m, 0.01).data  # s = sign(m) where |m| > tau, else 0
print("frozen weight w ", w)
print("score m         ", m)
print("signed mask s   ", s)
print("effective w * s ", w * s + 0)  # W_eff = W * s; "+ 0" only so that -0 is printed as 0
assert s.tolist() == [1, 1, 0, 0, -1]  # the third: exactly at tau is hidden

# %% [markdown]
# ## 3. Build the network
#
# Three dense layers, 64 to 300 to 100 to 10, with an ELU between them and no biases. The builder `models.fcn` asks a
# *weight source* for the weights of each layer. Here that source is a `SignedSupermask`:
#
# - frozen weights: $+c$ or $-c$ by the toss of a coin, with $c = \sqrt{3/\text{inputs}}$ (the name of this is *ELUS*,
#   signed constant). All weights of a layer are equally large; only their signs are random;
# - scores: uniform at random (*Xavier*), so that about half the scores begin positive;
# - one threshold, $\tau = 0.01$, for every layer.
#
# All randomness comes from one generator, so the whole run can be repeated from its seed.

# %%
SEED = 0
rng = np.random.default_rng(SEED)
net = models.fcn(weights=SignedSupermask(frozen="elus", scores="xavier", tau=0.01), rng=rng,
                 input_shape=dataset.input_shape)
print(net)

# %% [markdown]
# The column `trained` counts the scores, `frozen` the weights: one score for every weight. At the start most scores
# lie above $\tau$ in absolute value, so most of the net is in use. It guesses:

# %%
before = net.arrays()  # a copy of everything: scores, frozen weights, thresholds
accuracy_before = train.evaluate(net, dataset.test_images, dataset.test_labels)
left_before = net.weights_left()
print(f"before training: accuracy {accuracy_before:.1%}, weights left {left_before:.1%}")

# %% [markdown]
# ## 4. Train the scores
#
# Two forces act on each score.
#
# 1. **The gradient.** The step from $m$ to $s$ has no useful slope, so the method *declares* one: the gradient of the
#    score is the gradient of the mask, $\partial L/\partial m := \partial L/\partial s$. Lesson 02 is about this.
# 2. **Weight decay.** Every step shrinks every score a little. A score that the gradient does not hold up falls under
#    $\tau$, and its weight disappears. This is what makes the net sparse.
#
# The optimizer SGDW does both. With $g$ the gradient, one step $t$ is
#
# $$m \leftarrow m - \mathrm{wd}_t\, m, \qquad v \leftarrow 0.9\, v - \mathrm{lr}_t\, g, \qquad
# m \leftarrow m + 0.9\, v - \mathrm{lr}_t\, g,$$
#
# and both rates fall smoothly, by a factor of 0.9 every 15 epochs:
# $\mathrm{lr}_t = 0.05 \cdot 0.9^{t/T}$ and $\mathrm{wd}_t = 0.003 \cdot 0.9^{t/T}$, with $T$ the steps of 15 epochs.

# %%
EPOCHS, BATCH = 150, 128
steps_per_epoch = math.ceil(len(dataset.train_images) / BATCH)
schedule = optim.exponential(0.9, every=15 * steps_per_epoch)  # 0.9^(t/T), T = 15 epochs of steps
optimizer = optim.SGDW(net.parameters(), lr=0.05, wd=0.003, momentum=0.9, schedule=schedule)
print(f"{steps_per_epoch} steps an epoch; the factor is {schedule(0):.2f} at first and "
      f"{schedule(EPOCHS * steps_per_epoch):.2f} at the end")

# %% [markdown]
# `train.fit` trains in place and returns a *record*: plain data about every epoch. It also calls us after each epoch;
# we use that to photograph the masks. (Run the cell a second time, and the net is trained further; to begin anew, run
# the cells from section 3 on.)

# %%
photographs = []
record = train.fit(net, dataset, optimizer, EPOCHS, rng, batch=BATCH,
                   on_epoch=lambda record: photographs.append(net.masks()))

print("epoch  train loss  held-out accuracy  weights left  mask entries changed")
for entry in record["epochs"]:
    if entry["epoch"] in (1, 2, 5, 10, 20, 50, 100, 150):
        print(f"{entry['epoch']:5}  {entry['train_loss']:10.4f}  {entry['test_accuracy']:17.1%}  "
              f"{entry['weights_left']:12.1%}  {entry['flips']:20,}")

# %% [markdown]
# Read the table from top to bottom. The accuracy is high after few epochs, while nearly all weights are still there.
# Decay pulls the idle scores down, slowly; the bulk of them reaches $\tau$ between epochs 50 and 100, and most weights
# go. The accuracy hardly notices. At the end few entries of the mask change from one epoch to the next.

# %%
plot.show("00_training", lambda: plot.training(record), alt="Loss, accuracy and weights left, by epoch.")

# %% [markdown]
# ## 5. What is left
#
# One line per layer. Notice how different the layers are: the large ones lose nearly everything, the small last one
# stays nearly whole. Nobody told them to; there is one threshold for all.

# %%
print("layer     weights    kept  hidden  inverted    left")
for layer in record["epochs"][-1]["layers"]:
    left = (layer["kept"] + layer["inverted"]) / layer["weights"]
    print(f"{layer['name']}  {layer['weights']:9,}  {layer['kept']:6,}  {layer['hidden']:6,}  {layer['inverted']:8,}  "
          f"{left:6.1%}")
last = record["epochs"][-1]
print(f"whole net {net.size():8,}  {' ' * 24}  {last['weights_left']:6.1%}")

# %% [markdown]
# Here is the mask of the first layer, as in figure 1 of the paper. On top lies one image, its 64 pixels side by side.
# Below, in the same columns, each row is one of the 300 units.

# %%
plot.show("00_masks", lambda: plot.masks(net, dataset, image=0), alt="An image, and the masks of the three layers.")

# %% [markdown]
# The columns with no colour are pixels that no unit looks at. Which pixels are they? We fold the columns back into the
# 8 by 8 image, and put beside it how much each pixel varies over the training images. A pixel that is the same in
# every image cannot help to tell images apart.

# %%
mask = net.masks()["dense1"]  # (64, 300)
looks = (mask != 0).mean(axis=1).reshape(8, 8)  # share of the units that see the pixel
varies = minimask.data.standardise(dataset.train_images)[..., 0].std(axis=0)  # (8, 8)
correlation = np.corrcoef(looks.ravel(), varies.ravel())[0, 1]
unseen = looks == 0
print(f"correlation of the two pictures: {correlation:.2f}")
print(f"{unseen.sum()} pixels are seen by no unit; they vary by {varies[unseen].mean():.2f} on average, "
      f"the others by {varies[~unseen].mean():.2f}")

# %% jupyter={"source_hidden": true}
@plot.chart(8, 3.6, 2, x="column", y="row", title=("units that see the pixel", "how much the pixel varies"), grid="")
def draw_looks(left, right):
    """Two maps of 8 x 8 pixels, beside each other: the share of units that see a pixel, and how much the pixel
    varies.
    """
    for ax, values, scale in ((left, 100 * looks, "% of the 300 units"), (right, varies, "standard deviation")):
        picture = ax.imshow(values, cmap="cividis", vmin=0, interpolation="nearest")
        ax.figure.colorbar(picture, ax=ax, label=scale)


plot.show("00_looks", draw_looks)

# %% [markdown]
# ## 6. Did hidden weights come back?
#
# Ordinary pruning cuts a weight and it is gone. Here a hidden weight keeps its score, and the score keeps getting a
# gradient. The photographs tell us how many weights were hidden at the end of some epoch and are in use at the end.
# (Some of these flutter around the threshold; others made a long way.)

# %%
final = {name: mask != 0 for name, mask in net.masks().items()}
ever_hidden = {name: np.any([photo[name] == 0 for photo in photographs], axis=0) for name in final}
came_back = sum(int((ever_hidden[name] & final[name]).sum()) for name in final)
in_use = sum(int(used.sum()) for used in final.values())
turned = sum(int((net.masks()[name] * np.sign(before[f"{name}.scores"]) < 0).sum()) for name in final)
print(f"{in_use:,} weights are in use; {came_back:,} of them were hidden at the end of some epoch before")
print(f"{turned:,} of them have the opposite sign of their first score")

# %% [markdown]
# ## 7. The dense baseline
#
# Is the accuracy good? We need something to compare it with: the same net, trained in the usual way. The builder is
# the same, only the weight source is another: `Trained` weights, no mask. The baseline has its own settings (a smaller
# learning rate, fewer epochs), because what suits scores does not suit weights.

# %%
dense_rng = np.random.default_rng(SEED)
dense = models.fcn(weights=Trained(init="elu"), rng=dense_rng, input_shape=dataset.input_shape)
dense_optimizer = optim.SGDW(dense.parameters(), lr=0.01, wd=5e-4, momentum=0.9,
                             schedule=optim.exponential(0.9, every=10 * steps_per_epoch))
dense_record = train.fit(dense, dataset, dense_optimizer, 50, dense_rng, batch=BATCH)
dense_last = dense_record["epochs"][-1]

images = len(dataset.test_images)
for name, entry in (("signed supermask", last), ("dense baseline", dense_last)):
    wrong = round(images * (1 - entry["test_accuracy"]))
    print(f"{name:17} accuracy {entry['test_accuracy']:.1%} ({wrong} of {images} wrong), "
          f"weights left {entry['weights_left']:.1%}")

# %% [markdown]
# Be careful with such a comparison. There are 360 held-out images, so one image is 0.28 %, and another seed moves the
# result by an image or two, another processor too. On one, seeds 0 to 5 gave 98.3 to 98.9 %, with 7.6 to 7.8 % left.
# "About as good, with a thirteenth of the weights" is what we may say; "better" or "worse" we may not.
#
# ## 8. Check the promises
#
# The method promises that the weights are frozen. Trust, but verify: we compare the bytes with the copy that we took
# before training. And every weight in use must be $0$, $w$ or $-w$ *exactly*, not nearly.

# %%
after = net.arrays()
for name, source in net.weights().items():
    frozen = after[f"{name}.frozen"]
    assert frozen.tobytes() == before[f"{name}.frozen"].tobytes(), f"{name}: a frozen weight changed"
    assert not np.array_equal(after[f"{name}.scores"], before[f"{name}.scores"]), f"{name}: no score moved"
    effective = source.effective().data
    assert np.all((effective == 0) | (effective == frozen) | (effective == -frozen)), f"{name}: a foreign weight"
    kept, hidden, inverted = source.counts()
    assert (effective == frozen).sum() == kept and (effective == -frozen).sum() == inverted
    print(f"{name}: {frozen.size:,} frozen weights unchanged to the bit; effective weights are "
          + ", ".join(f"{value:+.4f}" if value else "0" for value in np.unique(effective + 0)))

# %% [markdown]
# Three different numbers per layer. That is all the net is made of.
#
# ## 9. What was learned fits in a small file
#
# The frozen weights follow from the seed, so nobody needs to store them (as long as NumPy draws the same numbers from
# that seed). What was learned is the mask: three possible values for each weight. If a share $p_k$ of a layer's $n$
# entries has value $k$, then no code that treats the entries one by one needs less than the *entropy* on average:
#
# $$\text{bits} = n \cdot \sum_{k} -p_k \log_2 p_k .$$

# %%
bits = 0.0
for counts in net.counts():
    n = sum(counts)
    bits += n * sum(-k / n * math.log2(k / n) for k in counts if k)  # n * sum of -p_k log2 p_k

file = io.BytesIO()  # a file in memory; give a path instead to keep it
np.savez_compressed(file, **net.masks())
print(f"dense float32 weights {4 * net.size():8,} bytes")
print(f"the masks, zipped     {len(file.getvalue()):8,} bytes")
print(f"the entropy           {bits / 8:8,.0f} bytes")

# %% [markdown]
# Does the file really hold the whole network? We build a second net from the seed, put the saved masks in as scores
# ($+1$, $0$ and $-1$ lie on the right sides of $\tau$), and compare the answers bit by bit.

# %%
file.seek(0)
saved = np.load(file, allow_pickle=False)
twin = models.fcn(weights=SignedSupermask(frozen="elus", scores="xavier", tau=0.01), rng=np.random.default_rng(SEED),
                  input_shape=dataset.input_shape)
for name, source in twin.weights().items():
    source.scores.data = saved[name].astype(np.float32)  # a score of +1, 0, -1 gives s = +1, 0, -1

x = minimask.data.standardise(dataset.test_images)
with minimask.no_grad():  # we want answers, no gradients
    logits, twin_logits = net(x).data, twin(x).data
assert np.array_equal(logits, twin_logits), "the twin answers differently"
print(f"{logits.size:,} logits, all equal to the last bit")

# %% [markdown]
# Finally, look at the mistakes. They are the most instructive images of all.

# %%
answers = logits.argmax(axis=1)
mistakes = np.flatnonzero(answers != dataset.test_labels)
shown = mistakes[:6]
print(f"{len(mistakes)} mistakes among {images} held-out digits")

# %% jupyter={"source_hidden": true}
@plot.chart(1.8 * len(shown), 2.2, len(shown), grid="", xticks=[], yticks=[],
            title=[f"label {dataset.test_labels[i]}, answer {answers[i]}" for i in shown])
def draw_mistakes(*panels):
    """A row of digits that the net gets wrong, each under its label and the net's answer."""
    for ax, i in zip(panels, shown):
        ax.imshow(dataset.test_images[i, :, :, 0], cmap="Greys", interpolation="nearest")


if len(mistakes):
    plot.show("00_mistakes", draw_mistakes)

# %% [markdown]
# And one more step, op by op: a page with what the next training step of this net would compute, forwards, backwards
# and in the optimizer, beside the lines of code that do it. Open it in a browser, pick a weight, and be its score.
# (Nothing is trained: `plot.step` leaves net and optimizer as they are.)

# %%
plot.step(net, minimask.data.standardise(dataset.train_images[:BATCH]), dataset.train_labels[:BATCH], optimizer,
          title="Lesson 00: one more step of the trained net", classes=dataset.classes).show("00_page")

# %% [markdown]
# ## 10. The claims of this lesson
#
# Each of these could fail. If one does, something is broken, in the package or in the lesson.

# %%
assert accuracy_before < 0.30, "an untrained net should guess"
assert last["test_accuracy"] >= 0.96, "the supermask should learn the digits"
assert last["weights_left"] <= 0.10, "less than a tenth of the weights should be left"
assert dense_last["test_accuracy"] >= 0.96 and dense_last["weights_left"] == 1.0
assert last["test_accuracy"] >= dense_last["test_accuracy"] - 0.02, "about as good as the dense net"
assert 0.4 < sum(c[2] for c in net.counts()) / in_use < 0.6, "about half of what is left is inverted"
assert came_back > 0, "hidden weights should be able to come back"
assert correlation > 0.6, "units should look where the digits differ"
assert len(file.getvalue()) < 4 * net.size() / 10, "the masks should be ten times smaller than the dense weights"
print("all claims hold")

# %% [markdown]
# ## Exercises
#
# Write them in `exercises/lesson00.py`, where each is described in full, and let pytest mark them from the folder of
# the course (in a checkout: `tutorials/`): `pytest exercises/test_lesson00.py`, or one with `-k task1`.
#
# 1. **Moves.** `moves(before, after)`: a table of who went from keep, hide or invert to keep, hide or invert. Then
#    apply it to two of the `photographs` of section 4: do weights jump from kept to inverted, or do they rest in
#    between? *Hint: a comparison of arrays gives an array of truths, `&` joins two, and `np.sum` counts.*
# 2. **What is left.** `weights_left(masks)`: the share of all weights that is in use. *Hint: a mean of the layers'
#    shares is not it; look at the sizes of the layers in section 5.*
# 3. **How small.** `entropy_bytes(counts)`: section 9 as a function, for any counts. *Hint: what is $0 \log 0$, in
#    mathematics and in NumPy?*
#
# **To explore**, with nobody to mark it:
#
# - *Without inverting.* The relative of this method by Zhou et al. knows only keep and hide. Put
#   `np.abs(source.scores.data)` into the scores of the twin, so that everything inverted becomes kept. What does a unit
#   compute when half of its weights are wrong?
# - *Sparser.* Put sections 3 and 4 into a function of `wd` and train with 0.0015, 0.006, 0.012 and 0.024. Give each
#   record a name, `record["recipe"]["name"] = "wd 0.006"`, and hand a list of them to `plot.accuracy_against_weights`.
# - *How much is luck?* Run seeds 0 to 4 for both nets. Is the difference between supermask and baseline larger than the
#   spread between seeds?
#
# ## Further reading
#
# Jonathan Frankle and Michael Carbin, *The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks*,
# ICLR 2019, [arXiv:1803.03635](https://arxiv.org/abs/1803.03635). The question from which supermasks came.
#
# Next: `01_autograd.py` builds the machine that computes the gradients.
