"""A private PostgreSQL: a cluster in a folder of its own, reached by a socket in that folder, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def folder_of_programs() -> Path | None:
    """Where `initdb` and `pg_ctl` lie: Debian keeps them off the path."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders and (folders[-1] / "pg_ctl").exists() else None


@contextmanager
def postgres() -> Iterator[str]:
    """Runs a cluster; gives the URL of its database `postgres`."""
    programs = folder_of_programs()
    assert programs is not None
    # not in pytest's folder, which only its owner may enter
    folder = Path(tempfile.mkdtemp(prefix="sensorium-postgres-"))
    run: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    if os.geteuid() == 0:  # as which it refuses to run
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
        run |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    data = folder / "data"
    control = [programs / "pg_ctl", "-D", data, "-w"]
    try:
        init = ["-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run([programs / "initdb", "-D", data, *init], **run)
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
        subprocess.run([*control, "-l", folder / "log", "-o", options, "start"], **run)
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **run)
    finally:
        shutil.rmtree(folder)
