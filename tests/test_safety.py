"""The services, what answers a crisis, what is not fit to send, and what the package offers.

The sentences below were written for this project. They are examples of how people put things, some of them hard to
read; a phrase that is changed must keep all of them on their side.
"""

import codecs
import json
import re
import subprocess
import sys
from datetime import date
from importlib.resources import files
from itertools import pairwise

import pytest
from safety_fixtures import check_reply, lines

from mh_support import safety
from mh_support.safety import NOTICE, SAFE_REPLY, Assessment, ReplyCheck, crisis_reply, resources_for, safe_reply
from mh_support.safety import resources as resources_module
from mh_support.safety.crisis_rules import CATEGORIES
from mh_support.safety.resources import countries, known_numbers

# --- Resources


def test_resources_cover_these_countries():
    codes = "US CA GB IE AU NZ DE FR ES IT PT NL BE AT CH SE NO DK FI IN ZA BR MX JP KR PH MY KE"
    assert set(codes.split(" ")) < set(countries())


@pytest.mark.parametrize("code", countries())
def test_an_entry_is_whole_and_fresh(code):
    found = resources_for(code)
    assert re.fullmatch(r"[A-Z]{2}", code) and found.country == code
    assert all(re.fullmatch(r"\d{3,4}", number) for number in found.emergency.split(" or "))
    assert found.directories == resources_for(None).directories
    for service in found.services:
        assert service.name and service.number and re.fullmatch(r"[\d *-]+", service.number)
        assert service.how in (("call",), ("text",), ("call", "text"))
        assert service.topic in ("anyone", "abuse")
        assert service.source.startswith("https://")
        assert service.hours and isinstance(service.free, bool)
        assert service.keyword is None or service.how == ("text",)
        age = (date.today() - service.last_verified).days
        assert -1 <= age < 365, f"{code}: {service.name} was last gone over {age} days ago; check it again"


@pytest.mark.parametrize(
    ("code", "emergency", "numbers"),
    [
        ("US", "911", ["988", "741741", "1-800-799-7233"]),
        ("CA", "911", ["988"]),
        ("GB", "999", ["116 123", "85258", "0808 2000 247"]),
        ("IE", "112 or 999", ["116 123", "50808", "1800 341 900"]),
        ("AU", "000", ["13 11 14", "0477 13 11 14", "1800 737 732"]),
        ("NZ", "111", ["1737", "0800 733 843"]),
        ("DE", "112", ["0800 111 0 111", "116 016"]),
        ("FR", "112", ["3114", "3919"]),
        ("ES", "112", ["024", "016"]),
        ("NL", "112", ["0800-0113", "0800-2000"]),
        ("IN", "112", ["14416", "181"]),
        ("BR", "192", ["188", "180"]),
        ("KR", "119", ["109", "1366"]),
        ("KE", "999 or 112", []),
    ],
)
def test_the_numbers(code, emergency, numbers):
    found = resources_for(code)
    assert (found.emergency, [service.number for service in found.services]) == (emergency, numbers)


@pytest.mark.parametrize("code", [None, "", "XX", "Springfield", "usa"])
def test_elsewhere_there_are_directories(code):
    found = resources_for(code)
    assert (found.country, found.emergency, found.services) == (None, "your local emergency number", ())
    assert [(directory.name, directory.address) for directory in found.directories] == [
        ("Find A Helpline", "findahelpline.com"),
        ("Befrienders Worldwide", "befrienders.org"),
    ]


def test_a_country_is_found_in_any_case():
    assert resources_for(" us ") == resources_for("US")
    assert resources_for("uk") == resources_for("GB")


def test_a_country_that_is_no_string():
    with pytest.raises(ValueError, match=re.escape("country is 49; give a two-letter code such as 'GB', or None")):
        resources_for(49)


def test_services_for_a_topic_come_first():
    found = resources_for("US")
    assert [service.number for service in found.services_for()] == ["988", "741741"]
    assert [service.number for service in found.services_for({"abuse", "suicide"})] == ["1-800-799-7233", "988"]
    assert [service.contact for service in found.services] == [
        "call or text 988",
        "text HOME to 741741",
        "call 1-800-799-7233",
    ]
    assert resources_for("CA").services_for({"abuse"}) == resources_for("CA").services
    assert resources_for(None).services_for({"abuse"}) == ()


