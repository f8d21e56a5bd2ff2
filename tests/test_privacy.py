"""What `scrub` finds and mends, and above all what it must leave alone. Every number and name here is made up."""

import doctest
import pickle
import random
import time

import pytest

from mh_support.data import contacts, privacy
from mh_support.data.cleaning import clean_text
from mh_support.data.privacy import KINDS, Scrubbed, scrub

LINE = "a crisis line in your country"

# text: (what is left, what was counted)
EMAILS = {
    "Email me at jane@roe.org.": ("", {"email": 1, "advert": 1}),
    "My ex keeps writing from j.roe+x@mail.roe.co.uk and I am scared.": (
        "My ex keeps writing and I am scared.",
        {"email": 1},
    ),
    "I wrote to jane@roe.org and waited.": ("I wrote and waited.", {"email": 1}),
    "Write to jane (at) roe (dot) org.": ("", {"email": 1}),
    "She uses jane at gmail dot com for work.": ("She uses an e-mail address for work.", {"email": 1}),
    "You matter. mailto:jane@roe.org": ("You matter.", {"email": 1}),
    "Ask the clinic (help@roe.org) for a list.": ("Ask the clinic for a list.", {"email": 1}),
}

LINKS = {
    "I tried yoga (www.yoga-roe.com) and it helped me sleep.": ("I tried yoga and it helped me sleep.", {"link": 1}),
    "You can read more about grief at https://roe.org/grief.": ("", {"link": 1}),
    "I felt better after a walk, and you can find more at www.roe.org.": ("I felt better after a walk.", {"link": 1}),
    "I use calm-roe.com every night to sleep.": ("I use a website every night to sleep.", {"link": 1}),
    "I met him on match-roe.com last year.": ("I met him last year.", {"link": 1}),
    "www.roe.org has a list of groups.": ("A website has a list of groups.", {"link": 1}),
    "Search roe.org or www.doe.org for groups near you.": ("Search a website for groups near you.", {"link": 2}),
    "Go to www.roe.org and pick a group.": ("Go to a website and pick a group.", {"link": 1}),
    "See https://a.org/x, https://b.org/y and https://c.org/z.": ("", {"link": 3}),
    "Here is a quiz... https://roe.org/quiz. You are not alone.": ("You are not alone.", {"link": 1}),
    "Read about it here: https://roe.org/a You deserve rest.": ("You deserve rest.", {"link": 1}),
    "Support groups: 1) www.roe.org 2) www.doe.org": ("Support groups.", {"link": 2}),
    "[my notes](http://roe.org/a) helped.": ("my notes helped.", {"link": 1}),
    'Read "Sad Days" (https://roe.org/a_(b)) first.': ('Read "Sad Days" first.', {"link": 1}),
    "I saw her on facebook.com/jane.roe and cried.": ("I saw her and cried.", {"link": 1}),
    "Her film (youtu.be/abc123) is short.": ("Her film is short.", {"link": 1}),
    "The group at mysite-roe.co.uk/page meets weekly.": ("The group meets weekly.", {"link": 1}),
    "The group meets weekly, see www.roe.org for times.": ("The group meets weekly.", {"link": 1}),
    "If you are ready to start, visit roe.org for more information.": ("", {"link": 1}),
    "I hope this helps www.roe.org": ("I hope this helps.", {"link": 1}),
    "www.roe.org": ("", {"link": 1}),
    "For more info: ftp://roe.org/a": ("", {"link": 1}),
}

PHONES = {
    "Call the clinic at 212-555-0147 and ask for a grief group.": (
        "Call the clinic and ask for a grief group.",
        {"phone": 1},
    ),
    "You can call (212) 555-0147 or go to the nearest hospital.": (
        "You can go to the nearest hospital.",
        {"phone": 1},
    ),
    "She gave me 212.555.0147 and left.": ("She gave me a phone number and left.", {"phone": 1}),
    "My cell is 2125550147.": ("", {"phone": 1}),
    "My cell is +1 212 555 0147 x22.": ("", {"phone": 1}),
    "His number is 555-0147.": ("", {"phone": 1}),
    "The team answers at +44 20 7946 0958 24 hours a day.": ("The team answers 24 hours a day.", {"phone": 1}),
    "The team answers at 020 7946 0958.": ("The team answers.", {"phone": 1}),
    "The team answers at 0412 345 678 too.": ("The team answers too.", {"phone": 1}),
    "The team answers at +91 98765 43210.": ("The team answers.", {"phone": 1}),
    "The team answers at 06 12 34 56 78.": ("The team answers.", {"phone": 1}),
    "Gamblers have a line (1-800-GAMBLER) too.": ("Gamblers have a line too.", {"phone": 1}),
    "The teen line is US: 212-555-0147 Canada: 212-555-0148.": ("", {"phone": 2}),
    "I was 14 in 2009, and 212-555-0147 was ours.": ("I was 14 in 2009, and a phone number was ours.", {"phone": 1}),
}

