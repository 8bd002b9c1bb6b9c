"""The other side of the comparison: the same nets, masks and update in PyTorch eager, written as its users would."""

import torch

BATCH = 128


class KeepHideInvert(torch.autograd.Function):
    """The straight-through step in PyTorch."""

    @staticmethod
    def forward(ctx, m, tau):
        return (m > tau).to(m.dtype) - (m < -tau).to(m.dtype)

    @staticmethod
    def backward(ctx, g):
        return g, None


class TorchSide:
    """The FCN with a signed supermask in PyTorch eager, from the arrays of one of our nets."""

    def __init__(self, net, recipe):
        sources = list(net.weights().values())
        self.frozen = [torch.tensor(s.frozen) for s in sources]
        self.scores = [torch.tensor(s.scores.data.copy(), requires_grad=True) for s in sources]
        self.taus = [s.tau for s in sources]
        self.velocity = [torch.zeros_like(m) for m in self.scores]
        self.lr, self.wd, self.mu = recipe.lr, recipe.wd, recipe.momentum

    def forward(self, x):
        x = x.reshape(len(x), -1)
        for i, (w, m, tau) in enumerate(zip(self.frozen, self.scores, self.taus)):
            x = x @ (w * KeepHideInvert.apply(m, tau))
            x = torch.nn.functional.elu(x) if i + 1 < len(self.scores) else x
        return x

    def step(self, x, labels):
        logits = self.forward(x)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        for m in self.scores:
            m.grad = None
        loss.backward()
        with torch.no_grad():
            for m, v in zip(self.scores, self.velocity):
                m.mul_(1 - self.wd)
                v.mul_(self.mu).sub_(m.grad, alpha=self.lr)
                m.add_(v, alpha=self.mu).sub_(m.grad, alpha=self.lr)
        return loss.item(), logits

    def epoch(self, images, labels, order):
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
