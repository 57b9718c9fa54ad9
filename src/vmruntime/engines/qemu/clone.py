"""A disk as a copy of another one that nobody writes to meanwhile.

QEMU's image locks are what keeps writers away: `qemu-img` does not read what a machine has open for writing, and a
machine that starts while the copy is made does not get its disk and is started again later.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmruntime.engines.qemu import files, images
from vmruntime.engines.qemu.image_cache import ImageCache
from vmruntime.engines.qemu.images import ImageError
from vmruntime.engines.qemu.import_job import check_size, finish, remove_leftovers, space_errors
from vmruntime.engines.qemu.progress import Progress


@dataclass(frozen=True, slots=True)
class CloneJob:
    """Copy the disk at `source`, of `source_format`, to `dest` in `format`, `size` bytes large."""

    source: Path
    source_format: str
    format: str
    size: int
    dest: Path
    owner: int | None = None
    cache: ImageCache | None = None


def run(job: CloneJob, progress: Progress) -> None:
    """Does the job. Raises ImageError: reason InUse where a machine has the disk open for writing."""
    remove_leftovers(job.dest)
    progress.source_format = job.source_format
    with space_errors(job.dest):
        if job.cache is not None:
            job.cache.make_room(files.allocated(job.source))
        with images.new_file(job.dest, job.owner) as target, job.source.open("rb", buffering=0) as source:
            progress.phase("Cloning", 0.0, 99.0)
            check_size(job.size, images.inspect(source, job.source_format).virtual_size)
            if job.source_format == job.format and files.reflink(source, target):
                # Looked at again: had a machine begun to write since, the copy could be of two moments.
                images.inspect(source, job.source_format)
            else:
                images.convert(source, job.source_format, target, job.format, progress.fraction)
            finish(target, job.format, job.size, progress)


def is_in_use(error: ImageError) -> bool:
    """Whether QEMU's locks were in the way: `Failed to get shared "write" lock`."""
    return '" lock' in str(error)
