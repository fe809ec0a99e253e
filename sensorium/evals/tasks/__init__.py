"""The tasks, one file each. Their samples come from outside: `recipes/samples.py` makes them."""

from __future__ import annotations

from sensorium.evals.scorers import Listener, Namer, Transcriber, Viewer
from sensorium.evals.task import Task
from sensorium.evals.tasks.command import command
from sensorium.evals.tasks.draw import draw
from sensorium.evals.tasks.draw_emoji import draw_emoji
from sensorium.evals.tasks.draw_icon import draw_icon
from sensorium.evals.tasks.edits import edits
from sensorium.evals.tasks.edits_followup import edits_followup
from sensorium.evals.tasks.edits_placed import edits_placed
from sensorium.evals.tasks.emoji import emoji
from sensorium.evals.tasks.figures import figures
from sensorium.evals.tasks.film import film
from sensorium.evals.tasks.icons import icons
from sensorium.evals.tasks.lesson import lesson
from sensorium.evals.tasks.listening import listening
from sensorium.evals.tasks.photograph import photograph
from sensorium.evals.tasks.real_order import real_order
from sensorium.evals.tasks.real_word import real_word
from sensorium.evals.tasks.recall import recall
from sensorium.evals.tasks.refusal import refusal
from sensorium.evals.tasks.say import say
from sensorium.evals.tasks.say_styled import say_styled
from sensorium.evals.tasks.scene_qa import scene_qa
from sensorium.evals.tasks.several import several
from sensorium.evals.tasks.spoken_command import spoken_command
from sensorium.evals.tasks.spoken_question import spoken_question
from sensorium.evals.tasks.spoken_sums import spoken_sums
from sensorium.evals.tasks.tool_call import tool_call
from sensorium.evals.tasks.transcription import transcription
from sensorium.evals.tasks.translation import translation
from sensorium.evals.tasks.typed_question import typed_question
from sensorium.evals.tasks.whispered import whispered
from sensorium.evals.tasks.word_reading import word_reading


def every_task(transcribe: Transcriber, see: Viewer, manner: Listener, icon: Namer) -> tuple[Task, ...]:
    """All tasks in the order of a report. `transcribe` and `manner` judge speech, `see` and `icon` judge drawings."""
    return (
        spoken_command(),
        transcription(),
        spoken_question(transcribe),
        spoken_sums(),
        typed_question(),
        lesson(),
        recall(),
        say(transcribe),
        say_styled(manner, transcribe),
        listening(),
        whispered(manner, transcribe),
        translation(transcribe),
        scene_qa(),
        figures(),
        film(),
        several(),
        word_reading(),
        icons(),
        emoji(),
        draw(see),
        draw_icon(icon),
        draw_emoji(icon),
        edits(see),
        edits_followup(see),
        edits_placed(see),
        tool_call(),
        refusal(),
        real_word(),
        real_order(),
        photograph(),
        command(),
    )
