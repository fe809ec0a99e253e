"""A stand-in for the server until it exists: the wire format, canned answers."""

import asyncio, base64, io, json, math, pathlib
import numpy as np
from PIL import Image, ImageDraw
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

PAGE = pathlib.Path(__file__).parents[2] / "sensorium/playground"
CSP = "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:"
bodies, cancelled = [], []


async def models(request):
    return JSONResponse(
        {
            "object": "list",
            "data": [{"id": i, "object": "model"} for i in ("gpt-4o", "sensorium-nano", "gpt-4o-audio-preview")],
        }
    )


async def chat(request):
    body = await request.json()
    bodies.append(body)
    last = body["messages"][-1]["content"]
    text = last if isinstance(last, str) else "".join(p.get("text", "") for p in last)
    if "fail" in text:
        return JSONResponse(
            {
                "error": {
                    "message": "the picture could not be decoded",
                    "type": "invalid_request_error",
                    "param": "messages[0].content[0].image_url",
                    "code": "image_parse_error",
                }
            },
            status_code=400,
        )

    def line(delta, finish=None, **more):
        return (
            "data: "
            + json.dumps(
                {
                    "id": "x",
                    "object": "chat.completion.chunk",
                    "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
                    **more,
                }
            )
            + "\n\n"
        )

    async def gen():
        try:
            yield line({"role": "assistant", "content": "" if not body.get("audio") else None})
            finish = "stop"
            if "light" in text and body.get("tools"):
                yield line(
                    {
                        "tool_calls": [
                            {
                                "index": 0,
                                "id": "call_1",
                                "type": "function",
                                "function": {"name": "set_light", "arguments": ""},
                            }
                        ]
                    }
                )
                for part in ('{"room": "kit', 'chen", "state": "on"}'):
                    yield line({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
                finish = "tool_calls"
            elif "draw" in text:
                for share in (0.4, 0.7, 1):
                    picture = Image.new("RGB", (128, 128), (250, 246, 238))
                    d = ImageDraw.Draw(picture)
                    d.ellipse((30, 30, 98, 98), fill=(214, 48, 44))
                    d.rectangle((0, 128 * share, 128, 128), fill=(128, 128, 128))
                    out = io.BytesIO()
                    picture.save(out, "PNG")
                    yield line(
                        {"images": [{"b64_json": base64.b64encode(out.getvalue()).decode(), "final": share == 1}]}
                    )
                    await asyncio.sleep(0.3)
            elif body.get("audio"):
                words = "Three plus four is seven, and seven is a prime number."
                t = np.arange(1920) / 24000
                for i in range(30):
                    if i < len(words.split()):
                        yield line({"audio": {"transcript": words.split()[i] + " "}})
                    wave = 0.5 * abs(math.sin(i / 2.3)) * np.sin(2 * np.pi * 220 * (t + i * 0.08))
                    yield line({"audio": {"data": base64.b64encode((wave * 32767).astype("<i2").tobytes()).decode()}})
                    await asyncio.sleep(0.07)
            else:
                for word in ("Three ", "plus ", "four ", "is ", "seven. ", "I am sure. ") * (
                    30 if "long" in text else 1
                ):
                    yield line({"content": word})
                    await asyncio.sleep(0.05)
            yield line({}, finish)
            yield (
                "data: "
                + json.dumps(
                    {
                        "choices": [],
                        "usage": {
                            "prompt_tokens": 21,
                            "completion_tokens": 34,
                            "total_tokens": 55,
                            "prompt_tokens_details": {"text_tokens": 9, "audio_tokens": 12},
                            "completion_tokens_details": {"audio_tokens": 30, "text_tokens": 4},
                        },
                    }
                )
                + "\n\n"
            )
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            cancelled.append(text)
            raise

    return StreamingResponse(gen(), media_type="text/event-stream")


class Csp(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["content-security-policy"] = CSP
        return response


app = Starlette(
    routes=[
        Route("/v1/models", models),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ],
    middleware=[Middleware(Csp)],
)
