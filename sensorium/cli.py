"""The command line: serve, keys, chat, verify, train, eval, card, shrink, version.

Every command imports what it needs inside itself, so that `sensorium --help` answers at once and a missing extra
breaks only the command that needs it.
"""

from __future__ import annotations

import gc
import os
import shlex
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from sensorium.engine.request import EngineInfo, LiveEngine
    from sensorium.platform.state import State
    from sensorium.server.config import ServerConfig
    from sensorium.server.tls import Identity

RELEASED = Path(__file__).parent / "checkpoints" / "tiny"
_MAX_VERIFIED_S = 3600.0
_PONG_TIMEOUT_S = 120.0
_SWITCH_INTERVAL_S = 0.0005  # that who has computed may wait for who speaks HTTP: Python's 5 ms are as long as a step
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}  # options that a recipe understands itself

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="One network that reads, hears, sees, speaks and draws: serve it, talk to it, train it.",
)
keys = typer.Typer(no_args_is_help=True, help="The keys to a server: make, list and revoke them.")
app.add_typer(keys, name="keys")

Checkpoint = Annotated[Path, typer.Option(help="A folder with weights; the released ones by default.")]
Fake = Annotated[bool, typer.Option("--fake", help="Scripted answers instead of a network, to test clients with.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads that share many answers and long prompts.")]
Cached = Annotated[
    int | None,
    typer.Option(min=1, help="Positions of all conversations kept computed; by default 16 contexts of them."),
]
DEFAULT_THREADS = min(4, os.cpu_count() or 1)
SettingsFile = Annotated[
    Path | None,
    typer.Option("--config", exists=True, dir_okay=False, help="Settings in TOML; the options given here win."),
]
StateFolder = Annotated[
    Path | None, typer.Option(envvar="SENSORIUM_STATE", help="The folder of what is to outlive the server.")
]
DatabaseUrl = Annotated[
    str | None, typer.Option(envvar="SENSORIUM_DATABASE", help="postgresql://... instead of a file in that folder.")
]


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="The address to listen on, 127.0.0.1 by default; 0.0.0.0 for every one.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="8000 by default; 0 picks a free port.")] = None,
    checkpoint: Checkpoint = RELEASED,
    fake: Fake = False,
    threads: Threads = DEFAULT_THREADS,
    cached_positions: Cached = None,
    file: SettingsFile = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(envvar="SENSORIUM_API_KEYS", help="A key that clients must show; give it again for more keys."),
    ] = None,
    state: StateFolder = None,
    database: DatabaseUrl = None,
    tls_self_signed: Annotated[
        bool, typer.Option("--tls-self-signed", help="HTTPS and WSS on this machine, with a certificate made for it.")
    ] = False,
    tls_cert: Annotated[Path | None, typer.Option(help="HTTPS and WSS with this certificate (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's key (PEM).")] = None,
) -> None:
    """Serve the OpenAI API and the playground over HTTP, or over HTTPS."""
    from sensorium.server.config import ServerConfig, read_settings
    from sensorium.server.tls import identity

    options = {"host": host, "port": port, "api_keys": tuple(api_key) if api_key else None}
    options |= {"state": state, "database": database}
    options |= {"tls_self_signed": tls_self_signed or None, "tls_cert": tls_cert, "tls_key": tls_key}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        config = ServerConfig(**(read_settings(file) if file else {}) | given)
        shown = identity(config)
    except ValueError as error:
        _fail(str(error))
    engine = _load_engine(checkpoint, fake=fake, threads=threads, cached_positions=cached_positions)
    _serve(engine, config, shown)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What people tell the key by.")],
    admin: Annotated[bool, typer.Option("--admin", help="A key to /v1/organization, and to nothing else.")] = False,
    project: Annotated[
        str | None, typer.Option(help="Whose key: a project's id or name; it is made if there is none.")
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do, e.g. api.chat.write; everything by default.")
    ] = None,
    expires_days: Annotated[int | None, typer.Option(min=1, help="Never by default.")] = None,
    state: StateFolder = None,
    database: DatabaseUrl = None,
    file: SettingsFile = None,
) -> None:
    """Make a key and show it, this once."""
    import asyncio

    from sensorium.platform.keys import new_key
    from sensorium.server.access import check_scopes

    if admin and (project or scope):
        _fail("an admin key belongs to no project and has no scopes")
    try:
        check_scopes(scope or [])
    except ValueError as error:
        _fail(str(error))
    opened = _open_state(state, database, file)
    owner = None if admin else asyncio.run(opened.projects.named(project))
    expires_at = None if expires_days is None else int(time.time()) + 86_400 * expires_days
    made = new_key(name, project=owner and owner.id, scopes=scope or (), expires_at=expires_at)
    asyncio.run(opened.keys.add(made))
    opened.close()
    typer.echo(f"{made.key.id} opens {owner.name if owner else '/v1/organization'}. It is shown only now:", err=True)
    typer.echo(made.secret)


