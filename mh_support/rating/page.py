"""The rating page: one reply or one pair at a time, kept when it is saved, left and taken up again at will."""

from __future__ import annotations

import html
import os
from typing import Any

# Before gradio is loaded: nothing about a visit is reported to anybody.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from mh_support.rating.answers import AnswerStore
from mh_support.rating.questions import CRITERIA, PREFERENCES, QUALIFICATIONS, SCALE, VETO_RULE, caution
from mh_support.rating.rating_set import Task
from mh_support.rating.sheets import SPEAKERS
from mh_support.safety.resources import known_addresses

TITLE = "Rating replies"
WELCOME = f"""# {TITLE}

You will read what somebody wrote, and a reply to it. Say how good each reply is, then which of two is better. Some
replies were written by people and some by programs; you are not told which. Stop whenever you like. Each answer is kept
when you save it, and you can go on another day under the same name."""
THANKS = "# Thank you\n\nYou have answered everything. You can close this page, or go back and change an answer."
# The device's own fonts: nothing has to be fetched.
THEME = gr.themes.Soft(primary_hue="teal", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
STYLE = """
.said { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5; padding: .6em .9em; margin: .3em 0;
        border-radius: .6em; border: 1px solid var(--border-color-primary); }
.said b { display: block; font-size: .85em; opacity: .75; }
"""
Update = dict[Any, Any]


def build(store: AnswerStore, country: str | None = None) -> gr.Blocks:
    """Return the page for one rating set, with help in a country. It never reads the key."""
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(_linked(caution(country)))  # In sight all the time.
        rater_name = gr.State("")
        # What the answer belongs to travels with it: a second click cannot answer the next question.
        task_id = gr.Textbox(visible=False)
        with gr.Column() as welcome:
            gr.Markdown(WELCOME)
            name = gr.Textbox(label="A name that you make up", info="Letters, digits, - and _; not your own name.")
            qualification = gr.Radio(
                [(f"{key}: {meaning}", key) for key, meaning in QUALIFICATIONS.items()], label="Who you are"
            )
            begin = gr.Button("Begin, or go on", variant="primary")
        with gr.Column(visible=False) as work:
            progress = gr.Markdown()
            context = gr.HTML()
            replies = gr.HTML()
            with gr.Column() as rating:
                gr.Markdown(f"Move every slider, also where the middle is right. {VETO_RULE}")
                sliders = [
                    gr.Slider(*SCALE, value=50, step=1, label=metric.label, info=metric.reading) for metric in CRITERIA
                ]
                # A slider that nobody moved holds a number too, which is nobody's answer.
                touched = [gr.State(False) for _ in CRITERIA]
            choice = gr.Radio([(label, key) for key, label in PREFERENCES.items()], label="Which would you rather get?")
        with gr.Column(visible=False) as done:
            gr.Markdown(THANKS)
        problem = gr.Markdown()
        with gr.Row(visible=False) as buttons:
            back = gr.Button("Back")
            save = gr.Button("Save", variant="primary")
        shown = [rater_name, task_id, welcome, work, done, buttons, save, progress, context, replies, rating]
        shown += [*sliders, *touched, choice, problem]

        def show(rater: str, task: Task | None) -> Update:
            """Return the page at a task, filled in where it was answered; at the end where there is none."""
            given = store.answers(rater)
            update: Update = {
                rater_name: rater,
                task_id: "" if task is None else task.id,
                welcome: gr.update(visible=False),
                work: gr.update(visible=task is not None),
                done: gr.update(visible=task is None),
                buttons: gr.update(visible=True),
                save: gr.update(visible=task is not None),
                problem: "",
            }
            if task is None:
                return update
            answer = given.get(task.id, {})
            for slider, moved, metric in zip(sliders, touched, CRITERIA, strict=True):
                update |= {slider: answer.get(metric.key, 50), moved: metric.key in answer}
            return update | {
                progress: f"{len(given):,} of {len(store.rating_set.tasks):,} answered, {rater}",
                context: _as_html([(SPEAKERS[turn["role"]], turn["content"]) for turn in task.context]),
                replies: _as_html(_labelled(task)),
                rating: gr.update(visible=task.kind == "rating"),
                choice: gr.update(visible=task.kind == "preference", value=answer.get("preferred")),
            }

        def start(given_name: str, given_qualification: str | None) -> Update:
            try:
                rater = store.sign_in(given_name.strip(), given_qualification or "")
            except ValueError as error:
                return {problem: _problem(error)}
            return show(rater.name, _next_open(store, rater.name, None))

        def keep(rater: str, task: str, preferred: str | None, *values: Any) -> Update:
            known = store.known(rater)
            if known is None:
                return {problem: _problem("reload the page and begin again; what you saved is kept")}
            scores = zip(CRITERIA, values[: len(CRITERIA)], values[len(CRITERIA) :], strict=True)
            given = {metric.key: value if moved else None for metric, value, moved in scores}
            try:
                store.save(known, task, {**given, "preferred": preferred})
            except ValueError as error:
                return {problem: _problem(error)}
            return show(rater, _next_open(store, rater, task))

        def step_back(rater: str, task: str) -> Update:
            order = store.rating_set.order(rater)
            places = [place for place, other in enumerate(order) if other.id == task]
            return show(rater, order[max(0, places[0] - 1)] if places else order[-1])

        for slider, moved, metric in zip(sliders, touched, CRITERIA, strict=True):
            slider.input(lambda: True, outputs=moved, queue=False, api_name=f"move_{metric.key}")
        begin.click(start, [name, qualification], shown, api_name="begin")
        save.click(keep, [rater_name, task_id, choice, *sliders, *touched], shown, api_name="save")
        back.click(step_back, [rater_name, task_id], shown, api_name="back")
    return page


def serve(store: AnswerStore, *, host: str | None = None, port: int | None = None, country: str | None = None) -> None:
    """Serve the page until stopped; no file of the set's folder can be fetched through it."""
    folder = str(store.rating_set.folder.resolve())
    build(store, country).launch(server_name=host, server_port=port, theme=THEME, css=STYLE, blocked_paths=[folder])


def _next_open(store: AnswerStore, rater: str, after: str | None) -> Task | None:
    """Return the first task after `after` that is not answered, going round; None where all are."""
    order = store.rating_set.order(rater)
    given = store.answers(rater)
    start = next((place + 1 for place, task in enumerate(order) if task.id == after), 0)
    return next((task for task in order[start:] + order[:start] if task.id not in given), None)


def _labelled(task: Task) -> list[tuple[str, str]]:
    labels = ["The reply"] if len(task.replies) == 1 else ["The first reply", "The second reply"]
    return list(zip(labels, task.replies, strict=True))


def _as_html(said: list[tuple[str, str]]) -> str:
    """Return texts as text: what stands in them is shown, never run."""
    return "".join(
        f'<div class="said"><b>{speaker}</b>{html.escape(text) or "(no words)"}</div>' for speaker, text in said
    )


def _linked(text: str) -> str:
    """Return a text with the addresses of those who list help as links."""
    for address in known_addresses():
        text = text.replace(address, f"[{address}](https://{address})")
    return text


def _problem(error: ValueError | str) -> str:
    return f"**Not saved:** {error}"
