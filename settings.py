"""What an operator can set: `config.toml`, typed and checked.

This is the only reader of configuration. Three places are asked, the last one wins:

    the default in this file  <  config.toml  <  environment FAMILIAR_SECTION__KEY

`config.toml` lies beside this file unless FAMILIAR_CONFIG names another. Every default stands in it too, so that
it can be read as the list of settings; a test holds the two together. Paths in it are relative to its folder.

    SettingsError    a wrong key, type or range, or a file that is not TOML; the text names the key and what is allowed
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariable

REPOSITORY = Path(__file__).resolve().parent
TOKEN_VARIABLE = "FAMILIAR_TELEGRAM_TOKEN"


class SettingsError(Exception):
    """The configuration cannot be used. The text says which key, what was given, what is allowed."""


def _number(given: object) -> object:
    """An environment variable's text as the number it shows: a Literal, unlike int, does not do that itself."""
    return int(given) if isinstance(given, str) and given.isdecimal() else given


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    folder: Path = Path("var")
    database: SecretStr = SecretStr("")  # it may hold a password


class Engine(Section):
    model: Annotated[str, Field(min_length=1)] = "auto"
    url: str = ""
    api_key: SecretStr = SecretStr("")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: Annotated[int, Field(ge=256)] = 4096
    lora: Literal["auto", "on", "off"] = "auto"
    max_lora_rank: Annotated[Literal[8, 16, 32, 64, 128, 256], BeforeValidator(_number)] = 16
    max_loras: Annotated[int, Field(ge=1)] = 2
    max_cpu_loras: Annotated[int, Field(ge=1)] = 16
    prefix_caching: bool = True
    gpu_memory_share: Annotated[float, Field(gt=0, le=1)] = 0.85
    cpu_cache_gib: Annotated[int, Field(ge=1)] = 1
    cpu_threads: Annotated[int, Field(ge=0)] = 0
    flags: tuple[str, ...] = ()
    keep_alive_minutes: Annotated[float, Field(ge=0)] = 15
    start_timeout_s: Annotated[float, Field(gt=0)] = 600
    max_restarts: Annotated[int, Field(ge=0)] = 3
    max_concurrent: Annotated[int, Field(ge=1)] = 16
    first_token_timeout_s: Annotated[float, Field(gt=0)] = 120
    between_tokens_timeout_s: Annotated[float, Field(gt=0)] = 30


class Sampling(Section):
    """How a reply is drawn. `None` leaves a value to the model's own defaults (see engine.models)."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] = 512
    seed: int | None = None


class Example(Section):
    """One worked example of a few-shot prompt."""

    user: str
    assistant: str


class Persona(Section):
    """Who the assistant is: a system prompt, examples (none: zero-shot), and how it samples.

    `system` and the examples are templates; their variables are listed in bot.prompt.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    title: str = ""
    system: str
    examples: tuple[Example, ...] = ()
    sampling: Sampling = Sampling()
    adapter: str = ""


class Assistant(Section):
    persona: str = "familiar"
    language: Literal["auto", "en", "zh"] = "auto"
    reply_reserve_tokens: Annotated[int, Field(ge=16)] = 512


Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=10)]


class Learning(Section):
    """Whose conversations are learnt from, and what each reply counts by what became of it. 0: it is left out."""

    consent: Literal["ask", "all", "none"] = "ask"
    corrected: Weight = 2.0
    rated_up: Weight = 1.0
    chosen: Weight = 0.7
    unremarked: Weight = 0.3
    passages: Literal["kept", "dropped"] = "kept"
    redact: bool = True
    near_duplicate: Share = 0.8
    validation_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    test_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.25
    kept_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    apart: Literal["off", "groups"] = "off"
    sealed_days: Annotated[float, Field(ge=0)] = 0.0


Method = Literal[
    "lora", "rslora", "dora", "pissa", "eva", "ia3", "bottleneck", "prompt", "prefix", "bitfit", "top_layers", "full"
]


