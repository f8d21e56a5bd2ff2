"""A chat in the browser, through the same reply path as everywhere else.

    python space/app.py --model runs/latest --port 7860
    python space/app.py --country GB --feedback feedback

On the Hub it takes the model's id from settings.json, which is published beside it, and a Space's variables in place of
flags: COUNTRY, SPEECH, TRANSLATE, FEEDBACK, FEEDBACK_REPO, PROFILE, DTYPE, COUNTS, CRISIS_MODEL, CRISIS_LABELS,
TRIAL, and the secret API_KEY.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from mh_support.batching import AT_ONCE, ReplyBatcher
from mh_support.chat_api import mount_chat_api
from mh_support.chat_page import build_server, launch
from mh_support.chat_page.texts import CONSENT, ENGLISH, check_country, languages
from mh_support.cli import run
from mh_support.extras import how_to_install
from mh_support.feedback import FeedbackStore
from mh_support.feedback_upload import FeedbackUpload
from mh_support.modeling import DTYPES, round_weights, serving_dtype, state_fingerprint
from mh_support.safety import Suspects
from mh_support.safety.classifier import crisis_classifier
from mh_support.safety.counts import ReplyCounts
from mh_support.safety.disclosure import PROFILES, profile_named
from mh_support.safety.hub_classifier import HubClassifier
from mh_support.safety.suite import prompts, trial_conversations
from mh_support.safety.trust import FEWEST
from mh_support.speech import Transcriber
from mh_support.support_bot import SupportBot
from mh_support.translation import Translator

TRIAL = len(prompts())


def default_model() -> str:
    """Return the model that was published with this app, or the starter."""
    settings = Path(__file__).with_name("settings.json")
    if not settings.is_file():
        return "starter"
    return str(json.loads(settings.read_text(encoding="utf-8"))["model_name_or_path"])


def parser() -> argparse.ArgumentParser:
    """Return what can be asked of the app."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    variable = os.environ.get
    made.add_argument("--model", default=default_model(), help="A run folder, a saved model, an adapter or a Hub id.")
    made.add_argument("--country", default=variable("COUNTRY"), help="ISO 3166 code of the services to name.")
    made.add_argument("--speech", default=variable("SPEECH"), help="Speech model: a folder, a Hub id, or none.")
    made.add_argument(
        "--translate",
        nargs="*",
        default=(variable("TRANSLATE") or "").split(),
        metavar="LANGUAGE=TO_ENGLISH,FROM_ENGLISH",
        help="Translation models, such as de=Helsinki-NLP/opus-mt-de-en,Helsinki-NLP/opus-mt-en-de.",
    )
    made.add_argument("--feedback", default=variable("FEEDBACK"), help="Folder to keep the ratings of who agrees in.")
    made.add_argument("--feedback_repo", default=variable("FEEDBACK_REPO"), help="Private data set for them as well.")
    made.add_argument(
        "--profile",
        default=variable("PROFILE") or "standard",
        metavar="|".join(PROFILES),
        help="How often to say again that this is a program: every three hours, or, if strict, every hour.",
    )
    made.add_argument(
        "--dtype",
        default=variable("DTYPE") or "auto",
        metavar="|".join(DTYPES),
        help="Precision that replies are written in; by default bfloat16 where the processor computes in it.",
    )
    made.add_argument("--counts", default=variable("COUNTS"), help="JSON file to count replies by kind in.")
    made.add_argument(
        "--crisis_model",
        default=variable("CRISIS_MODEL"),
        help="Text classifier, a Hub id or a folder, to look for a crisis beside the package's own.",
    )
    made.add_argument(
        "--crisis_labels",
        nargs="*",
        default=(variable("CRISIS_LABELS") or "").split(","),
        metavar="LABEL=CATEGORY",
        help="Its labels that stand for a danger, such as 'LABEL_1=suicide' (a Space's variable: parted by commas).",
    )
    made.add_argument(
        "--trial",
        type=int,
        default=variable("TRIAL") or TRIAL,
        help="Replies that the model writes before anybody comes; one of which too many are refused is not served.",
    )
    made.add_argument("--api_key", default=variable("API_KEY"), help="Key that /v1 asks for; by default it is open.")
    made.add_argument("--mcp", action="store_true", help="Offer the chat as an MCP tool too; needs the extra mcp.")
    made.add_argument(
        "--concurrency", type=int, default=AT_ONCE, help="Replies to write at a time; others wait their turn."
    )
    made.add_argument("--host", default=None, help="Address to listen on; by default this machine only.")
    made.add_argument("--port", type=int, default=None, help="Port; 7860 by default.")
    return made