HOTLINES = {
    "Please call 1-800-273-8255.": (f"Please call {LINE}.", {"hotline": 1}),
    "Please call 1-800-273-TALK (8255) now.": (f"Please call {LINE} now.", {"hotline": 1}),
    "Call 1-800-SUICIDE (1-800-784-2433) today.": (f"Call {LINE} today.", {"hotline": 2}),
    "Call 1-800-784-2433 or 1-800-273-8255, please.": (f"Call {LINE}, please.", {"hotline": 2}),
    "Call (800) 273-8255, +1 800 273 8255 or 800.273.8255.": (f"Call {LINE}.", {"hotline": 3}),
    "The National Suicide Prevention Lifeline is 1-800-273-8255.": (f"There is {LINE}.", {"hotline": 1}),
    "Call the National Suicide Prevention Lifeline at 1-800-273-8255 or text HOME to 741741.": (
        f"Call {LINE} or text HOME to 741741.",
        {"hotline": 1},
    ),
    "Call the National\nSuicide Prevention Lifeline: 1-800-273-8255": (f"Call {LINE}", {"hotline": 1}),
    "They always answer: 1-800-273-8255. They are kind.": (
        f"They always answer: {LINE}. They are kind.",
        {"hotline": 1},
    ),
    "Call the hotline. 1-800-273-8255": (f"Call the hotline. There is {LINE}", {"hotline": 1}),
    "1-800-273-8255 is free.": ("A" + LINE[1:] + " is free.", {"hotline": 1}),
    "Call the Lifeline (1-800-273-8255).": (f"Call the Lifeline ({LINE}).", {"hotline": 1}),
    "Call 988 (formerly 1-800-273-8255).": ("Call 988.", {"hotline": 1}),
    "Call 1-888-628-9454 en español.": (f"Call {LINE} en español.", {"hotline": 1}),
    # Another number in a sentence about suicide: the phone goes, the advice to call stays.
    "If you think of suicide, call 212-555-0147.": (f"If you think of suicide, call {LINE}.", {"phone": 1}),
}

# Numbers that help today stay, whatever is cut around them.
HELP_KEPT = {
    "Call 988 or 212-555-0147.": ("Call 988.", {"phone": 1}),
    "Call 212-555-0147 or 988.": ("Call 988.", {"phone": 1}),
    "In danger, call 911 (or 988, or 212-555-0147).": ("In danger, call 911 (or 988).", {"phone": 1}),
    "Samaritans answer on 116 123 or 020 7946 0958.": ("Samaritans answer on 116 123.", {"phone": 1}),
    "If you feel unsafe call 988, or call me at 212-555-0147.": (
        "If you feel unsafe call 988, or call me.",
        {"phone": 1},
    ),
    "If you feel unsafe, call the crisis team at 212-555-0147.": (
        "If you feel unsafe, call the crisis team.",
        {"phone": 1},
    ),
    "Text HOME to 741741 or see www.roe.org.": ("Text HOME to 741741.", {"link": 1}),
    "If you feel unsafe, call 988, or see www.roe.org.": ("If you feel unsafe, call 988.", {"link": 1}),
    "Please contact me, or call 988.": ("Please contact me, or call 988.", {}),
}

