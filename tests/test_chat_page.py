"""The chat page in a real browser: what a person sees, presses, hears and says. The bot's replies are written here."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from page_fixtures import CRISIS, PIECES, REPLY, ScriptedBot, assistant, serving, until, user  # noqa: F401
from playwright.sync_api import expect, sync_playwright
from translation_fixtures import loaded, trained  # noqa: F401

import mh_support.chat_page.server
from mh_support.chat_page.texts import CONSENT, crisis_message, languages, with_services
from mh_support.feedback import FeedbackStore, read_feedback
from mh_support.safety import NOTICE, assess, crisis_reply, resources_for
from mh_support.safety.disclosure import BREAK, REMINDER
from mh_support.speech import Transcriber

ENGLISH = languages()["en"]
PHONE = {"width": 360, "height": 640}
# Hours that a test lets pass.
LATER = "const now = Date.now; window.later = 0; Date.now = () => now() + window.later * 3_600_000"
SPOKEN = "I want to kill myself tonight, and nobody knows."


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Debian's Chromium, whose microphone hears what espeak-ng says."""
    sound = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    subprocess.run(["espeak-ng", "-s", "140", "-w", str(sound), SPOKEN], check=True)
    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    arguments = ["--no-sandbox", *microphone, f"--use-file-for-fake-audio-capture={sound}"]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="module")
def served(serve, tiny_tokenizer, tmp_path_factory):
    """A scripted bot, the address of its page, and the folder of the ratings."""
    folder = tmp_path_factory.mktemp("feedback")
    bot = ScriptedBot(tiny_tokenizer, country="GB")
    feedback = FeedbackStore(folder, model={"name": "scripted", "fingerprint": None}, consent=CONSENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mh_support.chat_page.server, "MAX_SECONDS", 5)
        _, address = serve(bot, feedback=feedback, transcriber=Transcriber.from_pretrained())
    return bot, address, folder


@pytest.fixture
def bot(served, tiny_tokenizer):
    served[0].__init__(tiny_tokenizer, country="GB")
    return served[0]


@pytest.fixture
def ratings(served):
    """The records that are kept; the folder is emptied afterwards."""
    yield lambda: list(read_feedback(served[2]))
    for file in served[2].glob("*.jsonl"):
        file.unlink()


@pytest.fixture
def visit(browser, served, bot):
    """A function that opens the page as a new visitor; nothing may leave the server, and no script may fail."""
    contexts, outside, complaints = [], [], []

    def heard(request):
        if not request.url.startswith(address):
            outside.append(request.url)

    def said(message):
        # Chromium itself reports each request that a test cuts off.
        if message.type == "error" and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def come(path="", at=None, script=None, watch=None, **options):
        context = browser.new_context(**{"locale": "en-GB", "permissions": ["microphone"], **options})
        contexts.append(context)
        context.on("request", heard)
        if watch is not None:
            context.on("request", watch)
        if script is not None:
            context.add_init_script(script)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((at or address) + path)
        return page

    address = served[1]
    expect.set_options(timeout=15_000)
    yield come
    for context in contexts:
        context.close()
    assert [url for url in outside if not url.startswith("http://127.0.0.1:")] == []
    assert complaints == []


@pytest.fixture
def page(visit):
    return visit()


def say(page, text):
    page.get_by_role("textbox", name="Your message").fill(text)
    page.get_by_role("button", name="Send").click()


def send(page, text):
    """Say it on a page in any language."""
    page.locator("#message").fill(text)
    page.locator("#send").click()


def turns(page):
    """The conversation as it stands on the page."""
    return [words.strip() for words in page.locator("#turns .words").all_inner_texts()]


def whole(page, count=1):
    """Wait until `count` replies are whole."""
    expect(page.locator("#turns .assistant .tools")).to_have_count(count)


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


# What is there before anything is written


def test_what_a_visitor_finds(visit):
    requests = []
    page = visit(watch=lambda request: requests.append(request.url))
    expect(page.get_by_role("note")).to_have_text(NOTICE)
    expect(page.get_by_role("heading", level=1)).to_have_text("A small model that listens")
    expect(page.get_by_role("textbox", name="Your message")).to_have_attribute("placeholder", "What is on your mind?")
    for text in ENGLISH["example_texts"]:
        expect(page.get_by_role("button", name=text)).to_be_visible()
    assert len(requests) == len(set(requests)) <= 20
    assert page.context.cookies() == []
    kept = "async () => [localStorage.length, sessionStorage.length, (await indexedDB.databases()).length]"
    assert page.evaluate(kept) == [0, 0, 0]


def test_an_example_begins_a_conversation(page, bot):
    press(page, ENGLISH["example_texts"][1])
    whole(page)
    assert bot.asked == [[user(ENGLISH["example_texts"][1])]]
    expect(page.locator("#welcome")).to_be_hidden()


# A reply


def test_a_reply_comes_piece_by_piece(page, bot):
    bot.say(PIECES[0], None, *PIECES[1:])
    say(page, "I feel alone.")
    expect(page.locator(".assistant .words")).to_have_text(PIECES[0].strip())
    expect(page.locator("#status")).to_have_text("The program is writing.")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_be_hidden()
    bot.go_on.release()
    whole(page)
    assert turns(page) == ["I feel alone.", REPLY]
    assert page.locator("#turns .who").all_inner_texts() == ["You", "Program"]
    expect(page.locator("#status")).to_be_empty()
    # A screen reader hears the whole reply, once.
    expect(page.locator("#spoken")).to_have_text(f"Program: {REPLY}")
    assert bot.closed.acquire(timeout=10)