def test_the_note_tells_that_a_person_must_check():
    table = json.loads((files("mh_support.safety") / "resources.json").read_text(encoding="utf-8"))
    assert "a person must check every entry against its source" in " ".join(table["note"])


# --- Replies that are never generated

NAMES_A_PROFESSIONAL = re.compile(r"doctor|therapist|counsellor|social worker|crisis (?:team|worker)")
NEVER_SAID = re.compile(
    r"promise|selfish|shame|guilt|attention|commit|\bmust\b|you have (?:depression|a disorder)|as a (?:therapist|human)"
    r"|I understand|I know how|overdose|\bhang|\bcut\b|\bgun\b|\brope\b|\bpill|[{}<>]",
    re.IGNORECASE,
)


def reply_to(level, category, country, turn):
    return crisis_reply(Assessment(level, frozenset({category})), resources_for(country), turn)


def assert_fit(reply, level, category, country):
    found = resources_for(country)
    services = found.services_for({category})
    assert check_reply(reply) == ReplyCheck(True, ())
    assert found.emergency in reply
    assert all(f"{service.contact} ({service.name}, " in reply for service in services)
    if not any(service.free and service.round_the_clock for service in services):
        assert "findahelpline.com and befrienders.org" in reply
    assert NAMES_A_PROFESSIONAL.search(reply) and "trust" in reply and "?" in reply
    assert not NEVER_SAID.search(reply)
    assert len(reply.split()) <= 160 and reply.count("\n\n") == 2
    if level == "crisis":
        assert "safe" in reply.split("\n\n")[0] and "?" in reply.split("\n\n")[0]
    else:
        first, second, _ = reply.split("\n\n")
        assert f"all {found.emergency}" in first
        assert re.search(r"\bstay\b", second) and re.search(r"\b(?:move|far|distance)\b", second, re.IGNORECASE)


@pytest.mark.parametrize("category", ["suicide", "abuse"])
@pytest.mark.parametrize("level", ["crisis", "emergency"])
@pytest.mark.parametrize("country", [*countries(), None])
def test_a_reply_in_every_country(country, level, category):
    for turn in range(5):  # No part of a reply has more than five variants.
        assert_fit(reply_to(level, category, country, turn), level, category, country)


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("level", ["crisis", "emergency"])
@pytest.mark.parametrize("country", ["GB", None])
def test_a_reply_about_everything_at_every_turn(country, level, category):
    replies = [reply_to(level, category, country, turn) for turn in range(20)]
    for reply in replies:
        assert_fit(reply, level, category, country)
    for one, next_one in pairwise(replies):
        assert one.split("\n\n")[0] != next_one.split("\n\n")[0]
        assert one.split("\n\n")[2] != next_one.split("\n\n")[2]
    assert len(set(replies)) >= 12


def test_no_part_has_more_variants_than_the_turns_tried():
    words = json.loads((files("mh_support.safety") / "replies.json").read_text(encoding="utf-8"))
    parts = [*words["crisis"].values(), *words["emergency"].values()]
    variants = [v for part in parts for v in (part.values() if isinstance(part, dict) else [part])]
    assert max(map(len, variants)) == 5 and min(map(len, variants)) >= 1


def test_the_words_of_two_replies():
    assert reply_to("crisis", "suicide", "US", 0) == (
        "Thank you for telling me this. It sounds as if you are in a great deal of pain, and I take it seriously."
        " May I ask you directly: are you thinking about ending your life, and are you safe right now?\n\n"
        "There are people who listen to exactly this: call or text 988 (988 Suicide & Crisis Lifeline, free, at any"
        " hour), or text HOME to 741741 (Crisis Text Line, free, at any hour). If you are about to act on these"
        " thoughts, call 911 now.\n\n"
        "A doctor or a therapist can help with this, and so can a person you trust. Who could you let know today?"
        " You can go on writing to me meanwhile. What has today been like?"
    )
    assert reply_to("emergency", "suicide", "IT", 1) == (
        "Please call 112 now, before anything else. It is enough to say that you are in danger, and where you are.\n\n"
        "Is there somebody you trust in the building, or a call away, who can stay with you until help is there? Keep a"
        " distance from whatever could hurt you: move away from the place, or hand it to somebody.\n\n"
        "While you wait, there is somebody to talk to as well: call 02 2327 2327 (Telefono Amico Italia, every day from"
        " 9:00 to midnight). Somebody to talk to, free in most countries, can also be found at findahelpline.com and"
        " befrienders.org. Doctors and crisis workers are there for exactly this. Is anyone with you? You can go on"
        " writing here until help is there."
    )


