"""The file that stands in for a channel: a message stands in it whole or not at all, whatever the disk does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.escalation.sending.channels.file import append

ROOT = Path(__file__).parents[3]
LINE = json.dumps({"body": "x" * 90}).encode() + b"\n"
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from services.escalation.sending.channels.file import append

path, line = Path(sys.argv[1]), sys.argv[2].encode() + b"\\n"
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
append(path, line)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (len(line) + 20, most))
try:
    append(path, line * 2)
except OSError as error:
    print(type(error).__name__, path.stat().st_size)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
append(path, line * 2)
"""


def test_what_is_written_in_parts_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "outbox.ndjson"
    write = os.write

    def write_some(descriptor: int, data: memoryview) -> int:
        return write(descriptor, data[:7])

    monkeypatch.setattr(os, "write", write_some)
    append(path, LINE * 3)
    assert path.read_bytes() == LINE * 3


def test_what_a_full_disk_takes_in_part_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "outbox.ndjson"
    command = [sys.executable, "-c", FULL_DISK, path, LINE.decode().rstrip()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"OSError {len(LINE)}\n"), done.stderr
    assert path.read_bytes() == LINE * 3
