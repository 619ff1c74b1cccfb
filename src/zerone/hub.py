"""Names on the Hugging Face Hub: how they are written, at which commit they stand, what each failure means.

In: a name as a user writes it, `[hf:]OWNER/NAME[@REVISION]` for a model and
`hf:OWNER/NAME[/PART][@REVISION][#SPLIT]` for data. Out: files in huggingface_hub's own cache, and the commit
that they are of. Nothing is asked for that no name says; the account, the cache, the offline switch and the
endpoint are those of huggingface_hub (HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT).

A name that is resolved once in a process stays at its commit, also where the branch moves on meanwhile. A run
keeps these commits in environment.json and goes back to them when it is resumed.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from zerone.errors import UserError

PREFIX = "hf:"

Kind = Literal["model", "dataset"]

_OWNED = r"(?P<repository>[\w.-]+/[\w.-]+)"
_REVISION = r"(?:@(?P<revision>[^@#]+))?"
_MODEL = re.compile(rf"{_OWNED}{_REVISION}", re.ASCII)
_DATA = re.compile(rf"{_OWNED}(?:/(?P<part>[^@#]+))?{_REVISION}(?:#(?P<split>[^@#]+))?", re.ASCII)

_COMMIT = re.compile("[0-9a-f]{40}")

_SYNTAX: Mapping[Kind, str] = {
    "model": "OWNER/NAME or OWNER/NAME@REVISION",
    "dataset": f"{PREFIX}OWNER/NAME, then /CONFIG or /FILES, @REVISION and #SPLIT where they are needed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A name taken apart; `part` is a configuration or files of a data set, None where none is named."""

    kind: Kind
    written: str
    repository: str
    revision: str | None = None
    part: str | None = None
    split: str | None = None

    @property
    def called(self) -> str:
        """What the repository is called in a message."""
        return f"the {'model' if self.kind == 'model' else 'data set'} {self.repository}"

    @property
    def source(self) -> tuple[Kind, str, str | None]:
        """What decides the commit."""
        return self.kind, self.repository, self.revision


def is_model_name(text: str) -> bool:
    """Whether a `model.path` is a name on the Hub: one with the prefix, or OWNER/NAME that is no path here.

    Where OWNER is a directory, the name is a path in it that was mistyped or is not there yet.
    """
    if text.startswith(PREFIX):
        return True
    match = _MODEL.fullmatch(text)
    if match is None or text.startswith((".", "/", "~")):
        return False
    owner, _, name = match["repository"].partition("/")
    return not ({owner, name} & {".", ".."} or Path(text).exists() or Path(owner).exists())


def parse(text: str, kind: Kind, error: type[UserError]) -> Reference:
    """Return a name taken apart; raises `error` for what cannot be one."""
    match = (_MODEL if kind == "model" else _DATA).fullmatch(text.removeprefix(PREFIX))
    if match is None or not _is_repository(match["repository"]):
        raise error(f"{text!r} is not a name on the Hugging Face Hub; write {_SYNTAX[kind]}")
    return Reference(kind=kind, written=text, **match.groupdict())


