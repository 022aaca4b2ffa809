"""Data sets of Hugging Face and Kaggle by name, found in the folders where their libraries keep them."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from gan_distributed.data.sources.watched_stream import missing_library
from gan_distributed.errors import DataError, InputError

_OPTIONS = ("path", "revision", "download")


def is_hub_name(source: str) -> bool:
    """Whether a source names a data set of a hub: `hf:OWNER/NAME`, `kaggle:OWNER/NAME`."""
    return source.startswith(tuple(f"{kind}:" for kind in _FOLDERS))


def resolve_hub(source: str) -> str:
    """The source on this disk that a name stands for, with what is left of its query.

    `?path=` chooses a folder, file or pattern in the data set, `?revision=` its version, `?download=true` fetches it.
    """
    kind, _, rest = source.partition(":")
    name, _, query = rest.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    options = {key: value for key, value in pairs if key in _OPTIONS}
    owner, _, title = name.partition("/")
    if not owner or not title or "/" in title or {owner, title} & {".", ".."}:
        raise DataError(f"{source}: give {kind}:OWNER/NAME")
    path = options.get("path", "").strip("/")
    if ".." in path.split("/"):
        raise DataError(f"{source}: path= leads out of the data set")
    if options.get("download", "false") not in ("true", "false"):
        raise DataError(f"{source}: download= is true or false")
    folder = _FOLDERS[kind](source, name, options.get("revision"), path, options.get("download") == "true")
    left = urlencode([(key, value) for key, value in pairs if key not in _OPTIONS])
    return (f"{folder}/{path}" if path else str(folder)) + (f"?{left}" if left else "")


def _hugging_face(source: str, name: str, revision: str | None, path: str, download: bool) -> Path:
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise missing_library(source, "a data set of Hugging Face", "huggingface") from error
    wanted = [path, f"{path}/*"] if path else None
    try:
        folder = snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=wanted, local_files_only=not download
        )
    # The library's own errors are many; each names the cause.
    except Exception as error:
        if isinstance(error, errors.LocalEntryNotFoundError) and not download:
            raise _not_here(source, f"hf download --repo-type dataset {name}") from error
        raise _failed(source, error) from error
    return Path(folder)


def _kaggle(source: str, name: str, revision: str | None, _: str, download: bool) -> Path:
    try:
        import kagglehub
        from kagglehub.config import get_cache_folder
    except ImportError as error:
        raise missing_library(source, "a data set of Kaggle", "kaggle") from error
    if download:
        try:
            return Path(kagglehub.dataset_download(f"{name}/versions/{revision}" if revision else name))
        # The library's own errors are many; each names the cause.
        except Exception as error:
            raise _failed(source, error) from error
    # Left to itself the library asks the network which version is the newest.
    kept = Path(get_cache_folder(), "datasets", name)
    complete = [marker.stem for marker in kept.glob("*.complete") if (kept / "versions" / marker.stem).is_dir()]
    numbers = sorted(int(version) for version in complete if version.isdecimal())
    if revision is not None:
        numbers = [number for number in numbers if str(number) == revision]
    if not numbers:
        raise _not_here(source, f"kagglehub.dataset_download({name!r}) in Python")
    return kept / "versions" / str(numbers[-1])


def _not_here(source: str, how: str) -> InputError:
    return InputError(f"{source}: is not on this machine; add download=true to fetch it, or run {how}")


def _failed(source: str, error: Exception) -> InputError:
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return InputError(f"{source}: cannot be fetched ({said})")


_FOLDERS: dict[str, Callable[[str, str, str | None, str, bool], Path]] = {"hf": _hugging_face, "kaggle": _kaggle}
