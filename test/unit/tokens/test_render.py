"""Renderings: asked for once, remembered, found again by the beginning of a conversation."""

import asyncio
import sys
from array import array

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pools import request, tools

from epp.errors import ConfigError
from epp.plugins.producers.tokens import TokenProducer
from epp.request.prompts import open_ended
from epp.tokens.render import PATHS, NotOffered, Renderer, rendered, tokenized
from epp.tokens.renderings import PIECE, Renderings
from epp.tokens.tokenized import TOKENIZED, Item, Tokenized

TURN = b'[{"role":"user","content":"' + b"word " * 200 + b'"}'


class Engine:
    """Renders a body as its bytes; answers when told to."""

    def __init__(self, *, fails=None, slow=False):
        self.asked = []
        self.fails = fails
        self.gate = asyncio.Event()
        if not slow:
            self.gate.set()

    async def __call__(self, path, body):
        self.asked.append(path)
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        return msgspec.json.encode({"token_ids": list(body), "features": None})


def chat(text, **fields):
    return request(text, kind="chat", body=text, **fields)


def renderer(engine, *, timeout=1.0, at_once=16):
    it = Renderer(10_000, timeout, at_once)
    it.post = engine
    return it


async def told(it, asked):
    found = it.tokens(asked)
    return found if found is None or isinstance(found, Tokenized) else await found


async def test_a_prompt_is_rendered_once_and_remembered():
    engine = Engine()
    it = renderer(engine)
    first = await told(it, chat(TURN))
    again = it.tokens(chat(TURN))

    assert list(first.prompts[0]) == list(TURN)
    assert again is first
    assert engine.asked == ["/v1/chat/completions/render"]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("completions", "/v1/completions/render"),
        ("messages", "/v1/messages/render"),
        ("responses", "/v1/responses/render"),
    ],
)
async def test_each_kind_is_rendered_on_its_path(kind, path):
    engine = Engine()
    await told(renderer(engine), request(b"text", kind=kind, body=b"{}"))

    assert engine.asked == [path]


async def test_kinds_without_a_prompt_to_render_are_not_asked_about():
    engine = Engine()

    assert renderer(engine).tokens(request(b"text", kind="embeddings")) is None
    assert engine.asked == []


async def test_the_next_turn_does_not_wait_for_what_is_known_of_it():
    engine = Engine()
    it = renderer(engine)
    await told(it, chat(TURN))
    longer = chat(TURN + b',{"role":"assistant","content":"yes"}')
    found = it.tokens(longer)
    await asyncio.sleep(0.01)

    assert found.by == "render-prefix"
    assert list(found.prompts[0]) == list(TURN)
    assert it.tokens(longer).by == "render"


