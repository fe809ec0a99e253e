"""How documents ask for things, and what is answered in set words."""

from __future__ import annotations

from sensorium.data.generators.styles import Style

TRANSCRIBE = ("write down what you hear", "what was said", "write this down", "transcribe this")
READ = ("what does it say", "read this", "what is written here", "which word is this", "read the word")
DIGIT = ("what number is this", "read the number", "which number is written here")
NAME = ("what is this", "what do you see", "name this", "what does the picture show")
NAME_EMOJI = (*NAME, "which emoji is this", "what emoji is that", "name this emoji")
DRAW = ("draw {x}", "draw {x}", "please draw {x}", "draw me {x}", "make a picture of {x}", "can you draw {x}")
MANNER = ("how did i say that", "how am i speaking", "how do i sound", "what is my voice like")
MANNERS: dict[Style | None, str] = {
    "fast": "you speak fast",
    "slow": "you speak slowly",
    "calm": "you speak calmly",
    "whisper": "you whisper",
    "shout": "you shout",
    None: "you speak as usual",
}
STYLED: dict[Style, tuple[str, ...]] = {
    "fast": ("say fast: {x}", "say quickly: {x}"),
    "slow": ("say slowly: {x}",),
    "calm": ("say calmly: {x}",),
    "whisper": ("whisper: {x}", "say in a whisper: {x}"),
    "shout": ("shout: {x}", "say loudly: {x}"),
}
BEHIND = ("what else do you hear", "what is going on behind me", "what noise is there", "what is in the background")
PEOPLE = ("how many people are speaking", "how many voices do you hear", "did more than one person speak")
PEOPLE_SPEAK = {1: "one person speaks", 2: "two people speak", 3: "three people speak"}
SAID = ("what was said", "what is said", "what does the voice say", "what do you hear")
TRANSLATE = ("say this in {x}", "translate this to {x}", "what is this in {x}", "how do you say this in {x}")
INTERPRET = ("translate to {x}", "you are an interpreter, answer in {x}", "say in {x} what you hear")
GO_ON = ("go on", "please go on", "continue", "what were you saying", "sorry, go on")
LISTENING = ("yes?", "go on", "i am listening", "yes, please go on")
SYSTEM_PROMPTS = (
    "you are a helpful assistant",
    "You are a helpful assistant.",
    "answer briefly",
    "You are a voice assistant in a home. Be friendly and brief.",
    "you are a kind tutor",
)