@keys.command("list")
def list_keys(state: StateFolder = None, database: DatabaseUrl = None, file: SettingsFile = None) -> None:
    """Show every key that was made: its id, its end, whose it is, its name."""
    import asyncio

    opened = _open_state(state, database, file)
    for key in asyncio.run(opened.keys.all()):
        until = "" if key.expires_at is None else time.strftime(" until %Y-%m-%d", time.gmtime(key.expires_at))
        typer.echo(f"{key.id}  {key.redacted}  {key.project or 'admin'}{until}  {key.name}")
    opened.close()


@keys.command("revoke")
def revoke_key(
    id: Annotated[str, typer.Argument(help="As `sensorium keys list` shows it.")],
    state: StateFolder = None,
    database: DatabaseUrl = None,
    file: SettingsFile = None,
) -> None:
    """Take a key back: within seconds it opens nothing."""
    import asyncio

    opened = _open_state(state, database, file)
    found = next((key for key in asyncio.run(opened.keys.all()) if key.id == id), None)
    if found is not None:
        asyncio.run(opened.keys.delete(id, project=found.project))
    opened.close()
    if found is None:
        _fail(f"there is no key {id!r}")
    typer.echo(f"{found.redacted} opens nothing any more")


@app.command()
def chat(
    prompt: Annotated[str | None, typer.Argument(help="One message; without it the chat goes on until Ctrl-D.")] = None,
    url: Annotated[str | None, typer.Option(help="A running server, e.g. http://127.0.0.1:8000.")] = None,
    api_key: Annotated[str, typer.Option(envvar="SENSORIUM_API_KEY", help="The key that the server asks for.")] = "",
    checkpoint: Checkpoint = RELEASED,
    fake: Fake = False,
    threads: Threads = DEFAULT_THREADS,
    audio_in: Annotated[Path | None, typer.Option(exists=True, help="A clip to send with the first message.")] = None,
    image: Annotated[Path | None, typer.Option(exists=True, help="A picture to send with the first message.")] = None,
    audio_out: Annotated[Path | None, typer.Option(help="Answer in speech, and write it to this file.")] = None,
    image_out: Annotated[Path, typer.Option(help="Where a drawn picture is written.")] = Path("drawn.png"),
    voice: Annotated[str, typer.Option(help="The voice that speaks.")] = "alloy",
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 always takes the likeliest token.")] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answer.")] = 0,
) -> None:
    """Talk to the model in the terminal."""
    from sensorium.chat import Outputs, RemoteEngine, converse, read_clip, read_picture
    from sensorium.engine.request import SamplingParams
    from sensorium.safety.provenance import Identity
    from sensorium.server.config import ServerConfig

    params = SamplingParams(modality="audio" if audio_out else "text", voice=voice, temperature=temperature, seed=seed)
    watermark_key = "" if url else ServerConfig().watermark_key
    outputs = Outputs(audio=audio_out, image=image_out, identity=Identity.new(), watermark_key=watermark_key)
    try:
        attachments = (*([read_clip(audio_in)] if audio_in else []), *([read_picture(image)] if image else []))
        engine = RemoteEngine(url, api_key=api_key) if url else _load_engine(checkpoint, fake=fake, threads=threads)
        converse(engine, params, prompt=prompt, attachments=attachments, outputs=outputs)
    except ValueError as error:
        _fail(str(error))


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A PNG, JPEG, WebP or sound file.")],
    certificate: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The file must be signed with this (PEM), not just signed."),
    ] = None,
    watermark_key: Annotated[str, typer.Option(help="Of a sound: the server's setting of that name.")] = "sensorium",
) -> None:
    """Say what made a picture or a WAV file, by the credential in it, and whether a sound carries the mark of generated
    speech. The exit status is 0 if either says so, 1 if nothing does, 2 if the file was changed after it was signed or
    can't be read."""
    data, kind = file.read_bytes(), file.suffix.lower()
    is_picture = kind in _PICTURES
    says_so = False
    if is_picture or kind == ".wav" or certificate is not None:
        says_so = _verify_credential(file, data, certificate)
    if not is_picture:
        is_marked = _verify_watermark(file, data, watermark_key)
        says_so = says_so or (is_marked and certificate is None)
    raise typer.Exit(not says_so)


