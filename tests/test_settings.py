"""What an operator meets when configuring: overriding, mistakes, and where a value came from."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from settings import REPOSITORY, Section, Settings, SettingsError, load, origins


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("FAMILIAR_") and ("__" in name or name == "FAMILIAR_CONFIG"):
            monkeypatch.delenv(name)


def config(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_config_toml_holds_every_setting_with_its_default() -> None:
    written = tomllib.loads((REPOSITORY / "config.toml").read_text(encoding="utf-8"))
    for name, section in Settings():
        if not isinstance(section, Section):
            continue
        assert set(written[name]) == set(type(section).model_fields) - {"token"}, name
    shipped, default = load(), Settings()
    assert shipped.engine == default.engine
    assert shipped.assistant == default.assistant
    assert shipped.learning == default.learning
    assert shipped.persona[0] == default.persona[0]


def test_every_line_of_config_toml_says_what_it_does() -> None:
    for line in (REPOSITORY / "config.toml").read_text(encoding="utf-8").split("[[persona]]")[0].splitlines():
        if "=" in line and not line.startswith("#"):
            assert "#" in line, line


def test_the_environment_overrides_the_file_and_the_file_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = config(tmp_path, "[engine]\nmax_loras = 3\nmax_concurrent = 5\n")
    monkeypatch.setenv("FAMILIAR_ENGINE__MAX_CONCURRENT", "7")
    monkeypatch.setenv("FAMILIAR_ENGINE__FLAGS", '["--quantization", "fp8"]')
    settings = load(file)
    assert settings.engine.max_loras == 3
    assert settings.engine.max_concurrent == 7
    assert settings.engine.flags == ("--quantization", "fp8")
    rows = {key: (value, source) for key, value, source in origins(settings, file)}
    assert rows["engine.max_loras"] == ("3", "config.toml")
    assert rows["engine.max_concurrent"] == ("7", "FAMILIAR_ENGINE__MAX_CONCURRENT")
    assert rows["engine.model"] == ("auto", "default")


def test_the_data_folder_is_relative_to_the_file(tmp_path: Path) -> None:
    assert load(config(tmp_path, '[data]\nfolder = "here"\n')).data.folder == tmp_path / "here"
    assert load(config(tmp_path, '[data]\nfolder = "/elsewhere"\n')).data.folder == Path("/elsewhere")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[engine]\nmodle = 'x'\n", ["engine.modle", "did you mean 'model'", "config.toml"]),
        ("[engin]\nmodel = 'x'\n", ["engin", "did you mean 'engine'"]),
        ("[engine]\nmax_loras = 'many'\n", ["engine.max_loras", "valid integer", "'many'"]),
        ("[engine]\nmax_loras = 0\n", ["engine.max_loras", "greater than or equal to 1", "0"]),
        ("[engine]\nmax_lora_rank = 7\n", ["engine.max_lora_rank", "8, 16, 32", "7"]),
        ("[engine]\ndtype = 'int4'\n", ["engine.dtype", "'bfloat16'", "'int4'"]),
        ("[engine]\ngpu_memory_share = 1.5\n", ["engine.gpu_memory_share", "1"]),
        ("engine = 3\n", ["engine", "3"]),
        ("[assistant]\npersona = 'nobody'\n", ["nobody", "familiar"]),
        ("[assistant]\nreply_reserve_tokens = 4096\n", ["reply_reserve_tokens", "max_model_len"]),
        ("[[persona]]\nname = 'Bad Name'\nsystem = 'x'\n", ["persona.0.name"]),
        ("[[persona]]\nname = 'familiar'\n", ["persona.0.system", "required"]),
        ("[[persona]]\nname = 'a'\nsystem = ''\n[[persona]]\nname = 'a'\nsystem = ''\n", ["'a'", "two personas"]),
        ("persona = []\n", ["persona", "at least 1"]),
        ("[engine\n", ["config.toml", "TOML"]),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(tmp_path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(SettingsError) as error:
        load(config(tmp_path, text))
    for words in said:
        assert words in str(error.value)
    assert "Traceback" not in str(error.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        load(config(tmp_path, "[engine]\nmax_loras = 0\nmodle = 'x'\n"))
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FAMILIAR_ENGIN__MODEL", "x", "engin"),
        ("FAMILIAR_ENGINE__MODLE", "x", "engine.modle"),
        ("FAMILIAR_ENGINE__MAX_LORAS", "x", "FAMILIAR_ENGINE__MAX_LORAS"),
        ("FAMILIAR_ENGINE__FLAGS", "not json", "JSON"),
    ],
)
def test_a_mistaken_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=said):
        load()


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes("[engine]\nmodel = 'größe'\n".encode("utf-16"))
    with pytest.raises(SettingsError, match="UTF-8"):
        load(file)


def test_a_named_file_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAMILIAR_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match="no such file"):
        load()


def test_secrets_are_printed_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAMILIAR_ENGINE__API_KEY", "sesame")
    monkeypatch.setenv("FAMILIAR_DATA__DATABASE", "postgresql+psycopg://ada:sesame@host/familiar")
    settings = load()
    assert settings.engine.api_key.get_secret_value() == "sesame"
    assert "sesame" not in repr(settings)
    assert "sesame" not in str(origins(settings))
    monkeypatch.setenv("FAMILIAR_ENGINE__API_KEY", '["sesame"')
    shown = str(origins(load()))
    assert "sesame" not in shown


def test_the_bots_token_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAMILIAR_TELEGRAM_TOKEN", raising=False)
    assert load(config(tmp_path, "")).telegram.token.get_secret_value() == ""
    file = config(tmp_path, '[telegram]\ntoken_file = "secret/token"\n')
    with pytest.raises(SettingsError, match=r"token_file.*No such file"):
        load(file)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "token").write_text(" 123:from-the-file \n")
    assert load(file).telegram.token.get_secret_value() == "123:from-the-file"
    monkeypatch.setenv("FAMILIAR_TELEGRAM_TOKEN", "123:from-the-environment")
    settings = load(file)
    assert settings.telegram.token.get_secret_value() == "123:from-the-environment"
    assert "123:" not in repr(settings) + str(origins(settings, file))


def test_a_token_in_config_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="FAMILIAR_TELEGRAM_TOKEN") as error:
        load(config(tmp_path, '[telegram]\ntoken = "123:abc"\n'))
    assert "123:abc" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[access]\nallow = ['12345']\n", "channel:id"),
        ("[access]\nmode = 'closed'\n", "'pairing'"),
        ("[telegram]\nupdates = 'webhook'\n", "webhook_url"),
        ("[media]\nvision_url = 'http://127.0.0.1:8001/v1'\n", "vision_model"),
        ("[telegram]\nstalled_after_s = 25\n", "poll_timeout_s"),
        ("[telegram]\napi_url = 'api.telegram.org'\n", "telegram.api_url"),
    ],
)
def test_a_mistake_about_telegram_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(config(tmp_path, text))


def test_settings_stand_on_the_ground() -> None:
    """The ground floor imports no room above it; import-linter sees packages only."""
    code = "import sys, settings; print([m for m in ('bot', 'engine', 'store', 'cli') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert ran.stdout.strip() == "[]"
