"""Finding systems."""

import pytest

from dini_zoo.kit import registry


def test_names_are_unique_and_lower_case():
    names = [entry.name for entry in registry.systems()]
    assert len(names) == len(set(names))
    assert names == [name.lower() for name in names]
    # `dini run` takes either
    assert not set(names) & {"all", *(field.name for field in registry.fields())}


def test_every_system_has_its_files():
    for entry in registry.systems():
        assert entry.summary.endswith(".")
        assert len(entry.summary) <= 120
        assert entry.page.strip()
        assert callable(entry.load().run)


def field(root, about):
    folder = root / "things" / "one"
    folder.mkdir(parents=True)
    (root / "things" / "field.md").write_text("# Things\n")
    (folder / "about.toml").write_text(about)
    return folder


def test_what_a_system_leaves_out_is_named(tmp_path):
    field(tmp_path, 'name = "one"\ntitle = "One"\nsummary = "Does."\n')
    with pytest.raises(registry.BrokenSystemError, match=r"about.toml must give.*paper"):
        registry.fields(tmp_path)


def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch):
    folder = field(tmp_path, 'name = "one"\ntitle = "One"\nsummary = "Does."\npaper = "P, 2000"\nextra = "things"\n')
    ((one,),) = (found.systems for found in registry.fields(tmp_path))
    assert (one.name, one.field, one.folder) == ("one", "things", folder)

    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="diffrax")

    monkeypatch.setattr(registry.importlib, "import_module", absent)
    with pytest.raises(registry.MissingExtraError, match=r"one needs diffrax.*pip install 'dini-zoo\[things\]'"):
        one.load()