class Finetune(Section):
    """How an adapter is trained, and when."""

    schedule: str = ""
    min_new_examples: Annotated[int, Field(ge=1)] = 50
    method: Method = "lora"
    rank: Annotated[Literal[1, 2, 4, 8, 16, 32, 64, 128, 256], BeforeValidator(_number)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(ge=0)] = 0.0
    warmup_share: Share = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: Annotated[float, Field(ge=0)] = 1.0
    epochs: Annotated[float, Field(gt=0)] = 4
    batch_tokens: Annotated[int, Field(ge=64)] = 1024
    micro_batch_tokens: Annotated[int, Field(ge=64)] = 1024
    max_tokens: Annotated[int, Field(ge=64)] = 1024
    loss_of: Literal["tokens", "examples"] = "examples"
    validations_per_epoch: Annotated[int, Field(ge=1)] = 2
    patience: Annotated[int, Field(ge=1)] = 3
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    checkpointing: Literal["auto", "on", "off"] = "auto"
    preferences: Literal["off", "dpo", "kto"] = "off"
    preference_beta: Annotated[float, Field(gt=0)] = 0.1
    start: Literal["base", "last"] = "base"
    replay: Annotated[float, Field(ge=0)] = 1.0
    general: Annotated[float, Field(ge=0)] = 0.2
    kl: Annotated[float, Field(ge=0)] = 4.0
    l2: Annotated[float, Field(ge=0)] = 0.0
    gpu: Literal["sleep", "share"] = "sleep"
    timeout_hours: Annotated[float, Field(gt=0)] = 24
    keep_runs: Annotated[int, Field(ge=1)] = 20

    @field_validator("schedule")
    @classmethod
    def _is_a_time(cls, schedule: str) -> str:
        if schedule:
            from croniter import croniter

            if len(schedule.split()) != 5 or not croniter.is_valid(schedule):
                raise ValueError(f"{schedule!r} is no time in cron's form, e.g. '0 3 * * *' for every night at three")
        return schedule


class Gate(Section):
    """When a new adapter is good enough. Intervals are of the paired bootstrap over conversations."""

    min_conversations: Annotated[int, Field(ge=2)] = 50
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=100)] = 10_000
    min_gain: Annotated[float, Field(ge=0)] = 0.0
    max_general_perplexity: Annotated[float, Field(ge=1)] = 1.03
    max_round_loss: Annotated[float, Field(ge=0)] = 0.1
    max_round_lost: Annotated[float, Field(ge=0, le=1)] = 0.1
    max_length_change: Annotated[float, Field(gt=0)] = 0.3
    max_probes_lost: Annotated[int, Field(ge=0)] = 2
    max_more_refusals: Share = 0.05
    max_more_loops: Share = 0.05
    replies: Annotated[int, Field(ge=0)] = 40
    judge_url: str = ""
    judge_model: str = ""
    judge_api_key: SecretStr = SecretStr("")
    canary_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    canary_min_ratings: Annotated[int, Field(ge=2)] = 20
    canary_days: Annotated[float, Field(gt=0)] = 7


class Access(Section):
    """Who may talk on channels that anybody can reach, and how much. The terminal is the operator's own."""

    mode: Literal["open", "allowlist", "pairing"] = "pairing"
    allow: tuple[str, ...] = ()  # a channel's own ids, e.g. "telegram:123456789"
    admins: tuple[str, ...] = ()
    messages_per_minute: Annotated[int, Field(ge=0)] = 20  # 0: as many as they like
    tokens_per_day: Annotated[int, Field(ge=0)] = 0  # 0: as many as they like

    @field_validator("allow", "admins")
    @classmethod
    def _name_their_channel(cls, identities: tuple[str, ...]) -> tuple[str, ...]:
        for identity in identities:
            channel, _, external_id = identity.partition(":")
            if not channel or not external_id:
                raise ValueError(f"{identity!r} is not of the form channel:id, e.g. telegram:123456789")
        return identities


class Telegram(Section):
    token: SecretStr = SecretStr("")  # from FAMILIAR_TELEGRAM_TOKEN or token_file, never from config.toml
    token_file: str = ""
    api_url: Annotated[str, Field(pattern=r"^https?://")] = "https://api.telegram.org"
    updates: Literal["polling", "webhook"] = "polling"
    poll_timeout_s: Annotated[int, Field(ge=0, le=50)] = 25
    stalled_after_s: Annotated[float, Field(gt=0)] = 90
    webhook_url: str = ""
    webhook_listen: str = "127.0.0.1"
    webhook_port: Annotated[int, Field(ge=0, le=65535)] = 8443
    webhook_secret: SecretStr = SecretStr("")
    streaming: Literal["auto", "edits"] = "auto"
    draft_interval_s: Annotated[float, Field(gt=0)] = 0.7
    edit_interval_s: Annotated[float, Field(gt=0)] = 1.5
    join_wait_s: Annotated[float, Field(ge=0)] = 0.3
    join_wait_long_s: Annotated[float, Field(ge=0)] = 1.5
    group_context: Annotated[int, Field(ge=0, le=50)] = 0
    shutdown_grace_s: Annotated[float, Field(ge=0)] = 20


