"""A run's folder: what is written into it, and read back."""

from dataclasses import replace

from minimask import (
    data,
    recipes,
    runs,
)


def test_the_seed_is_used(tmp_path):
    r = replace(recipes.find("digits"), epochs=1)
    nets = [runs.run(r, data.digits(), s)[0] for s in (0, 1, 0)]
    f = [n.arrays()["dense1.frozen"].tobytes() for n in nets]
    assert f[0] == f[2] != f[1]


def test_overwrite_removes_the_old_files(tmp_path):
    for n in runs.FILES:
        (tmp_path / n).write_text("old")
    runs.claim(tmp_path, overwrite=True)
    assert list(tmp_path.iterdir()) == []