def test_the_conversation_so_far_goes_along(page, bot):
    say(page, "I feel alone.")
    whole(page)
    say(page, "Since May.\nIn a new town.")
    whole(page, 2)
    assert bot.asked[1] == [user("I feel alone."), assistant(REPLY), user("Since May.\nIn a new town.")]


def test_enter_sends_and_shift_enter_begins_a_line(page, bot):
    box = page.get_by_role("textbox", name="Your message")
    box.press_sequentially("One")
    box.press("Shift+Enter")
    box.press_sequentially("two")
    box.press("Enter")
    whole(page)
    assert bot.asked == [[user("One\ntwo")]]
    expect(box).to_be_focused()
    box.press("Enter")  # On nothing.
    box.press_sequentially("  ")
    box.press("Enter")
    assert len(bot.asked) == 1


def test_stop_stops_the_model_and_keeps_what_has_come(page, bot):
    bot.say(PIECES[0], None, *PIECES[1:])
    say(page, "I feel alone.")
    expect(page.locator(".assistant .words")).to_have_text(PIECES[0].strip())
    press(page, "Stop")
    bot.go_on.release()
    assert bot.closed.acquire(timeout=15)
    whole(page)
    assert turns(page) == ["I feel alone.", PIECES[0].strip()]
    expect(page.locator(".assistant .mark")).to_have_text("Stopped here.")
    expect(page.locator("#problem")).to_be_empty()
    bot.say("Yes.")
    say(page, "Still there?")
    whole(page, 2)
    assert bot.asked[-1] == [user("I feel alone."), assistant(PIECES[0].strip()), user("Still there?")]


def test_for_who_has_left_the_model_does_not_go_on(visit, bot):
    pace = threading.Event()
    bot.script["pieces"] = ("And so on. " for _ in itertools.count() if not pace.wait(0.05))
    page = visit()
    say(page, "I feel alone.")
    expect(page.locator(".assistant .words")).to_contain_text("And so on.")
    page.close()
    assert bot.closed.acquire(timeout=30)


def test_try_again_undo_and_clear(page, bot):
    say(page, "I feel alone.")
    whole(page)
    bot.say("Since when?")
    press(page, "Try again")
    expect(page.locator(".assistant .words")).to_have_text("Since when?")
    assert bot.asked == [[user("I feel alone.")], [user("I feel alone.")]]
    whole(page)
    press(page, "Undo")
    assert turns(page) == []
    expect(page.get_by_role("textbox", name="Your message")).to_have_value("I feel alone.")
    expect(page.locator("#status")).to_have_text("Your last message is back in the text box.")
    press(page, "Send")
    whole(page)
    press(page, "Clear")
    assert turns(page) == []
    expect(page.locator("#welcome")).to_be_visible()
    expect(page.locator("#spoken")).to_be_empty()
    say(page, "Hello.")
    whole(page)
    assert bot.asked[-1] == [user("Hello.")]


def test_markup_and_scripts_are_shown_as_text(page, bot):
    hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script> & <b>bold</b> [a](javascript:1)'
    bot.say(hostile)
    say(page, hostile)
    whole(page)
    assert turns(page) == [hostile, hostile]
    assert page.locator("#turns :is(img, script, b, a)").count() == 0
    assert page.title() == "A small model that listens"


def test_a_message_that_is_too_long_is_said_and_kept(page, bot):
    box = page.get_by_role("textbox", name="Your message")
    expect(box).to_have_attribute("maxlength", "4000")
    box.evaluate("(box, text) => (box.value = text)", "x" * 20_000)
    press(page, "Send")
    said = "The message is too long: 20000 characters, and at most 4000 can be sent."
    expect(page.get_by_role("alert")).to_have_text(said)
    assert len(box.input_value()) == 20_000
    assert bot.asked == []


def test_whoever_is_in_danger_meets_help_though_too_much_was_written_for_a_reply(page, bot):
    box = page.get_by_role("textbox", name="Your message")
    box.evaluate("(box, text) => (box.value = text)", "It rained. " * 1000 + CRISIS)
    press(page, "Send")
    card = page.locator(".turn.crisis")
    expect(card.get_by_role("alert")).to_contain_text("Please read this")
    expect(card.get_by_role("link").first).to_have_attribute("href", "tel:999")
    expect(page.locator("#problem")).to_contain_text("The message is too long: ")
    assert box.input_value().endswith(CRISIS)
    # What was said stands, in as much as can be sent on.
    say(page, "Hello?")
    whole(page, 2)
    first, *_, last = bot.asked[-1]
    assert len(first["content"]) <= 4000 and first["content"].endswith(CRISIS) and last == user("Hello?")
    expect(card).to_have_count(2)


def test_two_people_at_once_get_their_own_replies(visit, bot):
    bot.script["pieces"] = lambda messages: [f"You said {messages[-1]['content']}. ", None, "Go on."]
    first, second = visit(), visit()
    say(first, "apple")
    expect(first.locator(".assistant .words")).to_have_text("You said apple.")
    say(second, "river")
    expect(second.locator(".assistant .words")).to_have_text("You said river.")
    bot.go_on.release(2)
    for page, word in ((first, "apple"), (second, "river")):
        whole(page)
        assert turns(page) == [word, f"You said {word}. Go on."]