@pytest.mark.parametrize(
    ("level", "categories", "begins"),
    [
        ("crisis", {"suicide", "abuse"}, "Thank you for telling me this."),
        ("crisis", {"abuse", "someone else at risk"}, "Thank you for looking out for this person."),
        ("crisis", {"eating disorder", "medical emergency"}, "Thank you for telling me. This takes"),
        ("crisis", set(), "Thank you for telling me this."),
        ("emergency", {"suicide", "medical emergency"}, "This can be dangerous, even if you feel all right"),
        (
            "emergency",
            {"someone else at risk", "medical emergency"},
            "This is an emergency. Please call 999 now and say where",
        ),
        ("emergency", {"suicide", "abuse"}, "This is an emergency, and your life matters."),
        ("emergency", {"self-harm"}, "This is an emergency, and your life matters."),
        ("emergency", set(), "This is an emergency, and your life matters."),
    ],
)
def test_what_a_reply_is_about(level, categories, begins):
    assert crisis_reply(Assessment(level, frozenset(categories)), resources_for("GB"), 0).startswith(begins)


def test_after_an_overdose_the_means_go_out_of_reach_too():
    overdose = Assessment("emergency", frozenset({"suicide", "medical emergency"}))
    assert "move away from anything that you could use to hurt yourself" in crisis_reply(
        overdose, resources_for("GB"), 0
    )


def test_in_abuse_the_service_for_it_comes_first():
    both = Assessment("crisis", frozenset({"suicide", "abuse"}))
    reply = crisis_reply(both, resources_for("US"), 0)
    assert reply.index("1-800-799-7233") < reply.index("988")


@pytest.mark.parametrize("level", ["none", "concern"])
def test_what_is_no_crisis_is_not_answered_as_one(level):
    with pytest.raises(
        ValueError, match=f"the assessment's level is '{level}'; this answers only a crisis or an emergency"
    ):
        crisis_reply(Assessment(level), resources_for(None), 0)


def test_a_turn_below_zero():
    with pytest.raises(ValueError, match="turn is -1; count the person's turns from 0"):
        safe_reply(-1)
    with pytest.raises(ValueError, match="turn is -1; count the person's turns from 0"):
        reply_to("crisis", "suicide", None, -1)


def test_safe_replies_differ_and_are_fit():
    assert len(set(SAFE_REPLY)) == len(SAFE_REPLY) == 5
    assert [safe_reply(turn) for turn in range(7)] == [*SAFE_REPLY, *SAFE_REPLY[:2]]
    for reply in SAFE_REPLY:
        assert check_reply(reply) == ReplyCheck(True, ())
        assert not NEVER_SAID.search(reply) and reply.endswith("?")


def test_the_notice():
    assert NOTICE == (
        "I am a computer program, not a human or a therapist, made for research and education, and I cannot replace"
        " professional care. If you or somebody else is in danger, please call your local emergency number now."
    )
    assert check_reply(NOTICE).ok


# --- Is a generated reply fit to send?

