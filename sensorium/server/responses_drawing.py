"""What the image tool of a response works on: how its pictures come out, and which one it changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sensorium.engine.request import Canvas, SamplingParams
from sensorium.messages import Image, Message, Text
from sensorium.server.errors import invalid
from sensorium.server.media import MediaReader
from sensorium.server.picture_finish import Finish
from sensorium.server.picture_input import canvas_of, kept_of, referred
from sensorium.server.picture_order import caption, changing, edit_order, shown_again
from sensorium.server.picture_request import ImageRef, PicturePlan, plan_of
from sensorium.server.responses_items import ImageGenerationCall, InputImage, UserMessage
from sensorium.server.responses_messages import Placed
from sensorium.server.responses_request import Asked, ImageTool


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    plan: PicturePlan
    action: str | None = None  # what drawing is said to be, if the tool is offered
    changes: Image | None = None  # what has to be changed
    canvas: Canvas | None = None  # what is drawn into

    def changing(self, messages: list[Message], params: SamplingParams) -> tuple[list[Message], SamplingParams]:
        """What is asked, and how it is answered: what is to be changed is shown in the last message, since that is how
        the network was taught to change it. A request that leaves the action open may order a change in words."""
        if self.changes is None:
            return (messages, params) if self.action == "generate" else changing(messages, params)
        if not messages or messages[-1].role != "user":
            return messages, params
        last = messages[-1]
        if _seen(messages):
            return messages, params
        if again := shown_again(messages):
            return again, params
        told = [replace(part, text=edit_order(part.text)) if isinstance(part, Text) else part for part in last.parts]
        return [*messages[:-1], replace(last, parts=(self.changes, *told))], params

    def about(self, messages: Sequence[Message]) -> Drawing:
        """With what the last message shows, once that is known: a drawing of it has its shape. One of nothing that is
        shown is new, and keeps nothing of an earlier picture, unless that was asked for."""
        finish = self.plan.finish
        if seen := _seen(messages):
            height, width, _ = seen[0].pixels.shape
            return replace(self, plan=replace(self.plan, finish=replace(finish, shape_of=(width, height))))
        if (
            self.action != "edit"
            or self.changes is not None
            or (finish.kept is not None and finish.kept.hole is not None)
        ):
            return self
        plan = replace(self.plan, finish=replace(finish, kept=None))
        return replace(self, plan=plan, action="generate", canvas=None)


def _seen(messages: Sequence[Message]) -> list[Image]:
    """The pictures in the last message, if it is the user's."""
    last = messages[-1].parts if messages and messages[-1].role == "user" else ()
    return [part for part in last if isinstance(part, Image)]


def wanted_caption(messages: Sequence[Message]) -> str | None:
    """What a drawing should show, if the last message says so. An order about a picture tells of a change only."""
    if not messages or messages[-1].role != "user" or _seen(messages):
        return None
    return caption(messages[-1].text)


async def drawing_of(asked: Asked, items: Sequence[Placed], media: MediaReader) -> Drawing:
    """How a response draws. Raises APIError for a tool that asks for what can't be."""
    tool = asked.image_tool
    if tool is None:
        return Drawing(plan=plan_of(ImageTool(type="image_generation"), Finish()))
    prefix = f"tools[{(asked.tools or []).index(tool)}]."
    newest = _newest_picture(items)
    if newest is None:
        if tool.action == "edit":
            raise invalid("There is no picture to change.", f"{prefix}action")
        if tool.input_image_mask:
            raise invalid("There is no picture that could be kept.", f"{prefix}input_image_mask")
        return Drawing(plan=plan_of(tool, Finish(size=tool.asked_size())), action="generate")
    if tool.action == "generate" and tool.input_image_mask:
        raise invalid("A new picture has no mask.", f"{prefix}input_image_mask")
    kept = changes = None
    if tool.action == "edit" or tool.input_image_mask or tool.input_fidelity == "high":
        param, ref = newest
        picture = await referred(media, ref, param)
        masked = tool.input_image_mask
        mask = await referred(media, masked, f"{prefix}input_image_mask") if masked else None
        if tool.action != "generate":
            kept = await kept_of(media, picture, mask, tool, prefix=prefix)
        changes = await media.picture(picture.data, param) if tool.action == "edit" else None
    action = "generate" if tool.action == "generate" else "edit"
    plan = plan_of(tool, Finish(size=tool.asked_size(), kept=kept))
    return Drawing(plan=plan, action=action, changes=changes, canvas=await canvas_of(kept))


def _newest_picture(items: Sequence[Placed]) -> tuple[str, ImageRef] | None:
    """The last picture of a conversation, by whomever, and what a client knows it by."""
    for param, item in reversed(items):
        if isinstance(item, ImageGenerationCall) and item.result is not None:
            return param, ImageRef(image_url=f"data:image/png;base64,{item.result}")
        if isinstance(item, UserMessage) and not isinstance(item.content, str):
            for index, part in reversed(list(enumerate(item.content))):
                if isinstance(part, InputImage):
                    return f"{param}.content[{index}]", ImageRef(image_url=part.image_url, file_id=part.file_id)
    return None