SIGNED = [
    "Jane Roe, LMFT",
    "Jane Roe LCSW",
    "Dr. Jane Roe, PsyD",
    "-Dr. Roe, PhD",
    "- Jane",
    "-Jane",
    "~Jane",
    "~Jane (www.jane-roe.com and www.roe.org)",
    "Dr. Roe",
    "Warmly, Jane",
    "Best regards, Jane Roe LCSW www.jane-roe.com",
    "Best regards,\nJane Roe",
    "\n\nKind regards,\nJane Q. Roe, M.A., LPC, NCC\njane@roe.org | 212-555-0147",
    "Sincerely, Jane~Oak Tree Counseling",
    "In solidarity, -Jane",
    "With love, Jane",
    "\nJane Roe",
    "\nJane Roe\nLicensed Professional Counselor",
    "\nJane Roe, Ph.D.\nLicensed Psychologist",
    "Jane Roe, MSW, LICSW (she/her)",
    "O'Neil McRoe, LMHC",
    "Zoë Núñez, LMFT",
    "Jane Roe www.jane-roe.com",
    "J. Roe, R.N., Ph.D, C.C.C.",
]

ADVERTS = [
    "Call me at 212-555-0147 to book.",
    "Please contact us with any questions.",
    "Feel free to email me anytime.",
    "Call or text me at 212-555-0147.",
    "You can reach me at jane@roe.org for appointments.",
    "If you have questions, call me at 212-555-0147.",
    "Visit my website for tips.",
    "Please visit our website, www.roe.org, to learn more.",
    "Check out my new book, Living Well.",
    "You can read about it in my book.",
    "You may also want to look at my blog.",
    "I suggest you pick up a copy of my workbook.",
    "On my website I have exercises for this.",
    "There are free articles on my blog.",
    "Subscribe to my newsletter!",
    "You can find my podcast in every store.",
    "Follow me on Instagram.",
    "Learn more about me and my practice at www.roe.org.",
    "I offer sessions in Austin.",
    "I also offer free consultations.",
    "We provide online counseling for couples.",
    "I am a licensed clinical psychologist in Denver.",
    "I'm licensed in Ohio and Maine.",
    "Book a free consultation today!",
    "Call today for a free consultation.",
    "Schedule a session with me this week.",
    "If you would like to work with me, I have openings.",
    "I'd love to work with you.",
    "I am currently accepting new clients.",
    "- Visit my website.",
]

UNTOUCHED = [
    # credentials and names in what people tell
    "I have a PhD and feel lonely.",
    "I have a PhD and feel lonely",
    "My sister is an LCSW and judges me.",
    "Psychologists usually have a PhD or PsyD; others are LPC, LMFT or LCSW.",
    "I'm an RN, working nights, and I can't sleep.",
    "I live in Boston, MA.",
    "I miss my dog Max",
    "My best friends are Anna and Maria",
    "You can call me Anna.",
    "Dr. Roe told me to rest. Dr. Doe did not.",
    '"You are enough." - Jane Roe',
    "Good luck, Mom",
    "Thank you, God",
    "Take care, and be gentle with yourself.",
    "Thank you. Really",
    "Cheers. Goodbye",
    "What helps:\n- Walking\n- Music",
    "What helps: - Walking. - Music",
    # talk of calling, books and offers that advertises nothing
    "He never calls me back.",
    "My mother told me to call her at noon.",
    "I asked him to contact me, but he blocked me.",
    "Call me crazy, but I still love her.",
    "Please call me back, I told him.",
    "My parents call me names.",
    "In my book, respect comes first.",
    "I see this often in my practice.",
    "She read my blog and laughed at me.",
    "Many therapists offer a free consultation.",
    "You could book a session with your counselor this week.",
    "Book a free session with a counselor near you.",
    "I am seeing a therapist in New York and it helps.",
    "I am a licensed driver in Ohio.",
    "I provide for my family.",
    "I offer my husband my help and he refuses.",
    "Feel free to tell me more.",
    "If you want to talk with me about it, I am here.",
    "Reach out to someone you trust, or call a friend.",
    "I wrote an article about grief.",
    # numbers that reach nobody
    "I slept 1-10 hours, 24/7 tired, since 2016.",
    "From 1990-1995 and 2015-2020, or in 2009 2011 2015.",
    "Ages 12 13 14 15 16, and 1 2 3 4 5 6 7 8 9 10.",
    "It cost $1,200,000, or $5551234567, or 10 000 000 in all.",
    "On 2016-05-29 at 10:30-11:30, and 10/12/2019 14:30.",
    "On 2016-05-29 10",
    "There are 7000000000 people.",
    "I took 200 mg 300 mg and 0.123456789 or 3.14159265.",
    "My address ends in 90210-1234, my IP is 192.168.100.200.",
    "The book is 978-0-306-40615-7.",
    "Scores of 1200 1300 1400 and 100 200 300 400.",
    # help that is there today
    "Text HOME to 741741, or call 988 (in the US), 999, 112 or 911.",
    "Call 116 123 24 hours a day, 7 days a week.",
    "Call 116 123, 13 11 14 or 0800 1111.",
    "Look for a crisis line in your country.",
    # dots that are no links
    "I feel it.so what can I do",
    "e.g. a walk, i.e. air, in the U.S. with Node.js at 3.5 km.",
    "me@home is my mood",
    "",
]