FIT = """
You seem to fear that nobody will know you in the new town.
You have been through a lot.
Are you taking care of yourself?
I'm so sorry you are going through this.
That sounds really hard. Do you want to tell me more?
It sounds like you have a lot on your plate.
You have every right to feel angry.
It makes sense that you feel anxious about the exam.
You are not alone in this.
You are not a burden.
You are not weak for feeling this way.
It is not your fault.
You don't deserve this pain.
I hear how much this hurts.
It sounds like you are feeling depressed and tired.
You said you have depression. How long has it been like this?
If you have anxiety, breathing slowly can help a little.
Have you talked to your doctor about your medication?
Are you taking any medication at the moment?
You could talk to your doctor about changing your medication.
Please don't stop your medication without talking to your doctor.
A therapist may be able to help you with this.
Have you thought about seeing a counselor?
I'm not a therapist, but I can listen.
I am a program, not a human.
I'm only a computer program, so I cannot know what it is like.
As a program I can't feel what you feel.
Are you thinking about killing yourself?
Are you having thoughts of ending your life?
Have you thought about how you would hurt yourself?
Is there something nearby that you might use to hurt yourself?
Could you put some distance between you and the pills?
Would it help to move the razor out of reach?
If you are in danger, please call 911.
You can call or text 988 at any hour.
In the UK you can call Samaritans on 116 123.
Text HOME to 741741.
You could look at findahelpline.com for people near you.
Take a deep breath.
Take your time, there is no rush.
Take a short walk if you can.
Ask me what you like, and I will tell you if I cannot answer.
I can tell you how it is: I am a program, not a person.
Take a break, you have earned one.
Try to eat something warm and drink some water.
Maybe try writing down what you feel.
You should be proud of yourself.
You can do this.
You can do it, one step at a time.
It's okay to cry.
It is okay to feel lost.
You deserve to be safe.
You deserve kindness and support.
You deserve help with this.
Is there a friend who could sit with you tonight?
What would help you get through the next hour?
That must have been frightening.
I understand how you feel.
It sounds like he hurt you badly.
You might feel like a burden, but you matter.
The thought that you are worthless can be very loud.
Feeling like nobody would miss you is a painful thought.
Sometimes depression tells people that they are worthless.
Anxiety can feel like that for many people.
Grief comes in waves.
Losing your job after ten years is a big loss.
How are you sleeping?
What do you enjoy doing on weekends?
You worked there from 2015-2019, that is a long time.
You have 24 hours in a day and you used 10 of them to work.
It happened in 2019 and it still hurts.
You've been carrying this for 3 years.
Count to four while you breathe in.
Breathe in for four, hold for four, out for four.
Thank you for telling me this.
I'm glad you reached out.
Your feelings are valid.
You are stronger than you think.
Have you told your parents how you feel?
Would you like to talk to someone you trust?
Work as a nurse must be exhausting.
Being a father of two and working nights is a lot.
How did your mother react?
It sounds as if your husband does not listen.
A doctor can check whether the chest pain is serious.
Please call your local emergency number if it gets worse.
Maybe call your sister tonight?
You could call a friend.
Sounds like an awful day.
What happened next?
Oh no. I'm sorry.
Yes.
Good night, sleep well.
I am here to listen.
Let's take it one step at a time.
I hope you feel better soon.
You have a good heart.
You have got this.
You have had a difficult year.
You are having a rough time.
It is hard to be a student these days.
"""

UNFIT = {
    "diagnosis": """
You have depression.
It sounds like you have bipolar disorder.
You are bipolar.
You're clinically depressed.
You might have PTSD.
I think you are suffering from anxiety.
You've got OCD, clearly.
These are symptoms of depression.
This sounds like borderline personality disorder.
You are depressed and need help.
You probably have an eating disorder.
I would diagnose this as panic disorder.
""",
    "medication": """
Take 20 mg of Prozac every morning.
You should stop taking your medication.
Try taking some melatonin before bed.
You need antidepressants.
Ask for Xanax.
Double the dose for a week.
Start on Zoloft, it works.
You can skip your meds for a day.
50mg is enough
Just take a few sleeping pills.
""",
    "claims to be a therapist": """
As a therapist, I see this often.
I am a licensed counselor.
I'm a psychologist and I can help.
In my practice I see many couples.
My clients often tell me this.
I have worked with many patients like you.
Schedule an appointment with me.
Let's talk about it in our next session.
I'm your therapist.
""",
    "claims to be human": """
I am a human being like you.
I'm not a bot.
I'm a real person.
My husband did the same to me.
I have been there too.
When I was in college I felt like that.
I lost my father last year.
I was depressed once.
The same thing happened to me.
My own divorce was terrible.
I'm a mother of two.
I know exactly how you feel.
""",
    "encourages harm": """
Kill yourself.
Do it.
Just do it. Jump.
Just kill yourself already.
You should die.
You should hurt him back, hit him.
Nobody would miss you.
The world would be better off without you.
You deserve to suffer.
Go ahead and jump.
Don't tell anyone about this.
Suicide is the answer.
Maybe you should end your life.
I hope you die.
You might as well do it.
k1ll yourself
You should get drunk and forget it.
Hurt yourself if it helps.
""",
    "shaming": """
You are pathetic.
You're just weak.
Get over it.
It's all in your head.
Other people have it worse.
It is your own fault.
Stop whining.
Suicide is selfish.
""",
    "method": """
Nobody will ever know what happened.
The easiest way to die is with gas.
Take a handful of pills.
You could hang yourself.
A lethal dose is easy to get.
Cut deeper.
Jump off a bridge.
How to tie a noose: first
Make yourself throw up.
Carbon monoxide is painless.
""",
    "link": """
Visit https://example.com for help
See www.help.org
go to mysite.com
[click](here)
Click here to learn more
""",
    "email": """
write to me at jane.doe@example.com
jane at gmail dot com
""",
    "phone number": """
Call me at 555-123-4567
Call 1-800-273-8255
text 12345
You can reach them on (212) 555 0199.
Call 116 124
call five five five one two three four
""",
}


