r"""Ternary tensors as bytes: numbers in {-1, 0, +1}, five to a byte, or as the gaps between those that are not 0.

Three codecs with one interface, ``CODECS[name].encode`` and ``.decode``:

- ``base243``: five ternary digits are a number below 3^5 = 243, which fits into a byte: 1.6 bits a weight, always.
- ``rice``: a gap of g zeros as g // 2^k in unary and the k low binary digits of g (Golomb 1966, Rice 1979), with a k of
  its own for every 16 gaps, so that it follows the weights from where they are dense to where they are rare. All of
  one kind lie together, so that NumPy reads them at once; see :func:`decode_rice`.
- ``arithmetic``: an adaptive arithmetic coder of the same gaps, with a bound, a byte after the other. Where each of n
  places holds a weight with probability 1 - p, a gap g of zeros has probability p^g (1 - p). Write g in binary digits
  d_i and

      p^g = p^(d_0) p^(2 d_1) p^(4 d_2) ...

  so the digits of a gap are independent coins, each with odds of its own, and a weight costs a few coin tosses in place
  of one decision for each zero before it. The odds of every coin are learned on the way (Krichevsky and Trofimov 1981:
  one half more than what was seen), so nothing is sent but the code. Over all gaps this needs no more than n times the
  entropy of the layer's own shares of -1, 0 and +1, in whatever order they come, and about half a bit for every
  doubling of the number of tosses, a coin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# ---- five to a byte --------------------------------------------------------------------------------------------------

DIGITS = 5  # in a byte
#: Every byte's digits, the lowest first, as -1, 0, +1: (243, 5). A digit 2 stands for -1.
UNPACKED = ((np.arange(3**DIGITS)[:, None] // 3 ** np.arange(DIGITS) + 1) % 3 - 1).astype(np.int8)


def pack(trits: np.ndarray) -> bytes:
    """(n,) of -1, 0, +1 -> ceil(n / 5) bytes; zeros fill up the last."""
    digits = np.zeros((-(-len(trits) // DIGITS), DIGITS), np.uint8)
    digits.reshape(-1)[:len(trits)] = trits % 3  # -1 becomes 2
    return (digits @ 3 ** np.arange(DIGITS, dtype=np.uint8)).tobytes()


def unpack(code: bytes, size: int, left: int) -> np.ndarray:
    """The inverse of pack: -> (size,) int8. ValueError for bytes that pack cannot have written."""
    packed = np.frombuffer(code, np.uint8)
    if len(packed) != -(-size // DIGITS) or (packed >= len(UNPACKED)).any():
        raise ValueError(f"{len(packed):,} bytes are no {size:,} ternary digits, five to a byte below {len(UNPACKED)}")
    trits = UNPACKED[packed].reshape(-1)
    if trits[size:].any():
        raise ValueError("its last byte goes on after the last weight")
    return trits[:size].copy()


# ---- gaps, arithmetically --------------------------------------------------------------------------------------------

#: The interval that a code lies in begins as WHOLE units; when it has shrunk to NARROW or less, the units become finer
#: by a byte.
WHOLE, NARROW = 1 << 48, 1 << 40


class Coins:
    """Coins whose odds are learned: each cuts an interval in the ratio of what it has shown, 0 first.

    Args:
        count: of coins.
    """

    def __init__(self, count: int):
        self.seen = [[1, 1] for _ in range(count)]  # twice how often each side came, and one
        self.span = WHOLE

    def cut(self, coin: int) -> int:
        """The part of the interval that stands for 0."""
        zeros, ones = self.seen[coin]
        return self.span * zeros // (zeros + ones)


class Encoder(Coins):
    """Tosses into bytes: every toss narrows an interval; any number inside the last one tells all of them."""

    def __init__(self, count: int):
        super().__init__(count)
        self.low, self.code = 0, bytearray()

    def put(self, coin: int, side: int) -> None:
        cut = self.cut(coin)
        self.low, self.span = (self.low + cut, self.span - cut) if side else (self.low, cut)
        self.seen[coin][side] += 2
        while self.span <= NARROW:
            self._shift()
            self.span <<= 8

    def _shift(self) -> None:
        """The first byte of low is settled, up to a carry into those before it."""
        place = len(self.code) - 1
        if self.low >= WHOLE:
            while self.code[place] == 255:
                self.code[place] = 0
                place -= 1
            self.code[place] += 1
        self.code.append(self.low >> 40 & 255)
        self.low = (self.low << 8) & (WHOLE - 1)

    def end(self) -> bytes:
        """The code: of the numbers in the interval one with as few bytes as can be; zeros at its end are left out."""
        unit = next(unit for unit in (1 << bits for bits in range(48, -1, -8))
                    if -(-self.low // unit) * unit < self.low + self.span)
        self.low = -(-self.low // unit) * unit
        while self.low:
            self._shift()
        return bytes(self.code).rstrip(b"\0")


class Decoder(Coins):
    """Tosses back out of bytes; behind their end there are zeros."""

    def __init__(self, count: int, code: bytes):
        super().__init__(count)
        self.code, self.at = code + bytes(8), 6
        self.value = int.from_bytes(self.code[:6], "big")  # of the code, from the low end of the interval

    def get(self, coin: int) -> int:
        cut = self.cut(coin)
        if self.value < cut:
            side, self.span = 0, cut
        else:
            side, self.span, self.value = 1, self.span - cut, self.value - cut
        self.seen[coin][side] += 2
        while self.span <= NARROW:
            self.value = self.value << 8 | (self.code[self.at] if self.at < len(self.code) else 0)
            self.span <<= 8
            self.at += 1
        return side


def low_digits(size: int, left: int) -> int:
    """How many binary digits of a gap are coins of their own; what is above them is counted in steps, mostly 0 or 1."""
    return int(size // left).bit_length() - 1


def encode_gaps(trits: np.ndarray) -> bytes:
    """(n,) of -1, 0, +1 -> the arithmetic code of its gaps and signs, nothing where nothing is left."""
    places = np.flatnonzero(trits)
    if not len(places):
        return b""
    digits = low_digits(len(trits), len(places))
    coder = Encoder(digits + 2)
    gaps = np.diff(places, prepend=-1) - 1
    for gap, sign in zip(gaps.tolist(), (trits[places] < 0).tolist()):
        for _ in range(gap >> digits):
            coder.put(digits, 1)
        coder.put(digits, 0)
        for digit in range(digits):
            coder.put(digit, gap >> digit & 1)
        coder.put(digits + 1, sign)
    return coder.end()


def decode_gaps(code: bytes, size: int, left: int) -> np.ndarray:
    """The inverse of encode_gaps, given how many are left: -> (size,) int8. ValueError where they do not fit."""
    trits = np.zeros(size, np.int8)
    if not 0 <= left <= size or (not left and code):
        raise ValueError(f"{left:,} weights left of {size:,}, in {len(code):,} bytes of code")
    if not left:
        return trits
    digits = low_digits(size, left)
    coder, place = Decoder(digits + 2, code), -1
    for _ in range(left):
        place += 1
        while place < size and coder.get(digits):
            place += 1 << digits
        for digit in range(digits):
            place += coder.get(digit) << digit
        if place >= size:
            raise ValueError(f"its code puts a weight behind the last of {size:,}")
        trits[place] = -1 if coder.get(digits + 1) else 1
    return trits


# ---- gaps, to be read at once ----------------------------------------------------------------------------------------

BLOCK, K_BITS = 16, 4  # gaps that share a k, and binary digits that say which


def encode_rice(trits: np.ndarray) -> bytes:
    """(n,) of -1, 0, +1 -> its gaps and signs as decode_rice reads them, nothing where nothing is left."""
    places = np.flatnonzero(trits)
    gaps = np.diff(places, prepend=-1) - 1
    blocks = np.zeros((-(-len(gaps) // BLOCK), BLOCK), np.int64)
    blocks.reshape(-1)[:len(gaps)] = gaps
    counts = np.minimum(BLOCK, len(gaps) - BLOCK * np.arange(len(blocks)))
    best, least = np.zeros(len(blocks), np.int64), blocks.sum(axis=1)
    for k in range(1, 1 << K_BITS):
        needed = (blocks >> k).sum(axis=1) + k * counts  # binary digits, but for the 1 behind the steps
        best, least = np.where(needed < least, k, best), np.minimum(needed, least)
    ks = np.repeat(best, BLOCK)[:len(gaps)]
    digits = np.arange(ks.max(initial=0) - 1, -1, -1)  # from the highest
    low = (gaps[:, None] >> digits & 1)[digits < ks[:, None]]
    steps = gaps >> ks
    unary = np.zeros(int(steps.sum()) + len(gaps), np.uint8)
    unary[np.cumsum(steps + 1) - 1] = 1
    first = best[:, None] >> np.arange(K_BITS - 1, -1, -1) & 1
    return np.packbits(np.concatenate([first.reshape(-1), trits[places] < 0, low, unary]).astype(np.uint8)).tobytes()


def decode_rice(code: bytes, size: int, left: int) -> Left:
    """The inverse of encode_rice, given how many are left. ValueError where they do not fit.

    The code is one row of binary digits, the highest of each number first: the k of every block (4 digits), the signs
    (1 is -1), the low digits of every gap (k each), what is above them (so many 0, and a 1), up to 7 zeros.
    """
    if not 0 <= left <= size:
        raise ValueError(f"{left:,} weights left of {size:,}")
    row = np.unpackbits(np.frombuffer(code, np.uint8))
    blocks = -(-left // BLOCK)
    signs_at = K_BITS * blocks
    low_at = signs_at + left
    if low_at > len(row):
        raise ValueError(f"{len(code):,} bytes of code are too few for {left:,} weights")
    ks = np.repeat(row[:signs_at].reshape(blocks, K_BITS) @ (1 << np.arange(K_BITS - 1, -1, -1)), BLOCK)[:left]
    ends = low_at + np.cumsum(ks)
    unary_at = int(ends[-1]) if left else low_at
    ones = np.flatnonzero(row[unary_at:])
    if len(ones) != left or len(row) - unary_at - (ones[-1] + 1 if left else 0) >= 8:
        raise ValueError(f"its code holds {len(ones):,} gaps and what follows them, where {left:,} are needed")
    octets = np.frombuffer(code + bytes(3), np.uint8).astype(np.int64)
    windows = octets[:-2] << 16 | octets[1:-1] << 8 | octets[2:]  # 24 digits from every byte on, and k is below 16
    starts = ends - ks
    low = windows[starts >> 3] >> 24 - (starts & 7) - ks & (1 << ks) - 1
    places = np.cumsum((np.diff(ones, prepend=-1) - 1 << ks) + low + 1) - 1
    if left and places[-1] >= size:
        raise ValueError(f"its code puts a weight behind the last of {size:,}")
    return Left(places, 1 - 2 * row[signs_at:low_at].astype(np.int8))


# ---- one interface ---------------------------------------------------------------------------------------------------


class Left(NamedTuple):
    """What is not 0 in a ternary tensor: places, ascending, and signs, -1 or +1, both (how many are left,)."""

    places: np.ndarray
    signs: np.ndarray


def left_of(trits: np.ndarray) -> Left:
    """Of (n,) of -1, 0, +1."""
    places = np.flatnonzero(trits)
    return Left(places, trits[places])


class Codec(NamedTuple):
    """encode((n,) int8 of -1, 0, +1) -> code; decode(code, n, how many are not 0) -> what is left, or ValueError."""

    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes, int, int], Left]


CODECS = {"rice": Codec(encode_rice, decode_rice),
          "base243": Codec(pack, lambda code, size, left: left_of(unpack(code, size, left))),
          "arithmetic": Codec(encode_gaps, lambda code, size, left: left_of(decode_gaps(code, size, left)))}
#: Those that are read without a step of Python per weight; one of them is taken where none is asked for.
QUICK = ("rice", "base243")


def entropy(counts: Sequence[int]) -> float:
    """Bytes, a fraction too, that n independent draws with shares `counts` / n carry: n H / 8 (Shannon 1948)."""
    total = sum(counts)
    return sum(count * math.log2(total / count) for count in counts if count) / 8