def test_whoever_waits_is_told_how_many_are_before(visit, serve, tiny_tokenizer):
    busy = ScriptedBot(tiny_tokenizer)
    busy.say("One. ", None, "Two.")
    _, address = serve(busy, concurrency=1)
    pages = [visit(at=address) for _ in range(3)]
    say(pages[0], "Hello.")
    expect(pages[0].locator(".assistant .words")).to_have_text("One.")
    say(pages[1], "Hello.")
    say(pages[2], "Hello.")
    expect(pages[2].locator("#status")).to_have_text("Waiting for your turn: 1 before you.")
    # Whoever is in danger does not wait.
    pages.append(visit(at=address))
    say(pages[3], CRISIS)
    expect(pages[3].locator(".crisis")).to_be_visible()
    expect(pages[2].locator("#status")).to_have_text("Waiting for your turn: 1 before you.")
    busy.go_on.release(3)
    for page in pages:
        whole(page)


def test_settings_reach_the_bot(page, bot):
    press(page, "Settings")
    dialog = page.get_by_role("dialog", name="Settings")
    dialog.get_by_role("slider", name="Variety of the replies").fill("1.2")
    dialog.get_by_role("slider", name="Longest reply").fill("40")
    dialog.get_by_role("combobox", name="Country").select_option("US")
    press(dialog, "Close")
    say(page, "Hello.")
    whole(page)
    assert bot.settings == [(1.2, 40, "US")]


# Help, and a crisis


def test_in_a_crisis_the_page_looks_different_and_says_so_at_once(page, bot):
    say(page, CRISIS)
    card = page.locator(".turn.crisis")
    expect(card.get_by_role("alert")).to_contain_text("Please read this")
    expected = crisis_reply(assess([user(CRISIS)]), resources_for("GB"), 0)
    assert card.get_by_role("alert").locator(".words").text_content() == expected
    links = {link.inner_text(): link.get_attribute("href") for link in card.get_by_role("link").all()}
    assert links == {
        "999": "tel:999",
        "Call \u2066116 123\u2069": "tel:116123",
        "Text SHOUT to \u206685258\u2069": "sms:85258?&body=SHOUT",
    }
    say(page, "Hello?")
    whole(page, 2)
    assert card.count() == 2  # Once said, it stands until the person says that they are safe.
    borders = page.evaluate("[...document.querySelectorAll('.turn')].map(one => getComputedStyle(one).borderTopWidth)")
    assert borders == ["0px", "2px", "0px", "2px"]
    for name in ("Try again", "Compare"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_disabled()
    assert bot.given == []
    card.first.get_by_role("button", name="Show everyone who can help").click()
    expect(page.get_by_role("dialog", name="People who can help")).to_be_visible()


def test_help_is_one_press_away_on_every_screen(page):
    help_dialog = page.get_by_role("dialog", name="People who can help")
    for screen in ("", "settings", "feedback"):
        page.evaluate("id => id && document.getElementById(id).showModal()", screen)
        press(page.locator(f"#{screen}" if screen else "header"), "Help now")
        expect(help_dialog).to_be_visible()
        expect(help_dialog).to_contain_text("Samaritans")
        page.keyboard.press("Escape")
        expect(help_dialog).to_be_hidden()
        page.evaluate("id => id && document.getElementById(id).close()", screen)


def test_help_names_every_service_of_the_chosen_country(page):
    press(page, "Help now")
    dialog = page.get_by_role("dialog")
    for code in ("GB", "US", "BR"):
        dialog.get_by_role("combobox", name="Country").select_option(code)
        resources = resources_for(code)
        assert page.locator("#services bdi").all_inner_texts() == [service.name for service in resources.services]
        expect(page.locator("#emergency .call").first).to_have_text(resources.emergency)
    dialog.get_by_role("combobox", name="Country").select_option("")
    expect(page.locator("#emergency")).to_have_text("In danger now? Call your local emergency number.")
    expect(page.locator("#no-services")).to_have_text("Choose your country to see who answers there.")
    for address in ("findahelpline.com", "befrienders.org"):
        expect(dialog.get_by_role("link", name=address)).to_have_attribute("href", f"https://{address}")


# Languages


@pytest.mark.parametrize("code", list(languages()))
def test_every_language_reaches_the_whole_page(visit, bot, code):
    texts = languages()[code]
    page = visit(locale=code)
    document = page.locator("html")
    expect(document).to_have_attribute("lang", code)
    expect(document).to_have_attribute("dir", texts["direction"])
    expect(page.locator("#notice")).to_have_text(texts["notice"])
    expect(page.locator("#message")).to_have_attribute("placeholder", texts["placeholder"])
    for kind, words in (("text", "textContent"), ("label", "ariaLabel")):
        every = f"[...document.querySelectorAll('[data-{kind}]')].map(one => [one.dataset.{kind}, one.{words}])"
        shown = page.evaluate(every)
        assert len(shown) > 5 and all(word == texts[key] for key, word in shown)
    send(page, CRISIS)
    alert = page.locator(".crisis [role=alert]")
    expect(alert.locator("h2")).to_have_text(texts["crisis_label"])
    expected = crisis_message(code, resources_for("GB"))
    if code == "en":
        expected = crisis_reply(assess([user(CRISIS)]), resources_for("GB"), 0)
    assert alert.locator(".words").text_content() == expected


def test_the_language_can_be_changed_in_the_middle(page, bot):
    arabic = languages()["ar"]
    say(page, "Hello.")
    whole(page)
    press(page, "Settings")
    page.get_by_role("combobox", name="Language").select_option("ar")
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("#settings .language-note")).to_have_text(arabic["english_only"])
    page.keyboard.press("Escape")
    assert turns(page) == ["Hello.", REPLY]
    assert page.locator("#turns .who").all_inner_texts() == [arabic["you"], arabic["program"]]
    assert page.title() == arabic["title"]
    # The person's words stand where a reader of Arabic looks for them: at the end of the line, on the left.
    places = page.evaluate("[...document.querySelectorAll('.turn')].map(one => one.getBoundingClientRect().left)")
    assert places[0] < places[1]
    page.locator("[data-open=help]").first.click()
    countries = page.locator("#country option").all_inner_texts()
    assert arabic["no_country"] == countries[0] and "المملكة المتحدة" in countries