class Knowledge(Section):
    """The documents that replies rest on: where they are, how they are read, and how passages are found in them."""

    folder: Path = Path("documents")
    embeddings: Annotated[str, Field(min_length=1)] = "bundled"
    embeddings_url: str = ""
    embeddings_api_key: SecretStr = SecretStr("")
    embedding_threads: Annotated[int, Field(ge=0)] = 0
    reranker: str = ""
    chroma_url: str = ""
    chunk_tokens: Annotated[int, Field(ge=32, le=8192)] = 256
    dense_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    relevance_floor: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = "auto"
    passages: Annotated[int, Field(ge=1, le=20)] = 4
    prompt_share: Annotated[float, Field(gt=0, le=0.9)] = 0.5
    follow_ups: Literal["terms", "rewrite", "off"] = "terms"
    unanswered: Literal["note", "only_documents", "silent"] = "note"
    max_file_mb: Annotated[float, Field(gt=0)] = 50
    parse_timeout_s: Annotated[float, Field(gt=0)] = 120
    parse_memory_mb: Annotated[int, Field(ge=256)] = 2048
    ocr_pages: Annotated[int, Field(ge=0)] = 50
    fetch_timeout_s: Annotated[float, Field(gt=0)] = 30
    documents_per_person: Annotated[int, Field(ge=0)] = 100

    @field_validator("embeddings_url", "chroma_url")
    @classmethod
    def _are_addresses(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is not an http:// or https:// address")
        return url


class Media(Section):
    """Models that turn photos and voice into text, by OpenAI-compatible URLs. "" is not enabled."""

    vision_url: str = ""
    vision_model: str = ""
    vision_api_key: SecretStr = SecretStr("")
    transcription_url: str = ""
    transcription_model: str = "whisper-1"
    transcription_api_key: SecretStr = SecretStr("")


class Telemetry(Section):
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9464
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"


DEFAULT_PERSONA = Persona(
    name="familiar",
    title="Familiar",
    system="You are a helpful AI assistant named Familiar. You give short, clear and correct answers.",
)


class Settings(BaseSettings):
    """Every setting, as it is in force. Made by `load`."""

    model_config = SettingsConfigDict(
        env_prefix="FAMILIAR_", env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    data: Data = Data()
    engine: Engine = Engine()
    assistant: Assistant = Assistant()
    learning: Learning = Learning()
    finetune: Finetune = Finetune()
    gate: Gate = Gate()
    access: Access = Access()
    telegram: Telegram = Telegram()
    knowledge: Knowledge = Knowledge()
    media: Media = Media()
    telemetry: Telemetry = Telemetry()
    persona: Annotated[tuple[Persona, ...], Field(min_length=1)] = (DEFAULT_PERSONA,)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # init: what config.toml says

    @model_validator(mode="after")
    def _personas_fit(self) -> Settings:
        names = [persona.name for persona in self.persona]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"persona: two personas are named {sorted(twice)[0]!r}")
        if self.assistant.persona not in names:
            raise ValueError(f"assistant.persona: there is no persona {self.assistant.persona!r}; there are {names}")
        if self.assistant.reply_reserve_tokens >= self.engine.max_model_len:
            raise ValueError("assistant.reply_reserve_tokens: must be less than engine.max_model_len")
        return self

    @model_validator(mode="after")
    def _vision_is_named(self) -> Settings:
        if bool(self.media.vision_url) != bool(self.media.vision_model):
            raise ValueError("media.vision_url, media.vision_model: one without the other sees nothing")
        return self

    @model_validator(mode="after")
    def _telegram_fits(self) -> Settings:
        if self.telegram.stalled_after_s <= self.telegram.poll_timeout_s:
            raise ValueError("telegram.stalled_after_s: must be more than telegram.poll_timeout_s, or no poll is over")
        if self.telegram.updates == "webhook" and not self.telegram.webhook_url.startswith(("https://", "http://")):
            raise ValueError('telegram.webhook_url: updates = "webhook" needs the https:// address Telegram calls')
        return self

    def persona_named(self, name: str) -> Persona | None:
        return next((persona for persona in self.persona if persona.name == name), None)

    @property
    def database_url(self) -> str:
        return self.data.database.get_secret_value() or f"sqlite:///{self.data.folder / 'familiar.db'}"


def load(file: Path | None = None) -> Settings:
    """The settings in force, from `file` (default: FAMILIAR_CONFIG, or config.toml beside the code) and environment.

    Raises SettingsError.
    """
    file = config_file(file)
    written = _read(file)
    _refuse_unknown_variables()
    _refuse_written_token(written, file)
    try:
        settings = Settings(**written)
    except ValidationError as error:
        raise SettingsError(_explain(error, file)) from None
    except UnreadableVariable as error:
        raise SettingsError(f"{error}: the variable's value is not the JSON that this setting needs") from None
    folder = (file.parent / settings.data.folder.expanduser()).resolve()
    documents = (file.parent / settings.knowledge.folder.expanduser()).resolve()
    token = _telegram_token(settings.telegram, file)
    return settings.model_copy(
        update={
            "data": settings.data.model_copy(update={"folder": folder}),
            "knowledge": settings.knowledge.model_copy(update={"folder": documents}),
            "telegram": settings.telegram.model_copy(update={"token": token}),
        }
    )


def config_file(file: Path | None = None) -> Path:
    return (file or Path(os.environ.get("FAMILIAR_CONFIG") or REPOSITORY / "config.toml")).resolve()


def origins(settings: Settings, file: Path | None = None) -> list[tuple[str, str, str]]:
    """(key, value as text, where it came from) of every setting; secrets are masked."""
    written = _read(config_file(file))
    rows = []
    for section, model in settings:
        if section == "persona":
            source = config_file(file).name if "persona" in written else "default"
            rows += [(f"persona.{each.name}", each.title or each.name, source) for each in model]
            continue
        for key, value in model:
            variable = f"FAMILIAR_{section}__{key}".upper()
            if variable in {name.upper() for name in os.environ}:
                source = variable
            else:
                source = config_file(file).name if key in written.get(section, {}) else "default"
            shown = list(value) if isinstance(value, tuple) else value
            rows.append((f"{section}.{key}", str(shown), source))
    return rows


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if "FAMILIAR_CONFIG" in os.environ:
            raise SettingsError(f"FAMILIAR_CONFIG names {file}, and there is no such file.") from None
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{file} cannot be read as TOML (UTF-8): {error}") from None


def _refuse_unknown_variables() -> None:
    """pydantic-settings passes over a variable whose section it does not know; a typing slip must not be silent."""
    for variable in os.environ:
        section, nested, _ = variable.lower().removeprefix("familiar_").partition("__")
        if variable.upper().startswith("FAMILIAR_") and nested and section not in Settings.model_fields:
            known = ", ".join(Settings.model_fields)
            raise SettingsError(f"{variable}: there is no section {section!r}; there are {known}")


def _refuse_written_token(written: dict[str, Any], file: Path) -> None:
    """config.toml is shown, copied and committed; who has the token is the bot."""
    if "token" in written.get("telegram", {}):
        raise SettingsError(
            f"telegram.token must not stand in {file.name}. Put it into the environment as {TOKEN_VARIABLE}, or into a "
            "file of its own that telegram.token_file names."
        )


def _telegram_token(telegram: Telegram, file: Path) -> SecretStr:
    """The bot's token: FAMILIAR_TELEGRAM_TOKEN, else what token_file holds; "" when there is neither."""
    if given := os.environ.get(TOKEN_VARIABLE, "").strip():
        return SecretStr(given)
    if telegram.token.get_secret_value() or not telegram.token_file:
        return telegram.token
    place = file.parent / Path(telegram.token_file).expanduser()
    try:
        return SecretStr(place.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError(f"telegram.token_file: {place} cannot be read: {reason}") from None


def _explain(error: ValidationError, file: Path) -> str:
    """One line a fault: the key, what is wrong with it, and where it was given."""
    lines = []
    for fault in error.errors(include_url=False):
        section, *rest = (str(part) for part in fault["loc"]) if fault["loc"] else ("",)
        key = ".".join([section, *rest])
        variable = f"FAMILIAR_{section}__{'__'.join(rest)}".upper()
        where = variable if variable in {name.upper() for name in os.environ} else file.name
        if fault["type"] == "extra_forbidden":
            text = f"there is no such setting{_nearest(section, rest)}"
        elif fault["type"] == "value_error":
            text = fault["msg"].removeprefix("Value error, ")
        else:
            given = "" if _is_secret(key) else f", not {_given(fault)}"
            text = fault["msg"][0].lower() + fault["msg"][1:] + given
        lines.append(f"{key}: {text} ({where})" if key else f"{text} ({where})")
    return "\n".join(lines)


def _nearest(section: str, rest: list[str]) -> str:
    """'; did you mean …' or '; there are …' for a key that does not exist."""
    given, known = section, list(Settings.model_fields)
    if rest:
        model = Persona if section == "persona" else Settings.model_fields[section].annotation
        given, known = rest[-1], list(getattr(model, "model_fields", {}))
    close = difflib.get_close_matches(given, known, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"


def _is_secret(key: str) -> bool:
    return key.rpartition(".")[2].endswith(("api_key", "database", "token", "secret"))


def _given(fault: Any) -> str:
    shown = repr(fault.get("input"))
    return shown if len(shown) <= 60 else shown[:57] + "..."
