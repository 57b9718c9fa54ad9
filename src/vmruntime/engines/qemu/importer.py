"""The import program: `python -m vmruntime.engines.qemu.importer --url ... --format ... --size ... --dest ...`.

It brings a source, or a copy of another disk, to where a disk is to be, and ends. It runs as the process of a pod of
its own, so that it outlives the controller that started it. The disk appears under its name when it is whole and on
stable storage, and not before; killed at any moment, it can simply be started again.

Secrets come in the environment, where only this user can see them: IMPORT_USER and IMPORT_PASSWORD for the server,
IMPORT_GOOGLE_CREDENTIALS for Cloud Storage and IMPORT_DOCKER_CONFIG for registries (JSON), and IMPORT_CA_0, IMPORT_CA_1
... with certificates (PEM) of authorities to trust. STORAGE_EMULATOR_HOST is the address of a stand-in for Cloud
Storage, as for Google's libraries.

`PATH.progress` (JSON, replaced atomically) tells how far it is and how it ended; standard output tells it to people.
Exit code 0: the disk is in place; 1: it is not, and the last line says why; 2: wrong arguments; 75 (EX_TEMPFAIL):
not now, because a machine writes to the disk that is to be copied.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from vmruntime.engines.qemu import clone, formats, images, import_job
from vmruntime.engines.qemu.clone import CloneJob
from vmruntime.engines.qemu.hashing import ALGORITHMS
from vmruntime.engines.qemu.http_request import Access
from vmruntime.engines.qemu.image_cache import ImageCache
from vmruntime.engines.qemu.images import ImageError
from vmruntime.engines.qemu.import_job import Job
from vmruntime.engines.qemu.progress import Progress
from vmruntime.engines.qemu.s3_access import S3Access
from vmruntime.engines.qemu.source_kinds import GCS, Origin
from vmruntime.engines.qemu.sources import SourceError

USER_VARIABLE = "IMPORT_USER"
PASSWORD_VARIABLE = "IMPORT_PASSWORD"
GOOGLE_VARIABLE = "IMPORT_GOOGLE_CREDENTIALS"
DOCKER_VARIABLE = "IMPORT_DOCKER_CONFIG"
CERTIFICATES_PREFIX = "IMPORT_CA_"
_EMULATOR_VARIABLE = "STORAGE_EMULATOR_HOST"

_TEMPORARY = ("NoSpace", "Timeout", "ToolMissing")


def _arguments(argv: Sequence[str], environment: Mapping[str, str]) -> Job | CloneJob:
    parser = argparse.ArgumentParser(prog="importer", description="Bring a disk image into place.", allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--url", help="http, https, gs, docker, oci, oci-archive or file URL of the image")
    source.add_argument("--clone", type=Path, help="disk to copy")
    parser.add_argument("--clone-format", choices=formats.OUTPUT_FORMATS, help="format of the disk to copy")
    parser.add_argument("--format", required=True, choices=formats.OUTPUT_FORMATS, help="format of the disk")
    parser.add_argument("--size", required=True, type=int, help="size of the disk in bytes")
    parser.add_argument("--dest", required=True, type=Path, help="where the disk is to be")
    parser.add_argument("--owner", type=int, default=None, help="user and group id that the disk is to belong to")
    parser.add_argument("--allow-dir", type=Path, action="append", default=[], help="directory for file URLs")
    parser.add_argument("--s3", action="store_true", help="credentials are an S3 access key, for signed requests")
    parser.add_argument("--checksum", default="", help="what the source's checksum has to be, as ALGORITHM:HEX")
    parser.add_argument("--cache", type=Path, help="directory in which downloaded images are kept")
    parser.add_argument("--cache-scope", default="default", help="whose images may be used of those kept")
    options = parser.parse_args(argv)
    if not 0 < options.size <= images.MAX_VIRTUAL_SIZE:
        parser.error(f"--size has to be between 1 and {images.MAX_VIRTUAL_SIZE}")
    if options.checksum and options.checksum.partition(":")[0] not in ALGORITHMS:
        parser.error(f"--checksum has to be of one of {', '.join(ALGORITHMS)}")
    if not options.dest.parent.is_dir():
        parser.error(f"--dest: {options.dest.parent} is not a directory")
    cache = None
    if options.cache is not None:
        with contextlib.suppress(OSError):  # an import works without it
            cache = ImageCache(options.cache, options.cache_scope)
    target = (options.format, options.size, options.dest, options.owner)
    if options.clone is not None:
        if options.clone_format is None:
            parser.error("--clone needs --clone-format")
        return CloneJob(options.clone, options.clone_format, *target, cache)
    origin = Origin(
        url=options.url,
        allowed=tuple(options.allow_dir),
        access=_access(S3Access if options.s3 else Access, environment),
        google=environment.get(GOOGLE_VARIABLE, ""),
        docker=environment.get(DOCKER_VARIABLE, ""),
        gcs=environment.get(_EMULATOR_VARIABLE, GCS),
    )
    return Job(origin, *target, options.checksum.lower(), cache)


def _access(kind: type[Access], environment: Mapping[str, str]) -> Access:
    certificates = [environment[name] for name in sorted(environment) if name.startswith(CERTIFICATES_PREFIX)]
    user, password = environment.get(USER_VARIABLE, ""), environment.get(PASSWORD_VARIABLE, "")
    return kind(user, password, "\n".join(certificates))


def _run(job: Job | CloneJob, progress: Progress) -> int:
    """The exit code."""
    try:
        if isinstance(job, CloneJob):
            clone.run(job, progress)
        else:
            import_job.run(job, progress)
    except SourceError as error:
        progress.failed(error.reason, str(error), temporary=error.temporary)
        return 1
    except ImageError as error:
        in_use = isinstance(job, CloneJob) and clone.is_in_use(error)
        progress.failed(error.reason, str(error), temporary=in_use or error.reason in _TEMPORARY)
        return os.EX_TEMPFAIL if in_use else 1
    return 0


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str], say: Callable[[str], None] = _say) -> int:
    """Runs the program; see the module's text."""
    signal.signal(signal.SIGTERM, _terminated)
    job = _arguments(argv, os.environ)
    progress = Progress(job.dest.with_name(job.dest.name + ".progress"), say)
    started = time.monotonic()
    if (code := _run(job, progress)) == 0:
        progress.succeeded(time.monotonic() - started)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
