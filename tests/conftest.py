"""Keep the tests off the network and out of the caches of whoever runs them, and give them tiny models."""

import os
import random
import shutil
import socket
import tempfile

import pytest

# huggingface_hub reads these when it is imported, which a test's first line may do.
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf_home_")
# Not offline by name: some tests run a Hub on this machine. What leads further is refused below.
for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
    os.environ.pop(name, None)

# Workers of pytest-xdist share the processors, for torch and for what the tests start.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    threads = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))

END = "<|endoftext|>"
SENTENCES = (
    "I feel so alone since I moved here, and nobody calls.",
    "That sounds lonely. What was the move like for you?",
    "I can't sleep, because I keep thinking about work.",
    "It makes sense that you are tired. What goes through your mind at night?",
    "Thank you for telling me. It takes courage to say that out loud.",
    "I don't know what to do; everything feels too much today.",
)
_LOCAL = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", b"localhost", b"127.0.0.1"}


def pytest_unconfigure():
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Refuse at once every connection that leaves this machine, as a machine without a network does."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connect_locally(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in _LOCAL:
            raise OSError(101, "Network is unreachable")
        return connect(self, address)

    def look_up_locally(host, *args, **kwargs):
        if host not in _LOCAL:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_locally)
        patch.setattr(socket, "getaddrinfo", look_up_locally)
        yield


@pytest.fixture(scope="session")
def made_up():
    """Return a function that gives a sentence of made-up words: the same for a number, unlike any other's."""

    def sentence(number, words=12):
        rng = random.Random(number)
        made = ["".join(rng.choice("bdfgklmnprst") + rng.choice("aeiou") for _ in range(3)) for _ in range(words)]
        return f"{' '.join(made).capitalize()}."

    return sentence


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A byte-level BPE of 300 tokens, trained here, with the chat template; shared, so leave it as it is."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    from mh_support.dialogue import set_chat_template

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(SENTENCES, vocab_size=300, special_tokens=[END], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token=END, eos_token=END, unk_token=END)
    set_chat_template(tokenizer)
    return tokenizer


@pytest.fixture
def tiny_model(tiny_tokenizer):
    """A GPT-2 of two blocks with the same random weights each time, for `tiny_tokenizer`; made anew for each test."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    end = tiny_tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tiny_tokenizer),
        n_layer=2,
        n_embd=32,
        n_head=2,
        n_positions=64,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT2LMHeadModel(config)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A Hub on this machine that takes one token, loopback_hub.TOKEN."""
    from loopback_hub import TOKEN, LoopbackHub

    with LoopbackHub(tmp_path_factory.mktemp("hub"), tokens=[TOKEN]) as server:
        yield server


@pytest.fixture
def hub(server):
    """The same Hub, emptied before each test."""
    server.reset()
    return server


@pytest.fixture
def api(hub):
    """Its owner's client."""
    from huggingface_hub import HfApi
    from loopback_hub import TOKEN

    return HfApi(endpoint=hub.url, token=TOKEN)
