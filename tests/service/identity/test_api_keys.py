"""Keys by hash: made, read, followed, revoked."""

import asyncio
import hashlib
import json
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steersman_service.cli.main import make_app
from steersman_service.errors import StartupError, TokenMissing, TokenRefused
from steersman_service.identity import api_keys, jwt_keys
from steersman_service.identity import authenticator as authenticator_module
from steersman_service.identity.api_keys import Keys, new_key, read_keys
from steersman_service.identity.authenticator import Authenticator
from steersman_service.identity.identity import Identity, Role
from steersman_service.identity.options import IdentityOptions, JwtOptions

LINE = json.loads(new_key("steer", "acme", "shop")[1])


def test_a_key_is_made_once_and_only_its_hash_is_kept() -> None:
    made = CliRunner().invoke(make_app(), ["key", "new", "--tenant", "acme", "--roles", "steer", "--days", "1"])
    assert made.exit_code == 0
    key, line = made.stdout.split()
    assert key.startswith("steersman_")
    assert len(key) > 55
    assert key.rpartition("_")[2] not in line
    (entry,) = read_keys(line.encode()).values()
    assert (entry.tenant, entry.role, entry.sha256) == ("acme", "steer", hashlib.sha256(key.encode()).hexdigest())
    for wrong in (["--tenant", "a/b"], ["--days", "0"], ["--days", "nan"], ["--name", "\x1b"], ["--role", "root"]):
        assert CliRunner().invoke(make_app(), ["key", "new", *wrong]).exit_code == 2


async def test_the_file_is_followed_and_a_broken_one_keeps_the_old(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    keys, lines = zip(*(new_key(role, "acme", role) for role in ("recommend", "admin")), strict=True)
    old, expired = new_key("admin", days=-1)
    file.write_text("\n".join([*lines, expired]))
    authenticator = Authenticator(IdentityOptions(api_keys=file))

    async def holder(*sent: str) -> Identity:
        return await authenticator.identify(sent, list)

    assert await holder(f"Bearer {keys[0]}") == Identity("recommend", "acme", Role.RECOMMEND)
    assert await holder(f"bearer  {keys[1]} ") == Identity("admin", "acme", Role.ADMIN)
    with pytest.raises(TokenMissing):
        await holder()
    mixed = keys[0].rpartition("_")[0] + "_" + keys[1].rpartition("_")[2]
    for wrong, why in (
        (["Bearer"], "Bearer TOKEN"),
        (["Bearer "], "Bearer TOKEN"),
        ([f"Basic {keys[0]}"], "Bearer TOKEN"),
        ([keys[0]], "Bearer TOKEN"),
        ([f"Bearer {keys[0]}"] * 2, "one header"),
        ([f"Bearer {'x' * 8000}"], "one header"),
        ([f"Bearer {keys[0][:-1]}"], "no key"),
        ([f"Bearer {mixed}"], "no key"),
        (["Bearer steersman_"], "no key"),
        ([f"Bearer {old}"], "has expired"),
        (["Bearer a.b.c"], "takes no tokens of this kind"),
    ):
        with pytest.raises(TokenRefused, match=why):
            await holder(*wrong)
    for broken in ("{", lines[1] + "\n" + lines[1], None):
        if broken is None:
            file.unlink()
        else:
            file.write_text(broken)
        for _ in range(2):
            await authenticator.refresh()
        assert (await holder(f"Bearer {keys[0]}")).name == "recommend"
    file.write_text("")  # in the middle of a write
    await authenticator.refresh()
    assert (await holder(f"Bearer {keys[0]}")).name == "recommend"
    file.write_text(lines[1])
    for _ in range(2):
        await authenticator.refresh()
    assert (await holder(f"Bearer {keys[1]}")).name == "admin"
    with pytest.raises(TokenRefused, match="no key"):
        await holder(f"Bearer {keys[0]}")


async def test_keys_are_followed_whatever_an_issuer_or_a_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticator_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(jwt_keys, "FETCH_SECONDS", 60.0)
    file, read = tmp_path / "keys", asyncio.Event()

    def fragile(data: bytes) -> Keys:
        if data == b"unforeseen":
            read.set()
            raise RuntimeError
        return read_keys(data)

    monkeypatch.setattr(api_keys, "read_keys", fragile)
    key, line = new_key("steer")
    file.write_text(line)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        authenticator = Authenticator(IdentityOptions(JwtOptions(url, "audience", "issuer"), file))
        following = asyncio.create_task(authenticator.follow())

        async def known() -> bool:
            with suppress(TokenRefused):
                return bool(await authenticator.identify([f"Bearer {key}"], tuple))
            return False

        assert await known()
        file.write_bytes(b"unforeseen")
        async with asyncio.timeout(30):
            await read.wait()
            assert await known()
            file.write_text("")
            while await known():  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.01)
        following.cancel()
        silent.close()
        await asyncio.wait([following])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"id": "A"}, "id has to be"),
        ({"sha256": "0"}, "sha256 has to be"),
        ({"role": "root"}, "role has to be"),
        ({"tenant": "a/b"}, "its tenant"),
        ({"name": "\n"}, "its name"),
        ({"name": "\ud800"}, "line 2"),
        ({"expires": "2030-01-01"}, "expires"),
        ({"expires": "2030-01-01T00:00:00"}, "expires"),
        ({"salt": ""}, "salt"),
    ],
)
def test_a_line_that_is_wrong_is_named(changes: dict[str, str], why: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# the first line\n" + json.dumps({**LINE, **changes}))
    with pytest.raises(StartupError, match=rf"api_keys: .*line 2.*{why}|{why}"):
        Authenticator(IdentityOptions(api_keys=tmp_path / "keys"))
    with pytest.raises(StartupError, match="api_keys"):
        Authenticator(IdentityOptions(api_keys=tmp_path / "gone"))


async def test_who_brings_nothing_is_what_the_setting_says(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(json.dumps(LINE))
    for options, role in (
        (IdentityOptions(), Role.ADMIN),
        (IdentityOptions(anonymous=Role.RECOMMEND), Role.RECOMMEND),
        (IdentityOptions(api_keys=tmp_path / "keys", anonymous=Role.RECOMMEND), Role.RECOMMEND),
    ):
        assert await Authenticator(options).identify((), list) == Identity(role=role)
    certificates = Authenticator(IdentityOptions(certificates=True))
    known = "steersman://acme/page?role=steer"
    assert await certificates.identify((), lambda: ["page.example", known]) == Identity("page", "acme", Role.STEER)
    for nothing in ([], ["page.example", "spiffe://acme/page"]):
        with pytest.raises(TokenMissing):
            await certificates.identify((), nothing.copy)
    for wrong in ("a/b/c?role=steer", "a@b/c?role=steer", "acme/page", "acme/page?role=root", "acme/page?role=steer#"):
        with pytest.raises(TokenRefused, match="steersman://TENANT/NAME"):
            await certificates.identify((), [f"steersman://{wrong}"].copy)
    with pytest.raises(TokenRefused, match="one URI"):
        await certificates.identify((), lambda: [known, known])
    with pytest.raises(TokenRefused):  # a token that is refused is not made up for by a certificate
        await certificates.identify(["Bearer x"], lambda: [known])
