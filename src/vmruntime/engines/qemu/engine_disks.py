"""Disks of the engine: blank ones made here, others brought in by an import pod."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from kube.client.aio import AsyncClient
from kube.durable import sync_directory
from vmruntime.api.meta import Obj, is_deleting, name_of
from vmruntime.engines.common import ConfigurationError, Ref
from vmruntime.engines.disk import DiskObservation, DiskOrigin, DiskPhase, DiskRequest, DiskSource
from vmruntime.engines.qemu import files, formats, images
from vmruntime.engines.qemu.engine_layout import Layout
from vmruntime.engines.qemu.engine_pods import Pods, exit_code, has_ended, import_pod, trouble

_log = logging.getLogger(__name__)

_PROGRESS_LIMIT = 65536
# An import that was interrupted starts again at once this often, and then counts as failed.
_ATTEMPTS = 5
# Exit codes with which an import says itself that it failed (1) or was asked nonsense (2); others interrupted it.
_SAYS_SO = (1, 2)


class Disks:
    """Files, and the pods that make them. Blocking work of `qemu-img` is done in threads."""

    def __init__(self, client: AsyncClient, layout: Layout, pods: Pods, allowed: Path) -> None:
        self._client = client
        self._layout = layout
        self._pods = pods
        self._allowed = allowed
        self._attempts: dict[str, int] = {}

    async def observe(self, ref: Ref) -> DiskObservation:
        stored = self._layout.stored(ref)
        if stored is not None:
            origin = _origin(_report(self._layout.origin(ref)))
            return DiskObservation(DiskPhase.READY, 100.0, stored.format, stored.virtual_size, origin=origin)
        if self._layout.imported(ref) is not None:
            return DiskObservation(DiskPhase.ABSENT)
        for pod in await self._pods.of(ref):
            return self._observe_import(ref, pod)
        return DiskObservation(DiskPhase.ABSENT)

    def _observe_import(self, ref: Ref, pod: Obj) -> DiskObservation:
        progress = self._progress(ref)
        if not has_ended(pod):
            percent = progress.get("percent")
            share = float(percent) if isinstance(percent, int | float) else None
            message = trouble(pod) or str(progress.get("phase", ""))
            rate = progress.get("megabytesPerSecond")
            speed = float(rate) if isinstance(rate, int | float) else None
            return DiskObservation(DiskPhase.IMPORTING, share, message=message, rate=speed, origin=_origin(progress))
        if exit_code(pod) in _SAYS_SO:
            message = str(progress.get("message") or trouble(pod) or "the import failed")
            return DiskObservation(DiskPhase.FAILED, message=message, temporary=progress.get("temporary") is True)
        if self._attempts.get(ref.uid, 0) >= _ATTEMPTS:
            message = f"the import was interrupted {_ATTEMPTS} times; the last time {trouble(pod)}"
            return DiskObservation(DiskPhase.FAILED, message=message, temporary=True)
        return DiskObservation(DiskPhase.ABSENT)

    def _progress(self, ref: Ref) -> dict[str, Any]:
        """The newest report of an import."""
        for format_ in formats.OUTPUT_FORMATS:
            if report := _report(self._layout.imports(ref) / f"disk.{format_}.progress"):
                return report
        return {}

    async def ensure(self, request: DiskRequest) -> None:
        ref = request.ref
        if self._layout.stored(ref) is not None:
            return
        if self._layout.imported(ref) is not None:
            await self._put_in_place(ref)
            return
        if request.source is None:
            path = self._layout.make_imports(ref) / f"disk.{request.format}"
            try:
                await asyncio.to_thread(images.create_blank, path, request.format, request.size, self._layout.owner)
            except images.ImageError as exc:
                raise ConfigurationError(exc.reason, str(exc)) from exc
            await self._put_in_place(ref)
            return
        await self._import(request, request.source)

    def _source_arguments(self, source: DiskSource) -> list[str]:
        """ConfigurationError for a source that cannot be one."""
        # Imported late: HTTP and its kin are of no use to a manager whose disks are there.
        from vmruntime.engines.qemu.source_kinds import check_address
        from vmruntime.engines.qemu.sources import SourceError

        if source.clone_of is not None:
            stored = self._layout.stored(source.clone_of)
            if stored is None:
                message = f'the data of VirtualMachineDisk "{source.clone_of.name}" is gone'
                raise ConfigurationError("SourceMissing", message)
            return ["--clone", str(stored.path), "--clone-format", stored.format]
        try:
            check_address(source.url)
        except SourceError as exc:
            raise ConfigurationError(exc.reason, str(exc)) from exc
        checksum = ["--checksum", source.checksum] if source.checksum else []
        signed = ["--s3"] if source.kind == "s3" else []
        return ["--url", source.url, "--allow-dir", str(self._allowed), *checksum, *signed]

    async def _environment(self, ref: Ref, source: DiskSource) -> list[Obj]:
        if not source.secret and not source.certificates:
            return []
        from vmruntime.engines.qemu import engine_sources

        return await engine_sources.environment(self._client, ref.namespace, source)

    async def _import(self, request: DiskRequest, source: DiskSource) -> None:
        ref = request.ref
        arguments = self._source_arguments(source)
        env = await self._environment(ref, source)
        for pod in await self._pods.of(ref):
            if not has_ended(pod):
                return
            await self._pods.delete(pod)
        directory = self._layout.make_imports(ref)
        argv = [sys.executable, "-P", "-m", "vmruntime.engines.qemu.importer", *arguments]
        argv += ["--format", request.format, "--size", str(request.size)]
        argv += ["--dest", str(directory / f"disk.{request.format}")]
        argv += ["--cache", str(self._layout.cache), "--cache-scope", ref.namespace]
        if self._layout.owner is not None:
            argv += ["--owner", str(self._layout.owner)]
        attempt = self._attempts.get(ref.uid, 0) + 1
        await self._pods.create(ref, import_pod(ref, argv, env, str(directory), f"{os.getpid()}/{attempt}"))
        self._attempts[ref.uid] = attempt  # one that the cluster refused was none

    async def _put_in_place(self, ref: Ref) -> None:
        """The disk is complete and on stable storage: give it its place, and clear away behind it.

        What is known of its source need not be on stable storage, too: the object's status has it by then.

        The pod goes first: once the disk is in place nobody looks for one any more. A disk that is in place by then,
        and may have data, is never replaced: FileExistsError, which the next look explains.
        """
        for pod in await self._pods.of(ref):
            await self._pods.delete(pod)
        imported = self._layout.imported(ref)
        if imported is not None:
            target = self._layout.disk(ref)
            with contextlib.suppress(FileNotFoundError):
                os.replace(imported.path.with_name(imported.path.name + ".progress"), self._layout.origin(ref))
            files.rename_new(imported.path, target / imported.path.name)
            # Its directories may be new: a disk that is told to be whole must not be gone after a power cut.
            for directory in (target, target.parent, self._layout.disks):
                await asyncio.to_thread(sync_directory, directory)
        self._layout.remove_imports(ref)
        self._attempts.pop(ref.uid, None)

    def path_in_machine(self, ref: Ref) -> str:
        """The disk's path as a machine has it. ConfigurationError where there is no disk."""
        stored = self._layout.stored(ref)
        if stored is None:
            raise ConfigurationError("DataMissing", f'the data of VirtualMachineDisk "{ref.name}" is gone')
        return self._layout.relative_disk(ref, stored.format)

    async def grow(self, request: DiskRequest) -> None:
        stored = self._layout.stored(request.ref)
        if stored is None:
            return
        try:
            await asyncio.to_thread(images.resize, stored.path, stored.format, request.size)
        except images.ImageError as exc:
            raise ConfigurationError(exc.reason, str(exc)) from exc

    async def delete(self, ref: Ref) -> bool:
        pods = await self._pods.of(ref)
        for pod in pods:
            await self._pods.delete(pod)
        if any(not has_ended(pod) or is_deleting(pod) for pod in pods):
            _log.info("disk %s: waiting for %s to end", ref, ", ".join(map(name_of, pods)))
            return False
        await asyncio.to_thread(self._layout.remove_disk, ref)
        self._attempts.pop(ref.uid, None)
        return True


def _report(path: Path) -> dict[str, Any]:
    """What an import wrote; anything else than a report counts as none."""
    try:
        with path.open("rb") as file:
            report = json.loads(file.read(_PROGRESS_LIMIT))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def _origin(report: dict[str, Any]) -> DiskOrigin:
    total = report.get("bytesTotal")
    return DiskOrigin(
        format=str(report.get("sourceFormat", "")),
        size=total if isinstance(total, int) else None,
        sha256=str(report.get("sha256", "")),
        from_cache=report.get("fromCache") is True,
    )