def transcriber(name: str | None) -> Transcriber | None:
    """Return what writes down speech: by default the model of the extra `speech` where that is installed."""
    if name == "none" or (name is None and find_spec("faster_whisper") is None):
        print("no microphone on the page" + (", as asked" if name else f"; for one, {how_to_install('speech')}"))
        return None
    return Transcriber.from_pretrained(name)


def classifiers(name: str | None, labels: Sequence[str]) -> list[Suspects]:
    """Return what looks for a crisis beside the rules: the package's classifier, and a model that may add to it."""
    ours: list[Suspects] = [crisis_classifier()]
    pairs = dict(_label(given) for given in labels if given.strip())
    if name is None:
        if pairs:
            raise ValueError("--crisis_labels are of a model; name it with --crisis_model")
        return ours
    return [*ours, HubClassifier.from_pretrained(name, pairs)]


def _label(given: str) -> tuple[str, str]:
    """Return a label of a model and the danger that it stands for."""
    label, _, category = map(str.strip, given.partition("="))
    if not label or not category:
        raise ValueError(f"--crisis_labels {given.strip()} is not LABEL=CATEGORY; give such as LABEL_1=suicide")
    return label, category


def translators(pairs: Sequence[str]) -> dict[str, Translator]:
    """Return a translator for each language=to_english,from_english."""
    made = {}
    for pair in pairs:
        language, _, names = pair.partition("=")
        models = names.split(",")
        others = [code for code in languages() if code != ENGLISH]
        if language not in others or len(models) != 2:
            raise ValueError(
                f"--translate {pair} is not LANGUAGE=TO_ENGLISH,FROM_ENGLISH with one of {', '.join(others)}; give "
                "such as de=Helsinki-NLP/opus-mt-de-en,Helsinki-NLP/opus-mt-en-de"
            )
        made[language] = Translator.from_pretrained(*models)
    return made


def ratings(arguments: argparse.Namespace, bot: SupportBot, name: str) -> FeedbackStore | None:
    """Return where ratings are kept; without a folder there are none."""
    if arguments.feedback is None:
        if arguments.feedback_repo is not None:
            raise ValueError("--feedback_repo needs a folder to upload from; add --feedback FOLDER")
        return None
    repo = arguments.feedback_repo
    upload = None if repo is None else FeedbackUpload(arguments.feedback, repo)
    model = {"name": name, "fingerprint": state_fingerprint(bot.model)}
    return FeedbackStore(arguments.feedback, model=model, consent=CONSENT, upload=upload)


def try_out(bot: SupportBot, name: str, replies: int) -> None:
    """Let the model write replies that nobody reads but the check.

    Raises:
        ValueError: too many of them are refused.
    """
    if replies == 0:
        return
    print(f"trying {name} out on {replies} messages", flush=True)
    trial = bot.try_out(trial_conversations(replies))
    if trial.lost:
        raise ValueError(f"the check refuses too much of what {name} writes ({trial}); train or name another model")
    print(f"the check: {trial}")


def main(argv: Sequence[str] | None = None) -> None:
    """Load the model and serve the page and the API until stopped."""
    arguments = parser().parse_args(argv)
    country = check_country(arguments.country)
    profile_named(arguments.profile)  # Said before anything is loaded.
    dtype = serving_dtype(arguments.dtype)
    if arguments.trial != 0 and arguments.trial < FEWEST:
        raise ValueError(f"--trial is {arguments.trial}; give {FEWEST} replies or more, or 0 for none")
    bot = SupportBot.from_pretrained(
        arguments.model,
        country=country,
        classifiers=classifiers(arguments.crisis_model, arguments.crisis_labels),
        counts=ReplyCounts(arguments.counts),
    )
    # The name of a folder says nothing about where it stands.
    name = Path(arguments.model).resolve().name if Path(arguments.model).exists() else arguments.model
    feedback = ratings(arguments, bot, name)  # Which notes the weights as they were trained, not as they are rounded.
    round_weights(bot.model, dtype)
    bot.batcher = ReplyBatcher(bot.model, bot.tokenizer, at_once=arguments.concurrency)
    server = build_server(
        bot,
        translators=translators(arguments.translate),
        transcriber=transcriber(arguments.speech),
        feedback=feedback,
        concurrency=arguments.concurrency,
        profile=arguments.profile,
    )
    mount_chat_api(server, bot, model_name=name, api_key=arguments.api_key, concurrency=arguments.concurrency)
    try_out(bot, name, arguments.trial)
    launch(server, host=arguments.host, port=arguments.port, mcp=arguments.mcp)


if __name__ == "__main__":
    run(main)