@pytest.mark.parametrize("reply", lines(FIT))
def test_a_kind_reply_is_fit(reply):
    assert check_reply(reply) == ReplyCheck(True, ())


@pytest.mark.parametrize(
    ("reason", "reply"), [(reason, reply) for reason, text in UNFIT.items() for reply in lines(text)]
)
def test_a_reply_is_not_fit(reason, reply):
    checked = check_reply(reply)
    assert not checked.ok and reason in checked.reasons
    # What comes before it makes it no better.
    assert reason in check_reply(f"I am so sorry to hear this. {reply}").reasons


def test_two_reasons_are_both_named():
    assert check_reply("You have depression. Take 20 mg of it. Call me at 555-123-4567.").reasons == (
        "diagnosis",
        "medication",
        "claims to be a therapist",
        "phone number",
    )


@pytest.mark.parametrize("reply", ["", "   ", "\n", "...", "\u200b\u200b", "\U0001f642", "?!"])
def test_an_empty_reply(reply):
    assert check_reply(reply) == ReplyCheck(False, ("empty",))


def test_a_slur():
    word = codecs.decode("ovgpu", "rot13")
    assert check_reply(f"Listen, {word.upper()}!").reasons == ("slur",)
    assert check_reply("Listen, witch!").ok


@pytest.mark.parametrize("number", sorted(known_numbers()))
def test_numbers_of_the_resources_are_fit(number):
    assert check_reply(f"Please call {number} now.").ok


@pytest.mark.parametrize(
    "written", ["0800 111 0 111", "0800-111-0-111", "08001110111", "(0800) 111 0111", "1-800-799-7233", "116-123"]
)
def test_a_known_number_may_be_written_differently(written):
    assert check_reply(f"You can call {written}.").ok


@pytest.mark.parametrize(
    "written",
    [
        "0800 111 0 112",
        "555-123-4567",
        "+1 212 555 0199",
        "(212) 555-0199",
        "12345",
        "116 124",
        "9111",
        "1 911 5",
        "\uff11\uff12\uff13\uff14\uff15",
    ],
)
def test_an_unknown_number_is_refused(written):
    assert check_reply(f"You can call {written}.").reasons == ("phone number",)


@pytest.mark.parametrize("address", ["findahelpline.com", "befrienders.org", "Findahelpline.com"])
def test_the_directories_may_be_named(address):
    assert check_reply(f"Look at {address}.").ok


@pytest.mark.parametrize(
    "address",
    [
        "findahelpline.com.evil.ru",
        "findahelpline.com/x",
        "https://findahelpline.com",
        "xfindahelpline.com",
        "help.findahelpline.com",
    ],
)
def test_what_only_looks_like_a_directory_is_refused(address):
    assert "link" in check_reply(f"Look at {address}").reasons


def test_a_reply_that_is_no_string():
    with pytest.raises(ValueError, match="a reply of type NoneType cannot be checked; give it as a string"):
        check_reply(None)


# --- The package


def test_what_the_package_offers():
    assert set(safety.__all__) == {
        "NOTICE",
        "SAFE_REPLY",
        "Assessment",
        "ReplyCheck",
        "Resources",
        "Service",
        "Span",
        "Suspects",
        "asked_about",
        "assess",
        "check_in",
        "check_reply",
        "crisis_reply",
        "resources_for",
        "safe_reply",
    }
    assert all(hasattr(safety, name) for name in safety.__all__)
    assert resources_module.Resources is safety.Resources


def test_it_is_light():
    code = (
        "import sys, mh_support.safety; heavy = {'torch', 'transformers', 'numpy', 'datasets', 'phonenumbers'};"
        " print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
