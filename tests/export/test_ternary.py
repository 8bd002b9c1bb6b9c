"""The three codecs of ternary tensors: there and back at all densities and sizes, the entropy bound, wrong bytes."""

import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minimask.export import ternary
from minimask.export.ternary import CODECS


def drawn(size, density, plus, seed, order="random"):
    """(size,) of -1, 0, +1 with about these shares; sorted, so that all zeros lie together, or in random order."""
    rng = np.random.default_rng(seed)
    signs = np.where(rng.random(size) < plus, 1, -1)
    trits = np.where(rng.random(size) < density, signs, 0).astype(np.int8)
    return {"random": trits, "up": np.sort(trits), "down": np.sort(trits)[::-1].copy(),
            "zeros first": trits[np.argsort(trits != 0, kind="stable")]}[order]


def counts(trits):
    return [int((trits == value).sum()) for value in (-1, 0, 1)]


def decoded(name, code, size, left):
    """(size,) of -1, 0, +1."""
    places, signs = CODECS[name].decode(code, size, left)
    trits = np.zeros(size, np.int8)
    trits[places] = signs
    assert np.count_nonzero(trits) == len(places) == len(signs) and (np.diff(places) > 0).all()
    return trits


masks = st.builds(drawn, st.one_of(st.integers(0, 30), st.integers(0, 1500)),
                  st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1), st.floats(0, 0.02)),
                  st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)), st.integers(0, 1000),
                  st.sampled_from(["random", "up", "down", "zeros first"]))
short = st.lists(st.sampled_from([-1, 0, 1]), max_size=40).map(lambda values: np.array(values, np.int8))


@given(st.one_of(masks, short), st.sampled_from(list(CODECS)))
@example(np.zeros(0, np.int8), "arithmetic")
@example(np.zeros(0, np.int8), "base243")
@example(np.zeros(0, np.int8), "rice")
def test_there_and_back(trits, name):
    code = CODECS[name].encode(trits)
    assert np.array_equal(decoded(name, code, len(trits), int(np.count_nonzero(trits))), trits)


@given(st.one_of(masks, short))
def test_the_arithmetic_code_keeps_to_the_entropy_of_its_own_counts(trits):
    """In whatever order they come; 16 bytes and a hundredth are allowed, and about 6 bytes used at most."""
    bound = ternary.entropy(counts(trits))
    assert len(CODECS["arithmetic"].encode(trits)) <= 1.002 * bound + 8 <= 1.01 * bound + 16


@pytest.mark.parametrize(("size", "density", "plus"), [
    (4_194_304, 0, 0.5), (4_194_304, 1e-6, 0.0), (4_194_304, 5e-5, 0.5), (4_194_304, 0.003, 0.3), (60_000, 0.04, 0.5),
    (60_000, 0.3, 0.9), (60_000, 1, 1.0), (60_000, 1, 0.5)])
def test_the_bound_holds_for_large_layers(size, density, plus):
    """Of a Conv net's size at the sparse end, where the overhead of the coins could show."""
    trits = drawn(size, density, plus, 0)
    code = CODECS["arithmetic"].encode(trits)
    assert len(code) <= 1.01 * ternary.entropy(counts(trits)) + 16
    assert np.array_equal(decoded("arithmetic", code, len(trits), int(np.count_nonzero(trits))), trits)


def test_a_single_weight_anywhere_costs_its_place():
    for place in (0, 1, 77_777, 99_999):
        trits = np.zeros(100_000, np.int8)
        trits[place] = -1
        assert len(CODECS["arithmetic"].encode(trits)) <= 5  # log2(100,000) is 16.6 bits; a sign, and the coins' start


def test_the_end_of_the_code_takes_as_few_bytes_as_can_be():
    """Every shorter code tells other tosses; and the number that is taken lies inside the interval, not at its end."""
    for size in range(1, 200):
        trits = drawn(size, 0.3, 0.5, size)
        left = int(np.count_nonzero(trits))
        code = CODECS["arithmetic"].encode(trits)
        if code:
            value = int.from_bytes(code[:-1], "big")
            for other in (value, value + 1):  # the two codes a byte shorter that are next to it
                try:
                    back = decoded("arithmetic", other.to_bytes(len(code), "big")[1:], size, left)
                except ValueError:
                    continue
                assert not np.array_equal(back, trits)
    coder = ternary.Encoder(1)
    coder.code, coder.low, coder.span = bytearray(b"\1"), (1 << 48) - (1 << 41), 1 << 41
    assert coder.end() == b"\1\xfe"  # b"\2" is shorter, and the end of the interval: it would tell something else


def test_five_to_a_byte():
    assert CODECS["base243"].encode(np.array([1, -1, 0, 0, 1, 1], np.int8)) == bytes([1 + 2 * 3 + 81, 1])
    assert len(CODECS["base243"].encode(np.ones(266_200, np.int8))) == 53_240
    assert sorted(map(tuple, ternary.UNPACKED.tolist())) == sorted(
        (a, b, c, d, e) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1) for d in (-1, 0, 1) for e in (-1, 0, 1))


# ---- Rice ------------------------------------------------------------------------------------------------------------


def written(*parts):
    """Bytes of binary digits, given as text."""
    digits = "".join(parts)
    return bytes(int(digits[at:at + 8].ljust(8, "0"), 2) for at in range(0, len(digits), 8))


