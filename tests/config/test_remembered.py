"""What is read and parsed once is as if it were read and parsed each time; see also `test_composition`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.object_type import ObjectType
from omegaconf import OmegaConf, _utils, base
from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse

from irexp.config.composition import composed_config
from irexp.config.installation import CONF
from irexp.config.remembered import _OmegaConfLoader, _Repository


def write(folder: Path, name: str, text: str) -> Path:
    """An option file in a folder."""
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf8")
    return path


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    """Also by a composition of other options of the same folder."""
    write(tmp_path, "config", "defaults: [group: first, _self_]\nvalue: ${group.own}\n")
    first = write(tmp_path, "group/first", "own: 1\n")
    write(tmp_path, "more/other", "")
    assert composed_config([], str(tmp_path))[0].value == 1
    write(tmp_path, "group/first", "own: 2\n")
    os.utime(first, ns=(0, 0))
    assert composed_config(["+more=other"], str(tmp_path))[0].value == 2


def test_what_a_caller_changes_is_not_what_was_read(tmp_path: Path) -> None:
    """Nor do the values of one composition come into another of the same file."""
    write(tmp_path, "config", "defaults: [group: first, _self_]\n")
    write(tmp_path, "group/first", "own: {list: [1]}\n")
    write(tmp_path, "more/other", "")
    composed_config([], str(tmp_path))[0].group.own.list[0] = 5
    assert composed_config(["+more=other"], str(tmp_path))[0].group.own.list == [1]


def test_an_option_may_be_named_by_the_choice_of_another_group(tmp_path: Path) -> None:
    """The only use of the map of choices, which is not made for files without one."""
    write(tmp_path, "config", "defaults: [letter: a, number: '${letter}', _self_]\n")
    for name in ("letter/a", "letter/b", "number/a", "number/b"):
        write(tmp_path, name, f"is: {name}\n")
    assert composed_config([], str(tmp_path))[0].number == {"is": "number/a"}
    assert composed_config(["letter=b"], str(tmp_path))[0].number == {"is": "number/b"}


@pytest.mark.parametrize("text", ["${a}", "${a.b}-${oc.env:HOME}", "${oc.create:{x: [1, '${a}']}}", "x ${.a}"])
def test_a_value_that_was_parsed_is_not_parsed_again(text: str) -> None:
    """Its tree stays that of the value when others are parsed after it."""
    used = vars(base)["parse"]
    tree, shown = used(text), parse(text).toStringTree()
    used("${other}")
    assert used is not parse and used(text) is tree and tree.toStringTree() == shown


def test_a_value_that_does_not_parse_is_refused_each_time() -> None:
    """An error is not remembered as a result."""
    config = OmegaConf.create({"a": 1})
    for _ in range(2):
        with pytest.raises(GrammarParseError):
            OmegaConf.update(config, "b", "${a", force_add=True)
            _ = config.b


def test_the_options_of_a_group_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a caller does with the list changes nothing, and groups are not those of options."""
    write(tmp_path, "config", "defaults: [group: first, _self_]\n")
    for name in ("group/first", "group/second", "group/inner/third"):
        write(tmp_path, name, "x: 1\n")
    repository = _Repository(create_config_search_path(str(tmp_path)))
    assert repository.get_group_options("group") == ["first", "second"]
    assert repository.get_group_options("group", ObjectType.GROUP) == ["inner"]
    monkeypatch.setattr(_Repository, "_listed", None)
    repository.get_group_options("group").clear()
    assert repository.get_group_options("group") == ["first", "second"]


def test_the_options_of_each_group_are_those_that_hydra_lists() -> None:
    """Of irexp's folder and of Hydra's own groups, whether options or groups are asked for."""
    repository = _Repository(search_path := create_config_search_path(str(CONF)))
    plain = ConfigRepository(search_path)
    groups = ["", "hydra", "hydra/launcher", *(path.name for path in CONF.iterdir() if path.is_dir())]
    for group in groups:
        for wanted in (ObjectType.CONFIG, ObjectType.GROUP, None):
            assert repository.get_group_options(group, wanted) == plain.get_group_options(group, wanted), (
                group,
                wanted,
            )


def test_each_file_reads_as_with_omegaconfs_own_loader() -> None:
    """The parser of libyaml finds the same values in all of irexp's options."""
    for path in CONF.rglob("*.yaml"):
        text = path.read_text("utf8")
        assert yaml.load(text, _utils.get_yaml_loader()) == yaml.load(text, _OmegaConfLoader), path


@pytest.mark.parametrize("text", ["a: [1", "a: 1\na: 2", "a: b: c", "\ta: 1", "a: *b", "a: !x 1", "a: 'b"])
def test_a_file_that_is_not_yaml_has_the_error_of_omegaconfs_own_loader(text: str, tmp_path: Path) -> None:
    """With the file's name in place of a string's, and the lines around the error."""
    path = write(tmp_path, "bad", text)
    with pytest.raises(yaml.YAMLError) as plain:
        yaml.load(text, _OmegaConfLoader)
    with pytest.raises(yaml.YAMLError) as error:
        OmegaConf.load(path)
    assert str(error.value) == str(plain.value).replace("<unicode string>", str(path))
