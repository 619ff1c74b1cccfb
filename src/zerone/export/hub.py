"""Puts a written transformers directory on the Hugging Face Hub, and only when told to.

In: the directory and the name of a repository. Out: the address of the commit. Without a push the
plan is all there is. The account is that of huggingface_hub (`hf auth login` or HF_TOKEN); no token
passes through here. A repository is made private, and one that is public is left alone unless the
user said so.
"""

from collections.abc import Iterator
from pathlib import Path

from zerone.errors import ExportError


def check_name(repo: str) -> None:
    """Raise ExportError for what cannot be a repository's name; nothing is contacted."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # lazily exported

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ExportError(f"--repo {repo!r} is not the name of a repository: {error}") from error
    if "/" not in repo:
        raise ExportError(f"--repo {repo!r} names no owner; give OWNER/NAME")


def plan(directory: Path, repo: str, is_public: bool) -> Iterator[str]:
    """Yield what a push would do, line by line."""
    paths = sorted(path for path in directory.iterdir() if path.is_file())
    total = sum(path.stat().st_size for path in paths)
    kind = "public" if is_public else "private"
    yield f"would upload {len(paths)} files ({total:,} bytes) to the {kind} repository {repo}:"
    for path in paths:
        yield f"  {path.name:<32} {path.stat().st_size:>14,}"


def push(directory: Path, repo: str, is_public: bool) -> str:
    """Upload the directory and return the address of the commit; raises ExportError when that fails."""
    from huggingface_hub import HfApi, errors
    from huggingface_hub.errors import OfflineModeIsEnabled

    # That of httpx in version 1 and of httpx2 in version 2, which no other name finds in both.
    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    check_name(repo)
    api = HfApi()
    try:
        api.create_repo(repo, private=not is_public, exist_ok=True)
        if not is_public and not api.model_info(repo).private:
            raise ExportError(
                f"{repo} is there already and public; add --public if that is meant, or choose another --repo"
            )
        commit = api.upload_folder(
            repo_id=repo, folder_path=directory, commit_message="Model exported by zerone"
        )
    except OfflineModeIsEnabled as error:
        raise ExportError(
            f"HF_HUB_OFFLINE is set, so nothing was uploaded; the files are in {directory}"
        ) from error
    except ExportError:
        raise
    except (http_error, OSError) as error:
        first, *_ = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(
            f"the Hub did not take {repo} ({first}); log in by `hf auth login` and try again; the files are "
            f"in {directory}"
        ) from error
    return str(commit.commit_url)
