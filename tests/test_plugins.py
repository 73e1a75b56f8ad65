import sys
import types
from importlib.metadata import EntryPoint

import click
import pytest
from click.testing import CliRunner

from ollama_ft.cli.app import cli
from ollama_ft.core import plugins
from ollama_ft.core.errors import BadInput
from ollama_ft.core.plugins import BUILT_IN, Hooks, collect, everything, hookimpl


@pytest.fixture
def plugin(monkeypatch):
    """A plugin as an installed distribution brings it; the test fills in its hooks."""
    module = types.ModuleType("ft_plugin_of_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entry = EntryPoint(name="mine", value=module.__name__, group="ollama_ft")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry])
    collect.cache_clear()
    yield module
    collect.cache_clear()


def test_every_kind_has_a_hook_that_says_what_it_takes():
    for kind in BUILT_IN:
        assert getattr(Hooks, f"register_{kind}").__doc__


def test_built_ins_come_in_by_the_same_door():
    found = {loaded.kind for loaded in everything()}
    assert {"formats", "metrics", "trainers", "routes", "bases"} <= found


def test_a_plugin_adds_beside_the_built_ins(plugin):
    @hookimpl
    def register_metrics(register):
        register("shouting", str.upper)

    plugin.register_metrics = register_metrics
    found = collect("metrics")
    assert found["shouting"].thing("a") == "A"
    assert found["shouting"].origin == "ft_plugin_of_a_test"
    assert found["contains"].origin == "ollama_ft.kinds.metrics"


def test_a_plugin_cannot_take_a_name_that_is_taken(plugin):
    @hookimpl
    def register_metrics(register):
        register("contains", str.upper)

    plugin.register_metrics = register_metrics
    with pytest.raises(BadInput, match=r"a second 'contains'; ollama_ft\.kinds\.metrics has it"):
        collect("metrics")


def test_a_plugin_that_cannot_be_loaded_is_named(monkeypatch):
    entry = EntryPoint(name="broken", value="no_such_module_anywhere", group="ollama_ft")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry])
    collect.cache_clear()
    with pytest.raises(BadInput, match="The plugin broken"):
        collect("metrics")
    collect.cache_clear()


def test_a_plugin_whose_hook_takes_something_else_is_named(plugin):
    @hookimpl
    def register_metrics(no_such_argument):
        pass

    plugin.register_metrics = register_metrics
    with pytest.raises(BadInput, match="The plugin mine") as caught:
        collect("metrics")
    assert "pip uninstall" in caught.value.mend


def test_a_plugin_that_fails_while_it_registers_is_named(plugin):
    @hookimpl
    def register_metrics(register):
        raise RuntimeError("no licence")

    plugin.register_metrics = register_metrics
    with pytest.raises(BadInput, match=r"The plugin mine.*no licence"):
        collect("metrics")


def test_help_tells_of_a_broken_plugin_without_a_traceback(plugin):
    @hookimpl
    def register_commands(register):
        register("list", click.Command("list"))

    plugin.register_commands = register_commands
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 2
    assert "brings a second command 'list'" in result.output
