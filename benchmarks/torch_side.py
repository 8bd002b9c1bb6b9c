"""The other side of the comparison: the same nets, masks and update in PyTorch, eager or compiled."""

import torch

from minimask import nn

BATCH = 128
F = torch.nn.functional


class KeepHideInvert(torch.autograd.Function):
    """The straight-through step in PyTorch."""

    @staticmethod
    def forward(ctx, m, tau):
        return (m > tau).to(m.dtype) - (m < -tau).to(m.dtype)

    @staticmethod
    def backward(ctx, g):
        return g, None


class TorchSide:
    """A net of ours with signed supermasks, rebuilt in PyTorch; images are NCHW or, in memory, channels_last.

    compiled: forward, backward and update go through torch.compile.
    """

    def __init__(self, net, recipe, channels_last=False, compiled=False):
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.trained = []
        self.layers = [self.translate(layer) for layer in net.layers.values()]
        self.velocity = [torch.zeros_like(m) for m in self.trained]
        self.lr, self.wd, self.mu = recipe.lr, recipe.wd, recipe.momentum
        if compiled:
            self.forward, self.update = torch.compile(self.forward), torch.compile(self.update)

    def train(self, array):
        """A leaf to be trained, from an array of ours."""
        self.trained.append(torch.tensor(array.copy()).requires_grad_())
        return self.trained[-1]

    def weight(self, source, order=None):
        """A function that gives the effective weight; `order` turns HWIO into OIHW."""
        frozen, scores, tau = torch.tensor(source.frozen), source.scores.data, source.tau
        if order:
            frozen = frozen.permute(order).contiguous(memory_format=self.format)
            scores = scores.transpose(order)
        m = self.train(scores)
        m.data = m.data.contiguous(memory_format=self.format) if order else m.data
        return lambda: frozen * KeepHideInvert.apply(m, tau)

    def translate(self, layer):
        """One of our layers as a function of a torch tensor."""
        if isinstance(layer, nn.Dense):
            weight = self.weight(layer.weight)
            return lambda x: x @ weight()
        if isinstance(layer, nn.Conv2D):
            weight, stride = self.weight(layer.weight, (3, 2, 0, 1)), layer.stride
            padding = layer.shape[0] // 2 if layer.padding == "same" else 0
            return lambda x: F.conv2d(x, weight(), stride=stride, padding=padding)
        if isinstance(layer, nn.MaxPool2D):
            padding = (layer.window - 1) // 2 if layer.padding == "same" else 0
            return lambda x: F.max_pool2d(x, layer.window, layer.stride, padding)
        if isinstance(layer, nn.BatchNorm):
            scale, shift = self.train(layer.scale.data), self.train(layer.shift.data)
            mean, variance = torch.tensor(layer.mean), torch.tensor(layer.variance)
            return lambda x: F.batch_norm(x, mean, variance, scale, shift, True, 0.01, 1e-3)
        if isinstance(layer, nn.Residual):
            main = [self.translate(each) for each in layer.main.values()]
            around = [self.translate(each) for each in layer.shortcut.values()]
            return lambda x: F.elu(run(main, x) + run(around, x))
        simple = {nn.ELU: F.elu, nn.Flatten: lambda x: x.flatten(1), nn.GlobalAvgPool: lambda x: x.mean((2, 3))}
        return simple[type(layer)]

    def images(self, array):
        """A batch of ours, (n, h, w, c), as this side takes it."""
        return torch.tensor(array).permute(0, 3, 1, 2).contiguous(memory_format=self.format)

    def forward(self, x, labels):
        logits = run(self.layers, x)
        return F.cross_entropy(logits, labels), logits

    def update(self, gradients):
        for m, v, g in zip(self.trained, self.velocity, gradients):
            m.mul_(1 - self.wd)
            v.mul_(self.mu).sub_(g, alpha=self.lr)
            m.add_(v, alpha=self.mu).sub_(g, alpha=self.lr)

    def step(self, x, labels):
        loss, logits = self.forward(x, labels)
        for m in self.trained:
            m.grad = None
        loss.backward()
        with torch.no_grad():
            self.update([m.grad for m in self.trained])
        return loss.item(), logits

    def epoch(self, images, labels, order):
        """A pass over uint8 images (n, c, h, w), each standardised by itself, as ours does."""
        loss_sum, right, floor = 0.0, 0, images[0].numel() ** -0.5
        for start in range(0, len(order), BATCH):
            chosen = order[start:start + BATCH]
            x = images[chosen].float()
            std, mean = torch.std_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
            y = labels[chosen]
            loss, logits = self.step((x - mean) / torch.clamp(std, min=floor), y)
            loss_sum += loss * len(chosen)
            right += int((logits.argmax(1) == y).sum())
        return loss_sum / len(order), right / len(order)


def run(layers, x):
    for layer in layers:
        x = layer(x)
    return x