def _verify_credential(file: Path, data: bytes, certificate: Path | None) -> bool:
    """Tells what the file says of itself, if anything."""
    from sensorium.safety.provenance import NoCredential, media_type_of, read_credential

    try:
        trusted = certificate.read_bytes() if certificate else None
        credential = read_credential(data, media_type_of(data), trusted=trusted)
    except NoCredential as error:
        typer.echo(f"{file}: {error}")
        return False
    except ValueError as error:
        _fail(f"{file}: {error}")
    by = credential.signer if credential.is_trusted else f"{credential.signer} (nobody vouches for this certificate)"
    told = {"made by": credential.generator, "model": credential.model, "at": credential.made_at}
    for name, value in {**told, "source": credential.source, "signed by": by}.items():
        typer.echo(f"{name:<10} {value}")
    return True


def _verify_watermark(file: Path, data: bytes, watermark_key: str) -> bool:
    """Tells whether a sound carries the mark of the key."""
    import numpy as np

    from sensorium.safety.watermark import RATE_HZ, SURE_S, find
    from sensorium.server.errors import APIError
    from sensorium.server.sound_file import SoundFile

    try:
        with SoundFile(data, file.name, rate_hz=RATE_HZ, max_s=_MAX_VERIFIED_S) as sound:
            waveform = np.concatenate(list(sound.pieces()))
    except APIError as error:
        _fail(error.message)
    found, lasts_s = find(waveform, watermark_key), len(waveform) / RATE_HZ
    if found.is_marked:
        carried = "its payload is uncertain" if found.payload is None else f"its payload is {found.payload}"
        told = f"marked as generated speech, {carried}"
    elif lasts_s < SURE_S:
        told = f"no mark of this key is found, but {lasts_s:.1f} s may be too short for one: it takes {SURE_S:.0f} s"
    else:
        told = "no mark of this key"
    typer.echo(f"{file}: {told} ({found.score:.1f} deviations)")
    return found.is_marked


@app.command(context_settings=PASS_ON)
def train(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A file of recipes/, without .py: nano.")],
    out: Annotated[Path, typer.Option(help="The folder of the run; an interrupted run in it goes on.")],
) -> None:
    """Run a training recipe in a process of its own. Further options go to the recipe."""
    _run_recipe(recipe, ["--out", str(out), *context.args])


@app.command("eval", context_settings=PASS_ON, add_help_option=False)
def evaluate(context: typer.Context) -> None:
    """Measure a checkpoint on held-out data: recipes/evals.py with its own options."""
    _run_recipe("evals", context.args)


@app.command(context_settings=PASS_ON, add_help_option=False)
def card(context: typer.Context) -> None:
    """Write a checkpoint's card, and its table in the README: recipes/card.py with its own options."""
    _run_recipe("card", context.args)


@app.command()
def shrink(
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
    checkpoint: Checkpoint = RELEASED,
) -> None:
    """Write a checkpoint again with the network's weights in 8 bits: half the size of 16, nearly the same answers."""
    from sensorium.tokenizers.release import Release

    if out.exists():
        _fail(f"{out} exists already")
    try:
        Release.load(checkpoint).save(out, int8=True)
        if (checkpoint / "training.json").exists():  # how the weights came about: evaluations ask what was taught
            shutil.copyfile(checkpoint / "training.json", out / "training.json")
    except (FileNotFoundError, ValueError) as error:
        _fail(f"the weights at {checkpoint} can't be used: {error}")
    sizes_mb = [(folder / "network.safetensors").stat().st_size / 1e6 for folder in (checkpoint, out)]
    typer.echo(f"{out}: the network takes {sizes_mb[1]:.1f} MB instead of {sizes_mb[0]:.1f} MB")


@app.command()
def version() -> None:
    """Print the version."""
    import sensorium

    typer.echo(sensorium.__version__)


