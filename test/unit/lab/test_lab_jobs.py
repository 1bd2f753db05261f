"""Jobs: traces as recorded, generators as asked, prompts that share what they should."""

import gzip
import json
import random

import pytest
from support.lab_workloads import prefixes, sessions, workload

from epp.tokens.blocks import block_keys, chain_seed
from epp_lab.arrivals import times, warped
from epp_lab.generate import ConversationReplay, SharedPrefix
from epp_lab.job import Job, chained, engine_keys, prompt_of, turns_of
from epp_lab.lengths import Spread
from epp_lab.mixture import Mixture
from epp_lab.population import Population
from epp_lab.trace import BadTrace, at_rate, binned_s, find_trace, read_trace, spread_bins


def keys(job, block=64):
    return block_keys(prompt_of(job), block, chain_seed(job.model))


def shared(first, second, block=64):
    pairs = zip(keys(first, block), keys(second, block), strict=False)
    return sum(one == other for one, other in pairs)


def test_prompts_share_blocks_as_far_as_their_segments_agree():
    one = Job(arrival=0, prompt=((1, 512), (2, 500)), output_tokens=1)
    other = Job(arrival=0, prompt=((1, 512), (3, 500)), output_tokens=1)

    assert shared(one, other) == 8


def test_the_engine_knows_an_answer_that_the_next_turn_repeats():
    first = Job(arrival=0, prompt=((1, 100),), output_tokens=101, answer=2)
    second = Job(arrival=0, prompt=((1, 100), (2, 101), (3, 50)), output_tokens=1)
    known = engine_keys(first, prompt_of(first), 16)

    assert known == engine_keys(second, prompt_of(second), 16)[: len(known)]
    assert len(known) == 200 // 16


@pytest.fixture(scope="module")
def conversation():
    return read_trace(find_trace("mooncake_fast25_conversation_trace.jsonl.gz"))


@pytest.fixture(scope="module")
def azure():
    return read_trace(find_trace("AzureLLMInferenceTrace_2023_conv.csv.gz"))


def test_mooncake_is_read_as_published(conversation):
    mean = sum(job.prompt_tokens for job in conversation) / len(conversation)

    assert len(conversation) == 12_031
    assert mean == pytest.approx(12_035, abs=1)
    assert {job.prompt[0][0] for job in conversation} == {0}
    assert binned_s(conversation) == pytest.approx(3.0)


def test_azure_is_read_as_published(azure):
    mean = sum(job.prompt_tokens for job in azure) / len(azure)

    assert len(azure) == 19_366
    assert mean == pytest.approx(1155, abs=1)
    assert len({job.prompt[0][0] for job in azure}) == len(azure)
    assert binned_s(azure) == 0


def test_bins_are_spread_and_the_rate_is_what_was_asked(conversation):
    jobs = at_rate(spread_bins(conversation[:500], random.Random(1), 3.0), 7.0)
    arrivals = [job.arrival for job in jobs]

    assert arrivals == sorted(arrivals)
    assert len(set(arrivals)) == len(arrivals)
    assert 500 / arrivals[-1] == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("{", "1: Input data was truncated", id="no-json"),
        pytest.param('{"timestamp": 1}', "input_length", id="field-missing"),
        pytest.param(
            '{"timestamp":1,"input_length":5,"output_length":1,"hash_ids":[-1]}',
            "hash_ids",
            id="bad-block",
        ),
        pytest.param(
            '{"timestamp":1,"input_length":-5,"output_length":1}', "lengths", id="negative"
        ),
        pytest.param("", "no request", id="empty"),
    ],
)
def test_a_bad_trace_is_refused_with_its_place(tmp_path, line, says):
    path = tmp_path / "day.jsonl"
    path.write_text(line + "\n")

    with pytest.raises(BadTrace, match=says):
        read_trace(path)


def test_ones_own_trace_may_say_more(tmp_path):
    path = tmp_path / "day.jsonl.gz"
    row = {"timestamp": 5000, "input_length": 600, "output_length": 7, "hash_ids": [3, 4]}
    with gzip.open(path, "wt") as file:
        file.write(json.dumps(row | {"tenant": "blue", "priority": -1, "max_tokens": 9}))
    (job,) = read_trace(path)

    assert (job.arrival, job.prompt) == (0.0, ((3, 512), (4, 88)))
    assert (job.tenant, job.priority, job.client_limit) == ("blue", -1, 9)


