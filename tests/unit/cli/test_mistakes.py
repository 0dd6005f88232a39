"""`trucban` given what it cannot use: one line that names the thing and the way out, and never a traceback."""

import json
import subprocess
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import structlog

from services.cli.program import main
from tests.support import RULEBOOK, SAMPLES

ROOT = Path(__file__).parents[3]
REPORT = ("report", "--ward", "14776", "--category", "FIRE", "--occurred-at", "2023-01-21T23:50:00+07:00")
CLOSED = "http://127.0.0.1:1"
VKEY = "trucban.local/ledger+1b2ae3ba+AVc5MaGFGB9OXxTNwfrMVRPKjOaqxVKjDzNxdl5zmYtE"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Trucban = Callable[..., Ended]


@pytest.fixture
def trucban(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Generator[Trucban]:
    """In a folder of its own, without any setting but those that are given."""
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "DATABASE_URL", "TRUCBAN_URL", "TRUCBAN_TOKEN", "TRUCBAN_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path, **environment: str) -> Ended:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["trucban", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return Ended(int(ended.value.code or 0), told.out, told.err)

    yield run
    structlog.reset_defaults()  # the command's log goes to a stream that is closed by now


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[httpx.Response], None]:
    """Whatever the command asks over HTTP is answered so."""

    def answer(response: httpx.Response) -> None:
        def handle(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            return response

        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)

    return answer


def one_line(ended: Ended, code: int) -> str:
    assert ended.code == code, ended
    assert ended.out == ""
    assert ended.err.startswith("trucban: ")
    assert ended.err.count("\n") == 1, ended.err
    return ended.err


# --- settings ---