def _run_recipe(recipe: str, options: list[str]) -> NoReturn:
    if find_spec("recipes") is None:
        _fail("the recipes are part of the source checkout, not of the installed package")
    if not recipe.isidentifier() or find_spec(f"recipes.{recipe}") is None:
        _fail(f"there is no recipe {recipe!r}: recipes/{recipe}.py does not exist")
    raise typer.Exit(subprocess.call([sys.executable, "-m", f"recipes.{recipe}", *options]))


def _load_engine(checkpoint: Path, *, fake: bool, threads: int, cached_positions: int | None = None) -> LiveEngine:
    if fake:
        from sensorium.engine.fake import FakeEngine

        return FakeEngine()
    from sensorium.engine.engine import OmniEngine

    try:
        return OmniEngine.load(checkpoint, threads=threads, cached_positions=cached_positions)
    except FileNotFoundError:
        _fail(f"no weights at {checkpoint}: train some with `make train-nano` and name them with --checkpoint")
    except ValueError as error:
        _fail(f"the weights at {checkpoint} can't be used: {error}")


def _open_state(folder: Path | None, database: str | None, file: Path | None) -> State:
    """Where a server of the same options keeps things."""
    from sensorium.platform.state import State
    from sensorium.server.config import read_settings

    try:
        settings = read_settings(file) if file else {}
        folder, database = folder or settings.get("state"), database or settings.get("database")
        if folder is None and database is None:
            _fail("keys are kept with the server's state: name it with --state, --database or --config")
        return State.open(folder, database=database)
    except ValueError as error:
        _fail(str(error))


def _serve(engine: LiveEngine, config: ServerConfig, shown: Identity | None) -> None:
    import uvicorn

    from sensorium.server.app import build_app
    from sensorium.server.hangup import drop_unread

    try:
        edge = build_app(engine, config)
    except ValueError as error:
        _fail(str(error))

    class Server(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                listeners = [listener for server in self.servers for listener in server.sockets]
                for listener in listeners:
                    drop_unread(listener, config.send_timeout_s)
                keys_needed = edge.state.keys_needed
                gc.collect()
                gc.freeze()  # what was loaded stays: to look through it for garbage stops everything for 0.3 s
                _announce(engine.info, config, shown, listeners[0].getsockname()[1], keys_needed=keys_needed)

    # what is sent too fast waits, and pongs behind it: who is gone is found out by TCP
    settings = {"log_level": "warning", "ws_max_size": config.max_event_bytes, "ws_ping_timeout": _PONG_TIMEOUT_S}
    settings["ws_per_message_deflate"] = False  # of sound it saves a quarter, and takes a tenth of the server's time
    if shown is not None:
        settings |= {"ssl_certfile": shown.certificate, "ssl_keyfile": shown.key}
    server = Server(uvicorn.Config(edge, host=config.host, port=config.port, **settings))
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    server.run()
    if not server.started:
        raise typer.Exit(1)


def _announce(info: EngineInfo, config: ServerConfig, shown: Identity | None, port: int, *, keys_needed: bool) -> None:
    url = f"{'https' if shown else 'http'}://{'127.0.0.1' if config.host == '0.0.0.0' else config.host}:{port}"
    key = " -H 'authorization: Bearer YOUR_KEY'" if keys_needed else ""
    own = shown.certificate if shown and config.tls_self_signed else None
    trust = f" --cacert {shlex.quote(str(own))}" if own else ""
    told = f"\nClients trust {own} by NODE_EXTRA_CA_CERTS or SSL_CERT_FILE.\n" if own else ""
    open_to = "shows one of its keys" if keys_needed else "is on this machine, without a key"
    kept = "is kept" if config.state or config.database else "ends with the server (--state FOLDER keeps it)"
    memory = "".join(f"{size / 1e6:,.0f} MB of {what}, " for what, size in info.memory_bytes.items())
    if memory:
        memory = f"Memory: {memory.removesuffix(', ')}: {info.cached_positions:,} positions of all conversations.\n"
    typer.echo(f"""\
{info.model} is ready at {url} (the playground; Ctrl-C stops it)
Whoever {open_to}, may use it. What it is asked to store {kept}.
{memory}{told}
curl {url}/v1/chat/completions{trust} -H 'content-type: application/json'{key} \\
  -d '{{"model": "{info.model}", "messages": [{{"role": "user", "content": "what is two plus three"}}]}}'
""")
    sys.stdout.flush()  # into a pipe too, where whoever started us waits for this line


def _fail(message: str) -> NoReturn:
    typer.echo(f"sensorium: {message}", err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
