"""The skeleton of a new system."""

import importlib.util

import pytest
import test_systems

import dini_zoo
from dini_zoo.kit import new, registry


def test_a_new_system_passes_the_tests(tmp_path, monkeypatch):
    root, tests = tmp_path / "dini_zoo", tmp_path / "tests"
    root.mkdir()
    monkeypatch.setattr(dini_zoo, "__path__", [*dini_zoo.__path__, str(root)])
    written = new.lay_out("some-thing", "newfield", root=root, tests=tests)
    assert all(path.exists() for path in written)
    assert not [path for path in written if "$" in path.read_text().replace("$$", "")]
    ((entry,),) = (field.systems for field in registry.fields(root))
    assert (entry.name, entry.package) == ("some-thing", "dini_zoo.newfield.some_thing")

    test_systems.test_the_tiny_run(entry)
    test_systems.test_the_settings_are_options(entry)
    test_systems.test_the_example_of_the_page_runs(entry)
    spec = importlib.util.spec_from_file_location("test_some_thing", tests / "newfield" / "test_some_thing.py")
    own = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    own.test_the_fit_is_that_of_the_normal_equations()

    # the field is there now: only the system is written
    second = new.lay_out("other-thing", "newfield", root=root, tests=tests)
    assert len(second) == len(written) - 2
    with pytest.raises(ValueError, match="'some-thing' is taken"):
        new.lay_out("some-thing", "elsewhere", root=root, tests=tests)


@pytest.mark.parametrize(("name", "field"), [("Some Thing", "things"), ("some_thing", "things"), ("one", "kit")])
def test_a_name_that_cannot_be_is_refused(tmp_path, name, field):
    with pytest.raises(ValueError, match="name is"):
        new.lay_out(name, field, root=tmp_path, tests=tmp_path)
