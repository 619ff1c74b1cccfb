"""Students: their shapes and bases, the stages of distillation, and the command that runs them."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any, NoReturn

import pytest
import torch

from fakes import NUM_TOKENS, Shape, byte_tokenizer, tiny_model
from pipelines import Notes, distill_arguments
from processes import call_main
from scripted import save_talking_model, write_problems
from zerone.config import Config
from zerone.config.recipes import recipe_paths
from zerone.config.staged import build_stage_configs, read_staged_recipe
from zerone.errors import ConfigError, ModelError, RunDirError
from zerone.evals.significance import compare
from zerone.identity import sha256_of_path
from zerone.model.cutting import Cut, cut_model, kept_positions
from zerone.model.loading import load_model, save_model
from zerone.pipeline.comparison import compare_students
from zerone.pipeline.distillation import SAMPLES, distillation_stages, refuse_other_models, steps_left
from zerone.pipeline.graph import Graph, Source, StageInputs, options_of
from zerone.pipeline.r1 import r1_graph
from zerone.pipeline.students import DEFAULT_STUDENTS, STUDENTS, base_stage, name_of_directory
from zerone.report.stages_table import students as table_of
from zerone.runs.directory import RunDir
from zerone.runs.lineage import Lineage, Node, lineage_of_model
from zerone.runs.records import Record, Records

# Cutting ------------------------------------------------------------------------------------------

WHOLE = Cut(family="qwen3", layers=1.0, neurons=1.0)
IDS = torch.tensor([[5, 9, 17, 30, 99, 200, 64, 3]])


def logprobs(module: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = module(IDS).logits.log_softmax(-1)
    return found


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_that_is_kept_whole_says_the_same(tied: bool) -> None:
    model = tiny_model(Shape(tied=tied))
    torch.testing.assert_close(logprobs(cut_model(model, WHOLE)), logprobs(model))


def test_neurons_that_do_nothing_are_the_first_to_go() -> None:
    model = tiny_model()
    num_neurons = model.config.intermediate_size
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate_proj.weight[: num_neurons // 2] = 0
    smaller = cut_model(model, Cut(family="qwen3", layers=1.0, neurons=0.5))
    assert smaller.config.intermediate_size == num_neurons // 2
    torch.testing.assert_close(logprobs(smaller), logprobs(model))


def test_layers_are_kept_at_even_distances_with_the_last() -> None:
    found = [kept_positions(5, share) for share in (0.1, 0.4, 0.6, 0.8, 1.0)]
    assert found == [[4], [0, 4], [0, 2, 4], [0, 1, 3, 4], [0, 1, 2, 3, 4]]


def test_a_llama_begins_nearer_to_its_qwen_than_a_model_of_other_weights() -> None:
    """Its queries and keys have the size that the norms gave them on average, so most of it carries over."""
    model = tiny_model(Shape(width=64))
    llama = cut_model(model, Cut(family="llama", layers=1.0, neurons=1.0))
    assert llama.config.model_type == "llama"
    expected = logprobs(model)

    def distance(other: Any) -> float:
        return float((expected.exp() * (expected - logprobs(other))).sum(-1).mean())

    assert distance(llama) < 0.5 * distance(tiny_model(Shape(width=64), seed=1))


def test_what_is_no_plain_qwen3_cannot_be_cut() -> None:
    for shape in (Shape(kind="llama"), Shape(biases=True)):
        with pytest.raises(ModelError, match="is cut out of a Qwen3 model without biases"):
            cut_model(tiny_model(shape), WHOLE)


# The set ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sizes() -> dict[str, int]:
    """Return the number of parameters of each student."""
    base = load_model("embedded", torch.float32).module
    return {
        name: sum(parameter.numel() for parameter in cut_model(base, cut).parameters())
        for name, cut in STUDENTS.items()
    }


def test_the_set_has_four_of_qwen_and_two_of_llama_by_size_and_smaller_than_the_base(
    sizes: dict[str, int],
) -> None:
    families = [cut.family for cut in STUDENTS.values()]
    assert (families.count("qwen3"), families.count("llama")) == (4, 2)
    base = load_model("embedded", torch.float32).module
    found = list(sizes.values())
    assert found == sorted(set(found))
    assert found[-1] < sum(parameter.numel() for parameter in base.parameters())


def test_the_default_students_differ_in_size_and_come_of_both_families(sizes: dict[str, int]) -> None:
    assert sizes[DEFAULT_STUDENTS[-1]] > 1.3 * sizes[DEFAULT_STUDENTS[0]]
    assert {STUDENTS[name].family for name in DEFAULT_STUDENTS} == {"qwen3", "llama"}


def test_an_unknown_student_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no student is named 'qwen_xxl'; there are qwen_xs, .*directory"):
        base_stage("qwen_xxl")


def test_the_shape_of_a_student_is_part_of_what_its_base_is_made_from() -> None:
    config = Config()
    hashes = set()
    for name in STUDENTS:
        source = base_stage(name).inputs["shape"]
        assert isinstance(source, Source)
        hashes.add(source.lineage(config).node.sha256)
    assert len(hashes) == len(STUDENTS)
    assert "pretrain" in options_of(base_stage("qwen_xs"), config)


# Graphs and recipes -------------------------------------------------------------------------------


def test_every_recipe_with_students_fits_its_graph() -> None:
    for name in ("distill", "distill_six"):
        recipe = read_staged_recipe(recipe_paths()[name])
        assert recipe.students is not None
        graph = Graph(
            stages=distillation_stages(Source(lineage=base_lineage), recipe.students, on_policy=True)
        )
        configs = build_stage_configs(recipe, graph.names)
        for student in recipe.students:
            assert (
                configs[f"{student}_pretrained"].pretrain.steps
                == configs["qwen_xs_pretrained"].pretrain.steps
            )
            assert configs[f"{student}_distilled"].sft.suite == "none"
    assert set(read_staged_recipe(recipe_paths()["distill_six"]).students or ()) == set(STUDENTS)


def base_lineage(config: Config) -> NoReturn:
    raise AssertionError("a graph is built without reading any model")


def test_the_pipeline_of_r1_ends_with_the_students_that_its_recipe_names() -> None:
    names = r1_graph(("llama_s",)).names
    assert names[-5:] == (
        "teacher_samples",
        "llama_s_pretrained",
        "llama_s_distilled",
        "llama_s_direct_rl",
        "students",
    )
    assert {
        name.removesuffix("_pretrained") for name in r1_graph().names if name.endswith("_pretrained")
    } == set(DEFAULT_STUDENTS)


def test_a_pattern_speaks_for_several_stages_and_a_name_has_the_last_word(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        'students: [a, b]\nstages:\n  b_base: {pretrain.steps: 3}\n  "*_base": {pretrain.steps: 2, seed: 4}\n'
        '  "*_on_policy": {seed: 9}\n',
        encoding="utf-8",
    )
    recipe = read_staged_recipe(path)
    assert recipe.students == ("a", "b")
    found = build_stage_configs(recipe, ("a_base", "b_base", "other"), ["*_base.seed=5"])
    assert [(found[name].pretrain.steps, found[name].seed) for name in ("a_base", "b_base")] == [
        (2, 5),
        (3, 5),
    ]
    assert found["other"].seed == 0
    with pytest.raises(ConfigError, match=r"no stage is named '\*_bse'|unknown option"):
        build_stage_configs(recipe, ("a_base", "b_base"), ["*_bse.seed=5"])
    path.write_text("students: qwen_xs", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"`students` in .* must be a list"):
        read_staged_recipe(path)


def test_a_directory_gives_its_student_a_name() -> None:
    found = [name_of_directory(path) for path in ("runs/zero-1/model", "my model.v2", "zero-1/best")]
    assert found == ["zero-1", "my_model_v2", "zero-1"]


# The command --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a teacher, and a finished distillation `run` of it into two students."""
    path = tmp_path_factory.mktemp("students")
    save_talking_model(path / "talker")
    write_problems(path / "problems.jsonl")
    code, out, err = call_main(path, *distill_arguments(path))
    assert code == 0, err
    assert all(name in out for name in ("talker", "qwen_xs", "teacher", "on policy"))
    return path


