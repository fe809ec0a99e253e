"""Sensorium: one network whose single token stream carries text, speech and pictures, in and out."""

from sensorium.engine.request import Event, SamplingParams
from sensorium.messages import Audio, Image, Message, Text, ToolCall, Video

__version__ = "0.1.0"

__all__ = ["Audio", "Event", "Image", "Message", "SamplingParams", "Text", "ToolCall", "Video"]
