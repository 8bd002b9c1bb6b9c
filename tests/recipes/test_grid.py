"""Values set on the command line: what is read, which recipes come of it, how these are called, what is refused."""

import pytest

from minimask import UsageError, recipes
from minimask.recipes import grid


@pytest.mark.parametrize(("text", "values"), [
    ("wd=1e-4,3e-4", {"wd": [1e-4, 3e-4]}), ("wd = 1e-4 , 3e-4", {"wd": [1e-4, 3e-4]}), ("epochs=3", {"epochs": [3]}),
    ("augment=true,false", {"augment": [True, False]}), ("source=binary,edge-popup", {"source": ["binary", "edge-popup"]}),
    ("source_settings.scores=he,\"elu\"", {"source_settings.scores": ["he", "elu"]}),
    ("model=mynets:tiny", {"model": ["mynets:tiny"]}),
    ("model_settings.units=[30, 10],[40, 10]", {"model_settings.units": [[30, 10], [40, 10]]}),
    ("model_settings.a='x,y',{b = 1, c = 2}", {"model_settings.a": ["x,y", {"b": 1, "c": 2}]}),
    ("dataset=2026-11-28", {"dataset": ["2026-11-28"]}),  # TOML has dates, a recipe has none
    ("dataset=it's", {"dataset": ["it's"]})])
def test_a_value_is_written_as_in_a_recipe_file_and_a_text_needs_no_quotes(text, values):
    assert grid.choices([text]) == values


@pytest.mark.parametrize(("words", "sentence"), [
    (["wd"], "--set 'wd' sets nothing; give KEY=VALUE"), (["wd="], "sets nothing"), (["=1"], "unknown key ''"),
    (["wd=1,,2"], "there is no value between two commas"), (["wdd=1"], "unknown key 'wdd': did you mean 'wd'"),
    (["wd=1", "wd=2"], "--set wd is there twice; give all its values at once"),
    (["wd=1e-4,0.0001"], "--set wd: 0.0001 is there twice"), (["name=a"], "a recipe's name is no setting"),
    (["about=a"], "a recipe's about is no setting"), (["source_settings=1"], "source_settings is a table; set its keys"),
    (["source_settings.=1"], "source_settings is a table; set its keys"), (["wd.a=1"], "wd holds no keys; give wd=VALUE")])
def test_what_cannot_be_set_is_refused(words, sentence):
    with pytest.raises(UsageError) as error:
        grid.choices(words)
    assert sentence in str(error.value)


def made(name, *words):
    return grid.cells(recipes.find(name), grid.choices(words))


def test_every_combination_is_a_recipe_with_a_name_of_its_values():
    cells = made("fcn", "source_settings.tau=0.01,0.02", "wd=1e-4,3e-4,1e-3")
    assert [cell.recipe.name for cell in cells] == [f"fcn-wd_{wd}-source.tau_{tau}" for wd in ("0.0001", "0.0003", "0.001")
                                                    for tau in ("0.01", "0.02")]
    for cell in cells:
        assert (cell.recipe.wd, cell.recipe.source_settings["tau"]) == tuple(cell.values.values()) and cell.base == "fcn"
        assert {**cell.recipe.as_dict(), "name": "fcn", "wd": 5e-4, "source_settings": {"tau": 0.01}} == recipes.find("fcn").as_dict()
        assert grid.agrees(cell.as_dict(), cell.recipe.as_dict())
        assert not grid.agrees({**cell.as_dict(), "values": {"wd": 0.5}}, cell.recipe.as_dict())


def test_a_value_that_is_the_default_agrees_with_a_record_that_leaves_it_out():
    [cell] = made("fcn", "momentum=0.9")
    plain = cell.recipe.as_dict()
    assert grid.agrees(cell.as_dict(), plain) and grid.agrees(cell.as_dict(), {k: v for k, v in plain.items() if k != "momentum"})


@pytest.mark.parametrize("words", [["wd=0.0001", "lr=1"], ["lr=1.0", "wd=1e-4"], ["lr = 1e0", " wd = 1E-4"]])
def test_the_name_comes_from_the_values_in_whatever_order_and_spelling(words):
    [cell] = made("fcn", *words)
    assert cell.recipe.name == "fcn-lr_1-wd_0.0001"
    assert [repr(value) for value in cell.values.values()] == ["1.0", "0.0001"]  # as the recipe has them


def test_another_source_begins_without_the_settings_of_the_one_before():
    cells = made("fcn", "source=signed-supermask,edge-popup,binary")
    assert [dict(cell.recipe.source_settings) for cell in cells] == [{"tau": 0.01}, {}, {}]
    [cell] = made("fcn", "source=edge-popup", "source_settings.share=0.3")
    assert cell.recipe.source_settings == {"share": 0.3} and cell.recipe.name == "fcn-source_edge-popup-source.share_0.3"
    [cell] = made("resnet20", "schedule=exponential")
    assert cell.recipe.schedule_settings == {}


@pytest.mark.parametrize(("words", "sentence"), [
    (["wd=2"], "recipe 'fcn': wd is 2; the nearest that it may be is 0.999"),
    (["wd=much"], "wd is 'much', but must be a number"), (["wd=nan"], "wd is nan, but must be finite"),
    (["source_settings.tua=1"], "unknown key 'tua': did you mean 'tau'"), (["augment=1"], "augment is 1, but must be true"),
    (["wd=1e-4,3e-4", "lr=" + ",".join(f"0.{n:04}" for n in range(1, 1002))], "--set gives 2,002 recipes, but a grid may have 2,000"),
    (["lr=1,1.0"], "--set gives two recipes of one name, fcn-lr_1"),
    (["epochs=1" + "0" * 30], "epochs is 1000000")])
def test_what_a_recipe_may_not_have_is_refused_with_its_sentence(words, sentence):
    with pytest.raises(UsageError) as error:
        made("fcn", *words)
    assert sentence in str(error.value)


def test_a_name_is_never_too_long_and_says_what_it_can():
    long = recipes.Recipe("a" * 90, "", 1, 0.1, 0.0)
    one, other = grid.cells(long, {"wd": [1e-4], "lr": [0.25, 0.125]})
    assert len(one.recipe.name) == len(other.recipe.name) == recipes.recipe.MOST_NAME
    assert one.recipe.name != other.recipe.name and one.recipe.name.startswith("a" * 90)


@pytest.mark.parametrize(("value", "text"), [
    (1e-4, "0.0001"), (1e-5, "1e-05"), (0.1 + 0.2, "0.30000000000000004"), (1e20, "1e20"), (3, "3"), (True, "true"),
    ("elu", "elu"), ([30, 10], "[30, 10]")])
def test_numbers_are_written_as_short_as_they_can_be(value, text):
    assert grid.plain(value) == text


@pytest.mark.parametrize("made", [{}, {"recipe": "fcn"}, {"recipe": 1, "values": {}}, {"recipe": "fcn", "values": []},
                                  {"recipe": "fcn", "values": {"name": "fcn"}}, {"recipe": "fcn", "values": {"wd.a": None}},
                                  {"recipe": "fcn", "values": {"wd": 1.0}}, {"recipe": "fcn", "values": {}, "more": 1}])
def test_what_a_record_says_was_set_must_be_so(made):
    assert not grid.agrees(made, recipes.find("fcn").as_dict())
