"""Pages of the engines become samples."""

import math

import pytest

from epp.datastore import LoraState
from epp.scrape.dialects import BUILT_IN, VLLM, Dialects, dialect_from_specs
from epp.scrape.spec import MetricSpec, parse_spec
from epp.scrape.text import PageError

VLLM_PAGE = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 5.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.2
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="1000"} 1.0
vllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="2000"} 1.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 40.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 100.0
vllm:generation_tokens_total{engine="0",model_name="m"} 7.0
vllm:generation_tokens_total{engine="1",model_name="m"} 2.0
"""


def vllm(*lines):
    page = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n" + "\n".join(lines)
    return VLLM.sample(page.encode())


def test_sums_requests_over_engine_ranks():
    sample = VLLM.sample(VLLM_PAGE)

    assert (sample.running, sample.waiting) == (8, 1)


def test_weighs_kv_usage_by_the_ranks_blocks():
    assert VLLM.sample(VLLM_PAGE).kv_usage == pytest.approx(0.4)


def test_sums_blocks_over_ranks():
    sample = VLLM.sample(VLLM_PAGE)

    assert (sample.kv_blocks, sample.block_size) == (3000, 16)


def test_counts_tokens_of_prompts_and_answers_while_requests_run():
    sample = VLLM.sample(VLLM_PAGE)

    assert (sample.prefilled_tokens, sample.generated_tokens) == (60, 9)


def test_counts_no_tokens_of_answers_where_not_asked_to():
    sample = VLLM.sample(VLLM_PAGE, counted=False)

    assert sample.prefilled_tokens == 60  # Requests wait: it tells how fast prompts are read.
    assert math.isnan(sample.generated_tokens)


def test_counts_no_tokens_of_an_idle_engine():
    sample = vllm(
        "vllm:prompt_tokens_total 5",
        "vllm:prefix_cache_hits_total 1",
        "vllm:generation_tokens_total 3",
    )

    assert math.isnan(sample.prefilled_tokens)
    assert math.isnan(sample.generated_tokens)


@pytest.mark.parametrize(
    "name", ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"], ids=["now", "before-0.10"]
)
def test_reads_kv_usage_by_its_names_through_time(name):
    assert vllm(f"{name} 0.25").kv_usage == 0.25


def test_the_newer_name_wins():
    sample = vllm("vllm:gpu_cache_usage_perc 0.9", "vllm:kv_cache_usage_perc 0.1")

    assert sample.kv_usage == 0.1


def test_averages_usage_of_ranks_whose_blocks_are_unknown():
    usages = [f'vllm:kv_cache_usage_perc{{engine="{n}"}} {n / 2}' for n in (0, 1)]

    assert vllm(*usages).kv_usage == 0.25


@pytest.mark.parametrize(
    ("shown", "expected"), [("NaN", 0), ("-1", 0), ("7", 1), ("+Inf", 1), ("0.5", 0.5)]
)
def test_usage_is_a_share(shown, expected):
    assert vllm(f"vllm:kv_cache_usage_perc {shown}").kv_usage == expected


@pytest.mark.parametrize("shown", ["NaN", "-3", "+Inf"])
def test_a_rank_that_reports_nonsense_counts_as_none(shown):
    page = f'vllm:num_requests_waiting{{engine="0"}} {shown}\n'
    page += 'vllm:num_requests_waiting{engine="1"} 2\n'

    assert VLLM.sample(page.encode()).waiting == 2


def test_a_repeated_series_counts_once():
    assert VLLM.sample(b"vllm:num_requests_waiting 1\nvllm:num_requests_waiting 2\n").waiting == 2


def test_the_newest_lora_series_is_the_current_one():
    series = 'vllm:lora_requests_info{{max_lora="4",running_lora_adapters="{}",{}}} {}'
    sample = vllm(
        series.format("old", 'waiting_lora_adapters=""', "1.7e9"),
        series.format("a, b", 'waiting_lora_adapters="c"', "1.70000001e9"),
        series.format("older", 'waiting_lora_adapters=""', "1.6e9"),
    )

    assert sample.lora == LoraState(frozenset("ab"), frozenset("c"), 4)


def test_no_lora_is_an_empty_state():
    assert vllm().lora == LoraState()


@pytest.mark.parametrize(("awake", "sleeping"), [([1, 1], False), ([0, 0], True), ([1, 0], False)])
def test_sleeps_when_no_rank_is_awake(awake, sleeping):
    states = [
        f'vllm:engine_sleep_state{{engine="{n}",sleep_state="{state}"}} {value}'
        for n, up in enumerate(awake)
        for state, value in (("awake", up), ("weights_offloaded", 1 - up), ("discard_all", 0))
    ]

    assert vllm(*states).sleeping is sleeping


def test_an_engine_that_says_nothing_of_sleep_is_awake():
    assert not vllm().sleeping


@pytest.mark.parametrize(
    "label", ['num_gpu_blocks="None"', 'num_gpu_blocks=""', 'num_gpu_blocks="-1"', 'x="1"']
)
def test_a_number_of_blocks_that_is_none_is_unknown(label):
    assert vllm(f"vllm:cache_config_info{{{label}}} 1").kv_blocks == 0


PAGES = {
    "vllm": VLLM_PAGE,
    "sglang": b"""\
