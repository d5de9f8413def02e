"""Bundles on the Hugging Face hub, by huggingface_hub: a repository of models whose files are those of the bundle.

A commit is a bundle, and has a tag that is its version. Credentials are the hub's own: HF_TOKEN, or what `hf auth login` keeps;
HF_ENDPOINT is another hub.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steersman.v1.bundle_pb2 import Manifest
from steersman_service.bundle import files
from steersman_service.bundle.files import MANIFEST, MOST_MANIFEST_BYTES, SIGNATURE, VERSION
from steersman_service.bundle.storage import READ_SECONDS, Reader, Stored, asking
from steersman_service.errors import BundleError, SourceError

MAIN = "main"


class HubStorage:
    """`revision` is a branch, a tag or a commit; None: the main branch."""

    def __init__(self, source: str, repo: str, revision: str | None) -> None:
        try:
            import huggingface_hub as hub
        except ImportError as error:
            why = f"needs {error.name}, of the extra hub: pip install 'steersman[hub]'"
            raise SourceError(source, why) from error
        self._source, self._repo, self._revision, self._hub = source, repo, revision, hub
        endpoint = os.environ.get("HF_ENDPOINT") or None
        self._api: Any = hub.HfApi(endpoint=endpoint)
        # Listings are not kept: what is there changes.
        self._files: Any = hub.HfFileSystem(endpoint=endpoint, skip_instance_cache=True, use_listings_cache=False)
        self._commits: dict[str, str] = {}
        """By version, those that are known: their files do not change any more."""

    def current(self) -> str:
        return self._version_at(self._revision or MAIN)

    @contextmanager
    def opened(self, version: str, name: str) -> Iterator[Reader]:
        place = f"{self._repo}@{self._commit_of(version)}/{name}"
        with self._opened_at(place) as file:
            yield file

    @contextmanager
    def _opened_at(self, place: str) -> Iterator[Reader]:
        from huggingface_hub.errors import EntryNotFoundError

        try:
            # A stream: a file is read once, from its begin to its end.
            with self._files.open(place, "rb", block_size=0) as file:
                yield file
        except EntryNotFoundError as error:
            raise FileNotFoundError(place) from error

    def listed(self) -> list[Stored]:
        with asking(self._source, "cannot be listed"):
            tags = {tag.name for tag in self._api.list_repo_refs(self._repo).tags}
        current = self.current()
        return [Stored(version, version == current) for version in sorted({*filter(VERSION.fullmatch, tags), current})]

    def push(self, version: str, paths: Mapping[str, Path], *, current: bool) -> bool:
        if not current or self._revision not in (None, MAIN):
            raise SourceError(
                self._source, "a bundle is pushed to the main branch of a repository: write hf://OWNER/REPO"
            )
        hub = self._hub
        with asking(self._source, "cannot be written"):
            self._api.create_repo(self._repo, exist_ok=True, private=True)
            stale = (self._before() - set(paths)) & set(self._api.list_repo_files(self._repo))
            refs = self._api.list_repo_refs(self._repo)
            # One commit: others find the whole bundle, or the one before.
            operations = [hub.CommitOperationAdd(name, str(path)) for name, path in paths.items()]
            operations += [hub.CommitOperationDelete(name) for name in sorted(stale)]
            self._api.create_commit(self._repo, operations, commit_message=f"Bundle {version}")
            new = version not in {tag.name for tag in refs.tags}
            if not new:
                self._api.delete_tag(self._repo, tag=version)
            self._api.create_tag(self._repo, tag=version)
        return new

    def _before(self) -> set[str]:
        """Files of the bundle on the main branch. Others, a licence for example, are none of ours."""
        try:
            return {MANIFEST, SIGNATURE, *self._manifest_at(self._commit(MAIN)).files}
        except (FileNotFoundError, BundleError):
            return set()

    def _version_at(self, revision: str) -> str:
        """Of the manifest at a revision, whose commit is remembered."""
        try:
            with asking(self._source, f"cannot read {MANIFEST}"):
                commit = self._commit(revision)
                version = self._manifest_at(commit).version
        except FileNotFoundError:
            raise SourceError(self._source, f"holds no bundle: there is no {MANIFEST} at {revision}") from None
        self._commits[version] = commit
        return version

    def _manifest_at(self, commit: str) -> Manifest:
        with self._opened_at(f"{self._repo}@{commit}/{MANIFEST}") as file:
            return files.parse_manifest(file.read(MOST_MANIFEST_BYTES + 1))

    def _commit(self, revision: str) -> str:
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        try:
            return str(self._api.repo_info(self._repo, revision=revision, timeout=READ_SECONDS).sha)
        except RevisionNotFoundError:
            raise SourceError(self._source, f"the repository has no revision {revision}") from None
        except RepositoryNotFoundError:
            why = "there is no such repository of models, or no right to see it: check the name, and HF_TOKEN"
            raise SourceError(self._source, why) from None

    def _commit_of(self, version: str) -> str:
        """The commit that the source names, if it has that version, and otherwise that of the version's tag."""
        if version not in self._commits and self.current() != version and self._version_at(version) != version:
            raise SourceError(self._source, f"the tag {version} is another version")
        return self._commits[version]
