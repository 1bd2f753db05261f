"""What the README shows works as it is written."""

import asyncio
import re
from pathlib import Path

import pytest
from support.gateway import Variant, standing

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def shown(name):
    """The block of code whose first line is a comment with this file name."""
    blocks = re.findall(r"```\w+\n(.*?)```", README, re.DOTALL)
    return next(block for block in blocks if block.startswith(f"# {name}\n"))


@pytest.fixture
def plugin_config(tmp_path):
    for name in ("spare_batch.py", "spare-batch.yaml"):
        (tmp_path / name).write_text(shown(name))
    return tmp_path / "spare-batch.yaml"


@pytest.mark.envoy
async def test_a_scorer_in_one_file_changes_picks(plugin_config):
    """The default policy follows a shared prefix; this scorer looks at the batch alone."""
    flags = (f"--config-file={plugin_config}",)
    async with standing(Variant(picker_flags=flags, sim_flags=("--time-scale=1",))) as house:
        await house.chat("x", max_tokens=1)
        busy, idle = house.sims[0], house.sims[1:]
        await busy.faults(metrics="wrong", metrics_running=8)
        await until_running(house, busy, 8)
        pods = {(await house.chat("one shared prefix " * 300)).pod for _ in range(12)}

        assert busy.name not in pods
        assert pods == {sim.name for sim in idle}


async def until_running(house, sim, wanted):
    for _ in range(200):
        rows = (await house.debug("endpoints"))["endpoints"]
        raw = next(row["raw"] for row in rows if row["address"] == sim.address)
        if raw["running"] == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the picker has not seen the gauge")


def test_every_file_the_readme_names_is_there():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    missing = [link for link in links if not (ROOT / link).exists()]

    assert missing == []


def test_every_make_target_the_readme_names_is_there():
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:\$ |`)make (\w[\w-]*)", README))

    assert named
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)