def test_in_a_translated_language_words_go_there_and_back(visit, serve, tiny_tokenizer, translator):
    bot, german = ScriptedBot(tiny_tokenizer, country="AT"), languages()["de"]
    bot.say("That sounds lonely. ", "Since when?")
    page = visit(at=serve(bot, translators={"de": translator})[1])
    press(page, "Settings")
    page.get_by_role("combobox", name="Language").select_option("de")
    expect(page.locator("#settings .language-note")).to_have_text(german["translated"])
    page.keyboard.press("Escape")

    def write(text, count):
        send(page, text)
        whole(page, count)
        return turns(page)[-1]

    assert write("Ich fühle mich allein.", 1) == "Das klingt einsam. Seit wann?"
    bot.say("Since when? ", "I hear you.")  # The second of which comes out empty.
    assert write("Seit dem Umzug.", 2) == f"Seit wann? {german['in_english']} I hear you."
    english = [user("I feel alone."), assistant("That sounds lonely. Since when?"), user("Since I moved.")]
    assert bot.asked == [english[:1], english]
    assert write("Hm.", 3) == with_services(german["untranslated"], "de", resources_for("AT"))
    # A crisis is seen as it was written, where its translation has lost it, and in the translation alone.
    for said in ("I want to kill myself.", "Heute springe ich von der Brücke."):
        page.locator("#clear").click()
        assert write(said, 1) == crisis_message("de", resources_for("AT"))
        expect(page.locator(".turn.crisis")).to_be_visible()


# Voice


def test_speech_is_shown_for_correction_and_then_checked_like_typed_text(page, bot):
    box = page.get_by_role("textbox", name="Your message")
    box.fill("Listen.")
    press(page, "Speak")
    expect(page.get_by_role("button", name="Stop recording")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#status")).to_have_text(
        "Recording. Press again when you are done; it ends by itself after 5 seconds."
    )
    expect(page.locator("#status")).to_have_text(ENGLISH["transcribed"], timeout=40_000)
    assert re.match(r"^Listen\. .*\bkill myself tonight\b", box.input_value())
    expect(box).to_be_focused()
    assert bot.asked == []
    box.press("End")
    box.press_sequentially(" Really.")
    box.press("Enter")
    expect(page.locator(".crisis")).to_be_visible()
    assert re.search(r"kill myself tonight.* Really\.$", bot.asked[0][0]["content"])


def test_a_microphone_that_is_refused_is_said(visit):
    refuse = "async () => { throw new DOMException('', 'NotAllowedError') }"
    page = visit(script=f"navigator.mediaDevices.getUserMedia = {refuse}")
    press(page, "Speak")
    expect(page.get_by_role("alert")).to_have_text(ENGLISH["no_microphone"])
    expect(page.get_by_role("button", name="Speak")).to_have_attribute("aria-pressed", "false")


VOICES = """
window.spoken = [];
const voice = (lang, localService) => ({ lang, localService, name: lang + localService });
Object.defineProperty(window, 'speechSynthesis', { value: {
  getVoices: () => [voice('en-US', false), voice('en-GB', true), voice('de-DE', false)],
  speak: (one) => window.spoken.push([one.text, one.voice.name, one]),
  cancel: () => window.spoken.length && window.spoken.at(-1)[2].onend(),
} });
window.SpeechSynthesisUtterance = function (text) { this.text = text; };
"""


def test_a_reply_is_read_aloud_by_a_voice_of_the_device_alone(visit, bot):
    page = visit(script=VOICES)
    say(page, "Hello.")
    whole(page)
    press(page, "Read aloud")
    assert page.evaluate("window.spoken.map(one => one.slice(0, 2))") == [[REPLY, "en-GBtrue"]]
    press(page, "Stop reading")
    expect(page.get_by_role("button", name="Read aloud")).to_have_attribute("aria-pressed", "false")


# Ratings