sglang:num_queue_reqs{model_name="m"} 2.0
sglang:num_running_reqs{model_name="m"} 4.0
sglang:token_usage{model_name="m"} 0.3
sglang:cache_config_info{page_size="64",num_pages="512"} 1.0
""",
    "trtllm-serve": b"""\
trtllm_num_requests_waiting 2
trtllm_num_requests_running 4
trtllm_kv_cache_utilization 0.3
trtllm_kv_cache_tokens_per_block 64
trtllm_kv_cache_max_blocks 512
""",
    "triton-tensorrt-llm": b"""\
nv_inference_pending_request_count{model="m"} 9
nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 2
nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 4
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m"} 0.3
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="m"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="m"} 512
""",
    "triton": b"""\
nv_inference_pending_request_count{model="m",version="1"} 2
nv_inference_exec_count{model="m",version="1"} 4
""",
}


@pytest.mark.parametrize("engine", ["sglang", "trtllm-serve", "triton-tensorrt-llm"])
def test_other_engines_say_the_same(engine):
    [dialect] = [one for one in BUILT_IN if one.name == engine]
    sample = dialect.sample(PAGES[engine])

    assert (sample.waiting, sample.running, sample.kv_usage) == (2, 4, 0.3)
    assert (sample.block_size, sample.kv_blocks) == (64, 512)


def test_plain_triton_says_less():
    sample = Dialects().choose({}, PAGES["triton"]).sample(PAGES["triton"])

    assert (sample.waiting, sample.running, sample.kv_usage) == (2, 4, 0)


@pytest.mark.parametrize("engine", PAGES)
def test_a_dialect_is_found_by_looking(engine):
    assert Dialects().choose({}, PAGES[engine]).name == engine


@pytest.mark.parametrize(
    "label", ["llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type"]
)
def test_a_label_decides_before_a_look(label):
    assert Dialects().choose({label: "sglang"}, VLLM_PAGE).name == "sglang"


def test_an_unknown_label_leads_to_a_look():
    assert Dialects().choose({"llm-d.ai/engine-type": "new"}, PAGES["sglang"]).name == "sglang"


def test_a_page_of_no_engine_is_refused_by_name():
    dialect = Dialects().choose({}, b"go_goroutines 7\n")

    with pytest.raises(PageError, match=r"no vllm:num_requests_waiting .* a vllm server"):
        dialect.sample(b"go_goroutines 7\n")


def test_a_default_must_be_known():
    with pytest.raises(ValueError, match="no engine is called 'vlm'; known: vllm, sglang"):
        Dialects(default="vlm")


def test_a_configured_engine_reads_its_own_names():
    dialect = dialect_from_specs(
        "mine",
        queued="my_requests{state=queued}",
        running="my_requests{state=running}",
        kv_usage="my_kv",
        cache_info="my_cache",
        block_size_label="size",
        blocks_label="count",
        custom={"heat": "my_heat{gpu=0}", "absent": "my_absent"},
    )
    page = b"""\
my_requests{state="queued"} 2
my_requests{state="running"} 4
my_kv 0.5
my_cache{size="8",count="9"} 1
my_heat{gpu="0"} 70
my_heat{gpu="1"} 90
"""
    sample = Dialects([dialect], default="mine").choose({}, page).sample(page)

    assert (sample.waiting, sample.running, sample.kv_usage) == (2, 4, 0.5)
    assert (sample.block_size, sample.kv_blocks) == (8, 9)
    assert sample.custom == {"heat": 70}


def test_a_configured_engine_replaces_a_built_in_one():
    dialect = dialect_from_specs("vllm", queued="my_queue")

    assert Dialects([dialect]).choose({"llm-d.ai/engine-type": "vllm"}, b"") is dialect


def test_a_configured_engine_must_count_requests():
    with pytest.raises(ValueError, match="give a spec of queued or of running"):
        dialect_from_specs("mine", kv_usage="my_kv")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("up", MetricSpec("up")),
        ("a:b_c", MetricSpec("a:b_c")),
        ("up{}", MetricSpec("up")),
        ("up{a=b}", MetricSpec("up", (("a", "b"),))),
        ('up{a="b,c}", d = e }', MetricSpec("up", (("a", "b,c}"), ("d", "e")))),
        (' up { a = "x\\"y" } ', MetricSpec("up", (("a", 'x"y'),))),
    ],
)
def test_reads_specs(text, expected):
    assert parse_spec(text) == expected


@pytest.mark.parametrize("text", ["", "{a=b}", "9up", "up{a=b", "up{a}", "up{a=b c=d}", "up{=b}"])
def test_refuses_what_is_no_spec(text):
    with pytest.raises(ValueError, match="metric spec"):
        parse_spec(text)