def test_a_stage_that_a_budget_ends_tells_no_number_of_steps() -> None:
    stage = r1_graph(("qwen_xs",)).by_name["qwen_xs_direct_rl"]
    told = options_of(stage, Config())
    assert "rl.steps" not in told and "rl" not in told
    assert told["rl.group_size"] == Config().rl.group_size


def test_what_is_left_of_a_budget_goes_by_the_price_of_late_steps() -> None:
    assert steps_left(100, [10, 10]) == 4, "half of what is left, as the price may change"
    assert steps_left(100, [10, 10, 20, 20]) == 2, "all that is left"
    assert steps_left(100, [30, 30, 30]) == 0, "a third of a step is nearer to none"
    assert steps_left(100, [40, 41]) == 0 and steps_left(100, [35, 35]) == 1
    assert steps_left(100, [60, 80]) < 1, "what is overspent buys nothing"
    assert steps_left(100, [0]) == 0, "steps that cost nothing would never end"


def test_the_summary_compares_every_student_with_its_base_and_its_twin(folder: Path) -> None:
    summary = json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))
    assert [student["name"] for student in summary["students"]] == ["talker", "qwen_xs"]
    for student in summary["students"]:
        for way in ("base", "distilled", "direct_rl", "on_policy"):
            score = student[f"{way}_score"]
            assert score["ci"][0] <= score["score"] <= score["ci"][1]
            assert score["ci"][0] < score["ci"][1], "two answers that are alike leave doubt"
            assert score["n"] == 2
        model = load_model(str(folder / "run" / f"{student['name']}_distilled" / "model"), torch.float32)
        assert student["parameters"] == sum(parameter.numel() for parameter in model.module.parameters())
        assert student["architecture"] == model.module.config.model_type
    assert [base["name"] for base in summary["distillation"]["bases"]] == [
        "talker",
        "qwen_xs",
        str(folder / "talker"),
    ]
    assert summary["data"]["teacher_samples"]["table"]
    assert "models" in summary and not summary["models"], "students are no models of the stage table"
    table = table_of(summary)
    assert table is not None
    assert [label for label, _ in table.rows] == ["talker, qwen3", "qwen_xs, qwen3"]


