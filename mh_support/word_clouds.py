"""Word clouds of a run's training dialogues: what people write about, and what the replies say."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.font_manager import findfont

from mh_support.drawing import BLUE, DOTS_PER_INCH, INK, new_figure, save, say

WORDS_SHOWN, FEW_WORDS = 120, 20
# A word that a single person used may be a name or a place: only words that two texts share are shown.
TEXTS_SHARING_A_WORD = 2
# Words that say nothing of what a conversation is about, beyond the stop words of wordcloud and scikit-learn.
EMPTY_WORDS = """
able actually ago ask asked asking asks away bit called came come comes coming day days eight eleven exactly far
find forty found gave gets getting given goes going gone good got hear hour hours keeps kept kind knew know
knows leave left let little long look looked looking looks lot lots make makes making maybe mean means meant
minute minutes month months near need needs new nine okay old ones past people person place quite read real
really right round said sat saw say saying says second seen sentence seven short sit small somebody soon sort
start started stood stop stopped stuff sure taken takes tell telling thank thanks thing things think thinking
thinks thirty thought till time times today told tomorrow took try trying turn twenty use used want wanted wants
way week weeks went whether will wonder word words yeah year years yes yesterday
"""


def word_clouds(contexts: Sequence[str], responses: Sequence[str], directory: Path) -> list[Path]:
    """Draw the words of both sides as `contexts.png` and `responses.png` in `directory`.

    The larger a word, the more texts hold it. Stop words are dropped, and so is every word that only one text holds.
    The same texts always give the same pictures.
    """
    return [
        _word_cloud(contexts, "What people write about", Path(directory) / "contexts.png"),
        _word_cloud(responses, "What the replies say", Path(directory) / "responses.png"),
    ]


def _word_cloud(texts: Sequence[str], title: str, path: Path) -> Path:
    from wordcloud import WordCloud  # Only here: it brings Pillow along.

    shared = {word: count for word, count in count_words(texts).items() if count >= TEXTS_SHARING_A_WORD}
    height = 640 if len(shared) > FEW_WORDS else 200
    figure = new_figure(
        9,
        1.2 + height / DOTS_PER_INCH,
        title,
        f"Training dialogues: {len(texts):,}. The larger a word, the more of them hold it.",
        "Common words are left out, and so are words that a single dialogue holds.",
    )
    if not shared:
        return say(figure, "Common words aside, no word stands in two dialogues.", path)
    most = max(shared.values())
    cloud = WordCloud(
        width=1300,
        height=height,
        background_color="white",
        max_words=WORDS_SHOWN,
        font_path=findfont("DejaVu Sans"),
        random_state=42,
        prefer_horizontal=1.0,
        max_font_size=130,
        relative_scaling=0.6,
        color_func=lambda word, **_: BLUE if shared[word] > most / 3 else INK,
    ).generate_from_frequencies(dict(sorted(shared.items())))
    axes = figure.subplots()
    axes.imshow(cloud.to_array(), interpolation="bilinear")
    axes.set_axis_off()
    return save(figure, path)


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Count, for every word that is not a stop word, how many of `texts` hold it."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
    from wordcloud import STOPWORDS

    dropped = STOPWORDS | ENGLISH_STOP_WORDS | set(EMPTY_WORDS.split())
    counts: Counter[str] = Counter()
    for text in texts:
        words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text.lower().replace("\u2019", "'"))
        # A word's 's goes; what still holds an apostrophe is a contraction such as needn't.
        plain = {word.removesuffix("'s") for word in words}
        counts.update(word for word in plain if len(word) > 2 and "'" not in word and word not in dropped)
    return counts
