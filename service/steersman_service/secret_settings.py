"""Settings that hold secrets: read from files, too, handed to child processes, and shown nowhere."""

import os
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SecretsSettingsSource

from steersman_service.errors import StartupError

SECRETS_DIR = "STEERSMAN_SECRETS_DIR"
# Of one file.
MOST_BYTES = 1 << 20


class SecretSettings(BaseSettings):
    """The field `secrets_dir`, or the environment, names a folder whose files are named like settings and hold their values."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(init_settings, InitSettingsSource)
        folder = init_settings.init_kwargs.get("secrets_dir") or os.environ.get(SECRETS_DIR)
        if not folder:
            return init_settings, env_settings
        _check_secrets(Path(folder), cls)
        return init_settings, env_settings, SecretsSettingsSource(settings_cls, folder, env_prefix="")

    def for_child(self) -> dict[str, Any]:
        """All of it as JSON, secrets included: for a process that was started by this one, over a socket of their own."""
        dumped = self.model_dump(mode="json")
        secrets = {name: each for name in dumped if isinstance(each := getattr(self, name), SecretStr)}
        # They are in it already.
        return {**dumped, **{name: each.get_secret_value() for name, each in secrets.items()}, "secrets_dir": None}


def secret(value: SecretStr | None) -> str:
    """Empty if there is none."""
    return value.get_secret_value() if value else ""


def _check_secrets(folder: Path, settings: type[BaseSettings]) -> None:
    """Raises StartupError: a file that is spelled wrong, or that holds nothing, would be a secret that is not used."""
    try:
        files = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    except OSError as error:
        raise StartupError(f"settings: secrets_dir: {folder}: {error.strerror}") from None
    for file in files:
        if file.name not in settings.model_fields:
            raise StartupError(
                f"settings: secrets_dir: {file.name[:100]!r} is no setting: files are named like redis_url"
            )
        if wrong := _wrong(file):
            raise StartupError(f"settings: secrets_dir: {file}: {wrong}")


def _wrong(file: Path) -> str:
    """Nothing of what it holds."""
    try:
        if file.stat().st_size > MOST_BYTES:
            return f"has more than {MOST_BYTES} bytes"
        return "" if file.read_text("utf-8").strip() else "is empty: write the value into it, or take it out"
    except OSError as error:
        return f"{error.strerror}"
    except ValueError:
        return "is no text in UTF-8"