@pytest.mark.parametrize(
    "command",
    [("up",), ("serve", "intake"), ("migrate",), ("decisions", "replay", "--all"), ("ledger", "key")],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRUCBAN_CLOCK", "hom-qua"),
        ("TRUCBAN_CLOCK", "2023-01-21T20:00:00"),
        ("TRUCBAN_HEARTBEAT_URL", "hc-ping.example/bi-mat"),
        ("TRUCBAN_PARTITIONS", "bi-mat"),
        ("TRUCBAN_LOG_LEVEL", "bi-mat"),
        ("TRUCBAN_LOG_LEVEL", "INFO"),
        ("TRUCBAN_LOG_LEVEL", ""),
        ("TRUCBAN_PUBLIC_URL", "bi-mat"),
        ("TRUCBAN_DESK_TELEPHONE", "bi-mat"),
        ("TRUCBAN_DESK_TELEPHONE", "113"),
        ("TRUCBAN_DESK_TELEPHONE", "0237 385 2345 bi-mat"),
        ("TRUCBAN_DESK_TELEPHONE", ""),
        ("REDIS_URL", "bi-mat"),
        ("REDIS_URL", "http://bi-mat"),
        ("DATABASE_URL", "bi-mat"),
        ("DATABASE_URL", "mysql://a:bi-mat@host/a"),
        ("DATABASE_URL", "postgresql://a:bi-mat@host:bi-mat/a"),
        ("DATABASE_URL", ""),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named_without_its_value(
    trucban: Trucban, command: tuple[str, ...], name: str, value: str
) -> None:
    said = one_line(trucban(*command, **{name: value}), 2)
    assert name in said
    assert "unset it" in said
    assert not value or value not in said
    assert "bi-mat" not in said


def test_all_settings_that_are_wrong_are_named_at_once(trucban: Trucban) -> None:
    said = one_line(trucban("migrate", TRUCBAN_CLOCK="x", TRUCBAN_PARTITIONS="0"), 2)
    assert "TRUCBAN_CLOCK" in said
    assert "TRUCBAN_PARTITIONS" in said


def test_a_file_of_settings_that_is_not_utf_8_is_named(trucban: Trucban, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("TRUCBAN_LEDGER_ORIGIN=Trực Ban".encode("utf-16"))
    assert ".env cannot be read" in one_line(trucban("ledger", "key"), 2)


# --- the address and the token of the running system ---


@pytest.mark.parametrize("url", ["host:8080", "http://", "http://[::1", "http://h:x", "ftp://h", f"http://{'x' * 70}"])
@pytest.mark.parametrize(
    "command", [REPORT, ("import", "reports", SAMPLES / "wards.csv")], ids=["report", "import reports"]
)
def test_what_is_no_address_is_said_before_anything_is_sent(
    trucban: Trucban, command: tuple[str | Path, ...], url: str
) -> None:
    said = one_line(trucban(*command, TRUCBAN_URL=url), 2)
    assert "TRUCBAN_URL" in said
    assert "http://127.0.0.1:8080" in said


@pytest.mark.parametrize("token", ["bí-mật", "bi-mat\nbi-mat"])
@pytest.mark.parametrize(
    "command",
    [REPORT, ("import", "reports", SAMPLES / "wards.csv"), ("ledger", "verify", CLOSED, "--key", VKEY)],
    ids=["report", "import reports", "ledger verify"],
)
def test_what_is_no_token_is_refused_and_not_shown(
    trucban: Trucban, command: tuple[str | Path, ...], token: str
) -> None:
    said = one_line(trucban(*command, TRUCBAN_TOKEN=token), 2)
    assert "TRUCBAN_TOKEN" in said
    assert token.split("\n")[0] not in said


@pytest.mark.parametrize("host", ["127.0.0.1:1", "127.0.0.1:99999", "khong-co.invalid"])
def test_where_nobody_answers_the_report_can_be_sent_again_under_its_id(trucban: Trucban, host: str) -> None:
    said = one_line(trucban(*REPORT, "--url", f"http://{host}", "--report-id", "tin-1"), 1)
    assert "cannot be reached" in said
    assert "--report-id tin-1" in said


@pytest.mark.parametrize("status", [200, 302, 404, 502])
@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff"])
def test_an_answer_of_something_else_than_the_system_is_said(
    trucban: Trucban, answering: Callable[[httpx.Response], None], status: int, body: bytes
) -> None:
    answering(httpx.Response(status, content=body))
    said = one_line(trucban(*REPORT, "--report-id", "tin-1"), 1)
    assert f"http://127.0.0.1:8080 answered {status}, and not as Trực Ban does" in said
    assert "--report-id tin-1" in said


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"results": []}', '{"results": 1}', '{"results": [1, 2]}'])
def test_a_batch_that_something_else_answers_is_said(
    trucban: Trucban, answering: Callable[[httpx.Response], None], tmp_path: Path, body: str
) -> None:
    answering(httpx.Response(200, text=body))
    file = tmp_path / "tin.ndjson"
    file.write_text('{"report_id": "tin-1"}\n{"report_id": "tin-2"}\n', encoding="utf-8")
    said = one_line(trucban("import", "reports", file), 1)
    assert "http://127.0.0.1:8080 answered 200, and not as Trực Ban does" in said


# --- files ---

FILES = {
    "rulebook check": ("rulebook", "check"),
    "rulebook try": ("rulebook", "try"),
    "import wards": ("import", "wards"),
    "import directory": ("import", "directory"),
    "import reports": ("import", "reports"),
    "ledger verify": ("ledger", "verify", "--key", VKEY),
    "ledger verify --known": ("ledger", "verify", SAMPLES / "wards.csv", "--key", VKEY, "--known"),
}


WITHOUT_DATABASE = [name for name in FILES if name not in {"import wards", "import directory"}]


@pytest.mark.parametrize("command", FILES.values(), ids=FILES)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    trucban: Trucban, tmp_path: Path, command: tuple[str | Path, ...]
) -> None:
    closed = tmp_path / "khong-cho-doc"
    closed.touch(mode=0o000)
    for file, reason in (
        (tmp_path, "Is a directory"),
        (tmp_path / "khong-co", "No such file"),
        (closed / "x", "Not a"),
    ):
        said = one_line(trucban(*command, file), 1)
        assert f"{file} cannot be read" in said
        assert reason in said


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00" * 9, b"", "tiếng Việt".encode("utf-16")], ids=repr)
@pytest.mark.parametrize("command", [FILES[name] for name in WITHOUT_DATABASE], ids=WITHOUT_DATABASE)
def test_a_file_that_is_something_else_fails_in_words(
    trucban: Trucban, tmp_path: Path, command: tuple[str | Path, ...], content: bytes
) -> None:
    file = tmp_path / "la.txt"
    file.write_bytes(content)
    ended = trucban(*command, file)
    assert ended.code == (0 if command == FILES["import reports"] and not content else 1)
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("content", [b"a: &a {b: *a}", b"[" * 1_500], ids=["cycle", "deep"])
def test_a_rulebook_that_holds_itself_is_a_problem_of_the_file(
    trucban: Trucban, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "vong.yaml"
    file.write_bytes(content)
    for verb in ("check", "try"):
        ended = trucban("rulebook", verb, file)
        assert ended.code == 1
        assert all(line.startswith(f"{file}:1: ") for line in ended.err.splitlines())


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("tin.ndjson", b'{"a": 1}\n{"a": NaN}\n', 2),
        ("tin.ndjson", b'{"a": "\\ud800"}\n', 1),
        ("tin.ndjson", b'{"a": 1e999}\n', 1),
        ("tin.ndjson", b"[" * 5_000, 1),
        ("tin.csv", b"report_id,ward\n1," + b"x" * 200_000, 2),
        ("tin.csv", b"report_id,ward\n1,14776,FIRE\n", 2),
    ],
)
def test_a_line_that_cannot_be_a_report_is_named_and_nothing_is_sent(
    trucban: Trucban, tmp_path: Path, name: str, content: bytes, line: int
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    ended = trucban("import", "reports", file)
    assert ended.code == 1
    assert ended.err.startswith(f"{file}:{line}: not ")
    assert ended.out.endswith(" 0 recorded, 1 with errors\n")


def test_a_name_that_no_terminal_can_show_is_shown_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "t\udcff.yaml"
    file.write_text(RULEBOOK.text, encoding="utf-8")
    command = [sys.executable, "-m", "services.cli", "rulebook", "check", file, "--data", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "t\\udcff.yaml: rulebook 2023-01-06.1 can be adopted" in done.stdout


# --- numbers, folders, keys ---


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
@pytest.mark.parametrize("command", [("up",), ("serve", "intake")], ids=" ".join)
def test_a_port_that_there_is_not_is_a_mistake_of_usage(trucban: Trucban, command: tuple[str, ...], port: str) -> None:
    ended = trucban(*command, "--port", port)
    assert ended.code == 2
    assert "--port" in ended.err


@pytest.mark.parametrize("days", ["nan", "inf", "0", "401"])
def test_a_token_is_for_a_number_of_days(trucban: Trucban, days: str) -> None:
    ended = trucban("token", "issue", "--role", "desk", "--subject", "x", "--days", days)
    assert ended.code == 2
    assert "--days" in ended.err


@pytest.mark.parametrize(
    "command",
    [
        ("up", "--port", "0"),
        ("migrate",),
        ("ledger", "key"),
        ("token", "issue", "--role", "desk", "--subject", "x"),
        ("decisions", "replay", "--all"),
        ("rulebook", "try", SAMPLES.parent / "services/escalation/rulebooks/2023-01-06.1.yaml"),
        ("import", "wards", SAMPLES / "wards.csv"),
    ],
    ids=lambda c: " ".join(map(str, c[:2])),
)
def test_a_file_in_the_place_of_the_data_folder_is_named(
    trucban: Trucban, tmp_path: Path, command: tuple[str | Path, ...]
) -> None:
    file = tmp_path / "tep"
    file.touch()
    said = one_line(trucban(*command, TRUCBAN_DATA=str(file)), 1)
    assert str(file) in said


@pytest.mark.parametrize("content", [b"", b"\xff", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_key_file_that_holds_no_key_is_named(trucban: Trucban, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys" / "ledger.pem"
    path.parent.mkdir()
    path.write_bytes(content)
    assert str(path) in one_line(trucban("ledger", "key", "--data", tmp_path), 1)


@pytest.mark.parametrize("key", ["", "x", "trucban.local/ledger+00000000+AA==", "é+1+é"])
def test_a_verifier_key_that_is_none_is_said(trucban: Trucban, key: str) -> None:
    ended = trucban("ledger", "verify", SAMPLES / "wards.csv", "--key", key, "--json")
    assert ended.code == 1
    assert json.loads(ended.out)["ok"] is False


def test_text_that_is_not_utf_8_is_said(trucban: Trucban) -> None:
    said = one_line(trucban(*REPORT[:1], "--ward", "\udcff", *REPORT[3:], "--url", CLOSED), 2)
    assert "not UTF-8" in said


@pytest.mark.parametrize(
    ("given", "code", "told"), [(b"", 0, "-: 0 lines, 0 recorded"), (b"x\n", 1, "-: 1 lines"), (None, 1, "")]
)
def test_reports_come_on_standard_input_too(given: bytes | None, code: int, told: str) -> None:
    command = [sys.executable, "-m", "services.cli", "import", "reports", "-"]
    if given is None:
        command = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
    done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, check=False)
    assert done.returncode == code
    assert done.stdout.decode().startswith(told)
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("token", "issue", "--role", "desk", "--subject", "truc\u202eban"),
        ("dead-letters", "discard", "--all", "--reason", "th\u2066ử"),
        ("dead-letters", "discard", "--all", "--reason", "thử", "--by", "ai\u200eđó"),
    ],
)
def test_what_is_recorded_holds_nothing_that_cannot_be_seen(trucban: Trucban, arguments: tuple[str, ...]) -> None:
    ended = trucban(*arguments)
    assert ended.code == 2
    assert "which cannot be seen: leave it out" in ended.err
