"""The rating page, driven as a browser drives it: nothing is lost, nothing unmoved counts, the key stays hidden."""

# ruff: noqa: F811 - the fixtures that are imported are the arguments' names.

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from gradio_client import Client
from playwright.sync_api import Browser, Page, expect, sync_playwright
from rating_fixtures import base, made, rating_set, run, store  # noqa: F401
from training_fixtures import ROOT, one_thread  # noqa: F401

from mh_support.rating.page import STYLE, THEME, build
from mh_support.rating.questions import CRITERIA, caution
from mh_support.safety.resources import known_addresses

MOVED = [f"/move_{metric.key}" for metric in CRITERIA]


@pytest.fixture
def page(store):
    """The page's address, served without the key, which it must not need."""
    (store.rating_set.folder / "key.json").unlink()
    blocks = build(store)
    blocks.launch(
        prevent_thread_lock=True, quiet=True, theme=THEME, css=STYLE, blocked_paths=[str(store.rating_set.folder)]
    )
    yield blocks.local_url
    blocks.close()


def shown(update) -> dict:
    """Return what the page shows after an event: task, progress, context, replies, choice and problem."""
    texts = [part for part in update if isinstance(part, str)]
    return {
        "task": update[0],
        "progress": next((text for text in texts if "answered" in text), ""),
        "said": " ".join(text for text in texts if "said" in text),
        "problem": texts[-1] if texts else "",
    }


def begin(client: Client, name: str, qualification: str | None = "peer") -> dict:
    return shown(client.predict(name, qualification, api_name="/begin"))


def save(client: Client, task: str, *, preferred: str | None = None, scores=(1, 2, 3, 90)) -> dict:
    return shown(client.predict(task, preferred, *scores, api_name="/save"))


def test_a_rater_rates_leaves_and_goes_on(page, store):
    order = store.rating_set.order("ann")
    client = Client(page, verbose=False)
    first = begin(client, "ann")
    assert first["task"] == order[0].id and first["progress"] == "0 of 174 answered, ann"
    assert order[0].context[0]["content"] in first["said"]

    # Sliders that nobody moved hold numbers too, which are nobody's answer.
    assert save(client, order[0].id)["problem"] == "**Not saved:** empathy is missing; give a number from 0 to 100"
    assert store.answers("ann") == {}
    for move in MOVED:
        client.predict(api_name=move)
    second = save(client, order[0].id)
    assert (second["task"], second["progress"]) == (order[1].id, "1 of 174 answered, ann")
    assert store.answers("ann") == {order[0].id: {"empathy": 1, "relevance": 2, "coherence": 3, "safety": 90}}
    # The next reply begins with nothing moved.
    assert "empathy is missing" in save(client, order[1].id)["problem"]

    again = begin(Client(page, verbose=False), "ann")
    assert (again["task"], again["progress"]) == (order[1].id, "1 of 174 answered, ann")


def test_choices_are_kept_and_back_shows_the_answer(page, store):
    ann = store.sign_in("ann", "peer")
    order = store.rating_set.order("ann")
    for task in order[:4]:
        store.save(ann, task.id, {"empathy": 9, "relevance": 9, "coherence": 9, "safety": 9})
    client = Client(page, verbose=False)
    pair = begin(client, "ann")
    assert pair["task"] == order[4].id and "The first reply" in pair["said"] and "The second reply" in pair["said"]
    assert "preferred is missing" in save(client, order[4].id)["problem"]
    assert save(client, order[4].id, preferred="second")["task"] == order[5].id
    assert store.answers("ann")[order[4].id] == {"preferred": "second"}

    back = shown(client.predict(order[4].id, api_name="/back"))
    assert back["task"] == order[3].id
    # The answer given before stands as if it had just been moved there, and is saved again.
    assert save(client, order[3].id, scores=(8, 8, 8, 8))["problem"] == ""
    assert store.answers("ann")[order[3].id]["empathy"] == 8


def test_the_last_answer_is_thanked_for(page, store):
    ann = store.sign_in("ann", "peer")
    order = store.rating_set.order("ann")
    for task in order[:-1]:
        given = {metric.key: 50 for metric in CRITERIA} if task.kind == "rating" else {"preferred": "first"}
        store.save(ann, task.id, given)
    client = Client(page, verbose=False)
    assert begin(client, "ann")["task"] == order[-1].id
    assert save(client, order[-1].id, preferred="first")["task"] == ""
    assert len(store.answers("ann")) == 174