def consent(page):
    dialog = page.get_by_role("dialog", name="Ratings for research")
    expect(dialog.get_by_role("checkbox")).not_to_be_checked()
    dialog.get_by_role("checkbox").check()
    expect(page.locator("#new-code")).to_have_text(re.compile(r"^\w{4}(-\w{4}){3}$"))
    code = page.locator("#new-code").inner_text()
    press(dialog, "Close")
    return code


def rate(place, name, reason=""):
    press(place, name)
    place.get_by_label("What makes you think so? (optional)").fill(reason)
    press(place, "Send rating")


def test_without_consent_a_thumb_asks_for_it_and_keeps_nothing(page, bot, ratings):
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "ratings" in request.url else None)
    say(page, "I feel alone.")
    whole(page)
    press(page, "Good reply")
    dialog = page.get_by_role("dialog", name="Ratings for research")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text(ENGLISH["consent_text"])
    press(dialog, "Close")
    assert asked == [] and ratings() == []


def test_a_thumb_with_consent_is_kept_and_deleted_by_its_code(page, bot, ratings):
    say(page, "I feel alone.")
    whole(page)
    press(page, "Poor reply")
    code = consent(page)
    rate(page, "Poor reply", "Too short.")
    expect(page.locator("#status")).to_have_text("Thank you. Your rating is kept.")
    (record,) = ratings()
    kept = {key: record[key] for key in ("kind", "messages", "reply", "up", "reason", "consent")}
    assert kept == {
        "kind": "thumb",
        "messages": [user("I feel alone.")],
        "reply": REPLY,
        "up": False,
        "reason": "Too short.",
        "consent": CONSENT,
    }
    assert code not in json.dumps(record)
    expect(page.get_by_role("button", name="Good reply")).to_be_disabled()
    # Withdrawn, nothing more is kept; with the code, what was kept is deleted.
    press(page, "Settings")
    press(page, "Ratings for research")
    dialog = page.get_by_role("dialog", name="Ratings for research")
    dialog.get_by_role("checkbox").uncheck()
    expect(page.locator("#feedback-status")).to_have_text(ENGLISH["withdrawn"])
    dialog.get_by_label("Your code").fill("0000-0000-0000-0000")
    press(dialog, "Delete my ratings")
    expect(page.locator("#feedback-status")).to_have_text("No ratings are kept under this code.")
    dialog.get_by_label("Your code").fill(code.lower())
    press(dialog, "Delete my ratings")
    expect(page.locator("#feedback-status")).to_have_text("Deleted: 1.")
    assert ratings() == []


def test_of_two_replies_one_is_chosen(page, bot, ratings):
    say(page, "I feel alone.")
    whole(page)
    press(page, "Good reply")
    consent(page)
    bot.say("Since when?")
    press(page, "Compare")
    pair = page.get_by_role("group", name="Which reply do you prefer?")
    expect(pair.locator(".words")).to_have_text([REPLY, "Since when?"])
    pair.get_by_role("button", name="Keep this one").nth(1).click()
    expect(pair).to_be_hidden()
    expect(page.locator("#status")).to_have_text("Thank you. Your rating is kept.")
    assert turns(page) == ["I feel alone.", "Since when?"]
    (record,) = ratings()
    assert (record["kind"], record["chosen"], record["rejected"]) == ("choice", "Since when?", REPLY)
    say(page, "Since May.")
    whole(page, 2)
    assert bot.asked[-1] == [user("I feel alone."), assistant("Since when?"), user("Since May.")]


def test_of_a_conversation_with_a_crisis_nothing_is_kept(page, bot, ratings):
    say(page, "I feel alone.")
    whole(page)
    press(page, "Good reply")
    consent(page)
    say(page, CRISIS)
    expect(page.locator(".crisis .tools")).to_be_visible()
    expect(page.locator(".crisis").get_by_role("button", name="Good reply")).to_be_hidden()
    say(page, "I am safe now, I promise. My friend is here with me and I will not hurt myself.")
    whole(page, 3)
    rate(page.locator(".turn").last, "Good reply")
    expect(page.locator("#status")).to_have_text("This rating was not kept.")
    assert ratings() == []


# Kept in the browser, for who asks


def kept(page):
    """What the browser holds of the conversation."""
    turns = page.evaluate("JSON.parse(localStorage.getItem('mh-support-conversation'))")
    return turns if turns is None else [(turn["role"], turn["content"]) for turn in turns]


def keeping(page):
    """The choice to keep the conversation, in the settings."""
    press(page.locator("header"), "Settings")
    choice = page.get_by_role("checkbox", name=ENGLISH["keep"])
    expect(choice).to_have_accessible_description(ENGLISH["keep_text"])
    return choice


def test_a_conversation_is_kept_for_who_asks_until_it_is_cleared(visit, page, bot):
    say(page, "I feel alone.")
    whole(page)
    choice = keeping(page)
    expect(choice).not_to_be_checked()
    assert kept(page) is None
    choice.check()
    page.keyboard.press("Escape")
    say(page, "Since May.")
    whole(page, 2)
    say(page, CRISIS)
    whole(page, 3)
    shown = turns(page)
    assert [content for _, content in kept(page)[:4]] == ["I feel alone.", REPLY, "Since May.", REPLY]
    page.reload()
    expect(page.locator("#status")).to_have_text(ENGLISH["restored"])
    assert turns(page) == shown
    assert page.locator(".turn.crisis").count() == 1
    assert page.locator("#conversation [role=alert]").count() == 0  # It was announced when it came.
    assert turns(visit()) == []  # Another visitor finds nothing.
    press(page, "Clear")
    assert kept(page) == []
    page.reload()
    expect(page.locator("#welcome")).to_be_visible()
    expect(page.locator("#status")).to_be_empty()
    say(page, "Hello.")
    whole(page)
    assert kept(page) == [("user", "Hello."), ("assistant", REPLY)]
    assert bot.asked[-1] == [user("Hello.")]


