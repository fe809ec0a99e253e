"""What of a film comes to be in the stream: what is said, what each frame shows, what happens."""

from __future__ import annotations

from dataclasses import replace

from sensorium.engine.answer import num_positions, read
from sensorium.engine.engine import OmniEngine
from sensorium.engine.grammar import MAX_NOTE_TOKENS, MAX_STORY_TOKENS, NOTE_TOKENS, SPARE_TRANSCRIPT_TOKENS
from sensorium.engine.network import Network
from sensorium.engine.request import End, InputTranscriptDelta, SamplingParams
from sensorium.engine.sequence import Sequence
from sensorium.messages import Video
from sensorium.tokenizers import vocab
from sensorium.tokenizers.release import Release
from tests.engine.test_engine import CLIP, FILM, PICTURE, user


def noting(release: Release) -> Release:
    """As if its network had been taught to say what each frame shows."""
    return replace(release, config=replace(release.config, render=replace(release.config.render, noted_frames=True)))


async def test_a_film_is_heard_and_then_told(release: Release):
    """What was said in it leaves as a clip's transcript does; what happens in it stays in the stream."""
    network, engine = Network.of(release), OmniEngine(release)
    sequence = Sequence(network.runner)
    pieces = engine._pieces(tuple(user(CLIP, FILM, "and", replace(FILM, sound=None))))
    events = [event for event in read(network, sequence, pieces) if event]
    ids = sequence.stream.ids
    framing = [symbol for symbol in ids if symbol in (vocab.VIDEO, vocab.TURN, vocab.CAPTION, vocab.END_VIDEO)]
    assert framing == [
        vocab.TURN,
        *(vocab.VIDEO, vocab.TURN, vocab.CAPTION, vocab.END_VIDEO),
        *(vocab.VIDEO, vocab.CAPTION, vocab.END_VIDEO),
    ]
    start = ids.index(vocab.VIDEO)
    said = ids[ids.index(vocab.TURN, start) + 1 : ids.index(vocab.CAPTION, start)]
    told = ids[ids.index(vocab.CAPTION, start) + 1 : ids.index(vocab.END_VIDEO)]
    assert all(map(release.vocabulary.is_text, said + told))
    assert len(said) <= 7 + SPARE_TRANSCRIPT_TOKENS
    assert len(told) <= MAX_STORY_TOKENS
    heard = [event for event in events if isinstance(event, InputTranscriptDelta) and event.clip == 1]
    words = release.text.decode(symbol - release.vocabulary.text_start for symbol in said)
    assert "".join(event.text for event in heard) == words
    (*_, end) = [event async for event in engine.generate(user(FILM), SamplingParams(max_tokens=2))]
    await engine.close()
    assert isinstance(end, End)
    assert (end.usage.input_image, end.usage.input_audio) == (32, 7)


async def test_each_frame_is_noted_before_the_next(release: Release):
    noted = noting(release)
    network, engine = Network.of(noted), OmniEngine(noted)
    sequence = Sequence(network.runner)
    pieces = engine._pieces(tuple(user(FILM)))
    assert num_positions(pieces) == num_positions(OmniEngine(release)._pieces(tuple(user(FILM)))) + 2 * (
        2 + NOTE_TOKENS
    )
    list(read(network, sequence, pieces))
    await engine.close()
    assert engine.info.limits["frame_tokens"] == 16 + 2 + NOTE_TOKENS
    ids = sequence.stream.ids
    marks = (vocab.SECOND, vocab.CAPTION, vocab.END_IMAGE, vocab.TURN, vocab.END_VIDEO)
    framing = [symbol for symbol in ids if symbol in marks]
    note = (vocab.CAPTION, vocab.END_IMAGE)
    assert framing == [vocab.SECOND, *note, *note, vocab.TURN, vocab.CAPTION, vocab.END_VIDEO]
    opened, closed = (([at for at, symbol in enumerate(ids) if symbol == mark]) for mark in note)
    notes = [ids[start + 1 : end] for start, end in zip(opened[:2], closed, strict=True)]
    assert all(len(note) <= MAX_NOTE_TOKENS and all(map(release.vocabulary.is_text, note)) for note in notes)
    assert [at for at, _ in sequence.stream.patches[15::16]] == [start - 1 for start in opened[:2]], "behind its frame"
    said = ids[ids.index(vocab.TURN) + 1 : opened[2]]
    assert len(said) == 7 + SPARE_TRANSCRIPT_TOKENS, "a random network goes on as long as all that was heard lets it"


async def test_notes_leave_room_for_the_answer(release: Release):
    """A context that the film fills but for a little: its notes are as short as they must be."""
    noted = noting(release)
    network, engine = Network.of(noted), OmniEngine(noted)
    frames, most = (PICTURE,), noted.config.model.max_seq_len
    long = Video(frames=frames, times_ms=(0.0,))
    while num_positions(engine._pieces(tuple(user(long)))) + 40 < most:
        frames += (PICTURE,)
        long = Video(frames=frames, times_ms=tuple(500.0 * at for at in range(len(frames))))
    sequence = Sequence(network.runner)
    list(read(network, sequence, engine._pieces(tuple(user(long)))))
    await engine.close()
    assert sequence.stream.ids.count(vocab.END_IMAGE) == len(frames)
    assert sequence.stream.ids.count(vocab.END_VIDEO) == 1
    assert sequence.num_free > 0