def test_the_summary_has_the_paired_differences_of_twins_and_of_the_smallest_to_larger_bases(
    folder: Path,
) -> None:
    run = folder / "run"
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))

    def shares(role: str) -> dict[str, float]:
        found = json.loads((run / "students" / f"{role}.json").read_text(encoding="utf-8"))
        assert fmean(found["shares"].values()) == pytest.approx(found["score"]["score"])
        return dict(found["shares"])

    for student in summary["students"]:
        name, found = student["name"], student["distilled_minus"]["direct_rl"]
        expected = compare(shares(f"{name}_direct_rl"), shares(f"{name}_distilled"))
        assert (found["difference"], tuple(found["ci"])) == (expected.difference, expected.interval)
        assert (found["p_value"], found["is_real"], found["n"]) == (expected.p_value, expected.is_real, 2)
    smallest = min(summary["students"], key=lambda student: int(student["parameters"]))
    lead = {
        student["name"]: student["distilled_minus"].get("larger_bases") for student in summary["students"]
    }
    assert {name for name, found in lead.items() if found} == {smallest["name"]} == {"qwen_xs"}
    assert list(lead["qwen_xs"]) == ["talker", str(folder / "talker")]
    expected = compare(shares("larger"), shares("qwen_xs_distilled"))
    assert lead["qwen_xs"][str(folder / "talker")]["difference"] == expected.difference


def test_reinforcement_learning_spends_the_compute_of_the_sft_to_about_a_step(folder: Path) -> None:
    for name in ("talker", "qwen_xs"):
        spent, paid = (
            json.loads((folder / "run" / f"{name}_{way}" / "compute.json").read_text(encoding="utf-8"))[
                "flops"
            ]
            for way in ("direct_rl", "distilled")
        )
        sft, rl = RunDir(folder / "run" / f"{name}_distilled"), RunDir(folder / "run" / f"{name}_direct_rl")
        module = load_model(str(sft.model_path), torch.float32).module
        parameters = sum(parameter.numel() for parameter in module.parameters())
        assert paid == 6 * parameters * sum(line["num_tokens"] for line in sft.read_metrics())
        work = [work_of(rl, step, parameters) for step in range(1, len(rl.read_metrics()) + 1)]
        assert spent == sum(work)
        assert len(work) > 4, "the plan is made more than once"
        assert abs(spent - paid) <= 1.5 * max(work)


def work_of(run: RunDir, step: int, parameters: int) -> int:
    """Count again, from the tokens themselves: 2 to sample each, 6 to train on a group with signal."""
    rows = run.query(
        "SELECT position, prompt_ids, completion_ids, advantage "
        "FROM rollouts JOIN groups USING (step, position) WHERE step = ?",
        (step,),
    )
    tokens: dict[int, int] = {}
    signal: dict[int, bool] = {}
    for row in rows:
        prompt = 0 if row["position"] in tokens else len(row["prompt_ids"]) // 4
        tokens[row["position"]] = tokens.get(row["position"], 0) + prompt + len(row["completion_ids"]) // 4
        signal[row["position"]] = signal.get(row["position"], False) or row["advantage"] != 0
    return parameters * sum(number * (8 if signal[position] else 2) for position, number in tokens.items())


def test_a_student_knows_its_teacher_its_samples_and_its_shape(folder: Path) -> None:
    known = lineage_of_model(str(folder / "run" / "qwen_xs_on_policy")).nodes.values()
    names = {node.name for node in known}
    assert names >= {
        "qwen_xs_on_policy.student",
        "qwen_xs_distilled.student",
        "qwen_xs_pretrained.student",
        "teacher_samples.data",
        "qwen_xs",
    }
    teachers = [node.sha256 for node in known if node.name == "teacher"]
    assert teachers == [sha256_of_path(folder / "talker")]