def test_what_was_kept_goes_on_and_is_gone_once_that_is_switched_off_in_any_window(page, bot):
    keeping(page).check()
    page.keyboard.press("Escape")
    say(page, "I feel alone.")
    whole(page)
    other = page.context.new_page()
    other.goto(page.url)
    say(other, "Since May.")
    whole(other, 2)
    assert bot.asked[-1] == [user("I feel alone."), assistant(REPLY), user("Since May.")]
    # What one window keeps reaches another in its own time.
    until(lambda: len(kept(page)) == 4)
    keeping(other).uncheck()
    until(lambda: kept(page) is None)
    expect(keeping(page)).not_to_be_checked()
    page.keyboard.press("Escape")
    say(page, "Still there?")
    whole(page, 2)
    assert kept(page) is None
    page.reload()
    assert turns(page) == []


def test_a_browser_that_lets_nothing_be_kept_says_so(visit, bot):
    refuse = "get() { throw new DOMException('', 'SecurityError'); }"
    page = visit(script=f"Object.defineProperty(window, 'localStorage', {{ {refuse} }})")
    choice = keeping(page)
    choice.click()
    expect(page.locator("#keep-status")).to_have_text(ENGLISH["keep_failed"])
    expect(choice).not_to_be_checked()
    page.keyboard.press("Escape")
    say(page, "I feel alone.")
    whole(page)


def test_what_another_page_of_the_address_left_there_is_shown_as_text_or_not_at_all(page, bot):
    hostile = "<img src=x onerror=alert(1)>"
    left = [
        ("{", []),
        ("{}", []),
        ('[null, 7, {"role": "system", "content": "x"}, {"role": "user"}]', []),
        (json.dumps([user(hostile), {**assistant(hostile), "kind": "model", "proof": ""}]), [hostile, hostile]),
    ]
    for text, shown in left:
        page.evaluate("text => localStorage.setItem('mh-support-conversation', text)", text)
        page.reload()
        expect(page.locator("#examples button")).to_have_count(3)
        assert turns(page) == shown
        assert page.locator("#turns img").count() == 0


# Said again


@pytest.mark.parametrize(("profile", "hours", "texts"), [("standard", 3, [REMINDER]), ("strict", 1, [REMINDER, BREAK])])
def test_that_it_is_a_program_is_said_again_to_who_stays_long(visit, serve, tiny_tokenizer, profile, hours, texts):
    page = visit(at=serve(ScriptedBot(tiny_tokenizer), profile=profile)[1], script=LATER)
    reminder = page.locator("#turns").get_by_role("note")
    moments = [(hours - 0.1, 0), (hours, 1), (2 * hours - 0.1, 1), (2 * hours, 2)]
    for count, (later, said) in enumerate(moments, 1):
        page.evaluate("later => (window.later = later)", later)
        say(page, "Still here.")
        whole(page, count)
        expect(reminder).to_have_count(said)
    assert reminder.last.locator("p").all_inner_texts() == texts
    # It stands before the reply, and is no part of the conversation.
    classes = page.locator("#turns > li").evaluate_all("all => all.map(one => one.className)")
    assert classes[2:5] == ["turn user", "reminder", "turn assistant"]
    press(page, "Settings")
    page.get_by_role("combobox", name="Language").select_option("de")
    german = languages()["de"]
    expect(reminder.last.locator("p").first).to_have_text(german["reminder"])
    page.keyboard.press("Escape")
    page.locator("#clear").click()
    expect(reminder).to_have_count(0)
    page.evaluate("later => (window.later = later)", 3 * hours - 0.1)  # Counted from the new beginning.
    send(page, "Hallo.")
    whole(page)
    expect(reminder).to_have_count(0)


# When something breaks


def test_offline_in_the_middle_of_a_reply_nothing_is_lost(page, bot):
    bot.say(PIECES[0], None, *PIECES[1:])
    say(page, "I feel alone.")
    expect(page.locator(".assistant .words")).to_have_text(PIECES[0].strip())
    page.locator("#message").fill("A thought half")
    page.context.set_offline(True)
    expect(page.get_by_role("alert")).to_have_text(ENGLISH["offline"])
    assert turns(page) == ["I feel alone.", PIECES[0].strip()]
    expect(page.locator("#message")).to_have_value("A thought half")
    press(page, "Help now")  # Help came with the page.
    expect(page.get_by_role("dialog")).to_contain_text("Samaritans")
    page.keyboard.press("Escape")
    bot.go_on.release()
    page.context.set_offline(False)
    expect(page.locator("#status")).to_have_text("You are connected again.")
    bot.say("Since when?")
    press(page, "Try again")
    whole(page)
    expect(page.locator(".assistant .words")).to_have_text("Since when?")
    expect(page.locator("#message")).to_have_value("A thought half")


