"""Speech faster or slower at the same pitch, while it streams: FFmpeg's `atempo`, which overlaps pieces of it."""

from __future__ import annotations

import av
import numpy as np
from av.filter import Graph

_SLOWEST_STEP = 0.5  # of one atempo: slower speech goes through several
_PIECES_PER_S = 100  # atempo gives back what it has at the end of each piece that it is given: short ones wait least
_TAIL_S = 0.5  # of silence behind the last sound, which pushes all of that out


class Stretch:
    """Mono float32 in pieces -> what is heard of it at `speed`, equal for any way of cutting it. N samples become
    N / speed."""

    def __init__(self, speed: float, rate_hz: int) -> None:
        self._speed = speed
        # atempo overlaps windows of 1/24 s, rounded up to a power of two: of 64 ms at 16 kHz, and the first frame of an
        # answer would wait for the second. Told 12 kHz it takes 32 ms, still two periods of the deepest voice.
        self._told_rate_hz = rate_hz * 3 // 4
        self._piece_size = rate_hz // _PIECES_PER_S
        self._tail = np.zeros(round(_TAIL_S * rate_hz), np.float32)
        self._rest = np.zeros(0, np.float32)  # less than a piece
        self._num_taken = 0  # samples, of those pushed
        self._num_given = 0
        self._graph = _tempo_graph(speed, self._told_rate_hz) if speed != 1.0 else None

    def push(self, waveform: np.ndarray, *, last: bool = False) -> np.ndarray:
        """The samples that are ready after `waveform`, (N,) float32; with `last`, all that remain."""
        if self._graph is None:
            return waveform
        self._num_taken += len(waveform)
        waiting = np.concatenate((self._rest, waveform, self._tail if last else self._rest[:0]), dtype=np.float32)
        whole = len(waiting) if last else len(waiting) - len(waiting) % self._piece_size
        self._rest = waiting[whole:]
        ready = [np.zeros(0, np.float32)]
        for at in range(0, whole, self._piece_size):
            ready += self._through(self._graph, waiting[at : min(at + self._piece_size, whole)])
        heard = np.concatenate(ready)
        if last:  # what is heard is as long as the clock of the call says, to the sample
            missing = max(0, round(self._num_taken / self._speed) - self._num_given)
            heard = np.pad(heard[:missing], (0, missing - len(heard[:missing])))
        self._num_given += len(heard)
        return heard

    def _through(self, graph: Graph, piece: np.ndarray) -> list[np.ndarray]:
        frame = av.AudioFrame.from_ndarray(piece[None], format="fltp", layout="mono")
        frame.sample_rate = self._told_rate_hz
        graph.push(frame)
        ready: list[np.ndarray] = []
        while True:
            try:
                pulled = graph.pull()
            except BlockingIOError:
                return ready
            assert isinstance(pulled, av.AudioFrame)
            ready.append(pulled.to_ndarray()[0])


def _tempo_graph(speed: float, rate_hz: int) -> Graph:
    steps: list[float] = []
    while speed < _SLOWEST_STEP:
        steps.append(_SLOWEST_STEP)
        speed /= _SLOWEST_STEP
    graph = Graph()
    last = graph.add_abuffer(format="fltp", sample_rate=rate_hz, layout="mono")
    for step in (*steps, speed):
        tempo = graph.add("atempo", str(step))
        last.link_to(tempo)
        last = tempo
    last.link_to(graph.add("abuffersink"))
    graph.configure()
    return graph
