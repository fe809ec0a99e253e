from __future__ import annotations

import math
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from sensorium.platform.limits import LimitRule
from sensorium.platform.usage import PriceList
from sensorium.server.config import PLAYGROUND, ServerConfig, read_settings
from tests.serving import ROOT

WRITTEN = {
    "str": ('"::1"', "::1"),
    "str | None": ('"sqlite://"', "sqlite://"),
    "int": ("7", 7),
    "float": ("7", 7.0),
    "bool": ("true", True),
    "tuple[str, ...]": ('["a", "b"]', ("a", "b")),
    "tuple[LimitRule, ...]": ("[{ tokens_per_minute = 7 }]", (LimitRule(tokens_per_minute=7),)),
    "PriceList": ('{ "*" = { images = 7 } }', PriceList(models={"*": {"images": 7.0}})),
    "Mapping[str, str]": ('{ nova = "echo" }', {"nova": "echo"}),
}
PATHS = ("playground", "state", "tls_cert", "tls_key")


def written(folder: Path, text: str) -> Path:
    file = folder / "server.toml"
    file.write_text(text)
    return file


def test_every_field_can_be_set(tmp_path: Path):
    values = {field.name: WRITTEN[str(field.type)] for field in fields(ServerConfig) if field.name not in PATHS}
    values["tls_self_signed"] = ("false", False)  # it excludes the other two
    lines = [f"{name} = {text}" for name, (text, _) in values.items()]
    settings = read_settings(written(tmp_path, "\n".join([*lines, 'playground = "page"'])))
    assert settings == {**{name: value for name, (_, value) in values.items()}, "playground": tmp_path / "page"}
    assert [type(settings[name]) for name in values] == [type(value) for _, value in values.values()]
    assert ServerConfig(**settings).max_images == 7
    assert read_settings(written(tmp_path, "")) == {}
    absolute = read_settings(written(tmp_path, f'playground = "{PLAYGROUND}"'))
    assert absolute == {"playground": PLAYGROUND}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_imags = 3", "'max_imags' is no setting"),
        ('max_images = "3"', "'max_images' must be a whole number"),
        ("max_images = 3.0", "'max_images' must be a whole number"),
        ("max_images = true", "'max_images' must be a whole number"),
        ("max_images = 2024-01-01", "'max_images' must be a whole number"),
        ("max_audio_s = '1'", "'max_audio_s' must be a number"),
        ("allow_private_urls = 1", "'allow_private_urls' must be true or false"),
        ("api_keys = 'sk-secret'", "'api_keys' must be a list of texts"),
        ("api_keys = ['sk-secret', 3]", "'api_keys' must be a list of texts"),
        ("host = 3", "'host' must be a text in quotes"),
        ("playground = []", "'playground' must be a path in quotes"),
        ("[voice_aliases]\nnova = 3", "'voice_aliases' must be a table of texts"),
        ("[server]\nport = 3", "'server' is no setting"),
        ("limits = 3", "'limits' must be a list of tables"),
        ("[[limits]]\nrequests = 3", "'requests' is nothing that a limit has"),
        ("[[limits]]\nsessions = 0", "sessions must be a whole number, 1 or more"),
        ("[[limits]]\nsessions = true", "sessions must be a whole number, 1 or more"),
        ("[[limits]]\nmodels = 'gpt-4o'", "models must be a list of texts"),
        ("prices = 3", "'prices' must be a table"),
        ("[prices]\ngpt-4o = 3", "'gpt-4o' must be a table of prices"),
        ("[prices.gpt-4o]\ninput = 3", "'input' is nothing that has a price"),
        ("[prices.gpt-4o]\nimages = -1", "the price of images must be a number, 0 or more"),
        ("[prices.gpt-4o]\nimages = inf", "the price of images must be a number, 0 or more"),
        ("port = ", "is not TOML"),
    ],
)
def test_a_wrong_setting_is_named_and_not_shown(text: str, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message) as caught:
        read_settings(written(tmp_path, text))
    assert "server.toml" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path):
    (tmp_path / "server.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="UTF-8"):
        read_settings(tmp_path / "server.toml")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("port", 65_536),
        ("max_concurrent_requests", 0),
        ("max_concurrent_decodes", 0),
        ("send_timeout_s", 0.0),
        ("request_timeout_s", math.nan),
        ("max_images", -1),
    ],
)
def test_a_number_that_makes_no_sense_is_named(name: str, value: Any):
    with pytest.raises(ValueError, match=name):
        ServerConfig(**{name: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"tls_cert": Path("a")},
        {"tls_key": Path("a")},
        {"tls_self_signed": True, "tls_cert": Path("a"), "tls_key": Path("b")},
        {"tls_self_signed": True, "host": "0.0.0.0", "api_keys": ("sk-x",)},
    ],
    ids=["no key", "no certificate", "two certificates", "open to the network"],
)
def test_settings_of_tls_that_contradict_each_other(settings: dict[str, Any]):
    with pytest.raises(ValueError, match="tls_"):
        ServerConfig(**settings)


def test_a_database_wants_a_place_for_files():
    with pytest.raises(ValueError, match="database holds no files") as caught:
        ServerConfig(database="postgresql://user:secret@host/name")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(ServerConfig(database="postgresql://user:secret@host/name", state=Path("a")))


def test_nothing_and_no_limit_are_numbers_too():
    assert ServerConfig(port=0, max_images=0, max_audio_s=0.0, request_timeout_s=math.inf).port == 0


def test_the_files_of_the_guides_are_ones(tmp_path: Path):
    guides = [ROOT / "docs" / "guides" / name for name in ("installing.md", "operating.md")]
    examples = [
        found for guide in guides for found in re.findall(r"^```toml\n(.*?)^```$", guide.read_text(), re.M | re.S)
    ]
    assert examples
    for example in examples:
        ServerConfig(**read_settings(written(tmp_path, example)))
