"""The command line: what it offers, what it refuses, and that it does what it says."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer.main
from typer.core import TyperGroup, TyperOption
from typer.testing import CliRunner
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import sensorium
from sensorium.cli import app
from sensorium.safety.provenance import CERTIFICATES, Credentials, Identity, read_credential
from sensorium.safety.watermark import marked
from sensorium.server.audio_out import SpeechWriter
from sensorium.server.config import ServerConfig
from sensorium.server.picture_out import PictureWriter
from tests.networks import random_release
from tests.server.live import eventually
from tests.server.test_hangup import deaf_client, deaf_phone, flood, is_told_that_it_read_nothing
from tests.serving import ROOT, serve

runner = CliRunner()

# The whole surface. A new option is a decision: it wants a reason, a line in a guide, and an entry here.
OPTIONS = {
    "serve": [
        *("--host", "--port", "--checkpoint", "--fake", "--threads", "--cached-positions", "--config", "--api-key"),
        *("--state", "--database"),
        *("--tls-self-signed", "--tls-cert", "--tls-key"),
    ],
    "keys create": ["--admin", "--project", "--scope", "--expires-days", "--state", "--database", "--config"],
    "keys list": ["--state", "--database", "--config"],
    "keys revoke": ["--state", "--database", "--config"],
    "chat": [
        *("--url", "--api-key", "--checkpoint", "--fake", "--threads"),
        *("--audio-in", "--image", "--audio-out", "--image-out", "--voice", "--temperature", "--seed"),
    ],
    "verify": ["--certificate", "--watermark-key"],
    "train": ["--out"],
    "eval": [],
    "card": [],
    "shrink": ["--out", "--checkpoint"],
    "version": [],
}


def test_the_options_are_these():
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    commands = dict(group.commands)
    keys = commands.pop("keys")
    assert isinstance(keys, TyperGroup)
    commands |= {f"keys {name}": command for name, command in keys.commands.items()}
    offered = {
        name: [option.opts[0] for option in command.params if isinstance(option, TyperOption)]
        for name, command in commands.items()
    }
    assert offered == OPTIONS


def test_version():
    result = runner.invoke(app, ["version"])
    assert result.output.strip() == sensorium.__version__


def test_a_checkpoint_is_shrunk_once(tmp_path: Path):
    random_release().save(tmp_path / "whole")
    words = ["shrink", "--checkpoint", str(tmp_path / "whole"), "--out", str(tmp_path / "small")]
    result = runner.invoke(app, words)
    assert result.exit_code == 0
    assert "MB instead of" in result.output
    sizes = [(tmp_path / name / "network.safetensors").stat().st_size for name in ("whole", "small")]
    assert sizes[1] < 0.6 * sizes[0]
    again = runner.invoke(app, words)
    assert again.exit_code == 2
    assert "exists already" in again.output
    nowhere = runner.invoke(app, ["shrink", "--checkpoint", str(tmp_path / "none"), "--out", str(tmp_path / "other")])
    assert "can't be used" in nowhere.output


def test_a_picture_is_verified(tmp_path: Path):
    identity = Identity.kept_in(tmp_path / "credentials")
    pixels = np.zeros((64, 64, 3), np.uint8)
    data = PictureWriter(Credentials(identity, model="sensorium-nano")).file(pixels, "jpeg", quality=90)
    (tmp_path / "drawn.jpeg").write_bytes(data)
    told = runner.invoke(app, ["verify", str(tmp_path / "drawn.jpeg")])
    assert told.exit_code == 0
    assert f"made by    Sensorium {sensorium.__version__}" in told.output
    assert "sensorium-nano" in told.output
    assert "nobody vouches" in told.output
    certificate = ["--certificate", str(tmp_path / "credentials" / CERTIFICATES)]
    assert "nobody vouches" not in runner.invoke(app, ["verify", str(tmp_path / "drawn.jpeg"), *certificate]).output
    (tmp_path / "changed.jpeg").write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    (tmp_path / "plain.png").write_bytes(PictureWriter().file(pixels))
    (tmp_path / "text.png").write_text("hi")
    for name, status, why in (
        ("changed.jpeg", 2, "changed"),
        ("plain.png", 1, "no content credential"),
        ("text.png", 2, "no PNG"),
    ):
        refused = runner.invoke(app, ["verify", str(tmp_path / name)])
        assert refused.exit_code == status
        assert why in " ".join(refused.output.split())


def test_train_names_an_unknown_recipe():
    result = runner.invoke(app, ["train", "nonexistent", "--out", "/tmp/none"])
    assert result.exit_code == 2
    assert "no recipe 'nonexistent'" in result.output


@pytest.mark.parametrize(
    ("command", "recipe"),
    [
        (["train", "nano", "--out", "runs/x", "--steps", "5"], ["recipes.nano", "--out", "runs/x", "--steps", "5"]),
        (["eval", "--checkpoint", "x", "--help"], ["recipes.evals", "--checkpoint", "x", "--help"]),
        (["card", "--checkpoint", "x"], ["recipes.card", "--checkpoint", "x"]),
    ],
    ids=["train", "eval", "card"],
)
def test_options_go_to_the_recipe(command: list[str], recipe: list[str], monkeypatch: pytest.MonkeyPatch):
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda command: calls.append(command) or 3)
    assert runner.invoke(app, command).exit_code == 3
    assert calls == [[sys.executable, "-m", *recipe]]


@pytest.mark.parametrize("command", [["serve"], ["chat", "hello"]])
def test_missing_weights_are_a_clear_error(command: list[str], tmp_path: Path):
    result = runner.invoke(app, [*command, "--checkpoint", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "no weights at" in result.output
    assert "Traceback" not in result.output


def test_serve_announces_a_server_that_answers(fake_server: str):
    with urllib.request.urlopen(f"{fake_server}/healthz", timeout=10) as response:
        assert response.status == 200
    with urllib.request.urlopen(f"{fake_server}/v1/models", timeout=10) as response:
        assert json.load(response)["data"]


def test_serve_signs_its_own_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with serve("--fake", "--tls-self-signed") as url:
        assert url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=tmp_path / "sensorium" / "tls" / "certificate.pem")
        for name in ("127.0.0.1", "localhost"):
            healthz = f"{url.replace('127.0.0.1', name)}/healthz"
            with urllib.request.urlopen(healthz, timeout=10, context=trusted) as response:
                assert response.status == 200
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(f"{url}/healthz", timeout=10)


def test_serve_on_a_busy_port_fails(fake_server: str):
    port = fake_server.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "sensorium.cli", "serve", "--fake", "--port", port]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "address already in use" in done.stderr
    assert "is ready" not in done.stdout


@pytest.mark.parametrize("remote", [False, True], ids=["in-process", "over-http"])
def test_chat_writes_speaks_and_goes_on(remote: bool, fake_server: str, tmp_path: Path):
    where = ["--url", fake_server] if remote else ["--fake"]

    written = runner.invoke(app, ["chat", *where, "what is two plus three"])
    assert written.exit_code == 0, written.output
    assert written.output.strip()

    spoken = tmp_path / "answer.wav"
    clip = ["--audio-in", str(ROOT / "docs" / "media" / "question.wav"), "--audio-out", str(spoken)]
    heard = runner.invoke(app, ["chat", *where, *clip])
    assert heard.exit_code == 0, heard.output
    waveform, _ = soundfile.read(spoken)
    assert np.abs(waveform).max() > 0.01
    assert read_credential(spoken.read_bytes(), "audio/wav").model == "sensorium-fake"

    drawn = tmp_path / "drawn.jpeg"
    painted = runner.invoke(app, ["chat", *where, "--image-out", str(drawn), "draw a red circle"])
    assert painted.exit_code == 0, painted.output
    assert read_credential(drawn.read_bytes(), "image/jpeg").model == "sensorium-fake"

    flac = tmp_path / "answer.flac"  # has no room for a credential
    said = runner.invoke(app, ["chat", *where, "--audio-out", str(flac), "one two three " * 30])
    assert said.exit_code == 0, said.output
    assert "marked as generated speech" in runner.invoke(app, ["verify", str(flac)]).output

    seen = runner.invoke(
        app, ["chat", *where, "--image", str(ROOT / "docs" / "media" / "scene.png")], input="what\nmore\n"
    )
    assert seen.exit_code == 0, seen.output
    assert seen.output.count("> ") == 3


def test_chat_refuses_what_it_cannot_read(tmp_path: Path):
    for option in ("--audio-in", "--image"):
        broken = tmp_path / "broken"
        broken.write_bytes(b"neither sound nor picture")
        result = runner.invoke(app, ["chat", "--fake", option, str(broken), "hello"])
        assert result.exit_code == 2
        assert "is not a" in result.output


def test_chat_says_when_no_server_is_there():
    result = runner.invoke(app, ["chat", "--url", "http://127.0.0.1:9", "hello"])
    assert result.exit_code == 2
    assert "no answer from" in result.output


def test_serve_asks_for_a_key_before_it_opens_to_the_network():
    result = runner.invoke(app, ["serve", "--fake", "--host", "0.0.0.0"])
    assert result.exit_code == 2
    assert "--api-key" in result.output


@pytest.fixture
def served_config(monkeypatch: pytest.MonkeyPatch) -> list[ServerConfig]:
    """What `serve` would serve with: it ends where the server would start."""
    configs: list[ServerConfig] = []

    def build_app(engine: object, config: ServerConfig) -> None:
        configs.append(config)
        raise SystemExit(0)

    monkeypatch.setattr("sensorium.server.app.build_app", build_app)
    monkeypatch.delenv("SENSORIUM_API_KEYS", raising=False)
    return configs


def test_serve_takes_settings_from_a_file_and_options_win(served_config: list[ServerConfig], tmp_path: Path):
    file = tmp_path / "server.toml"
    file.write_text('host = "0.0.0.0"\nport = 81\napi_keys = ["sk-file"]\nmax_images = 3\n')
    for options in (["--config", str(file)], ["--config", str(file), "--port", "82", "--api-key", "sk-given"], []):
        assert runner.invoke(app, ["serve", "--fake", *options]).exit_code == 0
    assert [(config.host, config.port, config.api_keys, config.max_images) for config in served_config] == [
        ("0.0.0.0", 81, ("sk-file",), 3),
        ("0.0.0.0", 82, ("sk-given",), 3),
        ("127.0.0.1", 8000, (), 500),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_imags = 3", "'max_imags' is no setting of the server"),
        ("max_images = '3'", "'max_images' must be a whole number"),
        ("send_timeout_s = 0", "send_timeout_s is 0.0: it must be more than 0"),
        ("host = '0.0.0.0'", "open to the network"),
        ("tls_cert = 'a.pem'", "tls_cert and tls_key belong together"),
        ("tls_cert = 'a.pem'\ntls_key = 'a.key'", "cannot be used"),
    ],
)
def test_serve_names_a_wrong_setting(text: str, message: str, served_config: list[ServerConfig], tmp_path: Path):
    (tmp_path / "server.toml").write_text(text)
    result = runner.invoke(app, ["serve", "--fake", "--config", str(tmp_path / "server.toml")])
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert served_config == []


def test_serve_says_who_may_use_it_and_what_it_keeps(tmp_path: Path):
    for options, told in (
        ([], "on this machine, without a key, may use it. What it is asked to store ends with the server"),
        (["--api-key", "sk-x", "--state", str(tmp_path)], "one of its keys, may use it. What it is asked to store is"),
    ):
        command = [sys.executable, "-m", "sensorium.cli", "serve", "--fake", "--port", "0", *options]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(2)]
            process.terminate()
        assert told in lines[1]
    assert (tmp_path / "sensorium.db").exists()


def test_keys_are_made_listed_and_revoked(tmp_path: Path):
    def keys(*words: str, status: int = 0) -> str:
        result = runner.invoke(app, ["keys", *words, "--state", str(tmp_path)])
        assert result.exit_code == status, result.output
        return result.stdout if status == 0 else result.output

    admin = keys("create", "first", "--admin").strip()
    mine = keys("create", "mine", "--project", "Lab", "--scope", "api.chat.write", "--expires-days", "3").strip()
    again = keys("create", "yours", "--project", "Lab").strip()
    assert (admin[:9], mine[:8], again[:8]) == ("sk-admin-", "sk-proj-", "sk-proj-")
    listed = keys("list").splitlines()
    assert [line.split()[-1] for line in listed] == ["first", "mine", "yours"]
    assert "admin" in listed[0]
    assert "until" in listed[1]
    assert listed[1].split()[2] == listed[2].split()[2]  # of one project
    assert not any(secret in "".join(listed) for secret in (admin, mine, again))
    assert "opens nothing" in keys("revoke", listed[1].split()[0])
    assert len(keys("list").splitlines()) == 2
    assert "there is no key" in keys("revoke", "key_nothing", status=2)
    assert "belongs to no project" in keys("create", "x", "--admin", "--project", "Lab", status=2)
    assert "there is no scope 'api.chat'" in keys("create", "x", "--scope", "api.chat", status=2)
    nowhere = runner.invoke(app, ["keys", "list"], env={"SENSORIUM_STATE": "", "SENSORIUM_DATABASE": ""})
    assert nowhere.exit_code == 2
    assert "--state" in nowhere.output


def test_serve_asks_for_the_keys_of_its_state(tmp_path: Path):
    refused = runner.invoke(app, ["serve", "--fake", "--host", "0.0.0.0", "--state", str(tmp_path)])
    assert refused.exit_code == 2
    assert "there is no key" in refused.output
    made = runner.invoke(app, ["keys", "create", "mine", "--state", str(tmp_path)])
    with serve("--fake", "--state", str(tmp_path)) as url:
        request = urllib.request.Request(f"{url}/v1/models")
        with pytest.raises(urllib.error.HTTPError, match="401") as caught:
            urllib.request.urlopen(request, timeout=10)
        caught.value.close()
        request.add_header("authorization", f"Bearer {made.stdout.strip()}")
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.status == 200


def test_serve_names_a_state_that_cannot_be_opened(tmp_path: Path):
    (tmp_path / "file").touch()
    for options, message in (
        (["--state", str(tmp_path / "file")], "the state folder"),
        (["--database", "mysql://host/name", "--state", str(tmp_path)], "'mysql' is not known"),
        (["--database", "postgresql://someone@127.0.0.1:1/name", "--state", str(tmp_path)], "can't be opened"),
        (["--database", "postgresql://someone@127.0.0.1:1/name"], "database holds no files"),
    ):
        result = runner.invoke(app, ["serve", "--fake", *options])
        assert result.exit_code == 2
        assert message in result.output
        assert "Traceback" not in result.output


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux drops such connections")
def test_serve_stops_though_a_client_no_longer_reads(tmp_path: Path):
    """Its connection stands until it has taken what it was sent, and a server waits for its connections."""
    (tmp_path / "server.toml").write_text("send_timeout_s = 0.5")
    request = {"model": "gpt-4o", "messages": [{"role": "user", "content": "word" * 5_000_000}]}
    with contextlib.ExitStack() as clients:
        with serve("--fake", "--config", str(tmp_path / "server.toml")) as url:
            client = clients.enter_context(deaf_client(url, request))
            rescue = threading.Timer(9, client.close)  # or a server that waits would wait for us, and we for it
            rescue.start()
        assert rescue.is_alive()  # the server has ended
        rescue.cancel()


def test_calls_are_not_compressed():
    """Which every client offers to do, and which takes a tenth of the time of a server with eight calls."""
    with serve("--fake") as url, connect(f"{url.replace('http', 'ws')}/v1/realtime?model=gpt-realtime") as call:
        assert not call.protocol.extensions


def test_a_call_that_reads_on_in_time_is_told_why_it_ended(tmp_path: Path):
    """The system lets its connection stand for longer than the server waits."""
    (tmp_path / "server.toml").write_text("send_timeout_s = 3.0\nmax_calls = 1\n")

    def is_free(url: str) -> bool:
        with contextlib.suppress(InvalidStatus), connect(f"{url.replace('http', 'ws')}/v1/realtime?model=gpt-realtime"):
            return True
        return False

    with serve("--fake", "--config", str(tmp_path / "server.toml")) as url:
        call = deaf_phone(url)
        call.next()
        flood(call)
        eventually(lambda: is_free(url))
        time.sleep(1)  # it reads on a while later
        is_told_that_it_read_nothing(call)


def test_chat_with_a_network(tmp_path: Path):
    """The real engine behind the same command; its weights are random, so only the form of the answer is known."""
    random_release().save(tmp_path / "weights")
    spoken = tmp_path / "answer.wav"
    command = ["chat", "--checkpoint", str(tmp_path / "weights"), "--audio-out", str(spoken), "hello"]
    result = runner.invoke(app, command)
    assert result.exit_code == 0, result.output
    assert soundfile.info(spoken).frames > 0


def test_verify_finds_the_mark_of_its_key(tmp_path: Path):
    sound = np.random.default_rng(1).standard_normal(12 * 16_000).astype(np.float32) / 10
    for name, samples in (("marked.wav", marked(sound, "sensorium", 77)), ("plain.wav", sound)):
        soundfile.write(tmp_path / name, samples, 16_000)
    found = runner.invoke(app, ["verify", str(tmp_path / "marked.wav")])
    assert found.exit_code == 0
    assert "its payload is 77" in found.output
    assert runner.invoke(app, ["verify", str(tmp_path / "plain.wav")]).exit_code == 1
    assert runner.invoke(app, ["verify", str(tmp_path / "marked.wav"), "--watermark-key", "other"]).exit_code == 1
    signed = SpeechWriter(ServerConfig(), Credentials(Identity.new(), model="sensorium-nano"))
    (tmp_path / "signed.wav").write_bytes(signed.file(sound, 16_000, "wav"))
    told = runner.invoke(app, ["verify", str(tmp_path / "signed.wav")])
    assert told.exit_code == 0
    assert "sensorium-nano" in told.output
    assert "marked as generated speech" in told.output
    (tmp_path / "text.wav").write_text("hello")
    assert runner.invoke(app, ["verify", str(tmp_path / "text.wav")]).exit_code == 2


def test_verify_says_what_it_knows_of_a_short_sound(tmp_path: Path):
    """A credential is enough, and of a mark that isn't found it is said why."""
    sound = np.random.default_rng(2).standard_normal(6000).astype(np.float32) / 10
    identity = Identity.kept_in(tmp_path / "credentials")
    signed = SpeechWriter(ServerConfig(), Credentials(identity, model="sensorium-nano")).file(sound, 16_000, "wav")
    files = {
        "signed.wav": signed,
        "changed.wav": signed[:5000] + bytes([signed[5000] ^ 1]) + signed[5001:],
        "unsigned.wav": SpeechWriter(ServerConfig()).file(sound, 16_000, "wav"),
        "marked.mp3": SpeechWriter(ServerConfig()).file(np.tile(sound, 40), 16_000, "mp3"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    def verified(name: str, *options: str) -> tuple[int, str]:
        result = runner.invoke(app, ["verify", str(tmp_path / name), *options])
        return result.exit_code, " ".join(result.output.split())

    status, told = verified("signed.wav")
    assert status == 0
    assert "model sensorium-nano" in told
    assert "0.4 s may be too short for one" in told
    status, told = verified("unsigned.wav")
    assert status == 1
    assert "no content credential" in told
    assert "too short" in told
    assert verified("changed.wav")[0] == 2
    ours = ("--certificate", str(tmp_path / "credentials" / CERTIFICATES))
    assert verified("signed.wav", *ours)[0] == 0
    assert verified("unsigned.wav", *ours)[0] == 1
    assert verified("marked.mp3")[0] == 0
    assert verified("marked.mp3", *ours)[0] == 2  # there is no room for a credential in it
