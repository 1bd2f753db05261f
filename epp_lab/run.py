"""One run of a workload under a policy, and many of them side by side."""

from __future__ import annotations

from time import perf_counter

import msgspec

from epp_lab.fingerprint import fingerprint
from epp_lab.measure import Measure, measure
from epp_lab.simulation import Simulation
from epp_lab.workload import Workload


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What was run and what came of it. Everything but `wall_s` follows from what was run."""

    workload: str
    policy: str
    load: float
    seed: int
    replicas: int
    measure: Measure
    virtual_s: float
    wall_s: float
    made_of: str = ""
    """`fingerprint` of workload and policy; empty in files from before there was one."""


def run_workload(workload: Workload, policy: str, load: float, seed: int) -> Run:
    """One run. Raises UnknownPolicy, ConfigError or BadTrace."""
    began = perf_counter()
    jobs = workload.jobs(load, seed)
    result = Simulation(policy, jobs, workload.setting(load), seed).run()
    return Run(
        workload=workload.name,
        policy=policy,
        load=load,
        seed=seed,
        replicas=workload.replicas,
        measure=measure(
            result.outcomes,
            ttft_s=workload.slo.ttft_s,
            tpot_s=workload.slo.tpot_s,
            replicas=workload.replicas,
            warmup=workload.warmup_share,
        ),
        virtual_s=result.seconds,
        wall_s=perf_counter() - began,
        made_of=fingerprint(workload, policy),
    )