def test_a_finished_distillation_is_left_alone_and_another_student_adds_only_its_stages(folder: Path) -> None:
    models = [*(folder / "run").rglob("model.safetensors")]
    before = {path: path.stat().st_mtime_ns for path in models}
    code, out, _ = call_main(folder, *distill_arguments(folder, "--resume"))
    assert code == 0
    assert "(runs)" not in out
    assert {path: path.stat().st_mtime_ns for path in models} == before
    code, out, _ = call_main(folder, *distill_arguments(folder, "--resume", "llama_s", "--dry-run"))
    assert code == 0
    states = {line.split()[0]: line for line in out.splitlines() if line and not line.startswith(" ")}
    assert "done" in states["qwen_xs_distilled"] and "runs" in states["llama_s_pretrained"]


def test_another_teacher_and_a_student_left_out_are_refused_with_what_differs(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.start(Record(stage=SAMPLES, made_from={"inputs": {"model": "a" * 64}}, by={}))
    records.start(Record(stage="small_distilled", made_from={}, by={}))
    configs = {SAMPLES: Config()}

    def teacher(sha256: str) -> Source:
        node = Node(name="teacher", kind="model", sha256=sha256)
        return Source(lineage=lambda config: Lineage.of(node), path=Path("runs/t"))

    refuse_other_models(tmp_path, teacher("a" * 64), ["small_distilled", "new_distilled"], configs)
    refuse_other_models(tmp_path / "empty", teacher("b" * 64), [], configs)
    with pytest.raises(RunDirError, match=r"teacher: sha256 a{12}  \(now: b{12}, runs/t\)\nGo on with its"):
        refuse_other_models(tmp_path, teacher("b" * 64), ["small_distilled"], configs)
    with pytest.raises(RunDirError, match="students that are not named now: small\n"):
        refuse_other_models(tmp_path, teacher("a" * 64), ["new_distilled"], configs)


def test_on_policy_with_another_tokenizer_is_refused_before_any_work(folder: Path) -> None:
    model = tiny_model()
    model.resize_token_embeddings(NUM_TOKENS + 3)
    save_model(model, byte_tokenizer(), folder / "stranger")
    wanted = distill_arguments(folder, f"--run-dir={folder / 'refused'}", str(folder / "stranger"))
    code, _, err = call_main(folder, *wanted)
    assert code == 2
    assert "needs one tokenizer for both" in err
    assert not (folder / "refused").exists()


def test_two_students_of_one_name_and_a_missing_teacher_are_refused(folder: Path) -> None:
    code, _, err = call_main(folder, "distill", str(folder / "talker"), "qwen_xs", "qwen_xs")
    assert (code, "two students are named qwen_xs" in err) == (2, True)
    code, _, err = call_main(folder, "distill", str(folder / "nobody"))
    assert (code, "is not a model" in err) == (2, True)
    code, _, err = call_main(folder, "distill", str(folder / "talker"), "--resume")
    assert (code, "--resume needs --run-dir" in err) == (2, True)


def test_a_comparison_that_was_killed_measures_nothing_twice(tmp_path: Path) -> None:
    """With every figure on file no model is opened; none of the paths exists."""
    score = {"score": 0.5, "ci": [0.4, 0.6], "n": 2}
    for number, role in enumerate(("a_base", "a_direct_rl", "larger", "a_distilled", "teacher")):
        # Of ten problems each solves one more than the one before.
        shares = {f"p{i}": float(i <= number) for i in range(10)}
        size = 9 if role == "larger" else 7
        figures = {"architecture": "qwen3", "parameters": size, "score": {**score, "of": role}}
        (tmp_path / f"{role}.json").write_text(json.dumps(figures | {"shares": shares}), encoding="utf-8")
    paths = dict.fromkeys(("a_base", "a_distilled", "a_direct_rl", "teacher"), tmp_path / "nowhere")
    for way, flops in (("distilled", 10), ("direct_rl", 11)):
        paths[f"a_{way}_compute"] = tmp_path / f"compute_{way}.json"
        paths[f"a_{way}_compute"].write_text(json.dumps({"flops": flops, "style": "tags"}), encoding="utf-8")
    inputs = StageInputs(config=Config(), paths=paths)
    made = compare_students(("a",), inputs, tmp_path, True, Notes())
    summary = json.loads(made["summary"].read_text(encoding="utf-8"))
    (student,) = summary["students"]
    assert student["flops"] == {"distilled": 10, "direct_rl": 11}
    assert {way: student[f"{way}_score"]["of"] for way in ("base", "distilled", "direct_rl")} == {
        "base": "a_base",
        "distilled": "a_distilled",
        "direct_rl": "a_direct_rl",
    }
    assert [base["score"]["of"] for base in summary["distillation"]["bases"]] == ["a_base", "larger"]
    minus = student["distilled_minus"]
    assert minus["direct_rl"]["difference"] == pytest.approx(0.2)
    assert {name: found["difference"] for name, found in minus["larger_bases"].items()} == {
        "embedded": pytest.approx(0.1)
    }, "a base of its own size is none that is larger"