FOUND = EMAILS | LINKS | PHONES | HOTLINES | HELP_KEPT


@pytest.mark.parametrize(("text", "expected"), FOUND.items())
def test_finds_and_mends(text: str, expected: tuple[str, dict[str, int]]) -> None:
    scrubbed = scrub(text)
    assert (scrubbed.text, scrubbed.counts) == expected


@pytest.mark.parametrize("signature", SIGNED)
def test_takes_the_signature_and_leaves_the_message(signature: str) -> None:
    scrubbed = scrub(clean_text("Be kind to yourself. " + signature))
    assert scrubbed.text == "Be kind to yourself."
    assert scrubbed.counts["signature"] == 1


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Be well, Jane Roe, LMFT", "Be well."),
        ("Be wellJane Roe, LMFT", "Be well."),
        ("Hope this helps, Jane", "Hope this helps."),
        ("Hope this helps, J", "Hope this helps."),
        ("Best of luck to both of you, Jane", "Best of luck to both of you."),
        ("Good luck!! Jane Roe", "Good luck!!"),
        ("You can do it! J", "You can do it!"),
        ('He says: "rest!" ~Jane (www.roe.org)', 'He says: "rest!"'),
        ("Jane Roe, LMFT", ""),
    ],
)
def test_a_closing_that_says_something_stays(text: str, kept: str) -> None:
    scrubbed = scrub(text)
    assert scrubbed.text == kept
    assert scrubbed.counts["signature"] == 1


@pytest.mark.parametrize("advert", ADVERTS)
def test_the_whole_advert_goes(advert: str) -> None:
    scrubbed = scrub(f"Rest helps. {advert} You matter.")
    assert scrubbed.text == "Rest helps. You matter."
    assert scrubbed.counts["advert"] == 1


@pytest.mark.parametrize("text", UNTOUCHED)
def test_leaves_alone(text: str) -> None:
    assert scrub(text) == Scrubbed(text, {})


@pytest.mark.parametrize("text", UNTOUCHED)
def test_leaves_alone_before_a_real_find(text: str) -> None:
    """A find elsewhere must not change how a harmless line is read."""
    scrubbed = scrub(f"{text}\nThen rest.\nwww.roe.org")
    assert scrubbed.text == f"{text}\nThen rest.".strip()
    assert scrubbed.counts == {"link": 1}


def test_paragraphs_survive_around_what_goes() -> None:
    text = "First thought.\n\nVisit my website. Second thought.\n\nCall me at 212-555-0147.\n\nThird thought."
    assert scrub(text).text == "First thought.\n\nSecond thought.\n\nThird thought."


def test_one_message_with_everything() -> None:
    text = (
        "I hear you. Call 1-800-273-8255 if it gets worse. I offer sessions in Austin. Ask the library (www.roe.org). "
        "Write to jane@roe.org or phone 212-555-0147. You matter. Warmly, Jane Roe, LCSW"
    )
    scrubbed = scrub(text)
    assert scrubbed.text == f"I hear you. Call {LINE} if it gets worse. Ask the library. You matter."
    assert scrubbed.counts == {"hotline": 1, "advert": 1, "link": 1, "email": 1, "phone": 1, "signature": 1}
    assert set(scrubbed.counts) == set(KINDS)


def test_works_on_what_cleaning_separates() -> None:
    """Links glued to the next sentence are the usual case in scraped replies."""
    raw = "Try breathing slowly.Read it here: https://roe.org/breatheIf it helps, go on.Jane Roe, LMFTwww.roe.org"
    assert scrub(clean_text(raw)).text == "Try breathing slowly. If it helps, go on."


