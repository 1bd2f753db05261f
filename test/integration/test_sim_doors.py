"""Doors beside those of the APIs: live settings, made-up metrics, dev mode, ranks."""

from __future__ import annotations

import pytest
from support.sims import simulator_here, simulators

from vllm_sim.engine import Pacing
from vllm_sim.options import Doors

QUICK = Pacing(calculator="constant")
ASK = {"model": "m", "prompt": "x" * 64, "max_tokens": 4, "ignore_eos": True}
CONFIG = "/admin/config"


def sim_here(**options):
    return simulator_here(**{"model": "m", "pacing": QUICK, **options})


async def call(sim, method, path, body=None, **headers):
    async with sim.session.request(
        method, f"{sim.url}{path}", json=body, headers=headers
    ) as answer:
        shown = await answer.read()
        return answer.status, await answer.json() if shown[:1] in (b"{", b"[") else shown


async def asked(sim, **headers):
    status, body = await call(sim, "POST", "/v1/completions", ASK, **headers)
    assert status == 200, body
    return body


async def test_latencies_are_changed_while_it_runs():
    async with sim_here() as sim:
        change = {"time-to-first-token": "300ms", "inter-token-latency": 1_000_000}
        status, settings = await call(sim, "POST", CONFIG, change)
        assert (status, settings["time-to-first-token"]) == (200, "300ms")
        assert settings["inter-token-latency"] == "1ms"
        before = (await sim.state())["now"]
        await asked(sim)
        assert (await sim.state())["now"] - before > 0.3
        assert (await call(sim, "GET", CONFIG)) == (200, settings)


async def test_changed_latencies_outlive_a_restart():
    async with sim_here() as sim:
        await call(sim, "POST", CONFIG, {"time-to-first-token": "7ms"})
        await sim.faults(restart=True)
        assert sim.server.site.replica.engine.pacing.ttft == 0.007


async def test_another_profile_changes_times_and_no_sizes():
    async with sim_here(pacing=None) as sim:
        before = (await call(sim, "GET", CONFIG))[1]
        _, after = await call(sim, "POST", CONFIG, {"profile": "l4-llama-8b"})
        assert after == {**before, "profile": "l4-llama-8b"}
        engine = sim.server.site.replica.engine
        engine.add(_request(), 0.0)
        assert engine.start(0.0) - engine.clock > 0.065


def _request():
    from vllm_sim.engine import Request

    return Request("r", 16, 2)


async def test_failures_are_changed_while_it_runs():
    async with sim_here() as sim:
        failing = {"failure-injection-rate": 100, "failure-types": ["rate_limit"]}
        await call(sim, "POST", CONFIG, failing)
        assert (await call(sim, "POST", "/v1/completions", ASK))[0] == 429
        await call(sim, "POST", CONFIG, {"failure-injection-rate": 0})
        await asked(sim)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"port": 1}, "port"),
        ({"time-to-first-token": "soon"}, "time-to-first-token"),
        ({"time-to-first-token": -1}, "time-to-first-token"),
        ({"time-to-first-token": True}, "time-to-first-token"),
        ({"inter-token-latency-std-dev": "9ms"}, "inter-token-latency-std-dev"),
        ({"time-factor-under-load": 0.5}, "time-factor-under-load"),
        ({"latency-calculator": "odd"}, "latency-calculator"),
        ({"failure-injection-rate": 101}, "failure-injection-rate"),
        ({"failure-types": ["odd"]}, "failure-types"),
        ({"profile": "b300"}, "profile"),
        ({"fake-metrics": {"odd": 1}}, "fake-metrics"),
        ({"fake-metrics": 1}, "body.fake-metrics"),
    ],
    ids=str,
)
async def test_a_wrong_change_is_named_and_changes_nothing(change, param):
    async with sim_here() as sim:
        before = await call(sim, "GET", CONFIG)
        body = {"time-to-first-token": "5ms", "failure-injection-rate": 7, **change}
        status, refused = await call(sim, "POST", CONFIG, body)
        assert (status, refused["error"]["param"]) == (400, param)
        assert await call(sim, "GET", CONFIG) == before


