"""What a home assistant is asked beyond its home: sums to a hundred, units, times, what a thing is, and the unknown.

Most of what people ask a small network it cannot know. It says so: in the words for what it does not know, or for what
it cannot do. A tenth of all questions, chosen by their hash, is held out; their things and facts are all taught.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from sensorium.data.generators import world
from sensorium.data.generators.dialogues import a, is_heldout, pick
from sensorium.data.generators.glyphs import WORDS
from sensorium.data.generators.speech import Split

Subject: TypeAlias = Literal["sums", "units", "times", "definitions", "spelling", "itself", "unknown"]
SUBJECTS: tuple[Subject, ...] = get_args(Subject)

UNKNOWN = "i do not know that yet"
UNABLE = "i cannot do that yet"

_UNITS = (  # one of the first is so many of the second
    ("minute", 60, "seconds"),
    ("hour", 60, "minutes"),
    ("day", 24, "hours"),
    ("week", 7, "days"),
    ("year", 12, "months"),
    ("century", 100, "years"),
    ("metre", 100, "centimetres"),
    ("kilometre", 1000, "metres"),
    ("kilogram", 1000, "grams"),
    ("litre", 1000, "millilitres"),
    ("euro", 100, "cents"),
    ("dozen", 12, "pieces"),
)
_PLURALS = {"century": "centuries", "dozen": "dozen"}

DEFINITIONS: dict[str, str] = {
    thing.strip(): meaning
    for thing, _, meaning in (
        line.partition(": ")
        for line in """
    puppy: a young dog
    kitten: a young cat
    calf: a young cow
    lamb: a young sheep
    chick: a young hen
    foal: a young horse
    child: a young person
    farmer: a person who grows food
    teacher: a person who helps you to learn
    doctor: a person who helps sick people
    baker: a person who makes bread
    pilot: a person who flies a plane
    nurse: a person who cares for the sick
    cook: a person who makes meals
    king: a man who rules a country
    queen: a woman who rules a country
    uncle: the brother of your mother or father
    aunt: the sister of your mother or father
    knife: a tool to cut with
    hammer: a tool to hit nails with
    spoon: a tool to eat soup with
    clock: a thing that shows the time
    map: a picture of the land
    bridge: a road over water
    boat: a thing that swims and carries people
    bicycle: a thing with two wheels to ride on
    train: a row of cars on rails
    plane: a machine that flies
    robot: a machine that moves by itself
    computer: a machine that works with numbers
    phone: a machine to talk to people far away
    lamp: a thing that gives light
    chair: a thing to sit on
    bed: a thing to sleep on
    cup: a thing to drink from
    key: a thing that opens a lock
    mirror: a glass that shows your face
    umbrella: a thing that keeps rain off
    school: a house to learn in
    hospital: a house for sick people
    library: a house full of books
    shop: a house where you buy things
    barn: a house for cows and hay
    kitchen: a room to cook in
    island: land with water all around
    mountain: a very high hill
    river: water that runs to the sea
    lake: water with land all around
    forest: a place full of trees
    desert: a dry place full of sand
    garden: a place where flowers grow
    beach: sand beside the sea
    cloud: water that floats in the sky
    star: a sun that is far away
    planet: a ball that goes around a star
    storm: very strong wind and rain
    rainbow: light of many colours in the sky
    winter: the cold part of the year
    summer: the warm part of the year
    bird: an animal that can fly
    fish: an animal that lives in water
    tree: a tall plant of wood
    flower: the pretty part of a plant
    apple: a round fruit from a tree
    lemon: a yellow fruit that is sour
    soup: a warm meal to drink
    cheese: food made of milk
    bread: food made of flour
    honey: sweet food made by bees
    salt: white grains for your food
    song: words with music
    poem: words that sound nice together
    letter: a sign for a sound or a paper with news
    word: a few letters that mean something
    number: a thing to count with
    triangle: a shape with three sides
    square: a shape with four equal sides
    circle: a round shape
    """.strip().splitlines()
    )
}
_UNCOUNTED = frozenset({"honey", "salt", "bread", "cheese", "soup", "winter", "summer"})

ITSELF = {
    "hello|hello there|hey|hey there|good day|good afternoon|hello sensorium|hi sensorium|hey sensorium": (
        "hello how can i help you"
    ),
    "hello how are you|hi how are you|how is it going|what is up|how do you do": "i am very well thank you",
    "nice to meet you|pleased to meet you|good to see you": "nice to meet you too",
    "help|help me|i need help|what should i ask you|what can i ask you|what do you know": (
        "ask me to count to draw or to turn on a light"
    ),
    "what are you|are you a robot|are you a computer|are you an ai": "i am a small network that hears and sees",
    "are you chat gpt|are you siri|are you alexa|are you google": "no my name is sensorium",
    "who made you|who built you|where do you come from|who trained you": "people who share their work made me",
    "how old are you|when were you born|when is your birthday": "i am very young",
    "where are you|where do you live|where is your home": "i live in this computer",
    "how big are you|are you small|are you big": "i am very small",
    "what time is it|what is the time|do you know the time|how late is it": "i have no clock",
    "what day is it|what is the date|what day is today|which year is it": "i have no calendar",
    "what is the weather|how is the weather today|will it rain|is it cold outside": "i cannot look outside",
    "test|testing|this is a test|is this on|can you understand me": "i understand you",
    "cool|great|nice|well done|good job|very good|perfect|wonderful": "thank you",
    "i am bored|what should i do|i have nothing to do": "ask me for a joke",
    "tell me a story|tell me something|say something": "once a small cat found a big red ball",
    "sorry|i am sorry|excuse me|my mistake": "no problem",
    "stop|be quiet|stop talking|that is enough|never mind|forget it": "okay",
    "what do you mean|i do not understand|what|say that again": "please ask me in other words",
    "can you see me|do you see me|can you see": "show me a picture and i tell you what i see",
    "can you draw|draw something|draw me a picture|make a picture": "tell me what to draw",
    "can you speak german|do you speak french|what languages do you speak": "i know a few phrases in some languages",
    "do you like me|do you love me|are you my friend": "i like to talk with you",
    "are you happy|do you have feelings|can you think|are you alive": "i am only a network but i do my best",
    "what is your favourite colour|which colour do you like": "i like blue",
    "what do you like|what is your favourite thing": "i like good questions",
    "you are wrong|that is wrong|that is not right|no that is wrong": "i am sorry i am still learning",
}
_PLAIN = frozenset(phrase for asked in ITSELF for phrase in asked.split("|"))  # the commonest of all: never held out

_FIRST_NAMES = (
    "anna ben carla david emma frank grace henry ida jack karen leo maria nina oscar paul rosa sam tina victor albert"
    " isaac marie charles george william elizabeth napoleon john barack taylor michael steve bill elon angela"
).split()
_LAST_NAMES = (
    "miller smith brown jones weber klein fischer moreau rossi silva kim lee tanaka novak larsen einstein newton"
    " curie darwin washington shakespeare lincoln obama swift jackson jordan jobs gates musk merkel mozart"
).split()
_PLACES = (
    "brazil|india|mexico|argentina|chile|peru|kenya|nigeria|morocco|turkey|iran|iraq|israel|ukraine|hungary|romania"
    "|bulgaria|croatia|serbia|denmark|belgium|switzerland|holland|australia|new zealand|korea|thailand|vietnam"
    "|indonesia|texas|california|florida|new york|boston|chicago|hamburg|munich|milan|barcelona|sydney|dubai|mumbai"
).split("|")
_TOPICS = (
    "quantum physics|the stock market|football|politics|the french revolution|black holes|love|time travel|taxes"
    "|vitamins|gravity|electricity|the roman empire|the second world war|democracy|money|religion|climate change"
    "|evolution|genes|viruses|cancer|sleep|dreams|chess|basketball|tennis|the olympic games|poker|opera|ballet"
    "|modern art|philosophy|history|chemistry|biology|mathematics|algebra|geometry|probability|statistics|logic"
    "|machine learning|artificial intelligence|the internet|computers|python|programming|databases|blockchain"
    "|bitcoin|the moon landing|mars|the big bang|dinosaurs|volcanoes|earthquakes|the ocean|whales in the arctic"
    "|coffee plants|wine|cooking|baking|yoga|meditation|running|dieting|marriage|divorce|school exams|the law"
    "|insurance|banks|inflation|trade|the army|spies|pirates|knights|vikings|pyramids|mummies|ghosts|magic tricks"
    "|the weather in spain|solar power|nuclear power|wind power|oil prices|gold prices|real estate|fashion|hip hop"
    "|rock bands|films|actors|novels|poetry|grammar|spelling rules|latin|sanskrit|sign language|your secrets"
    "|the news|yesterday|next week|the future|the past|the universe|the meaning of life|truth|justice|happiness"
).split("|")
_ASKED = (  # what it does not know
    *("who is {p}", "who was {p}", "when was {p} born", "how old is {p}", "where does {p} live", "what did {p} do"),
    *("how tall is {p}", "is {p} still alive", "what is the name of the wife of {p}", "why is {p} famous"),
    *("who is the president of {c}", "what is the capital of {c}", "how many people live in {c}", "where is {c}"),
    *("what language is spoken in {c}", "how far is it to {c}", "how do i get to {c}", "what can i see in {c}"),
    *("which is bigger {c} or {c}", "how warm is it in {c}", "is {c} a nice place", "what do people eat in {c}"),
    *("what is {t}", "explain {t}", "tell me about {t}", "what do you know about {t}", "how does {t} work"),
    *("why is {t} important", "what do you think about {t}", "do you like {t}", "teach me {t}", "who invented {t}"),
    *("is {t} good or bad", "when did {t} begin", "what is the history of {t}", "can you explain {t} to me"),
    *("who invented the {w}", "how much does {aw} cost", "where can i buy {aw}", "how heavy is {aw}"),
    *("how big is {aw}", "what is the latin word for {w}", "why do we need {aw}", "how is {aw} made"),
    *("what rhymes with {w}", "how many kinds of {w} are there", "what is the price of {aw}", "is {aw} dangerous"),
    *("what is {n} times {n}", "how much is {n} times {n}", "what is {n} divided by {n}", "the square root of {n}"),
    *("what happened in the year {n}", "who won the game yesterday", "what is the news", "what is on television"),
    *("what am i thinking", "what is my name", "who am i", "where am i", "what did i eat today", "how do i look"),
)
_WANTED = (  # what it cannot do
    *("write a poem about {w}", "write a poem about {t}", "write a story about {aw}", "write an essay about {t}"),
    *("write a letter to {p}", "write an email to {p}", "write code for {aw}", "write a song about {c}"),
    *("write a program that counts {w}", "make a list of {t}", "make a plan for {t}", "give me a recipe with {w}"),
    *("book a flight to {c}", "book a hotel in {c}", "plan a trip to {c}", "find a train to {c}"),
    *("order {aw}", "buy me {aw}", "sell my {w}", "fix my {w}", "find my {w}", "clean my {w}", "bring me {aw}"),
    *("call {p}", "send a message to {p}", "invite {p} to dinner", "ask {p} about {t}", "tell {p} that i am late"),
    *("search the web for {t}", "look up {t}", "open a page about {t}", "recommend a book about {t}"),
    *("show me a film about {t}", "read my mail", "pay my bills", "do my homework", "summarise this text"),
    *("correct my text", "take a photo", "record a video", "remember my birthday", "drive me to {c}"),
    *("translate a book about {t}", "make a website about {w}", "teach my dog to find {aw}", "cook {aw} for me"),
)


class Lesson(NamedTuple):
    subject: Subject
    question: str
    answer: str


def lesson(rng: np.random.Generator, split: Split, *, subject: Subject | None = None) -> Lesson:
    """A question of that subject, or of any, and what to say to it."""
    while True:
        about = subject or SUBJECTS[int(rng.choice(len(SUBJECTS), p=_SHARES))]
        question, answer = _MAKERS[about](rng)
        if (is_heldout(question) and question not in _PLAIN) == (split == "heldout"):
            return Lesson(about, question, answer)


def in_words(number: int) -> str:
    """A number below ten thousand as it is said ("two hundred and sixteen")."""
    if number >= 1000:
        thousands, rest = divmod(number, 1000)
        return f"{in_words(thousands)} thousand" + (f" {'and ' if rest < 100 else ''}{in_words(rest)}" if rest else "")
    if number >= 100:
        hundreds, rest = divmod(number, 100)
        return f"{in_words(hundreds)} hundred" + (f" and {in_words(rest)}" if rest else "")
    if number <= 20:
        return world.TO_TWENTY[number]
    tens, digit = divmod(number, 10)
    return world.TENS[tens - 1] + (f" {world.DIGITS[digit]}" if digit else "")


def _sum(rng: np.random.Generator) -> tuple[str, str]:
    whole = int(rng.integers(2, 101))
    part = int(rng.integers(1, whole))
    if rng.random() < 0.5:
        one, sign, other, result = part, "plus", whole - part, whole
        special = ("add {x} and {y}", "what do {x} and {y} make")
    else:
        one, sign, other, result = whole, "minus", part, whole - part
        special = ("take {y} from {x}", "what is {x} take away {y}")
    x, y = in_words(one), in_words(other)
    fact = f"{x} {sign} {y}"
    template = pick(rng, ("what is {f}", "how much is {f}", "{f}", "tell me {f}", "do you know what {f} is", *special))
    return template.format(f=fact, x=x, y=y), f"{fact} is {in_words(result)}"


def _unit(rng: np.random.Generator) -> tuple[str, str]:
    big, size, small = pick(rng, _UNITS)
    count = int(rng.integers(1, 10))
    amount = f"one {big}" if count == 1 else f"{in_words(count)} {_PLURALS.get(big, f'{big}s')}"
    templates = ("how many {s} are in {m}", "how many {s} are {m}", "what is {m} in {s}", "how many {s} make {m}")
    question = pick(rng, world.ASKING) + pick(rng, templates).format(s=small, m=amount)
    return question, f"{amount} {'is' if count == 1 else 'are'} {in_words(count * size)} {small}"


def _time(rng: np.random.Generator) -> tuple[str, str]:
    if rng.random() < 0.4:
        count, day, sign = int(rng.integers(1, 7)), int(rng.integers(7)), pick(rng, (1, -1))
        span = f"{in_words(count)} {'day' if count == 1 else 'days'} {'after' if sign == 1 else 'before'}"
        given, result = world.DAYS[day], world.DAYS[(day + sign * count) % 7]
        templates = ("what day is {s} {g}", "which day is {s} {g}", "what day comes {s} {g}", "{s} {g} is what day")
    else:
        minutes = pick(rng, (*(60 * hours for hours in range(1, 7)), 30, 15, 45))
        start, sign = 15 * int(rng.integers(48)), pick(rng, (1, -1))
        hours = {30: "half an hour", 15: "a quarter of an hour", 45: "three quarters of an hour", 60: "one hour"}
        length = hours.get(minutes, f"{in_words(minutes // 60)} hours")
        span = f"{length} {'after' if sign == 1 else 'before'}"
        given, result = _clock(start), _clock(start + sign * minutes)
        templates = ("what time is {s} {g}", "what time is it {s} {g}", "when is {s} {g}", "tell me the time {s} {g}")
    return pick(rng, templates).format(s=span, g=given), f"{span} {given} is {result}"


def _clock(minutes: int) -> str:
    """A time of a clock with hands, in quarters ("quarter to five")."""
    hour, quarter = divmod(minutes // 15, 4)
    hour = (hour + (quarter == 3)) % 12
    return ("", "quarter past ", "half past ", "quarter to ")[quarter] + world.TO_TWELVE[hour - 1]


def _definition(rng: np.random.Generator) -> tuple[str, str]:
    thing = pick(rng, tuple(DEFINITIONS))
    named = thing if thing in _UNCOUNTED else a(thing)
    if rng.random() < 0.25:
        templates = ("what do you call {d}", "what is the word for {d}", "what is {d} called")
        return pick(rng, templates).format(d=DEFINITIONS[thing]), f"{DEFINITIONS[thing]} is {named}"
    return pick(rng, _DEFINING).format(n=named, t=thing), f"{named} is {DEFINITIONS[thing]}"


_DEFINING = (
    *("what is {n}", "what does {t} mean", "define {t}", "explain what {n} is", "do you know what {n} is"),
    *("tell me what {n} is", "please tell me what {n} is", "sensorium what is {n}", "what does the word {t} mean"),
)


def _spelling(rng: np.random.Generator) -> tuple[str, str]:
    """Voices say "a" between letters as the article: no word that is spelled has one."""
    word = pick(rng, _SPELLED)
    if rng.random() < 0.25:
        templates = ("how many letters does {w} have", "how many letters are in {w}", "count the letters of {w}")
        return pick(rng, templates).format(w=word), f"{word} has {in_words(len(word))} letters"
    templates = ("spell {w}", "how do you spell {w}", "how is {w} spelled", "can you spell {w}", "please spell {w}")
    return pick(rng, templates).format(w=word), f"{word} is spelled {' '.join(word)}"


_SPELLED = tuple(word for word in WORDS if "a" not in word)


def _itself(rng: np.random.Generator) -> tuple[str, str]:
    asked = pick(rng, tuple(ITSELF))
    before, behind = pick(rng, ("", "", "", "so ", "well ", "okay ")), pick(rng, ("", "", "", " sensorium", " please"))
    return before + pick(rng, asked.split("|")) + behind, ITSELF[asked]


def _unknown(rng: np.random.Generator) -> tuple[str, str]:
    draw = rng.random()
    if draw < 0.15:
        word = pick(rng, _UNDEFINED)
        return pick(rng, _DEFINING).format(n=a(word), t=word), f"i do not know the word {word}"
    templates, answer = (_ASKED, UNKNOWN) if draw < 0.65 else (_WANTED, UNABLE)
    text = pick(rng, templates)
    for blank, draw_one in _BLANKS.items():
        while blank in text:
            text = text.replace(blank, draw_one(rng), 1)
    return pick(rng, world.ASKING if answer is UNKNOWN else world.POLITE) + text, answer


_UNDEFINED = tuple(word for word in WORDS if word not in DEFINITIONS and word not in world.TO_TWENTY)
_BLANKS: dict[str, Callable[[np.random.Generator], str]] = {
    "{p}": lambda rng: f"{pick(rng, _FIRST_NAMES)} {pick(rng, _LAST_NAMES)}",
    "{c}": lambda rng: pick(rng, _PLACES),
    "{t}": lambda rng: pick(rng, _TOPICS),
    "{w}": lambda rng: pick(rng, _UNDEFINED),
    "{aw}": lambda rng: a(pick(rng, _UNDEFINED)),
    "{n}": lambda rng: in_words(int(rng.integers(3, 1000))),
}
_MAKERS: dict[Subject, Callable[[np.random.Generator], tuple[str, str]]] = {
    "sums": _sum,
    "units": _unit,
    "times": _time,
    "definitions": _definition,
    "spelling": _spelling,
    "itself": _itself,
    "unknown": _unknown,
}
_SHARES = (0.24, 0.12, 0.14, 0.14, 0.1, 0.1, 0.16)
