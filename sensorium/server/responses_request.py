"""What POST /v1/responses may say: strict models of the contract's fields, and what becomes of each.

A field is obeyed, or refused with an error naming it. Ignored are only those that the contract says to accept and
ignore, and that change nothing about the answer itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from sensorium.engine.request import ANY_OBJECT, Function, SamplingParams, ToolChoice
from sensorium.server.chat_request import FunctionDefinition, ServiceTier, used_tier
from sensorium.server.chat_sampling import chosen_temperature, held_schema, offered_function
from sensorium.server.errors import invalid, missing, unsupported
from sensorium.server.picture_request import ImageRef, PictureFields, guidance, num_drawings
from sensorium.server.responses_items import Items
from sensorium.server.wire import BARE, TEXT_OR_PARTS, Metadata, TaggedStr, ToolName, Wire, tagged_by

MIN_OUTPUT_TOKENS = 16


class FunctionTool(Wire):
    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ImageTool(PictureFields):
    """Drawing. With `action` "edit" the newest picture is what is to be changed."""

    type: Literal["image_generation"]
    model: str | None = None  # the network that answers is the one that draws
    input_image_mask: ImageRef | None = None
    action: Literal["generate", "edit", "auto"] = "auto"


Tool: TypeAlias = Annotated[
    Annotated[FunctionTool, Tag("<function>")] | Annotated[ImageTool, Tag("<image_generation>")], tagged_by("type")
]


class NamedFunction(Wire):
    type: Literal["function"]
    name: str


class NamedImageTool(Wire):
    type: Literal["image_generation"]


NamedTool: TypeAlias = Annotated[
    Annotated[NamedFunction, Tag("<function>")] | Annotated[NamedImageTool, Tag("<image_generation>")],
    tagged_by("type"),
]


class AllowedTools(Wire):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1)]


ToolChoiceParam: TypeAlias = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag(BARE)]
    | Annotated[NamedFunction, Tag("<function>")]
    | Annotated[NamedImageTool, Tag("<image_generation>")]
    | Annotated[AllowedTools, Tag("<allowed_tools>")],
    tagged_by("type", or_text=True),
]


class TextFormat(Wire):
    type: Literal["text"]


class JsonObjectFormat(Wire):
    type: Literal["json_object"]


class JsonSchemaFormat(Wire):
    type: Literal["json_schema"]
    name: ToolName
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


Format: TypeAlias = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[JsonSchemaFormat, Tag("<json_schema>")],
    tagged_by("type"),
]


class TextOptions(Wire):
    format: Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Wire):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class StreamOptions(Wire):
    include_obfuscation: bool | None = None


Include: TypeAlias = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]


_TEXT_OR_NAMED = Discriminator(lambda value: "<text>" if isinstance(value, str) else "<named>")


class NamedConversation(Wire):
    id: str


class Thread(Wire):
    """What was said: the fields that every request has which reads a conversation."""

    input: Annotated[TaggedStr | Items, TEXT_OR_PARTS] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None

    @property
    def conversation_id(self) -> str | None:
        return None


class Asked(Thread):
    """What makes a prompt: the fields that POST /v1/responses shares with POST /v1/responses/input_tokens."""

    conversation: Annotated[TaggedStr | Annotated[NamedConversation, Tag("<named>")], _TEXT_OR_NAMED] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: ToolChoiceParam | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
    reasoning: Reasoning | None = None  # accepted and ignored: there is none

    @property
    def functions(self) -> list[FunctionTool]:
        """The functions that the network is told of."""
        if self.tool_choice == "none":
            return []
        return [tool for tool in self.tools or () if isinstance(tool, FunctionTool)]

    @property
    def callable_functions(self) -> list[FunctionTool]:
        """Those that it may call."""
        match self.tool_choice:
            case NamedFunction(name=name):
                names = {name}
            case AllowedTools(tools=tools):
                names = {tool.name for tool in tools if isinstance(tool, NamedFunction)}
            case _:
                return self.functions
        return [function for function in self.functions if function.name in names]

    @property
    def conversation_id(self) -> str | None:
        named = self.conversation
        return named.id if isinstance(named, NamedConversation) else named

    @property
    def image_tool(self) -> ImageTool | None:
        return next((tool for tool in self.tools or () if isinstance(tool, ImageTool)), None)

    @property
    def must_draw(self) -> bool:
        """Whether the answer has to be a picture."""
        match self.tool_choice:
            case NamedImageTool():
                return True
            case AllowedTools(mode="required", tools=tools):
                return all(isinstance(tool, NamedImageTool) for tool in tools)
            case "required":
                return self.image_tool is not None and not self.functions
        return False

    @property
    def call_policy(self) -> ToolChoice:
        """Without functions there is nothing to call."""
        if not self.callable_functions:
            return "none"
        is_named = isinstance(self.tool_choice, NamedFunction)
        is_required = isinstance(self.tool_choice, AllowedTools) and self.tool_choice.mode == "required"
        return "required" if is_named or is_required or self.tool_choice == "required" else "auto"


class CountRequest(Asked):
    """What POST /v1/responses/input_tokens may say."""

    model: str | None = None


class ResponseRequest(Asked):
    model: str

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    background: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=MIN_OUTPUT_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    metadata: Metadata | None = None
    include: list[Include] | None = None  # what is to be included has to be there: most of it never is
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    max_tool_calls: Annotated[int, Field(ge=0)] | None = None  # of the tools that are built in: drawings

    # obeyed only where they ask for nothing: see refuse_unsupported
    prompt: Any = None
    context_management: list[Any] | None = None

    service_tier: ServiceTier | Literal["ultrafast"] | None = None

    # accepted and ignored, as the contract says: none of them changes what a correct answer is
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None

    @property
    def wants_logprobs(self) -> bool:
        return "message.output_text.logprobs" in (self.include or ())


def refuse_unsupported(request: ResponseRequest) -> None:
    """Raises APIError for the first field that asks for something this server cannot do."""
    refusals = (
        (request.prompt, "prompt", "stored prompts are not available"),
        (request.context_management, "context_management", "use `truncation`, or POST /v1/responses/compact"),
    )
    for asked_for, param, what in refusals:
        if asked_for:
            raise unsupported(param, what)
    if request.background and request.store is False:
        raise invalid("'background' is only allowed when 'store' is not false.", "background")
    if request.max_tool_calls == 0 and request.must_draw:
        raise invalid("'tool_choice' asks for a drawing, which 'max_tool_calls' does not allow.", "max_tool_calls")
    if request.stream_options and not request.stream:
        raise invalid("'stream_options' is only allowed when 'stream' is true.", "stream_options")
    refuse_prompt(request)
    if request.top_logprobs and not request.wants_logprobs:
        message = "'top_logprobs' is only allowed when 'include' has 'message.output_text.logprobs'."
        raise invalid(message, "top_logprobs")


def refuse_prompt(asked: Asked) -> None:
    """As `refuse_unsupported`, for the fields that make a prompt."""
    if asked.previous_response_id and asked.conversation_id:
        message = "Give 'previous_response_id' or 'conversation', not both."
        raise invalid(message, "previous_response_id", "mutually_exclusive_parameters")
    refuse_nothing(asked)
    _refuse_tools(asked)


def refuse_nothing(asked: Thread) -> None:
    """Raises APIError where nothing was said at all."""
    if not asked.input and not asked.previous_response_id and not asked.conversation_id:
        raise missing("input") if asked.input is None else invalid("'input' is empty.", "input")


def _refuse_tools(asked: Asked) -> None:
    tools = asked.tools or []
    for index, tool in enumerate(tools):
        if isinstance(tool, ImageTool):
            tool.check(f"tools[{index}].")
    if sum(isinstance(tool, ImageTool) for tool in tools) > 1:
        raise invalid("'image_generation' is offered more than once.", "tools")
    match asked.tool_choice:
        case "required" if not asked.callable_functions and not asked.must_draw:
            raise invalid("'tool_choice' is 'required', but no tool is offered.", "tool_choice")
        case NamedImageTool() if asked.image_tool is None:
            raise invalid("'image_generation' is not among the tools.", "tool_choice.type")
        case NamedFunction(name=name):
            _check_named([name], asked, "tool_choice.name")
        case AllowedTools(tools=named):
            names = [tool.name for tool in named if isinstance(tool, NamedFunction)]
            _check_named(names, asked, "tool_choice.tools")
            if len(names) < len(named) and asked.image_tool is None:
                raise invalid("'image_generation' is not among the tools.", "tool_choice.tools")
    if asked.must_draw and asked.text and asked.text.format and not isinstance(asked.text.format, TextFormat):
        raise invalid("A picture keeps to no schema: leave out 'text.format' or the forced drawing.", "text.format")


def _check_named(names: Sequence[str], asked: Asked, param: str) -> None:
    known = {tool.name for tool in asked.tools or () if isinstance(tool, FunctionTool)}
    for name in names:
        if name not in known:
            raise invalid("No function of this name is among the tools.", param)


def sampling_params(request: ResponseRequest) -> SamplingParams:
    """How the engine should answer: by chance only where that was asked for, and then by a new roll of the dice.

    Compiles schemas, which may take long: not for the event loop. Raises APIError for one that no answer can keep to.
    """
    shows = request.stream or request.background
    image = request.image_tool
    return SamplingParams(
        modality="image" if request.must_draw else "text",
        max_tokens=request.max_output_tokens,
        temperature=chosen_temperature(request.temperature, request.top_p),
        top_p=SamplingParams().top_p if request.top_p is None else request.top_p,
        seed=secrets.randbits(62),
        flex=used_tier(request.service_tier) == "flex",
        tool_choice=request.call_policy,
        functions=_functions(request),
        max_calls=1 if request.parallel_tool_calls is False else None,
        document=_document(request.text.format if request.text else None),
        top_logprobs=(request.top_logprobs or 0) if request.wants_logprobs else None,
        drawings=num_drawings(image.effective_quality) if image else 1,
        guidance_scale=guidance(image.effective_quality) if image else SamplingParams().guidance_scale,
        partial_images=image.partial_images if image and shows else 0,
    )


def _functions(request: ResponseRequest) -> tuple[Function, ...]:
    names = [function.name for function in request.callable_functions]
    functions: list[Function] = []
    for index, tool in enumerate(request.tools or ()):
        if isinstance(tool, FunctionTool):
            definition = FunctionDefinition(**tool.model_dump(exclude={"type"}))
            function = offered_function(definition, f"tools[{index}]")
            if tool.name in names:
                functions.append(function)
    return tuple(functions)


def _document(format: Format | None) -> str | None:
    match format:
        case JsonObjectFormat():
            return ANY_OBJECT
        case JsonSchemaFormat():
            return held_schema(format.schema_, "text.format.schema")
    return None