async def test_the_engine_model_takes_no_constant_latency():
    async with sim_here(pacing=None) as sim:
        status, body = await call(sim, "POST", CONFIG, {"time-to-first-token": "5ms"})
        assert status == 400
        assert "start with --latency-calculator" in body["error"]["message"]


@pytest.mark.parametrize("path", ["/fake_metrics", CONFIG])
async def test_metrics_are_made_up_and_true_again(path):
    line = 'vllm:num_requests_waiting{engine="0",model_name="m"} '
    async with sim_here() as sim:
        for fakes in ({"waiting-requests": 41}, {"running-requests": 2}):
            body = fakes if path == "/fake_metrics" else {"fake-metrics": fakes}
            assert (await call(sim, "POST", path, body))[0] == 200
        assert f"{line}41.0" in await sim.metrics()
        shown = (await call(sim, "GET", "/fake_metrics"))[1]
        assert shown == {"waiting-requests": 41, "running-requests": 2}
        await call(sim, "DELETE", "/fake_metrics")
        assert f"{line}0.0" in await sim.metrics()


async def test_the_engines_behind_the_ranks_are_told():
    async with sim_here() as sim:
        engine_id = (await sim.state())["engine_id"]
        assert await call(sim, "GET", "/query") == (200, {"0": {"engine_id": engine_id}})


async def test_the_settings_are_shown_as_text_and_as_an_object():
    async with sim_here() as sim:
        _, text = await call(sim, "GET", "/server_info")
        assert "max_num_seqs=5" in text["vllm_config"]
        _, shown = await call(sim, "GET", "/server_info?config_format=json")
        assert shown["vllm_config"]["max_num_seqs"] == 5
        assert (await call(sim, "GET", "/server_info?config_format=xml"))[0] == 400


async def test_the_cache_is_given_away_in_a_pause():
    async with sim_here() as sim:
        await asked(sim)
        assert (await call(sim, "POST", "/release_kv_cache_memory"))[0] == 500
        await call(sim, "POST", "/sleep?level=0&mode=keep")
        released = (200, {"status": "kv_cache_released"})
        assert await call(sim, "POST", "/release_kv_cache_memory") == released
        state = await sim.state()
        assert (state["sleeping"], state["kv"]["cached"]) == (True, 0)
        await call(sim, "POST", "/wake_up?tags=kv_cache")
        await asked(sim)


DEV = ("/reset_prefix_cache", "/pause", "/resume", "/abort_requests")
SLEEP = ("/sleep", "/wake_up", "/release_kv_cache_memory")
LORAS = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter")


@pytest.mark.parametrize(
    ("doors", "closed"),
    [
        (Doors(), ()),
        (Doors(dev=False), (*DEV, *SLEEP)),
        (Doors(sleep=False), SLEEP),
        (Doors(loras=False), LORAS),
    ],
    ids=["all open", "no dev mode", "no sleep mode", "no adapters"],
)
async def test_closed_doors_are_not_there(doors, closed):
    async with sim_here(doors=doors) as sim:
        answers = {path: await call(sim, "POST", path, {}) for path in (*DEV, *SLEEP, *LORAS)}
        missing = {path for path, answer in answers.items() if answer[0] == 404}
        assert missing == set(closed)


async def test_a_header_forces_the_cache_threshold():
    async with sim_here() as sim:
        forced = await asked(sim, **{"X-Cache-Threshold-Finish-Reason": "true"})
        plain = await asked(sim, **{"X-Cache-Threshold-Finish-Reason": "false"})
        reasons = [body["choices"][0]["finish_reason"] for body in (forced, plain)]
        assert reasons == ["cache_threshold", "length"]


async def test_a_header_chooses_the_rank():
    flags = ("--model=m", "--data-parallel-size=2", "--latency-calculator=constant")
    async with simulators(1, *flags) as (sim,):
        for rank in ("0", "1", "1", "odd"):
            await asked(sim, **{"X-data-parallel-rank": rank})
        assert (await sim.state())["requests"]["finished"] == 2
        status, body = await call(
            sim, "POST", "/v1/completions", ASK, **{"X-data-parallel-rank": "2"}
        )
        assert (status, "none of 0, 1" in body["error"]["message"]) == (400, True)