def turn(at, session, think=0):
    row = {"timestamp": at, "input_length": 600, "output_length": 7}
    return json.dumps(row | {"session": session, "think": think}) + "\n"


@pytest.fixture
def talks(tmp_path):
    path = tmp_path / "day.jsonl"
    path.write_text(
        turn(0, "a") + turn(1000, "") + turn(2000, "a", 500) + turn(3000, "b") + turn(9000, "a", 70)
    )
    return path


def test_turns_of_a_recorded_session_come_after_the_answer_and_a_time_of_thinking(talks):
    jobs = read_trace(talks)

    assert [job.arrival for job in jobs] == [0.0, 1.0, 3.0]
    assert [turn.arrival for turn in turns_of(jobs[0])] == [0.0, 0.5, 0.07]


def test_a_trace_of_sessions_has_the_requests_and_the_rate_that_were_asked(talks):
    jobs = workload({"kind": "trace", "file": str(talks)}, count=5, knee=2.5).jobs(1.0, 0)

    assert sum(job.turns for job in jobs) == 5
    assert jobs[-1].arrival == pytest.approx(1.0)


def groups(**given):
    return SharedPrefix.model_validate(prefixes(**given))


def test_cyclic_order_asks_every_prompt_equally_often():
    jobs = groups().jobs(36, 1.0, random.Random(1))
    counts = [sum(j.prompt == job.prompt for j in jobs) for job in jobs]

    assert set(counts) == {3}


def test_zipf_asks_the_first_group_most():
    jobs = groups(order="zipf").jobs(2000, 1.0, random.Random(1))
    asked = [sum(job.tenant == f"group-{n}" for job in jobs) for n in range(4)]

    assert asked == sorted(asked, reverse=True)
    assert asked[0] / asked[3] == pytest.approx(4, rel=0.3)


def test_fresh_questions_share_the_system_prompt_alone():
    jobs = groups(num_groups=1, fresh_questions=True).jobs(20, 1.0, random.Random(1))

    assert {shared(jobs[0], job) for job in jobs[1:]} == {10}


def test_adapters_share_the_traffic_as_split():
    split = [("a", 0.6), ("b", 0.3), ("c", 0.1)]
    jobs = groups(lora_traffic_split=split).jobs(3000, 1.0, random.Random(1))

    for name, part in split:
        assert sum(job.model == name for job in jobs) / 3000 == pytest.approx(part, abs=0.03)


def test_turns_repeat_all_that_was_said():
    held = ConversationReplay.model_validate(sessions()).jobs(30, 2.0, random.Random(1))
    first = held[0]

    assert len(held) == 10
    assert first.turns == 3
    assert first.then.prompt[:3] == first.prompt
    assert first.then.prompt[3] == (first.answer, 20)
    assert first.then.arrival == 5


def test_both_names_of_groups_and_prompts_are_read():
    given = prefixes(num_unique_system_prompts=2, num_users_per_system_prompt=5)
    del given["num_groups"], given["num_prompts_per_group"]
    named = SharedPrefix.model_validate(given)

    assert (named.num_groups, named.num_prompts_per_group) == (2, 5)


def test_adapters_are_read_as_name_and_split_and_as_pairs():
    named = groups(lora_traffic_split=[{"name": "a", "split": 0.6}, {"name": "b", "split": 0.4}])

    assert named == groups(lora_traffic_split=[["a", 0.6], ["b", 0.4]])


def test_a_seed_of_the_file_gives_other_requests():
    plain, one, again, other = (
        groups(seed=seed, order="random").jobs(30, 1.0, random.Random(1)) for seed in (0, 1, 1, 2)
    )

    assert one == again
    assert len({repr(jobs) for jobs in (plain, one, other)}) == 3


def turns(jobs):
    return [[turn.prompt for turn in turns_of(job)] for job in jobs]


