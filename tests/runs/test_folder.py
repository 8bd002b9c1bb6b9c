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


def inspected(folder):
    """What `minimask inspect` leaves, as far as it matters here, beside a file of somebody else's."""
    (folder / "anatomy").mkdir(parents=True)
    (folder / "anatomy/index.html").write_text('<meta name="generator" content="minimask inspect">\n<figure id="masks">'
                                               '<figure id="gone"><figure id="../x">')
    for name in ("anatomy.json", "masks.png", "mine.png"):
        (folder / "anatomy" / name).write_text("old")


def test_the_page_of_an_earlier_run_does_not_stay_beside_a_new_record(tmp_path):
    """Neither where a run is begun anew in its folder, nor where it goes on; what is not ours stays."""
    recipe = replace(recipes.find("digits"), epochs=1)
    runs.run(recipe, data.digits(), 0, tmp_path)
    inspected(tmp_path)
    runs.claim(tmp_path, overwrite=True)  # before anything new is written
    assert [path.name for path in (tmp_path / "anatomy").iterdir()] == ["mine.png"]
    (tmp_path / "anatomy/mine.png").unlink()
    (tmp_path / "anatomy").rmdir()
    inspected(tmp_path)
    runs.run(recipe, data.digits(), 1, tmp_path, overwrite=True)
    assert [path.name for path in (tmp_path / "anatomy").iterdir()] == ["mine.png"]
    (tmp_path / "anatomy/mine.png").unlink()
    (tmp_path / "anatomy").rmdir()
    inspected(tmp_path)
    runs.run(replace(recipe, epochs=2), data.digits(), 1, tmp_path, resume=True)
    assert [path.name for path in (tmp_path / "anatomy").iterdir()] == ["mine.png"]


def test_no_empty_folder_stays_of_what_is_removed(tmp_path):
    """Of an inspection and of TensorBoard's files, where a run is begun anew; of the former, where it goes on, too."""
    recipe, folder = replace(recipes.find("digits"), epochs=1), tmp_path / "anatomy"
    runs.run(recipe, data.digits(), 0, tmp_path)
    for again in (lambda: runs.claim(tmp_path, overwrite=True),
                  lambda: runs.run(recipe, data.digits(), 0, tmp_path, overwrite=True),
                  lambda: runs.run(replace(recipe, epochs=2), data.digits(), 0, tmp_path, resume=True)):
        inspected(tmp_path)
        (folder / "mine.png").unlink()
        again()
        assert not folder.exists()
    (tmp_path / runs.LOG).write_text("old")
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard/events.out.tfevents.1.x").write_bytes(b"")
    folder.mkdir()
    runs.claim(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["anatomy"], "an empty folder of somebody else's stays"


def test_a_page_of_somebody_else_stays(tmp_path):
    (tmp_path / "run/anatomy").mkdir(parents=True)
    (tmp_path / "run/anatomy/index.html").write_text("mine")
    inspected(tmp_path / "elsewhere")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/anatomy").symlink_to(tmp_path / "elsewhere/anatomy")
    for folder in (tmp_path / "run", tmp_path / "linked"):
        runs.claim(folder, overwrite=True)
    assert (tmp_path / "run/anatomy/index.html").read_text() == "mine"
    assert len(list((tmp_path / "elsewhere/anatomy").iterdir())) == 4