def _is_repository(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # lazily exported

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


# Commits ------------------------------------------------------------------------------------------

_pinned: dict[tuple[Kind, str, str | None], str] = {}
"""What decides the commit -> the commit, of the names that this process has resolved."""
_written: dict[tuple[Kind, str], Reference] = {}
"""Kind and name as written -> what it says, of the same names."""
_done: dict[Any, Any] = {}

Found = TypeVar("Found")


def once(key: tuple[Any, ...], find: Callable[[], Found]) -> Found:
    """Return what `find` found the first time that it was asked in this process with this key."""
    if key not in _done:
        _done[key] = find()
    found: Found = _done[key]
    return found


def forget() -> None:
    """Forget what was resolved, so that the Hub is asked again."""
    for known in (_pinned, _written, _done):
        known.clear()


def pinned(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the commits, by kind and name, of those among some texts that are names and were resolved."""
    found: dict[str, dict[str, str]] = {}
    for (kind, name), reference in _written.items():
        if name in names:
            found.setdefault(kind, {})[name] = _pinned[reference.source]
    return found


def pin(commits: Mapping[str, Mapping[str, str]]) -> None:
    """Take names to stand at the commits that `pinned` gave, where a run began."""
    kinds: tuple[Kind, ...] = ("model", "dataset")
    for kind in kinds:
        for name, commit in commits.get(kind, {}).items():
            if not _COMMIT.fullmatch(str(commit)):
                raise UserError(f"{commit!r} is not a commit of {name}: the record of the run is damaged")
            reference = parse(name, kind, UserError)
            if _pinned.get(reference.source) != commit:
                _done.clear()
                _pinned[reference.source] = commit
            _pin(reference, commit)


def _pin(reference: Reference, commit: str) -> None:
    _pinned.setdefault(reference.source, commit)
    _written[reference.kind, reference.written] = reference


def revision_of(reference: Reference) -> str | None:
    """Return the commit where it is known, else the revision that the user wrote."""
    return _pinned.get(reference.source, reference.revision)


# Fetching -----------------------------------------------------------------------------------------


def fetch(
    reference: Reference, patterns: Sequence[str], error: type[UserError], ignored: Sequence[str] = ()
) -> Path:
    """Fetch the files of a repository that match, unless they are in the cache; return their directory.

    The directory is named after the commit, at which the name then stays. Raises `error`.
    """
    from huggingface_hub import snapshot_download

    with asking(reference, error):
        directory = Path(
            snapshot_download(
                reference.repository,
                repo_type=reference.kind,
                revision=revision_of(reference),
                allow_patterns=list(patterns),
                ignore_patterns=list(ignored) or None,
            )
        )
    _pin(reference, directory.name)
    return directory


def fetch_file(reference: Reference, name: str, error: type[UserError]) -> Path:
    """Fetch one file of a repository, unless it is in the cache; raises `error`."""
    from huggingface_hub import hf_hub_download

    with asking(reference, error, name):
        return Path(
            hf_hub_download(
                reference.repository, name, repo_type=reference.kind, revision=revision_of(reference)
            )
        )


def files_of(reference: Reference, directory: Path, error: type[UserError]) -> list[str]:
    """Return the names of a repository's files; `directory` is what `fetch` returned.

    They are taken from the cache where it has the list, else from the Hub. Where neither can tell, they are
    those that are in the cache.
    """
    from huggingface_hub import HfApi, errors

    names = _listed_in_cache(reference)
    if names is not None:
        return names
    try:
        with asking(reference, error):
            api, revision = HfApi(), revision_of(reference)
            is_model = reference.kind == "model"
            told = (api.model_info if is_model else api.dataset_info)(reference.repository, revision=revision)
            return sorted(sibling.rfilename for sibling in told.siblings or ())
    except error as failure:
        if isinstance(failure.__cause__, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
            raise
        found = [path for path in directory.rglob("*") if path.is_file()]
        if not found:
            raise
        return sorted(path.relative_to(directory).as_posix() for path in found)


def _listed_in_cache(reference: Reference) -> list[str] | None:
    """Return the names that the cache lists for a commit; None where it has no list, as an older one."""
    try:
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError
    except ImportError:  # before version 2
        return None
    try:
        tree = get_cached_repo_tree(
            reference.repository, repo_type=reference.kind, revision=revision_of(reference)
        )
    except CachedRepoTreeNotFoundError:
        return None
    return sorted(file.path for file in tree)


@contextmanager
def asking(reference: Reference, error: type[UserError], file: str | None = None) -> Iterator[None]:
    """Turn what huggingface_hub raises into `error`, with a sentence that says what to do."""
    from huggingface_hub import errors

    # That of httpx in version 1 and of httpx2 in version 2, which no other name finds in both.
    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    try:
        yield
    except (http_error, errors.EntryNotFoundError, errors.HFValidationError, OSError, ValueError) as failure:
        raise error(_explained(failure, reference, file)) from failure


def _explained(failure: BaseException, reference: Reference, file: str | None) -> str:
    """Return a sentence for a failure: of the name, of the cache, or of the way to the Hub."""
    from huggingface_hub import constants, errors

    wanted = reference.called if file is None else f"{file} of {reference.called}"
    if isinstance(failure, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        if constants.HF_HUB_OFFLINE:
            return (
                f"HF_HUB_OFFLINE is set, and {wanted} is not whole in the cache {constants.HF_HUB_CACHE}; "
                "unset it to fetch it, set HF_HOME to where it is, or give a local path"
            )
        failure = failure.__cause__ or failure
    named = _explained_name(failure, reference, file)
    if named is not None:
        return named
    if isinstance(failure, errors.HfHubHTTPError):
        return (
            f"the Hub refused {wanted} with status {failure.response.status_code} ({_first_line(failure)}); "
            "try again later"
        )
    is_of_disk = isinstance(failure, OSError) and not isinstance(failure, ConnectionError)
    if is_of_disk and not isinstance(failure, errors.EntryNotFoundError):
        return f"cannot write {wanted} to the cache {constants.HF_HUB_CACHE}: {_first_line(failure)}"
    return (
        f"{constants.ENDPOINT} cannot be reached ({_first_line(failure)}), and {wanted} is not whole in the "
        f"cache {constants.HF_HUB_CACHE}; check the network (proxy, HF_ENDPOINT), or give a local path"
    )


def _explained_name(failure: BaseException, reference: Reference, file: str | None) -> str | None:
    """Return a sentence for what the Hub says of a name or an account; the special kinds come first."""
    from huggingface_hub import constants, errors

    called, here = reference.called, ""
    where = f"{constants.ENDPOINT}/{'datasets/' if reference.kind == 'dataset' else ''}{reference.repository}"
    if reference.kind == "model" and not reference.written.startswith(PREFIX):
        here = f"; nor is there a directory {reference.written} here"
    sentences: list[tuple[type[BaseException], str]] = [
        (
            errors.GatedRepoError,
            f"{called} is gated: its owner grants access to it on {where}. Ask for it there, then log in by "
            "`hf auth login`, or set HF_TOKEN",
        ),
        (errors.DisabledRepoError, f"{called} has been disabled by the Hub ({where}); choose another"),
        (
            errors.RepositoryNotFoundError,
            f"there is no {called.removeprefix('the ')} on the Hub, or it is private ({where}){here}. Check "
            "the spelling; for a private one log in by `hf auth login`, or set HF_TOKEN",
        ),
        (
            errors.RevisionNotFoundError,
            f"{called} has no revision {reference.revision!r}; give a branch, a tag or a commit that is "
            f"listed "
            f"on {where}/commits/main",
        ),
        (
            errors.RemoteEntryNotFoundError,
            f"{called} has no file {file!r}; its files are listed on {where}/tree/main",
        ),
        (
            errors.HFValidationError,
            f"{reference.written!r} is not a name on the Hugging Face Hub; write {_SYNTAX[reference.kind]}",
        ),
    ]
    found = next((sentence for kind, sentence in sentences if isinstance(failure, kind)), None)
    is_refusal = isinstance(failure, errors.HfHubHTTPError) and failure.response.status_code in (401, 403)
    if found is None and is_refusal:
        return (
            f"the Hub refuses {called} to this account ({where}); log in again by `hf auth login`, or set "
            "HF_TOKEN to a token that may read it"
        )
    return found


def _first_line(failure: BaseException) -> str:
    first, *_ = str(failure).strip().splitlines() or [type(failure).__name__]
    return first.rstrip(". :")
