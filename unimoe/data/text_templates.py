"""Everyday sentences from templates: dialogue, questions, numbers, dates, names and announcements.

`(a|b|c)` stands for one of its choices, which may be empty. An entry of the slots fills `<slot>`. Numbers are written
as they are spoken. The project wrote these texts itself.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Final

from unimoe_runtime.frontend.normalisation import open_language

_CHOICE: Final = re.compile(r"\(([^()]*)\)")
_SLOT: Final = re.compile(r"<([a-z_]+)>")

Slots = Mapping[str, Callable[[random.Random], str]]

DIALOGUE: Final = (
    "(Sorry|Excuse me|Pardon me), (could|can|would) you (say that again|help me with this|hold the door|move "
    "your <thing>)?",
    "(Well|Oh|Okay|Right|Sure), (I think|I guess|I suppose) (we should|you could|they might) <verb> the <thing>.",
    "(Thanks|Thank you|Many thanks) for <doing>, (I really appreciate it|that was very kind|you saved my day)!",
    "I (can't|couldn't|didn't|won't) find the <thing>; (maybe|perhaps) <first> has it.",
    "(Don't worry|Never mind|Relax), <first>, (it happens|we have time|nobody noticed|I'll take care of it).",
    "No, I (don't|didn't) (want|need|see|like) (any|that|your|the) <thing>, (thank you|but thanks anyway|sorry).",
    "(Yes|Yeah|Of course|Absolutely), (I'd love to|that sounds great|let's do that|why not).",
    "(Hello|Hi|Hey), <first>! (How are you|How was your trip|Did you sleep well|What's new)?",
    "(Good morning|Good afternoon|Good evening|Welcome back), <first>. (Please come in|Take a seat|It's nice "
    "to see you).",
    "(Let's|We should|Shall we|Why don't we) (meet|have lunch|talk|wait) (at|near|behind) the <place> (at "
    "<clock>|tomorrow|later).",
    "(That's|It's|This is) (really|so|pretty|quite|not) <adjective>, (isn't it|don't you think|if you ask me).",
    "(She|He) said (she|he) would <verb> the <thing>, but (nothing happened|nobody believed it|it was too late).",
    "(I'm|We're|They're) (going|driving|flying|moving) to <city> (next week|in <month>|on <weekday>|for the holidays).",
    "(Wait|Stop|Look out|Be careful|Hurry up)! (The <thing> is broken|There's a <animal> on the road|You "
    "forgot your <thing>)!",
    "(What a|Such a) <adjective> (day|idea|story|place|surprise)!",
    "(My|Your|Her|His|Our) (mother|father|sister|brother|neighbor|boss|doctor|teacher) "
    "(loves|hates|sells|collects|repairs) <things>.",
    "(If it rains|If you're hungry|When I'm tired|After work|Before dinner), I "
    "(usually|always|never|sometimes) <verb> (a|the) <thing>.",
    "I've (never|already|just|finally) (seen|bought|lost|fixed|cleaned) (a|the|this) <adjective> <thing>.",
    "(Honestly|Frankly|To be fair|In my opinion), the <food> (was|is) (too <taste>|delicious|a bit <taste>|cold).",
    "(Could I have|I'd like|May I have|Can we get) (some|the|a little) <food> (with|without|and) <food>, please?",
    "It's (raining|snowing|getting dark|windy|freezing) (outside|again|in <city>), so (take a coat|stay "
    "home|drive slowly).",
    "(Please|Just) (put|leave|hang|hide) the <thing> (on|under|next to|behind) the <furniture>.",
    "<first> (called|wrote|came by|was here) (yesterday|this morning|an hour ago|last night), (but you were "
    "out|and left a <thing>).",
    "You (have to|must|need to|ought to) (ask|tell|call|remind) <first> (about|to bring|to check) the <thing>.",
    "(Sorry I'm late|I'm sorry), the (bus|train|traffic|meeting) (was terrible|took forever|didn't stop|was canceled).",
)  # fmt: skip
QUESTIONS: Final = (
    "(Where|When|Why|How) did (you|she|he|they|<first>) (find|buy|lose|break|hide) (the|that|this) <thing>?",
    "(Do|Did|Would|Could) you (like|see|want|remember|need) (the|a|that|another) <adjective> <thing>?",
    "(Is|Was) (the|your|this|that) <thing> (still|really|always|too) <adjective>?",
    "(Are|Were) the <things> (in|on|under|behind) the <furniture>?",
    "(What|Which) (kind|color|size|brand) of <thing> (do you want|did she choose|is that|should I buy)?",
    "How (many|few) <things> (are there|do you have|did they sell|can you carry)?",
    "How (much|long|far|often) (is it|does it take|do you go|will it be) to <city>?",
    "(Who|Whose <thing>) (is|was) (that|this|at the door|on the phone)?",
    "(Can|Could|May|Should) (I|we) (open|close|borrow|use|move) the <thing>?",
    "Have you (ever|already|recently) (been to|heard of|lived in|flown to) <city>?",
    "(Did|Does|Will) <first> (know|remember|like|want) (it|us|the answer|the <animal>)?",
    "What time (is it|does it start|do you open|will you be home)?",
    "(Isn't|Wasn't) (that|this|it) (a bit|too|rather) <adjective>?",
    "(Would you prefer|Do you want) <food>, <food>, or <food>?",
    "You're (coming|leaving|staying|joking), (aren't you|right)?",
    "(Really|Already|Again|Me|Today|Now)?",
    "(Why not|What for|How come|Says who|And then|So what|Who else|What else)?",
    "(What|How) (about|if) we <verb> the <thing> (tomorrow|instead|first|together)?",
)  # fmt: skip
NUMBERS: Final = (
    "(The|That|This) <thing> costs <dollars>.",
    "(It|The total|Your bill) (comes to|is|will be) <dollars>.",
    "(About|Nearly|Over|Exactly|More than) <big> (people|visitors|students|<things>) (came|were counted|live "
    "here|signed up).",
    "The (answer|result|score|total) is <number>.",
    "(My|The|Your) (room|flight|order|ticket|account) number is <digits>.",
    "(Please call|Dial|Her number is|You can reach us at) <phone>.",
    "(Only|Just|Another) <small> (minutes|hours|days|weeks|miles|meters) (left|to go|from here|ago).",
    "(It's|The temperature is|It will be) <small> degrees (today|outside|in <city>).",
    "<percent> percent of the <things> (are|were) <adjective>.",
    "<number> (plus|minus|times|divided by) <number> (is|equals) <number>.",
    "(The|Their) (price|rent|rate) (rose|fell|jumped|dropped) (by|to) <decimal> percent.",
    "(He|She) is <small> years old and <adjective>.",
    "(Turn|Exit) (left|right) after <small> (hundred meters|miles|blocks|lights).",
    "The <ordinal> (chapter|floor|page|question|attempt) is the (hardest|best|last|most <adjective>).",
    "Add (a half|three quarters|a third|two thirds) of a cup of <food> and <small> (spoons|slices|pinches) of <food>.",
    "<number>, <number>, <number>, (and|or) <number>.",
    "<decimal> (kilometers|pounds|liters|seconds|inches).",
)  # fmt: skip
DATES: Final = (
    "(It|The meeting|The concert|Her birthday|The exam) is on (<weekday>|<date>|<weekday>, <date>).",
    "(On|Since|Until|Before) <date>, <year>, (nobody knew|everything changed|we lived in <city>|the <place> "
    "was closed).",
    "(He|She) was born in <year> in <city>.",
    "(The train|The bus|The flight|Our class) (leaves|arrives|starts|ends) at <clock>.",
    "(It's|It is now|The time is) <clock>.",
    "(See you|Let's meet|Call me) (on <weekday>|at <clock>|in <month>|on <date>).",
    "From <clock> (to|until) <clock>, (every day|on <weekday>|except <weekday>).",
    "In <month> and <month>, the <place> (opens|closes) at <clock>.",
    "(Remind me|Wake me up|Set an alarm) (at|for) <clock>.",
    "<weekday>, <weekday>, (and|or) <weekday>?",
    "<date>, <year>.",
)  # fmt: skip
NAMES: Final = (
    "(My name is|This is|I'm|You can call me) <first> <last>.",
    "(Mister|Missus|Doctor|Professor) <last> (will see you now|is on the phone|lives in <city>|bought the <thing>).",
    "<first>, <first>, and <first> (are|were) (here|late|in <city>|at the <place>).",
    "(Dear|Hello|Goodbye|Thank you), <first> <last>.",
    "(Have you met|Do you know|Is that|Where is) <first> <last>?",
    "We (flew|drove|moved|walked) from <city> to <city>.",
    "<city> is (bigger|older|warmer|farther) than <city>.",
    "<first> (and|or) <first>?",
    "<first> <last> (wrote|sang|painted|directed|won) (it|this|the first one) in <year>.",
    "(Is <first> from <city>, or from <city>|Does <first> live near <city>)?",
)  # fmt: skip
ANNOUNCEMENTS: Final = (
    "(Attention, please|Ladies and gentlemen|Dear passengers|Dear customers): the (train|flight|bus|ferry) to "
    "<city> (is delayed by <small> minutes|is ready for boarding|leaves from (gate|platform) <small>|has been "
    "canceled).",
    "The next (stop|station) is <city>. (Please mind the gap|Doors open on the left|Change here for <city>).",
    "(Welcome to|You are listening to|This is) (<city>|the <place>). (Please|Kindly) (keep your <things> with "
    "you|switch off your <things>|wait behind the line).",
    "(Now|Next|Here is|And now): (the weather for <city>|the news at <clock>|traffic on road <small>).",
    "(Today|Tomorrow|On <weekday>): (sunny|cloudy|rain|snow|fog) in <city>, <small> degrees, (light|strong|no) wind.",
    "(Your|The) (download|update|order|payment|backup) (is complete|has failed|was received|will start at <clock>).",
    "(Warning|Error|Caution)! (The <thing> is (open|too hot|empty|blocked)|Battery at <percent> percent|No "
    "connection).",
    "(You have|There are) <small> new (messages|emails|calls|reminders). (The first is from <first>|Press one "
    "to listen).",
    "In <small> hundred (feet|meters), turn (left|right) (onto <last> street|at the <place>).",
    "The <place> (closes|opens) in <small> minutes. (Please go to the exit|Thank you for your visit|We wish "
    "you a pleasant evening).",
    "(Timer|Alarm|Reminder): (<small> minutes are over|take out the <food>|call <first>|feed the <animal>).",
    "(Elevator|Lift) (going up|going down). <ordinal> floor: <things>, <things>, and <things>.",
    "(Playing|Now playing|Paused|Skipping) (<adjective> <things>|song number <small>|radio <city>|chapter <small>).",
    "(Okay|Done|All right), the <thing> is (on|off|open|locked|set to <number>).",
)  # fmt: skip
TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "dialogue": DIALOGUE, "questions": QUESTIONS, "numbers": NUMBERS, "dates": DATES, "names": NAMES,
    "announcements": ANNOUNCEMENTS,
}  # fmt: skip

WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
FURNITURE: Final = "table shelf sofa desk bed chair counter cabinet stairs window fridge door".split()
VERBS: Final = (
    "repair sell clean paint move open wash return borrow measure wrap carry test order cancel finish".split()
)
TASTES: Final = "salty sweet sour bitter spicy dry heavy greasy bland crunchy".split()
DOINGS: Final = (
    "your help", "coming", "calling", "waiting", "the ride", "the flowers", "cooking dinner", "fixing my bike",
    "watching the kids", "the invitation", "lending me your car",
)  # fmt: skip


def expand(template: str, slots: Slots, rng: random.Random) -> str:
    """One sentence from a template."""
    text = template
    while choice := _CHOICE.search(text):
        text = text[: choice.start()] + rng.choice(choice[1].split("|")) + text[choice.end() :]
    while slot := _SLOT.search(text):
        text = text[: slot.start()] + slots[slot[1]](rng) + text[slot.end() :]
    text = re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", " ".join(text.split()))
    return text[0].upper() + text[1:]


def spoken_number(number: int) -> str:
    """A cardinal as it is spoken."""
    return " ".join(open_language("en").numbers.cardinal(number))


def spoken_year(year: int) -> str:
    """A year as it is spoken, such as nineteen oh five, two thousand, twenty twenty six."""
    century, rest = divmod(year, 100)
    if 2000 <= year < 2010:
        return spoken_number(year)
    if rest == 0:
        return f"{spoken_number(century)} hundred"
    return f"{spoken_number(century)} {'oh ' if rest < 10 else ''}{spoken_number(rest)}"


def number_slots() -> dict[str, Callable[[random.Random], str]]:
    """Slots for numbers, dates and times."""

    def small(rng: random.Random) -> str:
        return spoken_number(rng.randint(2, 30))

    def number(rng: random.Random) -> str:
        return spoken_number(rng.choice([rng.randint(0, 20), rng.randint(20, 99), rng.randint(100, 999)]))

    def big(rng: random.Random) -> str:
        return spoken_number(
            rng.choice([rng.randint(1, 99) * 100, rng.randint(1000, 9999), rng.randint(1, 999) * 1000])
        )

    def digits(rng: random.Random) -> str:
        return " ".join(spoken_number(rng.randint(0, 9)) for _ in range(rng.randint(2, 6)))

    def phone(rng: random.Random) -> str:
        groups = [[spoken_number(rng.randint(0, 9)) for _ in range(size)] for size in (3, 3, 4)]
        return ", ".join(" ".join(group) for group in groups)

    def dollars(rng: random.Random) -> str:
        unit = rng.choice(["dollars", "dollars", "pounds", "euros", "cents"])
        cents = f" and {spoken_number(rng.randint(1, 99))} cents" if unit == "dollars" and rng.random() < 0.3 else ""
        return f"{number(rng).replace('zero', 'ten')} {unit}{cents}"

    def decimal(rng: random.Random) -> str:
        places = " ".join(spoken_number(rng.randint(0, 9)) for _ in range(rng.randint(1, 2)))
        return f"{spoken_number(rng.randint(0, 120))} point {places}"

    def ordinal(rng: random.Random) -> str:
        return " ".join(open_language("en").numbers.ordinal(rng.randint(1, 31)))

    def clock(rng: random.Random) -> str:
        hour, minute = spoken_number(rng.randint(1, 12)), rng.choice([0, 0, rng.randint(1, 59), 15, 30, 45])
        half_day = rng.choice(["", "", " in the morning", " in the evening", " P M"])
        if minute == 0:
            return f"{hour} o'clock" if half_day in ("", " in the morning") else hour + half_day
        return f"{hour} {'oh ' if minute < 10 else ''}{spoken_number(minute)}{half_day}"

    def date(rng: random.Random) -> str:
        month = rng.choice(MONTHS)
        return f"{month} {ordinal(rng)}" if rng.random() < 0.7 else f"the {ordinal(rng)} of {month}"

    return {
        "small": small, "number": number, "big": big, "digits": digits, "phone": phone, "dollars": dollars,
        "decimal": decimal, "ordinal": ordinal, "clock": clock, "date": date,
        "year": lambda rng: spoken_year(rng.choice([rng.randint(1700, 1999), rng.randint(2000, 2035)])),
        "percent": lambda rng: spoken_number(rng.randint(1, 100)),
        "weekday": lambda rng: rng.choice(WEEKDAYS), "month": lambda rng: rng.choice(MONTHS),
    }  # fmt: skip