def test_who_does_not_say_who_they_are_does_not_begin(page, store):
    client = Client(page, verbose=False)
    assert "a rater's name is 1 to 32 letters" in begin(client, "../ann")["problem"]
    assert "the qualification is ''; it is one of peer, trained, licensed" in begin(client, "ann", None)["problem"]
    assert "reload the page and begin again" in save(client, store.rating_set.order("ann")[0].id)["problem"]
    assert store.all() == {}


def test_raters_are_told_what_they_read_and_where_help_is(store):
    said = caution()
    assert said.startswith(
        "For research and education. Many of the replies come out of a program, just as it wrote them"
    )
    assert "not a therapist, and never a replacement for professional care" in said
    assert "call your local emergency number. People who listen" in said
    assert said.endswith("are listed at findahelpline.com and befrienders.org.")
    assert "call 999. Samaritans: call 116 123. Shout: text SHOUT to 85258. People" in caution("gb")
    shown = [block.value for block in build(store, "GB").blocks.values() if hasattr(block, "value")]
    assert [text for text in shown if "call 999. Samaritans: call 116 123." in str(text)]


def test_texts_are_shown_as_text(store, rating_set):
    from mh_support.rating.page import _as_html

    assert _as_html([("Person", "<script>alert(1)</script> & 'so'"), ("The reply", "")]) == (
        '<div class="said"><b>Person</b>&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#x27;so&#x27;</div>'
        '<div class="said"><b>The reply</b>(no words)</div>'
    )


def test_the_page_asks_nobody_else_for_anything(page):
    text = httpx.get(page).text
    # What the page loads by itself; links that somebody would have to click are not loaded.
    loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"([^\"]+)\"", text)
    assert loaded
    assert [
        place for place in loaded if place.startswith(("http:", "https:", "//")) and not place.startswith(page)
    ] == []


def test_in_a_browser_each_answer_is_kept_at_once_and_the_page_is_left_and_taken_up(page, store):
    """With a keyboard alone, and without a request to anywhere else."""
    outside: list[str] = []

    def visit(browser: Browser) -> Page:
        tab = browser.new_context().new_page()
        tab.on(
            "request", lambda request: None if request.url.startswith((page, "data:")) else outside.append(request.url)
        )
        tab.set_default_timeout(60_000)
        tab.goto(page)
        tab.get_by_label("A name that you make up").fill("ann")
        tab.get_by_label("peer: no training in counselling").check()
        tab.get_by_role("button", name="Begin, or go on").press("Enter")
        return tab

    expect.set_options(timeout=60_000)
    order = store.rating_set.order("ann")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        tab = visit(browser)
        expect(tab.get_by_text("0 of 174 answered, ann")).to_be_visible()
        expect(tab.get_by_text(order[0].context[0]["content"])).to_be_visible()
        # What wrote the replies and where help is stays in sight.
        expect(tab.get_by_text("never a replacement for professional care")).to_be_visible()
        for address in known_addresses():
            expect(tab.get_by_role("link", name=address)).to_have_attribute("href", f"https://{address}")
        tab.get_by_role("button", name="Save").press("Enter")
        expect(tab.get_by_text("Not saved: empathy is missing; give a number from 0 to 100")).to_be_visible()
        for metric in CRITERIA:
            with tab.expect_response(lambda response: "/run/" in response.url):
                tab.get_by_label(f"range slider for {metric.label}").press("ArrowRight")
        tab.get_by_role("button", name="Save").press("Enter")
        expect(tab.get_by_text("1 of 174 answered, ann")).to_be_visible()
        assert store.answers("ann") == {order[0].id: {metric.key: 51 for metric in CRITERIA}}
        tab.close()
        expect(visit(browser).get_by_text("1 of 174 answered, ann")).to_be_visible()
        browser.close()
    assert outside == []


def test_the_served_set_hides_its_key_and_outlives_kill_9(store):
    """The recipe as people start it; what was saved is there after kill -9, and the page goes on from there."""
    folder = store.rating_set.folder
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "recipes" / "rate.py"), "serve", str(folder), "--port", str(port)]
    server = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 100
        while server.poll() is None and time.monotonic() < deadline:
            try:
                if httpx.get(address, timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        client = Client(address, verbose=False)
        task = begin(client, "ann", "licensed")["task"]
        for move in MOVED:
            client.predict(api_name=move)
        after = save(client, task)["task"]
        for name in ("key.json", "set.json", "answers/ann.jsonl"):
            assert httpx.get(f"{address}/gradio_api/file={folder / name}").status_code == 403
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()

    assert server.returncode == -signal.SIGKILL
    assert store.answers("ann") == {task: {"empathy": 1, "relevance": 2, "coherence": 3, "safety": 90}}
    assert store.known("ann").qualification == "licensed"
    assert store.rating_set.order("ann")[1].id == after