@pytest.mark.parametrize(("status", "said"), [(503, "busy"), (500, "failed"), (422, "failed")])
def test_what_the_server_refuses_is_said_and_can_be_tried_again(page, bot, status, said):
    page.route("**/queue/join", lambda route: route.fulfill(status=status, body="{}"))
    say(page, "I feel alone.")
    expect(page.get_by_role("alert")).to_have_text(ENGLISH[said])
    assert turns(page) == ["I feel alone."]
    page.unroute("**/queue/join")
    press(page, "Try again")
    whole(page)
    assert turns(page) == ["I feel alone.", REPLY]
    expect(page.locator("#problem")).to_be_empty()


SERVER = """
import sys, threading
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from page_fixtures import ScriptedBot
from mh_support.chat_page import build_server, launch
tokenizer = SimpleNamespace(bos_token_id=0, eos_token_id=0, pad_token_id=0)
bot = ScriptedBot(tokenizer)
bot.say(*(["One. ", None, "Two."] if sys.argv[3] == "held" else ["All of it."]))
launch(build_server(bot), host="127.0.0.1", port=int(sys.argv[2]), block=True)
"""


@pytest.fixture
def start():
    """A function that starts a server of its own process on a port and returns the process once it answers."""
    processes = []

    def begin(port, kind):
        tests = str(Path(__file__).resolve().parent)
        command = [sys.executable, "-c", SERVER, tests, str(port), kind]
        environment = {**os.environ, "PYTHONPATH": str(Path(tests).parent), "PYTHONUNBUFFERED": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(command, env=environment, **pipes)
        processes.append(process)
        for line in process.stdout:
            if "Running on local URL" in line:
                return process
        raise AssertionError("the server did not start")

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def test_a_server_killed_in_the_middle_of_a_reply_and_started_again(visit, start):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start(port, "held")
    page = visit(at=f"http://127.0.0.1:{port}/")
    say(page, "I feel alone.")
    expect(page.locator(".assistant .words")).to_have_text("One.")
    page.locator("#message").fill("A thought half")
    os.kill(server.pid, signal.SIGKILL)
    expect(page.get_by_role("alert")).to_have_text(ENGLISH["connection_lost"])
    assert turns(page) == ["I feel alone.", "One."]
    press(page, "Try again")  # Nobody there yet: what was there stays.
    expect(page.get_by_role("alert")).to_have_text(ENGLISH["connection_lost"])
    assert turns(page) == ["I feel alone.", "One."]
    expect(page.locator("#message")).to_have_value("A thought half")
    say(page, "Are you there?")
    expect(page.get_by_role("alert")).to_have_text(ENGLISH["connection_lost"])
    assert turns(page) == ["I feel alone.", "One.", "Are you there?"]
    start(port, "whole")
    press(page, "Try again")
    whole(page, 2)
    assert turns(page) == ["I feel alone.", "One.", "Are you there?", "All of it."]
    expect(page.locator("#problem")).to_be_empty()


# For everyone


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("language", ["en", "de", "ar"])
def test_on_a_phone_everything_fits_and_the_notice_and_help_stay(visit, bot, language):
    page = visit(viewport=PHONE, has_touch=True, is_mobile=True, locale=language)
    assert overflow(page) <= 0
    bot.say("A long reply. " * 40 + "w" * 120)
    for count in (1, 2, 3):
        send(page, "And then it rained on the tents. " * 4)
        whole(page, count)
    page.locator("#conversation").evaluate("one => one.scrollTo(0, 300)")
    for place in ("#notice", "header .help", "#message", "#send"):
        expect(page.locator(place)).to_be_in_viewport(ratio=1)
    send(page, CRISIS)
    expect(page.locator(".crisis")).to_be_in_viewport()
    assert overflow(page) <= 0
    small = """[...document.querySelectorAll('button, a, select, input, textarea')].filter(one => one.checkVisibility())
      .filter(one => {
        const box = (one.closest('label') ?? one).getBoundingClientRect();
        return box.height && (box.height < 44 || box.width < 44);
      }).map(one => one.outerHTML)"""
    assert page.evaluate(small) == []
    for dialog in ("help", "settings", "feedback"):
        page.evaluate("id => document.getElementById(id).showModal()", dialog)
        box = page.locator(f"#{dialog}").bounding_box()
        assert box["x"] >= 0 and box["y"] >= 0
        assert box["x"] + box["width"] <= 360 and box["y"] + box["height"] <= 640
        assert page.locator(f"#{dialog}").evaluate("one => one.scrollWidth - one.clientWidth") <= 0
        assert page.evaluate(small) == []
        page.keyboard.press("Escape")


def focused(page):
    return page.evaluate("(document.activeElement.ariaLabel ?? document.activeElement.textContent).trim()")


def test_the_keyboard_alone_is_enough(page, bot):
    order = []
    for _ in range(3):
        page.keyboard.press("Tab")
        order.append(focused(page))
    assert order == ["Settings", "Help now", "Conversation"]
    page.keyboard.press("Shift+Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="People who can help")).to_be_visible()
    for _ in range(12):  # Round and round: the page behind cannot be reached.
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press("Escape")
    assert focused(page) == "Help now"
    for _ in range(5):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "message"
    page.keyboard.type("I feel alone.")
    page.keyboard.press("Enter")
    whole(page)
    for _ in range(2):  # Back from the text box: clear, undo.
        page.keyboard.press("Shift+Tab")
    assert focused(page) == "Undo"
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_have_value("I feel alone.")
    expect(page.locator("#message")).to_be_focused()


def test_everything_has_a_role_and_a_name(page, bot):
    say(page, "I feel alone.")
    whole(page)
    assert page.locator("body").aria_snapshot() == ARIA.rstrip()
    unnamed = """[...document.querySelectorAll('button, a, select, input, textarea, dialog')].filter(one =>
      !(one.textContent.trim() && one.matches('button, a')) && !one.ariaLabel && !one.labels?.length
      && !one.getAttribute('aria-labelledby')).map(one => one.outerHTML)"""
    assert page.evaluate(unnamed) == []


ARIA = f"""\
- banner:
  - heading "A small model that listens" [level=1]
  - button "Settings"
  - button "Help now"
  - note: {NOTICE}
- main:
  - region "Conversation":
    - list:
      - listitem:
        - paragraph: You
        - text: I feel alone.
      - listitem:
        - paragraph: Program
        - text: {REPLY}
        - button "Good reply"
        - button "Poor reply"
        - button "Read aloud"
- contentinfo:
  - alert
  - status
  - status: "Program: {REPLY}"
  - group "Conversation":
    - button "Try again"
    - button "Compare"
    - button "Undo"
    - button "Clear"
  - text: Your message
  - textbox "Your message":
    - /placeholder: What is on your mind?
  - button "Speak"
  - button "Send"
"""

CONTRAST = """() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if ((colour[3] ?? 1) === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !one.checkVisibility() || one.closest('script, :disabled')) continue;
    count += 1;
    const [text, back] = [light(parse(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => b - a);
    const ratio = (text + 0.05) / (back + 0.05);
    if (ratio < 4.5) poor.push([one.outerHTML.slice(0, 100), ratio]);
  }
  const box = document.getElementById('message');
  const hint = light(parse(getComputedStyle(box, '::placeholder').color)), back = light(ground(box));
  const ratio = (Math.max(hint, back) + 0.05) / (Math.min(hint, back) + 0.05);
  return { count, poor, placeholder: ratio };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(visit, bot, scheme):
    page = visit(color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(243, 245, 242)", "dark": "rgb(17, 24, 23)"}[scheme]
    states = [page.evaluate(CONTRAST)]
    say(page, "I feel alone.")
    whole(page)
    say(page, CRISIS)
    expect(page.locator(".crisis")).to_be_visible()
    page.evaluate("document.getElementById('problem').textContent = 'The connection broke off.'")
    states.append(page.evaluate(CONTRAST))
    for dialog in ("help", "settings", "feedback"):
        page.evaluate("id => document.getElementById(id).showModal()", dialog)
        states.append(page.evaluate(CONTRAST))
        page.keyboard.press("Escape")
    assert [state["poor"] for state in states] == [[]] * 5
    assert all(state["placeholder"] >= 4.5 and state["count"] > 10 for state in states)


@pytest.mark.parametrize(("language", "scheme"), [("en", "light"), ("ar", "dark")])
def test_axe_finds_no_fault(visit, bot, language, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(viewport=PHONE, locale=language, color_scheme=scheme, script=LATER)
    found = [Axe().run(page)]
    send(page, "I feel alone.")
    whole(page)
    page.evaluate("window.later = 3")
    bot.say("Since when?")
    page.locator("#compare").click()
    expect(page.locator("#pair button").last).to_be_enabled()
    expect(page.get_by_role("note")).to_have_count(2)
    found.append(Axe().run(page))
    send(page, CRISIS)
    expect(page.locator(".crisis")).to_be_visible()
    found.append(Axe().run(page))
    for dialog in ("help", "settings", "feedback"):
        page.evaluate("id => document.getElementById(id).showModal()", dialog)
        found.append(Axe().run(page))
        page.keyboard.press("Escape")
    faults = [(one["id"], one["nodes"][0]["html"]) for run in found for one in run.response["violations"]]
    assert faults == []
    assert all(len(run.response["passes"]) > 20 for run in found)


def test_the_pictures_are_taken(tmp_path):
    root = Path(__file__).resolve().parent.parent
    picture = tmp_path / "space.png"
    command = [sys.executable, str(root / "recipes" / "screenshots.py"), f"--output_dir={tmp_path}/pictures"]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, f"--readme_picture={picture}"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    states = ["crisis", "dark", "empty", "feedback", "help", "phone", "phone_crisis", "phone_reply"]
    states += ["reply", "right_to_left", "settings", "streaming", "voice"]
    assert sorted(path.stem for path in (tmp_path / "pictures").iterdir()) == states
    assert done.stdout.splitlines()[0] == f"{tmp_path}/pictures/empty.png"
    assert picture.stat().st_size < 150_000
    wrong = subprocess.run([*command, "--browser=/nowhere"], env=environment, capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "error: there is no browser at /nowhere; name a Chromium with --browser\n",
    )


def test_the_appearance_can_be_chosen(visit):
    page = visit(color_scheme="light")
    press(page, "Settings")
    for value, ground in (("dark", "rgb(17, 24, 23)"), ("light", "rgb(243, 245, 242)")):
        page.get_by_role("combobox", name="Appearance").select_option(value)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
