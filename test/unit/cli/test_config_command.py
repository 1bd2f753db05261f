import json
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from epp.cli import main

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


def run(*arguments):
    return CliRunner().invoke(main, ["config", *map(str, arguments)])


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "c.yaml"
        path.write_text(HEAD + text)
        return path

    return write


def test_a_command_that_is_mistyped_is_told_the_nearest():
    result = CliRunner().invoke(main, ["confg", "check"])

    assert result.exit_code == 2
    assert "Did you mean 'config'?" in result.output


def test_a_good_file_exits_with_0(file):
    result = run("check", file("plugins: [{type: queue-scorer}]"))

    assert (result.exit_code, result.stdout.endswith("c.yaml: ok\n")) == (0, True)


def test_a_bad_file_exits_with_1_and_prints_every_problem(file):
    result = run("check", file("plugins: [{type: queu-scorer}, {type: a}]"))

    assert result.exit_code == 1
    assert "did you mean 'queue-scorer'" in result.stderr
    assert "2 problem(s)" in result.stderr


def test_a_file_that_cannot_be_read_exits_with_2(tmp_path):
    result = run("check", tmp_path / "none.yaml")

    assert result.exit_code == 2
    assert "none.yaml: cannot be read" in result.stderr


def test_the_built_in_default_is_checked_without_a_file():
    assert run("check").exit_code == 0


def test_problems_come_as_json_too(file):
    result = run("check", "--format", "json", file("plugin: []"))

    told = json.loads(result.stdout)
    assert (told["ok"], len(told["problems"]), result.exit_code) == (False, 1, 1)


def test_a_blind_plugin_is_warned_of_in_the_mode_where_it_is_blind(file, tmp_path):
    (tmp_path / "mine.py").write_text(
        "class Mine:\n    type = 'reads'\n    def used(self, request, decision, usage): ...\n"
    )
    path = file("plugins: [{type: reads}, {type: queue-scorer}]")
    plugin = ("--plugin-file", tmp_path / "mine.py")

    assert run("check", path, *plugin, "--response", "full").stderr == ""
    assert "reads learns nothing" in run("check", path, *plugin, "--response", "watch").stderr


def test_explain_tells_where_each_value_came_from(file):
    text = run("explain", file("plugins:\n- type: max-score-picker\n- type: queue-scorer\n")).stdout

    assert "type: max-score-picker  # line 4" in text
    assert "maxNumOfEndpoints: 1  # default" in text
    assert "pluginRef: openai-parser  # injected: no parser is listed" in text
    assert yaml.safe_load(text)["kind"] == "EndpointPickerConfig"


def test_explain_as_json_lists_values_with_their_source(file):
    told = json.loads(
        run("explain", "--format", "json", file("plugins: [{type: queue-scorer}]")).stdout
    )
    values = {value["path"]: value for value in told["values"]}

    assert values["plugins[0].type"]["source"] == "file"
    assert values["plugins[0].type"]["line"] == 3
    assert values["schedulingProfiles[0].plugins[0].weight"]["source"] == "injected"
    assert values["dataLayer.injectDefaults"]["source"] == "default"


def test_help_imports_no_command():
    code = (
        "import sys\n"
        "from epp.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'pydantic', 'aiohttp', 'rich', 'grpc'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