async def test_what_is_not_known_of_the_next_turn_is_estimated():
    it = renderer(Engine())
    await told(it, chat(TURN))
    found = it.tokens(chat(TURN + b"x" * 800))
    await it.close()

    unknown = len(TURN) % PIECE + 800
    assert (found.tokens, found.more) == (len(TURN), -(-unknown // 4))


async def test_with_little_known_the_whole_is_waited_for():
    it = renderer(Engine())
    await told(it, chat(TURN))
    found = await told(it, chat(TURN + b"," + b"x" * 5000))

    assert found.by == "render"


async def test_requests_with_one_text_ask_once():
    engine = Engine(slow=True)
    it = renderer(engine)
    both = asyncio.gather(told(it, chat(TURN)), told(it, chat(TURN)))
    await asyncio.sleep(0.01)
    engine.gate.set()

    assert [found.by for found in await both] == ["render", "render"]
    assert len(engine.asked) == 1


async def test_only_so_many_are_asked_at_once():
    engine = Engine(slow=True)
    it = renderer(engine, at_once=1)
    first = asyncio.create_task(told(it, chat(TURN)))
    await asyncio.sleep(0.01)
    second = it.tokens(chat(b"other"))
    engine.gate.set()
    await first

    assert second is None
    assert it.skipped == 1


@pytest.mark.parametrize("fails", [OSError("refused"), TimeoutError(), ValueError("odd")])
async def test_a_failure_costs_the_tokens_alone(fails):
    it = renderer(Engine(fails=fails))

    assert await told(it, chat(TURN)) is None
    assert it.failed == 1


async def test_an_engine_that_is_too_slow_is_not_waited_for():
    it = renderer(Engine(slow=True), timeout=0.02)

    assert await told(it, chat(TURN)) is None
    assert (it.failed, it.trouble) == (1, "no answer within 0.02 s")


async def test_trouble_is_forgotten_when_the_next_prompt_is_told():
    engine = Engine(fails=OSError("refused"))
    it = renderer(engine)
    await told(it, chat(TURN))
    before, engine.fails = it.trouble, None
    await told(it, chat(TURN))

    assert (before, it.trouble) == ("refused", "")


class TokenizingEngine:
    """Has no pages that render; tokenizes a body as its bytes."""

    def __init__(self):
        self.asked = []

    async def __call__(self, path, body):
        self.asked.append(path)
        if path != "/tokenize":
            raise NotOffered(f"{path} answered 403")
        return msgspec.json.encode({"count": len(body), "tokens": list(body)})


@pytest.mark.parametrize("kind", ["chat", "completions"])
async def test_an_engine_that_does_not_render_tokenizes(kind):
    engine = TokenizingEngine()
    it = renderer(engine)
    first = await told(it, request(TURN, kind=kind, body=TURN))
    second = await told(it, request(b"other", kind=kind, body=b"other"))

    assert (first.by, list(first.prompts[0])) == ("tokenize", list(TURN))
    assert list(second.prompts[0]) == list(b"other")
    assert engine.asked == [PATHS[kind], "/tokenize", "/tokenize"], "asked to render once"


async def test_images_that_are_not_tokenized_are_estimated_beside():
    text = b'[{"content":[{"image_url":{"url":"https://x/y.png"}}]}]'
    asked = request(prompts=(open_ended(msgspec.Raw(text)),), kind="chat", body=text)
    found = await told(renderer(TokenizingEngine()), asked)

    assert (found.tokens, found.more) == (len(text), 225)


@pytest.mark.parametrize("kind", ["messages", "responses"])
async def test_what_can_only_be_rendered_stays_unknown_without(kind):
    engine = TokenizingEngine()
    it = renderer(engine)

    assert await told(it, request(TURN, kind=kind, body=TURN)) is None
    assert engine.asked == [PATHS[kind]]
    assert it.trouble == f"{PATHS[kind]} answered 403"


async def test_several_prompts_are_not_tokenized_as_one():
    engine = TokenizingEngine()
    it = renderer(engine)

    assert await told(it, request(b"one", b"two", kind="completions", body=b"{}")) is None
    assert engine.asked == ["/v1/completions/render"]


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"tokens": ["a"]}', b'{"tokens": [-1]}'])
def test_what_is_no_tokenization_is_said_to_be_none(answer):
    with pytest.raises(ValueError, match="no tokens"):
        tokenized(answer)


async def test_a_request_that_gives_up_leaves_the_rendering_to_the_next():
    engine = Engine(slow=True)
    it = renderer(engine)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await told(it, chat(TURN))
    engine.gate.set()
    await asyncio.sleep(0.01)

    assert it.tokens(chat(TURN)).by == "render"


async def test_nobody_is_left_waiting_at_the_end():
    it = renderer(Engine(slow=True))
    waiting = asyncio.create_task(told(it, chat(TURN)))
    await asyncio.sleep(0.01)
    await it.close()
    done = await asyncio.gather(waiting, return_exceptions=True)

    assert isinstance(done[0], asyncio.CancelledError)


# -- answers ---------------------------------------------------------------------------------------


def test_images_are_found_where_they_stand():
    answer = {
        "token_ids": [1, 2, 3, 4],
        "features": {
            "mm_hashes": {"image": ["b", "a"], "audio": [None]},
            "mm_placeholders": {
                "image": [{"offset": 2, "length": 1}, {"offset": 0, "length": 1}],
                "audio": [{"offset": 3, "length": 1}],
            },
            "kwargs_data": {"image": ["..."]},
        },
    }

    assert rendered(msgspec.json.encode(answer)).items == ((Item("a", 0, 1), Item("b", 2, 1)),)


def test_several_prompts_come_as_a_list():
    made = rendered(b'[{"token_ids":[1,2]},{"token_ids":[3]}]')

    assert [list(ids) for ids in made.prompts] == [[1, 2], [3]]


@pytest.mark.parametrize("answer", [b"", b"{}", b"[1]", b'{"token_ids":[-1]}', b"<html>"])
def test_what_is_no_rendering_is_said_to_be_none(answer):
    with pytest.raises(ValueError, match="no rendering"):
        rendered(answer)


# -- memory ----------------------------------------------------------------------------------------


def tokens(count):
    return Tokenized((array("I", range(count)),), by="render")


def test_another_model_or_kind_is_another_text():
    known = Renderings()
    known.put(TURN, "m", "chat", tokens(5))

    assert known.find(TURN, "m", "chat").share == 1.0
    assert known.find(TURN, "n", "chat") is None
    assert known.find(TURN, "m", "messages") is None


@settings(max_examples=100)
@given(st.lists(st.tuples(st.binary(max_size=600), st.integers(0, 40)), max_size=20))
def test_the_room_is_never_exceeded_and_nothing_is_left_over(story):
    known = Renderings(most_tokens=100)
    for text, count in story:
        known.put(text, "m", "chat", tokens(count))

        assert known.tokens <= 100
        assert known.tokens == sum(made.tokens for made, _ in known._by_text.values())
        assert set(known._by_end.values()) <= set(known._by_text)


# -- the plugin ------------------------------------------------------------------------------------


def producer(given=None):
    return TokenProducer(TokenProducer.Params.model_validate(given or {}), tools("tokens"))


def test_ids_a_client_sends_are_taken():
    asked = request(range(5))

    assert producer().gather(asked) is None
    assert asked.facts.get(TOKENIZED).by == "request"


def test_text_stays_text_where_nobody_is_asked():
    asked = request(b"text")

    assert producer().gather(asked) is None
    assert asked.facts.get(TOKENIZED) is None


async def test_text_is_rendered_where_that_is_configured():
    it, asked = producer({"vllm": {"url": "pool"}}), chat(TURN)
    it.renderer.post = Engine()
    await it.gather(asked)

    assert asked.facts.get(TOKENIZED).by == "render"


@pytest.mark.parametrize(
    "given", [{"vllm": {"url": "ftp://x"}}, {"udsTokenizerConfig": {}}, {"local": {"file": ""}}]
)
def test_what_cannot_be_had_is_refused(given):
    with pytest.raises((ValueError, ConfigError)):
        producer(given)


LIBRARY = """
from pathlib import Path
class Made:
    def __init__(self, ids):
        self.ids = ids
class Tokenizer:
    @staticmethod
    def from_file(path):
        if Path(path).read_text() != "{}":
            raise Exception("no json")
        return Tokenizer()
    def encode_batch(self, texts):
        return [Made([ord(sign) for sign in text]) for text in texts]
"""
"""Stands in for the package, which is no dependency."""


@pytest.fixture
def tokenizer_file(tmp_path, monkeypatch):
    (tmp_path / "tokenizers.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tokenizers", raising=False)
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    yield file
    sys.modules.pop("tokenizers", None)


async def test_completions_are_tokenized_here_where_a_file_is_given(tokenizer_file):
    it = producer({"local": {"file": str(tokenizer_file)}})
    asked = request("aé".encode(), b"b", kind="completions")
    await it.gather(asked)
    told = asked.facts.get(TOKENIZED)

    assert told.by == "local"
    assert [list(ids) for ids in told.prompts] == [[97, 233], [98]]


async def test_a_chat_has_a_template_we_do_not_know(tokenizer_file):
    it, asked = producer({"local": {"file": str(tokenizer_file)}}), chat(TURN)
    await it.gather(asked)

    assert asked.facts.get(TOKENIZED) is None


async def test_where_rendering_fails_our_own_tokenizer_serves(tokenizer_file):
    it = producer({"vllm": {"url": "pool"}, "local": {"file": str(tokenizer_file)}})
    it.renderer.post = Engine(fails=OSError())
    asked = request(b"ab", kind="completions", body=b"{}")
    await it.gather(asked)

    assert asked.facts.get(TOKENIZED).by == "local"


def test_a_file_that_is_no_tokenizer_is_named(tokenizer_file):
    tokenizer_file.write_text("nonsense")
    with pytest.raises(ValueError, match=r"tokenizer\.json: no json"):
        producer({"local": {"file": str(tokenizer_file)}})


def test_a_tokenizer_of_our_own_needs_its_library_and_its_file():
    with pytest.raises(ValueError, match="local"):
        producer({"local": {"file": "/no/such/tokenizer.json"}})
