"""`python -m vllm_sim`."""

from vllm_sim.cli import main

main(prog_name="vllm-sim")
