"""POST /v1/chat/completions: a request in, the engine's events out again as one object or as a stream of chunks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL.Image
import pydantic_core
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from sensorium.engine.request import (
    AudioDelta,
    ContextLengthExceeded,
    End,
    Engine,
    Event,
    ImageDelta,
    InputTranscriptDelta,
    SamplingParams,
    TextDelta,
    ToolCallEvent,
    TranscriptDelta,
    Usage,
)
from sensorium.messages import Audio, Message
from sensorium.server.audio_out import Pcm16Stream, SpokenReplies, encode_speech
from sensorium.server.body import read_json
from sensorium.server.chat_messages import to_messages
from sensorium.server.chat_request import ChatRequest, check_model, refuse_unsupported, sampling_params
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, from_validation, internal
from sensorium.server.hangup import EventStream
from sensorium.server.media import MediaReader
from sensorium.server.metrics import Metrics
