"""Short phrases in four languages: set ones, and ones made of a thing, its colour and a pattern.

Everything is written as it is said: lower-case, no punctuation but apostrophes. Of the made ones a tenth, chosen by the
hash of the English phrase, is held out in every language. Set ones are to be known: nobody finds "bon voyage" out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from sensorium.data.generators.dialogues import is_heldout, pick
from sensorium.data.generators.speech import Speaker, Split

Language: TypeAlias = Literal["english", "german", "french", "spanish"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
ACCENTS: dict[Language, str] = {"german": "de", "french": "fr", "spanish": "es"}
"""The espeak voice of each language but English, whose speakers have accents of their own."""

Phrase: TypeAlias = dict[Language, str]


class _Thing(NamedTuple):
    """A noun with its article in each language."""

    english: str
    german: str
    french: str
    spanish: str


class _Colour(NamedTuple):
    """`french` and `spanish` hold the masculine and the feminine form."""

    english: str
    german: str
    french: tuple[str, str]
    spanish: tuple[str, str]


_THINGS = tuple(
    _Thing(*row.split(", "))
    for row in """
    house, das haus, la maison, la casa
    door, die tür, la porte, la puerta
    book, das buch, le livre, el libro
    table, der tisch, la table, la mesa
    chair, der stuhl, la chaise, la silla
    car, das auto, la voiture, el coche
    dog, der hund, le chien, el perro
    cat, die katze, le chat, el gato
    flower, die blume, la fleur, la flor
    garden, der garten, le jardin, el jardín
    cup, die tasse, la tasse, la taza
    hat, der hut, le chapeau, el sombrero
    shirt, das hemd, la chemise, la camisa
    boat, das boot, le bateau, el barco
    bag, die tasche, le sac, la bolsa
    shoe, der schuh, la chaussure, el zapato
    """.strip().splitlines()
    for row in [row.strip()]
)
_COLOURS = (
    _Colour("red", "rot", ("rouge", "rouge"), ("rojo", "roja")),
    _Colour("blue", "blau", ("bleu", "bleue"), ("azul", "azul")),
    _Colour("green", "grün", ("vert", "verte"), ("verde", "verde")),
    _Colour("yellow", "gelb", ("jaune", "jaune"), ("amarillo", "amarilla")),
    _Colour("black", "schwarz", ("noir", "noire"), ("negro", "negra")),
    _Colour("white", "weiß", ("blanc", "blanche"), ("blanco", "blanca")),
    _Colour("grey", "grau", ("gris", "grise"), ("gris", "gris")),
)
_SET: tuple[Phrase, ...] = tuple(
    dict(zip(LANGUAGES, (part.strip() for part in row.split("|")), strict=True))
    for row in """
    good morning | guten morgen | bonjour | buenos días
    good night | gute nacht | bonne nuit | buenas noches
    goodbye | auf wiedersehen | au revoir | adiós
    thank you | danke | merci | gracias
    thank you very much | vielen dank | merci beaucoup | muchas gracias
    please | bitte | s'il vous plaît | por favor
    yes | ja | oui | sí
    no | nein | non | no
    i am sorry | es tut mir leid | je suis désolé | lo siento
    how are you | wie geht es dir | comment vas tu | cómo estás
    i am fine | mir geht es gut | je vais bien | estoy bien
    what is your name | wie heißt du | comment t'appelles tu | cómo te llamas
    i do not understand | ich verstehe nicht | je ne comprends pas | no entiendo
    i am hungry | ich habe hunger | j'ai faim | tengo hambre
    i am thirsty | ich habe durst | j'ai soif | tengo sed
    i am tired | ich bin müde | je suis fatigué | estoy cansado
    help me | hilf mir | aide moi | ayúdame
    where is the station | wo ist der bahnhof | où est la gare | dónde está la estación
    how much is it | wie viel kostet es | combien ça coûte | cuánto cuesta
    what time is it | wie spät ist es | quelle heure est il | qué hora es
    i like you | ich mag dich | je t'aime bien | me caes bien
    today is monday | heute ist montag | aujourd'hui c'est lundi | hoy es lunes
    it is raining | es regnet | il pleut | está lloviendo
    the sun is shining | die sonne scheint | le soleil brille | el sol brilla
    a coffee please | einen kaffee bitte | un café s'il vous plaît | un café por favor
    water please | wasser bitte | de l'eau s'il vous plaît | agua por favor
    see you tomorrow | bis morgen | à demain | hasta mañana
    happy birthday | alles gute zum geburtstag | joyeux anniversaire | feliz cumpleaños
    have a good trip | gute reise | bon voyage | buen viaje
    """.strip().splitlines()
)


# A thing is its article and noun; `object` is how it stands behind "i see".
_COLOURED: Phrase = {
    "english": "the {colour} {noun}",
    "german": "{article} {colour}e {noun}",
    "french": "{thing} {colour}",
    "spanish": "{thing} {colour}",
}
_IS_COLOURED: Phrase = {
    "english": "the {noun} is {colour}",
    "german": "{thing} ist {colour}",
    "french": "{thing} est {colour}",
    "spanish": "{thing} es {colour}",
}
_WHERE: Phrase = {
    "english": "where is the {noun}",
    "german": "wo ist {thing}",
    "french": "où est {thing}",
    "spanish": "dónde está {thing}",
}
_I_SEE: Phrase = {
    "english": "i see the {noun}",
    "german": "ich sehe {object}",
    "french": "je vois {thing}",
    "spanish": "veo {object}",
}
_PATTERNS = (_COLOURED, _COLOURED, _IS_COLOURED, _IS_COLOURED, _WHERE, _I_SEE)


def phrase(rng: np.random.Generator, split: Split) -> Phrase:
    """One meaning in all languages: in training a third of the time a set phrase."""
    while True:
        if split == "train" and rng.random() < 1 / 3:
            return pick(rng, _SET)
        made = _filled(pick(rng, _PATTERNS), pick(rng, _THINGS), pick(rng, _COLOURS))
        if is_heldout(made["english"]) == (split == "heldout"):
            return made


def every_phrase() -> Iterator[Phrase]:
    """All there are, held-out ones too."""
    yield from _SET
    yield from (_filled(*of) for of in product(_PATTERNS, _THINGS, _COLOURS))


def speaking(speaker: Speaker, language: Language) -> Speaker:
    """The same voice in a language."""
    return speaker if language == "english" else replace(speaker, accent=ACCENTS[language])


def _filled(pattern: Phrase, thing: _Thing, colour: _Colour) -> Phrase:
    article, noun = thing.german.split()
    accusative = thing.german.replace("der ", "den ")
    personal = thing.spanish.replace("el ", "al ", 1) if thing.english in ("dog", "cat") else thing.spanish
    french = colour.french[thing.french.startswith("la ")]
    spanish = colour.spanish[thing.spanish.startswith("la ")]
    words: dict[Language, dict[str, str]] = {
        "english": {"noun": thing.english, "colour": colour.english},
        "german": {
            **{"thing": thing.german, "article": article, "noun": noun, "object": accusative},
            "colour": colour.german,
        },
        "french": {"thing": thing.french, "colour": french},
        "spanish": {"thing": thing.spanish, "object": personal, "colour": spanish},
    }
    return {language: pattern[language].format(**words[language]) for language in LANGUAGES}
