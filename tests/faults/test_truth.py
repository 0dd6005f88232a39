"""When a job counts as not done, and when readiness counts as untrue."""

from datetime import UTC, datetime, timedelta

from tests.faults.history import shown_at
from tests.faults.readiness import Said
from tests.faults.truth import Attempt, Job, Wait, down, lies, refusing


def _said(service: str, begin: int, end: int, *, ready: bool = True) -> list[Said]:
    """Once a second from `begin` to `end`."""
    return [Said(at, f"{service}-1", service, ready) for at in range(begin, end)]


def test_a_job_is_down_once_something_has_waited_for_more_than_15_seconds_and_nothing_came_of_it() -> None:
    assert down([Wait(0, 1), Wait(10, 40)]) == [(25, 40)]


def test_a_job_that_works_off_a_backlog_is_not_down() -> None:
    assert down([Wait(0, 10 * n) for n in range(1, 10)]) == []


def test_a_job_that_nobody_waits_for_is_not_down() -> None:
    assert down([Wait(0, 1), Wait(100, 101)]) == []


def test_what_waits_longest_counts_from_the_last_thing_that_was_done() -> None:
    assert down([Wait(0, 100), Wait(40, 50)]) == [(15, 50), (65, 100)]


def test_a_process_refuses_from_its_first_failure_to_its_last_without_a_success_between() -> None:
    failures = [Attempt("intake-1", at, at + 1, served=False) for at in range(40)]
    success = Attempt("intake-1", 40, 41, served=True)
    assert refusing([*failures, success]) == [(15, 40)]


def test_one_success_ends_what_is_held_against_a_process() -> None:
    attempts = [Attempt("intake-1", at, at + 1, served=at == 10) for at in range(25)]
    assert refusing(attempts) == []


def test_readiness_is_untrue_if_every_service_of_the_job_was_called_ready_meanwhile() -> None:
    job = Job("", ("intake", "escalation"), ())
    said = _said("intake", 0, 50) + _said("escalation", 0, 50)
    assert lies(job, [(20, 40)], said) == [(20, 40)]


def test_readiness_is_true_if_one_service_of_the_job_complained() -> None:
    job = Job("", ("intake", "escalation"), ())
    said = _said("intake", 0, 50) + _said("escalation", 0, 20) + _said("escalation", 20, 40, ready=False)
    assert lies(job, [(20, 40)], said) == []


def test_readiness_is_true_if_one_service_of_the_job_did_not_answer() -> None:
    job = Job("", ("intake", "escalation"), ())
    said = _said("intake", 0, 50) + _said("escalation", 0, 19) + _said("escalation", 41, 50)
    assert lies(job, [(20, 40)], said) == []


def test_a_complaint_by_one_replica_does_not_make_the_word_of_another_true() -> None:
    job = Job("", ("intake",), ())
    complaints = [Said(at, "intake-2", "intake", ready=False) for at in range(20, 40)]
    assert lies(job, [(20, 40)], _said("intake", 0, 50) + complaints) == [(20, 40)]


def test_an_answer_at_the_last_moment_is_no_lie() -> None:
    job = Job("", ("intake",), ())
    assert lies(job, [(20, 40)], _said("intake", 39, 50)) == []


NOW = datetime(2026, 11, 27, 20, 0, tzinfo=UTC)
S = timedelta(seconds=1)


def test_a_due_time_is_waited_for_once_the_clocks_show_it_also_after_a_leap() -> None:
    clocks = [(NOW, 0 * S), (NOW + 10 * S, 600 * S)]
    assert shown_at(clocks, NOW + 5 * S, NOW + 60 * S) == (NOW + 5 * S).timestamp()
    assert shown_at(clocks, NOW + 100 * S, NOW + 60 * S) == (NOW + 10 * S).timestamp()
    assert shown_at(clocks, NOW + 650 * S, NOW + 60 * S) == (NOW + 50 * S).timestamp()


def test_what_the_clocks_showed_before_they_were_set_back_does_not_count() -> None:
    clocks = [(NOW, 0 * S), (NOW + 100 * S, -60 * S)]
    assert shown_at(clocks, NOW + 50 * S, NOW + 200 * S) == (NOW + 110 * S).timestamp()
    assert shown_at(clocks, NOW + 50 * S, NOW + 90 * S) == (NOW + 50 * S).timestamp(), "it was acted on before"
