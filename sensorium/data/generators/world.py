"""What the dialogues are about: a home, and what a tutor of small children knows. Tables, nothing else.

Word pairs are written as one text: pairs apart by `|` or a new line, the two sides by the first space.
"""

from __future__ import annotations


def _pairs(table: str) -> tuple[tuple[str, str], ...]:
    pairs = (pair.strip().partition(" ") for pair in table.strip().replace("\n", "|").split("|"))
    return tuple((one, other) for one, _, other in pairs)


ROOMS = ("kitchen", "bedroom", "bathroom", "living room", "hall", "office", "garage", "garden", "attic")
LIGHTS = ("lights", "lamp")
DEVICES = ("lights", "lamp", "fan", "heater", "television", "radio", "oven", "camera")
DOORS = ("front door", "back door", "garage door", "garden gate", "kitchen window")
COVERS = ("blinds", "curtains", "shutters")
MUSIC = ("jazz", "rock", "folk", "piano", "happy", "slow", "quiet")
UNITS = ("seconds", "minutes", "hours")
TO_TWELVE = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
DIGITS = ("zero", *TO_TWELVE[:9])
TO_TWENTY = (
    *DIGITS,
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
    "twenty",
)
TENS = ("ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
HOURS = TO_TWELVE[4:11]  # the same ones morning and evening
DURATIONS = (*TO_TWELVE[1:], "fifteen", "twenty", "thirty", "forty", "fifty")
DEGREES = (*TO_TWENTY[15:], "twenty one", "twenty two", "twenty three", "twenty four", "twenty five")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
OPPOSITES = _pairs("""
    big small|hot cold|day night|up down|open shut|happy sad|fast slow|old young|hard soft|wet dry|high low|long short
    black white|left right|full empty|light dark|good bad|early late|loud quiet|clean dirty|heavy light|first last
""")
COLOURS = {
    "yellow": ("banana", "lemon", "sun"),
    "red": ("tomato", "strawberry"),
    "green": ("leaf", "frog", "pea"),
    "orange": ("carrot", "orange"),
    "white": ("cloud", "egg", "sheep"),
    "grey": ("elephant", "mouse", "stone"),
    "black": ("crow", "spider"),
    "blue": ("whale", "sky"),
    "brown": ("bear", "potato", "horse"),
    "pink": ("pig",),
    "purple": ("grape",),
}
SOUNDS = _pairs("""
    cow moo|dog woof|cat meow|duck quack|sheep baa|pig oink|horse neigh|bee buzz|snake hiss|lion roar|bird tweet
    mouse squeak|crow caw
""")
LEGS = {
    "no": ("snake", "fish", "whale"),
    "two": ("bird", "duck", "crow", "hen"),
    "four": ("dog", "cat", "cow", "horse", "lion", "frog", "mouse", "elephant", "table", "chair"),
    "six": ("bee", "ant", "fly"),
    "eight": ("spider",),
}
BY_SIZE = ("ant", "bee", "mouse", "frog", "duck", "cat", "dog", "sheep", "lion", "horse", "elephant", "whale")
SIDES = {"circle": "no", "triangle": "three", "square": "four", "rectangle": "four", "pentagon": "five"}
CAPITALS = _pairs("""
    france paris|england london|germany berlin|italy rome|spain madrid|portugal lisbon|greece athens|norway oslo
    sweden stockholm|finland helsinki|poland warsaw|austria vienna|ireland dublin|scotland edinburgh|egypt cairo
    japan tokyo|china beijing|russia moscow|canada ottawa|cuba havana
""")
# Voices say "a" between letters as the article, so no word spelled aloud has one.
SPELLED = (
    *("dog", "pig", "hen", "bird", "fish", "sun", "moon", "tree", "book", "milk", "egg", "bed", "door", "cup"),
    *("house", "red", "blue", "green", "lion", "mouse", "bus", "box", "shoe"),
)
LETTERED = (
    *SPELLED,
    *("apple", "ant", "cat", "garden", "kitchen", "nose", "orange", "radio", "timer", "window", "yellow", "zero"),
)
SOCIAL = {
    "hello|hi|hello there|hi there": "hello how can i help you",
    "good morning": "good morning to you",
    "good evening": "good evening to you",
    "good night|i am going to bed": "good night sleep well",
    "thank you|thanks|thank you very much|thanks a lot": "you are welcome",
    "goodbye|bye|see you later|bye bye": "goodbye see you soon",
    "who are you|what is your name|what are you called": "my name is sensorium",
    "how are you|how are you today|are you well": "i am very well thank you",
    "what can you do|how can you help me": "i can hear see speak and draw",
    "are you a person|are you real|are you human": "no i am a small computer network",
    "can you hear me|are you there|are you listening": "yes i can hear you",
    "sing a song|can you sing|sing to me": "la la la",
    "tell me a joke|make me laugh|say something funny": "why is six sad because seven ate nine",
    "i am tired|i am sleepy": "have a good rest",
    "i am happy|this is fun|i like you": "that makes me happy",
    "i am sad|i feel bad": "i am sorry to hear that",
    "i am hungry|i want to eat": "how about an apple",
    "yes|no|okay|maybe": "okay",
}
FACTS = {
    "how many days are in a week": "a week has seven days",
    "how many months are in a year": "a year has twelve months",
    "how many hours are in a day": "a day has twenty four hours",
    "how many minutes are in an hour": "an hour has sixty minutes",
    "how many seconds are in a minute": "a minute has sixty seconds",
    "how many wheels does a car have": "a car has four wheels",
    "how many wheels does a bicycle have": "a bicycle has two wheels",
    "how many fingers are on a hand": "a hand has five fingers",
    "where does milk come from": "milk comes from cows",
    "where do eggs come from": "eggs come from hens",
    "what do bees make": "bees make honey",
    "what is ice made of": "ice is made of water",
    "when is it dark": "it is dark at night",
    "when is it light": "it is light in the day",
    "what gives us light in the day": "the sun gives us light in the day",
    "what do you read": "you read a book",
    "what do you hear with": "you hear with your ears",
    "what do you see with": "you see with your eyes",
    "what do you smell with": "you smell with your nose",
}
POLITE = ("", "", "", "please ", "could you ", "can you ")  # before an order
ASKING = ("", "", "", "tell me ", "please tell me ", "sensorium ")  # before a question
REPEATING = ("repeat after me ", "say after me ", "please say ", "please repeat ")  # before words to repeat
