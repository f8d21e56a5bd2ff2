"""Rating by people: blinded sets of replies, answers kept at once, and what the raters' numbers can carry."""

from importlib.util import find_spec

from mh_support.extras import how_to_install

LIBRARIES = ("choix", "gradio", "krippendorff", "pingouin", "statsmodels")


def check_installed() -> None:
    """Raise ValueError if a library that only ratings need is missing."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise ValueError(f"what ratings need is not installed ({', '.join(missing)}); {how_to_install('rating')}")