@pytest.mark.parametrize("text", [*FOUND, *SIGNED, *ADVERTS, *UNTOUCHED])
def test_is_idempotent_and_stays_clean(text: str) -> None:
    once = scrub(clean_text(text))
    assert scrub(once.text) == Scrubbed(once.text, {})
    assert clean_text(once.text) == once.text


def test_is_idempotent_on_random_mixtures_and_never_leaks() -> None:
    pieces = (
        "Call|call me|at|212-555-0147|jane@roe.org|www.roe.org|https://a.doe.org/b?c=d|(|)|.|,|!|?|:|and|or|you can"
    )
    pieces += (
        "|Visit my website|read|here|Jane|Roe|, LMFT|Best regards,|Be well|-|~Jane|\n|988|116 123|1-800-273-8255|24/7"
    )
    pieces += (
        "|1-800-273-TALK|1-800-SUICIDE|the National Suicide Prevention Lifeline|is|my book|I offer sessions in Austin"
    )
    pieces += (
        f"|I feel sad|If you|go to|+44 20 7946 0958|2016|1-10|[|]|Dr.|hope this helps|use|{LINE}|¿Qué|For more info|;|…"
    )
    mixer = random.Random(8)
    for _ in range(2500):
        text = clean_text(" ".join(mixer.choices(pieces.split("|"), k=mixer.randint(1, 16))))
        once = scrub(text)
        assert scrub(once.text) == Scrubbed(once.text, {}), repr(text)
        assert clean_text(once.text) == once.text, repr(text)
        assert not any(leak in once.text for leak in ("555-0147", "roe.org", "doe.org", "7946", "273-", "800-")), repr(
            text
        )
        assert set(once.counts) <= set(KINDS) and all(once.counts.values())
        assert once.counts or once.text == text


@pytest.mark.parametrize(
    "hostile",
    [
        "a." * 30_000,
        "a@" * 30_000,
        "1 " * 30_000,
        "800-" * 10_000,
        "www." * 20_000,
        "call me " * 5_000,
        "I offer " * 5_000,
        "if you would like " * 3_000,
        "Jane " * 10_000,
        "Jane Roe, LMFT " * 3_000,
        "or www.x.com, " * 2_000,
        "you can read " * 3_000 + "my book",
        "https://a.b/" + "?" * 30_000,
        "\n" * 50_000,
        ", " * 20_000 + "www.x.com",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_hostile_text_costs_no_more_than_its_length(hostile: str) -> None:
    started = time.process_time()
    scrub(hostile)
    assert time.process_time() - started < 8  # seconds; a quadratic pattern needs minutes


def test_repr_keeps_what_a_person_wrote_to_itself() -> None:
    assert repr(scrub("Jane is my secret. www.roe.org")) == "Scrubbed(counts={'link': 1})"


def test_result_is_frozen_and_travels_between_processes() -> None:
    scrubbed = scrub("You matter. www.roe.org")
    with pytest.raises(AttributeError):
        scrubbed.text = "x"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(scrubbed)) == scrubbed


@pytest.mark.parametrize(("value", "name"), [(None, "NoneType"), (3, "int"), (b"x", "bytes")])
def test_refuses_what_is_not_text(value: object, name: str) -> None:
    with pytest.raises(ValueError, match=f"^scrub got {name}, expected str; drop or fill empty cells first$"):
        scrub(value)  # type: ignore[arg-type]


def test_writes_nothing_to_the_log(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(0):
        scrub("Call me at 212-555-0147. Jane Roe, LMFT")
    assert caplog.text == ""
    assert capsys.readouterr() == ("", "")


def test_docstring_examples_are_true() -> None:
    results = doctest.testmod(privacy)
    assert results.attempted > 0
    assert results.failed == 0


def test_a_long_run_of_digits_is_searched_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    search = contacts._without_phones
    monkeypatch.setattr(contacts, "_without_phones", lambda digits: seen.append(len(digits)) or search(digits))
    scrub("1234567890 " * 5000)
    # Each part is taken up again after each number found in it, of which a part holds at most a score.
    assert max(seen) <= 160
    assert sum(seen) < 20 * 11 * 5000