def test_a_chat_repeats_all_that_its_user_and_the_model_said():
    jobs = groups(num_groups=1, num_prompts_per_group=2, enable_multi_turn_chat=True).jobs(
        20, 1.0, random.Random(1)
    )
    chats = turns(jobs)

    assert [len(chat) for chat in chats] == [10, 10]
    assert {first[0][0] for first in chats} == {chats[0][0][0]}
    for chat, job in zip(chats, jobs, strict=True):
        said = [(*turn.prompt, (turn.answer, turn.output_tokens)) for turn in turns_of(job)]
        assert all(now[:-1] == before for now, before in zip(chat[1:], said, strict=False))


def test_a_turn_of_a_chat_is_due_when_the_order_of_requests_says():
    fields = {"num_groups": 1, "num_prompts_per_group": 2, "arrivals": "constant"}
    due = [job.arrival for job in groups(**fields).jobs(20, 1.0, random.Random(1))]
    chats = groups(**fields, enable_multi_turn_chat=True).jobs(20, 1.0, random.Random(1))
    said = [(turn.not_before or turn.arrival) for job in chats for turn in turns_of(job)]

    assert sorted(said) == due
    assert all(turn.arrival == 0.0 for job in chats for turn in turns_of(job)[1:])


def test_a_chat_that_would_grow_too_long_begins_anew():
    jobs = groups(
        num_groups=1, num_prompts_per_group=1, enable_multi_turn_chat=True, max_model_len=1000
    ).jobs(12, 1.0, random.Random(1))

    assert [len(chat) for chat in turns(jobs)] == [3, 3, 3, 3]
    assert max(turn.prompt_tokens for job in jobs for turn in turns_of(job)) <= 1000


def test_conversations_are_held_again_once_all_are_held():
    replay = ConversationReplay.model_validate(sessions(num_conversations=4))
    held = turns(replay.jobs(30, 2.0, random.Random(1)))

    assert len(held) == 10
    assert held[:4] == held[4:8]
    assert held[0] != held[1]


def mixture():
    long = prefixes(num_groups=1, num_prompts_per_group=1, fresh_questions=True)
    parts = [
        {"name": "agents", "share": 3, "requests": long},
        {"name": "chats", "share": 1, "requests": {**long, "system_prompt_len": 64}},
    ]
    return Mixture.model_validate({"kind": "mixture", "parts": parts})


def test_a_mixture_asks_for_its_parts_by_their_shares_and_they_share_nothing():
    jobs = mixture().jobs(400, 2.0, random.Random(1))
    tenants = [job.tenant for job in jobs]
    agent, chat = (jobs[tenants.index(name)] for name in ("agents/group-0", "chats/group-0"))

    assert tenants.count("agents/group-0") == pytest.approx(300, abs=30)
    assert shared(agent, chat) == 0
    assert (agent.prompt[0][1], chat.prompt[0][1]) == (640, 64)
    assert [job.arrival for job in jobs] == sorted(job.arrival for job in jobs)


def test_a_session_of_ten_thousand_turns_can_be_owned():
    long = chained([Job(arrival=0, prompt=((1, 1),), output_tokens=1)] * 10_000)
    (owned,) = Population(tenants=2).given([long], random.Random(1))

    assert owned.turns == 10_000


@pytest.mark.parametrize("kind", ["poisson", "constant", "bursts"])
def test_arrivals_rise_at_the_mean_rate(kind):
    found = times(kind, 4000, 8.0, random.Random(3))

    assert found == sorted(found)
    assert 4000 / found[-1] == pytest.approx(8.0, rel=0.08)


def test_bursts_bring_three_fifths_in_a_fifth_of_the_time():
    assert warped(60, 5) == pytest.approx(12 // 20 * 20 + 4, abs=1e-9)


@pytest.mark.parametrize("kind", ["normal", "lognormal", "skew_normal", "uniform", "fixed"])
def test_lengths_stay_within_their_bounds(kind):
    law = Spread(type=kind, mean=100, std_dev=80, skew=3, min=20, max=200)
    rng = random.Random(5)

    assert all(20 <= law.draw(rng) <= 200 for _ in range(500))


def test_a_lognormal_has_the_mean_it_names():
    law, rng = Spread(type="lognormal", mean=100, std_dev=50), random.Random(5)

    assert sum(law.draw(rng) for _ in range(8000)) / 8000 == pytest.approx(100, rel=0.03)