def test_rice_codes_by_hand():
    """Gaps 0, 5 and 2 with k = 1, signs + - -; and a block of its own for what comes after 16 gaps."""
    trits = np.array([1, 0, 0, 0, 0, 0, -1, 0, 0, -1], np.int8)
    assert np.array_equal(decoded("rice", written("0001", "011", "010", "1", "001", "01"), 10, 3), trits)
    full = np.concatenate([np.ones(16, np.int8), np.zeros(1000, np.int8), -np.ones(1, np.int8)])
    code = CODECS["rice"].encode(full)
    assert code == written("0000", "1001", "0" * 16, "1", f"{1000 % 512:09b}", "1" * 16, "01")
    assert np.array_equal(decoded("rice", code, len(full), 17), full)


@given(st.one_of(masks, short))
def test_rice_takes_for_each_block_the_k_that_needs_least(trits):
    """By other code, which tries every k."""
    gaps = np.diff(np.flatnonzero(trits), prepend=-1) - 1
    digits = len(gaps)  # signs
    for start in range(0, len(gaps), 16):
        block = gaps[start:start + 16]
        digits += 4 + min(sum(int(gap >> k) + 1 + k for gap in block) for k in range(16))
    assert len(CODECS["rice"].encode(trits)) == -(-digits // 8)


@pytest.mark.parametrize(("size", "density"), [(4_194_304, 5e-5), (4_194_304, 0.003), (60_000, 0.04), (60_000, 0.3)])
def test_rice_needs_little_more_than_the_entropy_where_there_is_no_order(size, density):
    """A k for every 16 gaps costs a quarter of a digit each."""
    trits = drawn(size, density, 0.5, 0)
    bound = ternary.entropy(counts(trits))
    assert bound < len(CODECS["rice"].encode(trits)) < 1.09 * bound + 16


def test_rice_follows_where_weights_crowd():
    """Half of a layer is a hundred times as dense as the other: the entropy of the whole knows nothing of that."""
    trits = np.concatenate([drawn(60_000, 0.3, 0.5, 0), drawn(60_000, 0.003, 0.5, 1)])
    code = CODECS["rice"].encode(trits)
    assert len(code) < 0.95 * len(CODECS["arithmetic"].encode(trits))
    assert len(code) < 0.95 * ternary.entropy(counts(trits))


@pytest.mark.parametrize(("code", "size", "left", "sentence"), [
    (b"", 5, 6, "6 weights left of 5"),
    (b"", 5, -1, "-1 weights left of 5"),
    (b"", 5, 1, "0 bytes of code are too few for 1 weights"),
    (b"\0", 5, 0, "its code holds 0 gaps and what follows them, where 0 are needed"),
    (written("0000", "0", "01", "00000000"), 5, 1, "holds 1 gaps and what follows them"),
    (written("0000", "0", "01", "1"), 5, 1, "holds 2 gaps"),
    (written("0000", "0", "000"), 5, 1, "holds 0 gaps"),
    (written("1111", "0", "111111111111111"), 100_000, 1, "holds 0 gaps"),
    (written("1111", "0", "111"), 100_000, 1, "holds 0 gaps"),
    (written("0000", "0", "0000001"), 5, 1, "a weight behind the last of 5")])
def test_wrong_rice_codes(code, size, left, sentence):
    with pytest.raises(ValueError, match=sentence):
        CODECS["rice"].decode(code, size, left)


@pytest.mark.parametrize(("code", "size", "left", "sentence"), [
    (b"\xf3", 5, 1, "1 bytes are no 5 ternary digits, five to a byte below 243"),
    (b"\0", 6, 1, "1 bytes are no 6 ternary digits"),
    (b"\0\0", 5, 1, "2 bytes are no 5 ternary digits"),
    (b"\1" b"\3", 6, 1, "goes on after the last weight")])
def test_wrong_bytes_of_base_243(code, size, left, sentence):
    with pytest.raises(ValueError, match=sentence):
        CODECS["base243"].decode(code, size, left)


@pytest.mark.parametrize(("code", "size", "left", "sentence"), [
    (b"\xff" * 9, 1000, 3, "a weight behind the last of 1,000"),
    (b"", 5, 6, "6 weights left of 5"),
    (b"", 5, -1, "-1 weights left of 5"),
    (b"\0", 5, 0, "0 weights left of 5, in 1 bytes")])
def test_wrong_arithmetic_codes(code, size, left, sentence):
    with pytest.raises(ValueError, match=sentence):
        CODECS["arithmetic"].decode(code, size, left)


@given(st.binary(max_size=60), st.integers(0, 500), st.integers(0, 500), st.sampled_from(list(CODECS)))
def test_any_bytes_end_in_trits_or_a_sentence(code, size, left, name):
    try:
        trits = decoded(name, code, size, left)
    except ValueError as error:
        assert str(error)
    else:
        assert set(np.unique(trits)) <= {-1, 0, 1}
        assert name == "base243" or np.count_nonzero(trits) == left


def test_entropy():
    assert ternary.entropy([0, 0, 0]) == ternary.entropy([0, 9, 0]) == 0
    assert ternary.entropy([4, 8, 4]) == 16 * 1.5 / 8


def test_a_sparse_layer_of_millions_of_weights_takes_seconds_at_most():
    """What costs is what is left, not what is hidden: 26 thousand weights in 4.3 million (processor time)."""
    trits = drawn(4_300_992, 0.006, 0.5, 0)
    assert np.count_nonzero(trits) > 25_000
    start = time.process_time()
    for name in ("arithmetic", "rice"):
        decoded(name, CODECS[name].encode(trits), len(trits), int(np.count_nonzero(trits)))
    assert time.process_time() - start < 8
