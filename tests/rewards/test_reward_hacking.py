"""A policy that is paid by a weak verifier learns to exploit it, and the audit says so.

The weak verifier is one that real projects have had: it looks for the gold anywhere in the answer. The
model is tiny and knows only the template; to name all digits is easier to learn than to read the
question. The same training under the strict verifier is the control.
"""

from pathlib import Path

import pytest

from scripted import (
    make_config,
    make_engine,
    play_digits,
    talking_model,
)
from training import make_learner
from zerone.report.audit import audit
from zerone.report.audit_view import conclusion
from zerone.runs.directory import RunDir

WEAK = '''
def contains(completion, answer, problem):
    """Pay where the gold stands anywhere in the answer."""
    return float(answer is not None and problem["spec"]["answer"] in answer)
'''


def play(folder: Path, steps: int, **options: object) -> RunDir:
    """Train the talking model on saying a digit, and return the run."""
    config = make_config(
        rl__steps=steps,
        rl__problems_per_step=8,
        rl__group_size=12,
        sampling__max_tokens=40,
        sampling__slots=96,
        optim__learning_rate=0.01,
        **options,
    )
    model = talking_model()
    return play_digits(config, make_learner(model, config), make_engine(model, slots=96), folder)


@pytest.fixture(scope="module")
def exploited(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Return a run that was paid by the weak verifier; the strict one only looked on."""
    folder = tmp_path_factory.mktemp("weak")
    (folder / "weak.py").write_text(WEAK, encoding="utf-8")
    function = f"{folder / 'weak.py'}:contains"
    return play(folder, 48, reward__accuracy=0.0, reward__user=1.0, reward__function=function)


def test_a_policy_paid_by_a_weak_verifier_learns_to_exploit_it(exploited: RunDir) -> None:
    first, *_, last = exploited.read_metrics()
    assert first["parts"]["user"] < 0.3
    assert last["parts"]["user"] > 0.8
    # What it is paid for is no answer: the strict verifier finds next to nothing right.
    assert last["accuracy"] < 0.1


def test_the_audit_reports_the_exploit_and_shows_it(exploited: RunDir) -> None:
    found = audit(exploited)
    assert found.suspicious.share > 0.8
    for kind in ("paid_not_right", "hedged_answer"):
        finding = found.findings[kind]
        assert finding.grows and finding.late_share > 0.8
        assert len(finding.examples) == 3
        assert kind in conclusion(found)
    assert "exploit" in conclusion(found)


def test_the_audit_has_nothing_to_report_of_the_strict_verifier(tmp_path: Path) -> None:
    found = audit(play(tmp_path, 12))
    assert found.num_wins > 50
    assert found.suspicious.share < 0.05
    assert "no kind grew" in conclusion(found)
